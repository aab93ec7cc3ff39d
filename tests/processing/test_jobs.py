"""Jobs in a real database, asked by many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pandas as pd
from sqlalchemy import Engine, text

from src.db.tables import SCHEMA
from src.processing import chunks, jobs

NOW = datetime(2023, 5, 1, 12, tzinfo=UTC)


def claimed(database: Engine, at: datetime = NOW) -> UUID | None:
    return jobs.claim(database, "cycle", "cycle", at, at, "scheduler")


def with_chunks(database: Engine, count: int) -> UUID:
    job_id = claimed(database)
    assert job_id is not None
    planned = [chunks.Chunk([f"a{n}", f"b{n}"], NOW, NOW + timedelta(hours=1), 10, {}) for n in range(count)]
    chunks.add(database, job_id, planned)
    return job_id


def ended(database: Engine, job_id: UUID, number: int, failures: dict[str, str] | None = None) -> bool:
    with database.begin() as connection:
        return chunks.end(connection, job_id, number, NOW, "replica", {"readings": 1}, failures or {})


def job(database: Engine, job_id: UUID) -> dict:
    with database.connect() as connection:
        rows = pd.read_sql_table("processing_jobs", connection, SCHEMA)
    return rows[rows["job_id"].astype(str) == str(job_id)].iloc[0].to_dict()


def test_of_many_replicas_one_gets_the_tick(database: Engine):
    with ThreadPoolExecutor(8) as replicas:
        ticks = [NOW + timedelta(minutes=30 * tick) for tick in range(5)]
        winners = list(replicas.map(lambda at: claimed(database, at), ticks * 8))
    assert sum(winner is not None for winner in winners) == 5


def test_exactly_one_chunk_is_the_last_however_often_each_is_delivered(database: Engine):
    job_id = with_chunks(database, 12)
    with ThreadPoolExecutor(6) as workers:
        last = list(workers.map(lambda number: ended(database, job_id, number % 12), range(36)))
    assert sum(last) == 1
    row = job(database, job_id)
    assert (row["total_items"], row["processed_items"], row["progress_percentage"]) == (24, 24, 100)


def test_a_failed_node_is_counted_and_named(database: Engine):
    job_id = with_chunks(database, 1)
    assert ended(database, job_id, 0, {"a0": "no such thing"})
    row = job(database, job_id)
    assert (row["processed_items"], row["failed_items"]) == (1, 1)
    with database.begin() as connection:
        assert jobs.end_job(connection, job_id, NOW + timedelta(seconds=90), {}, "1 of 2 nodes failed", failed=True)
        assert not jobs.end_job(connection, job_id, NOW, {}, None, failed=False)
    row = job(database, job_id)
    assert (row["status"], row["duration_seconds"], row["error_message"]) == ("failed", 90, "1 of 2 nodes failed")


def test_a_job_nobody_works_on_is_given_up_and_one_that_beats_is_not(database: Engine):
    dead, alive = with_chunks(database, 1), claimed(database, NOW + timedelta(minutes=30))
    assert alive is not None
    with database.begin() as connection:
        connection.execute(
            text("UPDATE water_infrastructure.processing_jobs SET heartbeat_at = now() - interval '1 h'")
        )
    jobs.beat(database, [alive])
    assert jobs.reap(database, NOW, timedelta(minutes=1)) == [dead]
    assert job(database, dead)["status"] == "failed"
    assert job(database, alive)["status"] == "running"
    assert not ended(database, dead, 0)
