"""Leaks: bursts and slow growth, as lasting upward steps of a district's inflow or of its unaccounted water.

The evidence of `shift` weighs every hour by how quiet it usually is, so the minimum night flow counts most. A leak is
over when the flow is back below half of the step for some hours; a step on top of an open one is a leak of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np
import pandas as pd

from src.domain.anomalies.habits import Habits
from src.domain.anomalies.shift import AGES, shifts, variance_of_hours
from src.domain.anomalies.signals import HOUR, INFLOW, LOSS, Floats, Integers, Signals
from src.vocabulary import AnomalyType, LeakKind

BURST: AnomalyType = "burst"
SLOW_LEAK: AnomalyType = "slow_leak"
LEAKS = BURST, SLOW_LEAK
# By age of the step: the evidence that is needed, and the smallest step worth an event, as a share of the mean inflow.
EVIDENCE = (7.0, 5.5, 4.25, 3.95, 2.95, 2.75, 2.75, 2.4)
SMALLEST = (0.13, 0.085, 0.048, 0.05, 0.044, 0.04, 0.041, 0.035)
# What meters on all sides do not account for is known that much better than what habits do not.
_LOSS_IS_SHARPER = 0.25
# The inflow of a district with several inlets stands for all its sensors, which share what false events may be.
_INFLOW_NEEDS = 0.8
# A step on top of a leak is no smaller, begins this long after that was found (at once, if it is twice as large) and is
# seen within three days: whatever is slower is that leak, growing. Steps that are seen within a day are abrupt.
APART_HOURS, ON_TOP_HOURS, ABRUPT_HOURS = 12, 72, 24
# It is over when the average of so many hours has been below half of the step for some hours, by so many standard
# deviations; at the latest after so many days, when it has become the level to expect.
AVERAGE_HOURS, AVERAGE_DEVIATIONS, QUIET_HOURS, LONGEST = (12, 24, 48), 1.5, 6, timedelta(days=28)
# An inflow that was raised for so long has moved the level that the next step is measured from.
LASTING = timedelta(days=5)
# A step so soon after a leak was over is that leak coming back.
COMES_BACK = timedelta(hours=6)
# So is one within so many days, if this share of it was there all the time.
NEVER_GONE, LEFT_OVER = timedelta(days=5), 0.25
# A leak that has grown so much is a slow one.
SLOW_GROWTH = 1.4


@dataclass(frozen=True)
class Leak:
    """A leak that was found: `level_before` and `size` in L/s above what is expected; `end` when it was over, and
    `settled` when that became certain; `is_closed` whether somebody has declared it dealt with; `kinds` what it was
    taken for when it was last looked at."""

    node_id: str
    anomaly_type: AnomalyType
    measurement: str
    begin: datetime
    detected: datetime
    level_before: float
    size: float
    end: datetime | None = None
    settled: datetime | None = None
    is_closed: bool = False
    kinds: Mapping[LeakKind, float] | None = field(default=None, compare=False)


def leaks(
    signals: Signals,
    cells: Integers,
    habits: Habits,
    deviation: Floats,
    reference: Floats,
    judged_from: datetime,
    known: Sequence[Leak],
) -> Iterator[tuple[int, Leak]]:
    """Every leak that was open at `judged_from` or found since, with the place of its signal.

    Args:
        deviation: hours × signals, what habits do not explain, L/s.
        reference: the mean inflow (L/s) a step of each signal is compared with; NaN where the signal is none whose
            growth means a leak.
        judged_from: earlier hours are context; what was found in them is in `known`.
        known: leaks that were found before, also those that were over by then.
    """
    columns = [int(n) for n in np.flatnonzero(np.isfinite(reference) & habits.is_known)]
    if not columns:
        return
    first = int(signals.hours.searchsorted(pd.Timestamp(judged_from)))
    keys = list(zip(signals.listed["node_id"], signals.listed["measurement"], strict=True))
    of_key: dict[tuple[str, str], list[Leak]] = {}
    for leak in known:
        of_key.setdefault((leak.node_id, leak.measurement), []).append(leak)
    known_of = {column: of_key.get(keys[column], []) for column in columns}
    settled = {c: [leak for leak in known_of[c] if leak.settled and leak.settled <= judged_from] for c in columns}
    usable = deviation.copy()
    for column in columns:
        _set_aside(usable[:, column], signals.hours, settled[column])
    smallest = np.where(signals.listed["measurement"] == LOSS, _LOSS_IS_SHARPER, 1.0) * reference
    needs = np.where(signals.listed["measurement"] == INFLOW, _INFLOW_NEEDS, 1.0)
    column_habits = habits.of(np.array(columns))
    search = _Search(usable[:, columns], cells, column_habits, smallest[columns], needs[columns], first)
    noise = variance_of_hours(column_habits)
    for place, column in enumerate(columns):
        going = [replace(leak, end=None, settled=None) for leak in known_of[column] if leak not in settled[column]]
        if not going and not search.found_any(place):
            continue
        series = _Series(signals.hours, deviation[:, column], float(noise[place]), *keys[column])
        for leak in _follow(series, search, place, going, settled[column], first):
            yield column, leak


def _set_aside(series: Floats, hours: pd.DatetimeIndex, over: Sequence[Leak]) -> None:
    """Takes the hours of leaks that are over out of a series, where they would hide the next.

    Of losses all; of inflows those that lasted: what is unruly for a day is so again soon, and then it is as well that
    the next step is measured from what went before.
    """
    for leak in over:
        if leak.end is not None and _is_set_aside(leak):
            first, last = (int(hours.searchsorted(pd.Timestamp(edge))) for edge in (leak.begin, leak.end))
            series[first:last] = np.nan


def _is_set_aside(leak: Leak) -> bool:
    lasted = timedelta(0) if leak.end is None else leak.end - leak.begin
    # What lasted that long is the level to expect.
    return lasted < LONGEST and (leak.measurement == LOSS or lasted >= LASTING)


@dataclass
class _Series:
    """One signal: `deviation` from what is expected by hour, and the `noise` of a long average of it, as the variance
    of one hour."""

    hours: pd.DatetimeIndex
    deviation: Floats
    noise: float
    node_id: str
    measurement: str

    def is_below(self, level: float, begin: int, row: int) -> bool:
        """Whether in all of the last known hours up to a row the average since `begin` is below a level."""
        known = np.flatnonzero(np.isfinite(self.deviation[begin : row + 1])) + begin
        if len(known) < AVERAGE_HOURS[0] // 2 + QUIET_HOURS:
            return False
        recent = known[-QUIET_HOURS:]
        below = np.zeros(QUIET_HOURS, dtype=bool)
        sums = np.concatenate([[0.0], np.cumsum(self.deviation[known])])
        for hours in AVERAGE_HOURS:
            ends = np.arange(len(known) - QUIET_HOURS, len(known)) + 1
            starts = np.searchsorted(known, recent - hours + 1)
            counts = ends - starts
            averages = (sums[ends] - sums[starts]) / counts
            inside = (recent - hours + 1 >= begin) & (counts >= hours // 2)
            below |= inside & (averages + AVERAGE_DEVIATIONS * np.sqrt(self.noise / counts) < level)
        return bool(below.all())


class _Search:
    """Evidence of each judged hour and signal: the strongest, as a multiple of what is needed, and its step."""

    def __init__(
        self, usable: Floats, cells: Integers, habits: Habits, smallest: Floats, needs: Floats, first: int
    ) -> None:
        self._known, self._usable = usable, usable.copy()
        self._cells, self._habits, self._smallest = cells, habits, smallest
        self._needs, self._first = needs, first
        self._ratio = np.zeros((len(AGES), len(usable) - first, usable.shape[1]))
        self._level = np.zeros(usable.shape)
        self._look(np.arange(usable.shape[1]), first)

    def found_any(self, place: int) -> bool:
        return bool((self._ratio[:, :, place] > 1).any())

    def steps(self, row: int, place: int, longest_age: int) -> list[tuple[int, float]]:
        """Age (hours) of, and level before, each step no older than this that is strong enough, the strongest first."""
        ratio = np.where(np.array(AGES) <= longest_age, self._ratio[:, row - self._first, place], 0.0)
        strong = [int(which) for which in np.argsort(-ratio, kind="stable") if ratio[which] > 1]
        return [(AGES[which], float(self._level[max(row - AGES[which], 0), place])) for which in strong]

    def beside(self, going: Sequence[Leak], hours: pd.DatetimeIndex, place: int, first: int) -> None:
        """Looks again from row `first` on, beside the leaks that go on, whose water is none of the next one's."""
        self._usable[:, place] = self._known[:, place]
        for leak in going:
            self._usable[int(hours.searchsorted(pd.Timestamp(leak.begin))) :, place] -= leak.size
        self._look(np.array([place]), first)

    def without(self, leak: Leak, hours: pd.DatetimeIndex, place: int) -> None:
        """Leaves out the hours of a leak that is over, where they are to be set aside."""
        if _is_set_aside(leak):
            _set_aside(self._known[:, place], hours, [leak])

    def _look(self, places: Integers, first: int) -> None:
        moved = shifts(self._usable[:, places], self._cells, self._habits.of(places), first)
        with np.errstate(invalid="ignore"):
            smallest = np.array(SMALLEST)[:, None, None] * self._smallest[places]
            # A few hours cannot show less than a meter's step.
            young = np.array(AGES)[:, None, None] < ABRUPT_HOURS
            smallest = np.where(young, np.fmax(smallest, self._habits.step[places]), smallest)
            wanted = moved.size > smallest
            needed = np.array(EVIDENCE)[:, None, None] * self._needs[places]
            ratio = np.where(wanted, moved.evidence / needed, 0.0)
        self._ratio[:, first - self._first :, places] = ratio[:, first:]
        self._level[:, places] = moved.level


def _follow(
    series: _Series, search: _Search, place: int, going: list[Leak], over: Sequence[Leak], first: int
) -> Iterator[Leak]:
    """Goes through the hours: leaks end, come back, and new ones are found. Those that were over before, and stay so,
    are not reported again."""
    before, over = set(over), list(over)
    if going:
        search.beside(going, series.hours, place, first)
    for row in range(first, len(series.hours)):
        now = series.hours[row].to_pydatetime() + HOUR
        for leak in list(going):
            end = _end(leak, series, row)
            if end is not None:
                going.remove(leak)
                over.append(replace(leak, end=end, settled=now))
                search.without(over[-1], series.hours, place)
                search.beside(going, series.hours, place, row)
        longest = ON_TOP_HOURS if going else max(AGES)
        if over:
            # The hours of a leak that is over have been judged for good.
            longest = min(longest, int((now - max(leak.end for leak in over if leak.end)) / HOUR) - 1)
        steps = search.steps(row, place, longest)
        found = next(filter(None, (_found(series, step, row, going, over) for step in steps)), None)
        if found is None:
            continue
        again = [leak for leak in over if not leak.is_closed and _goes_on(leak, found, series)]
        if again:
            over.remove(again[-1])
            found = replace(again[-1], end=None, settled=None)
        going.append(found)
        search.beside(going, series.hours, place, row + 1)
    yield from (leak for leak in [*over, *going] if leak not in before)


def _goes_on(leak: Leak, found: Leak, series: _Series) -> bool:
    """Whether what was found is a leak that was taken for over: so soon, or while no more than most of it was gone."""
    if leak.end is None or found.begin - leak.end > NEVER_GONE:
        return False
    if found.begin - leak.end <= COMES_BACK:
        return True
    gap = slice(*(int(series.hours.searchsorted(pd.Timestamp(edge))) for edge in (leak.end, found.begin)))
    left = (_mean(series.deviation[gap]) - leak.level_before) / leak.size
    return found.size < 2 * leak.size and left > LEFT_OVER


def _found(
    series: _Series, step: tuple[int, float], row: int, going: Sequence[Leak], over: Sequence[Leak]
) -> Leak | None:
    """The leak that a step (its age, the level before) stands for, if it is none that is known."""
    age, before = step
    if going:
        # It is measured from what was there just before it: the leak that goes on.
        before = _mean(series.deviation[max(row - age - 24, 0) : max(row - age, 0)])
    lasted, size = _step(series.deviation[max(row - age, 0) : row + 1] - before)
    begin = series.hours[row + 1 - lasted].to_pydatetime()
    if any(leak.end is not None and begin < leak.end for leak in over):
        return None
    for leak in going:
        its_size = max(leak.size, before - leak.level_before)
        apart = begin >= leak.detected + (APART_HOURS if size < 2 * its_size else 0) * HOUR
        if not size >= its_size or not apart:
            return None
    lately = _mean(series.deviation[max(row - min(age, 6) + 1, 0) : row + 1]) - before
    # What has gone back already is nothing to send anybody out for.
    if not lately > size / 2:
        return None
    last_day = _mean(series.deviation[max(row - 23, 0) : row + 1]) - before
    kind = SLOW_LEAK if age >= 48 and last_day > SLOW_GROWTH * size else BURST
    now = series.hours[row].to_pydatetime() + HOUR
    return Leak(series.node_id, kind, series.measurement, begin, now, before, size)


def _step(above: Floats) -> tuple[int, float]:
    """Hours since the step that explains a rise best (least squares), and its size."""
    known = np.isfinite(above[::-1])
    count = np.maximum(np.cumsum(known), 1)
    mean = np.cumsum(np.nan_to_num(above[::-1])) / count
    best = int(np.argmax(np.where(mean > 0, count * mean**2, 0.0)))
    return best + 1, float(mean[best])


def _end(leak: Leak, series: _Series, row: int) -> datetime | None:
    """Since when the leak is over, if that is certain at the end of this hour."""
    now = series.hours[row].to_pydatetime()
    if now - leak.begin >= LONGEST:
        return now
    begin = int(series.hours.searchsorted(pd.Timestamp(leak.begin)))
    if not series.is_below(leak.level_before + leak.size / 2, begin, row):
        return None
    since, _ = _step(leak.level_before + leak.size - series.deviation[max(begin, row - AVERAGE_HOURS[-1]) : row + 1])
    return max(series.hours[row + 1 - since].to_pydatetime(), leak.begin + HOUR)


def _mean(values: Floats) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
