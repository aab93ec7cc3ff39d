"""Multivariate detectors of districts: learned weekly, in shadow until their alarms have shown what they are good for.

A detector is no better known for being newer: what counts is what its district's alarms, by whatever version, showed
beside the events of all other detectors.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import orjson
from sqlalchemy import Connection, Row, delete, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert

from src.db.tables import anomalies, detector_alarms, ml_models
from src.domain import lifecycle
from src.domain.anomalies.events import INFO, Finding
from src.domain.anomalies.multivariate import BUDGET, Relations
from src.domain.anomalies.signals import Flags, Floats, Integers, Signals
from src.domain.anomalies.together import METHOD, TOGETHER, Detector, record_of, relations_of_district
from src.observability import logger
from src.processing.modelling import registry

DAY, WEEK = timedelta(days=1), timedelta(days=7)


def detectors_of_week(
    connection: Connection, monday: datetime, now: datetime, districts: Collection[str]
) -> list[Detector]:
    """The detectors of these districts in use, active or in shadow, that were learned from what was before a week.

    One whose artefact is refused gives way to its fallback, or retires; that is recorded and logged.
    """
    detectors = []
    for model in _watching(connection, now):
        if model.training_data_end > monday or model.scope not in districts:
            continue
        try:
            relations = Relations.of(orjson.loads(registry.artefact_of(connection, model.model_id)))
        except ValueError as error:
            logger(__name__).error("a model is refused", model_id=str(model.model_id), error=str(error))
            registry.take_out(connection, model, now, registry.SERVICE, str(error))
            continue
        detectors.append(Detector(str(model.model_id), model.scope, relations, model.is_active))
    return detectors


def _watching(connection: Connection, now: datetime) -> list[Row[Any]]:
    """Active models and shadows: a fallback watches nothing."""
    in_use = registry.in_use(connection, registry.ANOMALIES, now)
    return [model for model in in_use if model.is_active or model.status == registry.SHADOW]


def learn_detectors(
    connection: Connection,
    history: Signals,
    scaled: Floats,
    is_usable: Flags,
    cells: Integers,
    monday: datetime,
    now: datetime,
) -> None:
    """Learns a new version for each district that has none of this week, and sends it to shadow.

    Args:
        history: the weeks before `monday`.
        scaled: hours × signals, what habits do not explain of it, in spreads; NaN where no habits are known.
        is_usable: hours × signals; False where an event lies over the hour.
        cells: the cell of the week of each hour.
    """
    latest = select(ml_models.c.scope, func.max(ml_models.c.training_data_end))
    latest = latest.where(ml_models.c.model_type == registry.ANOMALIES).group_by(ml_models.c.scope)
    known = {scope: end for scope, end in connection.execute(latest)}
    for district_id in sorted({str(name) for name in history.listed["district_id"].dropna()}):
        if district_id in known and known[district_id] >= monday:
            continue
        try:
            found = relations_of_district(history, scaled, is_usable, cells, district_id)
        except (ValueError, ArithmeticError):
            logger(__name__).exception("no detector could be learned", district_id=district_id)
            continue
        if found is None:
            continue
        described = {
            "parameters": {"signals": found.keys, "false_alarms_per_month": BUDGET},
            "validation_metrics": {"limit": found.limit},
            "training_data_start": history.hours[0].to_pydatetime(),
            "training_data_end": monday,
            "training_samples": len(history.hours) * len(found.keys),
        }
        artefact = orjson.dumps(found.plain())
        model_id = registry.add(connection, registry.ANOMALIES, district_id, artefact, now, now, described)
        reason = f"learned from {len(found.keys)} signals; its alarms are compared with events first"
        registry.send_to_shadow(connection, model_id, now, registry.SERVICE, reason)


def keep_alarms(connection: Connection, alarms: dict[str, list[Finding]], monday: datetime) -> None:
    """Replaces what is stored of detectors' alarms in the week that begins on `monday`."""
    column = detector_alarms.c
    for model_id, findings in alarms.items():
        within = (column.model_id == UUID(model_id), column.detected_at > monday, column.detected_at <= monday + WEEK)
        connection.execute(delete(detector_alarms).where(*within))
        rows = [
            {
                "model_id": UUID(model_id),
                "timestamp": alarm.begin,
                "detected_at": alarm.detected,
                "end": alarm.end,
                "metadata": alarm.why,
            }
            for alarm in findings
        ]
        if rows:
            # New habits may find an alarm that began in the week before a little later, and so in this week.
            statement = insert(detector_alarms)
            changed = {name: statement.excluded[name] for name in ("detected_at", "end", "metadata")}
            keys = ["model_id", "timestamp"]
            connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed), rows)


def review_detectors(connection: Connection, as_of: datetime) -> list[dict[str, str]]:
    """Decides on every detector in use, and returns the decisions. The record of their alarms is stored as metrics."""
    by_scope: dict[str, list[Row[Any]]] = {}
    for model in _watching(connection, as_of):
        by_scope.setdefault(model.scope, []).append(model)
    decided: list[dict[str, str]] = []
    for scope, models in by_scope.items():
        record = _record(connection, scope, as_of)
        figures = {name: value for name, value in vars(record).items() if np.isfinite(value)}
        for model in models:
            connection.execute(update(ml_models).where(ml_models.c.model_id == model.model_id).values(metrics=figures))
        active = next((model for model in models if model.is_active), None)
        shadow = next((model for model in models if not model.is_active), None)
        if active is not None:
            verdict = lifecycle.judge_active_detector(record)
            if verdict.action == lifecycle.RETIRE:
                registry.retire(connection, active.model_id, as_of, registry.SERVICE, verdict.reason)
                decided.append(_decision(active, verdict))
                continue
        if shadow is not None:
            verdict = lifecycle.judge_detector(record, shadow.shadow_since, as_of, active is not None)
            if verdict.action == lifecycle.PROMOTE:
                registry.promote(connection, shadow.model_id, as_of, registry.SERVICE, verdict.reason)
                decided.append(_decision(shadow, verdict))
    return decided


def _decision(model: Row[Any], verdict: lifecycle.Verdict) -> dict[str, str]:
    return {"model_id": str(model.model_id), "decision": verdict.action, "reason": verdict.reason}


def _record(connection: Connection, scope: str, as_of: datetime) -> lifecycle.Record:
    of_scope = (ml_models.c.model_type == registry.ANOMALIES, ml_models.c.scope == scope)
    first = connection.execute(select(func.min(ml_models.c.shadow_since)).where(*of_scope)).scalar_one()
    since = as_of - timedelta(days=lifecycle.RECORD_DAYS)
    alarm, event = detector_alarms.c, anomalies.c
    alarms = connection.execute(
        select(literal(TOGETHER).label("anomaly_type"), alarm.timestamp, alarm.detected_at, alarm.end, alarm.metadata)
        .join(ml_models, ml_models.c.model_id == alarm.model_id)
        .where(*of_scope, alarm.detected_at > since)
    )
    events = connection.execute(
        select(event.anomaly_type, event.timestamp, event.detected_at, event.end, event.metadata).where(
            event.district_id == scope, event.timestamp < as_of, (event.end.is_(None)) | (event.end >= since - DAY)
        )
    )
    return record_of([_finding(row) for row in alarms], [_finding(row) for row in events], first, as_of)


def _finding(row: Row[*tuple[Any, ...]]) -> Finding:
    """What a record needs to know of an alarm or event."""
    return Finding(
        "", row.anomaly_type, None, METHOD, row.timestamp, row.detected_at, row.end, INFO, None, None,
        dict(row.metadata),
    )  # fmt: skip
