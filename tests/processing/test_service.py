"""The processing service as processes: killed, run three at a time, ended by a signal."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import orjson
import pandas as pd
from sqlalchemy import Engine, text

from src.processing.jobs import chunks
from src.processing.jobs.runtime import create_runtime
from src.processing.service.actors import Queue
from src.processing.service.replay import replay
from src.processing.service.timetable import Entry, Every
from src.processing.warehouse.news import NodeNews
from src.settings import Settings
from tests.system import START, eventually, metrics, once, process, put, readings_of, run, run_cycle, table

SERVICE = "src.processing.service.main"


def emptied(database: Engine) -> None:
    with database.begin() as connection:
        for name in ("computed_metrics", "ingestion_watermarks", "nodes", "processing_jobs", "job_chunks"):
            connection.execute(text(f"TRUNCATE water_infrastructure.{name} CASCADE"))


def watermarks(database: Engine) -> pd.DataFrame:
    return table(database, "ingestion_watermarks").sort_values("node_id", ignore_index=True).drop(columns="updated_at")


def test_killed_twice_in_the_middle_it_leaves_the_rows_of_an_undisturbed_run(stack: Settings, database: Engine):
    put(stack, readings_of([f"n{k}" for k in range(12)], days=8))
    run_cycle(stack, stack.running_clock.now())
    undisturbed, marks = metrics(database), watermarks(database)
    assert len(undisturbed) == 12 * (8 * 288 + 8 * 24 + 9)
    emptied(database)

    settings = stack.model_copy(update={"chunk_readings": 1250, "replica_timeout_seconds": 2})
    quick = {"chunk_readings": 1250, "replica_timeout_seconds": 2}
    for kill in (1, 2):
        with process(SERVICE, "--once", settings=settings, **quick) as service:
            eventually(lambda kill=kill: (table(database, "job_chunks")["status"] == "completed").sum() >= 3 * kill)
            service.send_signal(signal.SIGKILL)
            service.wait()
    assert len(metrics(database)) < len(undisturbed)
    last = once(settings, **quick)
    assert last.returncode == 0, last.stderr[-2000:]
    pd.testing.assert_frame_equal(metrics(database), undisturbed, check_exact=True)
    pd.testing.assert_frame_equal(watermarks(database), marks)
    assert set(table(database, "processing_jobs")["status"]) <= {"completed", "failed"}


def test_three_services_share_ten_ticks_and_each_is_processed_exactly_once(stack: Settings, database: Engine):
    nodes = [f"n{k}" for k in range(6)]
    begin = START + timedelta(hours=1)
    put(stack, readings_of(nodes, days=2))
    # Five minutes pass in three seconds; two days are readings for more ticks than the slowest machine needs.
    clock = f"ticking:{begin.isoformat()}@{datetime.now(UTC).isoformat()}*100"
    changed = {"clock": clock, "check_interval_minutes": 5, "chunk_readings": 2}

    def ended() -> pd.DataFrame:
        jobs = table(database, "processing_jobs")
        worked = jobs["result_summary"].map(lambda summary: summary.get("readings", 0) > 0)
        return jobs[(jobs["status"] == "completed") & worked]

    with (
        process(SERVICE, settings=stack, **changed) as one,
        process(SERVICE, settings=stack, **changed) as two,
        process(SERVICE, settings=stack, **changed) as three,
    ):
        eventually(lambda: len(ended()) >= 10, seconds=300)
        for service in (one, two, three):
            service.send_signal(signal.SIGTERM)
        for service in (one, two, three):
            assert service.wait(30) == 0
    jobs = table(database, "processing_jobs").query("job_type == 'processing_cycle'")
    assert jobs["scheduled_for"].is_unique
    parts = table(database, "job_chunks")
    assert not parts.duplicated(["job_id", "chunk_number"]).any()
    assert parts.loc[parts["status"] == "completed", "replica"].nunique() == 3
    # The rows are those of one cycle that sees everything up to the last tick.
    last = table(database, "ingestion_watermarks")["updated_at"].max().to_pydatetime()
    # The tick that was under way at the end may have reached some nodes only: those it did not are made up for.
    run_cycle(stack, last)
    shared = metrics(database)
    emptied(database)
    run_cycle(stack, last)
    pd.testing.assert_frame_equal(metrics(database), shared, check_exact=True)


def test_a_signal_that_another_thread_gets_ends_it_as_well(stack: Settings, database: Engine):
    put(stack, readings_of(["n"], days=1))
    with process(SERVICE, settings=stack) as service:
        eventually(lambda: "completed" in table(database, "processing_jobs")["status"].tolist())
        other = next(int(tid) for tid in os.listdir(f"/proc/{service.pid}/task") if int(tid) != service.pid)
        assert ctypes.CDLL(None).tgkill(service.pid, other, int(signal.SIGTERM)) == 0
        assert service.wait(30) == 0


def test_when_it_must_end_it_hands_its_chunk_back_and_another_goes_on(stack: Settings, database: Engine):
    put(stack, readings_of(["n"], days=30, minutes=1))
    settings = stack.model_copy(update={"retention_metrics_days": 36500})
    changed = {"chunk_readings": 3000, "retention_metrics_days": 36500, "replica_timeout_seconds": 60}

    def resumed() -> pd.Timestamp | None:
        parts = table(database, "job_chunks").sort_values("chunk_number")
        return parts["resume_from"].iloc[0] if len(parts) else None

    with process(SERVICE, settings=settings, clock="frozen:2023-07-10T00:00:00Z", **changed) as first:
        eventually(lambda: (at := resumed()) is not None and at > pd.Timestamp(START + timedelta(days=3)))
        first.send_signal(signal.SIGTERM)
        assert first.wait(120) == 0
    handed_back = resumed()
    assert handed_back < pd.Timestamp(START + timedelta(days=30))
    with process(SERVICE, settings=settings, clock="frozen:2023-07-10T00:00:00Z", **changed):
        eventually(lambda: "completed" in table(database, "processing_jobs")["status"].tolist())
    assert len(table(database, "processing_jobs")) == 1
    assert metrics(database).query("time_window == '5min'")["reading_count"].sum() == 30 * 1440


def test_what_the_warehouse_refuses_stands_in_the_job_and_the_next_tick_makes_up_for_it(
    stack: Settings, database: Engine
):
    put(stack, readings_of(["n"], days=1))
    refused = once(stack, bigquery_table="nowhere")
    assert refused.returncode == 1
    job = orjson.loads(refused.stdout.splitlines()[-1])
    assert job["status"] == "failed"
    assert "nowhere does not exist" in job["error_message"]
    assert table(database, "ingestion_watermarks").empty
    assert once(stack).returncode == 0
    assert len(table(database, "ingestion_watermarks")) == 1


def test_a_wrong_setting_ends_it_with_one_line(stack: Settings):
    ended = once(stack, bigquery_project_id="")
    assert ended.returncode == 2
    assert ended.stderr.strip().splitlines() == [
        "Setting BIGQUERY_PROJECT_ID is missing: the Google Cloud project of the readings' table."
    ]


def test_without_its_schema_it_says_what_to_run(stack: Settings):
    ended = once(stack, postgres_db="postgres")
    assert ended.returncode == 1
    assert "run python -m src.db.migrate" in ended.stderr


def test_chunks_hold_about_what_they_may_and_every_node_once():
    news = [NodeNews(f"n{k}", START, readings, None) for k, readings in enumerate([10, 80, 30, 200, 5, 5])]
    planned = chunks.plan(news, START + timedelta(days=1), 100, ZoneInfo("Europe/Rome"))
    assert [chunk.node_ids for chunk in planned] == [["n0", "n1"], ["n2"], ["n3"], ["n4", "n5"]]


def test_a_replay_ended_and_taken_up_again_leaves_what_one_that_was_not_leaves(stack: Settings, database: Engine):
    begin, end = START + timedelta(days=1), START + timedelta(days=1, hours=8)
    put(stack, readings_of(["n1", "n2"], days=2, minutes=15))

    def replayed(clock: datetime, until: datetime) -> None:
        changed = {"clock": f"stepped:{clock.isoformat()}", "check_interval_minutes": 240}
        done = run(SERVICE, "--until", until.isoformat(), settings=stack, **changed)
        assert done.returncode == 0, done.stderr[-2000:]

    replayed(begin, end)
    jobs = table(database, "processing_jobs")
    of_type = jobs.groupby("job_type")["scheduled_for"].apply(sorted)
    assert of_type["processing_cycle"] == list(pd.date_range(begin, end, freq="4h"))
    assert len(of_type["model_review"]) == 9
    assert len(of_type["retention"]) == 1
    assert set(jobs["status"]) == {"completed"}
    undisturbed, marks = metrics(database), watermarks(database)
    emptied(database)

    replayed(begin, begin + timedelta(hours=5))
    replayed(begin + timedelta(hours=4), end)
    pd.testing.assert_frame_equal(metrics(database), undisturbed, check_exact=True)
    pd.testing.assert_frame_equal(watermarks(database), marks)
    assert len(table(database, "processing_jobs")) == len(jobs)


def test_a_replay_that_must_end_leaves_its_clock_where_work_may_still_be_ending(stack: Settings, database: Engine):
    settings = stack.model_copy(update={"clock": f"stepped:{START.isoformat()}"})
    runtime = create_runtime(settings)
    timetable = [Entry("asked to end", Every(timedelta(hours=1)), lambda _: runtime.stopping.set())]
    assert replay(runtime, Queue(runtime), timetable, START + timedelta(days=1)) == 1
    assert runtime.clock.now() == START


def test_a_replay_needs_a_clock_that_can_be_moved(stack: Settings):
    refused = run(SERVICE, "--until", "2023-05-02T00:00:00Z", settings=stack)
    assert refused.returncode == 2
    assert "--until goes with CLOCK=stepped:" in refused.stderr


def test_what_goes_on_for_long_collects_garbage_as_python_usually_does():
    # A process of its own: this one goes on collecting as it did.
    program = """
import gc, weakref, src
class Row: pass
def alive():
    made = []
    for _ in range(3000):
        row = Row()
        row.itself = row
        made.append(weakref.ref(row))
    return sum(ref() is not None for ref in made)
print(alive())
src.collect_as_usual()
print(alive(), gc.get_freeze_count() > 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    before, after, frozen = done.stdout.split()
    assert int(before) == 3000
    assert int(after) < 1000
    assert frozen == "True"
