"""When jobs are due: instants on the injected clock, and the APScheduler trigger that waits for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Protocol
from zoneinfo import ZoneInfo

from apscheduler.triggers.base import BaseTrigger

from src.clock import Clock

# Timers fire on time or late, never early; this much later, floating point cannot make it early either.
_MARGIN = timedelta(milliseconds=20)


class Rhythm(Protocol):
    """A recurring instant."""

    def last(self, instant: datetime) -> datetime:
        """The latest occurrence at or before `instant`."""

    def after(self, instant: datetime) -> datetime:
        """The first occurrence after `instant`."""


@dataclass(frozen=True)
class Entry:
    """A line of the timetable: what is done, with the instant at which it was due, and when."""

    name: str
    when: Rhythm
    job: Callable[[datetime], object]


@dataclass(frozen=True)
class Every:
    """Multiples of a period since midnight UTC of 1970."""

    period: timedelta

    def last(self, instant: datetime) -> datetime:
        return instant - timedelta(seconds=instant.timestamp() % self.period.total_seconds())

    def after(self, instant: datetime) -> datetime:
        return self.last(instant) + self.period


@dataclass(frozen=True)
class Daily:
    """A time of the utility's day; where clocks skip it, the moment they resume."""

    at: time
    zone: ZoneInfo

    def last(self, instant: datetime) -> datetime:
        today = self._on(instant, 0)
        return today if today <= instant else self._on(instant, -1)

    def after(self, instant: datetime) -> datetime:
        today = self._on(instant, 0)
        return today if today > instant else self._on(instant, 1)

    def _on(self, instant: datetime, days: int) -> datetime:
        day = instant.astimezone(self.zone).date() + timedelta(days=days)
        return datetime.combine(day, self.at, tzinfo=self.zone).astimezone(instant.tzinfo)


@dataclass(frozen=True)
class Weekly:
    """A time of one day of the utility's week, Monday 0."""

    weekday: int
    at: time
    zone: ZoneInfo

    def last(self, instant: datetime) -> datetime:
        daily = Daily(self.at, self.zone)
        found = daily.last(instant)
        while found.astimezone(self.zone).weekday() != self.weekday:
            found = daily.last(found - timedelta(microseconds=1))
        return found

    def after(self, instant: datetime) -> datetime:
        daily = Daily(self.at, self.zone)
        found = daily.after(instant)
        while found.astimezone(self.zone).weekday() != self.weekday:
            found = daily.after(found)
        return found


class ClockTrigger(BaseTrigger):  # type: ignore[misc]
    """Fires in real time when the injected clock reaches the next occurrence; never, where that clock is frozen."""

    def __init__(self, rhythm: Rhythm, clock: Clock) -> None:
        self._rhythm = rhythm
        self._clock = clock

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        # The scheduler asks more than once between two fires: every time the answer must be the same.
        wait = self._clock.real_seconds_until(self._rhythm.after(self._clock.now()))
        return None if wait is None else now + timedelta(seconds=max(wait, 0)) + _MARGIN
