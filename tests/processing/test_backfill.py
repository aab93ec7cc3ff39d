"""Backfills: interrupted, gone on with beside services that see them silent, and refused where they cannot last."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from uuid import UUID

import orjson
import pandas as pd
import pytest
from sqlalchemy import Engine

from src.processing.backfill import backfill
from src.processing.ingest.plan import plan_backfill
from src.processing.jobs import records as jobs
from src.processing.jobs.runtime import Runtime, create_runtime
from src.processing.service.actors import Queue
from src.processing.service.rescue import INTERRUPTED_BACKFILL, rescue
from src.processing.service.work import work_off
from src.settings import Settings
from tests.system import START, metrics, put, readings_of, run, run_cycle, table
from tests.trouble import accepting, refusing, silenced

DAY = timedelta(days=1)
END = START + 6 * DAY


@pytest.fixture
def runtime(stack: Settings) -> Iterator[Runtime]:
    made = create_runtime(stack.model_copy(update={"chunk_readings": 600, "worker_threads": 1}))
    yield made
    made.database.dispose()
    made.redis.close()


def interrupted(runtime: Runtime) -> UUID:
    """A backfill of six days whose command ended after its first chunk, and which a service has seen silent."""
    now = runtime.clock.now()
    name = f"Backfill {START:%Y-%m-%dT%H:%MZ} - {END:%Y-%m-%dT%H:%MZ} of every node"
    job_id = jobs.claim_by_hand(runtime.database, jobs.BACKFILL, name, now, "test")
    plan_backfill(runtime, job_id, START, END, [], now)
    work_off(runtime, job_id, 0)
    silenced(runtime.database)
    rescue(runtime, Queue(runtime), timedelta(minutes=1))
    return job_id


def test_interrupted_beside_a_service_the_same_command_goes_on_where_it_stopped(
    stack: Settings, database: Engine, runtime: Runtime
):
    put(stack, readings_of(["a", "b", "c"], days=6, minutes=15))
    job_id = interrupted(runtime)
    job = jobs.describe(database, job_id)
    assert (job["status"], job["error_message"]) == ("failed", INTERRUPTED_BACKFILL)
    before = table(database, "job_chunks").set_index("chunk_number").sort_index()
    assert before["status"].tolist()[0] == "completed"
    assert set(before["status"].tolist()[1:]) == {"queued"}
    # Live cycles go on beside it, and do not take its hours for theirs.
    run_cycle(stack, stack.running_clock.now())
    assert backfill(runtime, START, END, []) == 0
    after = table(database, "job_chunks").query("job_id == @job_id").set_index("chunk_number").sort_index()
    assert after["completed_at"][0] == before["completed_at"][0]
    assert set(after["status"]) == {"completed"}
    job = jobs.describe(database, job_id)
    assert (job["status"], job["error_message"]) == ("completed", None)
    assert len(table(database, "processing_jobs").query("job_type == 'backfill'")) == 1
    assert metrics(database).query("time_window == '5min'")["reading_count"].sum() == 3 * 6 * 96


def test_where_the_database_takes_nothing_it_ends_and_goes_on_later(
    stack: Settings, database: Engine, runtime: Runtime, capsys: pytest.CaptureFixture[str]
):
    put(stack, readings_of(["a"], days=6, minutes=15))
    job_id = interrupted(runtime)
    refusing(database, "job_chunks", "53100", "UPDATE")
    with pytest.raises(Exception, match="no room"):
        backfill(runtime, START, END, [])
    accepting(database, "job_chunks")
    assert backfill(runtime, START, END, []) == 0
    assert orjson.loads(capsys.readouterr().out.splitlines()[-1])["job_id"] == str(job_id)


def test_a_backfill_moves_no_watermark(stack: Settings, database: Engine, runtime: Runtime):
    readings = readings_of(["a", "b"], days=6, minutes=60)
    readings["ingestion_timestamp"] = readings["timestamp"] + pd.Timedelta(minutes=1)
    put(stack, readings[readings["timestamp"] <= pd.Timestamp(START + 3 * DAY)])
    run_cycle(stack, START + 3 * DAY)
    before = table(database, "ingestion_watermarks")
    put(stack, readings)
    assert backfill(runtime, START, END, []) == 0
    pd.testing.assert_frame_equal(table(database, "ingestion_watermarks"), before)


def test_what_retention_would_delete_again_is_refused_with_both_ways_out(stack: Settings, database: Engine):
    put(stack, readings_of(["a"], days=6, minutes=60))
    span = ("--start", "2023-05-01", "--end", "2023-05-04")
    refused = run("src.processing.backfill", *span, settings=stack, retention_metrics_days=5)
    assert refused.returncode == 2
    assert "RETENTION_METRICS_DAYS=5" in refused.stderr
    assert "at least 10" in refused.stderr
    assert table(database, "processing_jobs").empty
    assert metrics(database).empty
    later = ("--start", "2023-05-05", "--end", "2023-05-06")
    done = run("src.processing.backfill", *later, settings=stack, retention_metrics_days=5)
    assert done.returncode == 0, done.stderr[-2000:]
    assert metrics(database)["window_start"].min() >= pd.Timestamp("2023-05-04T22:00Z")
