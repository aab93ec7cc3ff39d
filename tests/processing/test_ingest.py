"""From the warehouse to committed rows."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
from sqlalchemy import Engine, text

from src.db.tables import SCHEMA
from src.processing.ingest.windows import INSTANT, Ingested, read_span, write_span
from src.processing.warehouse.client import connect
from src.processing.warehouse.reader import Reader, Readings
from src.settings import Settings
from tests.processing.test_warehouse import NODES, START, warehouse
from tests.system import eventually, put, readings_of, run_cycle

__all__ = ["warehouse"]

ROME = ZoneInfo("Europe/Rome")
# Later than whatever is taken in here.
NOW = START + timedelta(days=365)


def table(database: Engine, name: str) -> pd.DataFrame:
    with database.connect() as connection:
        return pd.read_sql_table(name, connection, SCHEMA)


def ingest(database: Engine, warehouse: Settings, start: datetime, as_of: datetime) -> Ingested:
    with database.begin() as connection:
        reader = Reader(connect(warehouse), warehouse)
        return write_span(
            connection, read_span(connection, reader, NODES, start, as_of + INSTANT, as_of, ROME, now=NOW)
        )


def test_ingestion_writes_windows_and_watermarks_and_a_second_run_changes_nothing(
    database: Engine, warehouse: Settings
):
    as_of = START + timedelta(hours=47)
    done = ingest(database, warehouse, START, as_of)
    n = len(NODES)
    assert (done.readings, done.rejected) == (48 * n, Counter())
    # 48 hours from midnight UTC touch three days of Rome.
    assert done.windows == {"5min": 48 * n, "1hour": 48 * n, "1day": 3 * n}
    assert set(table(database, "ingestion_watermarks")["last_reading"]) == {pd.Timestamp(as_of)}
    hours = table(database, "computed_metrics").query("time_window == '1hour' and node_id == 'n1'")
    assert sorted(hours["avg_flow_rate"]) == [hour + 0.1 for hour in range(48)]
    assert ingest(database, warehouse, START, as_of).rows_changed == 0


def test_ticks_one_after_the_other_leave_the_same_rows_as_one_at_the_end(database: Engine, warehouse: Settings):
    for hour in (3, 20, 22, 30, 47):
        as_of = START + timedelta(hours=hour)
        ingest(database, warehouse, as_of - timedelta(hours=20), as_of)
    key = ["node_id", "time_window", "window_start"]
    in_ticks = table(database, "computed_metrics").drop(columns="computed_at").sort_values(key, ignore_index=True)
    ingest(database, warehouse, START, as_of)
    at_once = table(database, "computed_metrics").drop(columns="computed_at").sort_values(key, ignore_index=True)
    pd.testing.assert_frame_equal(in_ticks, at_once, check_exact=True)


def test_a_slow_job_never_takes_rows_of_a_later_one_back(database: Engine, warehouse: Settings):
    ingest(database, warehouse, START, START + timedelta(hours=47))
    before = table(database, "computed_metrics")
    assert ingest(database, warehouse, START, START + timedelta(hours=30)).rows_changed == 0
    pd.testing.assert_frame_equal(table(database, "computed_metrics"), before)


def test_what_was_read_first_is_written_first(database: Engine, stack: Settings):
    """Of two that write the same node, the second reads once the first has committed."""
    at_first = readings_of(["n"], days=1, minutes=60)
    corrected = at_first.assign(flow_rate=99.0)
    as_of = START + timedelta(days=1)
    has_read, may_write = threading.Event(), threading.Event()

    class Slow(Reader):
        def read(self, *arguments: Any, **bounds: Any) -> Readings:
            found = super().read(*arguments, **bounds)
            has_read.set()
            may_write.wait(60)
            return found

    def written(reader: Reader) -> None:
        with database.begin() as connection:
            write_span(connection, read_span(connection, reader, ["n"], START, as_of + INSTANT, as_of, ROME, now=NOW))

    def somebody_waits() -> bool:
        with database.connect() as connection:
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return bool(connection.scalar(text(waiting)))

    put(stack, at_first)
    run_cycle(stack, START)
    with ThreadPoolExecutor(2) as threads:
        try:
            slow = threads.submit(written, Slow(connect(stack), stack))
            assert has_read.wait(60)
            put(stack, corrected)
            quick = threads.submit(written, Reader(connect(stack), stack))
            eventually(lambda: quick.done() or somebody_waits())
        finally:
            may_write.set()
        slow.result(60)
        quick.result(60)
    hours = table(database, "computed_metrics").query("time_window == '1hour'")
    assert set(hours["avg_flow_rate"]) == {99.0}


def test_days_without_readings_between_others_are_no_obstacle(database: Engine, warehouse: Settings):
    later = START + timedelta(days=20, hours=-2)
    with database.begin() as connection:
        reader = Reader(connect(warehouse), warehouse)
        end, as_of = later + timedelta(days=1), later + timedelta(days=9)
        done = write_span(connection, read_span(connection, reader, NODES, later, end, as_of, ROME, now=NOW))
    assert (done.readings, done.rows_changed) == (0, 0)


def test_what_is_set_aside_is_counted_by_node_and_quarter_of_an_hour_until_it_is_corrected(
    database: Engine, stack: Settings
):
    readings = readings_of(["bad", "good"], days=1, minutes=5)
    bad = (readings["node_id"] == "bad") & (readings["timestamp"] >= pd.Timestamp(START + timedelta(hours=6)))
    put(stack, readings.assign(flow_rate=readings["flow_rate"].mask(bad, -1.0)))
    run_cycle(stack, START + timedelta(hours=7))
    counted = table(database, "rejected_readings").sort_values("quarter_start")
    assert set(counted["node_id"]) == {"bad"}
    assert set(counted["reason"]) == {"flow_rate_negative"}
    assert counted["readings"].tolist() == [3, 3, 3, 3, 1]
    put(stack, readings)
    run_cycle(stack, START + timedelta(hours=7, minutes=30))
    assert table(database, "rejected_readings").empty


def test_as_many_nodes_as_a_chunk_may_hold_are_taken_in_together(stack: Settings, database: Engine):
    nodes = [f"n{number:03d}" for number in range(300)]
    put(stack, readings_of(nodes, days=0.25, minutes=60))
    job = run_cycle(stack, START + timedelta(days=1))
    assert (job["status"], job["error_message"]) == ("completed", None)
    assert table(database, "ingestion_watermarks")["last_of_each"].notna().sum() == len(nodes)
