"""From when until when a work may last, wherever it is stated."""

from __future__ import annotations

from datetime import datetime, timedelta

from src.vocabulary import WorkKind

# A slip of a year must not hide a district's events for as long.
LONGEST = timedelta(days=366)


def problem_of_span(kind: WorkKind, begin: datetime, end: datetime | None) -> str | None:
    """Why a work of a kind cannot last from begin to end (None: an instant), or None."""
    if end is None:
        return f"end must say until when, of {kind}" if kind in ("works", "closure") else None
    if end <= begin:
        return "end must be later than begin"
    return f"a work lasts {LONGEST.days} days at most" if end - begin > LONGEST else None
