"""The survey of the network: what everything is taken for, and what is lacking."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from src.api import queries
from src.api.database import as_json, database_of
from src.api.pages import page
from src.api.parameters import Cursor, cursor_of, invalid, next_link, text_from
from src.api.problems import documented
from src.api.schemas.survey import Survey

router = APIRouter(prefix="/api/v1/survey", tags=["survey"])


@router.get("", response_model=Survey, responses=documented())
async def survey(
    request: Request, limit: Annotated[int, Query(ge=1, le=1000)] = 500, cursor: Cursor = None
) -> Response:
    """What each node and each of its channels is taken for and why, and what nodes and districts lack for a balance, a
    forecast, a detector and a recommendation; made at most once an hour.

    A page has up to `limit` nodes and as many districts; the pages of both are put together.
    """
    database = database_of(request)
    after_node, after_district = _after(cursor)
    nodes, more_nodes = await page(database, queries.SURVEYED_NODES, after_node, limit=limit)
    districts, more_districts = await page(database, queries.SURVEYED_DISTRICTS, after_district, limit=limit)
    more = None
    if more_nodes or more_districts:
        last_node = nodes[-1]["node_id"] if nodes else after_node
        last_district = districts[-1]["district_id"] if districts else after_district
        # Names may hold whatever would part them: the length of the first shows where the second begins.
        more = next_link(request, cursor_of(str(len(last_node)), last_node + last_district))
    surveyed_at = await database.fetchval(queries.SURVEYED_AT)
    return as_json({"surveyed_at": surveyed_at, "nodes": nodes, "districts": districts}, more)


def _after(cursor: str | None) -> tuple[str, str]:
    """The last node and the last district of the pages before."""
    if cursor is None:
        return "", ""
    length, _, names = text_from(cursor).partition("\n")
    if not length.isascii() or not length.isdigit() or len(length) > 4 or int(length) > len(names):
        raise invalid("cursor", "is not one that this API gave out")
    return names[: int(length)], names[int(length) :]
