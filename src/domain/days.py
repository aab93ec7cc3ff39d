"""The utility's local days, which last 23 or 25 hours twice a year."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

Microseconds = npt.NDArray[np.int64]


def day_start(instant: datetime, zone: ZoneInfo, days: int = 0) -> datetime:
    """The UTC instant at which the local day of `instant`, moved by `days`, begins."""
    return _midnight(instant.astimezone(zone).date() + timedelta(days=days), zone)


def day_starts(first: datetime, last: datetime, zone: ZoneInfo) -> list[datetime]:
    """Starts of the local days from the one of `first` to the one after `last`, both included."""
    day, end = first.astimezone(zone).date(), last.astimezone(zone).date() + timedelta(days=1)
    return [_midnight(day + timedelta(days=n), zone) for n in range((end - day).days + 1)]


def epoch_microseconds(instants: list[datetime]) -> Microseconds:
    """Microseconds since 1970 of aware instants, exact."""
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    return np.array([(instant - epoch) // timedelta(microseconds=1) for instant in instants], dtype=np.int64)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), tzinfo=zone).astimezone(UTC)
