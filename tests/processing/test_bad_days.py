"""Days on which clocks, loaders, Redis or BigQuery go wrong: what is true is found all the same, what is not is not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from sqlalchemy import Engine, text

from src.clock import LiveClock
from src.processing.backfill import backfill
from src.processing.conclusions import conclude
from src.processing.conclusions.anomalies import judge_anomalies
from src.processing.conclusions.conclude import STEPS
from src.processing.conclusions.extent import Extent
from src.processing.conclusions.share import Share, shares_of
from src.processing.ingest.plan import plan_backfill
from src.processing.jobs import chunks
from src.processing.jobs import records as jobs
from src.processing.jobs.runtime import Runtime, create_runtime
from src.processing.service import finish, work
from src.processing.service.ahead import clock_problem
from src.processing.service.heartbeat import Heartbeat
from src.processing.service.work import work_off
from src.processing.warehouse import news
from src.processing.warehouse.client import WarehouseError
from src.settings import Settings
from tests.processing.test_conclusions import DAY, HOUR, events, ingested
from tests.system import START, eventually, metrics, put, readings_of, run_cycle, silent, table
from tests.trouble import silenced

pytestmark = pytest.mark.usefixtures("short_pauses")


@pytest.fixture
def hanging_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(50)
        yield listening.getsockname()[1]


def until(readings: pd.DataFrame, instant: datetime) -> pd.DataFrame:
    return readings[readings["timestamp"] <= pd.Timestamp(instant)]


def test_a_redis_that_hangs_makes_no_job_appear_dead(stack: Settings, database: Engine, hanging_port: int):
    hung = create_runtime(stack.model_copy(update={"redis_port": hanging_port, "replica_timeout_seconds": 2}))
    job_id = jobs.claim_by_hand(database, jobs.BACKFILL, "backfill", START, "test")
    seen: set[datetime] = set()
    heartbeat = Heartbeat(hung, None)
    with hung.busy_with(job_id):
        heartbeat.start()

        def beaten() -> bool:
            seen.add(jobs.describe(database, job_id)["heartbeat_at"])
            return len(seen) > 4

        eventually(beaten, seconds=20)
    heartbeat.stop()
    hung.database.dispose()


def test_what_a_clock_that_ran_ahead_has_done_is_forgotten_when_it_is_put_right(stack: Settings, database: Engine):
    readings = readings_of(["n1", "n2"], days=20, minutes=60)
    put(stack, until(readings, START + 9 * DAY + HOUR))
    run_cycle(stack, START + 9 * DAY)
    ahead = START + 39 * DAY
    run_cycle(stack, ahead)
    assert events(database, "silent")["resolved_at"].isna().any()
    put(stack, until(readings, START + 12 * DAY))
    job = run_cycle(stack, START + 12 * DAY)
    assert job["error_message"] is None
    assert job["result_summary"]["readings"] > 0
    assert events(database)["resolved_at"].notna().all()
    # Habits of a week that had not been seen are learned anew from what was.
    put(stack, readings)
    run_cycle(stack, START + 19 * DAY)

    def habits() -> pd.DataFrame:
        learned = table(database, "node_habits").drop(columns="habits")
        week = learned[learned["valid_from"] == pd.Timestamp("2023-05-14T22:00Z")]
        return week.sort_values(["node_id", "measurement"], ignore_index=True)

    relearned = habits()
    with database.begin() as connection:
        for name in ("computed_metrics", "ingestion_watermarks", "node_habits", "anomalies", "processing_jobs"):
            connection.execute(text(f"TRUNCATE water_infrastructure.{name} CASCADE"))
    run_cycle(stack, START + 19 * DAY)
    pd.testing.assert_frame_equal(relearned, habits())
    assert len(relearned)


def test_a_machine_whose_clock_is_ahead_of_the_databases_does_nothing_in_its_name(
    stack: Settings, monkeypatch: pytest.MonkeyPatch
):
    runtime = create_runtime(stack.model_copy(update={"clock": "live"}))
    assert clock_problem(runtime) is None
    now = LiveClock().now
    monkeypatch.setattr(LiveClock, "now", lambda self: now() + timedelta(days=30))
    assert "43200 minutes ahead" in (clock_problem(runtime) or "")
    runtime.database.dispose()


def test_nodes_whose_past_cannot_be_looked_up_keep_nobody_waiting(
    stack: Settings, database: Engine, monkeypatch: pytest.MonkeyPatch
):
    settings = stack.model_copy(update={"late_arrival_lookback_days": 1})
    readings = readings_of(["n1", "n2"], days=5, minutes=60)
    put(settings, until(readings, START + 3 * DAY))
    run_cycle(settings, START + 3 * DAY)
    put(settings, pd.concat([readings, readings_of(["new"], days=5, minutes=60)]))

    def refused(*arguments: object) -> None:
        raise WarehouseError("BigQuery would bill 9 bytes")

    with monkeypatch.context() as context:
        context.setattr(news, "count_past", refused)
        job = run_cycle(settings, START + 4 * DAY)
    assert (job["status"], job["total_items"]) == ("completed", 2)
    assert job["error_message"] == "1 nodes with an unknown past were left out: BigQuery would bill 9 bytes"
    assert run_cycle(settings, START + 4 * DAY + HOUR)["result_summary"]["nodes_registered"] == ["new"]


def test_a_stamp_in_the_future_hides_no_late_row(stack: Settings, database: Engine):
    now = START + 4 * DAY
    readings = readings_of(["n1"], days=6, minutes=15)
    late = readings["timestamp"].between(START + 2 * DAY, START + 2 * DAY + 6 * HOUR)
    arrival = readings["timestamp"].where(readings["timestamp"] != now - HOUR, pd.Timestamp(now + DAY))
    stamped = readings.assign(ingestion_timestamp=arrival.where(~late, pd.Timestamp(now + HOUR)))
    put(stack, until(stamped[~late], now))
    run_cycle(stack, now)
    for hours in (2, 9, 26):
        put(stack, until(stamped, now + hours * HOUR))
        run_cycle(stack, now + hours * HOUR)
    hourly = metrics(database).query("time_window == '1hour'")
    assert len(hourly) == (4 * DAY + 27 * HOUR) / HOUR


def test_a_loader_that_stamps_the_year_one_stops_nobody(stack: Settings, database: Engine):
    readings = readings_of(["n1", "n2"], days=2, minutes=15)
    stamp = readings["timestamp"].where(readings["node_id"] == "n1", pd.Timestamp("1970-01-01", tz="UTC"))
    put(stack, readings.assign(ingestion_timestamp=stamp))
    for tick in range(2):
        assert run_cycle(stack, START + DAY + tick * HOUR)["error_message"] is None
    assert set(table(database, "ingestion_watermarks")["last_reading"]) == {pd.Timestamp(START + DAY + HOUR)}


def everything(database: Engine) -> Share:
    """The one share that a small network is."""
    with database.connect() as connection:
        [share] = shares_of(connection)
    return share


def test_what_balances_say_later_is_judged_later(stack: Settings, database: Engine, monkeypatch: pytest.MonkeyPatch):
    real, drawn = dict(STEPS), []

    def balances(runtime: Runtime, share: Share, extent: Extent, as_of: datetime) -> Iterator[Any]:
        drawn.append(("balances", extent.first))
        if len(drawn) == 1:
            raise ValueError("no luck")
        yield from real["balances"](runtime, share, extent, as_of)

    def anomalies(runtime: Runtime, share: Share, extent: Extent, as_of: datetime) -> Iterator[Any]:
        drawn.append(("anomalies", extent.first))
        yield from real["anomalies"](runtime, share, extent, as_of)

    monkeypatch.setattr(conclude, "STEPS", real | {"balances": balances, "anomalies": anomalies})
    put(stack, readings_of(["n1", "n2"], days=9, minutes=60))
    run_cycle(stack, START + 8 * DAY)
    drawn_before = len(drawn)
    run_cycle(stack, START + 8 * DAY + HOUR)
    assert {name for name, first in drawn[drawn_before:] if first <= START} == {"balances", "anomalies"}
    drawn.clear()
    drawn.append(("", START))
    run_cycle(stack, START + 8 * DAY + 2 * HOUR)
    assert all(first > START + 6 * DAY for _, first in drawn[1:])


def test_an_open_event_is_shown_open_while_its_past_is_judged_again(
    stack: Settings, database: Engine, runtime: Runtime
):
    put(stack, silent(readings_of(["n1", "n2"], days=18, minutes=60), "n2", START + 2 * DAY, START + 99 * DAY))
    run_cycle(stack, START + 17 * DAY)
    before = events(database, "silent")
    assert before["resolved_at"].isna().all()
    parts = 0
    for _ in judge_anomalies(runtime, everything(database), Extent(START + 3 * DAY), START + 17 * DAY):
        parts += 1
        shown = events(database, "silent")
        assert (shown["resolved_at"].isna() & shown["end"].isna()).all()
    assert parts > 1
    pd.testing.assert_frame_equal(events(database, "silent"), before)


def test_conclusions_that_end_their_process_are_drawn_of_the_last_day_and_their_past_is_left_alone_for_a_while(
    stack: Settings, database: Engine
):
    as_of = START + 8 * DAY

    def at(instant: datetime) -> Settings:
        return stack.model_copy(update={"clock": f"frozen:{instant.isoformat()}"})

    put(stack, silent(readings_of(["n1", "n2"], days=9, minutes=60), "n2", as_of - 6 * HOUR, START + 99 * DAY))
    runtime = create_runtime(at(as_of))
    job_id = ingested(runtime, as_of)
    finish._plan(runtime, job_id, as_of, jobs.CYCLE)
    with database.begin() as connection:
        [chunk] = chunks.of_conclusions(connection, job_id)
        for _ in range(conclude.MOST_ATTEMPTS):
            chunks.begin_conclusions(connection, job_id, chunk.chunk_number)
    finish.finish(runtime, job_id)
    runtime.database.dispose()
    job = jobs.describe(database, job_id)
    assert "each time the process ended" in job["error_message"]
    assert events(database, "silent")["resolved_at"].isna().all()
    left = job["result_summary"]["not_concluded"]["anomalies"]
    assert left["given_up"] == 1
    assert min(left["nodes"].values()) <= START.isoformat()
    # Soon after, nobody touches it; later somebody does.
    assert run_cycle(at(as_of + HOUR), as_of + HOUR)["error_message"] is None
    assert "not_concluded" in jobs.describe(database, job_id)["result_summary"]
    assert run_cycle(at(as_of + 4 * HOUR), as_of + 4 * HOUR)["error_message"] is None
    for job in table(database, "processing_jobs").to_dict("records"):
        assert "not_concluded" not in job["result_summary"]


def test_what_takes_too_long_is_left_to_the_next_cycles_part_by_part(runtime: Runtime, stack: Settings):
    put(stack, readings_of(["n1", "n2"], days=30, minutes=60))
    run_cycle(stack, START + 29 * DAY)
    share = everything(runtime.database)
    drawing = conclude._Drawing(runtime, judge_anomalies, share, START + 29 * DAY, deadline=0)
    drawing.draw(Extent(START))
    assert drawing.error is None
    assert drawing.left is not None
    assert START + 5 * DAY < drawing.left.first < START + 8 * DAY


def test_a_backfill_waits_for_a_warehouse_that_does_not_answer(
    stack: Settings, database: Engine, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
):
    put(stack, readings_of(["n1", "n2"], days=3, minutes=60))
    run_cycle(stack, START + 3 * DAY)

    def away(*arguments: object, **bounds: object) -> None:
        raise WarehouseError("BigQuery did not answer")

    with monkeypatch.context() as context:
        context.setattr(work, "read_span", away)
        assert backfill(runtime, START, START + 2 * DAY, []) == 1
    [job] = table(database, "processing_jobs").query("job_type == 'backfill'").to_dict("records")
    assert job["status"] == "failed"
    assert "the same command goes on" in job["error_message"]
    assert backfill(runtime, START, START + 2 * DAY, []) == 0
    [job] = table(database, "processing_jobs").query("job_type == 'backfill'").to_dict("records")
    assert (job["status"], job["failed_items"], job["result_summary"]["readings"] > 0) == ("completed", 0, True)


def test_what_an_abandoned_backfill_has_written_is_concluded_by_a_cycle(
    stack: Settings, database: Engine, runtime: Runtime
):
    readings = readings_of(["n1", "n2"], days=6, minutes=60)
    put(stack, readings)
    run_cycle(stack, START + 6 * DAY)
    assert events(database, "silent").empty
    put(stack, silent(readings, "n2", START + DAY, START + 3 * DAY))
    job_id = jobs.claim_by_hand(database, jobs.BACKFILL, "backfill", START + 6 * DAY, "test")
    for number in plan_backfill(runtime, job_id, START, START + 4 * DAY, [], START + 6 * DAY):
        work_off(runtime, job_id, number)
    jobs.fail(database, job_id, START + 6 * DAY, "interrupted")
    run_cycle(stack, START + 6 * DAY + HOUR)
    assert events(database, "silent").empty
    silenced(database)
    run_cycle(stack, START + 6 * DAY + 2 * HOUR)
    assert events(database, "silent")["timestamp"].tolist() == [START + DAY]


def test_the_events_of_a_node_that_is_no_longer_active_are_over(stack: Settings, database: Engine):
    put(stack, silent(readings_of(["n1", "n2"], days=6, minutes=60), "n2", START + 3 * DAY, START + 99 * DAY))
    run_cycle(stack, START + 5 * DAY)
    assert events(database, "silent")["resolved_at"].isna().all()
    with database.begin() as connection:
        connection.execute(text("UPDATE water_infrastructure.nodes SET is_active = false WHERE node_id = 'n2'"))
    run_cycle(stack, START + 5 * DAY + HOUR)
    assert events(database, "silent")["resolved_at"].tolist() == [START + 5 * DAY + HOUR]
