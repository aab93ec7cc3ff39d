"""The network as a whole."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response

from src.api import queries
from src.api.database import as_json, database_of, now_of
from src.api.pages import page
from src.api.parameters import LONGEST, Cursor, Filter, Instant, cursor_of, instant_from, next_link, span
from src.api.problems import documented
from src.api.schemas.network import NetworkEfficiency, NetworkMetrics
from src.vocabulary import BalanceWindow

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
    time_window: BalanceWindow = "1hour",
    district_id: Filter = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1000,
    cursor: Cursor = None,
) -> Response:
    """The water balance, window by window, newest first, by default of the last day; empty where none was computed.

    `30day` and `365day` are the 30 and 365 local days up to the end of each day; of these, the windows that end in the
    span are shown.
    With a district_id, `zone_metrics` holds that district alone; the totals are the network's.
    """
    start, end = span(start_time, end_time, now_of(request), timedelta(days=1))
    before = instant_from(cursor)
    # A page begins where the one before stopped, also where the default span has moved on with the clock.
    query, first, longest = queries.NETWORK_EFFICIENCY, min(start, before or start), LONGEST.get(time_window)
    bound: list[object] = [time_window, first, end, before, district_id]
    if longest is not None:
        query, bound = queries.ROLLING_EFFICIENCY, [time_window, start, end, before, district_id, longest]
    rows, more = await page(database_of(request), query, *bound, limit=limit)
    return as_json(rows, next_link(request, cursor_of(rows[-1]["window_start"])) if more else None)
