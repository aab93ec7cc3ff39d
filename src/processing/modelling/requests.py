"""Requests about models through the API: taken up each minute, carried out as by hand, and answered.

A request is held while it is decided on, so one replica does it; what it changes and what became of it are written in
one transaction. A training is a job that bears the request's id: a replica that ends in between starts no second one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, select, text, update

from src.db import generation
from src.db.failures import is_of_the_database, is_of_the_values
from src.db.tables import job_chunks, model_requests, processing_jobs
from src.observability import logger
from src.processing.jobs import records as jobs
from src.processing.jobs.announcement import announce
from src.processing.jobs.patience import patiently
from src.processing.jobs.runtime import Runtime
from src.processing.modelling import registry
from src.processing.modelling.pools import FLOWED_WITHIN, pools
from src.processing.modelling.training import start_training

QUEUED, RUNNING, DONE, REFUSED, FAILED = "queued", "running", "done", "refused", "failed"
# Why a training of these cannot be started by hand.
NOT_BY_HAND = {
    registry.ANOMALIES: "detectors are learned with what is usual of their districts' signals, at the first cycle "
    "of each week, from what is stored: there is no training of them to start",
    registry.PRESSURE: "relations of leakage to pressure are fitted with the recommendations of each day, and "
    "renewed a week after they were: there is no training of them to start",
}
_requests = model_requests.c
# Of replicas that would start trainings at the same moment, for two requests, one does.
_STARTING = text("SELECT pg_try_advisory_xact_lock(72652005)")
Answer = tuple[str, str]


def run_requests(runtime: Runtime, send: Callable[[UUID, int], None], as_of: datetime) -> None:
    """Answers requests, oldest first, also with the outcome of trainings; then starts the trainings that are left.

    A request that meets an error is looked at again a minute later; those behind it do not wait for it. Where the
    database itself refuses, they do: it would refuse each of them, after all attempts.

    Args:
        send: offers a chunk of a job to the replicas, such as `Queue.send_training`.

    Raises:
        ExceptionGroup: once all requests are looked at, the errors that some of them met.
        SQLAlchemyError: at once, where the database is away or takes no writes.
    """

    def answer(request_id: UUID) -> bool:
        with runtime.database.begin() as connection:
            return _answer(runtime, connection, request_id)

    def decide(request_id: UUID) -> bool:
        return patiently(runtime, partial(answer, request_id), "a request of models")

    def start(request_id: UUID) -> bool:
        return _start(runtime, send, request_id, as_of)

    answered, errors = False, []
    for step, statuses in ((decide, (QUEUED, RUNNING)), (start, (QUEUED,))):
        for request_id in _open(runtime, *statuses):
            try:
                answered |= step(request_id)
            except Exception as error:
                if is_of_the_database(error) and not is_of_the_values(error):
                    raise
                errors.append(error)
    if answered:
        announce(runtime)
    if errors:
        raise ExceptionGroup("requests of models that will be looked at again", errors)


def _open(runtime: Runtime, *statuses: str) -> Sequence[UUID]:
    query = select(_requests.request_id).where(_requests.status.in_(statuses))
    with runtime.database.connect() as connection:
        return connection.execute(query.order_by(_requests.requested_at, _requests.request_id)).scalars().all()


def _answer(runtime: Runtime, connection: Connection, request_id: UUID) -> bool:
    """Decides on a request where that takes no training; whether it did."""
    # Whoever holds it decides on it.
    query = select(model_requests).where(_requests.request_id == request_id, _requests.status.in_((QUEUED, RUNNING)))
    request = connection.execute(query.with_for_update(skip_locked=True)).one_or_none()
    if request is None:
        return False
    if request.action == "train":
        answer = _training_answer(runtime, connection, request)
    else:
        answer = _settled(runtime, connection, request)
    if answer is None:
        return False
    _write(connection, request, *answer, runtime.clock.now())
    return True


def _settled(runtime: Runtime, connection: Connection, request: Row[Any]) -> Answer:
    settle: dict[str, Callable[[Connection, UUID, datetime, str, str], object]] = {
        "promote": registry.promote,
        "roll_back": registry.roll_back,
    }
    reason = request.note or f"asked for through the API by {request.requested_by}"
    try:
        with connection.begin_nested():
            settle[request.action](connection, request.model_id, runtime.clock.now(), request.requested_by, reason)
    except registry.NoSuchModel as problem:
        return REFUSED, str(problem)
    return DONE, {"promote": "it is the active model now", "roll_back": "the model before it is active again"}[
        request.action
    ]


def _training_answer(runtime: Runtime, connection: Connection, request: Row[Any]) -> Answer | None:
    """What became of a training, or why there will be none; None where it is to be started, or goes on."""
    if request.model_type in NOT_BY_HAND:
        return REFUSED, NOT_BY_HAND[request.model_type]
    job = _job_of(connection, request)
    if job is None:
        found = [pool.scope for pool in pools(connection, runtime.clock.now())]
        if not found:
            return REFUSED, f"no node has had flow within the last {FLOWED_WITHIN.days} days: there is nothing to train"
        if request.scope is not None and request.scope not in found:
            return REFUSED, f"there is no pool of nodes '{request.scope}'; there are {', '.join(found)}"[:2000]
        return None
    if job.status in jobs.UNFINISHED:
        if request.status == QUEUED:
            connection.execute(
                update(model_requests)
                .where(_requests.request_id == request.request_id)
                .values(status=RUNNING, job_id=job.job_id)
            )
        return None
    return _trained(runtime, connection, request, job)


def _trained(runtime: Runtime, connection: Connection, request: Row[Any], job: Row[Any, Any, Any]) -> Answer:
    """The outcome of a training that has ended; who requested it is recorded with each of its models."""
    columns = job_chunks.c
    parts = connection.execute(select(columns.scope, columns.result_summary).where(columns.job_id == job.job_id)).all()
    models = [UUID(part.result_summary["model_id"]) for part in parts if "model_id" in part.result_summary]
    for model_id in models:
        reason = request.note or "a training was asked for through the API"
        registry.decide(connection, model_id, runtime.clock.now(), "requested", request.requested_by, reason)
    not_trained = [
        f"{part.scope}: {part.result_summary['not_trained']}" for part in parts if "not_trained" in part.result_summary
    ]
    outcome = "; ".join(filter(None, [_counted(len(models)), *not_trained, job.error_message]))[:2000]
    return DONE if models and job.status == "completed" else FAILED, outcome


def _counted(models: int) -> str:
    return f"{models} model{'' if models == 1 else 's'} trained"


def _start(runtime: Runtime, send: Callable[[UUID, int], None], request_id: UUID, as_of: datetime) -> bool:
    """Starts the training that a request asks for, unless one is running; whether the request's row has changed."""
    query = select(model_requests).where(_requests.request_id == request_id, _requests.status == QUEUED)
    with runtime.database.begin() as connection:
        if not connection.scalar(_STARTING):
            return False
        # Whoever decides on it does so at once; to go on to a younger one meanwhile would start that one first.
        request = connection.execute(query.with_for_update()).one_or_none()
        if request is None or _job_of(connection, request) or jobs.another_running(runtime.database, jobs.TRAINING):
            return False
        scopes = [] if request.scope is None else [request.scope]
        start_training(runtime, send, as_of, _bearer(request), scopes)
        # Within the same hold: another replica that looks at it now would leave it as it was for a minute.
        return _answer(runtime, connection, request_id)


def _bearer(request: Row[Any]) -> str:
    """The origin by which a job is known to be of the request."""
    return f"{request.requested_by} (request {request.request_id})"


def _job_of(connection: Connection, request: Row[Any]) -> Row[Any, Any, Any] | None:
    job = processing_jobs.c
    query = select(job.job_id, job.status, job.error_message).where(
        job.job_type == jobs.TRAINING, job.triggered_by == _bearer(request)
    )
    return connection.execute(query.order_by(job.created_at.desc()).limit(1)).one_or_none()


def _write(connection: Connection, request: Row[Any], status: str, outcome: str, now: datetime) -> None:
    connection.execute(
        update(model_requests)
        .where(_requests.request_id == request.request_id)
        .values(status=status, outcome=outcome, decided_at=now)
    )
    generation.advance(connection)
    logger(__name__).info(
        "a request of models is decided", action=request.action, status=status, by=request.requested_by, outcome=outcome
    )
