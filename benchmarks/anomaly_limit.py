"""What a detector that knows when a leak began could reach on real series, at the same false alarms.

It looks at nothing but the mean of what habits do not explain since the leak began, less the level before, and compares
it with means over as many hours of the untouched series: the threshold of each duration is such that these alone would
exceed it as often as the detector raises events of nothing. A detector must search when a leak began and share its
false alarms among all durations; this one need not, so that its figures are a limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from src.domain.anomalies.habits import Habits
from src.domain.anomalies.shift import level_of
from src.domain.anomalies.signals import HOUR, Floats, Signals, cells_of
from src.domain.anomalies.watch import LEAD, habits_of_week, weeks

# Durations (hours) at which the mean is looked at.
DURATIONS = (2, 3, 4, 6, 8, 12, 16, 24, 36, 48, 72, 96, 120, 168, 240, 336, 480)
# Exceedances with fewer hours between them are one alarm.
MERGED = 48
HOURS_PER_MONTH = 30.4375 * 24


@dataclass(frozen=True)
class Limit:
    """The share of leaks that can be found, and after how many hours, in the median."""

    recall: float
    median_hours: float


class KnownOnset:
    """Untouched series, as a detector that knows when leaks begin sees them."""

    def __init__(self, signals: Signals, zone: ZoneInfo, country: str, events_per_sensor_month: float) -> None:
        """
        Args:
            events_per_sensor_month: how often the detector raises an event of nothing, which this may do as well.
        """
        self._signals = signals
        self._deviation = _deviations(signals, zone, country)
        self._level = level_of(self._deviation)
        self._thresholds = {
            hours: [self._threshold(hours, column, events_per_sensor_month) for column in range(len(signals.listed))]
            for hours in DURATIONS
        }

    def of(self, leaks: Sequence[tuple[str, datetime, datetime]], size: Callable[[str, Floats], Floats]) -> Limit:
        """What is reached of leaks: their nodes, begins and ends.

        Args:
            size: of a node, L/s by hours since a leak began.
        """
        column_of = {str(node): n for n, node in enumerate(self._signals.listed["node_id"])}
        found: list[float | None] = []
        for node_id, begin, end in leaks:
            column, first = column_of[node_id], int(self._signals.hours.searchsorted(pd.Timestamp(begin)))
            lasts = int((end - begin) / HOUR)
            above = self._deviation[first : first + lasts, column] - self._level[first, column]
            above = above + size(node_id, np.arange(len(above), dtype=np.float64))
            found.append(
                next((hours for hours in DURATIONS if hours <= lasts and self._exceeds(above, hours, column)), None)
            )
        hours = [value for value in found if value is not None]
        return Limit(len(hours) / max(len(found), 1), float(np.median(hours)) if hours else float("nan"))

    def _exceeds(self, above: Floats, hours: int, column: int) -> bool:
        known = above[:hours][np.isfinite(above[:hours])]
        return len(known) >= hours / 2 and float(known.mean()) > self._thresholds[hours][column]

    def _threshold(self, hours: int, column: int, rate: float) -> float:
        series = pd.Series(self._deviation[:, column])
        means = series.rolling(hours, min_periods=max(hours // 2, 1)).mean().to_numpy()[hours - 1 :]
        above = means - self._level[: len(means), column]
        wanted = rate * np.isfinite(self._deviation[:, column]).sum() / HOURS_PER_MONTH
        low, high = float(np.nanmin(above)), float(np.nanmax(above))
        for _ in range(30):
            middle = (low + high) / 2
            rows = np.flatnonzero(above > middle)
            alarms = (np.diff(rows) > MERGED).sum() + (len(rows) > 0)
            # Very low thresholds are exceeded all the time, which is one alarm.
            too_many = alarms > wanted or len(rows) > len(above) / 4
            low, high = (middle, high) if too_many else (low, middle)
        return high


def _deviations(signals: Signals, zone: ZoneInfo, country: str) -> Floats:
    """What the habits of each week do not explain of it: hours × signals, in the signals' units; NaN while learning."""
    parts: list[Floats] = []
    start, end = signals.hours[0].to_pydatetime(), signals.hours[-1].to_pydatetime() + timedelta(hours=1)
    for monday, first, last in weeks(start, end, zone):
        habits: Habits = habits_of_week(signals, monday, [], zone, country)
        week = signals.between(max(first, monday - LEAD), last)
        cells = cells_of(week.hours, zone, country)
        deviation = habits.unexplained(week.mean, cells) * habits.spread[:, cells % 24].T
        parts.append(np.where(habits.is_known, deviation, np.nan))
    return np.concatenate(parts)
