"""Models: which there are, how they do, decisions and requests about them; and the set-points they recommend."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, HTTPException, Query, Request, Response

from src.api import queries, queries_models
from src.api.database import as_json, database_of, now_of
from src.api.pages import page
from src.api.parameters import Cursor, Filter, cursor_of, event_from, next_after, next_link, number_from
from src.api.problems import documented
from src.api.schemas.models import Model, ModelHistory, Recommendation
from src.api.schemas.requests import ModelRemark, ModelRequest, RequestTaken, TrainingRequest
from src.api.writing import who, writing
from src.observability import logger
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


@router.get("/models/requests", response_model=list[ModelRequest], responses=documented())
async def model_requests(
    request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 100, cursor: Cursor = None
) -> Response:
    """Requests about models and what became of them, newest first."""
    rows, more = await page(database_of(request), queries_models.MODEL_REQUESTS, *event_from(cursor), limit=limit)
    return as_json(rows, next_after(request, rows, "requested_at", "request_id") if more else None)


@router.post("/models/train", response_model=RequestTaken, status_code=202, responses=documented(400))
async def train(request: Request, wanted: TrainingRequest) -> Response:
    """Asks for a training, which the processing service starts within a minute or, while another one runs, after it;
    `GET /api/v1/models/requests` tells what became of it. Needs the scope admin."""
    return await _request_written(request, "train", wanted.model_type, wanted.scope, None, wanted.note)


@router.post("/models/{model_id}/promote", response_model=RequestTaken, status_code=202, responses=documented(400, 404))
async def promote(request: Request, model_id: UUID, remark: ModelRemark | None = None) -> Response:
    """Asks that a model become the active one of its scope; decided within a minute. Needs the scope admin."""
    return await _request_of_model(request, "promote", model_id, remark)


@router.post(
    "/models/{model_id}/roll_back", response_model=RequestTaken, status_code=202, responses=documented(400, 404)
)
async def roll_back(request: Request, model_id: UUID, remark: ModelRemark | None = None) -> Response:
    """Asks that the model which an active one replaced take its place again; decided within a minute. Needs the scope
    admin."""
    return await _request_of_model(request, "roll_back", model_id, remark)


async def _request_of_model(request: Request, action: str, model_id: UUID, remark: ModelRemark | None) -> Response:
    row = await database_of(request).fetchrow(queries_models.MODEL_PLACE, model_id)
    if row is None:
        raise HTTPException(404, f"There is no model '{model_id}'")
    return await _request_written(
        request, action, row["model_type"], row["scope"], model_id, remark.note if remark else None
    )


async def _request_written(
    request: Request, action: str, model_type: str, scope: str | None, model_id: UUID | None, note: str | None
) -> Response:
    """Stores the request; an equal one that is not decided yet stands for it."""
    async with writing(request) as connection:
        await connection.execute(queries_models.ONE_REQUEST_AT_A_TIME)
        same = action, model_type, scope, model_id
        request_id = await connection.fetchval(queries_models.SAME_REQUEST, *same)
        if request_id is None:
            request_id = await connection.fetchval(
                queries_models.REQUEST_OF_MODEL, *same, now_of(request), who(request), note
            )
    logger(__name__).info(
        "model request", action=action, scope=scope, model_id=model_id and str(model_id), by=who(request)
    )
    answer = as_json({"request_id": request_id}, {"cache-control": "no-store"})
    answer.status_code = 202
    return answer


# What is no UUID is another path, such as /models/train.
@router.get("/models/{model_id:uuid}", response_model=ModelHistory, responses=documented(404))
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
