"""What the processing service concludes: anomalies, data quality, predictions, alerts; what people say of anomalies."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal
from uuid import UUID

import asyncpg
from fastapi import APIRouter, HTTPException, Query, Request, Response

from src.api import queries, schemas
from src.api.database import Database, Now, as_json
from src.api.identity import Identity
from src.api.parameters import Cursor, Filter, NodeId, cursor_of, event_from, next_link, no_such_node
from src.api.problems import documented

router = APIRouter(prefix="/api/v1", tags=["insights"])


@router.get("/predictions/{node_id:path}", response_model=list[schemas.Prediction], responses=documented(404))
async def predictions(
    node_id: NodeId,
    database: Database,
    model_type: Literal["flow_prediction", "anomaly_detection", "efficiency_optimization"] = "flow_prediction",
    horizon_hours: Annotated[int, Query(ge=1, le=168)] = 24,
) -> Response:
    """The active model's latest forecast; empty where no model is active yet."""
    rows = await database.fetch(queries.PREDICTIONS, node_id, model_type, horizon_hours)
    if not rows and not await database.fetchval(queries.NODE_EXISTS, node_id):
        raise no_such_node(node_id)
    return as_json(rows)


@router.get("/quality/{node_id:path}", response_model=schemas.Quality, responses=documented(404))
async def quality(node_id: NodeId, database: Database) -> Response:
    """The node's latest data quality check."""
    row = await database.fetchrow(queries.QUALITY, node_id)
    if row is None:
        if not await database.fetchval(queries.NODE_EXISTS, node_id):
            raise no_such_node(node_id)
        raise HTTPException(404, f"The data quality of node '{node_id}' has not been checked yet")
    return as_json(row)


@router.get("/anomalies", response_model=list[schemas.Anomaly], responses=documented())
async def anomalies(
    request: Request,
    database: Database,
    clock: Now,
    hours: Annotated[int, Query(ge=1, le=24 * 366, description="what was going on within the last hours")] = 24,
    node_id: Filter = None,
    severity: Literal["info", "warning", "critical"] | None = None,
    status: Literal["open", "resolved", "all"] = "open",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Cursor = None,
) -> Response:
    """Events, newest first. Whatever is still open is going on."""
    now = clock.now()
    since = now - timedelta(hours=hours)
    rows = await database.fetch(
        queries.ANOMALIES[status], since, now, node_id, severity, limit + 1, *event_from(cursor)
    )
    if len(rows) <= limit:
        return as_json(rows)
    last = rows[limit - 1]
    return as_json(rows[:limit], next_link(request, cursor_of(last["timestamp"], str(last["anomaly_id"]))))


@router.get("/alerts", response_model=list[schemas.Alert], responses=documented())
async def alerts(
    request: Request,
    database: Database,
    clock: Now,
    hours: Annotated[int, Query(ge=1, le=24 * 366, description="of those that are over, the last hours'")] = 24,
    severity: Literal["info", "warning", "critical"] | None = None,
    state: Literal["firing", "resolved", "all"] = "firing",
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Cursor = None,
) -> Response:
    """What somebody should know of, newest first; the rules stand in alert-rules.yml."""
    since = clock.now() - timedelta(hours=hours)
    rows = await database.fetch(queries.ALERTS[state], since, severity, limit + 1, *event_from(cursor))
    if len(rows) <= limit:
        return as_json(rows)
    last = rows[limit - 1]
    return as_json(rows[:limit], next_link(request, cursor_of(last["since"], str(last["alert_id"]))))


@router.post("/anomalies/{anomaly_id}/acknowledge", response_model=schemas.Anomaly, responses=documented(404))
async def acknowledge(
    anomaly_id: UUID, request: Request, database: Database, clock: Now, remark: schemas.Remark | None = None
) -> Response:
    """Says that somebody has seen the event and takes care of it; it stays open. Needs the scope write."""
    note = remark.note if remark else None
    return await _dealt_with(request, database, queries.ACKNOWLEDGE, anomaly_id, clock.now(), _who(request), note)


@router.post("/anomalies/{anomaly_id}/resolve", response_model=schemas.Anomaly, responses=documented(404, 409))
async def resolve(
    anomaly_id: UUID, request: Request, database: Database, clock: Now, verdict: schemas.Verdict | None = None
) -> Response:
    """Says that the event is over, though its signal may not be back to normal. Needs the scope write.

    The same trouble is not told again while it lasts, and its hours count as normal from then on.
    """
    verdict = verdict or schemas.Verdict()
    who = _who(request)
    arguments = (anomaly_id, clock.now(), who, verdict.note, verdict.is_confirmed)
    return await _dealt_with(request, database, queries.RESOLVE, *arguments)


def _who(request: Request) -> str:
    identity: Identity = request.state.identity
    return identity.person or identity.key_name


async def _dealt_with(
    request: Request, database: asyncpg.Pool, query: str, anomaly_id: UUID, *more: object
) -> Response:
    async with database.acquire() as connection, connection.transaction():
        await connection.execute("SET TRANSACTION READ WRITE")
        row = await connection.fetchrow(query, anomaly_id, *more)
        if row is None:
            if await connection.fetchval(queries.ANOMALY_RESOLVED, anomaly_id):
                raise HTTPException(409, f"The event '{anomaly_id}' is resolved already")
            raise HTTPException(404, f"There is no event '{anomaly_id}'")
        generation = await connection.fetchval(queries.ADVANCE_GENERATION)
    await request.app.state.answers.publish(generation)
    answer = as_json(row)
    answer.headers["cache-control"] = "no-store"
    return answer
