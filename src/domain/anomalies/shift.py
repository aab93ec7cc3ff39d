"""Evidence that the level of a signal has moved: matched filters on what its habits do not foresee.

For a step that began k hours ago the surprises of the autoregressive model since then follow a known signature; its
correlation with them, in units of its own standard deviation, is the likelihood ratio statistic of Willsky and Jones
(1976, "A generalized likelihood ratio approach to the detection and estimation of jumps in linear systems"). Short
ages see large bursts at once, long ages see small ones and slow growth. The level before the step is the recent
average, so that a lasting change of habit is reported once and then becomes the level that the next is measured from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from src.domain.anomalies.habits import CLIP, ORDER, Habits, surprises_of
from src.domain.anomalies.signals import Floats, Integers

# Hours since the step that is looked for.
AGES = (3, 6, 12, 24, 48, 72, 168, 336)
# The level before a step: an average whose weights halve every five days.
LEVEL_HALF_LIFE = 5 * 24
# Hours that must precede the first one judged.
LEAD_HOURS = 26 * 24 + ORDER
# A surprise beyond so many spreads says no more than this: what is to be found at once must be let speak up.
_CLIP, _CLIP_AT_ONCE, _AT_ONCE = 2.0, 5.0, 3
# The share of hours of each kind of day; the variance of a median, over that of a mean; how much kinds of day may
# differ of which fewer than so many days are known, as a share of the mean.
_KIND_SHARE = (5 / 7, 1 / 7, 1 / 7)
_OF_MEDIAN, _FEW_DAYS, _KINDS_DIFFER = np.pi / 2, 3, 0.1
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
    """The variance of each signal's average over many hours, times their number (squared units): what one hour says of
    a lasting level. Hours that follow each other are alike, so that it is more than that of an hour by itself."""
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
        weights: likewise, how much each hour says of the level (at most 1). None: all say as much.
    """
    return _levels(deviation, weights)[0]


def _levels(deviation: Floats, weights: Floats | None = None) -> tuple[Floats, Floats]:
    """The average before each hour, as of `level_of`, and the sum of its squared weights: what its variance is of a
    single hour's."""
    keep = 0.5 ** (1 / LEVEL_HALF_LIFE)
    level, weight, squared = (np.zeros(deviation.shape[1]) for _ in range(3))
    levels, variances = np.empty_like(deviation), np.empty_like(deviation)
    known = np.isfinite(deviation)
    counted = known * (1.0 if weights is None else weights)
    values, keeps = np.where(known, deviation, 0.0) * counted, np.where(known, keep, 1.0)
    for row in range(len(deviation)):
        # Two days' worth of "as expected" stand for what is not known yet.
        levels[row] = level / (weight + 48)
        variances[row] = squared / (weight + 48) ** 2
        level = level * keeps[row] + values[row]
        weight = weight * keeps[row] + counted[row]
        squared = squared * keeps[row] ** 2 + counted[row] ** 2
    return levels, variances


def shifts(deviation: Floats, cells: Integers, habits: Habits, first: int = 0) -> Shifts:
    """Evidence for steps of each age at the end of each hour.

    Args:
        deviation: hours × signals, what habits do not explain, in the signals' units (NaN where missing).
        cells: the cell of the week of each hour.
        first: the first row that is judged; the rows before it are context.

    Returns:
        -inf and NaN where too little is there to tell, and in rows of context.
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
    kind = cells // 24 == np.arange(len(_KIND_SHARE))[:, None]
    days = np.maximum(habits.history / 24 * np.array(_KIND_SHARE)[:, None], 1.0)
    # Cumulative sums serve every age beyond the memory of the model.
    sums = [
        np.concatenate([np.zeros((1, count)), np.cumsum(values, axis=0)])
        for values in (steady * surprise, steady**2 * present, steady**2 * present)
    ]
    owns, lasted = (
        np.stack([np.concatenate([np.zeros((1, count)), np.cumsum(values * k[:, None], axis=0)]) for k in kind])
        for values in (steady**2 * present, present)
    )
    added, counted = (
        np.concatenate([np.zeros((1, count)), np.cumsum(values, axis=0)])
        for values in (np.nan_to_num(deviation), np.isfinite(deviation).astype(np.float64))
    )
    for n, age in enumerate(AGES):
        ends = np.arange(max(first, age), len(deviation))
        onsets = ends - age
        product, own, against = (np.zeros((len(onsets), count)) for _ in range(3))
        whole = np.zeros((len(onsets), count))
        own_of = np.zeros((len(_KIND_SHARE), len(onsets), count))
        heard = loud if age <= _AT_ONCE else surprise
        for lag in range(min(age + 1, ORDER)):
            at = onsets + lag
            signature = opening[hour[onsets], lag]
            product += signature * heard[at]
            own += signature**2 * present[at]
            against += signature * steady[at] * present[at]
            own_of += np.where(kind[:, at, None], signature**2 * present[at], 0.0)
            whole += signature**2
        if age + 1 > ORDER:
            for total, values in zip((product, own, against), sums, strict=True):
                total += values[ends + 1] - values[onsets + ORDER]
            own_of += owns[:, ends + 1] - owns[:, onsets + ORDER]
            whole += (age + 1 - ORDER) * (lasting**2).mean(axis=0)
        # What is expected of a kind of day is a median of as many days; it is wrong alike on each day of the kind.
        repeated = np.maximum((lasted[:, ends + 1] - lasted[:, onsets]) / 24, 1.0)
        unsure = own_of * (1 + _OF_MEDIAN * repeated) / days[:, None]
        unsure += np.where(days < _FEW_DAYS, _KINDS_DIFFER * np.abs(habits.mean), 0.0)[:, None] ** 2 * own_of**2
        variance = own + against**2 * level_variance[onsets] + unsure.sum(axis=0)
        product -= level[onsets] * against
        enough = own > np.maximum(_PRESENT * whole, 1e-12)
        evidence[n, ends] = np.where(enough, product / np.sqrt(np.where(enough, variance, 1.0)), -np.inf)
        # Evidence is clipped, so that a few wild hours prove nothing; the size is not.
        measured = counted[ends + 1] - counted[onsets]
        average = (added[ends + 1] - added[onsets]) / np.maximum(measured, 1)
        size[n, ends] = np.where(enough & (measured > 0), average - level[onsets], np.nan)
    return Shifts(evidence, size, level)
