"""The review of models: how they did against what was measured since, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
from sqlalchemy import Connection, Row, text
from sqlalchemy.dialects.postgresql import insert

from src.db.bulk_read import read_rows
from src.db.tables import model_performance
from src.domain import lifecycle
from src.observability import logger
from src.processing.jobs import records as jobs
from src.processing.jobs.announcement import announce
from src.processing.jobs.runtime import Runtime
from src.processing.jobs.scheduled import Done, run_scheduled
from src.processing.modelling import registry
from src.processing.modelling.detectors import review_detectors
from src.processing.modelling.forecasts import loaded, recent_history
from src.processing.modelling.pools import pools
from src.processing.modelling.training import start_training

REVIEW, EVALUATION = "model_review", "model_evaluation"
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# After a training, whatever triggered it, the next trigger waits: what it taught must show first.
TRAINED_AT_MOST_EVERY = timedelta(days=1)
# A model's forecasts of a day ahead at most whose hours are measured by now; the queries below go on from it.
_MEASURED = """
    WITH own AS (
        SELECT node_id, prediction_timestamp, target_timestamp, predicted_flow_rate, avg_flow_rate
        FROM water_infrastructure.ml_predictions_cache JOIN water_infrastructure.computed_metrics USING (node_id)
        WHERE model_id = %(own)s::uuid AND prediction_horizon_hours <= %(judged)s
            AND target_timestamp >= %(start)s AND prediction_timestamp >= %(start)s - interval '1 day'
            AND time_window = '1hour' AND window_start = target_timestamp
            AND window_start >= %(start)s AND window_end <= %(end)s AND avg_flow_rate IS NOT NULL
    )
"""
_COMPARED = "SELECT node_id, predicted_flow_rate, avg_flow_rate FROM own"
_ERROR = "SELECT avg(abs(predicted_flow_rate - avg_flow_rate)), count(DISTINCT target_timestamp) FROM own"
# Errors of two models on the same forecasts, averaged by target: a week of a large network's forecasts stays there.
_PAIRED = """
    SELECT target_timestamp, avg(abs(own.predicted_flow_rate - avg_flow_rate)),
        avg(abs(other.predicted_flow_rate - avg_flow_rate))
    FROM own JOIN water_infrastructure.ml_predictions_cache AS other
        USING (node_id, prediction_timestamp, target_timestamp)
    WHERE other.model_id = %(other)s::uuid GROUP BY target_timestamp
"""
SCORES = ("rmse", "mae", "mape", "r2_score")
# What the last evaluation of a model found, where it is a day old at most.
_DRIFTED = text(
    """
    SELECT drift_reason FROM water_infrastructure.model_performance
    WHERE model_id = :model_id AND evaluation_timestamp = (
        SELECT max(evaluation_timestamp) FROM water_infrastructure.model_performance
        WHERE model_id = :model_id AND evaluation_timestamp > :since
    ) AND drift_detected
    """
)
_COLUMNS = {
    _COMPARED: {"node_id": "text", "predicted": "number", "measured": "number"},
    _ERROR: {"error": "number", "hours": "integer"},
    _PAIRED: {"target": "instant", "own": "number", "other": "number"},
}


def run_review(runtime: Runtime, send: Callable[[UUID, int], None], as_of: datetime) -> None:
    """The hourly review, if no other replica has it: promotes, rolls back, retires, and starts trainings."""

    def look() -> Done:
        with runtime.database.begin() as connection:
            decided, wanting = review(connection, as_of)
            decided += review_detectors(connection, as_of)
        return Done({"decided": decided, "to_train": wanting})

    done = run_scheduled(runtime, REVIEW, f"Model review {as_of:%Y-%m-%d %H:%M}", as_of, look)
    if done is None:
        return
    announce(runtime)
    wanting = done.summary["to_train"]
    if wanting and _last_training(runtime) <= as_of - TRAINED_AT_MOST_EVERY:
        logger(__name__).info("training triggered", reasons=wanting)
        start_training(runtime, send, as_of, "; ".join(sorted(set(wanting.values())))[:500], list(wanting))


def review(connection: Connection, as_of: datetime) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Decides on every model in use: what was decided, and of which scopes a model should be trained, and why."""
    in_use = registry.in_use(connection, registry.FLOW, as_of)
    by_scope: dict[str, list[Row[Any]]] = {}
    for model in in_use:
        by_scope.setdefault(model.scope, []).append(model)
    decided: list[dict[str, str]] = []
    wanting = {pool.scope: "no model is active" for pool in pools(connection, as_of)}
    for scope, models in by_scope.items():
        active = next((model for model in models if model.is_active), None)
        if active is None:
            continue
        wanting.pop(scope, None)
        shadow = next((model for model in models if model.status == registry.SHADOW), None)
        fallback = next((model for model in models if model.model_id == active.fallback_id), None)
        verdict, about = _verdict(connection, active, shadow, fallback, as_of)
        if verdict is not None and about is not None:
            settle = {
                lifecycle.PROMOTE: registry.promote,
                lifecycle.RETIRE: registry.retire,
                lifecycle.ROLL_BACK: registry.roll_back,
            }[verdict.action]
            settle(connection, about.model_id, as_of, registry.SERVICE, verdict.reason)
            decided.append({"model_id": str(about.model_id), "decision": verdict.action, "reason": verdict.reason})
        elif shadow is None:
            recent = _of_measured(connection, _ERROR, active.model_id, as_of - 3 * DAY, as_of).iloc[0]
            baseline = active.validation_metrics.get("mae", np.nan)
            needed = lifecycle.judge_training(recent["error"], baseline, int(recent["hours"]))
            bound = {"model_id": active.model_id, "since": as_of - DAY - HOUR}
            drifted: str | None = connection.scalar(_DRIFTED, bound)
            if needed is not None:
                wanting[scope] = needed.reason
            elif drifted is not None:
                wanting[scope] = f"its data have drifted: {drifted}"
    return decided, wanting


def _verdict(
    connection: Connection, active: Row[Any], shadow: Row[Any] | None, fallback: Row[Any] | None, as_of: datetime
) -> tuple[lifecycle.Verdict | None, Row[Any] | None]:
    """What is to be done, if anything, and to which model: first of all a bad active model is taken back."""
    if fallback is not None:
        # Only what both have forecast since the promotion, and no longer ago than a day: what is bad shows at once.
        since = max(active.activated_at, as_of - DAY)
        comparison = lifecycle.compare(_paired(connection, active.model_id, fallback.model_id, since, as_of))
        verdict = lifecycle.judge_active(comparison, active.activated_at, as_of)
        if verdict.action == lifecycle.ROLL_BACK:
            return verdict, active
    if shadow is not None:
        since = shadow.shadow_since
        comparison = lifecycle.compare(_paired(connection, shadow.model_id, active.model_id, since, as_of))
        verdict = lifecycle.judge_shadow(comparison, since, as_of)
        if verdict.action in (lifecycle.PROMOTE, lifecycle.RETIRE):
            return verdict, shadow
    return None, None


def _paired(connection: Connection, model_id: UUID, other_id: UUID, start: datetime, end: datetime) -> pd.DataFrame:
    """Mean absolute errors of two models where both have forecast the same target at the same instant, by target."""
    return _of_measured(connection, _PAIRED, model_id, start, end, other_id).set_index("target")


def _of_measured(
    connection: Connection, query: str, model_id: UUID, start: datetime, end: datetime, other_id: UUID | None = None
) -> pd.DataFrame:
    """The rows of a query about a model's forecasts (L/s) of the hours in a span, with the columns of `_COLUMNS`."""
    bound = {"own": str(model_id), "other": str(other_id), "judged": lifecycle.JUDGED_HOURS, "start": start, "end": end}
    return read_rows(connection, _MEASURED + query, bound, _COLUMNS[query])


def run_evaluation(runtime: Runtime, as_of: datetime) -> None:
    """The daily evaluation of yesterday's forecasts, if no other replica has done it."""

    def look() -> Done:
        with runtime.database.begin() as connection:
            return Done({"models_evaluated": evaluate(runtime, connection, as_of)})

    run_scheduled(runtime, EVALUATION, f"Model evaluation {as_of:%Y-%m-%d}", as_of, look)


def evaluate(runtime: Runtime, connection: Connection, as_of: datetime) -> int:
    """Writes how the models in use did over the day before, and how far their data have drifted from those they learned
    from; the number of models. Harmless to repeat."""
    models = registry.in_use(connection, registry.FLOW, as_of)
    members = {pool.scope: pool.node_ids for pool in pools(connection, as_of)}
    for model in models:
        compared = _of_measured(connection, _COMPARED, model.model_id, as_of - DAY, as_of)
        row = {
            "model_id": model.model_id,
            "evaluation_timestamp": as_of,
            "evaluation_window": "24h",
            "predictions_count": len(compared),
            **(_scores(compared) if len(compared) else dict.fromkeys(SCORES)),
            "node_metrics": {str(node): _scores(part) for node, part in compared.groupby("node_id")},
            **_drift(runtime, connection, model, members.get(model.scope, []), as_of),
        }
        statement = insert(model_performance).values(row)
        keys = ["model_id", "evaluation_timestamp", "evaluation_window"]
        changed = {name: statement.excluded[name] for name in row if name not in keys}
        connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed))
    return len(models)


def _drift(
    runtime: Runtime, connection: Connection, model: Row[Any], nodes: list[str], as_of: datetime
) -> dict[str, Any]:
    forecaster = loaded(runtime, connection, model, as_of) if nodes else None
    if forecaster is None:
        return dict.fromkeys(("feature_drift_score", "prediction_drift_score", "drift_detected", "drift_reason"))
    drift = forecaster.drift(recent_history(runtime, connection, nodes, as_of))
    return {
        "feature_drift_score": None if np.isnan(drift.features) else drift.features,
        "prediction_drift_score": None if np.isnan(drift.predictions) else drift.predictions,
        "drift_detected": drift.detected,
        "drift_reason": drift.reason,
    }


def _scores(rows: pd.DataFrame) -> dict[str, float | None]:
    """Errors in L/s; `mape` in percent of what was measured, where that is not zero; null where not defined."""
    error, measured = rows["predicted"] - rows["measured"], rows["measured"]
    total = float(((measured - measured.mean()) ** 2).sum())
    flowing = measured > 0
    return {
        "rmse": float(np.sqrt((error**2).mean())),
        "mae": float(error.abs().mean()),
        "mape": float((error[flowing] / measured[flowing]).abs().mean() * 100) if flowing.any() else None,
        "r2_score": 1 - float((error**2).sum()) / total if total > 0 else None,
    }


def _last_training(runtime: Runtime) -> datetime:
    latest = jobs.latest(runtime.database, jobs.TRAINING, runtime.clock.now(), 1)
    return latest[0].created_at if latest else datetime.min.replace(tzinfo=runtime.zone)
