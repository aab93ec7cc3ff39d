"""Jobs: the claim that gives a tick to one replica, completion, and who vouches for a job.

The database is the only truth about a job. A queue message merely says "look at this chunk", so a lost or a doubled
message does no harm.

Four instants belong to a job:

- `scheduled_for`: the tick it is for. One job of a type has it; that is how a tick goes to one replica.
- `created_at`: what the injected clock showed when the job was claimed: after `scheduled_for` where the tick is taken
  late, before it by microseconds where a job by hand had to evade another.
- `as_of`: the instant it stands for, see `instant_of`. What is known up to then is read, and computed from.
- `now`: what the injected clock shows when something is done to the job; `started_at` and `completed_at` are such.

`heartbeat_at` is none of these: it is the database's own clock, and shows who is alive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Engine, Row, Update, func, select, update
from sqlalchemy.dialects.postgresql import insert

from src.db import generation
from src.db.tables import processing_jobs

_jobs = processing_jobs.c
UNFINISHED = ("queued", "running")
# The job type of a processing cycle.
CYCLE = "processing_cycle"
# The job type of a re-reading by hand.
BACKFILL = "backfill"
# The job type of a training of models; each of its chunks is a pool of nodes.
TRAINING = "model_training"
# Those whose chunks lie in a queue that every replica takes from.
QUEUED_TYPES = (CYCLE, TRAINING)


def claim(
    database: Engine, job_type: str, job_name: str, scheduled_for: datetime, now: datetime, triggered_by: str
) -> UUID | None:
    """The job of this tick, running, if this caller is the first to ask for it; None for everybody else."""
    with database.begin() as connection:
        job_id: UUID | None = connection.scalar(
            insert(processing_jobs)
            .values(
                job_type=job_type,
                job_name=job_name,
                status="running",
                scheduled_for=scheduled_for,
                created_at=now,
                started_at=now,
                triggered_by=triggered_by,
                heartbeat_at=func.now(),
            )
            .on_conflict_do_nothing(constraint="processing_jobs_one_per_tick")
            .returning(_jobs.job_id)
        )
    return job_id


def claim_by_hand(database: Engine, job_type: str, job_name: str, now: datetime, triggered_by: str) -> UUID:
    """A job of nobody's timetable: always granted, at the first instant from `now` on that no job has taken."""
    instant = now
    while (job_id := claim(database, job_type, job_name, instant, now, triggered_by)) is None:
        instant += timedelta(microseconds=1)
    return job_id


def instant_of(job: Row[Any]) -> datetime:
    """The instant that a job stands for, however late it is worked on: its tick, or when it was requested by hand.

    Args:
        job: a row with the job's `scheduled_for` and `created_at`.
    """
    instant: datetime = min(job.scheduled_for, job.created_at)
    return instant


def another_running(database: Engine, job_type: str, other_than: UUID | None = None) -> UUID | None:
    """Another unfinished job of this type, if there is one."""
    query = select(_jobs.job_id).where(_jobs.job_type == job_type, _jobs.status.in_(UNFINISHED))
    if other_than is not None:
        query = query.where(_jobs.job_id != other_than)
    with database.connect() as connection:
        found: UUID | None = connection.scalar(query)
    return found


def unfinished(database: Engine) -> bool:
    """Whether any job that the services themselves began is waiting or running."""
    with database.connect() as connection:
        found = select(_jobs.job_id).where(_jobs.status.in_(UNFINISHED), _jobs.job_type != BACKFILL).limit(1)
        return connection.scalar(found) is not None


def latest(database: Engine, job_type: str, now: datetime, limit: int) -> Sequence[Row[Any, Any]]:
    """`status` and `created_at` of the latest jobs of a type, newest first; what was skipped was none.

    Args:
        now: jobs of a clock that ran ahead are left out.
    """
    query = select(_jobs.status, _jobs.created_at).where(
        _jobs.job_type == job_type, _jobs.created_at <= now, ~_jobs.result_summary.has_key("skipped")
    )
    with database.connect() as connection:
        return connection.execute(query.order_by(_jobs.created_at.desc()).limit(limit)).all()


def describe(database: Engine, job_id: UUID) -> dict[str, Any]:
    """The job's row."""
    with database.connect() as connection:
        row = connection.execute(select(processing_jobs).where(_jobs.job_id == job_id)).mappings().one()
    return {str(name): value for name, value in row.items()}


def end_job(
    connection: Connection, job_id: UUID, now: datetime, summary: Mapping[str, object], error: str | None, failed: bool
) -> bool:
    """Ends the job, with the sentence `error` if something went wrong; False if it had ended already.

    What the API shows changes with it, in the same transaction.
    """
    ended = connection.execute(
        update(processing_jobs)
        .where(_jobs.job_id == job_id, _jobs.status.in_(UNFINISHED))
        .values(
            status="failed" if failed else "completed",
            completed_at=now,
            duration_seconds=func.extract("epoch", now - _jobs.started_at),
            result_summary=dict(summary),
            error_message=error,
            progress_percentage=_jobs.progress_percentage if failed else 100.0,
        )
    )
    if ended.rowcount == 1:
        generation.advance(connection)
    return ended.rowcount == 1


def fail(database: Engine, job_id: UUID, now: datetime, reason: str) -> bool:
    """Ends the job as failed; what was found out before it failed stays. False if it had ended already."""
    with database.begin() as connection:
        found = connection.scalar(select(_jobs.result_summary).where(_jobs.job_id == job_id))
        return end_job(connection, job_id, now, found or {}, reason[:4000], failed=True)


def come_so_far(database: Engine, job_id: UUID, more: float) -> None:
    """Shows how far a running job has come in what it is at.

    Args:
        more: items that are as good as done, besides those that are; parts of them count.
    """
    items = _jobs.processed_items + _jobs.failed_items + more
    with database.begin() as connection:
        connection.execute(
            update(processing_jobs)
            .where(_jobs.job_id == job_id, _jobs.status == "running")
            .values(progress_percentage=100.0 * items / func.greatest(_jobs.total_items, 1))
        )


def beat(database: Engine, job_ids: Sequence[UUID]) -> None:
    """Records that these jobs are being worked on."""
    if job_ids:
        with database.begin() as connection:
            connection.execute(_vouch(_jobs.job_id.in_(job_ids)))


def take_silent(database: Engine, silence: timedelta) -> Sequence[tuple[UUID, str]]:
    """Running jobs that nobody has vouched for since `silence`, with their types; this caller vouches for them now.

    Of callers that ask at once, one gets each.
    """
    with database.begin() as connection:
        silent = _vouch(_jobs.heartbeat_at < func.now() - silence).returning(_jobs.job_id, _jobs.job_type)
        return [(row.job_id, row.job_type) for row in connection.execute(silent)]


def _vouch(which: ColumnElement[bool]) -> Update:
    # Whoever holds a job's row is alive, and must not be waited for.
    free = select(_jobs.job_id).where(which, _jobs.status == "running").with_for_update(skip_locked=True)
    return update(processing_jobs).where(_jobs.job_id.in_(free)).values(heartbeat_at=func.now())
