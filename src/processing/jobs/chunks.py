"""Chunks: the parts of a job that one worker thread works off, slice by slice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, Row, Update, case, delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from src.db.tables import ingestion_watermarks, job_chunks, processing_jobs
from src.domain.days import day_start
from src.domain.vouching import LAG_DAYS, LEAD_DAYS
from src.processing.warehouse.news import NodeNews
from src.processing.warehouse.reader import TooManyReadings

T = TypeVar("T")
_jobs, _chunks = processing_jobs.c, job_chunks.c
# A chunk that was begun so often without getting on is given up: it would fail, or kill its process, again.
MOST_ATTEMPTS = 5
# What a chunk is there for that is not read but concluded, of whatever job.
CONCLUSIONS = "conclusions"
# The warehouse takes this many names in one row restriction without complaint.
MOST_NODES = 1000

# Both columns together: a count belongs to its arrival. Chunks planned before it was counted have a bare instant.
_ARRIVED = text(
    f"UPDATE {ingestion_watermarks.fullname} AS mark "  # noqa: S608 - our own table's name
    "SET last_arrival = CAST(coalesce(new.value ->> 0, new.value #>> '{}') AS timestamptz), "
    "recent_rows = CAST(new.value ->> 1 AS bigint) "
    "FROM jsonb_each(CAST(:arrivals AS jsonb)) AS new WHERE mark.node_id = new.key AND ("
    "mark.last_arrival IS NULL "
    "OR mark.last_arrival <= CAST(coalesce(new.value ->> 0, new.value #>> '{}') AS timestamptz))"
)


@dataclass(frozen=True)
class Chunk:
    """Nodes to read together: the windows of the local days from `read_start` on, readings before `read_end`."""

    node_ids: list[str]
    read_start: datetime
    read_end: datetime
    expected_readings: int
    # node_id -> the latest arrival (ISO 8601) and how many rows arrived within the margin before it.
    latest_arrivals: dict[str, tuple[str, int]]
    # The pool that the nodes are, where a model is trained of them.
    scope: str | None = None
    # Which districts the nodes' rows are stored under, "" for rows without one; None where nobody knows.
    districts: list[str] | None = None


def plan(news: Sequence[NodeNews], end: datetime, most_readings: int, zone: ZoneInfo) -> list[Chunk]:
    """Nodes put together until a chunk holds about `most_readings`; a larger node stands alone.

    Only nodes whose reading begins on the same local day share a chunk: it is read from its earliest beginning on, of
    all its nodes. Nodes of one district stand together, for the warehouse keeps their rows together.

    Args:
        end: exclusive, of all chunks.
        zone: whose local days are meant.
    """
    groups: list[list[NodeNews]] = []
    held = 0
    begun: datetime | None = None
    days = [(day_start(node.read_from, zone), node.districts or (), node.node_id, node) for node in news]
    for day, _, _, node in sorted(days, key=lambda entry: entry[:3]):
        if day != begun or held + node.readings > most_readings or len(groups[-1]) == MOST_NODES:
            groups.append([])
            begun, held = day, 0
        groups[-1].append(node)
        held += node.readings
    return [_chunk(group, end) for group in groups]


def _chunk(group: Sequence[NodeNews], end: datetime) -> Chunk:
    known = all(node.districts is not None for node in group)
    return Chunk(
        [node.node_id for node in group],
        min(node.read_from for node in group),
        end,
        sum(node.readings for node in group),
        {node.node_id: (node.latest_arrival.isoformat(), node.recent_rows) for node in group if node.latest_arrival},
        districts=sorted({district for node in group for district in node.districts or ()}) if known else None,
    )


def slice_end(chunk: Row[Any], most_readings: int, zone: ZoneInfo) -> datetime:
    """Where the chunk's next slice ends: whole local days that should hold about `most_readings`, at least one.

    The days that are read around it count, too: those before are expected with the chunk's readings, and after a
    cycle's there are none. What is expected is a mean: where an earlier slice had to be shorter, this one is at most
    twice as long as that.
    """
    span = max((chunk.read_end - chunk.read_start) / timedelta(days=1), 1.0) + LEAD_DAYS
    fitting = int(most_readings / max(chunk.expected_readings / span, 1)) - LEAD_DAYS
    at_most = min(2 * chunk.result_summary.get("days", 36_500), 36_500)
    read_end: datetime = chunk.read_end
    if day_start(chunk.resume_from, zone, max(1, min(fitting, at_most))) >= read_end:
        return read_end
    return day_start(chunk.resume_from, zone, max(1, min(fitting - LAG_DAYS, at_most)))


def days_between(start: datetime, end: datetime) -> int:
    """Local days of a slice, the last of which need not be whole."""
    return max(1, round((end - start) / timedelta(days=1)))


def portions(
    read: Callable[[Sequence[str], datetime, int | None], T],
    node_ids: Sequence[str],
    start: datetime,
    end: datetime,
    most_readings: int,
    zone: ZoneInfo,
) -> Iterator[tuple[datetime, T]]:
    """A slice as it is read: where it holds more than expected, fewer days; where one day does, fewer nodes at once.

    Nothing that is read holds more than twice `most_readings`, but a single day of a single node.

    Args:
        read: reads nodes from `start` up to an instant; raises TooManyReadings where there are more than its limit.
        end: exclusive; a slice that turns out shorter ends on a local midnight before.

    Returns:
        What was read, of some nodes each, and where the slice ends: the same with each.
    """
    limit = 2 * most_readings
    while True:
        shorter = day_start(start, zone, max(1, days_between(start, end) // 2))
        try:
            yield end, read(node_ids, end, limit)
            return
        except TooManyReadings:
            if shorter >= end:
                break
            end = shorter
    rest = [list(node_ids)]
    while rest:
        part = rest.pop()
        half = len(part) // 2
        try:
            yield end, read(part, end, limit if half else None)
        except TooManyReadings:
            rest += [part[half:], part[:half]]


def add(database: Engine, job_id: UUID, chunks: Sequence[Chunk]) -> None:
    """Records what the job consists of, in place of an earlier attempt; its total is the number of nodes."""
    with database.begin() as connection:
        connection.execute(delete(job_chunks).where(_chunks.job_id == job_id))
        if chunks:
            connection.execute(
                insert(job_chunks),
                [
                    {"job_id": job_id, "chunk_number": number, "status": "queued", "resume_from": chunk.read_start}
                    | asdict(chunk)
                    for number, chunk in enumerate(chunks)
                ],
            )
        connection.execute(
            update(processing_jobs)
            .where(_jobs.job_id == job_id)
            .values(
                total_items=sum(len(chunk.node_ids) for chunk in chunks),
                data_start_time=min((chunk.read_start for chunk in chunks), default=None),
                data_end_time=max((chunk.read_end for chunk in chunks), default=None),
                heartbeat_at=func.now(),
            )
        )


def add_conclusions(
    connection: Connection, job_id: UUID, as_of: datetime, planned: Sequence[tuple[Sequence[str], Mapping[str, Any]]]
) -> None:
    """Adds chunks that are not read but concluded, after those that are; of each its nodes, and what is to be done."""
    first = connection.execute(
        select(func.coalesce(func.max(_chunks.chunk_number), -1)).where(_chunks.job_id == job_id)
    ).scalar_one()
    rows = [
        {
            "job_id": job_id,
            "chunk_number": number,
            "node_ids": list(node_ids),
            "read_start": as_of,
            "read_end": as_of,
            "resume_from": as_of,
            "expected_readings": 0,
            "latest_arrivals": {},
            "conclusions": dict(conclusions),
            "status": "queued",
        }
        for number, (node_ids, conclusions) in enumerate(planned, start=first + 1)
    ]
    connection.execute(insert(job_chunks), rows)


def of_conclusions(connection: Connection, job_id: UUID) -> Sequence[Row[Any]]:
    """The job's chunks that are concluded, in order; none where they are not planned yet."""
    query = select(job_chunks).where(_chunks.job_id == job_id, _chunks.conclusions.is_not(None))
    return connection.execute(query.order_by(_chunks.chunk_number)).all()


def purpose(database: Engine, job_id: UUID, chunk_number: int) -> str | None:
    """What the chunk is there for: `CONCLUSIONS`, or its job's type; None where there is no such chunk."""
    query = (
        select(case((_chunks.conclusions.is_not(None), CONCLUSIONS), else_=_jobs.job_type))
        .join_from(job_chunks, processing_jobs)
        .where(_chunks.job_id == job_id, _chunks.chunk_number == chunk_number)
    )
    with database.connect() as connection:
        found: str | None = connection.scalar(query)
    return found


def begin_conclusions(connection: Connection, job_id: UUID, chunk_number: int) -> Row[Any] | None:
    """The chunk, a beginning of which is counted by now; None where it is done, or its job has ended."""
    if (chunk := take(connection, job_id, chunk_number)) is None:
        return None
    connection.execute(_of(chunk).values(attempts=_chunks.attempts + 1))
    return chunk


def end_conclusions(
    database: Engine,
    job_id: UUID,
    chunk_number: int,
    now: datetime,
    replica: str,
    summary: Mapping[str, object],
    error: str | None,
) -> bool:
    """Marks a chunk concluded; True where no chunk of its job is left, for one caller at least."""
    with database.begin() as connection:
        _end(connection, job_id, chunk_number, now, replica, {"concluded": dict(summary)}, error)
    return not queued(database, job_id)


def queued(database: Engine, job_id: UUID) -> list[int]:
    """Numbers of the job's chunks that are not done."""
    with database.connect() as connection:
        query = select(_chunks.chunk_number).where(_chunks.job_id == job_id, _chunks.status == "queued")
        return list(connection.execute(query.order_by(_chunks.chunk_number)).scalars())


def count(database: Engine, job_id: UUID) -> int:
    """How many chunks the job was planned to consist of; 0 while it is being planned."""
    with database.connect() as connection:
        found: int = connection.execute(select(func.count()).where(_chunks.job_id == job_id)).scalar_one()
    return found


def begin(database: Engine, job_id: UUID, chunk_number: int) -> bool:
    """Counts a beginning of the chunk, committed before any of its work: a process that dies of it cannot count it.

    Returns:
        Whether it may be begun; False where it was too often already. What nobody may take is not counted.
    """
    with database.begin() as connection:
        chunk = take(connection, job_id, chunk_number)
        if chunk is None:
            return True
        if chunk.attempts >= MOST_ATTEMPTS:
            return False
        connection.execute(_of(chunk).values(attempts=_chunks.attempts + 1))
        return True


def hand_back(database: Engine, job_id: UUID, chunk_number: int) -> None:
    """Takes a beginning back: the chunk was left because the process ends, not because it failed."""
    with database.begin() as connection:
        if (chunk := take(connection, job_id, chunk_number)) is not None:
            connection.execute(_of(chunk).values(attempts=func.greatest(_chunks.attempts - 1, 0)))


def take(connection: Connection, job_id: UUID, chunk_number: int) -> Row[Any] | None:
    """The chunk, held until the transaction ends; None where it is done, given up, or in somebody else's hands."""
    return connection.execute(
        select(job_chunks, _jobs.job_type, _jobs.scheduled_for, _jobs.created_at)
        .join(processing_jobs)
        .where(
            _chunks.job_id == job_id,
            _chunks.chunk_number == chunk_number,
            _chunks.status == "queued",
            _jobs.status == "running",
        )
        .with_for_update(of=job_chunks, skip_locked=True)
    ).one_or_none()


def go_on(connection: Connection, chunk: Row[Any], resume_from: datetime, summary: Mapping[str, object]) -> None:
    """Records that everything of the chunk before `resume_from` is written, with the caller's transaction."""
    # What gets on is not begun in vain.
    connection.execute(_of(chunk).values(resume_from=resume_from, result_summary=dict(summary), attempts=0))


def _of(chunk: Row[Any]) -> Update:
    return update(job_chunks).where(_chunks.job_id == chunk.job_id, _chunks.chunk_number == chunk.chunk_number)


def _end(
    connection: Connection,
    job_id: UUID,
    chunk_number: int,
    now: datetime,
    replica: str,
    summary: Mapping[str, object],
    error: str | None,
) -> Row[Any] | None:
    """Marks a chunk completed, or (where something went wrong) failed; its nodes and arrivals, None where it was."""
    return connection.execute(
        update(job_chunks)
        .where(_chunks.job_id == job_id, _chunks.chunk_number == chunk_number, _chunks.status == "queued")
        .values(
            status="failed" if error else "completed",
            replica=replica,
            completed_at=now,
            result_summary=dict(summary),
            error_message=error,
        )
        .returning(_chunks.node_ids, _chunks.latest_arrivals)
    ).one_or_none()


def end(
    connection: Connection,
    job_id: UUID,
    chunk_number: int,
    now: datetime,
    replica: str,
    summary: Mapping[str, object],
    failures: Mapping[str, str],
) -> bool:
    """Marks a chunk done, completed or (where some of its nodes have a failure) failed, and moves the job's progress.

    The nodes without a failure are now known up to their latest arrival.

    Returns:
        True for exactly one caller: the one that ended the job's last chunk.
    """
    # The job's row serialises its chunks' endings, so that one of them, and only one, sees itself as the last.
    connection.execute(select(_jobs.job_id).where(_jobs.job_id == job_id).with_for_update())
    error = "; ".join(f"{node_id}: {reason}" for node_id, reason in failures.items()) or None
    ended = _end(connection, job_id, chunk_number, now, replica, summary, error)
    if ended is None:
        return False
    arrivals = {node_id: at for node_id, at in ended.latest_arrivals.items() if node_id not in failures}
    connection.execute(_ARRIVED, {"arrivals": json.dumps(arrivals)})
    done = _jobs.processed_items + _jobs.failed_items + len(ended.node_ids)
    connection.execute(
        update(processing_jobs)
        .where(_jobs.job_id == job_id)
        .values(
            processed_items=_jobs.processed_items + len(ended.node_ids) - len(failures),
            failed_items=_jobs.failed_items + len(failures),
            progress_percentage=100.0 * done / func.greatest(_jobs.total_items, 1),
            heartbeat_at=func.now(),
        )
    )
    unfinished = select(func.count()).where(_chunks.job_id == job_id, _chunks.status == "queued")
    return connection.scalar(unfinished) == 0
