"""Retention: what is older than the settings keep is deleted; TimescaleDB drops its own chunks by policy."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Table, delete

from src.db import timescale
from src.db.tables import (
    HYPERTABLES,
    alerts,
    anomalies,
    api_key_usage,
    computed_metrics,
    data_quality_metrics,
    ml_predictions_cache,
    network_efficiency,
    network_metrics,
    node_habits,
    processing_jobs,
    processing_replicas,
    rejected_readings,
)
from src.processing import jobs
from src.processing.runtime import Runtime

JOB_TYPE = "retention"


def run_retention(runtime: Runtime, as_of: datetime) -> None:
    """The daily deletion, if no other replica has done it."""
    now = runtime.clock.now()
    job_id = jobs.claim(runtime.database, JOB_TYPE, f"Retention {as_of:%Y-%m-%d}", as_of, now, "scheduler")
    if job_id is None:
        return
    settings = runtime.settings
    kept: list[tuple[Table, str, int]] = [
        (computed_metrics, "window_start", settings.retention_metrics_days),
        (network_efficiency, "window_start", settings.retention_metrics_days),
        (rejected_readings, "quarter_start", settings.retention_metrics_days),
        (node_habits, "valid_from", settings.retention_metrics_days),
        (data_quality_metrics, "check_timestamp", settings.retention_metrics_days),
        (ml_predictions_cache, "prediction_timestamp", settings.retention_predictions_days),
        (network_metrics, "computation_timestamp", settings.retention_jobs_days),
        # An open anomaly has no resolved_at and stays.
        (anomalies, "resolved_at", settings.retention_anomalies_days),
        (alerts, "resolved_at", settings.retention_anomalies_days),
        (processing_jobs, "completed_at", settings.retention_jobs_days),
        (processing_replicas, "heartbeat_at", 1),
        (api_key_usage, "hour", settings.retention_metrics_days),
    ]
    deleted: dict[str, int] = {}
    with runtime.database.begin() as connection:
        by_policy = HYPERTABLES if timescale.is_present(connection) else {}
        for table, column, days in kept:
            if table.name not in by_policy:
                real = table in (processing_replicas, api_key_usage)
                before = (datetime.now(as_of.tzinfo) if real else as_of) - timedelta(days=days)
                deleted[table.name] = connection.execute(delete(table).where(table.c[column] < before)).rowcount
        jobs.end_job(connection, job_id, runtime.clock.now(), {"deleted": deleted}, None, failed=False)
