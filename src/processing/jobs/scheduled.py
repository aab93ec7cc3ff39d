"""Jobs of the timetable that one replica does as a whole: retention, checks, evaluation, review, recommendations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from src.observability import logger
from src.processing.jobs import records as jobs
from src.processing.jobs.measures import observe_job
from src.processing.jobs.patience import patiently
from src.processing.jobs.runtime import Runtime


@dataclass(frozen=True)
class Done:
    """What a job did, and a sentence about what went wrong with some or (where it failed) all of it."""

    summary: Mapping[str, Any]
    error: str | None = None
    failed: bool = False


def run_scheduled(runtime: Runtime, job_type: str, name: str, as_of: datetime, work: Callable[[], Done]) -> Done | None:
    """Does the job due at an instant, if no other replica has it; while it lasts, this process vouches for it.

    Whatever happens, the job ends: what `work` raises fails it with its reason, after what passes was waited for.

    Args:
        work: harmless to repeat; its transactions are its own.

    Returns:
        None where another replica has the job, or where it failed.

    Raises:
        SQLAlchemyError: if the database does not even take the job's end.
    """
    now = runtime.clock.now()
    job_id = patiently(
        runtime, lambda: jobs.claim(runtime.database, job_type, name, as_of, now, "scheduler"), "claim of a job"
    )
    if job_id is None:
        return None
    with runtime.busy_with(job_id):
        try:
            done = patiently(runtime, work, name)
        except Exception as error:
            logger(__name__).exception("a job failed", job_type=job_type, as_of=as_of.isoformat())
            done = Done({}, f"{type(error).__name__}: {error}"[:4000], failed=True)

        def end() -> None:
            with runtime.database.begin() as connection:
                jobs.end_job(connection, job_id, runtime.clock.now(), done.summary, done.error, done.failed)

        patiently(runtime, end, "end of a job")
    seconds = (runtime.clock.now() - now).total_seconds()
    observe_job(job_type, "failed" if done.failed else "completed", seconds, {})
    return None if done.failed else done
