"""The end of a job that ingests: what concerns the whole network, the job's sums, the new data generation."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import redis
from sqlalchemy import Connection, func, select, update

from src.db.failures import is_passing
from src.db.locks import try_lock
from src.db.tables import job_chunks, processing_jobs
from src.observability import logger
from src.processing.conclusions.conclude import Concluded, for_the_network
from src.processing.conclusions.network import write_network_metrics
from src.processing.conclusions.plan import mark_taken, plan
from src.processing.conclusions.service_life import update_service
from src.processing.conclusions.survey import write_survey
from src.processing.conclusions.works import mark_attached, works_to_attach
from src.processing.jobs import chunks
from src.processing.jobs import records as jobs
from src.processing.jobs.announcement import announce
from src.processing.jobs.measures import observe_job
from src.processing.jobs.patience import patiently
from src.processing.jobs.runtime import Runtime
from src.processing.service.work import work_off

# What a job's row holds of its conclusions while they are drawn.
_CONCLUDING = "concluding"


def finish(runtime: Runtime, job_id: UUID, offer: Callable[[UUID, int], None] | None = None) -> None:
    """Takes a job further whose chunks are all done: to its conclusions, and when these are drawn to its end; harmless
    to repeat, and by two at a time.

    It fails if none of its nodes could be processed, and names what went wrong with any of them. The job's row is held
    for no longer than its change takes.

    Args:
        offer: offers a chunk of conclusions to all replicas, who finish the job when the last of them is drawn; without
            it, or where Redis does not take it, they are drawn here.

    Raises:
        SQLAlchemyError: if the database does not even take the job's end; the job is then rescued as others are.
    """
    with runtime.busy_with(job_id):
        # Who drew the last conclusion while the others were still offered could not finish the job.
        while not _is_finished(runtime, job_id, offer) and not chunks.queued(runtime.database, job_id):
            logger(__name__).info("all was concluded while it was offered", job_id=str(job_id))


def _is_finished(runtime: Runtime, job_id: UUID, offer: Callable[[UUID, int], None] | None) -> bool:
    """Takes the job a step further; whether it has ended, or somebody else is at it."""
    with try_lock(runtime.database, job_id) as is_ours:
        with runtime.database.connect() as connection:
            job = connection.execute(select(processing_jobs).where(processing_jobs.c.job_id == job_id)).one_or_none()
        if not is_ours or job is None or job.status not in jobs.UNFINISHED:
            return True
        if job.job_type == jobs.TRAINING:
            patiently(runtime, lambda: _finish_training(runtime, job_id), "end of a training")
            return True
        as_of = jobs.instant_of(job)
        patiently(runtime, lambda: _plan(runtime, job_id, as_of, job.job_type), "plan of conclusions")
        numbers = chunks.queued(runtime.database, job_id)
        if numbers and offer is not None and _is_offered(job_id, numbers, offer):
            return False
        with ThreadPoolExecutor(runtime.settings.worker_threads) as threads:
            list(threads.map(lambda number: work_off(runtime, job_id, number), numbers))
        if chunks.queued(runtime.database, job_id):
            return False
        with runtime.database.connect() as connection:
            drawn = chunks.of_conclusions(connection, job_id)
        concluded = for_the_network(runtime, drawn, as_of)
        if job.job_type == jobs.CYCLE:
            _survey(runtime, as_of, concluded)
        attempts = max(chunk.attempts for chunk in drawn)
        ended = patiently(runtime, lambda: _end(runtime, job_id, as_of, concluded, attempts), "end of a job")
    announce(runtime)
    if ended is None:
        return True
    counts = {name: ended[name] for name in ("readings", "windows", "rejected", "rows_changed")}
    log = logger(__name__).bind(job_type=job.job_type, scheduled_for=job.scheduled_for.isoformat(), **counts)
    problems = list(concluded.problems.values())
    (log.warning if problems else log.info)("job ended", problems=problems)
    return True


def _is_offered(job_id: UUID, numbers: Sequence[int], offer: Callable[[UUID, int], None]) -> bool:
    """Whether the queue took all of these chunks."""
    try:
        for number in numbers:
            offer(job_id, number)
    except redis.RedisError as error:
        logger(__name__).warning("conclusions are drawn here", reason=f"the queue on Redis does not answer: {error}")
        return False
    return True


def _plan(runtime: Runtime, job_id: UUID, as_of: datetime, job_type: str) -> None:
    """Records what is to be concluded, if nobody has yet."""
    with runtime.database.begin() as connection:
        if chunks.of_conclusions(connection, job_id):
            return
        if job_type == jobs.CYCLE:
            update_service(connection, as_of, runtime.settings.out_of_service_after_days)
        half = timedelta(minutes=runtime.settings.check_interval_minutes) / 2
        planned = plan(connection, job_id, as_of, runtime.clock.now(), half if job_type == jobs.CYCLE else None)
        chunks.add_conclusions(connection, job_id, as_of, planned.chunks)
        noted = {"taken": [str(taken) for taken in planned.taken], "given_up": planned.given_up}
        noted |= {"works": works_to_attach(connection)}
        summary = processing_jobs.c.result_summary.concat({_CONCLUDING: noted})
        connection.execute(
            update(processing_jobs)
            .where(processing_jobs.c.job_id == job_id)
            .values(result_summary=summary, heartbeat_at=func.now())
        )


def _survey(runtime: Runtime, as_of: datetime, concluded: Concluded) -> None:
    """Surveys the network, where that is due; what goes wrong with it stops nothing else."""
    begun = time.perf_counter()
    try:
        surveyed = write_survey(runtime, as_of)
    except Exception as error:
        logger(__name__).exception("the network could not be surveyed")
        concluded.problems["survey"] = f"The survey could not be made: {type(error).__name__}: {error}"[:1000]
        return
    if surveyed is not None:
        concluded.rows["survey"] = surveyed
        concluded.seconds["survey"] = time.perf_counter() - begun


def _end(runtime: Runtime, job_id: UUID, as_of: datetime, concluded: Concluded, attempts: int) -> dict[str, Any] | None:
    """Ends the job in one short transaction: its summary; None where it had ended.

    Args:
        attempts: how often the conclusions that were begun most were begun.
    """
    now = runtime.clock.now()
    with runtime.database.begin() as connection:
        try:
            with connection.begin_nested():
                write_network_metrics(connection, as_of, runtime.zone)
        except Exception as error:
            if is_passing(error):
                raise
            logger(__name__).exception("the network's metrics could not be written", job_id=str(job_id))
            problem = f"The network's metrics could not be written: {type(error).__name__}: {error}"
            concluded.problems["network's metrics"] = problem
        job = connection.execute(
            select(processing_jobs).where(processing_jobs.c.job_id == job_id).with_for_update()
        ).one()
        summary, error_message = _summed_up(connection, job)
        noted = summary.pop(_CONCLUDING, {})
        summary |= concluded.rows | {"seconds": summary["seconds"] | concluded.seconds}
        if concluded.left:
            given_up = {"given_up": noted.get("given_up", 0) + 1} if attempts > 1 else {}
            summary["not_concluded"] = {name: extent.plain() | given_up for name, extent in concluded.left.items()}
        problems = [summary.get("planning_problem"), error_message, *concluded.problems.values()]
        error_message = "; ".join(filter(None, problems))[:8000] or None
        failed = job.failed_items > 0 and job.processed_items == 0
        mark_taken(connection, [UUID(taken) for taken in noted.get("taken", [])])
        if "anomalies" not in concluded.problems and "conclusions" not in concluded.problems:
            mark_attached(connection, noted.get("works", []))
        if not jobs.end_job(connection, job_id, now, summary, error_message, failed):
            return None
    observe_job(job.job_type, "failed" if failed else "completed", (now - job.started_at).total_seconds(), summary)
    return summary


def _finish_training(runtime: Runtime, job_id: UUID) -> None:
    """Ends a training: with the summaries of its pools, or as failed where none of them could be trained."""
    now = runtime.clock.now()
    with runtime.database.begin() as connection:
        job = connection.execute(
            select(processing_jobs).where(processing_jobs.c.job_id == job_id).with_for_update()
        ).one()
        parts = connection.execute(select(job_chunks.c.result_summary).where(job_chunks.c.job_id == job_id)).scalars()
        pools = [dict(part) for part in parts]
        failures = {node_id: reason for pool in pools for node_id, reason in pool.get("failures", {}).items()}
        failed = job.failed_items > 0 and job.processed_items == 0
        jobs.end_job(connection, job_id, now, {"pools": pools}, _error_message(failures, job.total_items), failed)
    observe_job(job.job_type, "failed" if failed else "completed", (now - job.started_at).total_seconds(), {})


def _summed_up(connection: Connection, job: Any) -> tuple[dict[str, Any], str | None]:
    """The job's result_summary, and a sentence about its failures."""
    parts = connection.execute(select(job_chunks.c.result_summary).where(job_chunks.c.job_id == job.job_id)).scalars()
    readings = rows_changed = bytes_read = 0
    rejected: Counter[str] = Counter(job.result_summary.get("rejected", {}))
    windows: Counter[str] = Counter(dict.fromkeys(("5min", "1hour", "1day"), 0))
    seconds: dict[str, float] = {}
    failures: dict[str, str] = {}
    for part in parts:
        readings += part.get("readings", 0)
        rows_changed += part.get("rows_changed", 0)
        bytes_read += part.get("bytes_read", 0)
        rejected.update(part.get("rejected", {}))
        windows.update(part.get("windows", {}))
        failures |= part.get("failures", {})
        for stage, spent in part.get("seconds", {}).items():
            seconds[stage] = seconds.get(stage, 0.0) + spent
    summary = dict(job.result_summary) | {
        "readings": readings,
        "rejected": dict(rejected),
        "windows": dict(windows),
        "rows_changed": rows_changed,
        "bytes_read": job.result_summary.get("bytes_read", {}) | {"readings": bytes_read},
        "seconds": seconds,
        "failures": failures,
    }
    return summary, _error_message(failures, job.total_items)


def _error_message(failures: Mapping[str, str], nodes: int) -> str | None:
    """A sentence about nodes that were not processed."""
    if not failures:
        return None
    reasons: dict[str, list[str]] = {}
    for node_id, reason in failures.items():
        reasons.setdefault(reason, []).append(node_id)
    listed = "; ".join(
        f"{reason} ({', '.join(named[:3])}{f' and {len(named) - 3} more nodes' if len(named) > 3 else ''})"
        for reason, named in reasons.items()
    )
    return f"{len(failures)} of {nodes} nodes were not processed: {listed}"[:4000]
