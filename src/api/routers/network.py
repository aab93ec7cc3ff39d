"""The network as a whole."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Response

from src.api import queries, schemas
from src.api.database import Database, Now, as_json
from src.api.parameters import Instant, span
from src.api.problems import documented

router = APIRouter(prefix="/api/v1/network", tags=["network"])


@router.get("/metrics", response_model=schemas.NetworkMetrics, responses=documented(404))
async def network_metrics(
    database: Database, time_range: Literal["1h", "6h", "24h", "3d", "7d", "30d"] = "24h"
) -> Response:
    """Flow, pressure and volume over the range, as of the latest processing cycle."""
    row = await database.fetchrow(queries.NETWORK_METRICS, time_range)
    if row is None:
        raise HTTPException(404, "No processing cycle has finished yet")
    return as_json(row)


@router.get("/efficiency", response_model=list[schemas.NetworkEfficiency], responses=documented())
async def network_efficiency(
    database: Database,
    clock: Now,
    start_time: Instant = None,
    end_time: Instant = None,
    time_window: Literal["1hour", "1day"] = "1hour",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 5000,
) -> Response:
    """The water balance, window by window, by default of the last day; empty where none was computed."""
    start, end = span(start_time, end_time, clock.now(), timedelta(days=1))
    return as_json(await database.fetch(queries.NETWORK_EFFICIENCY, time_window, start, end, limit))
