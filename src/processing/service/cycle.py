"""A processing cycle from its tick to its last chunk in the queue."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import redis

from src.observability import logger
from src.processing.ingest.plan import plan_cycle
from src.processing.jobs import records as jobs
from src.processing.jobs.measures import observe_job
from src.processing.jobs.patience import patiently
from src.processing.jobs.runtime import Runtime
from src.processing.service.actors import Queue
from src.processing.service.finish import finish
from src.processing.warehouse.client import WarehouseError


def run_tick(runtime: Runtime, queue: Queue, as_of: datetime) -> None:
    """The cycle of a tick, if no other replica has it. While an earlier cycle is running, the next tick takes it in."""
    name = f"Processing cycle {as_of:%Y-%m-%d %H:%M}"
    now = runtime.clock.now()
    job_id = patiently(
        runtime, lambda: jobs.claim(runtime.database, jobs.CYCLE, name, as_of, now, "scheduler"), "claim of a tick"
    )
    if job_id is None:
        return
    logger(__name__).info("tick claimed", job_id=str(job_id), as_of=as_of.isoformat(), replica=runtime.replica)
    with runtime.busy_with(job_id):
        earlier = patiently(runtime, lambda: jobs.another_running(runtime.database, jobs.CYCLE, job_id), "tick")
        if earlier is None:
            run(runtime, queue, job_id, as_of)
        else:
            _skip(runtime, job_id, as_of, earlier)


def _skip(runtime: Runtime, job_id: UUID, as_of: datetime, earlier: UUID) -> None:
    reason = f"job {earlier} is still running; the next tick takes in what is new"
    with runtime.database.begin() as connection:
        jobs.end_job(connection, job_id, runtime.clock.now(), {"skipped": reason}, None, failed=False)
    observe_job(jobs.CYCLE, "skipped", 0, {})
    logger(__name__).warning("tick skipped", as_of=as_of.isoformat(), reason=reason)


def run_retry(runtime: Runtime, queue: Queue, as_of: datetime) -> None:
    """A cycle between two ticks, where one is due (`retry_due`)."""
    due = retry_due(runtime)
    if due is not None and due <= runtime.clock.now():
        run_tick(runtime, queue, as_of)


def retry_due(runtime: Runtime) -> datetime | None:
    """When cycles that failed are to be made up for: 15 seconds after the first failure, then twice as long each time.

    None where the latest cycle did not fail.
    """
    recent = jobs.latest(runtime.database, jobs.CYCLE, runtime.clock.now(), 12)
    failures = next((number for number, job in enumerate(recent) if job.status != "failed"), len(recent))
    return recent[0].created_at + timedelta(seconds=15 * 2 ** (failures - 1)) if failures else None


def run(runtime: Runtime, queue: Queue, job_id: UUID, as_of: datetime) -> None:
    """Plans the job and offers its chunks to the replicas; what stands in the way fails the job with a sentence.

    Raises:
        SQLAlchemyError: if the database does not even take the sentence; the job is then rescued as others are.
    """
    with runtime.busy_with(job_id):
        try:
            numbers = patiently(runtime, lambda: plan_cycle(runtime, job_id, as_of), "planning of a cycle")
            for number in numbers:
                queue.send(job_id, number)
        except WarehouseError as error:
            _fail(runtime, job_id, str(error))
        except redis.RedisError as error:
            _fail(runtime, job_id, f"The queue on Redis did not take the work: {error}")
        except Exception as error:
            logger(__name__).exception("a cycle could not be planned", job_id=str(job_id))
            _fail(runtime, job_id, f"It could not be planned: {type(error).__name__}: {error}")
        else:
            if not numbers:
                finish(runtime, job_id, queue.send)


def _fail(runtime: Runtime, job_id: UUID, reason: str) -> None:
    logger(__name__).error("job failed", job_id=str(job_id), error=reason)
    now = runtime.clock.now()
    patiently(runtime, lambda: jobs.fail(runtime.database, job_id, now, reason), "failure of a job")
    job = jobs.describe(runtime.database, job_id)
    observe_job(job["job_type"], "failed", (now - job["started_at"]).total_seconds(), job["result_summary"])
