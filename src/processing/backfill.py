"""`python -m src.processing.backfill --start 2023-01-01 --end 2023-02-01`: a span of readings read again."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy import and_, exists, func, or_, select

from src import collect_as_usual
from src.clock import parse_instant
from src.db.migrate import wait_for_schema
from src.db.tables import job_chunks, processing_jobs
from src.domain.days import day_start
from src.domain.names import problem_of_name
from src.domain.readings import EARLIEST
from src.observability import configure_logging
from src.processing.ingest.plan import plan_backfill
from src.processing.jobs import chunks
from src.processing.jobs import records as jobs
from src.processing.jobs.runtime import Runtime, create_runtime
from src.processing.service.finish import finish
from src.processing.service.heartbeat import Heartbeat
from src.processing.service.work import work_off
from src.processing.warehouse.client import WarehouseError
from src.settings import load_settings


def main(arguments: list[str] | None = None) -> int:
    """Runs or resumes one backfill; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m src.processing.backfill",
        description="Reads a span again and makes the stored windows say what the readings say now. Whole local days "
        "are rewritten, and the day after the end. Interrupted, the same command goes on where it stopped. What "
        "RETENTION_METRICS_DAYS would delete again is refused.",
    )
    parser.add_argument("--start", required=True, help="a local day (2023-01-01) or an instant (2023-01-01T00:00:00Z)")
    parser.add_argument("--end", required=True, help="exclusive; a local day or an instant")
    parser.add_argument("--nodes", nargs="+", default=[], metavar="NODE_ID", help="default: every node with readings")
    options = parser.parse_args(arguments)
    settings = load_settings(with_warehouse=True)
    configure_logging(settings)
    collect_as_usual()
    runtime = create_runtime(settings)
    now = runtime.clock.now()
    try:
        start, end = (max(EARLIEST, min(now, _instant(text, runtime))) for text in (options.start, options.end))
    except ValueError as error:
        parser.error(str(error))
    if start >= end:
        parser.error("--start must lie before --end, and before now")
    if (refused := beyond_retention(start, now, settings.retention_metrics_days, runtime.zone)) is not None:
        parser.error(refused)
    for node_id in options.nodes:
        if (problem := problem_of_name(node_id)) is not None:
            parser.error(f"--nodes: a name {problem}")
    if problem := wait_for_schema(runtime.database, seconds=10):
        sys.stderr.write(problem + "\n")
        return 1

    runtime.stop_on_signals()
    heartbeat = Heartbeat(runtime, None)
    heartbeat.start()
    try:
        return backfill(runtime, start, end, options.nodes)
    except WarehouseError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        heartbeat.stop()


def beyond_retention(start: datetime, now: datetime, days: int, zone: ZoneInfo) -> str | None:
    """Why a backfill from `start` on would not last, or None where it does.

    Args:
        days: how long windows are retained.
    """
    retained_from = day_start(now - timedelta(days=days), zone)
    if start >= retained_from:
        return None
    needed = math.ceil((now - start) / timedelta(days=1))
    return (
        f"--start lies before {retained_from.astimezone(zone):%Y-%m-%d}, and RETENTION_METRICS_DAYS={days} deletes "
        f"what is older the next morning. Begin there, or set RETENTION_METRICS_DAYS to at least {needed} for every "
        "service (and run python -m src.db.migrate, for TimescaleDB's policies)"
    )


def backfill(runtime: Runtime, start: datetime, end: datetime, node_ids: Sequence[str]) -> int:
    """Works off the backfill of this span in this process, showing its progress on standard error; the exit code."""
    name = f"Backfill {start:%Y-%m-%dT%H:%MZ} - {end:%Y-%m-%dT%H:%MZ} of {', '.join(sorted(node_ids)) or 'every node'}"
    job_id = _resumed(runtime, name)
    if job_id is None:
        now = runtime.clock.now()
        job_id = jobs.claim_by_hand(runtime.database, jobs.BACKFILL, name, now, "backfill command")
        with runtime.busy_with(job_id):
            try:
                plan_backfill(runtime, job_id, start, end, node_ids, now)
            except Exception as error:
                jobs.fail(runtime.database, job_id, now, f"It could not be planned: {error}"[:4000])
                raise
    with (
        runtime.busy_with(job_id),
        _progress() as progress,
        ThreadPoolExecutor(runtime.settings.worker_threads) as threads,
    ):
        bar = progress.add_task(name, total=jobs.describe(runtime.database, job_id)["total_items"])
        for _ in threads.map(lambda number: work_off(runtime, job_id, number), chunks.queued(runtime.database, job_id)):
            job = jobs.describe(runtime.database, job_id)
            progress.update(bar, completed=job["processed_items"] + job["failed_items"])
        left = chunks.queued(runtime.database, job_id)
        if not left:
            progress.add_task("Balances, anomalies and what else follows from it", total=None)
            finish(runtime, job_id)
            left = chunks.queued(runtime.database, job_id)
    if left:
        why = "Interrupted" if runtime.stopping.is_set() else "Not everything could be read or written (see the log)"
        jobs.fail(runtime.database, job_id, runtime.clock.now(), f"{why}; the same command goes on from there")
        sys.stderr.write(f"{why}; the same command goes on from here.\n")
        return 130 if runtime.stopping.is_set() else 1
    job = jobs.describe(runtime.database, job_id)
    summary = {name: job[name] for name in ("job_id", "status", "total_items", "failed_items", "error_message")}
    sys.stdout.write(orjson.dumps(summary | dict(job["result_summary"]), default=str).decode() + "\n")
    return 0 if job["status"] == "completed" and not job["failed_items"] else 1


def _resumed(runtime: Runtime, name: str) -> UUID | None:
    """The same backfill, interrupted earlier and now running again, to be gone on with.

    A service that saw it fall silent has called it failed meanwhile; its chunks show what is left. Frequent
    interruptions do not use its chunks' attempts up.
    """
    row, chunk = processing_jobs.c, job_chunks.c
    has_chunks_left = exists().where(chunk.job_id == row.job_id, chunk.status == "queued")
    found = (
        select(row.job_id)
        .where(
            row.job_type == jobs.BACKFILL,
            row.job_name == name,
            # Planning that was cut off left no chunks, and is done anew.
            row.total_items > 0,
            or_(row.status.in_(jobs.UNFINISHED), and_(row.status == "failed", has_chunks_left)),
        )
        .order_by(row.created_at.desc())
        .limit(1)
        .with_for_update()
    )
    with runtime.database.begin() as connection:
        job_id: UUID | None = connection.scalar(found)
        if job_id is not None:
            revived = {"status": "running", "completed_at": None, "duration_seconds": None, "error_message": None}
            connection.execute(
                processing_jobs.update().where(row.job_id == job_id).values(**revived, heartbeat_at=func.now())
            )
            connection.execute(
                job_chunks.update().where(chunk.job_id == job_id, chunk.status == "queued").values(attempts=0)
            )
    return job_id


def _instant(text: str, runtime: Runtime) -> datetime:
    if len(text) == len("2023-01-01"):
        day = datetime.strptime(text, "%Y-%m-%d").replace(hour=12, tzinfo=runtime.zone)
        return day_start(day.astimezone(UTC), runtime.zone)
    return parse_instant(text)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("nodes"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


if __name__ == "__main__":
    sys.exit(main())
