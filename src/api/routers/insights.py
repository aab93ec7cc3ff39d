"""What the processing service concludes: anomalies and people's notes on them, data quality, predictions, alerts."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, HTTPException, Query, Request, Response

from src.api import queries, queries_incidents
from src.api.database import as_json, database_of, now_of
from src.api.pages import page
from src.api.parameters import (
    Cursor,
    Filter,
    Instant,
    NodeId,
    event_from,
    invalid,
    next_after,
    no_such_node,
    span,
)
from src.api.problems import documented
from src.api.schemas.events import Alert, Anomaly, Incident, Remark, Verdict
from src.api.schemas.nodes import Prediction, Quality
from src.api.writing import who, writing
from src.vocabulary import ModelType, Severity

router = APIRouter(prefix="/api/v1", tags=["insights"])


@router.get("/predictions/{node_id:path}", response_model=list[Prediction], responses=documented(404))
async def predictions(
    request: Request,
    node_id: NodeId,
    model_type: ModelType = "flow_prediction",
    horizon_hours: Annotated[int, Query(ge=1, le=168)] = 24,
    start_time: Instant = None,
    end_time: Instant = None,
) -> Response:
    """The active model's latest forecast; empty where no model is active yet.

    With a start_time or an end_time: of each hour of that span, of a year at most, what was forecast last before it.
    """
    database = database_of(request)
    if start_time is None and end_time is None:
        rows = await database.fetch(queries.PREDICTIONS, node_id, model_type, horizon_hours)
    else:
        start, end = span(start_time, end_time, now_of(request), timedelta(days=7))
        if end - start > timedelta(days=366):
            raise invalid("start_time", "must lie within a year before end_time")
        rows = await database.fetch(queries.PAST_PREDICTIONS, node_id, model_type, horizon_hours, start, end)
    if not rows and not await database.fetchval(queries.NODE_EXISTS, node_id):
        raise no_such_node(node_id)
    return as_json(rows)


@router.get("/quality/{node_id:path}", response_model=Quality, responses=documented(404))
async def quality(request: Request, node_id: NodeId) -> Response:
    """The node's latest data quality check."""
    database = database_of(request)
    row = await database.fetchrow(queries.QUALITY, node_id)
    if row is None:
        if not await database.fetchval(queries.NODE_EXISTS, node_id):
            raise no_such_node(node_id)
        raise HTTPException(404, f"The data quality of node '{node_id}' has not been checked yet")
    return as_json(row)


@router.get("/anomalies", response_model=list[Anomaly], responses=documented())
async def anomalies(
    request: Request,
    hours: Annotated[int, Query(ge=1, le=24 * 366, description="what was going on within the last hours")] = 24,
    node_id: Filter = None,
    district_id: Filter = None,
    incident_id: UUID | None = None,
    severity: Severity | None = None,
    status: Literal["open", "resolved", "all"] = "open",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Cursor = None,
) -> Response:
    """Events, newest first. Whatever is still open is going on.

    What a work explains (`explained_by`) is among them, as information: it raises no alarm, and counts nowhere as open.
    """
    now = now_of(request)
    since = now - timedelta(hours=hours)
    rows, more = await page(
        database_of(request), queries.ANOMALIES[status], since, now, node_id, severity, *event_from(cursor),
        district_id, incident_id, limit=limit,
    )  # fmt: skip
    return as_json(rows, next_after(request, rows, "timestamp", "anomaly_id") if more else None)


@router.get("/anomalies/{anomaly_id}", response_model=Anomaly, responses=documented(404))
async def anomaly(request: Request, anomaly_id: UUID) -> Response:
    """One event, however long it has been over."""
    row = await database_of(request).fetchrow(queries.ANOMALY, anomaly_id)
    if row is None:
        raise HTTPException(404, f"There is no event '{anomaly_id}'")
    return as_json(row)


@router.get("/incidents", response_model=list[Incident], responses=documented())
async def incidents(
    request: Request,
    hours: Annotated[int, Query(ge=1, le=24 * 366, description="what was going on within the last hours")] = 24,
    district_id: Filter = None,
    status: Literal["open", "resolved", "all"] = "open",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Cursor = None,
) -> Response:
    """Events that belong together, as one; newest first. `/anomalies?incident_id=` has the events themselves.

    Without those that a work explains.
    """
    now = now_of(request)
    rows, more = await page(
        database_of(request), queries_incidents.INCIDENTS, now - timedelta(hours=hours), now, status, district_id,
        *event_from(cursor), limit=limit,
    )  # fmt: skip
    return as_json(rows, next_after(request, rows, "timestamp", "incident_id") if more else None)


@router.get("/alerts", response_model=list[Alert], responses=documented())
async def alerts(
    request: Request,
    hours: Annotated[int, Query(ge=1, le=24 * 366, description="of those that are over, the last hours'")] = 24,
    severity: Severity | None = None,
    state: Literal["firing", "resolved", "all"] = "firing",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Cursor = None,
) -> Response:
    """What somebody should know of, newest first; the rules stand in alert-rules.yml."""
    since = now_of(request) - timedelta(hours=hours)
    rows, more = await page(
        database_of(request), queries.ALERTS[state], since, severity, *event_from(cursor), limit=limit
    )
    return as_json(rows, next_after(request, rows, "since", "alert_id") if more else None)


@router.post("/anomalies/{anomaly_id}/acknowledge", response_model=Anomaly, responses=documented(400, 404))
async def acknowledge(anomaly_id: UUID, request: Request, remark: Remark | None = None) -> Response:
    """Says that somebody has seen the event and takes care of it; it stays open. Needs the scope write."""
    note = remark.note if remark else None
    return await _dealt_with(request, queries.ACKNOWLEDGE, anomaly_id, now_of(request), who(request), note)


@router.post("/anomalies/{anomaly_id}/resolve", response_model=Anomaly, responses=documented(400, 404, 409))
async def resolve(anomaly_id: UUID, request: Request, verdict: Verdict | None = None) -> Response:
    """Says that the event is over, though its signal may not be back to normal. Needs the scope write.

    The same trouble is not reported again while it lasts, and its hours count as normal from then on.
    """
    verdict = verdict or Verdict()
    arguments = (anomaly_id, now_of(request), who(request), verdict.note, verdict.is_confirmed)
    return await _dealt_with(request, queries.RESOLVE, *arguments)


async def _dealt_with(request: Request, query: str, anomaly_id: UUID, *more: object) -> Response:
    async with writing(request) as connection:
        row = await connection.fetchrow(query, anomaly_id, *more)
        if row is None:
            if await connection.fetchval(queries.ANOMALY_RESOLVED, anomaly_id):
                raise HTTPException(409, f"The event '{anomaly_id}' is resolved already")
            raise HTTPException(404, f"There is no event '{anomaly_id}'")
    answer = as_json(row)
    answer.headers["cache-control"] = "no-store"
    return answer
