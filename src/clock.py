"""The injected clock: nobody else asks what time it is."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

EXPECTED = (
    "live, frozen:<instant>, stepped:<instant> or ticking:<instant>[@<real start>][*<speed>], "
    "instants as 2023-04-01T00:00:00Z"
)


class Clock(Protocol):
    def now(self) -> datetime:
        """The present instant, aware, in UTC."""

    def real_seconds_until(self, instant: datetime) -> float | None:
        """Seconds of real waiting until `instant` (negative if past); None if it will never come."""


class LiveClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def real_seconds_until(self, instant: datetime) -> float | None:
        return (instant - self.now()).total_seconds()


@dataclass(frozen=True)
class FrozenClock:
    instant: datetime

    def now(self) -> datetime:
        return self.instant

    def real_seconds_until(self, instant: datetime) -> float | None:
        return 0.0 if instant <= self.instant else None


@dataclass
class SteppedClock:
    """Stands until somebody moves it: a replay of the past works off one instant after the other."""

    instant: datetime

    def now(self) -> datetime:
        return self.instant

    def real_seconds_until(self, instant: datetime) -> float | None:
        return 0.0 if instant <= self.instant else None

    def move_to(self, instant: datetime) -> None:
        """Makes it a later instant.

        Raises:
            ValueError: if it is an earlier one: time does not run backwards.
        """
        if instant < self.instant:
            raise ValueError(f"{instant.isoformat()} lies before {self.instant.isoformat()}")
        self.instant = instant


@dataclass(frozen=True)
class TickingClock:
    """Starts at `start` at the real time `anchor` and runs `speed` times as fast as real time."""

    start: datetime
    anchor: float
    speed: float = 1.0

    def now(self) -> datetime:
        return self.start + timedelta(seconds=(time.time() - self.anchor) * self.speed)

    def real_seconds_until(self, instant: datetime) -> float | None:
        return (instant - self.now()).total_seconds() / self.speed


def parse_instant(text: str) -> datetime:
    """An aware UTC datetime from ISO 8601; raises ValueError where the offset is missing."""
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        raise ValueError(f"'{text}' has no offset: write it like 2023-04-01T00:00:00Z")
    return instant.astimezone(UTC)


def clock_from(text: str) -> Clock:
    """The clock that the CLOCK setting describes.

    Raises:
        ValueError: if the text is none of the forms in `EXPECTED`.
    """
    if text == "live":
        return LiveClock()
    match = re.fullmatch(r"(frozen|stepped|ticking):([^@*]+)(?:@([^*]+))?(?:\*([0-9.]+))?", text)
    if match is None:
        raise ValueError(f"expected {EXPECTED}")
    kind, start, anchor, speed = match.groups()
    if kind == "frozen":
        return FrozenClock(parse_instant(start))
    if kind == "stepped":
        return SteppedClock(parse_instant(start))
    return TickingClock(
        start=parse_instant(start),
        anchor=parse_instant(anchor).timestamp() if anchor else time.time(),
        speed=float(speed or 1),
    )
