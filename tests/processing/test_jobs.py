"""Jobs in a real database, claimed by many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pandas as pd
from sqlalchemy import Engine, text

from src.db.tables import SCHEMA
from src.processing.jobs import chunks
from src.processing.jobs import records as jobs

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


def test_progress_counts_whatever_became_of_a_node_and_ends_at_a_hundred(database: Engine):
    job_id, seen = with_chunks(database, 4), []
    for number, failures in enumerate([{"a0": "bad", "b0": "bad"}, {}, {"a2": "bad"}]):
        ended(database, job_id, number, failures)
        seen.append(job(database, job_id)["progress_percentage"])
    assert seen == [25, 50, 75]
    with database.begin() as connection:
        jobs.end_job(connection, job_id, NOW, {}, None, failed=False)
    assert job(database, job_id)["progress_percentage"] == 100


def silenced(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(
            text("UPDATE water_infrastructure.processing_jobs SET heartbeat_at = now() - interval '1 h'")
        )


def test_a_silent_job_is_taken_up_by_one_and_one_that_beats_by_none(database: Engine):
    silent, alive = with_chunks(database, 1), claimed(database, NOW + timedelta(minutes=30))
    assert alive is not None
    silenced(database)
    jobs.beat(database, [alive])
    with ThreadPoolExecutor(4) as replicas:
        taken = list(replicas.map(lambda _: jobs.take_silent(database, timedelta(minutes=1)), range(8)))
    assert [job_id for found in taken for job_id, _ in found] == [silent]
    assert jobs.take_silent(database, timedelta(minutes=1)) == []


def test_a_job_whose_row_is_held_is_waited_for_by_nobody(database: Engine):
    held = claimed(database)
    assert held is not None
    silenced(database)
    with database.begin() as connection:
        connection.execute(text("SELECT FROM water_infrastructure.processing_jobs FOR UPDATE"))
        assert jobs.take_silent(database, timedelta(minutes=1)) == []
        jobs.beat(database, [held])


def test_a_skipped_tick_hides_no_failure(database: Engine):
    failed, skipped = claimed(database), claimed(database, NOW + timedelta(minutes=30))
    assert failed is not None
    assert skipped is not None
    with database.begin() as connection:
        jobs.end_job(connection, failed, NOW, {}, "no", failed=True)
        jobs.end_job(connection, skipped, NOW, {"skipped": "another is running"}, None, failed=False)
    assert [row.status for row in jobs.latest(database, "cycle", NOW, 12)] == ["failed"]


def test_a_chunk_is_begun_a_few_times_in_vain_and_as_often_as_it_gets_on(database: Engine):
    job_id = with_chunks(database, 1)
    assert [chunks.begin(database, job_id, 0) for _ in range(6)] == [True] * 5 + [False]
    chunks.hand_back(database, job_id, 0)
    assert chunks.begin(database, job_id, 0)
    for _ in range(20):
        with database.begin() as connection:
            chunk = chunks.take(connection, job_id, 0)
            assert chunk is not None
            chunks.go_on(connection, chunk, NOW, {})
        assert chunks.begin(database, job_id, 0)
