"""Models: which there are, how they do, what was decided of them; and the set-points they recommend."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, HTTPException, Query, Request, Response

from src.api import queries
from src.api.database import as_json, database_of
from src.api.pages import page
from src.api.parameters import Cursor, Filter, cursor_of, event_from, next_after, next_link, number_from
from src.api.problems import documented
from src.api.schemas.models import Model, ModelHistory, Recommendation
from src.vocabulary import ModelType

router = APIRouter(prefix="/api/v1", tags=["models"])


@router.get("/models", response_model=list[Model], responses=documented())
async def models(
    request: Request,
    status: Literal["shadow", "active", "retired", "failed"] | None = None,
    model_type: ModelType | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Cursor = None,
) -> Response:
    """Models, newest first."""
    rows, more = await page(database_of(request), queries.MODELS, status, model_type, *event_from(cursor), limit=limit)
    return as_json(rows, next_after(request, rows, "created_at", "model_id") if more else None)


@router.get("/models/{model_id}", response_model=ModelHistory, responses=documented(404))
async def model(request: Request, model_id: UUID) -> Response:
    """One model: every decision about it with its reason, and how its forecasts did day by day."""
    database = database_of(request)
    row = await database.fetchrow(queries.MODEL, model_id)
    if row is None:
        raise HTTPException(404, f"There is no model '{model_id}'")
    decisions = await database.fetch(queries.MODEL_DECISIONS, model_id)
    performance = await database.fetch(queries.MODEL_PERFORMANCE, model_id)
    return as_json(dict(row) | {"decisions": decisions, "performance": performance})


@router.get("/recommendations", response_model=list[Recommendation], responses=documented())
async def recommendations(
    request: Request,
    district_id: Filter = None,
    outcome: Literal["recommended", "refused"] | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
    cursor: Cursor = None,
) -> Response:
    """Pressure set-points that would save water in each district, or why there are none; the largest saving first."""
    shown = number_from(cursor)
    rows, more = await page(database_of(request), queries.RECOMMENDATIONS, district_id, outcome, shown, limit=limit)
    return as_json(rows, next_link(request, cursor_of(str(shown + len(rows)))) if more else None)
