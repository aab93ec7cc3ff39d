"""What is usual of each signal by itself, from the weeks before.

Expected values are medians by kind of day and hour, so that a few bad days do not matter; so are spreads.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from src.domain.anomalies.events import spans
from src.domain.anomalies.habits import CLIP, FIGURES, SHORT_HOURS, USUAL_TIMES, Figures, Habits, plain
from src.domain.anomalies.signals import CELLS, Flags, Floats, Integers, Signals

# What happened on so many days, the first and the last of which lie so far apart, is ordinary operation.
USUAL_DAYS, USUAL_SPAN = 5, 10
# A spread is never taken for smaller than this share of the mean: meters are no better. Nor, where a sensor shows so
# few different values, than the standard deviation of what is rounded to its steps.
_LEAST_SPREAD = 0.003
FEW_VALUES, _ROUNDING = 40, 12**-0.5


@dataclass(frozen=True)
class Profile(Figures):
    """What is usual of signals, each by itself, and `deviation`, hours × signals, of what was learned from (NaN
    elsewhere) from what was expected."""

    listed: pd.DataFrame
    deviation: Floats

    def described(self) -> list[dict[str, Any]]:
        """One JSON-like description per signal, as of `Habits.described`: what is not known is left out."""
        figures = {name: getattr(self, name) for name in FIGURES}
        return [
            {name: plain(values[n]) for name, values in figures.items() if np.isfinite(values[n]).all()}
            for n in range(len(self.listed))
        ]


def profile_of(signals: Signals, cells: Integers, is_usable: Flags) -> Profile:
    """What is usual of each signal by itself, from `FULL_HISTORY` hours of it at best; parts of the signals may follow
    each other, see `joined`.

    Args:
        cells: the cell of the week of each hour.
        is_usable: hours × signals; False where an event lies over the hour, which must not become a habit.
    """
    usable = np.where(is_usable, signals.mean, np.nan)
    mean = quiet(np.nanmean, usable)
    expected = _by_cell(usable, cells)
    deviation = usable - expected[:, cells].T
    step = _step(signals)
    swing = np.maximum(spread_by_hour(deviation, cells % 24), least_spread(mean, step))
    return Profile(
        listed=signals.listed,
        deviation=deviation,
        history=np.isfinite(usable).sum(axis=0).astype(np.float64),
        mean=mean,
        expected=expected,
        swing=swing,
        flat_hours=longest_run(is_flat(signals) & is_usable),
        silent_hours=_usual_gap(np.isfinite(signals.mean)),
        change=quiet(np.nanquantile, np.where(is_usable, signals.change, np.nan), 0.998),
        spike=quiet(np.nanquantile, np.where(is_usable, signals.spike, np.nan), 0.998),
        usual_low=_usual_extreme(signals.mean, lowest=True),
        usual_high=_usual_extreme(signals.mean, lowest=False),
        unrest=_unrest(deviation, mean),
        step=step,
        zeros=quiet(np.nanmean, np.where(np.isfinite(usable), is_zero(signals), np.nan)),
        busy_hours=longest_run(is_usable & np.isfinite(signals.mean) & ~is_zero(signals)),
        recurs=_recurs(deviation / swing[:, cells % 24].T, cells % 24),
    )


def known_profile(signals: Signals, cells: Integers, is_usable: Flags, habits: Habits) -> Profile:
    """The profile, as of `profile_of`, of signals whose habits were learned before: only deviations are computed."""
    usable = np.where(is_usable, signals.mean, np.nan)
    figures = {name: getattr(habits, name) for name in FIGURES}
    return Profile(listed=signals.listed, deviation=usable - habits.expected[:, cells].T, **figures)


def joined(profiles: Sequence[Profile]) -> Profile:
    """The profiles of parts of the signals, in this order, as one."""
    figures = {
        field.name: np.concatenate(
            [getattr(part, field.name) for part in profiles], axis=1 if field.name == "deviation" else 0
        )
        for field in fields(Profile)
        if field.name != "listed"
    }
    return Profile(listed=pd.concat([part.listed for part in profiles], ignore_index=True), **figures)


def least_spread(mean: Floats, step: Floats) -> Floats:
    """The least spread of each signal, as a column: differences that a meter cannot resolve."""
    coarse = _ROUNDING * np.nan_to_num(step)
    return np.asarray(np.maximum(np.maximum(np.abs(mean) * _LEAST_SPREAD, coarse), 1e-6)[:, None])


def _recurs(scaled: Floats, hour: Integers) -> Floats:
    """Of each local hour (n × 24) how many swings above `CLIP` lay over it that were over within `SHORT_HOURS`; 0 where
    fewer than `USUAL_TIMES` did."""
    times = np.zeros((scaled.shape[1], 24))
    with np.errstate(invalid="ignore"):
        is_far = scaled > CLIP
    for column in np.flatnonzero(is_far.any(axis=0)):
        for first, end in spans(is_far[:, column]):
            if end - first <= SHORT_HOURS:
                times[column, hour[first:end]] += 1
    return np.where(times >= USUAL_TIMES, times, 0.0)


def _step(signals: Signals) -> Floats:
    """The step in which a sensor's readings go up and down, where few of them differ; else 0."""
    steps = np.zeros(signals.mean.shape[1])
    for column in range(len(steps)):
        seen = np.unique(np.concatenate([signals.low[:, column], signals.high[:, column]]))
        seen = seen[np.isfinite(seen)]
        if 2 <= len(seen) <= FEW_VALUES:
            steps[column] = np.diff(seen).min()
    return steps


def is_flat(signals: Signals) -> Flags:
    """Hours in which nothing changed, neither within them nor since the hour before."""
    within = signals.low == signals.high
    return np.asarray(within & (signals.mean == _shifted(signals.mean)))


def is_zero(signals: Signals) -> Flags:
    """Hours in which nothing flowed for a time; of long ago, when only means are at hand, nothing at all."""
    lowest = np.where(np.isfinite(signals.low), signals.low, signals.mean)
    return np.asarray(lowest == 0)


def longest_run(flags: Flags) -> Floats:
    """The longest run of True in each column."""
    run, longest = np.zeros(flags.shape[1]), np.zeros(flags.shape[1])
    for row in flags:
        run = np.where(row, run + 1, 0.0)
        np.maximum(longest, run, out=longest)
    return longest


def _usual_gap(present: Flags) -> Floats:
    """The longest gap that was seen at least `USUAL_TIMES` times, between two presences."""
    usual = np.zeros(present.shape[1])
    for column in np.flatnonzero(~present.all(axis=0)):
        there = np.flatnonzero(present[:, column])
        gaps = np.sort(np.diff(there) - 1)
        if len(gaps) >= USUAL_TIMES:
            usual[column] = gaps[-USUAL_TIMES]
    return usual


def _usual_extreme(mean: Floats, *, lowest: bool) -> Floats:
    """The lowest (or highest) hourly mean of a day that at least `USUAL_DAYS` days reached, which lie `USUAL_SPAN` days
    apart or more; NaN where there are no such days."""
    days = len(mean) // 24
    signed = mean[: days * 24] if lowest else -mean[: days * 24]
    extremes = _quiet_of_days(np.nanmin, signed.reshape(days, 24, mean.shape[1]))
    usual = np.full(mean.shape[1], np.nan)
    order = np.argsort(extremes, axis=0, kind="stable")
    for column in range(mean.shape[1]):
        first = last = -1
        for count, day in enumerate(order[:, column], start=1):
            if np.isnan(extremes[day, column]):
                break
            first, last = (min(first, day), max(last, day)) if count > 1 else (day, day)
            if count >= USUAL_DAYS and last - first >= USUAL_SPAN:
                usual[column] = extremes[day, column]
                break
    return usual if lowest else -usual


def _quiet_of_days(statistic: Callable[..., Any], values: Floats) -> Floats:
    """A statistic per day and column of days × hours × columns; NaN without a warning where all is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(statistic(values, axis=1), dtype=np.float64)


def _unrest(deviation: Floats, mean: Floats) -> Floats:
    """How far all but 2 % of hours lie from what was expected, as a share of the mean."""
    far = quiet(np.nanquantile, np.abs(deviation), 0.98)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(far / np.abs(mean))


def _shifted(values: Floats) -> Floats:
    return np.concatenate([np.full((1, values.shape[1]), np.nan), values[:-1]])


def quiet(statistic: Callable[..., Any], values: Floats, *arguments: float) -> Floats:
    """A statistic per column; NaN without a warning where a column is empty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(statistic(values, *arguments, axis=0), dtype=np.float64)


def median(values: Floats) -> Floats:
    """The median of what is known in each column (rows × columns); NaN where nothing is."""
    if not len(values):
        return np.full(values.shape[1], np.nan)
    # What is missing is sorted behind the rest.
    ordered = np.sort(values, axis=0)
    count = np.isfinite(ordered).sum(axis=0)
    middle = np.stack([np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(ordered) - 1)])
    return np.where(count > 0, np.take_along_axis(ordered, middle, axis=0).mean(axis=0), np.nan)


def _by_cell(values: Floats, cells: Integers) -> Floats:
    """Medians by cell of the week; where a cell has seen fewer than three days, those of its hour on any day."""
    by_cell = np.full((values.shape[1], CELLS), np.nan)
    for hour in range(24):
        of_hour = cells % 24 == hour
        any_day = median(values[of_hour])
        for kind in range(CELLS // 24):
            of_cell = values[cells == kind * 24 + hour]
            enough = np.isfinite(of_cell).sum(axis=0) >= 3
            by_cell[:, kind * 24 + hour] = np.where(enough, median(of_cell), any_day)
    return by_cell


def spread_by_hour(deviation: Floats, hour: Integers) -> Floats:
    """Robust standard deviations (1.4826 × MAD) by local hour, each smoothed with its neighbours."""
    spread = np.full((deviation.shape[1], 24), np.nan)
    for h in range(24):
        of_hour = deviation[hour == h]
        spread[:, h] = 1.4826 * median(np.abs(of_hour - median(of_hour)))
    overall = median(spread.T)[:, None]
    spread = np.where(np.isfinite(spread), spread, overall)
    return np.asarray((np.roll(spread, 1, axis=1) + 2 * spread + np.roll(spread, -1, axis=1)) / 4)
