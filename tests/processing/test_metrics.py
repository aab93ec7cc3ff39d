"""Window metrics against a brute-force computation that shares nothing with the product's own."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.domain.days import day_start
from src.domain.metrics import COLUMNS, LEAD_DAYS, window_metrics
from src.domain.readings import clean
from tests.data import raw_readings

ROME = ZoneInfo("Europe/Rome")
AS_OF = datetime(2030, 1, 1, tzinfo=UTC)


def computed(rows: list[dict], start: datetime | None = None) -> pd.DataFrame:
    readings = clean(raw_readings(rows), AS_OF).frame
    first = start or day_start(min(r["timestamp"] for r in rows), ROME)
    return window_metrics(readings, first, ROME)


def brute_force(rows: list[dict]) -> dict[tuple, dict]:
    """The definitions, spelled out one reading at a time with exact sums."""
    best: dict[tuple, tuple] = {}
    for row in rows:
        rank = tuple(
            -math.inf if (v := row.get(k)) is None or v != v else v
            for k in ("flow_rate", "pressure", "temperature", "volume")
        )
        rank = (row["ingestion_timestamp"], *rank)
        key = (row["node_id"], row["timestamp"])
        if key not in best or rank > best[key][0]:
            best[key] = (rank, row)
    limits = {"flow_rate": 1e4, "pressure": 25, "temperature": 60, "volume": math.inf}
    lows = {"temperature": -30}
    per_node: dict[str, list[dict]] = defaultdict(list)
    for (node, instant), (_, row) in sorted(best.items(), key=lambda item: item[0]):
        values = {}
        for name, high in limits.items():
            value = row.get(name)
            ok = value is not None and math.isfinite(value) and lows.get(name, 0) <= value <= high
            values[name] = value if ok else None
        if any(v is not None for v in values.values()):
            per_node[node].append({"t": instant, **values})

    windows: dict[tuple, dict] = {}
    for node, readings in per_node.items():
        by_day = defaultdict(list)
        for r in readings:
            r["day"] = r["t"].astimezone(ROME).date()
            by_day[r["day"]].append(r["t"])
        cadence = {day: _cadence(by_day, day) for day in by_day}
        previous = None
        for r in readings:
            r["cadence"] = cadence[r["day"]]
            if r["volume"] is not None:
                r["m3"] = r["volume"]
            elif r["flow_rate"] is not None:
                c = cadence[r["day"]]
                elapsed = None if previous is None else (r["t"] - previous["t"]).total_seconds()
                if c is None:
                    r["m3"] = None
                else:
                    short = elapsed is not None and elapsed <= min(3 * c, 23 * 3600)
                    r["m3"] = r["flow_rate"] * (elapsed if short else c) / 1000
            else:
                r["m3"] = None
                continue
            previous = r
        for index, r in enumerate(readings):
            r["steps"] = _steps(readings[max(0, index - 2) : index + 1], cadence[r["day"]])
            five = datetime.fromtimestamp(r["t"].timestamp() // 300 * 300, UTC)
            midnight = datetime(r["day"].year, r["day"].month, r["day"].day, tzinfo=ROME)
            next_day = r["day"] + timedelta(days=1)
            next_midnight = datetime(next_day.year, next_day.month, next_day.day, tzinfo=ROME)
            hour = r["t"].replace(minute=0, second=0, microsecond=0)
            for name, begin, end in (
                ("5min", five, five + timedelta(minutes=5)),
                ("1hour", hour, hour + timedelta(hours=1)),
                ("1day", midnight.astimezone(UTC), next_midnight.astimezone(UTC)),
            ):
                w = windows.setdefault(
                    (node, name, begin),
                    {"window_end": end, "begin": begin, "readings": [], "cadence_seconds": cadence[r["day"]]},
                )
                w["readings"].append(r)
    for w in windows.values():
        readings = w.pop("readings")
        w["reading_count"] = len(readings)
        known = [r["m3"] for r in readings if r["m3"] is not None]
        w["total_volume"] = math.fsum(known) if known else None
        for name, stem in (("flow_rate", "flow"), ("pressure", "pressure"), ("temperature", "temperature")):
            values = [r[name] for r in readings if r[name] is not None]
            n = len(values)
            mean = math.fsum(values) / n if n else None
            w[f"{stem}_count"], w[f"avg_{name}"] = n, mean
            w[f"min_{name}"], w[f"max_{name}"] = (min(values), max(values)) if n else (None, None)
            w[f"{stem}_variance"] = math.fsum((v - mean) ** 2 for v in values) / (n - 1) if n > 1 else None
            long = w["window_end"] - w["begin"] > timedelta(minutes=5)
            for kind in ("change", "spike"):
                known = [s for r in readings if long and (s := r["steps"].get((name, kind))) is not None]
                w[f"max_{stem}_{kind}"] = max(known) if known else None
        del w["begin"]
    return windows


def _steps(last_three: list[dict], cadence: float | None) -> dict:
    """Per measurement the step to the newest of up to three readings, and how much of it took the one before back."""
    new = last_three[-1]
    floor = new["day"] - timedelta(days=1)

    def step(before: dict, after: dict, name: str, cadence: float | None) -> float | None:
        elapsed = (after["t"] - before["t"]).total_seconds()
        near = cadence is not None and elapsed <= min(3 * cadence, 23 * 3600)
        if not near or before["day"] < floor or before[name] is None or after[name] is None:
            return None
        return after[name] - before[name]

    steps: dict = {}
    for name in ("flow_rate", "pressure", "temperature"):
        if len(last_three) < 2 or (change := step(*last_three[-2:], name, cadence)) is None:
            continue
        steps[name, "change"] = abs(change)
        if len(last_three) == 3 and (earlier := step(*last_three[:2], name, last_three[1]["cadence"])) is not None:
            steps[name, "spike"] = min(abs(change), abs(earlier)) if change * earlier < 0 else 0.0
    return steps


def _cadence(by_day: dict, day) -> float | None:
    def gaps(times):
        return [(b - a).total_seconds() for a, b in pairwise(times)]

    own = gaps(by_day[day])
    if len(own) < 6:
        own = gaps(by_day.get(day - timedelta(days=1), []) + by_day[day])
        if len(own) < 2:
            return None
    bins = Counter(round(math.log(g) / math.log(1.05)) for g in own)
    fullest = min(b for b, n in bins.items() if n == max(bins.values()))
    inside = sorted(g for g in own if round(math.log(g) / math.log(1.05)) == fullest)
    return inside[(len(inside) - 1) // 2]


def assert_equals_brute_force(frame: pd.DataFrame, rows: list[dict]) -> None:
    expected = brute_force(rows)
    actual = {(r["node_id"], r["time_window"], r["window_start"].to_pydatetime()): r for r in frame.to_dict("records")}
    assert actual.keys() == expected.keys()
    for key, row in expected.items():
        for name, value in row.items():
            got = actual[key][name]
            if value is None:
                assert got != got, (key, name, got)
            elif isinstance(value, datetime):
                assert got.to_pydatetime() == value
            elif name.endswith("variance"):
                # Squares of rounding errors are all that may remain where every value is the same.
                assert got == pytest.approx(value, rel=1e-9, abs=1e-22), (key, name)
            else:
                assert got == pytest.approx(value, rel=1e-12), (key, name)
        cadence = row["cadence_seconds"]
        if cadence is not None:
            seconds = (row["window_end"] - key[2]).total_seconds()
            promised = max(1.0, seconds / cadence)
            completeness = actual[key]["data_completeness"]
            assert completeness == pytest.approx(min(100, 100 * row["reading_count"] / promised), rel=1e-12)


values = st.one_of(
    st.none(),
    st.floats(0, 100, allow_subnormal=False).map(lambda x: round(x, 3)),
    st.sampled_from([-1.0, math.nan, math.inf, 20_000.0]),
)


@st.composite
def irregular_readings(draw: st.DrawFn) -> list[dict]:
    """Up to three nodes over DST days: several cadences, gaps, duplicates that disagree, arrivals in any order."""
    first = draw(st.sampled_from([datetime(2023, 3, 25, 20, tzinfo=UTC), datetime(2023, 10, 28, 20, tzinfo=UTC)]))
    rows = []
    for node in draw(st.lists(st.sampled_from(["a", "o'brien", "città-7"]), min_size=1, max_size=3, unique=True)):
        instant = first + timedelta(seconds=draw(st.integers(0, 7200)))
        for _ in range(draw(st.integers(1, 4))):
            cadence = draw(st.sampled_from([15, 300, 900, 1800, 3600]))
            for _ in range(draw(st.integers(1, 12))):
                for version in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
                    rows.append(
                        {
                            "node_id": node,
                            "timestamp": instant,
                            "ingestion_timestamp": instant + timedelta(minutes=draw(st.integers(0, 3)), hours=version),
                            "flow_rate": draw(values),
                            "pressure": draw(values),
                            "temperature": draw(values),
                            "volume": draw(st.one_of(st.none(), st.none(), values)),
                        }
                    )
                instant += timedelta(seconds=cadence)
            instant += timedelta(hours=draw(st.sampled_from([0, 1, 5, 26, 50])))
    return rows


@settings(max_examples=60)
@given(rows=irregular_readings(), seed=st.randoms(use_true_random=False))
def test_any_readings_in_any_order_give_the_brute_force_windows(rows, seed):
    assert_equals_brute_force(computed(rows), rows)
    shuffled = rows.copy()
    seed.shuffle(shuffled)
    pd.testing.assert_frame_equal(computed(shuffled), computed(rows), check_exact=True)


@settings(max_examples=60)
@given(rows=irregular_readings(), days=st.integers(0, 8))
def test_reading_only_from_the_day_before_gives_the_same_bits(rows, days):
    whole = computed(rows)
    start = day_start(min(r["timestamp"] for r in rows), ROME, days)
    read_from = day_start(start, ROME, -LEAD_DAYS)
    part = [r for r in rows if r["timestamp"] >= read_from]
    if not part:
        return
    expected = whole[whole["window_end"] > start].reset_index(drop=True)
    actual = computed(part, start).reset_index(drop=True)
    for frame in (expected, actual):
        frame["node_id"] = frame["node_id"].astype(str)
    key = ["time_window", "node_id", "window_start"]
    pd.testing.assert_frame_equal(
        actual.sort_values(key, ignore_index=True), expected.sort_values(key, ignore_index=True), check_exact=True
    )


def test_no_readings_give_no_windows_of_the_same_kinds_of_columns():
    start = datetime(2023, 5, 1, 22, tzinfo=UTC)
    row = {"node_id": "n", "timestamp": start, "flow_rate": 1.0, "ingestion_timestamp": start}
    some, none = computed([row]), computed([row | {"timestamp": AS_OF + timedelta(days=1)}])
    assert len(none) == 0
    assert list(none.columns) == list(some.columns)
    pd.testing.assert_series_equal(none.dtypes.drop("node_id"), some.dtypes.drop("node_id"))


def test_one_node_computed_alone_gives_the_same_bits_as_among_others():
    rng = np.random.default_rng(7)
    start = datetime(2023, 5, 1, 22, tzinfo=UTC)
    rows = [
        {"node_id": f"n{n}", "timestamp": start + timedelta(seconds=15 * k), "flow_rate": float(rng.gamma(9)),
         "ingestion_timestamp": start}
        for n in range(3) for k in range(5760)
    ]  # fmt: skip
    together = computed(rows)
    alone = computed([r for r in rows if r["node_id"] == "n1"])
    chosen = together[together["node_id"] == "n1"]
    for name in COLUMNS[2:]:
        np.testing.assert_array_equal(chosen[name].to_numpy(), alone[name].to_numpy(), err_msg=name)


def test_hourly_variance_survives_a_large_offset():
    rng = np.random.default_rng(3)
    start = datetime(2023, 5, 1, 22, tzinfo=UTC)
    flows = 9000 + rng.normal(0, 1e-3, 240)
    rows = [
        {
            "node_id": "n",
            "timestamp": start + timedelta(seconds=15 * k),
            "flow_rate": float(f),
            "ingestion_timestamp": start,
        }
        for k, f in enumerate(flows)
    ]
    hour = computed(rows).query("time_window == '1hour'").iloc[0]
    assert hour["flow_variance"] == pytest.approx(float(np.var(flows, ddof=1)), rel=1e-9)


@pytest.mark.parametrize(
    ("midday", "hours"), [(datetime(2023, 3, 26, 10, tzinfo=UTC), 23), (datetime(2023, 10, 29, 10, tzinfo=UTC), 25)]
)
def test_a_full_local_day_is_complete_at_23_and_25_hours(midday, hours):
    start = day_start(midday, ROME)
    rows = [
        {"node_id": "n", "timestamp": start + timedelta(hours=k), "flow_rate": 2.0, "ingestion_timestamp": start}
        for k in range(hours)
    ]
    day = computed(rows).query("time_window == '1day'").iloc[0]
    assert (day["window_end"] - day["window_start"]) == timedelta(hours=hours)
    assert day["data_completeness"] == 100
    assert day["total_volume"] == pytest.approx(2.0 * hours * 3.6)


def test_an_outage_is_not_filled_with_water():
    start = datetime(2023, 5, 1, 22, tzinfo=UTC)
    instants = [start + timedelta(minutes=5 * k) for k in range(288) if not 60 <= k < 132]
    rows = [{"node_id": "n", "timestamp": t, "flow_rate": 10.0, "ingestion_timestamp": t} for t in instants]
    day = computed(rows).query("time_window == '1day'").iloc[0]
    assert day["data_completeness"] == pytest.approx(75)
    assert day["total_volume"] == pytest.approx(216 * 300 * 10 / 1000)


def test_impossible_input_is_counted_by_reason_and_the_rest_is_kept():
    t = datetime(2023, 5, 1, 12, tzinfo=UTC)
    good = {"node_id": "n", "timestamp": t, "flow_rate": 1.0, "pressure": 3.0, "ingestion_timestamp": t}
    rows = [
        good,
        good | {"node_id": " "},
        good | {"node_id": None},
        good | {"timestamp": datetime(1970, 1, 1, tzinfo=UTC)},
        good | {"timestamp": AS_OF + timedelta(seconds=1)},
        good | {"timestamp": t + timedelta(minutes=1), "flow_rate": math.inf},
        good | {"timestamp": t + timedelta(minutes=2), "flow_rate": -0.1},
        good | {"timestamp": t + timedelta(minutes=3), "pressure": 25.1},
        good | {"timestamp": t + timedelta(minutes=4), "flow_rate": None, "pressure": math.nan},
        good | {"flow_rate": 9.0, "ingestion_timestamp": t + timedelta(hours=1)},
        good | {"flow_rate": 9.0, "ingestion_timestamp": t + timedelta(minutes=30)},
    ]
    cleaned = clean(raw_readings(rows), AS_OF)
    assert cleaned.rejected == {
        "empty_node_id": 2, "timestamp_before_2000": 1, "timestamp_in_future": 1, "flow_rate_infinite": 1,
        "flow_rate_negative": 1, "pressure_too_high": 1, "no_valid_measurement": 1, "conflicting": 1, "duplicate": 1,
    }  # fmt: skip
    assert cleaned.frame["flow_rate"].tolist()[0] == 9.0
    assert len(cleaned.frame) == 4
