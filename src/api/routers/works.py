"""The calendar of works: stated, listed and taken back by people."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, HTTPException, Query, Request, Response

from src.api import queries
from src.api.database import as_json, database_of, now_of
from src.api.pages import page
from src.api.parameters import Cursor, Filter, Instant, event_from, invalid, next_after
from src.api.problems import documented
from src.api.schemas.works import StatedWork, Work
from src.api.writing import who, writing
from src.observability import logger

router = APIRouter(prefix="/api/v1/works", tags=["works"])
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2201, 1, 1, tzinfo=UTC)


@router.get("", response_model=list[Work], responses=documented())
async def works(
    request: Request,
    node_id: Filter = None,
    district_id: Filter = None,
    start_time: Instant = None,
    end_time: Instant = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    cursor: Cursor = None,
) -> Response:
    """Works, those that begin last first; with a start_time or an end_time those of that span, [start_time, end_time).

    Those of a node are those that name it; of a district, those that name the district.
    """
    start, end = start_time or _FIRST, end_time or _LAST
    if start >= end:
        raise invalid("start_time", "must lie before end_time")
    rows, more = await page(
        database_of(request), queries.WORKS, start, end, node_id, district_id, *event_from(cursor), limit=limit
    )
    return as_json(rows, next_after(request, rows, "begin", "work_id") if more else None)


@router.post("", response_model=Work, status_code=201, responses=documented(400))
async def state(request: Request, stated: StatedWork) -> Response:
    """States a work. From the next cycle on the events that it explains are information only. Needs the scope write."""
    async with writing(request) as connection:
        known = await connection.fetchrow(queries.PLACES_EXIST, stated.node_id, stated.district_id)
        for field, name in (("node_id", stated.node_id), ("district_id", stated.district_id)):
            if name is not None and not known[field]:
                raise invalid(field, f"there is no {field.removesuffix('_id')} '{name}'", "body")
        row = await connection.fetchrow(
            queries.STATE_WORK, stated.kind, stated.node_id, stated.district_id, stated.begin, stated.end, stated.note,
            now_of(request), who(request),
        )  # fmt: skip
    logger(__name__).info("work stated", work_id=str(row["work_id"]), kind=stated.kind, by=who(request))
    answer = as_json(row, {"cache-control": "no-store"})
    answer.status_code = 201
    return answer


@router.delete("/{work_id}", status_code=204, responses=documented(404))
async def take_back(request: Request, work_id: UUID) -> Response:
    """Takes a work back: from the next cycle on events are as they would be without it. Needs the scope write."""
    async with writing(request) as connection:
        if await connection.fetchval(queries.TAKE_WORK_BACK, work_id, now_of(request), who(request)) is None:
            raise HTTPException(404, f"There is no work '{work_id}'")
    logger(__name__).info("work taken back", work_id=str(work_id), by=who(request))
    return Response(status_code=204)
