"""Nodes: the list, the latest window, the history."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response

from src.api import queries, queries_series
from src.api.database import as_json, database_of, now_of
from src.api.headers import prefers_csv
from src.api.parameters import (
    Cursor,
    Filter,
    Instant,
    NodeId,
    cursor_of,
    instant_and_text_from,
    instant_from,
    next_after,
    next_link,
    no_such_node,
    span,
    text_from,
)
from src.api.problems import documented
from src.api.schemas.nodes import Channel, HistoryRow, Node, NodeDetail, NodeMetrics, Rejected
from src.vocabulary import TimeWindow

router = APIRouter(prefix="/api/v1/nodes", tags=["nodes"])


@router.get("", response_model=list[Node], responses=documented())
async def list_nodes(
    request: Request,
    active: bool | None = None,
    district_id: Filter = None,
    node_type: Filter = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Cursor = None,
) -> Response:
    """All nodes, by node_id."""
    rows = await database_of(request).fetch(queries.NODES, text_from(cursor), active, district_id, node_type, limit + 1)
    more = next_link(request, cursor_of(rows[limit - 1]["node_id"])) if len(rows) > limit else None
    return as_json(rows[:limit], more)


@router.get("/{node_id:path}/metrics", response_model=NodeMetrics, responses=documented(404))
async def node_metrics(request: Request, node_id: NodeId, time_window: TimeWindow = "1hour") -> Response:
    """The node's latest window that has ended."""
    row = await database_of(request).fetchrow(queries.NODE_METRICS, node_id, time_window, now_of(request))
    if row is None:
        raise no_such_node(node_id)
    if row["timestamp"] is None:
        raise HTTPException(404, f"Node '{node_id}' has no complete {time_window} window yet")
    return as_json(row)


@router.get(
    "/{node_id:path}/history",
    response_model=list[HistoryRow],
    responses=documented(404) | {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}},
)
async def node_history(
    request: Request,
    node_id: NodeId,
    start_time: Instant = None,
    end_time: Instant = None,
    time_window: TimeWindow = "1hour",
    limit: Annotated[int, Query(ge=1, le=10_000)] = 5000,
    cursor: Cursor = None,
) -> Response:
    """Windows that begin in [start_time, end_time), by default of the last 7 days; as CSV with Accept: text/csv."""
    database = database_of(request)
    start, end = span(start_time, end_time, now_of(request), timedelta(days=7))
    reached = instant_from(cursor)
    rows = await database.fetch(queries.HISTORY, node_id, time_window, max(start, reached or start), end, limit + 1)
    if not rows and not await database.fetchval(queries.NODE_EXISTS, node_id):
        raise no_such_node(node_id)
    # A page begins where the one before stopped, also where the default span has moved on with the clock.
    more = next_link(request, cursor_of(rows[limit]["window_start"])) if len(rows) > limit else None
    if prefers_csv(request.scope):
        return Response(_as_csv(rows[:limit]), media_type="text/csv; charset=utf-8", headers=more)
    return as_json(rows[:limit], more)


@router.get("/{node_id:path}/channels", response_model=list[Channel], responses=documented(404))
async def node_channels(request: Request, node_id: NodeId) -> Response:
    """What each measurement of the node is, learned from its own readings each week, beside what people have stated."""
    database = database_of(request)
    rows = await database.fetch(queries.CHANNELS, node_id)
    if not rows and not await database.fetchval(queries.NODE_EXISTS, node_id):
        raise no_such_node(node_id)
    return as_json(rows)


@router.get("/{node_id:path}/rejected", response_model=list[Rejected], responses=documented(404))
async def node_rejected(
    request: Request,
    node_id: NodeId,
    start_time: Instant = None,
    end_time: Instant = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Cursor = None,
) -> Response:
    """Readings of the node that were set aside and why, by quarter of an hour of [start_time, end_time), newest first;
    by default of the last 7 days."""
    database = database_of(request)
    start, end = span(start_time, end_time, now_of(request), timedelta(days=7))
    before = instant_and_text_from(cursor)
    rows = await database.fetch(queries_series.REJECTED, node_id, start, end, *before, limit + 1)
    if not rows and not await database.fetchval(queries.NODE_EXISTS, node_id):
        raise no_such_node(node_id)
    more = next_after(request, rows[:limit], "quarter_start", "reason") if len(rows) > limit else None
    return as_json(rows[:limit], more)


@router.get("/{node_id:path}", response_model=NodeDetail, responses=documented(404))
async def node(request: Request, node_id: NodeId) -> Response:
    """One node, with everything that is known of it."""
    row = await database_of(request).fetchrow(queries.NODE, node_id)
    if row is None:
        raise no_such_node(node_id)
    return as_json(row)


def _as_csv(rows: list[dict[str, object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(HistoryRow.model_fields)
    writer.writerows(row.values() for row in rows)
    return text.getvalue()
