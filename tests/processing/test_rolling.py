"""Balances of 30 and 365 days: sums of days, how sure they are, and what losses are compared by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from src.api.schemas.network import DistrictWindow
from src.domain import efficiency, losses
from src.domain.days import day_start, day_starts
from src.domain.rolling import rolling_balances
from src.processing.districts import District, import_districts
from src.processing.nodes import Node, import_nodes
from src.settings import Settings
from tests.system import START, put, readings_of, run_cycle, table

DAY = timedelta(days=1)
WHOLE = 864.0
# Over the hour that is left out in March.
FIRST = datetime(2023, 3, 1, 12, tzinfo=UTC)


def edges_of(zone: str, count: int) -> pd.DatetimeIndex:
    return pd.DatetimeIndex(day_starts(FIRST, FIRST + (count - 1) * DAY, ZoneInfo(zone)))


def daily(edges: pd.DatetimeIndex, **figures: object) -> pd.DataFrame:
    """A metered district's days, of which nothing is estimated unless stated otherwise."""
    default: dict[str, object] = {
        "district_id": "d", "window_start": edges[:-1], "input_volume": 100.0, "output_volume": 80.0,
        "loss_volume": 20.0, "efficiency_percentage": 80.0, "coverage": 1.0, "method": "metered", "reason": None,
        "input_margin": 2.0, "output_margin": 4.0, "loss_margin": 4.5, "estimated_share": 0.0, "metered_volume": 180.0,
        "input_meter_margin": 2.0, "output_meter_margin": 4.0, "loss_meter_margin": 4.5, "active_nodes": 2.0,
        "total_nodes": 2.0,
    }  # fmt: skip
    frame = pd.DataFrame(default | figures)
    return frame.assign(largest_meters=[["in", "out"]] * len(frame))


def brute_force(days: pd.DataFrame, length: np.ndarray, name: str) -> tuple[float, float]:
    """A figure of one window and its margin, each day looked at by itself."""
    balanced = days["loss_volume"].notna()
    known = balanced if balanced.sum() >= 27 else days[f"{name}_volume"].notna()
    if known.sum() < 27:
        return np.nan, np.nan
    scale = length.sum() / length[known].sum()
    used = days[known]
    systematic = used[f"{name}_meter_margin"].sum()
    by_itself = (used[f"{name}_margin"] ** 2 - used[f"{name}_meter_margin"] ** 2).sum()
    missing = 30 - known.sum()
    spread = missing**2 * used[f"{name}_volume"].var(ddof=1) * (1 + 1 / known.sum())
    margin = np.sqrt(scale**2 * (systematic**2 + by_itself) + 1.96**2 * spread)
    return scale * used[f"{name}_volume"].sum(), margin


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.15))
def test_windows_are_the_sums_of_their_days(seed: int, lost: float):
    random = np.random.default_rng(seed)
    edges = edges_of("Europe/Rome", 70)
    came, used = random.uniform(50, 150, 70), random.uniform(40, 100, 70)
    came[random.random(70) < lost] = np.nan
    used[random.random(70) < lost] = np.nan
    meter = {f"{name}_meter_margin": random.uniform(1, 3, 70) for name in ("input", "output", "loss")}
    margins = {name.replace("_meter", ""): values + random.uniform(0, 3, 70) for name, values in meter.items()}
    days = daily(edges, input_volume=came, output_volume=used, loss_volume=came - used, **meter, **margins)
    days = days[random.random(70) >= lost / 3]
    found = rolling_balances(days, edges, 30, 0.2)
    assert len(found) == 41
    on_grid = days.set_index("window_start").reindex(edges[:-1])
    length = (np.diff(edges) / np.timedelta64(1, "D")).astype(float)
    assert set(length) > {1.0}
    for first in range(41):
        for name in ("input", "output", "loss"):
            volume, margin = brute_force(on_grid[first : first + 30], length[first : first + 30], name)
            assert found.loc[first, f"{name}_volume"] == pytest.approx(volume, rel=1e-6, nan_ok=True)
            assert found.loc[first, f"{name}_margin"] == pytest.approx(margin, rel=1e-5, nan_ok=True)
    # A window has the same figures wherever adding began, to the last digit.
    later = rolling_balances(days[days["window_start"] >= edges[25]], edges[25:], 30, 0.2)
    pd.testing.assert_frame_equal(later, found[25:].reset_index(drop=True), check_exact=True)


def window(days: pd.DataFrame, edges: pd.DatetimeIndex) -> pd.Series:
    return rolling_balances(days, edges, 30, 0.2).iloc[0]


UTC_DAYS = edges_of("UTC", 30)


def test_what_a_meter_errs_it_errs_every_day_and_what_is_estimated_by_chance():
    assert window(daily(UTC_DAYS), UTC_DAYS)["loss_margin"] == pytest.approx(30 * 4.5)
    guessed = window(daily(UTC_DAYS, loss_meter_margin=0.0), UTC_DAYS)
    assert guessed["loss_margin"] == pytest.approx(np.sqrt(30) * 4.5)


def test_three_days_of_thirty_may_be_missing_and_are_taken_as_the_others_and_marked():
    found = window(daily(UTC_DAYS)[3:], UTC_DAYS)
    assert (found["loss_volume"], found["known_days"]) == (pytest.approx(600), 27)
    assert (found["coverage"], found["estimated_share"]) == (pytest.approx(0.9), pytest.approx(0.1))
    assert found["reason"] is None
    assert found["real_loss_volume"] == pytest.approx(480)


def test_where_four_are_missing_nothing_is_known_but_why():
    silent = np.arange(30) < 4
    days = daily(UTC_DAYS, reason=np.where(silent, "nothing is known of in", None))
    figures = [name for name in days.columns if name.endswith("_volume") or name.endswith("_margin")]
    days.loc[silent, figures] = np.nan
    found = window(days, UTC_DAYS)
    assert found[["input_volume", "loss_volume", "loss_margin", "estimated_share"]].isna().all()
    assert found["reason"] == (
        "26 of 30 days are balanced, 27 are needed; of the last of the others: nothing is known of in"
    )


def test_without_customers_meters_the_input_is_known_and_the_loss_is_not():
    days = daily(UTC_DAYS, output_volume=np.nan, loss_volume=np.nan, method=None)
    found = window(days, UTC_DAYS)
    assert (found["input_volume"], found["method"]) == (pytest.approx(3000), None)
    assert np.isnan(found["loss_volume"])


def test_more_used_than_came_in_names_the_meters_that_move_most():
    found = window(daily(UTC_DAYS, output_volume=106.0, loss_volume=-6.0), UTC_DAYS)
    assert found["reason"] == "more was used than came in, beyond what meters may err: look at in and out"


def test_what_leaks_at_night_is_real_all_of_it():
    found = window(daily(UTC_DAYS, method="minimum_night_flow", loss_margin=np.nan), UTC_DAYS)
    assert (found["real_loss_volume"], found["apparent_loss_share"]) == (pytest.approx(600), 0.0)
    assert np.isnan(found["loss_margin"])


def test_the_class_is_the_worse_of_both_indicators_and_known_for_a_year_only():
    pipes = losses.Pipes(mains_km=10.0, unavoidable_losses=50.0)
    year = losses.indicators(260.0, 200.0, 20.0, pipes, with_class=True)
    assert (year["m1a"], year["m1b"], year["m1_class"], year["m1_class_year"]) == (26.0, 20.0, "C", 2017)
    assert year["infrastructure_leakage_index"] == pytest.approx(4.0)
    month = losses.indicators(260.0, 200.0, 20.0, pipes, with_class=False)
    assert (month["m1a"], month["m1_class"], month["m1_class_year"]) == (26.0, None, None)
    unknown = losses.indicators(np.nan, np.nan, np.nan, pipes, with_class=True)
    assert set(unknown.values()) == {None}


def network_of(stack: Settings, database: Engine, readings: pd.DataFrame, days: int, **metered: str) -> None:
    """A cycle over a district of these meters, by role, of which the utility knows the pipes."""
    put(stack, readings)
    with database.begin() as connection:
        import_nodes(connection, [Node(node_id=name, district_id="d", role=role) for name, role in metered.items()])
        import_districts(connection, [District(district_id="d", mains_km=10, connections=500, mean_pressure_metres=40)])
    job = run_cycle(stack, START + days * DAY)
    assert (job["status"], job["error_message"]) == ("completed", None)


def steady(days: int, used: float = 700.0) -> pd.DataFrame:
    readings = readings_of(["in", "out"], days=days, minutes=30)
    return readings.assign(flow_rate=np.where(readings["node_id"] == "in", 10.0, used / 86.4), pressure=4.0)


def windows(database: Engine, name: str, time_window: str) -> pd.DataFrame:
    rows = table(database, name).query(f"time_window == '{time_window}'")
    return rows.sort_values("window_start", ignore_index=True)


def test_thirty_days_are_written_for_each_district_and_the_network_and_then_stay_as_they_are(
    stack: Settings, database: Engine
):
    network_of(stack, database, steady(33), 33, **{"in": "inlet", "out": "consumption"})
    rows = windows(database, "network_efficiency", "30day")
    # For each day that has ended one, from the first on.
    zone = stack.utility_timezone
    assert (rows["window_end"].dt.tz_convert(zone).dt.hour == 0).all()
    assert len(rows) == len(windows(database, "network_efficiency", "1day"))
    last = rows.iloc[-1]
    assert last["total_loss_volume"] == pytest.approx(30 * 164, rel=1e-6)
    assert last["loss_margin"] == pytest.approx(30 * np.hypot(0.02 * 864, 0.05 * 700), rel=1e-6)
    zone_of = last["zone_metrics"]["d"]
    DistrictWindow.model_validate(zone_of)
    assert (zone_of["known_days"], zone_of["m1a"]) == (30, pytest.approx(16.4))
    unavoidable = (18 * 10 + 0.8 * 500) * 40 / 1000
    assert zone_of["infrastructure_leakage_index"] == pytest.approx(0.8 * 164 / unavoidable)
    assert last["indicators"]["infrastructure_leakage_index"] == pytest.approx(0.8 * 164 / unavoidable)
    assert (last["indicators"]["m1a"], last["indicators"]["m1_class"]) == (pytest.approx(16.4), None)
    assert "days are balanced, 27 are needed" in rows.iloc[0]["reason"]
    assert "m1a" not in windows(database, "network_efficiency", "1day").iloc[-1]["zone_metrics"]["d"]
    assert windows(database, "network_efficiency", "1hour").iloc[-1]["indicators"] is None
    before = stored(database)
    run_cycle(stack, START + 33 * DAY + timedelta(minutes=30))
    assert stored(database) == before


def stored(database: Engine) -> list[tuple[Any, ...]]:
    """Rolling rows with the transaction that wrote each."""
    query = text(
        "SELECT district_id, time_window, window_start, xmin::text FROM water_infrastructure.district_balances "
        "WHERE time_window IN ('30day', '365day') ORDER BY 1, 2, 3"
    )
    with database.connect() as connection:
        return [tuple(row) for row in connection.execute(query)]


def test_a_day_that_comes_late_changes_the_windows_that_hold_it_and_no_others(stack: Settings, database: Engine):
    readings = steady(35)
    late = readings["timestamp"].between(pd.Timestamp(START + 20 * DAY), pd.Timestamp(START + 24 * DAY))
    roles = {"in": "inlet", "out": "consumption"}
    arrived = readings["timestamp"].where(~late, pd.Timestamp(START + 35 * DAY + timedelta(minutes=30)))
    readings = readings.assign(ingestion_timestamp=arrived)
    network_of(stack, database, readings[~late], 35, **roles)
    before = windows(database, "district_balances", "30day")
    assert before.iloc[-1]["balance"]["loss_volume"] is None
    put(stack, readings)
    run_cycle(stack, START + 35 * DAY + timedelta(hours=1))
    after = windows(database, "district_balances", "30day")
    assert after.iloc[-1]["balance"]["loss_volume"] == pytest.approx(30 * 164, rel=1e-6)
    untouched = before["window_end"] <= pd.Timestamp(START + 19 * DAY)
    assert list(after["balance"][untouched]) == list(before["balance"][untouched])
    network = windows(database, "network_efficiency", "30day")
    assert network.iloc[-1]["total_loss_volume"] == pytest.approx(30 * 164, rel=1e-6)


@pytest.mark.parametrize(("used", "expected"), [(700.0, "B"), (1132.0, None)])
def test_a_year_is_put_together_from_days_whose_readings_are_long_gone(
    stack: Settings, database: Engine, used: float, expected: str | None
):
    zone = ZoneInfo(stack.utility_timezone)
    lost = WHOLE - used
    balance: dict[str, Any] = {
        "input_volume": WHOLE, "output_volume": used, "loss_volume": lost, "coverage": 1.0, "method": "metered",
        "efficiency_percentage": 100 * used / WHOLE, "input_margin": 17.28, "output_margin": 35.0,
        "loss_margin": 39.0, "estimated_share": 0.0, "metered_volume": 180.0, "largest_meters": ["in", "out"],
    }  # fmt: skip
    # One in twelve is missing.
    days = [day_start(START, zone, -n) for n in range(1, 366) if n % 12]
    insert = text(
        "INSERT INTO water_infrastructure.district_balances "
        "(district_id, time_window, window_start, window_end, balance, active_nodes, total_nodes) "
        "VALUES ('d', '1day', :start, :end, CAST(:balance AS jsonb), 2, 2)"
    )
    with database.begin() as connection:
        for day in days:
            row = {"start": day, "end": day_start(day, zone, 1), "balance": pd.Series(balance).to_json()}
            connection.execute(insert, row)
    network_of(stack, database, steady(3, used), 3, **{"in": "inlet", "out": "consumption"})
    last = windows(database, "network_efficiency", "365day").iloc[-1]
    assert last["total_loss_volume"] == pytest.approx(365 * lost, rel=1e-3)
    of_district, of_network = last["zone_metrics"]["d"], last["indicators"]
    assert of_district["estimated_share"] == pytest.approx(1 - of_district["known_days"] / 365, abs=1e-3)
    assert (of_district["m1_class"], of_network["m1_class"]) == (expected, expected)
    if expected is None:
        assert "look at in and out" in last["reason"]
        assert {of_district["m1a"], of_district["infrastructure_leakage_index"], of_network["m1b"]} == {None}
    month = windows(database, "network_efficiency", "30day").iloc[-1]
    assert month["indicators"]["m1_class"] is None


def test_margins_hold_the_truth_of_ninety_to_ninety_nine_days_and_months_in_a_hundred():
    """Three hundred districts with meters of their own, each for thirty days of which readings are lost."""
    random = np.random.default_rng(7)
    start = pd.Timestamp("2023-03-06", tz="UTC")
    roles = ["inlet", "outlet", "consumption", "consumption", "consumption"]
    share, error = np.array([1.0, 0.2, 0.3, 0.2, 0.1]), np.array([0.02, 0.02, 0.05, 0.05, 0.05])
    usual = 50 * share[:, None] * (1 + 0.6 * np.sin((np.arange(24) - 9) / 24 * 2 * np.pi))
    rows, truth = [], []
    for district in range(300):
        factor = 1 + random.normal(0, error / 1.96)
        for day in range(30):
            flow = usual * random.normal(1, 0.1, (5, 24))
            truth.append(flow[0].sum() - flow[1:].sum())
            lost = random.random((5, 24)) < random.choice([0.0, 0.05, 0.2])
            rows += [
                {
                    "window_start": start + day * DAY, "district_id": f"{district:03}", "feeding_district_id": None,
                    "node_id": f"n{k}", "role": roles[k], "volume": (factor[k] * flow[k])[~lost[k]].sum(),
                    "coverage": 1 - lost[k].mean(), "rest": factor[k] * usual[k][lost[k]].sum(),
                    "rest_deviation": np.sqrt(((0.1 * usual[k][lost[k]]) ** 2).sum()), "estimated_volume": 0.0,
                    "error": error[k], "storage_change": np.nan, "storage_error": np.nan,
                }
                for k in range(5)
            ]  # fmt: skip
    days = efficiency.water_balance(pd.DataFrame(rows)).sort_values(["district_id", "window_start"], ignore_index=True)
    of_days = (days["loss_volume"] - truth).abs() <= days["loss_margin"]
    assert 0.90 <= of_days.mean() <= 0.99
    days = days.assign(largest_meters=None, active_nodes=5, total_nodes=5)
    months = rolling_balances(days, pd.date_range(start, periods=31, freq="1D"), 30, 0.2)
    of_months = (months["loss_volume"] - np.reshape(truth, (300, 30)).sum(axis=1)).abs() <= months["loss_margin"]
    assert 0.90 <= of_months.mean() <= 0.99
    # Were meters' errors taken for chance, another one each day, the margin would be a fraction of that.
    days = days.assign(**dict.fromkeys(efficiency.METER_MARGINS, 0.0))
    by_chance = rolling_balances(days, pd.date_range(start, periods=31, freq="1D"), 30, 0.2)["loss_margin"]
    assert by_chance.mean() < months["loss_margin"].mean() / 3
