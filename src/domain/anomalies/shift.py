"""Evidence that the level of a signal has moved: matched filters on what its habits do not foresee.

For a step that began k hours ago the surprises of the autoregressive model since then follow a known signature; its
correlation with them, in units of its own standard deviation, is the likelihood ratio statistic of Willsky and Jones
(1976, "A generalized likelihood ratio approach to the detection and estimation of jumps in linear systems"). Short
ages see large bursts at once, long ages see small ones and slow growth. The level before the step is the recent
average, so that a lasting change of habit is reported once and then becomes the level that the next is measured from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from src.domain.anomalies.habits import CLIP, ORDER, Habits, surprises_of
from src.domain.anomalies.signals import Floats, Integers

# Hours since the step that is looked for.
AGES = (3, 6, 12, 24, 48, 72, 168, 336)
# The level before a step: an average whose weights halve every five days.
LEVEL_HALF_LIFE = 5 * 24
# Hours that must precede the first one judged.
LEAD_HOURS = 26 * 24 + ORDER
# A surprise beyond `_CLIP` spreads counts as `_CLIP`; for steps of at most `_AT_ONCE` hours, as `_CLIP_AT_ONCE`.
_CLIP, _CLIP_AT_ONCE, _AT_ONCE = 2.0, 5.0, 3
# The share of hours of each kind of day; the variance of a median, over that of a mean; how much kinds of day may
# differ of which fewer than so many days are known, as a share of the mean.
_KIND_SHARE = (5 / 7, 1 / 7, 1 / 7)
_OF_MEDIAN, _FEW_DAYS, _KINDS_DIFFER = np.pi / 2, 3, 0.1
# How many sums over the first hours of a step are of squares.
_SQUARED = 3
# A statistic needs this share of its hours to be there.
_PRESENT = 0.6


@dataclass(frozen=True)
class Shifts:
    """`evidence` in standard deviations and `size` of the step in units of the signal, by age × hours × signals;
    `level`, hours × signals, what a step that begins in an hour is measured from."""

    evidence: Floats
    size: Floats
    level: Floats


def variance_of_hours(habits: Habits) -> Floats:
    """The variance of each signal's average over many hours, times their number (squared units). Hours that follow each
    other are alike, so that it is more than that of an hour by itself."""
    return np.asarray(1 / (_in_the_long_run(habits) ** 2).mean(axis=0))


def _in_the_long_run(habits: Habits) -> Floats:
    """What a lasting step of one unit adds to the surprise of an hour: local hours × signals."""
    steps, lasting = 1 / habits.spread, np.empty((24, len(habits.history)))
    for h in range(24):
        before = steps[:, (h - np.arange(1, ORDER + 1)) % 24]
        lasting[h] = (steps[:, h] - (habits.memory * before).sum(axis=1)) / habits.surprise
    return lasting


def level_of(deviation: Floats, weights: Floats | None = None) -> Floats:
    """The average deviation before each hour, its weights halving every `LEVEL_HALF_LIFE`; zero before any value.

    Args:
        deviation: hours × signals.
        weights: likewise, the weight of each hour in the level (at most 1). None: all weigh the same.
    """
    return _levels(deviation, weights)[0]


def _levels(deviation: Floats, weights: Floats | None = None) -> tuple[Floats, Floats]:
    """The average before each hour, as of `level_of`, and, where all hours weigh the same, the sum of its squared
    weights: its variance as a share of a single hour's."""
    keep = 0.5 ** (1 / LEVEL_HALF_LIFE)
    known = np.isfinite(deviation)
    counted = _before(np.cumsum(known, axis=0))
    # The weights that an exponential average divides by; hours that are missing do not fade what was before.
    faded = (1 - keep**counted) / (1 - keep)
    heavy = deviation if weights is None else deviation * weights
    total = _before(_faded(heavy)) * faded
    weight = faded if weights is None else _before(_faded(np.where(known, weights, np.nan))) * faded
    # Two days' worth of "as expected" stand for what is not known yet.
    return total / (weight + 48), (1 - keep ** (2 * counted)) / (1 - keep**2) / (weight + 48) ** 2


def _faded(values: Floats) -> Floats:
    """Exponential averages down each column, of what is known; 0 before anything is."""
    averages = pd.DataFrame(values).ewm(halflife=LEVEL_HALF_LIFE, ignore_na=True).mean()
    return np.asarray(averages.fillna(0.0).to_numpy())


def _before(values: Floats) -> Floats:
    """What stood in the row before; 0 before the first."""
    return np.concatenate([np.zeros((1, values.shape[1])), values[:-1]])


def shifts(deviation: Floats, cells: Integers, habits: Habits, first: int = 0) -> Shifts:
    """Evidence for steps of each age at the end of each hour.

    Args:
        deviation: hours × signals, what habits do not explain, in the signals' units (NaN where missing).
        cells: the cell of the week of each hour.
        first: the first row that is judged; the rows before it are context.

    Returns:
        -inf and NaN where too little is there, and in rows of context.
    """
    hour = cells % 24
    count = deviation.shape[1]
    spread = habits.spread[:, hour].T
    scaled = np.clip(deviation / spread, -CLIP, CLIP)
    unit = 1 / habits.surprise
    raw = surprises_of(scaled, habits.memory) * unit
    present = np.isfinite(raw)
    loud, surprise = (np.clip(np.nan_to_num(raw), -clip, clip) for clip in (_CLIP_AT_ONCE, _CLIP))
    level, level_variance = _levels(np.clip(deviation, -CLIP * spread, CLIP * spread))

    # What a step of one unit does to the surprises: at first, by lag and hour of its onset, and in the long run.
    lasting = _in_the_long_run(habits)
    steps = 1 / habits.spread
    opening = np.empty((24, ORDER, count))
    for h in range(24):
        seen = steps[:, (h + np.arange(ORDER)) % 24]
        for lag in range(ORDER):
            past = seen[:, lag - 1 :: -1] if lag else seen[:, :0]
            opening[h, lag] = (seen[:, lag] - (habits.memory[:, :lag] * past[:, :lag]).sum(axis=1)) * unit
    evidence = np.full((len(AGES), *deviation.shape), -np.inf)
    size = np.full((len(AGES), *deviation.shape), np.nan)
    steady = lasting[hour]
    # How far the level before is off, as an average of so many hours.
    level_variance *= variance_of_hours(habits)
    kind = cells // 24
    # What is expected of a kind of day is a median of as many days; it is wrong alike on each day of the kind.
    days = np.maximum(habits.history / 24 * np.array(_KIND_SHARE)[:, None], 1.0)
    wrong_once = ((1 + _OF_MEDIAN) / days)[kind]
    is_new = np.where(days < _FEW_DAYS, 1.0, 0.0)
    new_kind, differs = is_new[kind], (_KINDS_DIFFER * habits.mean) ** 2
    # Cumulative sums serve every age beyond the memory of the model.
    sums = [_summed(values) for values in (steady * surprise, steady**2 * present, steady**2 * present)]
    information_by_kind, hours_by_kind = (
        np.stack([_summed(values * (kind == k)[:, None]) for k in range(len(_KIND_SHARE))])
        for values in (steady**2 * present, present)
    )
    added, counted = (_summed(values) for values in (np.nan_to_num(deviation), np.isfinite(deviation) * 1.0))
    openings = _openings(
        opening, hour, max(first - max(AGES), 0),
        [present, present * wrong_once, present * new_kind, present * steady, surprise, loud],
    )  # fmt: skip
    for n, age in enumerate(AGES):
        ends = np.arange(max(first, age), len(deviation))
        onsets = ends - age
        whole, information, unsure, of_new_kind, against, product, at_once = openings(age, onsets)
        product = at_once if age <= _AT_ONCE else product
        if age + 1 > ORDER:
            for total, values in zip((product, information, against), sums, strict=True):
                total += values[ends + 1] - values[onsets + ORDER]
            whole += (age + 1 - ORDER) * (lasting**2).mean(axis=0)
            since_onset = information_by_kind[:, ends + 1] - information_by_kind[:, onsets]
            repeated = np.maximum((hours_by_kind[:, ends + 1] - hours_by_kind[:, onsets]) / 24, 1.0)
            unsure = (since_onset * (1 + _OF_MEDIAN * repeated) / days[:, None]).sum(axis=0)
            of_new_kind = (since_onset * is_new[:, None]).sum(axis=0)
        variance = information + against**2 * level_variance[onsets] + unsure + differs * of_new_kind**2
        product -= level[onsets] * against
        enough = information > np.maximum(_PRESENT * whole, 1e-12)
        evidence[n, ends] = np.where(enough, product / np.sqrt(np.where(enough, variance, 1.0)), -np.inf)
        # Evidence is clipped, so that a few wild hours prove nothing; the size is not.
        measured = counted[ends + 1] - counted[onsets]
        average = (added[ends + 1] - added[onsets]) / np.maximum(measured, 1)
        size[n, ends] = np.where(enough & (measured > 0), average - level[onsets], np.nan)
    return Shifts(evidence, size, level)


def _openings(
    opening: Floats, hour: Integers, since: int, series: Sequence[Floats]
) -> Callable[[int, Integers], list[Floats]]:
    """Sums over the first hours of steps, for every row as the one in which a step begins.

    Args:
        opening: what a step adds to surprises, by hour of its onset, hours since and signal.
        since: the first row in which a step may begin.
        series: rows × signals each: the first `_SQUARED` are weighed by the square of that, the others by itself.

    Returns:
        Of an age and some onsets: the sum of the squares alone, and of each of the series.
    """
    onsets = np.arange(since, len(hour))
    count = opening.shape[2]
    ahead = [np.concatenate([values, np.zeros((ORDER, count))]) for values in series]
    sums = [np.zeros((len(onsets), count)) for _ in range(len(series) + 1)]
    by_age: dict[int, list[Floats]] = {}
    for lag in range(ORDER):
        signature = opening[hour[onsets], lag]
        power = signature**2
        sums[0] += power
        for n, values in enumerate(ahead):
            sums[n + 1] += (power if n < _SQUARED else signature) * values[onsets + lag]
        if lag in AGES:
            by_age[lag] = [values.copy() for values in sums]

    def of(age: int, rows: Integers) -> list[Floats]:
        return [values[rows - since] for values in by_age.get(age, sums)]

    return of


def _summed(values: Floats) -> Floats:
    """Sums of the rows before each, and of all."""
    return np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
