"""Retention: what is older than the settings keep is deleted; what a policy of TimescaleDB drops is left to it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Engine, Table, delete, select, text, update

from src.db import timescale
from src.db.tables import (
    alerts,
    anomalies,
    api_key_usage,
    computed_metrics,
    data_quality_metrics,
    detector_alarms,
    district_balances,
    expected_values,
    ml_models,
    ml_predictions_cache,
    model_requests,
    network_efficiency,
    network_metrics,
    node_habits,
    processing_jobs,
    processing_replicas,
    rejected_readings,
    sampled_habits,
    works,
)
from src.domain.lifecycle import FALLBACK_FOR, JUDGED_HOURS
from src.observability import logger
from src.processing.jobs.patience import patiently
from src.processing.jobs.runtime import Runtime
from src.processing.jobs.scheduled import Done, run_scheduled

JOB_TYPE = "retention"
# Forecasts further ahead than models are judged by are retained so long: every cycle writes newer ones.
FAR_FORECASTS = timedelta(days=1)
# Every check over a day is retained so long.
EVERY_CHECK, THINNED_WITHIN = timedelta(days=2), timedelta(days=30)
# Of 8 KiB each: some hundred thousand rows.
BATCH_BLOCKS = 8192
_MOST_BLOCKS = 2**32 - 2
# How many blocks a table has; of a hypertable, its largest part: a place exists once in each of them.
_BLOCKS = text(
    """
    SELECT coalesce(max(pg_relation_size(part) / current_setting('block_size')::bigint), 0) FROM (
        SELECT CAST(:table AS regclass) AS part UNION ALL
        SELECT inhrelid FROM pg_inherits WHERE inhparent = CAST(:table AS regclass)
    ) AS parts
    """
)
# By place, not by time: each part of a table is read once, whatever its indexes are.
_WITHIN = text("ctid >= CAST(:first AS tid) AND ctid < CAST(:end AS tid)")


def run_retention(runtime: Runtime, as_of: datetime) -> None:
    """The daily deletion, if no other replica has done it."""
    run_scheduled(runtime, JOB_TYPE, f"Retention {as_of:%Y-%m-%d}", as_of, lambda: _delete_old(runtime, as_of))


def _delete_old(runtime: Runtime, as_of: datetime) -> Done:
    """Deletes table by table; one whose rows cannot be deleted leaves the others, and is named."""
    settings, database = runtime.settings, runtime.database
    # Weeks that late readings reach are judged again by what was known in them; for older ones, which only a backfill
    # reaches, habits are learned anew.
    weeks_of_habits = settings.late_arrival_lookback_days + 14
    # Of balances, a policy drops only what is older than all that is retained.
    balances: list[tuple[Table, ColumnElement[bool]]] = []
    for table in (network_efficiency, district_balances):
        is_hour = table.c.time_window == "1hour"
        balances += [
            (table, is_hour & (table.c.window_start < as_of - timedelta(days=settings.retention_metrics_days))),
            (table, ~is_hour & (table.c.window_end < as_of - timedelta(days=settings.retention_balances_days))),
        ]
    outdated: list[tuple[Table, str, int]] = [
        (computed_metrics, "window_start", settings.retention_metrics_days),
        (rejected_readings, "quarter_start", settings.retention_metrics_days),
        (expected_values, "window_start", settings.retention_metrics_days),
        (node_habits, "valid_from", min(settings.retention_metrics_days, weeks_of_habits)),
        (sampled_habits, "valid_from", min(settings.retention_metrics_days, weeks_of_habits)),
        (data_quality_metrics, "check_timestamp", settings.retention_metrics_days),
        (ml_predictions_cache, "prediction_timestamp", settings.retention_predictions_days),
        (network_metrics, "computation_timestamp", settings.retention_jobs_days),
        # An open anomaly has no resolved_at and stays.
        (anomalies, "resolved_at", settings.retention_anomalies_days),
        (detector_alarms, "timestamp", settings.retention_anomalies_days),
        # What was decided of a model stays with the model.
        (model_requests, "decided_at", settings.retention_metrics_days),
        (alerts, "resolved_at", settings.retention_anomalies_days),
        (processing_jobs, "completed_at", settings.retention_jobs_days),
        (processing_replicas, "heartbeat_at", 1),
        (api_key_usage, "hour", settings.retention_metrics_days),
    ]
    with database.connect() as connection:
        by_policy = timescale.retained_by_policy(connection)
    deleted: dict[str, int] = {}
    thinned: dict[str, int] = {}
    problems: list[str] = []

    def attempt(what: str, step: Callable[[], None]) -> None:
        try:
            patiently(runtime, step, f"retention of {what}")
        except Exception as error:
            logger(__name__).exception("retention failed", table=what)
            problems.append(f"{what}: {type(error).__name__}: {error}"[:1000])

    def delete_from(table: Table, column: str, days: int) -> None:
        real = table in (processing_replicas, api_key_usage)
        before = (datetime.now(as_of.tzinfo) if real else as_of) - timedelta(days=days)
        delete_where(table, table.c[column] < before)

    def delete_where(table: Table, condition: ColumnElement[bool]) -> None:
        deleted[table.name] = deleted.get(table.name, 0) + delete_in_batches(database, table, condition)

    for table, column, days in outdated:
        if table.name not in by_policy:
            attempt(table.name, partial(delete_from, table, column, days))
    # A work that was taken back goes once no event names it as its explanation any more.
    long_ago = as_of - timedelta(days=settings.retention_anomalies_days)
    is_settled = (works.c.deleted_at < long_ago) & (works.c.attached_at == works.c.changed_at)
    for table, condition in (*balances, (works, is_settled)):
        attempt(table.name, partial(delete_where, table, condition))
    keep = timedelta(days=settings.retention_predictions_days)
    attempt("data_quality_metrics", lambda: thinned.update(thin_out_checks(database, as_of, runtime.zone)))
    attempt("models", lambda: thinned.update(thin_out_models(database, as_of, keep)))
    return Done({"deleted": deleted} | thinned, "; ".join(problems) or None, failed=bool(problems))


def delete_in_batches(database: Engine, table: Table, outdated: ColumnElement[bool]) -> int:
    """Deletes rows by parts of the table, a transaction each: nobody waits long for it, and what was done stays done.

    Returns:
        The number of rows deleted.
    """
    with database.connect() as connection:
        blocks = connection.execute(_BLOCKS, {"table": table.fullname}).scalar_one()
    deleted = 0
    # Rows that somebody compressed by hand get their places when they are deleted, after all that were counted.
    firsts = range(0, max(blocks, 1), BATCH_BLOCKS)
    for first in firsts:
        end = first + BATCH_BLOCKS if first != firsts[-1] else _MOST_BLOCKS
        span = {"first": f"({first},0)", "end": f"({end},0)"}
        with database.begin() as connection:
            timescale.allow_decompression(connection)
            deleted += connection.execute(delete(table).where(outdated, _WITHIN), span).rowcount
    return deleted


def thin_out_checks(database: Engine, as_of: datetime, zone: ZoneInfo) -> dict[str, int]:
    """Deletes checks over a day that overlap: of local days that are long past the first check stays, which is that of
    the day before."""
    check = data_quality_metrics.c
    # What is older was thinned out before, also where this was not done for some days.
    newest, oldest = as_of - EVERY_CHECK, as_of - EVERY_CHECK - THINNED_WITHIN
    of_a_day = (check.time_window == "24h") & (check.check_timestamp < newest) & (check.check_timestamp >= oldest)
    with database.connect() as connection:
        instants = connection.execute(select(check.check_timestamp).where(of_a_day).distinct()).scalars().all()
    first = {instant.astimezone(zone).date(): instant for instant in sorted(instants, reverse=True)}
    others = sorted(set(instants) - set(first.values()))
    if not others:
        return {"checks_deleted": 0}
    overlapping = of_a_day & check.check_timestamp.in_(others)
    return {"checks_deleted": delete_in_batches(database, data_quality_metrics, overlapping)}


def thin_out_models(database: Engine, as_of: datetime, keep_artefacts: timedelta) -> dict[str, int]:
    """Deletes what nobody will need of models: forecasts that newer ones have replaced, bytes of retired models.

    Forecasts of a day ahead stay as long as others, since models are judged by them; what was decided of a model stays.
    """
    far, model = ml_predictions_cache.c, ml_models.c
    replaced = (far.prediction_timestamp < as_of - FAR_FORECASTS) & (far.prediction_horizon_hours > JUDGED_HOURS)
    emptied = (
        update(ml_models)
        .where(model.retired_at < as_of - max(keep_artefacts, FALLBACK_FOR), model.artefact.is_not(None))
        .values(artefact=None)
    )
    forecasts = delete_in_batches(database, ml_predictions_cache, replaced)
    with database.begin() as connection:
        return {"far_forecasts_deleted": forecasts, "artefacts_deleted": connection.execute(emptied).rowcount}
