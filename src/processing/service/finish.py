"""The end of a job that ingests: what concerns the whole network, the job's sums, the new data generation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, select, text

from src.db.failures import is_passing
from src.db.locks import try_lock
from src.db.tables import job_chunks, processing_jobs
from src.observability import logger
from src.processing.conclusions.conclude import Concluded, conclude, mark_taken
from src.processing.conclusions.network import write_network_metrics
from src.processing.jobs import records as jobs
from src.processing.jobs.announcement import announce
from src.processing.jobs.measures import observe_job
from src.processing.jobs.patience import patiently
from src.processing.jobs.runtime import Runtime

_BEGUN = text(
    """
    UPDATE water_infrastructure.processing_jobs SET heartbeat_at = now(),
        result_summary = jsonb_set(result_summary, '{conclusions_begun}',
            to_jsonb(coalesce(CAST(result_summary ->> 'conclusions_begun' AS integer), 0) + 1))
    WHERE job_id = :job_id RETURNING CAST(result_summary ->> 'conclusions_begun' AS integer)
    """
)


def finish(runtime: Runtime, job_id: UUID) -> None:
    """Ends a job whose chunks are all done; harmless to repeat, and by two at a time.

    It fails if none of its nodes could be processed, and names what went wrong with any of them. The job's row is held
    for no longer than its change takes.

    Raises:
        SQLAlchemyError: if the database does not even take the job's end; the job is then rescued as others are.
    """
    with runtime.busy_with(job_id), try_lock(runtime.database, job_id) as is_ours:
        with runtime.database.connect() as connection:
            job = connection.execute(select(processing_jobs).where(processing_jobs.c.job_id == job_id)).one_or_none()
        if not is_ours or job is None or job.status not in jobs.UNFINISHED:
            return
        if job.job_type == jobs.TRAINING:
            patiently(runtime, lambda: _finish_training(runtime, job_id), "end of a training")
            return
        as_of = jobs.instant_of(job)
        begun = patiently(runtime, lambda: _begin(runtime, job_id), "end of a job")
        concluded = conclude(runtime, job_id, as_of, begun, is_cycle=job.job_type == jobs.CYCLE)
        ended = patiently(runtime, lambda: _end(runtime, job_id, as_of, concluded), "end of a job")
    announce(runtime)
    if ended is None:
        return
    counts = {name: ended[name] for name in ("readings", "windows", "rejected", "rows_changed")}
    log = logger(__name__).bind(job_type=job.job_type, scheduled_for=job.scheduled_for.isoformat(), **counts)
    (log.warning if concluded.problems else log.info)("job ended", problems=concluded.problems)


def _begin(runtime: Runtime, job_id: UUID) -> int:
    """Counts a beginning of the job's conclusions, before any of their work; how many there were."""
    with runtime.database.begin() as connection:
        return int(connection.execute(_BEGUN, {"job_id": job_id}).scalar_one())


def _end(runtime: Runtime, job_id: UUID, as_of: datetime, concluded: Concluded) -> dict[str, Any] | None:
    """Ends the job in one short transaction: its summary; None where it had ended."""
    now = runtime.clock.now()
    with runtime.database.begin() as connection:
        try:
            with connection.begin_nested():
                write_network_metrics(connection, as_of)
        except Exception as error:
            if is_passing(error):
                raise
            logger(__name__).exception("the network's metrics could not be written", job_id=str(job_id))
            concluded.problems.append(f"The network's metrics could not be written: {type(error).__name__}: {error}")
        job = connection.execute(
            select(processing_jobs).where(processing_jobs.c.job_id == job_id).with_for_update()
        ).one()
        summary, error_message = _summed_up(connection, job)
        summary |= concluded.summary | {"seconds": summary["seconds"] | concluded.summary["seconds"]}
        problems = [summary.get("planning_problem"), error_message, *concluded.problems]
        error_message = "; ".join(filter(None, problems))[:8000] or None
        failed = job.failed_items > 0 and job.processed_items == 0
        mark_taken(connection, concluded.taken)
        if not jobs.end_job(connection, job_id, now, summary, error_message, failed):
            return None
    observe_job(job.job_type, "failed" if failed else "completed", (now - job.started_at).total_seconds(), summary)
    return summary


def _finish_training(runtime: Runtime, job_id: UUID) -> None:
    """Ends a training: what its pools tell, and a failure where none of them could be trained."""
    now = runtime.clock.now()
    with runtime.database.begin() as connection:
        job = connection.execute(
            select(processing_jobs).where(processing_jobs.c.job_id == job_id).with_for_update()
        ).one()
        parts = connection.execute(select(job_chunks.c.result_summary).where(job_chunks.c.job_id == job_id)).scalars()
        pools = [dict(part) for part in parts]
        failures = {node_id: reason for pool in pools for node_id, reason in pool.get("failures", {}).items()}
        failed = job.failed_items > 0 and job.processed_items == 0
        jobs.end_job(connection, job_id, now, {"pools": pools}, _told_of(failures, job.total_items), failed)
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
    planned = {name: value for name, value in job.result_summary.items() if name != "conclusions_begun"}
    summary = planned | {
        "readings": readings,
        "rejected": dict(rejected),
        "windows": dict(windows),
        "rows_changed": rows_changed,
        "bytes_read": job.result_summary.get("bytes_read", {}) | {"readings": bytes_read},
        "seconds": seconds,
        "failures": failures,
    }
    return summary, _told_of(failures, job.total_items)


def _told_of(failures: Mapping[str, str], nodes: int) -> str | None:
    """A sentence about nodes that were not processed."""
    if not failures:
        return None
    reasons: dict[str, list[str]] = {}
    for node_id, reason in failures.items():
        reasons.setdefault(reason, []).append(node_id)
    told = "; ".join(
        f"{reason} ({', '.join(named[:3])}{f' and {len(named) - 3} more nodes' if len(named) > 3 else ''})"
        for reason, named in reasons.items()
    )
    return f"{len(failures)} of {nodes} nodes were not processed: {told}"[:4000]
