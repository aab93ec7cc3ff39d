"""Training: a job whose chunks are pools of nodes, shared by all replicas; each makes one model."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pandas as pd
import redis
from sqlalchemy import Connection, Row, select
from sqlalchemy.exc import SQLAlchemyError

from src.db.tables import job_chunks
from src.domain.channels import channels_of, unusable
from src.domain.forecasting.boosting import MEMBERS
from src.domain.forecasting.model import LEARNED, USUAL, NotEnoughHistory, Trained, seasonal, train
from src.domain.forecasting.series import history_of, public_holidays
from src.domain.lifecycle import PROMOTE, Verdict, judge_baseline, judge_first
from src.observability import logger
from src.processing.jobs import chunks
from src.processing.jobs import records as jobs
from src.processing.jobs.patience import patiently
from src.processing.jobs.runtime import Runtime
from src.processing.modelling import registry
from src.processing.modelling.pools import pools
from src.processing.warehouse.channels import stated_channels
from src.processing.warehouse.history import read_hourly_flow, read_hourly_weather

# Older readings are not read: a tenth of them would be learned from, of a network that has changed since.
HISTORY_DAYS = 3 * 365
# So many nodes' history is held at once: a fifth of a gigabyte.
MOST_READ = 1000
_SHOWN_EVERY_SECONDS = 2.0


def plan_training(runtime: Runtime, job_id: UUID, as_of: datetime, scopes: Collection[str] = ()) -> list[int]:
    """Records a chunk for every pool (or for those of the scopes named): their numbers."""
    with runtime.database.connect() as connection:
        found = [pool for pool in pools(connection, as_of) if not scopes or pool.scope in scopes]
    start, end = as_of - timedelta(days=HISTORY_DAYS), as_of.replace(minute=0, second=0, microsecond=0)
    planned = [chunks.Chunk(pool.node_ids, start, end, 0, {}, pool.scope) for pool in found]
    chunks.add(runtime.database, job_id, planned)
    return list(range(len(planned)))


@dataclass(frozen=True)
class Learned:
    """What was learned of a pool, to be registered by `settle_pool`.

    Attributes:
        begun: when the training began.
        summary: of the training, as far as it is known.
        described: what every model of it is described by.
        learned: the model that learned from the history; None where that is too short.
        usual: the usual flow of the hour, where `learned` is not there or no better; None where that is not known.
        reasons: why one of them is missing.
    """

    begun: datetime
    summary: dict[str, Any]
    described: dict[str, Any] = field(default_factory=dict)
    learned: Trained | None = None
    usual: Trained | None = None
    reasons: tuple[str, ...] = ()


def learn_pool(runtime: Runtime, chunk: Row[Any]) -> Learned:
    """Learns from the history of one pool, which may take minutes; no transaction is open meanwhile.

    Raises:
        WarehouseError: if the history cannot be read.
    """
    begun = runtime.clock.now()
    flow, bytes_processed = _flow_of(runtime, chunk)
    cost = {"rows_read": int(flow.notna().to_numpy().sum()), "bytes_processed": bytes_processed}
    summary: dict[str, Any] = {"scope": chunk.scope} | cost
    if flow.empty:
        return Learned(begun, summary, reasons=("none of its nodes has flow in the warehouse",))
    start = flow.index[0].to_pydatetime()
    weather = read_hourly_weather(runtime.warehouse(), runtime.settings, start, chunk.read_end)
    last = chunk.read_end.date() + timedelta(days=10)
    festive = public_holidays(runtime.settings.utility_country, start.date() - timedelta(days=1), last)
    history = history_of(flow, weather, festive, runtime.zone)
    described = {
        "metrics": cost,
        "parameters": {
            "nodes": list(chunk.node_ids),
            "weather": [] if weather is None else list(weather.columns),
        },
        "training_data_start": start,
        "training_data_end": flow.index[-1].to_pydatetime() + timedelta(hours=1),
    }
    learned: Trained | None = None
    reasons: list[str] = []
    try:
        learned = train(history, _shown(runtime, chunk), runtime.settings.training_examples)
        if _first(learned).action == PROMOTE:
            return Learned(begun, summary, described, learned)
    except NotEnoughHistory as error:
        reasons.append(str(error))
    try:
        return Learned(begun, summary, described, learned, seasonal(history), tuple(reasons))
    except NotEnoughHistory as error:
        return Learned(begun, summary, described, learned, None, (*reasons, str(error)))


def _shown(runtime: Runtime, chunk: Row[Any]) -> Callable[[float], None]:
    """Shows in the job's row how far the training of a pool has come, every two seconds."""
    shown_at = time.monotonic()

    def show(share: float) -> None:
        nonlocal shown_at
        if time.monotonic() < shown_at + _SHOWN_EVERY_SECONDS:
            return
        shown_at = time.monotonic()
        try:
            jobs.come_so_far(runtime.database, chunk.job_id, share * len(chunk.node_ids))
        except SQLAlchemyError as error:
            reason = str(error).partition("\n")[0]
            logger(__name__).warning("the progress of a training is not shown", job_id=str(chunk.job_id), error=reason)

    return show


def settle_pool(runtime: Runtime, connection: Connection, chunk: Row[Any], found: Learned) -> dict[str, Any]:
    """Registers what was learned of a pool, in the caller's transaction; the chunk's summary.

    The first model of a scope becomes active if it beats the usual flow; a later one goes to shadow. Where there is
    none, or too little to learn from, the usual flow itself forecasts.
    """
    scope, by, summary = chunk.scope, f"job {chunk.job_id}", dict(found.summary)

    def register(trained: Trained, method: str) -> UUID:
        now = runtime.clock.now()
        described = found.described | {
            "validation_metrics": {name: value for name, value in trained.validation.items() if value == value},
            "parameters": {"method": method, "members": list(MEMBERS) if method == LEARNED else []}
            | found.described["parameters"],
            "training_samples": trained.examples,
        }
        artefact = trained.forecaster.to_bytes()
        model_id = registry.add(connection, registry.FLOW, scope, artefact, found.begun, now, described)
        registry.decide(connection, model_id, now, "trained", by, f"on {trained.examples} examples of {scope}")
        validation = described["validation_metrics"]
        summary.update(model_id=str(model_id), examples=trained.examples, validation=validation)
        logger(__name__).info("model trained", scope=scope, method=method, **validation)
        return model_id

    # From here on the scope's models are held; they were not while it was trained.
    active = registry.active_of(connection, registry.FLOW, scope)
    has_learned = active is not None and active.parameters.get("method", LEARNED) == LEARNED
    reason = "; ".join(found.reasons)
    if found.learned is not None:
        model_id = register(found.learned, LEARNED)
        if has_learned:
            registry.send_to_shadow(connection, model_id, runtime.clock.now(), by, "another model is active")
            return summary
        verdict = _first(found.learned)
        settle = registry.promote if verdict.action == PROMOTE else registry.retire
        settle(connection, model_id, runtime.clock.now(), by, verdict.reason)
        if verdict.action == PROMOTE:
            return summary
        reason = "; ".join([verdict.reason, *found.reasons])
    if has_learned or found.usual is None:
        return summary | {"not_trained": reason}
    model_id = register(found.usual, USUAL)
    registry.promote(connection, model_id, runtime.clock.now(), by, judge_baseline(reason).reason)
    return summary


def _first(trained: Trained) -> Verdict:
    """Whether a scope's first model is good enough."""
    return judge_first(trained.validation["mae"], trained.validation["usual_mae"])


def _flow_of(runtime: Runtime, chunk: Row[Any]) -> tuple[pd.DataFrame, int]:
    """The flow of a pool's nodes, and the bytes the warehouse read for it: 0 where it was read with an earlier pool.

    A read costs the same for one pool as for many: the first pool of a job that this process trains has those read that
    wait after it as well, as many as memory has room for, and each takes its part.
    """
    columns = job_chunks.c
    is_waiting = (columns.job_id == chunk.job_id, columns.status == "queued")
    query = select(columns.chunk_number, columns.node_ids).where(*is_waiting)
    with runtime.database.connect() as connection:
        waiting = connection.execute(query).all()
    read, bytes_processed = runtime.training_flow.get(chunk.job_id), 0
    if read is None or not set(chunk.node_ids) <= set(read.node_ids):
        # That of an earlier job, most of whose pools others trained, goes.
        runtime.training_flow.clear()
        nodes = set(chunk.node_ids)
        for pool in waiting:
            if pool.chunk_number > chunk.chunk_number and len(nodes) + len(pool.node_ids) <= MOST_READ:
                nodes |= set(pool.node_ids)
        node_ids = sorted(nodes)
        with runtime.database.connect() as connection:
            stated = stated_channels(connection, node_ids)
        problems = unusable(node_ids, stated, runtime.conventions)
        for problem in problems.values():
            logger(__name__).warning("a node is left out of a training", problem=problem)
        usable = [node_id for node_id in node_ids if node_id not in problems]
        channels = channels_of(usable, stated, runtime.conventions)
        warehouse, settings = runtime.warehouse(), runtime.settings
        read = read_hourly_flow(warehouse, settings, usable, chunk.read_start, chunk.read_end, channels, problems)
        bytes_processed = read.bytes_processed
    flow = read.of(chunk.node_ids)
    if any(pool.chunk_number != chunk.chunk_number for pool in waiting):
        runtime.training_flow[chunk.job_id] = read
    else:
        runtime.training_flow.clear()
    return flow, bytes_processed


def start_training(
    runtime: Runtime,
    send: Callable[[UUID, int], None],
    as_of: datetime,
    triggered_by: str,
    scopes: Collection[str] = (),
) -> UUID | None:
    """Starts the training due at an instant, if no other replica has and none is running; the job.

    Args:
        send: offers a chunk of a job to the replicas, such as `Queue.send_training`.
    """
    now = runtime.clock.now()
    name = f"Model training {as_of:%Y-%m-%d %H:%M}"
    if jobs.another_running(runtime.database, jobs.TRAINING):
        return None
    job_id = jobs.claim(runtime.database, jobs.TRAINING, name, as_of, now, triggered_by)
    if job_id is None:
        return None
    with runtime.busy_with(job_id):
        try:
            numbers = patiently(
                runtime, lambda: plan_training(runtime, job_id, as_of, scopes), "planning of a training"
            )
            for number in numbers:
                send(job_id, number)
        except redis.RedisError as error:
            _end(runtime, job_id, f"The queue on Redis did not take the work: {error}")
            return None
        except Exception as error:
            logger(__name__).exception("a training could not be planned", job_id=str(job_id))
            _end(runtime, job_id, f"It could not be planned: {type(error).__name__}: {error}"[:4000])
            return None
        if not numbers:
            _end(runtime, job_id, None)
    return job_id


def _end(runtime: Runtime, job_id: UUID, error: str | None) -> None:
    with runtime.database.begin() as connection:
        jobs.end_job(connection, job_id, runtime.clock.now(), {}, error, failed=error is not None)
