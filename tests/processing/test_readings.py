"""Cleaning: what is set aside, for what reason, and how often it counts."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.domain.channels import Conventions, channels_of, described
from src.domain.placeholders import PLACEHOLDERS, PLACEHOLDERS_IF_IMPOSSIBLE
from src.domain.readings import MEASUREMENTS, CleanReadings, clean
from tests.data import raw_readings

T = datetime(2023, 5, 1, 12, tzinfo=UTC)
AS_OF = T + timedelta(days=1)
HIGHEST_FLOATS = (float(np.finfo(np.float32).max), float(np.finfo(np.float64).min))


def reading(minute: int = 0, node_id: str = "n", **values: object) -> dict:
    return {
        "node_id": node_id,
        "timestamp": T + timedelta(minutes=minute),
        "ingestion_timestamp": T + timedelta(minutes=minute),
    } | values


def channels(**stated: dict) -> pd.DataFrame | None:
    """The channels of nodes n and m, of which n states this."""
    return channels_of(["m", "n"], {"n": stated}, Conventions())


def cleaned(*rows: dict, known: pd.DataFrame | None = None, **collected: list) -> CleanReadings:
    raw = raw_readings(list(rows)).assign(**collected)
    return clean(raw, AS_OF, channels=known)


def test_pressure_of_a_hilly_town_is_valid_and_beyond_what_mains_bear_it_is_not():
    found = cleaned(reading(0, pressure=12.0), reading(1, pressure=25.0), reading(2, pressure=25.1))
    assert found.frame["pressure"].tolist() == [12.0, 25.0]
    assert found.rejected == {"pressure_too_high": 1}


def test_a_reading_whose_only_value_is_bad_is_one_rejection():
    found = cleaned(reading(0, flow_rate=-1.0), reading(1, flow_rate=-1.0, pressure=3.0), reading(2))
    assert found.rejected == {"flow_rate_negative": 2, "no_valid_measurement": 1}
    assert found.rejections["is_lost"].tolist() == [True, False, True]
    assert found.frame["pressure"].tolist() == [3.0]


def test_a_row_delivered_twice_is_a_duplicate_and_two_that_disagree_conflict():
    twice = reading(0, flow_rate=1.0)
    found = cleaned(twice, twice, reading(1, flow_rate=1.0), reading(1, flow_rate=2.0))
    assert found.rejected == {"duplicate": 1, "conflicting": 1}
    assert found.frame["flow_rate"].tolist() == [1.0, 2.0]
    assert not found.rejections["is_lost"].any()


@pytest.mark.parametrize("figure", [*PLACEHOLDERS, -999.0])
def test_a_well_known_placeholder_is_counted_as_one_and_not_as_a_fault(figure: float):
    found = cleaned(reading(0, flow_rate=figure, volume=figure, temperature=figure, pressure=3.0))
    assert found.rejected == {f"{name}_placeholder": 1 for name in ("flow_rate", "volume", "temperature")}
    assert found.frame["pressure"].tolist() == [3.0]


def test_a_placeholder_is_known_as_a_device_with_32_bits_writes_it():
    assert cleaned(reading(flow_rate=float(np.float32(-9999.9)))).rejected == {"flow_rate_placeholder": 1}


@pytest.mark.parametrize("figure", [figure for figure in PLACEHOLDERS_IF_IMPOSSIBLE if figure > 0])
def test_a_figure_that_may_be_measured_is_no_placeholder_where_it_is_possible(figure: float):
    found = cleaned(reading(flow_rate=figure, pressure=figure))
    assert found.rejected == {"pressure_placeholder": 1}
    assert found.frame["flow_rate"].tolist() == [figure]


def test_a_placeholder_is_known_by_the_figure_that_was_written_whatever_its_unit():
    known = channels(units={"flow_rate": "m3/h", "pressure": "kPa"}, ranges={"flow_rate": {"low": -5000}})
    rows = [reading(0, flow_rate=-9999.0, pressure=999.0), reading(1, flow_rate=-999.0, pressure=450.0)]
    found = cleaned(*rows, known=known)
    assert found.rejected == {"flow_rate_placeholder": 1}
    assert found.frame["pressure"].tolist() == [9.99, 4.5]
    assert found.frame["flow_rate"].tolist()[1] == -277.5


def test_values_are_converted_by_what_a_node_states_and_others_are_not():
    known = channels(units={"flow_rate": "m3/h", "pressure": "m", "temperature": "°F", "volume": "L"})
    values = {"flow_rate": 36.0, "pressure": 100.0, "temperature": 50.0, "volume": 250.0}
    found = cleaned(reading(node_id="n", **values), reading(node_id="m", **values | {"pressure": 4.0}), known=known)
    assert found.frame[list(MEASUREMENTS)].to_numpy().tolist() == [[36, 4, 50, 250], [10, 9.80665, 10, 0.25]]


def test_what_is_stated_of_a_node_wins_over_what_holds_for_all():
    known = channels_of(
        ["m", "n"],
        {"n": {"units": {"pressure": "bar"}, "ranges": {"pressure": {"high": 40}}}},
        Conventions({"pressure": "kPa"}, {"pressure": (None, 16.0)}),
    )
    rows = [reading(0, "n", pressure=30.0), reading(0, "m", pressure=400.0), reading(1, "m", pressure=1700.0)]
    found = cleaned(*rows, known=known)
    assert found.frame["pressure"].tolist() == [4.0, 30.0]
    assert found.rejected == {"pressure_too_high": 1}
    assert described(known, ["m", "n"]) == ["pressure kPa ..16", "pressure ..40"]


def test_where_nothing_is_stated_nothing_is_to_be_known():
    assert channels_of(["n"], {"n": {"units": {"pressure": "bar"}, "ranges": None}}, Conventions()) is None
    assert channels_of(["n"], {"n": {"units": "metric", "ranges": 7}}, Conventions()) is None
    assert described(None, ["n"]) == [""]


def test_a_statement_that_cannot_be_used_names_its_node():
    with pytest.raises(ValueError, match="pressure of node n cannot be used: 'furlong' is no unit of pressure"):
        channels(units={"pressure": "furlong"})
    with pytest.raises(ValueError, match="flow_rate of node n cannot be used"):
        channels(ranges={"flow_rate": {"low": "little"}})


def test_flow_runs_backwards_where_it_may_and_nowhere_else():
    known = channels(ranges={"flow_rate": {"low": -50}, "volume": {"low": -20}})
    backwards = {"flow_rate": -3.0, "volume": -1.0}
    found = cleaned(reading(0, "n", **backwards), reading(0, "m", **backwards), reading(1, "n", flow_rate=-51.0),
        known=known)  # fmt: skip
    assert found.frame[["node_id", "flow_rate", "volume"]].to_numpy().tolist() == [["n", -3.0, -1.0]]
    assert found.rejected == {"flow_rate_negative": 1, "volume_negative": 1, "flow_rate_too_low": 1}


def test_what_the_collector_filled_in_is_no_measurement_and_what_it_does_not_trust_is_set_aside():
    rows = [reading(minute, flow_rate=float(minute)) for minute in range(4)]
    found = cleaned(
        *rows, is_interpolated=[False, True, False, False], data_quality_score=[np.nan, 1.0, 0.4, 0.5]
    )  # fmt: skip
    assert found.frame["flow_rate"].tolist() == [0.0, 3.0]
    assert found.rejected == {"interpolated": 1, "low_quality_score": 1}
    assert list(found.frame.columns) == ["node_id", "timestamp", *MEASUREMENTS]


def test_a_reading_that_replaces_what_was_filled_in_does_not_contradict_it():
    early, late = reading(flow_rate=5.0), reading(flow_rate=7.0) | {"ingestion_timestamp": T + timedelta(hours=1)}
    found = cleaned(early, late, is_interpolated=[True, False])
    assert found.frame["flow_rate"].tolist() == [7.0]
    assert found.rejected == {"interpolated": 1}
    # The collector's latest row counts, also where it takes a reading back.
    taken_back = cleaned(early, late, is_interpolated=[False, True])
    assert taken_back.frame.empty
    assert taken_back.rejected == {"conflicting": 1, "interpolated": 1}
    # Of two that came at once, the measured one.
    at_once = cleaned(early, early | {"flow_rate": 7.0}, is_interpolated=[False, True])
    assert at_once.frame["flow_rate"].tolist() == [5.0]
    assert at_once.rejected == {"interpolated": 1}


VALUES = st.sampled_from([None, 0.0, 1.0, 2.0, -1.0, 26.0, 70.0, -999.0, -9999.0, 65535.0, math.inf, 20_000.0])
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "node_id": st.sampled_from(["n", "m", "other"]),
            "minute": st.integers(0, 5),
            "arrival": st.integers(0, 2),
            "is_interpolated": st.booleans(),
            "data_quality_score": st.sampled_from([np.nan, 0.2, 0.9]),
        }
        | dict.fromkeys(MEASUREMENTS, VALUES)
    ),
    min_size=1,
    max_size=25,
)


def odd_rows(rows: list[dict]) -> pd.DataFrame:
    frame = raw_readings(
        [row | reading(row["minute"], row["node_id"]) | {"ingestion_timestamp": T + timedelta(hours=row["arrival"])}
            for row in rows]
    )  # fmt: skip
    return frame.assign(**{name: [row[name] for row in rows] for name in ("is_interpolated", "data_quality_score")})


def outcome(found: CleanReadings) -> tuple[Counter, dict]:
    """What was set aside and what is left, in no order."""
    values = found.rejections["value"]
    rejections = found.rejections.astype({"node_id": str}).assign(
        value=values.astype(object).where(values.notna(), None)
    )
    left = {
        (str(row["node_id"]), row["timestamp"]): [None if math.isnan(row[name]) else row[name] for name in MEASUREMENTS]
        for row in found.frame.to_dict("records")
    }
    return Counter(rejections.itertuples(index=False, name=None)), left


@settings(deadline=None)
@given(rows=ROWS, seed=st.integers(0, 1000))
def test_the_order_of_rows_and_what_else_is_read_with_them_change_nothing(rows, seed):
    raw = odd_rows(rows)
    known = channels(units={"flow_rate": "m3/h", "temperature": "K"}, ranges={"flow_rate": {"low": -400}})
    whole = outcome(clean(raw, AS_OF, channels=known))
    shuffled = raw.sample(frac=1, random_state=seed)
    assert outcome(clean(shuffled, AS_OF, channels=known)) == whole
    set_aside, left = Counter(), {}
    for node_id in ("n", "m", "other"):
        for later in (False, True):
            is_in = (raw["node_id"] == node_id) & ((raw["timestamp"] > pd.Timestamp(T + timedelta(minutes=2))) == later)
            part = outcome(clean(raw[is_in], AS_OF, channels=known))
            set_aside, left = set_aside + part[0], left | part[1]
    assert (set_aside, left) == whole


@settings(deadline=None)
@given(rows=ROWS)
def test_every_row_is_left_or_lost_or_stands_behind_another_of_its_instant(rows):
    raw = odd_rows(rows)
    found = clean(raw, AS_OF)
    lost = found.rejections[found.rejections["is_lost"]].drop_duplicates(["node_id", "timestamp"])
    others = found.rejections["reason"].isin(["duplicate", "conflicting"]) | (
        (found.rejections["reason"] == "interpolated") & ~found.rejections["is_lost"]
    )
    assert len(found.frame) + len(lost) + others.sum() == len(raw)
