"""The register of models in the database: versions, artefacts, who is active, and every decision with its reason."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, or_, select, update

from src.db.tables import ml_models, model_decisions
from src.domain.lifecycle import FALLBACK_FOR

FLOW, ANOMALIES, PRESSURE = "flow_prediction", "anomaly_detection", "efficiency_optimization"
# Who decides where nobody did by hand.
SERVICE = "service"
ACTIVE, SHADOW, RETIRED, FAILED = "active", "shadow", "retired", "failed"
_models = ml_models.c
# The columns that describe a model; its artefact is read only where it is used.
DESCRIBED = [column for column in ml_models.c if column.name != "artefact"]


class TamperedArtefact(ValueError):
    """The bytes of a model are not those that its training wrote."""


class NoSuchModel(ValueError):
    """The requested model is not there, or not in a state in which that can be done to it."""


def add(
    connection: Connection,
    model_type: str,
    scope: str,
    artefact: bytes,
    begun: datetime,
    now: datetime,
    described: Mapping[str, Any],
) -> UUID:
    """Registers a trained model, neither active nor in shadow yet.

    Args:
        described: further columns of `ml_models`: metrics, validation_metrics, parameters, training_data_start and so
            on.
    """
    model_id = uuid4()
    number = connection.execute(select(func.count()).where(_of(model_type, scope))).scalar_one() + 1
    connection.execute(
        insert(ml_models).values(
            model_id=model_id,
            model_name=f"{model_type} of {scope}",
            model_type=model_type,
            scope=scope,
            version=f"{now:%Y%m%d}.{number}",
            created_at=now,
            training_started_at=begun,
            training_completed_at=now,
            training_duration_seconds=(now - begun).total_seconds(),
            status="validating",
            artefact=artefact,
            model_size_bytes=len(artefact),
            model_hash=hashlib.sha256(artefact).hexdigest(),
            library_versions={"python": platform.python_version()}
            | {name: version(name) for name in ("xgboost-cpu", "numpy", "pandas")},
            **described,
        )
    )
    return model_id


def artefact_of(connection: Connection, model_id: UUID) -> bytes:
    """The model's bytes, which are those that were registered.

    Raises:
        TamperedArtefact: if they are not, or if they are gone.
    """
    row = connection.execute(
        select(_models.artefact, _models.model_hash, _models.model_name, _models.version).where(
            _models.model_id == model_id
        )
    ).one()
    if row.artefact is None or hashlib.sha256(row.artefact).hexdigest() != row.model_hash:
        raise TamperedArtefact(
            f"the artefact of {row.model_name} {row.version} is not what its training wrote (its SHA-256 differs): "
            "it is not loaded; roll back or train a new model"
        )
    return bytes(row.artefact)


def in_use(connection: Connection, model_type: str, now: datetime) -> Sequence[Row[Any]]:
    """Active models, shadows, and the fallbacks of active models promoted within `FALLBACK_FOR`, without artefacts."""
    active = ml_models.alias("active")
    fallback = select(active.c.fallback_id).where(active.c.is_active, active.c.activated_at > now - FALLBACK_FOR)
    query = select(*DESCRIBED).where(
        _models.model_type == model_type,
        or_(_models.is_active, _models.status == SHADOW, _models.model_id.in_(fallback)),
    )
    return connection.execute(query.order_by(_models.scope, _models.created_at)).all()


def all_models(connection: Connection) -> Sequence[Row[Any]]:
    """Every model without its artefact, newest first."""
    return connection.execute(select(*DESCRIBED).order_by(_models.created_at.desc(), _models.version.desc())).all()


def model(connection: Connection, model_id: UUID) -> Row[Any]:
    """One model without its artefact; it and the others of its scope are held until the transaction ends.

    Raises:
        NoSuchModel: if there is none.
    """
    place = connection.execute(
        select(_models.model_type, _models.scope).where(_models.model_id == model_id)
    ).one_or_none()
    if place is None:
        raise NoSuchModel(f"there is no model {model_id}")
    _hold(connection, place.model_type, place.scope)
    return connection.execute(select(*DESCRIBED).where(_models.model_id == model_id)).one()


def active_of(connection: Connection, model_type: str, scope: str) -> Row[Any] | None:
    """The active model of a scope; all models of the scope are held until the transaction ends."""
    _hold(connection, model_type, scope)
    return connection.execute(select(*DESCRIBED).where(_of(model_type, scope), _models.is_active)).one_or_none()


def decide(connection: Connection, model_id: UUID, now: datetime, decision: str, by: str, reason: str) -> None:
    """Writes down what was decided of a model."""
    connection.execute(
        insert(model_decisions).values(
            model_id=model_id, decided_at=now, decision=decision, decided_by=by, reason=reason
        )
    )


def send_to_shadow(connection: Connection, model_id: UUID, now: datetime, by: str, reason: str) -> None:
    """Lets a model forecast beside the active one; an older shadow of its scope retires."""
    shadow = model(connection, model_id)
    older = select(_models.model_id).where(_of(shadow.model_type, shadow.scope), _models.status == SHADOW)
    for earlier in connection.execute(older).scalars():
        retire(connection, earlier, now, by, f"a newer model, {shadow.version}, takes its place in shadow")
    connection.execute(update(ml_models).where(_models.model_id == model_id).values(status=SHADOW, shadow_since=now))
    decide(connection, model_id, now, "shadow", by, reason)


def promote(connection: Connection, model_id: UUID, now: datetime, by: str, reason: str) -> None:
    """Makes a model the active one of its scope; the one it replaces becomes its fallback.

    Raises:
        NoSuchModel: if there is none, if it failed its training, or if its bytes are no longer stored.
    """
    chosen = model(connection, model_id)
    if chosen.is_active or chosen.status == FAILED:
        raise NoSuchModel(f"model {model_id} is {chosen.status}: it cannot be promoted")
    _need_bytes(connection, model_id)
    replaced = active_of(connection, chosen.model_type, chosen.scope)
    if replaced is not None:
        _put_down(connection, replaced.model_id, now)
        decide(connection, replaced.model_id, now, "replaced", by, f"{chosen.version} takes its place: {reason}")
    connection.execute(
        update(ml_models)
        .where(_models.model_id == model_id)
        .values(
            status=ACTIVE,
            is_active=True,
            activated_at=now,
            retired_at=None,
            fallback_id=None if replaced is None else replaced.model_id,
        )
    )
    decide(connection, model_id, now, "promoted", by, reason)


def roll_back(connection: Connection, model_id: UUID, now: datetime, by: str, reason: str) -> UUID:
    """Puts an active model's fallback back in its place; the fallback.

    Raises:
        NoSuchModel: if the model is not active, replaced none, or the bytes of that one are no longer stored.
    """
    active = model(connection, model_id)
    if not active.is_active or active.fallback_id is None:
        raise NoSuchModel(f"model {model_id} is {active.status} and has no model to roll back to")
    fallback = model(connection, active.fallback_id)
    _need_bytes(connection, fallback.model_id)
    _put_down(connection, model_id, now)
    decide(connection, model_id, now, "rolled_back", by, reason)
    connection.execute(
        update(ml_models)
        .where(_models.model_id == fallback.model_id)
        .values(status=ACTIVE, is_active=True, activated_at=now, retired_at=None, fallback_id=None)
    )
    decide(connection, fallback.model_id, now, "reinstated", by, f"{active.version} was rolled back: {reason}")
    return UUID(str(fallback.model_id))


def retire(connection: Connection, model_id: UUID, now: datetime, by: str, reason: str) -> None:
    """Takes a model out of use for good.

    Raises:
        NoSuchModel: if there is none.
    """
    model(connection, model_id)
    _put_down(connection, model_id, now)
    decide(connection, model_id, now, "retired", by, reason)


def take_out(connection: Connection, refused: Row[Any], now: datetime, by: str, reason: str) -> None:
    """Puts a refused model's fallback in its place, or retires it where it has none that could be loaded."""
    if refused.is_active:
        try:
            roll_back(connection, refused.model_id, now, by, reason)
        except NoSuchModel:
            retire(connection, refused.model_id, now, by, reason)
    elif refused.status == SHADOW:
        retire(connection, refused.model_id, now, by, reason)


def _hold(connection: Connection, model_type: str, scope: str) -> None:
    """Holds every model of a scope, always in the same order, before anything about them is decided.

    Who changes the scope from one end would otherwise wait for who changes it from the other, and that one for it.
    """
    # As much as an update of them holds, and no more: alarms and decisions that refer to a model need not wait.
    every = select(_models.model_id).where(_of(model_type, scope)).order_by(_models.model_id)
    connection.execute(every.with_for_update(key_share=True)).all()


def _need_bytes(connection: Connection, model_id: UUID) -> None:
    if connection.scalar(select(_models.artefact.is_(None)).where(_models.model_id == model_id)):
        raise NoSuchModel(f"the bytes of model {model_id} are no longer kept: it cannot be made active")


def _put_down(connection: Connection, model_id: UUID, now: datetime) -> None:
    connection.execute(
        update(ml_models).where(_models.model_id == model_id).values(status=RETIRED, is_active=False, retired_at=now)
    )


def _of(model_type: str, scope: str) -> ColumnElement[bool]:
    return and_(_models.model_type == model_type, _models.scope == scope)
