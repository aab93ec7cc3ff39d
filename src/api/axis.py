"""The time axis of a chart: every window of a span, whether or not something was measured in it."""

from __future__ import annotations

import math
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from src.vocabulary import TimeWindow

Seconds = npt.NDArray[np.int64]
WINDOW_SECONDS: dict[TimeWindow, int] = {"5min": 300, "1hour": 3600, "1day": 86_400}


def windows_between(start: datetime, end: datetime, time_window: TimeWindow) -> int:
    """How many windows begin in [start, end), about."""
    return math.ceil((end - start).total_seconds() / WINDOW_SECONDS[time_window])


def axis(start: datetime, end: datetime, time_window: TimeWindow, timezone: str) -> Seconds:
    """When the windows of [start, end) begin, in seconds since 1970: of days, the utility's midnights."""
    if time_window != "1day":
        step = WINDOW_SECONDS[time_window]
        first, last = (math.ceil(edge.timestamp() / step) * step for edge in (start, end))
        return np.arange(first, last, step, dtype=np.int64)
    zone = ZoneInfo(timezone)
    first_day, days = start.astimezone(zone).date(), (end - start).days + 2
    midnights = [datetime.combine(first_day + timedelta(days=n), time(), zone).astimezone(UTC) for n in range(days)]
    return np.array([int(at.timestamp()) for at in midnights if start <= at < end], dtype=np.int64)
