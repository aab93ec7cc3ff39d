"""How far each node is taken in, as a parameter of a query: compactly, for a request may hold 10 MB."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from src.domain.readings import EARLIEST

# The watermarks of one query, in bytes of its request: about 100 000 nodes with names of 20 characters.
MOST_BYTES = 8_000_000
_EPOCH = EARLIEST.replace(year=1970)
# Of one entry in the request, besides the text itself.
_AROUND_AN_ENTRY = len('{"value": }, ')


@dataclass(frozen=True)
class Watermark:
    """How far a node is taken in.

    Attributes:
        last_row: the instant of its last row taken in, valid or not.
        last_arrival: the latest arrival among them; None: never stamped, or a first load was interrupted.
        recent_rows: how many of them had arrived within LATE_ARRIVAL_MARGIN_MINUTES up to `last_arrival`; None: nobody
            has counted.
        last_of_each: the earliest of the last readings of each measurement; None: not known.
    """

    last_row: datetime
    last_arrival: datetime | None
    recent_rows: int | None = None
    last_of_each: datetime | None = None

    def until(self, now: datetime) -> Watermark:
        """The watermark without what lies after an instant."""
        arrival = None if self.last_arrival is None else min(self.last_arrival, now)
        of_each = None if self.last_of_each is None else min(self.last_of_each, now)
        return Watermark(min(self.last_row, now), arrival, self.recent_rows, of_each)


@dataclass(frozen=True)
class Portion:
    """Entries for one query, which is to look at the names from `first` on and before `end` (None: no bound)."""

    entries: list[str]
    first: str | None
    end: str | None


# Microseconds since 1970 of the last row and of the last arrival, the count, the name: whatever is in the name, it
# comes last. GoogleSQL that takes an array of them, @marks, apart.
KNOWN = r"""
    SELECT REGEXP_EXTRACT(entry, r'(?s)^(?:[^,]*,){3}(.*)$') AS known_id,
        TIMESTAMP_MICROS(SAFE_CAST(SPLIT(entry, ',')[OFFSET(0)] AS INT64)) AS last_row,
        TIMESTAMP_MICROS(SAFE_CAST(SPLIT(entry, ',')[OFFSET(1)] AS INT64)) AS last_arrival,
        SAFE_CAST(SPLIT(entry, ',')[OFFSET(2)] AS INT64) AS recent_then
    FROM UNNEST(@marks) AS entry
"""


def portions(marks: Mapping[str, Watermark]) -> Iterator[Portion]:
    """The marks as entries of `KNOWN`, in portions that a request can hold, by ranges of names that cover every name.

    Without marks there is one portion without entries.
    """
    entries: list[str] = []
    first: str | None = None
    held = 0
    # Code points order as the warehouse's own comparison of strings does.
    for node_id, mark in sorted(marks.items()):
        entry = f"{_micros(mark.last_row)},{_micros(mark.last_arrival)},{_count(mark.recent_rows)},{node_id}"
        size = len(json.dumps(entry)) + _AROUND_AN_ENTRY
        if entries and held + size > MOST_BYTES:
            yield Portion(entries, first, node_id)
            entries, first, held = [], node_id, 0
        entries.append(entry)
        held += size
    yield Portion(entries, first, None)


def _micros(instant: datetime | None) -> str:
    return "" if instant is None else str((instant - _EPOCH) // timedelta(microseconds=1))


def _count(rows: int | None) -> str:
    return "" if rows is None else str(rows)
