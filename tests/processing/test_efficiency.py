"""The water balance: litres add up, what is not known is stated, and published worked examples come out."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.domain import efficiency, losses

HOUR = datetime(2023, 5, 1, tzinfo=UTC)


def meters(*rows: dict[str, object]) -> pd.DataFrame:
    """Meters of one hour by keyword; each reported everything unless stated otherwise."""
    default = {
        "window_start": HOUR, "district_id": "d1", "feeding_district_id": None, "volume": np.nan, "coverage": 1.0,
        "storage_change": np.nan, "rest": np.nan, "rest_deviation": np.nan, "estimated_volume": 0.0, "error": 0.02,
        "storage_error": 0.0,
        "role": "monitoring",
    }  # fmt: skip
    return pd.DataFrame([default | {"node_id": f"n{k}"} | row for k, row in enumerate(rows)])


def balance_of(*rows: dict[str, object]) -> pd.Series:
    return efficiency.water_balance(meters(*rows)).iloc[0]


def test_loss_is_what_came_in_and_nobody_used():
    found = balance_of(
        {"role": "inlet", "volume": 100.0},
        {"role": "inlet", "volume": 20.0},
        {"role": "outlet", "volume": 15.0},
        {"role": "storage", "storage_change": 5.0},
        {"role": "consumption", "volume": 50.0},
        {"role": "consumption", "volume": 30.0},
        {"role": "monitoring", "volume": 999.0},
    )
    assert (found["input_volume"], found["output_volume"], found["loss_volume"]) == (100.0, 80.0, 20.0)
    assert found["efficiency_percentage"] == pytest.approx(80.0)
    assert (found["method"], found["coverage"]) == ("metered", 1.0)
    assert pd.isna(found["reason"])


def test_what_is_not_vouched_for_is_the_usual_and_marked_as_estimated():
    found = balance_of(
        {"role": "inlet", "volume": 70.0, "coverage": 0.7, "rest": 40.0, "rest_deviation": 5.0},
        {"role": "consumption", "volume": 90.0},
    )
    assert (found["input_volume"], found["output_volume"], found["coverage"]) == (110.0, 90.0, 0.7)
    assert found["coverage"] < efficiency.SUFFICIENT_COVERAGE
    assert found["estimated_share"] == pytest.approx(40 / 200)
    assert found["input_margin"] == pytest.approx(np.hypot(2.2, 1.96 * 5))
    assert found["output_margin"] == pytest.approx(1.8)
    assert found["loss_margin"] == pytest.approx(np.hypot(found["input_margin"], 1.8))


def test_without_a_usual_a_meter_goes_on_as_it_did_for_a_fifth_of_the_window_at_most():
    most = balance_of({"role": "inlet", "volume": 80.0, "coverage": 0.8}, {"role": "consumption", "volume": 50.0})
    assert most["input_volume"] == pytest.approx(100.0)
    more = balance_of({"role": "inlet", "volume": 79.0, "coverage": 0.79}, {"role": "consumption", "volume": 50.0})
    assert pd.isna(more["input_volume"])
    assert more["reason"] == "too little is known of n0"


def test_one_reading_of_a_customers_day_tells_nothing_of_the_day_and_coverage_says_so():
    found = balance_of(
        {"role": "inlet", "volume": 100.0},
        {"role": "consumption", "volume": 0.3, "coverage": 1 / 288, "rest": 80.0, "rest_deviation": 8.0},
    )
    assert pd.isna(found["output_volume"])
    assert found["coverage"] == pytest.approx(1 / 288)
    assert found["reason"] == "too little is known of n1"


def test_a_loss_below_zero_is_impossible_beyond_the_margin_and_names_meters():
    within = balance_of({"role": "inlet", "volume": 100.0}, {"role": "consumption", "volume": 101.0})
    assert within["loss_volume"] == -1.0
    assert pd.isna(within["reason"])
    beyond = balance_of({"role": "inlet", "volume": 100.0}, {"role": "consumption", "volume": 130.0})
    assert beyond["reason"] == "more was used than came in, beyond what meters may err: look at n0 and n1"


def test_a_district_through_which_another_is_fed_is_unknown_while_that_ones_meter_is_silent():
    districts = efficiency.water_balance(
        meters(
            {"role": "inlet", "volume": 72.0, "node_id": "in-a"},
            {"role": "consumption", "volume": 20.0},
            {"role": "inlet", "district_id": "d2", "feeding_district_id": "d1", "node_id": "in-b"},
            {"role": "consumption", "volume": 25.0, "district_id": "d2"},
        )
    ).set_index("district_id")
    assert districts["input_volume"].isna().all()
    assert set(districts["reason"]) == {"nothing is known of in-b"}


@pytest.mark.parametrize(
    ("row", "unknown"),
    [
        ({"role": "inlet", "node_id": "x"}, {"input_volume", "loss_volume", "efficiency_percentage"}),
        ({"role": "storage", "node_id": "x"}, {"input_volume", "loss_volume", "efficiency_percentage"}),
        ({"role": "consumption", "node_id": "x"}, {"output_volume", "loss_volume", "efficiency_percentage"}),
    ],
)
def test_what_needs_a_meter_that_reported_nothing_is_unknown_and_the_reason_names_it(row, unknown: set[str]):
    found = balance_of({"role": "inlet", "volume": 10.0}, {"role": "consumption", "volume": 8.0}, row)
    figures = ["input_volume", "output_volume", "loss_volume", "efficiency_percentage"]
    assert {name for name in figures if pd.isna(found[name])} == unknown
    assert found["reason"] == "nothing is known of x"


def test_without_customer_meters_there_is_an_input_and_no_invented_loss():
    found = balance_of({"role": "inlet", "volume": 10.0})
    assert found["input_volume"] == 10.0
    assert pd.isna(found["loss_volume"])
    assert pd.isna(found["method"])
    assert found["reason"] == "no node here meters consumption"


def test_what_one_district_passes_to_another_cancels_out_in_the_network():
    districts = efficiency.water_balance(
        meters(
            {"role": "inlet", "volume": 100.0},
            {"role": "consumption", "volume": 60.0},
            {"role": "inlet", "volume": 30.0, "district_id": "d2", "feeding_district_id": "d1"},
            {"role": "consumption", "volume": 25.0, "district_id": "d2"},
        )
    ).set_index("district_id")
    assert list(districts["input_volume"]) == [70.0, 30.0]
    network = efficiency.network_balance(districts.reset_index()).iloc[0]
    assert (network["input_volume"], network["output_volume"], network["loss_volume"]) == (100.0, 85.0, 15.0)
    assert network["method"] == "metered"


def test_what_was_estimated_of_the_network_is_weighed_by_water():
    districts = efficiency.water_balance(
        meters(
            {"role": "inlet", "volume": 60.0, "coverage": 0.75, "rest": 20.0},
            {"role": "consumption", "volume": 80.0},
            {"role": "inlet", "volume": 400.0, "district_id": "d2"},
            {"role": "consumption", "volume": 400.0, "district_id": "d2"},
        )
    )
    assert efficiency.network_balance(districts).iloc[0]["estimated_share"] == pytest.approx(20 / 960)
    # All of it counts, also what only passes through a district.
    districts = efficiency.water_balance(
        meters(
            {"role": "inlet", "volume": 700.0, "coverage": 0.7, "rest": 300.0},
            {"role": "consumption", "volume": 8.0},
            {"role": "inlet", "volume": 990.0, "district_id": "d2", "feeding_district_id": "d1"},
            {"role": "consumption", "volume": 980.0, "district_id": "d2"},
        )
    )
    assert efficiency.network_balance(districts).iloc[0]["estimated_share"] == pytest.approx(300 / 3968)


def test_what_is_unknown_was_not_estimated():
    found = balance_of(
        {"role": "inlet", "volume": 40.0, "coverage": 0.4, "rest": 60.0}, {"role": "consumption", "volume": 40.0}
    )
    assert pd.isna(found["input_volume"])
    assert found["estimated_share"] == 0


@given(
    inlets=st.lists(st.floats(0, 1e4), min_size=1, max_size=5),
    used=st.lists(st.floats(0, 1e4), min_size=1, max_size=5),
    stored=st.lists(st.floats(-1e3, 1e3), max_size=3),
)
def test_the_parts_of_a_balance_always_add_up(inlets: list[float], used: list[float], stored: list[float]):
    found = balance_of(
        *({"role": "inlet", "volume": volume} for volume in inlets),
        *({"role": "consumption", "volume": volume} for volume in used),
        *({"role": "storage", "storage_change": volume} for volume in stored),
    )
    assert found["loss_volume"] == pytest.approx(sum(inlets) - sum(stored) - sum(used), abs=1e-6)


def test_a_tank_takes_up_what_its_level_tells():
    instants = pd.date_range(HOUR, periods=25, freq="5min")
    levels = pd.DataFrame({"level": np.linspace(2.0, 3.0, 25)}, index=instants)
    taken = efficiency.storage_change(levels, pd.date_range(HOUR, periods=3, freq="1h"), area=200.0)
    assert list(taken) == pytest.approx([100.0, 100.0])
    # At one o'clock nobody had known it for forty minutes.
    gap = levels.drop(levels.index[5:23])
    assert efficiency.storage_change(gap, pd.date_range(HOUR, periods=3, freq="1h"), 200.0).isna().all()
    none = efficiency.storage_change(levels.iloc[:3], pd.date_range(HOUR, periods=3, freq="1h"), 200.0)
    assert none.isna().all()


def test_at_night_only_leaks_flow_and_by_day_they_follow_the_pressure():
    hours = pd.date_range("2023-05-01", periods=24, freq="1h", tz="Europe/Rome")
    pressure = np.where((hours.hour >= 6) & (hours.hour < 22), 3.0, 4.0)
    # 1,000 connections that use 1.8 L an hour at night are 0.5 L/s of the 2.5 L/s.
    inflow = pd.DataFrame({"flow": 2.5, "pressure": pressure}, index=hours)
    lost = losses.night_flow_loss(inflow, connections=1000, use_per_connection=1.8)
    assert lost.iloc[:3].isna().all()
    assert lost.iloc[3] == pytest.approx(2.0 * 3.6)
    assert lost.iloc[12] == pytest.approx(2.0 * 3.6 * 0.75)
    halved = losses.night_flow_loss(inflow, 1000, 1.8, exponent=0.5)
    assert halved.iloc[12] == pytest.approx(7.2 * 0.75**0.5)


def test_a_night_of_throttled_pressure_loses_no_more_by_day_than_pressure_explains():
    hours = pd.date_range("2023-05-01", periods=24, freq="1h", tz="Europe/Rome")
    pressure = np.where((hours.hour >= 2) & (hours.hour < 4), 0.1, 4.0)
    inflow = pd.DataFrame({"flow": 2.5, "pressure": pressure}, index=hours)
    lost = losses.night_flow_loss(inflow, connections=1000, use_per_connection=1.8)
    assert lost.iloc[12] <= 2 * 2.0 * 3.6


def test_the_unavoidable_losses_are_those_of_the_formula():
    # 100 km of mains, 5,000 connections, no private pipe, 40 m: (18 * 100 + 0.8 * 5000) * 40 L = 232 m³ a day.
    assert losses.unavoidable_losses(100, 5000, 0, 40) == pytest.approx(232.0)
    pipes = losses.Pipes(mains_km=100.0, unavoidable_losses=232.0)
    found = losses.indicators(1160.0, 928.0, 20.0, pipes, with_class=False)
    assert found["infrastructure_leakage_index"] == pytest.approx(4.0)


def test_the_unavoidable_losses_are_those_of_the_published_formula_in_american_units():
    """AWWA manual M36 gives the unavoidable losses as (5.41 Lm + 0.15 Nc + 7.5 Lp) P in gallons per day, with miles of
    mains, connections, miles of private pipe and psi: the same components, rounded after conversion."""
    gallon, mile, psi_in_metres = 0.003785411784, 1.609344, 0.70307
    for miles, connections, private, psi in ((256, 12_196, 41.6, 65), (40, 9_000, 0, 80), (900, 30_000, 200, 50)):
        published = (5.41 * miles + 0.15 * connections + 7.5 * private) * psi * gallon
        found = losses.unavoidable_losses(miles * mile, connections, private * mile, psi * psi_in_metres)
        assert found == pytest.approx(published, rel=0.01)
