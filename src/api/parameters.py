"""Parameters as types, declared once."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, get_origin
from urllib.parse import quote
from uuid import UUID

from fastapi import HTTPException, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, AwareDatetime, BeforeValidator
from starlette.convertors import PathConvertor, register_url_convertor

from src.api.routes import OPEN
from src.api.schemas.common import in_our_time, iso_text, storable


class _Name(PathConvertor):
    """Whatever stands in a path: names of nodes and districts may have line breaks, too."""

    regex = "(?s:.*)"


# For {node_id:path} and its like; this module is loaded before the routers declare them.
register_url_convertor("path", _Name())


_Text = AfterValidator(storable)
NodeId = Annotated[str, Path(max_length=300, examples=["node-santanna"]), _Text]
Filter = Annotated[str | None, Query(max_length=300), AfterValidator(lambda text: text and storable(text))]
Instant = Annotated[
    AwareDatetime | None,
    Query(description="ISO 8601 with an offset", examples=["2023-03-01T00:00:00Z"]),
    BeforeValidator(iso_text),
    AfterValidator(lambda instant: instant and in_our_time(instant)),
]
Cursor = Annotated[
    str | None,
    Query(max_length=1000, description="where to go on: from the `Link` header of the answer before, rel=next"),
]


# Of balances that are put together from days, how long one may last: a local day may have 25 hours.
LONGEST: Mapping[str, timedelta] = {"30day": timedelta(days=30, hours=1), "365day": timedelta(days=365, hours=1)}


def span(start: datetime | None, end: datetime | None, now: datetime, default: timedelta) -> tuple[datetime, datetime]:
    """[start, end), by default the last `default` before `now`.

    Raises:
        RequestValidationError: if it is empty.
    """
    end = end or (max(now, start + default) if start else now)
    start = start or end - default
    if start >= end:
        raise invalid("start_time", "must lie before end_time")
    return start, end


def invalid(field: str, message: str, place: str = "query") -> RequestValidationError:
    return RequestValidationError([{"loc": (place, field), "msg": message, "type": "value_error"}])


async def each_known_and_once(request: Request) -> None:
    """Refuses a parameter that is not known, or given twice where it is no list: it would be ignored in silence.

    Raises:
        RequestValidationError: naming it.
    """
    names = [name for name, _ in request.query_params.multi_items()]
    if not names or request.scope["path"] in OPEN:
        # Whoever checks health may add what it likes.
        return
    parameters = request.scope["route"].dependant.query_params
    known = sorted(parameter.alias for parameter in parameters)
    if unknown := [name for name in names if name not in known]:
        raise invalid(
            unknown[0][:100], f"is not known here; known are {', '.join(known)}" if known else "is not known here"
        )
    listed = {parameter.alias for parameter in parameters if get_origin(parameter.field_info.annotation) is list}
    single = [name for name in names if name not in listed]
    if len(set(single)) < len(single):
        repeated = next(name for name in single if single.count(name) > 1)
        raise invalid(repeated, "is given more than once")


def cursor_of(*parts: str) -> str:
    return base64.urlsafe_b64encode("\n".join(parts).encode()).decode().rstrip("=")


def _parts(cursor: str) -> list[str]:
    try:
        return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().split("\n")
    except (binascii.Error, UnicodeError, ValueError):
        raise invalid("cursor", "is not one that this API gave out") from None


def text_from(cursor: str | None) -> str:
    """The text a cursor stands for; before all others where there is none."""
    return "" if cursor is None else _storable_cursor("\n".join(_parts(cursor)))


def instant_from(cursor: str | None) -> datetime | None:
    return None if cursor is None else _instant(_parts(cursor)[0])


def instant_and_text_from(cursor: str | None) -> tuple[datetime | None, str | None]:
    if cursor is None:
        return None, None
    first, _, rest = "\n".join(_parts(cursor)).partition("\n")
    return _instant(first), _storable_cursor(rest)


def number_from(cursor: str | None) -> int:
    """How many rows the pages before have shown."""
    if cursor is None:
        return 0
    text = _parts(cursor)[0]
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise invalid("cursor", "is not one that this API gave out")
    return int(text)


def event_from(cursor: str | None) -> tuple[datetime | None, UUID | None]:
    if cursor is None:
        return None, None
    parts = _parts(cursor)
    try:
        return _instant(parts[0]), UUID(parts[1])
    except (ValueError, IndexError):
        raise invalid("cursor", "is not one that this API gave out") from None


def _instant(text: str) -> datetime:
    try:
        return in_our_time(datetime.fromisoformat(text).astimezone(UTC))
    except (ValueError, OverflowError):
        raise invalid("cursor", "is not one that this API gave out") from None


def _storable_cursor(text: str) -> str:
    try:
        return storable(text)
    except ValueError:
        raise invalid("cursor", "is not one that this API gave out") from None


def next_link(request: Request, cursor: str) -> dict[str, str]:
    """The header that leads to the next page (RFC 8288)."""
    query = request.url.include_query_params(cursor=cursor).query
    # The path as it was requested: a name such as ../.. would be taken for another path without its escapes. A header
    # holds ASCII only, and a reference no blanks.
    return {"Link": f'<{quote(request.scope["raw_path"], safe="/%")}?{query}>; rel="next"'}


def next_after(request: Request, rows: Sequence[Mapping[str, Any]], instant: str, identifier: str) -> dict[str, str]:
    """The header that leads on after the last of these rows, in lists that are ordered by these two columns."""
    return next_link(request, cursor_of(rows[-1][instant], str(rows[-1][identifier])))


def no_such_node(node_id: str) -> HTTPException:
    return HTTPException(404, f"There is no node '{node_id}'")
