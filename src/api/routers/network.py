"""The network as a whole."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response

from src.api import queries
from src.api.database import as_json, database_of, now_of
from src.api.pages import page
from src.api.parameters import Cursor, Filter, Instant, cursor_of, instant_from, next_link, span
from src.api.problems import documented
from src.api.schemas.network import NetworkEfficiency, NetworkMetrics

router = APIRouter(prefix="/api/v1/network", tags=["network"])


@router.get("/metrics", response_model=NetworkMetrics, responses=documented(404))
async def network_metrics(
    request: Request, time_range: Literal["1h", "6h", "24h", "3d", "7d", "30d"] = "24h"
) -> Response:
    """Flow, pressure and volume over the range, as of the latest processing cycle."""
    row = await database_of(request).fetchrow(queries.NETWORK_METRICS, time_range)
    if row is None:
        raise HTTPException(404, "No processing cycle has finished yet")
    return as_json(row)


@router.get("/efficiency", response_model=list[NetworkEfficiency], responses=documented())
async def network_efficiency(
    request: Request,
    start_time: Instant = None,
    end_time: Instant = None,
    time_window: Literal["1hour", "1day"] = "1hour",
    district_id: Filter = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    cursor: Cursor = None,
) -> Response:
    """The water balance, window by window, newest first, by default of the last day; empty where none was computed.

    With a district_id, `zone_metrics` holds that district alone; the totals are the network's.
    """
    start, end = span(start_time, end_time, now_of(request), timedelta(days=1))
    # A page begins where the one before stopped, also where the default span has moved on with the clock.
    before = instant_from(cursor)
    rows, more = await page(
        database_of(request), queries.NETWORK_EFFICIENCY, time_window, min(start, before or start), end, before,
        district_id, limit=limit,
    )  # fmt: skip
    return as_json(rows, next_link(request, cursor_of(rows[-1]["window_start"])) if more else None)
