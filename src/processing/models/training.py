"""Training: a job whose chunks are pools of nodes, shared by all replicas; each makes one model."""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import redis
from sqlalchemy import Connection, Row

from src.domain.forecasting.boosting import MEMBERS
from src.domain.forecasting.model import NotEnoughHistory, train
from src.domain.forecasting.series import history_of, public_holidays
from src.domain.lifecycle import PROMOTE, judge_first
from src.observability import logger
from src.processing import chunks, jobs
from src.processing.models import registry
from src.processing.models.pools import Pool, pools
from src.processing.runtime import Runtime
from src.processing.warehouse.history import read_hourly_flow, read_hourly_weather

# Older readings are not read: a tenth of them would be learned from, of a network that has changed since.
HISTORY_DAYS = 3 * 365


def plan_training(runtime: Runtime, job_id: UUID, as_of: datetime, scopes: Collection[str] = ()) -> list[int]:
    """Records a chunk for every pool (or for those of the scopes named): their numbers."""
    with runtime.database.connect() as connection:
        found = [pool for pool in pools(connection, as_of) if not scopes or pool.scope in scopes]
    start, end = as_of - timedelta(days=HISTORY_DAYS), as_of.replace(minute=0, second=0, microsecond=0)
    planned = [chunks.Chunk(pool.node_ids, start, end, 0, {}, pool.scope) for pool in found]
    chunks.add(runtime.database, job_id, planned)
    return list(range(len(planned)))


def train_chunk(runtime: Runtime, connection: Connection, chunk: Row[Any]) -> dict[str, Any]:
    """Trains the model of one pool and registers it, in the caller's transaction; what is told of it.

    The first model of a scope becomes active if it beats the usual flow; a later one goes to shadow.

    Raises:
        WarehouseError: if the warehouse does not tell the history.
    """
    pool = Pool(chunk.scope, list(chunk.node_ids))
    begun = runtime.clock.now()
    read = read_hourly_flow(runtime.warehouse(), runtime.settings, pool.node_ids, chunk.read_start, chunk.read_end)
    told: dict[str, Any] = {"scope": pool.scope, "rows_read": read.rows, "bytes_processed": read.bytes_processed}
    if read.flow.empty:
        return told | {"not_trained": "none of its nodes has flow in the warehouse"}
    weather = read_hourly_weather(
        runtime.warehouse(), runtime.settings, read.flow.index[0].to_pydatetime(), chunk.read_end
    )
    first, last = read.flow.index[0].date(), read.flow.index[-1].date() + timedelta(days=10)
    festive = public_holidays(runtime.settings.utility_country, first - timedelta(days=1), last)
    try:
        trained = train(history_of(read.flow, weather, festive, runtime.zone))
    except NotEnoughHistory as reason:
        return told | {"not_trained": str(reason)}
    now = runtime.clock.now()
    validation = {name: value for name, value in trained.validation.items() if value == value}
    model_id = registry.add(
        connection,
        registry.FLOW,
        pool.scope,
        trained.forecaster.to_bytes(),
        begun,
        now,
        {
            "metrics": {"rows_read": read.rows, "bytes_processed": read.bytes_processed},
            "validation_metrics": validation,
            "parameters": {
                "members": list(MEMBERS),
                "nodes": pool.node_ids,
                "weather": [] if weather is None else list(weather.columns),
            },
            "training_data_start": read.flow.index[0].to_pydatetime(),
            "training_data_end": read.flow.index[-1].to_pydatetime() + timedelta(hours=1),
            "training_samples": trained.examples,
        },
    )
    by = f"job {chunk.job_id}"
    registry.decide(connection, model_id, now, "trained", by, f"on {trained.examples} examples of {pool.scope}")
    if registry.active_of(connection, registry.FLOW, pool.scope) is not None:
        registry.send_to_shadow(connection, model_id, now, by, "another model is active")
    else:
        verdict = judge_first(trained.validation["mae"], trained.validation["usual_mae"])
        settle = registry.promote if verdict.action == PROMOTE else registry.retire
        settle(connection, model_id, now, by, verdict.reason)
    logger(__name__).info("model trained", scope=pool.scope, model_id=str(model_id), **validation)
    return told | {"model_id": str(model_id), "examples": trained.examples, "validation": validation}


def start_training(
    runtime: Runtime,
    send: Callable[[UUID, int], None],
    as_of: datetime,
    triggered_by: str,
    scopes: Collection[str] = (),
) -> UUID | None:
    """Starts the training due at an instant, if no other replica has and none is running; the job.

    Args:
        send: offers a chunk of a job to the replicas, such as `Queue.send`.
    """
    now = runtime.clock.now()
    name = f"Model training {as_of:%Y-%m-%d %H:%M}"
    if jobs.another_running(runtime.database, jobs.TRAINING):
        return None
    job_id = jobs.claim(runtime.database, jobs.TRAINING, name, as_of, now, triggered_by)
    if job_id is None:
        return None
    with runtime.busy_with(job_id):
        numbers = plan_training(runtime, job_id, as_of, scopes)
        try:
            for number in numbers:
                send(job_id, number)
        except redis.RedisError as error:
            _end(runtime, job_id, f"The queue on Redis did not take the work: {error}")
            return None
        if not numbers:
            _end(runtime, job_id, None)
    return job_id


def _end(runtime: Runtime, job_id: UUID, error: str | None) -> None:
    with runtime.database.begin() as connection:
        jobs.end_job(connection, job_id, runtime.clock.now(), {}, error, failed=error is not None)
