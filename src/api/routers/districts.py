"""District metered areas: what is known of each, and its latest balances."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from pydantic import AfterValidator

from src.api import queries
from src.api.database import as_json, database_of, now_of
from src.api.parameters import LONGEST, Cursor, cursor_of, next_link, text_from
from src.api.problems import documented
from src.api.schemas.common import storable
from src.api.schemas.network import District, DistrictDetail
from src.vocabulary import BalanceWindow

router = APIRouter(prefix="/api/v1/districts", tags=["districts"])
# A balance that ended longer ago is not its latest: the district has no meters any more, or nothing is processed.
_RECENT = timedelta(days=7)
DistrictId = Annotated[str, Path(max_length=300, examples=["dma-a"]), AfterValidator(storable)]


@router.get("", response_model=list[District], responses=documented())
async def list_districts(
    request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 100, cursor: Cursor = None
) -> Response:
    """All districts that nodes are in or that somebody has described, by district_id."""
    rows = await database_of(request).fetch(queries.DISTRICTS, text_from(cursor), None, limit + 1)
    more = next_link(request, cursor_of(rows[limit - 1]["district_id"])) if len(rows) > limit else None
    return as_json(rows[:limit], more)


@router.get("/{district_id:path}", response_model=DistrictDetail, responses=documented(404))
async def district(request: Request, district_id: DistrictId, time_window: BalanceWindow | None = None) -> Response:
    """One district, with its latest balance of an hour and of a day, or of the time window that is asked for: `30day`
    and `365day` are the 30 and 365 local days up to the end of the latest."""
    database = database_of(request)
    row = await database.fetchrow(queries.DISTRICTS, "", district_id, 1)
    if row is None:
        raise HTTPException(404, f"There is no district '{district_id}'")
    shown = ["1hour", "1day"] if time_window is None else [time_window]
    longest = _RECENT + LONGEST.get(time_window or "", timedelta())
    balances = await database.fetch(queries.DISTRICT_BALANCES, district_id, now_of(request), shown, longest)
    return as_json(dict(row) | {"balances": balances})
