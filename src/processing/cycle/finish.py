"""The end of a job that ingests: what concerns the whole network, the job's sums, the new data generation."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pandas as pd
import redis
from sqlalchemy import Connection, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import OperationalError

from src.db import generation
from src.db.tables import job_chunks, network_metrics, nodes, processing_jobs
from src.domain import network
from src.observability import logger
from src.processing import jobs
from src.processing.cycle.balance import write_efficiency
from src.processing.cycle.detect import write_anomalies
from src.processing.measures import observe_job
from src.processing.models.forecasts import write_forecasts
from src.processing.quality import DAILY, write_quality
from src.processing.runtime import Runtime

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# time_range -> its length, and the window size it is made of: short ranges from fine windows, long ones from hours.
TIME_RANGES = {
    "1h": (HOUR, "5min"),
    "6h": (6 * HOUR, "5min"),
    "24h": (DAY, "5min"),
    "3d": (3 * DAY, "1hour"),
    "7d": (7 * DAY, "1hour"),
    "30d": (30 * DAY, "1hour"),
}
_PER_NODE = text(
    """
    SELECT nodes.role,
        sum(avg_flow_rate * flow_count) / nullif(sum(flow_count), 0) AS flow_rate,
        sum(avg_pressure * pressure_count) / nullif(sum(pressure_count), 0) AS pressure,
        sum(total_volume) AS volume
    FROM water_infrastructure.computed_metrics JOIN water_infrastructure.nodes USING (node_id)
    WHERE time_window = :time_window AND window_start >= :start AND window_start < :end
    GROUP BY node_id, nodes.role
    """
)
# Null unless every hour of the span was balanced.
_EFFICIENCY = text(
    """
    SELECT CASE WHEN count(total_output_volume) = count(*) AND sum(total_input_volume) > 0
        THEN 100 * sum(total_output_volume) / sum(total_input_volume) END
    FROM water_infrastructure.network_efficiency
    WHERE time_window = '1hour' AND window_start >= :start AND window_end <= :end
    """
)


# Of jobs that failed after the last complete one, the first hour they read; of the last complete one, what it left.
_NOT_CONCLUDED = text(
    """
    WITH last AS (
        SELECT created_at, CAST(result_summary ->> 'not_concluded_from' AS timestamptz) AS left_from
        FROM water_infrastructure.processing_jobs
        WHERE job_type = ANY(:types) AND status = 'completed' AND NOT result_summary ? 'skipped'
        ORDER BY created_at DESC LIMIT 1
    )
    SELECT least((SELECT left_from FROM last), (
        SELECT min(data_start_time) FROM water_infrastructure.processing_jobs
        WHERE job_type = ANY(:types) AND status = 'failed'
            AND created_at > coalesce((SELECT created_at FROM last), '-infinity')
    ))
    """
)


_EVENTS = text(
    """
    SELECT count(*) FROM water_infrastructure.anomalies
    WHERE timestamp < :end AND ("end" IS NULL OR "end" > greatest(:start, timestamp))
    """
)


def finish(runtime: Runtime, job_id: UUID) -> None:
    """Ends a job whose chunks are all done; harmless to repeat.

    It fails if none of its nodes could be processed, and names what went wrong with any of them.
    """
    now = runtime.clock.now()
    with runtime.busy_with(job_id), runtime.database.begin() as connection:
        job = connection.execute(
            select(processing_jobs).where(processing_jobs.c.job_id == job_id).with_for_update()
        ).one()
        if job.status not in jobs.UNFINISHED:
            return
        if job.job_type == jobs.TRAINING:
            _finish_training(connection, job, now)
            return
        # A backfill leaves the state of the network at its own instant as a tick would.
        as_of = min(job.scheduled_for, job.created_at)
        concluded, problems = _conclude(runtime, connection, job.data_start_time, as_of)
        write_network_metrics(connection, as_of)
        summary, error = _summed_up(connection, job)
        summary |= concluded | {"seconds": summary["seconds"] | concluded["seconds"]}
        error = "; ".join(filter(None, [error, *problems])) or None
        failed = job.failed_items > 0 and job.processed_items == 0
        jobs.end_job(connection, job_id, now, summary, error, failed)
    announce(runtime)
    observe_job(job.job_type, "failed" if failed else "completed", (now - job.started_at).total_seconds(), summary)
    counts = {name: summary[name] for name in ("readings", "windows", "rejected", "rows_changed")}
    log = logger(__name__).bind(job_type=job.job_type, scheduled_for=job.scheduled_for.isoformat(), **counts)
    (log.error if failed else log.warning if error else log.info)("job ended", error=error)


def _finish_training(connection: Connection, job: Any, now: datetime) -> None:
    """Ends a training: what its pools tell, and a failure where none of them could be trained."""
    parts = connection.execute(select(job_chunks.c.result_summary).where(job_chunks.c.job_id == job.job_id)).scalars()
    told = [dict(part) for part in parts]
    failures = {node_id: reason for part in told for node_id, reason in part.get("failures", {}).items()}
    failed = job.failed_items > 0 and job.processed_items == 0
    error = _told_of(failures, job.total_items)
    jobs.end_job(connection, job.job_id, now, {"pools": told}, error, failed)
    observe_job(job.job_type, "failed" if failed else "completed", (now - job.started_at).total_seconds(), {})


def _conclude(
    runtime: Runtime, connection: Connection, data_start: datetime | None, as_of: datetime
) -> tuple[dict[str, Any], list[str]]:
    """Balances, anomalies, data quality, forecasts of the hours a job has touched: what is told, and what went wrong.

    One that fails leaves the others and the job's metrics untouched, and the next job takes its hours in.
    """
    # Where nothing came in, what is missing is still to be noticed.
    start = min(filter(None, [data_start, as_of - DAY, _not_concluded_from(connection)]))
    steps: dict[str, Callable[[], int]] = {
        "balances": lambda: write_efficiency(connection, runtime.zone, start, as_of),
        "anomalies": lambda: write_anomalies(connection, runtime.zone, runtime.settings.utility_country, start, as_of),
        "quality": lambda: write_quality(connection, as_of, *DAILY),
        "forecasts": lambda: write_forecasts(runtime, connection, as_of),
    }
    told: dict[str, Any] = {"seconds": {}}
    problems: list[str] = []
    for name, step in steps.items():
        begun = time.perf_counter()
        try:
            with connection.begin_nested():
                told[name] = step()
        except OperationalError:
            raise
        except Exception as error:
            logger(__name__).exception("a conclusion could not be drawn", step=name)
            problems.append(f"The {name} could not be computed: {type(error).__name__}: {error}"[:1000])
            told["not_concluded_from"] = start.isoformat()
        told["seconds"][name] = time.perf_counter() - begun
    return told, problems


def _not_concluded_from(connection: Connection) -> datetime | None:
    """From when on the jobs since the last one that completed have left hours without conclusions."""
    found: datetime | None = connection.scalar(_NOT_CONCLUDED, {"types": [jobs.CYCLE, jobs.BACKFILL]})
    return found


def announce(runtime: Runtime) -> None:
    """Tells the API that there is something new; where Redis is away, the next heartbeat tells it."""
    try:
        with runtime.database.connect() as connection:
            generation.publish(connection, runtime.redis)
    except redis.RedisError as error:
        logger(__name__).warning("Redis does not answer; the API hears of the new data later", error=str(error))


def write_network_metrics(connection: Connection, as_of: datetime) -> None:
    """One row per time range that ends at `as_of`, in whole windows."""
    total = connection.scalar(select(func.count()).select_from(nodes).where(nodes.c.is_active))
    for time_range, (length, time_window) in TIME_RANGES.items():
        step = HOUR.total_seconds() if time_window == "1hour" else 300
        end = as_of - timedelta(seconds=as_of.timestamp() % step)
        span: dict[str, Any] = {"start": end - length, "end": end, "time_window": time_window}
        measured = network.network_metrics(pd.read_sql(_PER_NODE, connection, params=span))
        row = {
            "time_range": time_range,
            "computation_timestamp": as_of,
            "window_start": end - length,
            "window_end": end,
            "total_nodes": total,
            **vars(measured),
            "efficiency_percentage": connection.scalar(_EFFICIENCY, span),
            "anomaly_count": connection.scalar(_EVENTS, span),
        }
        statement = insert(network_metrics).values(row)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["time_range", "computation_timestamp"], set_={k: statement.excluded[k] for k in row}
            )
        )


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
