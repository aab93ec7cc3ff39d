"""Instants in files of the utility: with an offset, or as its clocks show them."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, ValidationInfo


def instant_of(text: str, zone: ZoneInfo) -> datetime:
    """The instant (UTC) that a text stands for: ISO 8601, with an offset, or in the zone without one; a day alone is
    its midnight.

    Raises:
        ValueError: with a sentence, also where clocks skip or repeat this local time: which one is meant only an offset
            can say.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("must be an instant such as 2023-05-01 08:30 or 2023-05-01T08:30:00+02:00") from None
    if not 1970 <= found.year <= 2200:
        raise ValueError("must lie between 1970 and 2200")
    if found.tzinfo is not None:
        return found.astimezone(UTC)
    local = found.replace(tzinfo=zone)
    first, second = local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) != found:
        if found.time() == time() and len(text) == len("2023-05-01"):
            # A day may begin later than at midnight.
            return first
        raise ValueError(f"{text} does not exist in {zone.key}: clocks are put forward over it")
    if first != second:
        raise ValueError(f"{text} comes twice in {zone.key}, when clocks are put back: add an offset, such as +01:00")
    return first


def _instant(value: object, info: ValidationInfo) -> datetime | None:
    text = "" if value is None else str(value).strip()
    if not text:
        return None
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    return instant_of(text, (info.context or {}).get("zone", ZoneInfo("UTC")))


# In a model whose context has the utility's `zone`; an empty field is None.
LocalInstant = Annotated[datetime | None, BeforeValidator(_instant)]
