"""Forecasts of every cycle: of active models, of shadows beside them, and of fallbacks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pandas as pd
from sqlalchemy import Connection, Row, delete

from src.db.bulk_read import read_rows
from src.db.bulk_write import copy_rows
from src.db.tables import ml_predictions_cache
from src.domain.forecasting.features import LOOK_BACK_DAYS, TARGETS
from src.domain.forecasting.model import LEARNED, USUAL, Forecaster
from src.domain.forecasting.series import DAYS_AHEAD, HOURS, History, history_of, public_holidays
from src.observability import logger
from src.processing.jobs.runtime import Runtime
from src.processing.modelling import registry
from src.processing.modelling.pools import Pool, pools
from src.processing.warehouse.client import WarehouseError
from src.processing.warehouse.history import read_hourly_weather

# The values of `features_used`.
_FEATURES_USED = {method: orjson.dumps({"method": method}).decode() for method in (LEARNED, USUAL)}
_HOURLY = """
    SELECT node_id, window_start, avg_flow_rate FROM water_infrastructure.computed_metrics
    WHERE time_window = '1hour' AND node_id = ANY(%(nodes)s) AND window_start >= %(start)s AND window_end <= %(end)s
"""


def pools_to_forecast(connection: Connection, as_of: datetime) -> list[Pool]:
    """The pools that have a model in use."""
    scopes = {model.scope for model in registry.in_use(connection, registry.FLOW, as_of)}
    return [pool for pool in pools(connection, as_of) if pool.scope in scopes] if scopes else []


def write_forecasts(runtime: Runtime, scope: str, node_ids: Sequence[str], as_of: datetime) -> int:
    """Forecasts the 168 hours from the last whole hour on with every model in use of a pool; the number of rows.

    Repeated, it replaces what it wrote. A model whose artefact is not what its training wrote is not loaded: its
    fallback takes its place, or it retires; that is decided here, recorded and logged.

    Args:
        node_ids: of the pool. Those that came after the training are forecast by their usual flow.
    """
    origin = as_of.replace(minute=0, second=0, microsecond=0)
    written = 0
    history: History | None = None
    with runtime.database.begin() as connection:
        in_use = registry.in_use(connection, registry.FLOW, as_of)
        for gone in set(runtime.forecasters) - {model.model_id for model in in_use}:
            runtime.forecasters.pop(gone, None)
        for model in in_use:
            if model.scope != scope or (forecaster := loaded(runtime, connection, model, as_of)) is None:
                continue
            if history is None:
                history = recent_history(runtime, connection, node_ids, origin)
            rows = forecast_rows(forecaster, history, origin, model.model_id)
            columns = ml_predictions_cache.c
            connection.execute(
                delete(ml_predictions_cache).where(
                    columns.model_id == model.model_id, columns.prediction_timestamp == origin
                )
            )
            if len(rows):
                copy_rows(connection, ml_predictions_cache, rows)
            written += len(rows)
    return written


def recent_history(runtime: Runtime, connection: Connection, nodes: Sequence[str], origin: datetime) -> History:
    """The hours before an origin that a forecast looks at, as computed."""
    start = origin - timedelta(days=LOOK_BACK_DAYS + 2)
    rows = read_rows(
        connection,
        _HOURLY,
        {"nodes": list(nodes), "start": start, "end": origin},
        {"node_id": "text", "window_start": "instant", "flow": "number"},
    )
    hours = pd.date_range(start, origin - timedelta(hours=1), freq="h")
    flow = rows.pivot(index="window_start", columns="node_id", values="flow").reindex(hours, columns=list(nodes))
    last = origin.date() + timedelta(days=10)
    festive = public_holidays(runtime.settings.utility_country, start.date() - timedelta(days=1), last)
    return history_of(flow.astype("float64"), _weather(runtime, start, origin), festive, runtime.zone)


def _weather(runtime: Runtime, start: datetime, origin: datetime) -> pd.DataFrame | None:
    """Weather up to the last day that may be forecast; a warehouse without it stops no forecast."""
    try:
        settings = runtime.settings
        if not settings.bigquery_weather_table:
            return None
        end = origin + timedelta(days=DAYS_AHEAD + 1)
        return read_hourly_weather(runtime.warehouse(), settings, start, end)
    except WarehouseError as error:
        logger(__name__).warning("flow is forecast without weather", error=str(error))
        return None


def forecast_rows(forecaster: Forecaster, history: History, origin: datetime, model_id: UUID) -> pd.DataFrame:
    """Rows of `ml_predictions_cache` for the hours from an origin on.

    `confidence_score` is 1 less half the width of the interval in shares of the forecast, at least 0.
    """
    day, hour = history.place(origin)
    forecast = forecaster.forecast(history, day, hour)
    # Hours of the local clock become instants: one that the clock skips has none, one that it repeats has two.
    targets = pd.date_range(origin, periods=TARGETS, freq="h")
    places = [history.place(target.to_pydatetime()) for target in targets]
    ahead = [(d - day) * HOURS + h - hour for d, h in places]
    clock = pd.DataFrame({"target_timestamp": targets, "ahead": ahead, "prediction_horizon_hours": range(1, 169)})
    rows = forecast.merge(clock, on="ahead")
    half = (rows["upper"] - rows["lower"]) / 2
    confidence = (1 - half / rows["flow"].where(rows["flow"] > 0)).clip(0, 1).fillna(0.0)
    return pd.DataFrame(
        {
            "model_id": str(model_id),
            "node_id": rows["node_id"],
            "prediction_timestamp": pd.Timestamp(origin),
            "target_timestamp": rows["target_timestamp"],
            "prediction_horizon_hours": rows["prediction_horizon_hours"],
            "predicted_flow_rate": rows["flow"],
            "flow_rate_lower": rows["lower"],
            "flow_rate_upper": rows["upper"],
            "confidence_score": confidence,
            "features_used": rows["method"].map(_FEATURES_USED),
        }
    )


def loaded(runtime: Runtime, connection: Connection, model: Row[Any], now: datetime) -> Forecaster | None:
    """The model's forecaster; None where its artefact is refused, and what that means for the model is settled."""
    if model.model_id not in runtime.forecasters:
        try:
            artefact = registry.artefact_of(connection, model.model_id)
            runtime.forecasters[model.model_id] = Forecaster.from_bytes(artefact)
        except ValueError as error:
            logger(__name__).error("a model is refused", model_id=str(model.model_id), error=str(error))
            registry.take_out(connection, model, now, registry.SERVICE, str(error))
            return None
    return runtime.forecasters[model.model_id]
