"""What the processing service counts of itself, for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import redis
from prometheus_client import Counter, Gauge, Histogram
from sqlalchemy import Connection, text

# What waits on Redis lies in lists of these names, after the namespace and a colon.
QUEUE_NAMESPACE, CHUNK_QUEUE, TRAINING_QUEUE = "abbanoa:queue", "default", "training"
JOBS = Counter("abbanoa_jobs_total", "Jobs that this replica ended", ["job_type", "status"])
JOB_SECONDS = Histogram(
    "abbanoa_job_seconds",
    "From the start of a job to its end",
    ["job_type"],
    buckets=(1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600),
)
READINGS = Counter("abbanoa_readings_total", "Readings taken in by jobs that this replica ended")
REJECTED = Counter("abbanoa_readings_rejected_total", "Values set aside, by reason", ["reason"])
HEARTBEAT = Gauge("abbanoa_heartbeat_timestamp_seconds", "When this replica last reached the database")
# Every replica reports these alike, because they are read from the database and the queue.
LATEST_READING = Gauge("abbanoa_latest_reading_timestamp_seconds", "The latest valid reading of any node")
LATEST_CYCLE = Gauge("abbanoa_latest_cycle_timestamp_seconds", "When the latest successful processing cycle ended")
LAST_CYCLE_FAILED = Gauge("abbanoa_last_cycle_failed", "1 where the latest ended processing cycle failed")
REPLICAS = Gauge("abbanoa_processing_replicas", "Processing replicas that are alive")
QUEUED = Gauge("abbanoa_queue_depth", "Chunks of nodes and trainings that wait in the queues")
OPEN_EVENTS = Gauge("abbanoa_open_anomalies", "Events that are open", ["severity"])
FIRING = Gauge("abbanoa_firing_alerts", "Alerts that are firing", ["severity"])
NOW = Gauge("abbanoa_clock_timestamp_seconds", "The service's own clock, against which readings are old or new")
INTERVAL = Gauge("abbanoa_check_interval_seconds", "Between two ticks of the processing cycle")

_STATE = text(
    """
    SELECT extract(epoch FROM (SELECT max(last_reading) FROM water_infrastructure.ingestion_watermarks))
            AS latest_reading,
        extract(epoch FROM (
            SELECT completed_at FROM water_infrastructure.processing_jobs
            WHERE job_type = 'processing_cycle' AND status = 'completed' AND NOT result_summary ? 'skipped'
                AND created_at <= :now
            ORDER BY created_at DESC LIMIT 1
        )) AS latest_cycle,
        (
            SELECT status = 'failed' FROM water_infrastructure.processing_jobs
            WHERE job_type = 'processing_cycle' AND status IN ('completed', 'failed')
                AND NOT result_summary ? 'skipped' AND created_at <= :now
            ORDER BY created_at DESC LIMIT 1
        ) AS last_failed,
        (
            SELECT count(*) FROM water_infrastructure.processing_replicas
            WHERE heartbeat_at > now() - make_interval(secs => :silence)
        ) AS replicas
    """
)


_OPEN = text(
    """
    SELECT severity,
        (SELECT count(*) FROM water_infrastructure.anomalies
            WHERE resolved_at IS NULL AND anomalies.severity = levels.severity
                AND NOT metadata ? 'explained_by') AS events,
        (SELECT count(*) FROM water_infrastructure.alerts
            WHERE state = 'firing' AND alerts.severity = levels.severity) AS alerts
    FROM unnest(ARRAY['info', 'warning', 'critical']) AS levels (severity)
    """
)


def observe_job(job_type: str, status: str, seconds: float, summary: Mapping[str, Any]) -> None:
    """Counts a job that has ended, and what it took in."""
    JOBS.labels(job_type, status).inc()
    JOB_SECONDS.labels(job_type).observe(seconds)
    READINGS.inc(summary.get("readings", 0))
    for reason, count in summary.get("rejected", {}).items():
        REJECTED.labels(reason).inc(count)


def waiting(queues: redis.Redis, *names: str) -> int:
    """How many messages wait, and are in no worker's hands, in the queues of these names.

    Raises:
        redis.RedisError: if Redis does not answer.
    """
    return sum([queues.llen(f"{QUEUE_NAMESPACE}:{name}") for name in names])


def observe_state(connection: Connection, queue: redis.Redis, now: datetime, silence_seconds: float) -> None:
    """Reads what all replicas have in common.

    Args:
        now: jobs of a clock that ran ahead count for nothing.

    Raises:
        redis.RedisError: if Redis does not answer.
    """
    state = connection.execute(_STATE, {"silence": silence_seconds, "now": now}).one()
    for gauge, value in ((LATEST_READING, state.latest_reading), (LATEST_CYCLE, state.latest_cycle)):
        if value is not None:
            gauge.set(float(value))
    for row in connection.execute(_OPEN):
        OPEN_EVENTS.labels(row.severity).set(row.events)
        FIRING.labels(row.severity).set(row.alerts)
    LAST_CYCLE_FAILED.set(bool(state.last_failed))
    REPLICAS.set(state.replicas)
    QUEUED.set(waiting(queue, CHUNK_QUEUE, TRAINING_QUEUE))
