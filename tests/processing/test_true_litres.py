"""What flowed, on meters as they are: lost, late, read once a day or counted otherwise, each with the right value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine

from src.domain.days import day_start
from src.domain.metrics import window_metrics
from src.domain.network import network_metrics
from src.domain.readings import clean
from src.processing.conclusions.hours import active_nodes, hourly_signals
from src.processing.nodes import Node, import_nodes
from src.settings import Settings
from tests.data import raw_readings
from tests.system import START, metrics, put, readings_of, run_cycle, table

ROME = ZoneInfo("Europe/Rome")
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
MIDNIGHT = day_start(datetime(2023, 5, 10, 12, tzinfo=UTC), ROME)
# A whole day of 10 L/s, in m³.
WHOLE = 864.0


def instants(first: float, last: float, minutes: float) -> list[datetime]:
    """From `first` to before `last`, in days after midnight."""
    count = round((last - first) * 1440 / minutes)
    return [MIDNIGHT + first * DAY + k * minutes * MINUTE for k in range(count)]


def days_of(times: Sequence[datetime], **values: Callable[[int], float | None]) -> pd.DataFrame:
    """The local days of one meter; each value as a function of the reading's number."""
    rows = [
        {"node_id": "n", "timestamp": instant, "ingestion_timestamp": instant}
        | {name: value(k) for name, value in values.items()}
        for k, instant in enumerate(times)
    ]
    found = window_metrics(clean(raw_readings(rows), datetime(2030, 1, 1, tzinfo=UTC)).frame, MIDNIGHT, ROME)
    return found[found["time_window"] == "1day"].set_index("window_start")


def lost(times: Sequence[datetime], share: float, seed: int = 1) -> list[datetime]:
    """The instants without a share of them, at random."""
    remaining = np.random.default_rng(seed).random(len(times)) >= share
    return [instant for instant, stays in zip(times, remaining, strict=True) if stays]


def test_ticks_find_what_one_look_at_everything_finds_also_where_measurements_come_at_their_own_pace(
    stack: Settings, database: Engine
):
    times = pd.date_range(START, periods=6 * 96, freq="15min")
    daily = np.where((times.hour == 6) & (times.minute == 0), 864.0, np.nan)
    put(
        stack,
        pd.DataFrame(
            {"timestamp": times, "node_id": "n", "pressure": 4 + np.sin(np.arange(len(times)) / 15), "volume": daily}
        ),
    )
    for hours in range(24, 6 * 24 + 1, 6):
        run_cycle(stack, START + timedelta(hours=hours))
    days = metrics(database).query("time_window == '1day'").set_index("window_start")["total_volume"]
    assert days.iloc[1:-2].tolist() == pytest.approx([WHOLE] * (len(days) - 3))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
def test_of_a_steady_flow_what_is_known_and_what_is_covered_agree_however_much_is_lost(share: float):
    day = days_of(lost(instants(-2, 3, 5), share), flow_rate=lambda _: 10.0).loc[MIDNIGHT]
    assert day["total_volume"] / day["flow_coverage"] == pytest.approx(WHOLE)
    assert day["flow_coverage"] > 0.9


def test_volumes_of_the_lost_are_lost_and_coverage_says_so():
    times = lost(instants(-2, 3, 5), 0.3)
    day = days_of(times, flow_rate=lambda _: 10.0, volume=lambda _: 3.0).loc[MIDNIGHT]
    assert day["total_volume"] / day["flow_coverage"] == pytest.approx(WHOLE)
    assert day["flow_coverage"] == pytest.approx(0.7, abs=0.06)


def test_a_cadence_that_changes_at_noon_changes_no_volume():
    day = days_of(instants(-2, 0.5, 15) + instants(0.5, 2, 5), flow_rate=lambda _: 10.0).loc[MIDNIGHT]
    assert (day["total_volume"], day["flow_coverage"]) == (pytest.approx(WHOLE), pytest.approx(1))


def test_what_a_logger_counted_while_it_was_away_belongs_to_the_days_it_was_away():
    # Away for 35.5 hours, it sends in one volume what flowed meanwhile.
    times = instants(-2, 0, 5) + instants(35.5 / 24, 3, 5)
    away = 2 * 288
    days = days_of(times, flow_rate=lambda _: 10.0, volume=lambda k: 3.0 if k != away else 3.0 * (35.5 * 12 + 1))
    assert days.loc[MIDNIGHT, "total_volume"] == pytest.approx(WHOLE)
    assert days.loc[MIDNIGHT, "estimated_volume"] > 0.99 * WHOLE
    assert days.loc[MIDNIGHT + DAY, "total_volume"] == pytest.approx(WHOLE, rel=0.005)


def test_a_flow_that_is_dead_beside_a_live_pressure_is_not_covered():
    dead = range(2 * 288, 2 * 288 + 144)
    day = days_of(instants(-2, 3, 5), flow_rate=lambda k: None if k in dead else 10.0, pressure=lambda _: 4.0).loc[
        MIDNIGHT
    ]
    assert day["total_volume"] == pytest.approx(WHOLE / 2)
    assert (day["flow_coverage"], day["pressure_coverage"]) == (pytest.approx(0.5), pytest.approx(1))


def test_a_meter_that_is_read_once_a_day_at_midnight_tells_of_yesterday():
    days = days_of([MIDNIGHT + k * DAY for k in range(-2, 3)], volume=lambda k: WHOLE + k)
    assert days.loc[MIDNIGHT, "total_volume"] == pytest.approx(WHOLE + 3)
    assert days.loc[MIDNIGHT, "avg_flow_rate"] == pytest.approx((WHOLE + 3) / 86.4)


def test_a_sensor_that_reports_what_changed_is_known_at_every_hour():
    # Every quarter of an hour a value by which at least a tenth changed, or after six hours the same.
    random, times, values = np.random.default_rng(4), [], []
    truth = [12 + 6 * np.sin(k / 96 * 2 * np.pi) + random.normal(0, 0.2) for k in range(5 * 96)]
    for k, flow in enumerate(truth):
        instant = MIDNIGHT - 2 * DAY + k * 15 * MINUTE
        if not values or abs(flow - values[-1]) > 0.1 * values[-1] or instant - times[-1] >= 6 * HOUR:
            times.append(instant)
            values.append(flow)
    day = days_of(times, flow_rate=lambda k: values[k]).loc[MIDNIGHT]
    held = np.interp(range(5 * 96), [round((t - times[0]) / (15 * MINUTE)) for t in times], range(len(times)))
    assert day["flow_coverage"] == pytest.approx(1)
    assert day["reading_count"] < 60
    assert day["total_volume"] == pytest.approx(sum(values[int(k)] for k in held[2 * 96 : 3 * 96]) * 0.9)
    assert day["total_volume"] == pytest.approx(sum(truth[2 * 96 : 3 * 96]) * 0.9, rel=0.02)


def test_a_meter_that_only_counts_has_the_flow_of_its_volumes():
    day = days_of(instants(-2, 3, 15), volume=lambda _: 9.0).loc[MIDNIGHT]
    assert (day["total_volume"], day["avg_flow_rate"]) == (pytest.approx(WHOLE), pytest.approx(10))


def balanced(stack: Settings, database: Engine, readings: pd.DataFrame, days: int, roles: dict[str, str]) -> pd.Series:
    """The last whole day of a network of these meters, all of one district unless their names say `b-...`."""
    put(stack, readings)
    with database.begin() as connection:
        import_nodes(connection, [Node(node_id=name, district_id="d", role=role) for name, role in roles.items()])
    job = run_cycle(stack, START + days * DAY)
    assert (job["status"], job["error_message"]) == ("completed", None)
    rows = table(database, "network_efficiency").query("time_window == '1day'")
    return rows.sort_values("window_start").iloc[-1]


def steady(days: int, minutes: float = 15, used: float = 700.0) -> pd.DataFrame:
    """An inlet of 864 m³ a day and a customers' meter."""
    readings = readings_of(["in", "out"], days=days, minutes=minutes)
    flow = np.where(readings["node_id"] == "in", 10.0, used / 86.4)
    return readings.assign(flow_rate=flow, pressure=4.0)


@pytest.mark.parametrize(("share", "within"), [(0.1, 0.001), (0.3, 0.02)])
def test_lost_readings_lose_no_water_in_the_balance(stack: Settings, database: Engine, share: float, within: float):
    readings = steady(9)
    remaining = np.random.default_rng(2).random(len(readings)) >= share
    day = balanced(stack, database, readings[remaining], 9, {"in": "inlet", "out": "consumption"})
    assert day["total_input_volume"] == pytest.approx(WHOLE, rel=within)
    assert day["total_loss_volume"] == pytest.approx(164, abs=within * WHOLE)
    assert pd.isna(day["reason"])
    assert abs(day["total_loss_volume"] - 164) <= day["loss_margin"]


@pytest.mark.parametrize(("first", "last"), [(1, 5), (12, 16)])
def test_an_outage_is_filled_with_what_is_usual_at_its_hours(stack: Settings, database: Engine, first: int, last: int):
    readings = steady(37)
    hour = readings["timestamp"].dt.tz_convert("Europe/Rome").dt.hour
    swing = np.where(readings["node_id"] == "in", 1 + 0.8 * np.sin((hour - 9) / 24 * 2 * np.pi), 1)
    readings = readings.assign(flow_rate=readings["flow_rate"] * swing)
    away = (readings["timestamp"] >= pd.Timestamp(START + 35 * DAY)) & hour.between(first, last - 1)
    whole = balanced(stack, database, readings, 37, {"in": "inlet", "out": "consumption"})
    with database.begin() as connection:
        for name in ("computed_metrics", "ingestion_watermarks", "district_balances", "network_efficiency"):
            connection.exec_driver_sql(f"TRUNCATE water_infrastructure.{name}")
    remaining = readings[~(away & (readings["node_id"] == "in"))]
    day = balanced(stack, database, remaining, 37, {"in": "inlet", "out": "consumption"})
    assert day["total_input_volume"] == pytest.approx(whole["total_input_volume"], rel=0.01)
    assert day["estimated_share"] > 0
    assert day["coverage"] < 0.9


def test_half_a_day_of_a_dead_inlet_is_unknown_and_the_reason_names_it(stack: Settings, database: Engine):
    readings = steady(3)
    dead = (readings["node_id"] == "in") & (readings["timestamp"] >= pd.Timestamp(START + 1.5 * DAY))
    readings = readings.assign(flow_rate=readings["flow_rate"].mask(dead))
    day = balanced(stack, database, readings, 3, {"in": "inlet", "out": "consumption"})
    assert pd.isna(day["total_input_volume"])
    assert day["coverage"] < 0.6
    assert "in" in day["reason"]


def test_more_used_than_came_in_is_impossible_and_names_the_meters(stack: Settings, database: Engine):
    day = balanced(stack, database, steady(3, used=1132.0), 3, {"in": "inlet", "out": "consumption"})
    assert day["total_loss_volume"] == pytest.approx(-268)
    assert "look at in and out" in day["reason"]
    assert day["zone_metrics"]["d"]["non_revenue_water_percentage"] is None


def test_what_one_district_passes_to_another_counts_once_everywhere(stack: Settings, database: Engine):
    readings = readings_of(["in-a", "in-b", "out-a"], days=2, minutes=15)
    flow = readings["node_id"].map({"in-a": 20.0, "in-b": 8.0, "out-a": 3.0})
    put(stack, readings.assign(flow_rate=flow, pressure=4.0))
    nodes = [
        Node(node_id="in-a", district_id="a", role="inlet"),
        Node(node_id="in-b", district_id="b", role="inlet", metadata='{"feeding_district_id": "a"}'),
        Node(node_id="out-a", district_id="a", role="outlet"),
    ]
    with database.begin() as connection:
        import_nodes(connection, nodes)
    run_cycle(stack, START + 2 * DAY)
    row = table(database, "network_metrics").set_index("time_range").loc["24h"]
    assert row["total_flow"] == pytest.approx(17.0)
    hours = table(database, "network_efficiency").query("time_window == '1hour'").set_index("window_start")
    assert hours.loc[pd.Timestamp(START + 1.5 * DAY), "total_input_volume"] == pytest.approx(17 * 3.6)
    assert row["total_volume"] == pytest.approx(17 * 86.4)
    assert pd.isna(row["reason"])
    # Detection looks at what stays in each, and takes neither for a stranger to the other.
    with database.connect() as connection:
        network = active_nodes(connection, [node.node_id for node in nodes])
        signals = hourly_signals(connection, network, network.index, START, START + DAY, START)
    listed = signals.listed.assign(mean=np.nanmean(signals.mean, axis=0)).set_index(["node_id", "measurement"])
    assert listed.loc[("in-a", "inflow"), "mean"] == pytest.approx(20 - 8 - 3)
    assert ("in-b", "inflow") not in listed.index
    assert set(listed["supply"]) == {"a"}


def test_the_network_says_when_its_inlets_were_not_measured_all_the_time_and_which_is_silent(
    stack: Settings, database: Engine
):
    readings = readings_of(["a", "b"], days=2, minutes=15).assign(flow_rate=10.0, pressure=4.0)
    lost = (readings["node_id"] == "b") & readings["timestamp"].between(
        pd.Timestamp(START + 1.25 * DAY), pd.Timestamp(START + 1.75 * DAY), inclusive="left"
    )
    put(stack, readings[~lost])

    def network_with(*inlets: str) -> pd.Series[Any]:
        with database.begin() as connection:
            import_nodes(connection, [Node(node_id=name, district_id="d", role="inlet") for name in inlets])
        run_cycle(stack, START + 2 * DAY)
        return table(database, "network_metrics").set_index("time_range").loc["24h"]

    partly = network_with("a", "b")
    assert partly["total_flow"] == pytest.approx(20.0)
    assert partly["total_volume"] == pytest.approx(1.5 * 864, rel=0.01)
    assert partly["reason"] == "flow was measured 75 % of the time, and total_volume is what was measured"
    silent = network_with("a", "b", "never heard of")
    assert silent[["total_flow", "total_volume"]].isna().all()
    assert silent["reason"] == "what came in is unknown: nothing was measured at never heard of"
    assert (silent["active_nodes"], silent["flow_basis"]) == (2, "inlets")


def inlet(node_id: str, **changed: object) -> dict[str, object]:
    return {
        "node_id": node_id, "role": "inlet", "district_id": "d", "feeding_district_id": None, "is_active": True,
        "has_reported": True, "flow_measured": 1.0, "flow_rate": 10.0, "pressure": 4.0, "volume": 864.0,
        "flow_left_out": False, "pressure_left_out": False,
    } | changed  # fmt: skip


@pytest.mark.parametrize(
    ("other", "flow", "volume", "reason"),
    [
        (inlet("shut", flow_rate=0.0, volume=0.0, flow_left_out=True), 10.0, 864.0, None),
        (inlet("gone", flow_rate=np.nan, volume=np.nan, is_active=False), 10.0, 864.0, None),
        (
            inlet("copy", flow_left_out=True), None, None,
            "what came in is unknown: nothing was measured at copy; left out: flow of 1 node, not connected, a copy or "
            "in a unit that does not fit (see their channels)",
        ),
        (
            inlet("counts", flow_rate=np.nan), None, 1728.0,
            "total_flow is unknown: of counts only the volume was measured",
        ),
    ],
)  # fmt: skip
def test_what_came_in_is_known_where_every_inlet_was_measured_or_is_shut(
    other: dict[str, object], flow: float | None, volume: float | None, reason: str | None
):
    found = network_metrics(pd.DataFrame([inlet("open"), other]))
    assert (found.total_flow, found.total_volume, found.reason) == (flow, volume, reason)
