"""What a lasting rise of flow most likely is: a leak, growing demand, a meter that counts more, or water that another
district gave up.

A leak adds the same flow by night and by day; more customers, or a meter that counts more than it did, add the same
share of what is usual. Each explanation has a shape over the hours since the rise began, and the likelihood of each is
that of a matched filter on what the habits do not foresee (Kay, "Fundamentals of Statistical Signal Processing",
volume II, 1998, chapter 4).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from src.domain.anomalies.habits import CLIP, Habits, surprises_of
from src.domain.anomalies.shift import level_of, variance_of_hours
from src.domain.anomalies.signals import LOSS, Floats, Integers
from src.vocabulary import LeakKind

# What a rise is taken for before anything is known of its shape. A share that came at once is a meter's as likely as
# customers'.
_PRIOR = {"leak": 0.5, "demand": 0.5}
# Squared evidence of real series is so many times as large as the model lets expect.
_INFLATED = 2.0
# Another district gave up the water if its flow fell by so many standard deviations, and the two together moved by no
# more than so many, nor than this share of the rise. One rise in ten is taken for moved water before anything is known.
_FELL, _TOGETHER, _LEFT, _MOVES = 4.0, 3.0, 0.35, 0.1


def kinds_of(
    above: Floats, usual: Floats, cells: Integers, habits: Habits, column: int
) -> dict[LeakKind, float] | None:
    """The probability of each kind of rise from the hours since it began; None while the shape does not show it.

    Args:
        above: flow above the level before the rise, by hour since it began (L/s; NaN where unknown).
        usual: what is expected of the district's inflow in these hours, over its mean.
        cells: the cell of the week of each hour.
        habits: of all signals; `column` is the place of the one that rose.
    """
    spread = habits.spread[column, cells % 24]
    memory, surprise = habits.memory[[column]], habits.surprise[column]

    def surprises(values: Floats) -> Floats:
        return np.asarray(surprises_of((values / spread)[:, None], memory)[:, 0] / surprise)

    seen = surprises(np.clip(above, None, np.nanmedian(above) + CLIP * spread) if np.isfinite(above).any() else above)
    known = np.isfinite(seen) & np.isfinite(usual)
    if known.sum() < 3:
        return None
    growth = np.arange(1, len(above) + 1) / len(above)
    shapes = {
        ("leak", "step"): np.ones(len(above)),
        ("leak", "growth"): growth,
        ("demand", "step"): usual,
        ("demand", "growth"): usual * growth,
    }
    likelihood: dict[tuple[str, str], float] = {}
    for name, shape in shapes.items():
        signature = surprises(np.nan_to_num(shape))[known]
        power = float(signature @ signature)
        matched = float(signature @ seen[known]) / np.sqrt(power) if power > 0 else 0.0
        likelihood[name] = max(matched, 0.0) ** 2 / 2 / _INFLATED
    best = max(likelihood.values())
    weights = {name: _PRIOR[name[0]] / 2 * float(np.exp(value - best)) for name, value in likelihood.items()}
    total = sum(weights.values())
    at_once = weights["demand", "step"] / total / 2
    return {
        "leak": (weights["leak", "step"] + weights["leak", "growth"]) / total,
        "demand_growth": weights["demand", "growth"] / total + at_once,
        "meter": at_once,
    }


def given_up_by(
    size: float, rows: slice, deviation: Floats, candidates: Integers, habits: Habits, column: int
) -> tuple[int, float] | None:
    """The signal, if any, whose flow fell as another's rose, as where a boundary valve was turned or pumping moved; and
    how sure that is: the likelihood of the fall against that of none, beside how rarely it happens and how many
    candidates may have fallen by chance.

    Args:
        size: the rise (L/s) of the signal in `column` over `rows`.
        deviation: hours × signals, what habits do not explain (L/s).
        candidates: inflows of other districts; of a loss, the district's customers' meters.
    """
    columns = candidates[habits.is_known[candidates]]
    if not len(columns):
        return None
    hours = np.isfinite(deviation[rows, columns]).sum(axis=0)
    columns, hours = columns[hours > 0], hours[hours > 0]
    if not len(columns):
        return None
    noise = variance_of_hours(habits.of(np.append(columns, column)))
    level = level_of(deviation[: rows.start + 1, columns])[-1]
    fell = pd.DataFrame(deviation[rows, columns]).mean().to_numpy() - level
    deviations = fell / np.sqrt(noise[:-1] / hours)
    # What had fallen before the rise did not give this up.
    day_before = pd.DataFrame(deviation[max(rows.start - 24, 0) : rows.start, columns]).mean().to_numpy() - level
    both = np.abs(size + fell)
    is_same = (both < _LEFT * size) & (both < _TOGETHER * np.sqrt((noise[:-1] + noise[-1]) / hours))
    matching = np.flatnonzero(is_same & (deviations < -_FELL) & ~(day_before < -_LEFT * size))
    if not len(matching):
        return None
    nearest = matching[np.argmin(both[matching])]
    logarithm = float(deviations[nearest]) ** 2 / 2 / _INFLATED + np.log(_MOVES / (1 - _MOVES) / len(columns))
    return int(columns[nearest]), float(1 / (1 + np.exp(-logarithm)))


def most_likely(kinds: Mapping[LeakKind, float] | None) -> LeakKind | None:
    """The kind that is more likely than all others together; None where there is none."""
    return next((kind for kind, probability in (kinds or {}).items() if probability > 0.5), None)


def explained_kind(kind: LeakKind, measurement: str) -> str:
    """A kind in words."""
    return {
        "leak": "as much by night as by day, as a leak",
        "demand_growth": "in proportion to usual use, as growing demand",
        "meter": (
            "as a meter that counts otherwise than it did"
            if measurement == LOSS
            else "in proportion to usual use at once, as a meter that counts more"
        ),
        "moved": "as much less comes in elsewhere: a boundary valve, or pumping that moved",
    }[kind]
