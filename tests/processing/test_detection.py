"""Events in the database: found by real cycles, unchanged by restarts, closed by late readings."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import Engine, delete, insert, text

from src.db.tables import anomalies
from src.processing.conclusions import anomalies as detect
from src.processing.conclusions import conclude
from src.processing.conclusions.counts import Span, count_events
from src.processing.conclusions.extent import Progress
from src.settings import Settings
from tests.system import START, metrics, put, readings_of, run_cycle, table

HOUR = timedelta(hours=1)
NODES = ["n1", "n2", "n3"]


def events(database: Engine) -> pd.DataFrame:
    return table(database, "anomalies").sort_values(["timestamp", "node_id"], ignore_index=True)


@pytest.fixture
def readings() -> pd.DataFrame:
    """Four days; what a node measures varies, except that its temperature never moves."""
    return readings_of(NODES, days=4, minutes=15)


def missing(readings: pd.DataFrame, node_id: str, first: datetime, last: datetime) -> pd.Series:
    """Which readings of a node lie within [first, last)."""
    at = readings["timestamp"]
    return (readings["node_id"] == node_id) & (at >= pd.Timestamp(first)) & (at < pd.Timestamp(last))


def test_a_silence_is_found_though_its_node_sends_nothing_and_outlives_restarts(
    stack: Settings, database: Engine, readings: pd.DataFrame
):
    since = START + timedelta(days=2)
    put(stack, readings[~missing(readings, "n2", since, since + timedelta(days=9))])
    run_cycle(stack, since + 1.5 * HOUR)
    assert events(database).empty
    run_cycle(stack, since + 3 * HOUR)
    found = events(database)
    assert found[["node_id", "anomaly_type"]].to_numpy().tolist() == [["n2", "silent"]]
    assert found["timestamp"].iloc[0] == since
    assert found["resolved_at"].isna().all()
    # Each cycle here is a process of its own as far as the product can tell: nothing remains but rows.
    for hours in (3.5, 6, 20):
        run_cycle(stack, since + hours * HOUR)
    later = events(database)
    pd.testing.assert_series_equal(later["anomaly_id"], found["anomaly_id"])
    assert later["end"].isna().all()
    assert later["metadata"].iloc[0]["hours"] == 20


def test_late_readings_that_fill_a_silence_close_it_and_a_second_look_changes_nothing(
    stack: Settings, database: Engine, readings: pd.DataFrame
):
    since = START + timedelta(days=2)
    gap = missing(readings, "n2", since, since + 5 * HOUR)
    put(stack, readings[~gap])
    run_cycle(stack, since + 4 * HOUR)
    assert events(database)["resolved_at"].isna().tolist() == [True]
    put(stack, readings)
    now = since + 8 * HOUR
    run_cycle(stack, now)
    closed = events(database)
    assert closed["resolved_at"].tolist() == [now]
    assert "later readings" in closed["metadata"].iloc[0]["closed_because"]
    counted = metrics(database)
    run_cycle(stack, now + HOUR / 2)
    pd.testing.assert_frame_equal(events(database), closed)
    assert counted["anomaly_count"].sum() == 0


def test_a_silence_that_ended_and_is_filled_afterwards_was_none(
    stack: Settings, database: Engine, readings: pd.DataFrame
):
    first, last = START + timedelta(days=2), START + timedelta(days=2, hours=8)
    gap = missing(readings, "n2", first, last)
    put(stack, readings[~gap & (readings["timestamp"] <= pd.Timestamp(last + timedelta(hours=2)))])
    run_cycle(stack, last + timedelta(hours=2))
    assert events(database)["resolved_at"].tolist() == [last]
    put(stack, readings)
    run_cycle(stack, last + timedelta(hours=4))
    withdrawn = events(database).iloc[0]
    assert (withdrawn["timestamp"], withdrawn["end"]) == (first, first)
    assert withdrawn["metadata"]["closed_because"] == "later readings show nothing of it"
    assert set(table(database, "computed_metrics")["anomaly_count"]) == {0}


def test_windows_and_the_network_count_the_events_they_lie_under(
    stack: Settings, database: Engine, readings: pd.DataFrame
):
    begin, end = START + timedelta(days=2), START + timedelta(days=2, hours=5)
    low = missing(readings, "n3", begin, end)
    steady = readings.assign(pressure=readings["pressure"].where(~low, 1.0).clip(3, 6).where(~low, 1.0))
    put(stack, steady)
    run_cycle(stack, START + timedelta(days=3))
    found = events(database)
    assert found[["anomaly_type", "severity"]].to_numpy().tolist() == [["low_pressure", "critical"]]
    windows = metrics(database).query("node_id == 'n3'")
    under = windows[(windows["window_start"] < pd.Timestamp(end)) & (windows["window_end"] > pd.Timestamp(begin))]
    assert set(under["anomaly_count"]) == {1}
    assert windows["anomaly_count"].sum() == len(under)
    network = table(database, "network_metrics").set_index("time_range")["anomaly_count"]
    assert (network["24h"], network["6h"]) == (1, 0)


def test_the_window_that_begins_with_the_last_reading_lies_under_what_is_open(
    stack: Settings, database: Engine, readings: pd.DataFrame
):
    begin, now = START + timedelta(days=2), START + timedelta(days=2, hours=5)
    low = missing(readings, "n3", begin, now + HOUR)
    put(stack, readings.assign(pressure=readings["pressure"].clip(3, 6).where(~low, 1.0)))
    run_cycle(stack, now)
    assert events(database)["anomaly_type"].tolist() == ["low_pressure"]
    assert events(database)["end"].isna().all()
    windows = metrics(database).query("node_id == 'n3'")
    under = windows["window_end"] > pd.Timestamp(begin)
    assert windows["window_start"].max() == pd.Timestamp(now)
    assert windows["anomaly_count"].tolist() == under.astype(int).tolist()


def test_however_events_come_and_go_each_window_has_the_count_of_those_over_it(
    stack: Settings, database: Engine, readings: pd.DataFrame
):
    put(stack, readings)
    run_cycle(stack, START + timedelta(days=4))
    random = np.random.default_rng(3)
    known: dict[UUID, Span] = {}
    for _ in range(12):
        gone = [key for key in known if random.random() < 0.3]
        spans = [known.pop(key) for key in gone]
        new = {}
        for _ in range(3):
            begin = START + float(random.uniform(0, 90)) * HOUR
            new[uuid4()] = Span(str(random.choice(NODES)), begin, begin + float(random.exponential(8)) * HOUR)
        known |= new
        with database.begin() as connection:
            connection.execute(delete(anomalies).where(anomalies.c.anomaly_id.in_(gone)))
            rows = [
                {"anomaly_id": key, "node_id": span.node_id, "timestamp": span.first, "end": span.last}
                | {"anomaly_type": "burst", "severity": "info", "detection_method": "test"}
                for key, span in new.items()
            ]
            connection.execute(insert(anomalies), rows)
            count_events(connection, [*spans, *new.values()])
        windows = metrics(database)
        over = [
            sum(
                span.node_id == node and span.first < end and span.last > max(start, span.first)
                for span in known.values()
            )
            for node, start, end in zip(windows["node_id"], windows["window_start"], windows["window_end"], strict=True)
        ]
        assert windows["anomaly_count"].tolist() == over
    assert max(over) > 1


def test_what_somebody_resolved_stays_resolved(stack: Settings, database: Engine, readings: pd.DataFrame):
    since = START + timedelta(days=2)
    put(stack, readings[~missing(readings, "n2", since, since + timedelta(days=9))])
    run_cycle(stack, since + 4 * HOUR)
    with database.begin() as connection:
        connection.execute(
            text(
                "UPDATE water_infrastructure.anomalies SET resolved_at = :at, resolved_by = 'anna', note = 'battery', "
                "acknowledged_by = 'anna'"
            ),
            {"at": since + 4 * HOUR},
        )
    run_cycle(stack, since + 9 * HOUR)
    found = events(database)
    assert found[["resolved_by", "note", "acknowledged_by"]].to_numpy().tolist() == [["anna", "battery", "anna"]]
    assert found["resolved_at"].tolist() == [since + 4 * HOUR]


def test_a_failing_step_leaves_the_others_and_the_metrics_and_is_made_up_for(
    stack: Settings, database: Engine, readings: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
):
    since = START + timedelta(days=1)
    put(stack, readings[~missing(readings, "n2", since, since + 6 * HOUR)])

    def broken(*arguments: object) -> Iterator[Progress]:
        raise ValueError("no luck today")

    with monkeypatch.context() as patched:
        patched.setattr(conclude, "STEPS", {**conclude.STEPS, "anomalies": broken})
        job = run_cycle(stack, START + timedelta(days=3))
    assert job["status"] == "completed"
    assert job["error_message"] == "The anomalies could not be computed: ValueError: no luck today"
    assert len(table(database, "data_quality_metrics")) == 3
    assert events(database).empty
    job = run_cycle(stack, START + timedelta(days=3, minutes=30))
    assert job["error_message"] is None
    assert events(database)["anomaly_type"].tolist() == ["silent"]


def test_habits_are_learned_once_a_week_and_stored(stack: Settings, database: Engine):
    put(stack, readings_of(["n1"], days=16, minutes=60).assign(temperature=lambda frame: 10 + frame["pressure"] % 3))
    for days in (15, 15.1, 16):
        run_cycle(stack, START + timedelta(days=days))
    habits = table(database, "node_habits")
    assert not habits.duplicated(["node_id", "measurement", "valid_from"]).any()
    assert habits["valid_from"].nunique() == 3
    latest = habits[habits["valid_from"] == habits["valid_from"].max()].set_index("measurement")
    assert latest["history_days"].tolist() == pytest.approx([14.0] * 3, abs=2)
    assert len(latest.loc["flow_rate", "habits"]["expected"]) == 72
    assert detect.HISTORY == timedelta(days=56)
