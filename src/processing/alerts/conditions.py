"""What the rules find wrong, read from the database and the queue."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import redis
from sqlalchemy import Connection, text

from src.domain.alerts import Condition
from src.processing.alerts.rules import (
    Anomalies,
    DataQuality,
    FailedJobs,
    LateCycle,
    ModelDegradation,
    Rule,
    Rules,
    ServiceHealth,
    StaleData,
)
from src.processing.jobs.measures import CHUNK_QUEUE, TRAINING_QUEUE, waiting
from src.processing.jobs.runtime import Runtime

# As many names as fit a message.
_NAMED = 20
_RECENT_JOBS = text(
    """
    SELECT status, error_message, failed_items FROM water_infrastructure.processing_jobs
    WHERE job_type = :job_type AND status IN ('completed', 'failed') AND created_at <= :now
        AND NOT result_summary ? 'skipped'
    ORDER BY created_at DESC LIMIT :limit
    """
)
_LAST_SUCCESS = text(
    """
    SELECT max(completed_at) FILTER (WHERE status = 'completed' AND NOT result_summary ? 'skipped') AS succeeded,
        min(created_at) AS first
    FROM water_infrastructure.processing_jobs WHERE job_type = 'processing_cycle' AND created_at <= :now
    """
)
_LATEST_READING = text("SELECT max(last_reading) FROM water_infrastructure.ingestion_watermarks")
_POOR_QUALITY = text(
    """
    SELECT node_id, overall_quality_score FROM water_infrastructure.data_quality_metrics
    WHERE time_window = '24h' AND overall_quality_score < :below AND check_timestamp = (
        SELECT max(check_timestamp) FROM water_infrastructure.data_quality_metrics
        WHERE time_window = '24h' AND check_timestamp > :since
    )
    ORDER BY overall_quality_score, node_id
    """
)
_MODELS = text(
    """
    SELECT model_name, model_type, version, latest.mae, latest.drift_detected, latest.drift_reason,
        CASE WHEN jsonb_typeof(validation_metrics -> 'mae') = 'number'
            THEN CAST(validation_metrics ->> 'mae' AS double precision) END AS baseline
    FROM water_infrastructure.ml_models JOIN LATERAL (
        SELECT mae, drift_detected, drift_reason FROM water_infrastructure.model_performance AS performance
        WHERE performance.model_id = ml_models.model_id ORDER BY evaluation_timestamp DESC LIMIT 1
    ) AS latest ON true
    WHERE is_active
    """
)
# Of each model in use that is trained weekly, to when its latest version, active or not, has learned.
_LEARNED = text(
    """
    SELECT active.model_name, active.model_type, max(ml_models.training_data_end) AS learned_until
    FROM water_infrastructure.ml_models AS active
    JOIN water_infrastructure.ml_models USING (model_type, scope)
    WHERE active.is_active AND active.model_type IN ('flow_prediction', 'anomaly_detection')
        AND ml_models.status <> 'failed'
    GROUP BY 1, 2 HAVING max(ml_models.training_data_end) < :before ORDER BY 1
    """
)
_REPLICAS = text(
    """
    SELECT count(*) FROM water_infrastructure.processing_replicas
    WHERE heartbeat_at > now() - make_interval(secs => :silence)
    """
)
_INCIDENTS = text(
    """
    SELECT coalesce(incident_id, anomaly_id) AS incident, min(timestamp) AS since, max(district_id) AS district_id,
        array_agg(DISTINCT node_id) AS nodes, array_agg(DISTINCT anomaly_type) AS types,
        (array_agg(metadata ->> 'explanation' ORDER BY timestamp))[1] AS explanation,
        bool_and(acknowledged_at IS NOT NULL) AS is_acknowledged
    FROM water_infrastructure.anomalies
    WHERE resolved_at IS NULL AND severity = ANY(:severities) AND (:every_type OR anomaly_type = ANY(:types))
        AND NOT metadata ? 'explained_by'
    GROUP BY 1 ORDER BY 2
    """
)
_SEVERITIES = ["info", "warning", "critical"]


def conditions(connection: Connection, runtime: Runtime, rules: Rules, now: datetime) -> list[Condition]:
    """Everything that any rule finds wrong at `now`."""
    return [condition for rule in rules.rules for condition in _of_rule(connection, runtime, rule, now)]


def _of_rule(connection: Connection, runtime: Runtime, rule: Rule, now: datetime) -> list[Condition]:
    match rule:
        case FailedJobs():
            return _failed_jobs(connection, rule, now)
        case LateCycle():
            last = connection.execute(_LAST_SUCCESS, {"now": now}).one()
            # Between two ticks nothing is late, however far apart they are.
            minutes = rule.minutes or 2 * runtime.settings.check_interval_minutes + 15
            return _overdue(rule, last.succeeded or last.first, now, minutes, "No processing cycle has succeeded")
        case StaleData():
            latest = connection.scalar(_LATEST_READING)
            return _overdue(rule, latest, now, rule.minutes, "No node has sent anything")
        case DataQuality():
            return _poor_quality(connection, rule, now)
        case ModelDegradation():
            return _degraded_models(connection, rule) + _stale_models(connection, rule, now)
        case ServiceHealth():
            return _service_health(connection, runtime, rule)
        case Anomalies():
            return _incidents(connection, rule)


def _failed_jobs(connection: Connection, rule: FailedJobs, now: datetime) -> list[Condition]:
    bound = {"job_type": rule.job_type, "now": now, "limit": rule.in_a_row}
    jobs = connection.execute(_RECENT_JOBS, bound).all()
    if len(jobs) < rule.in_a_row or not all(
        job.status == "failed" or (rule.even_in_part and (job.failed_items > 0 or job.error_message)) for job in jobs
    ):
        return []
    how = "failed" if jobs[0].status == "failed" else "failed in part"
    what = f"The last {len(jobs)} jobs of type {rule.job_type} {how}" if len(jobs) > 1 else f"{rule.job_type} {how}"
    reason = jobs[0].error_message or "no reason was recorded"
    return [Condition(rule.name, rule.job_type, rule.severity, f"{what}: {reason}"[:1000], {"job_type": rule.job_type})]


def _overdue(
    rule: LateCycle | StaleData, last: datetime | None, now: datetime, minutes: float, what: str
) -> list[Condition]:
    if last is None or now - last < timedelta(minutes=minutes):
        return []
    age = (now - last) / timedelta(minutes=1)
    details = {"since": last.isoformat(), "minutes": round(age, 1)}
    return [Condition(rule.name, "network", rule.severity, f"{what} for {age:.0f} minutes", details)]


def _poor_quality(connection: Connection, rule: DataQuality, now: datetime) -> list[Condition]:
    poor = connection.execute(_POOR_QUALITY, {"below": rule.below, "since": now - timedelta(days=1)}).all()
    if not poor:
        return []
    scores: dict[str, Any] = {row.node_id: round(row.overall_quality_score, 3) for row in poor[:_NAMED]}
    nodes = f"{len(poor)} node{'s' if len(poor) > 1 else ''}"
    summary = f"The data of {nodes} cannot be trusted: {_listed(list(scores), len(poor))}"
    return [Condition(rule.name, "network", rule.severity, summary, {"nodes": len(poor), "worst": scores})]


def _degraded_models(connection: Connection, rule: ModelDegradation) -> list[Condition]:
    found = []
    for model in connection.execute(_MODELS):
        worse = model.mae is not None and model.baseline and model.mae > rule.times * model.baseline
        if worse or model.drift_detected:
            problem = (
                f"its error is {model.mae / model.baseline:.2f} times that of its validation"
                if worse
                else f"its data have drifted from those it learned from: {model.drift_reason}"
            )
            details = {"model_type": model.model_type, "version": model.version, "mae": model.mae}
            details["validation_mae"] = model.baseline
            summary = f"{model.model_name} {model.version}: {problem}"
            found.append(Condition(rule.name, f"{model.model_name} {model.version}", rule.severity, summary, details))
    return found


def _stale_models(connection: Connection, rule: ModelDegradation, now: datetime) -> list[Condition]:
    found = []
    for model in connection.execute(_LEARNED, {"before": now - timedelta(days=rule.days)}):
        days = (now - model.learned_until) / timedelta(days=1)
        summary = f"{model.model_name}: for {days:.0f} days no version of it could be learned anew"
        details = {"model_type": model.model_type, "learned_until": model.learned_until.isoformat()}
        found.append(Condition(rule.name, model.model_name, rule.severity, summary, details))
    return found


def _service_health(connection: Connection, runtime: Runtime, rule: ServiceHealth) -> list[Condition]:
    def wrong(subject: str, summary: str, **details: Any) -> Condition:
        return Condition(rule.name, subject, rule.severity, summary, details)

    found = []
    alive = connection.scalar(_REPLICAS, {"silence": runtime.settings.replica_timeout_seconds}) or 0
    if alive < rule.replicas:
        problem = f"{alive} processing replica{'' if alive == 1 else 's'} of at least {rule.replicas} alive"
        found.append(wrong("replicas", problem, alive=alive))
    try:
        queued = waiting(runtime.redis_now, CHUNK_QUEUE, TRAINING_QUEUE)
    except redis.RedisError as error:
        return [*found, wrong("redis", f"Redis does not answer: {error}"[:500])]
    if queued > rule.queued:
        found.append(wrong("queue", f"{queued} chunks of nodes and trainings wait in the queues", queued=queued))
    return found


def _incidents(connection: Connection, rule: Anomalies) -> list[Condition]:
    bound = {
        "severities": _SEVERITIES[_SEVERITIES.index(rule.at_least) :],
        "every_type": not rule.types,
        "types": sorted(rule.types),
    }
    found = []
    for row in connection.execute(_INCIDENTS, bound):
        place = f"district {row.district_id}" if row.district_id else _listed(row.nodes, len(row.nodes))
        kinds = ", ".join(kind.replace("_", " ") for kind in row.types)
        summary = f"{kinds} at {place}: {row.explanation or 'see the event'}"
        details = {"nodes": row.nodes[:_NAMED], "types": row.types, "since": row.since.isoformat()}
        details["is_acknowledged"] = row.is_acknowledged
        found.append(Condition(rule.name, str(row.incident), rule.severity, summary[:1000], details))
    return found


def _listed(names: list[str], count: int) -> str:
    shown = ", ".join(names[:3])
    return shown if count <= 3 else f"{shown} and {count - 3} more"
