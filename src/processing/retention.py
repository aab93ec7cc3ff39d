"""Retention: what is older than the settings keep is deleted; TimescaleDB drops its own chunks by policy."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, Table, delete, update

from src.db import timescale
from src.db.tables import (
    HYPERTABLES,
    alerts,
    anomalies,
    api_key_usage,
    computed_metrics,
    data_quality_metrics,
    detector_alarms,
    ml_models,
    ml_predictions_cache,
    network_efficiency,
    network_metrics,
    node_habits,
    processing_jobs,
    processing_replicas,
    rejected_readings,
)
from src.domain.lifecycle import FALLBACK_FOR, JUDGED_HOURS
from src.processing import jobs
from src.processing.runtime import Runtime

JOB_TYPE = "retention"
# Forecasts further ahead than models are judged by are kept so long: every cycle writes newer ones.
FAR_FORECASTS = timedelta(days=1)


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
        (detector_alarms, "timestamp", settings.retention_anomalies_days),
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
        thinned = thin_out_models(connection, as_of, timedelta(days=settings.retention_predictions_days))
        summary = {"deleted": deleted} | thinned
        jobs.end_job(connection, job_id, runtime.clock.now(), summary, None, failed=False)


def thin_out_models(connection: Connection, as_of: datetime, keep_artefacts: timedelta) -> dict[str, int]:
    """Deletes what of models nobody will ask for: forecasts that newer ones have replaced, bytes of retired models.

    Forecasts of a day ahead stay as long as others, since models are judged by them; what was decided of a model stays.
    """
    far, model = ml_predictions_cache.c, ml_models.c
    replaced = delete(ml_predictions_cache).where(
        far.prediction_timestamp < as_of - FAR_FORECASTS, far.prediction_horizon_hours > JUDGED_HOURS
    )
    emptied = (
        update(ml_models)
        .where(model.retired_at < as_of - max(keep_artefacts, FALLBACK_FOR), model.artefact.is_not(None))
        .values(artefact=None)
    )
    return {
        "far_forecasts_deleted": connection.execute(replaced).rowcount,
        "artefacts_deleted": connection.execute(emptied).rowcount,
    }
