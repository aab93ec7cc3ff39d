"""Learning how a district's signals move together, and from which distance on that is news: from weeks held out.

A covariance fits the hours it was taken from better than any others, and so do habits: of 60 signals, hours to come are
a fifth further out than those learned from. So the limit is not taken from these, but from cross-validation by blocks
(Roberts et al., "Cross-validation strategies for data with temporal, spatial, hierarchical, or phylogenetic structure",
Ecography, 2017): each week is judged by what the other weeks teach.
"""

from __future__ import annotations

import numpy as np

from src.domain.anomalies.multivariate import (
    BUDGET,
    DAY,
    DAYS_PER_MONTH,
    LEAST_HOURS,
    QUIET_HOURS,
    SMOOTHING,
    Relations,
    completed,
    is_silent,
    smoothed_of,
)
from src.domain.anomalies.profile import median
from src.domain.anomalies.signals import CELLS, Flags, Floats, Integers

WEEK = 7 * DAY
# Hours of history, and the share of them in which a signal must have been measured to be one of those judged; the share
# of the signals that makes an hour one to learn from; and the share of a day's hours that makes it one to count.
ENOUGH_HOURS, ENOUGH_MEASURED = 28 * DAY, 0.7
# Of fewer signals there are no relations.
FEWEST_SIGNALS = 2
# Days whose farthest hours are known, at least, to know how far they reach.
ENOUGH_DAYS = 14
# As many days make a cell of the week have an expected value of its own, see `profile`.
_ENOUGH_FOR_CELL = 3


def relations(keys: list[str], deviations: Floats, is_usable: Flags, cells: Integers) -> Relations | None:
    """Learns how signals move together; None where fewer than two were measured for long enough.

    Args:
        keys: names of the signals.
        deviations: hours × signals, what habits that were learned from these same hours do not explain, in spreads.
        is_usable: hours × signals; hours over which an event lies teach nothing.
        cells: by hour, the cell of the week (see `signals.cells_of`) by which the habits distinguish hours.

    Returns:
        Relations whose limit hours to come exceed by the alarm rule `BUDGET` times a month.
    """
    clean = np.where(is_usable, deviations, np.nan)
    # What was before the first reading is no hole.
    measured = np.isfinite(deviations).any(axis=1)
    first = int(measured.argmax()) if measured.any() else len(clean)
    clean, cells = clean[first:], cells[first:]
    whole = np.isfinite(clean)
    chosen = np.flatnonzero(whole.mean(axis=0) >= ENOUGH_MEASURED) if len(clean) else np.empty(0, dtype=np.int64)
    if len(chosen) < FEWEST_SIGNALS or len(clean) < ENOUGH_HOURS:
        return None
    # An hour in which much was set aside shows the holes, not the signals; the averages' first hours do not either.
    teaches = whole[:, chosen].mean(axis=1) >= ENOUGH_MEASURED
    teaches[:DAY] = False
    if teaches.sum() < ENOUGH_HOURS // 2:
        return None
    clean = clean[:, chosen]
    outside = held_out(clean, teaches, cells)
    farthest = farthest_of_days(outside, teaches)
    if len(farthest) < ENOUGH_DAYS:
        return None
    smoothed = smoothed_of(clean)
    center, precision = _fitted(smoothed[teaches])
    inside = _distance(smoothed - center, is_silent(clean), precision)[teaches]
    usual_inside, usual_outside = float(np.median(inside)), float(np.nanmedian(outside[teaches]))
    # What never moves has no relations.
    if not usual_inside > 0:
        return None
    nearer = of_all_weeks(usual_inside, usual_outside, len(_weeks(len(clean))))
    return Relations([keys[n] for n in chosen], center, precision, nearer * limit_of(farthest))


def held_out(clean: Floats, teaches: Flags, cells: Integers) -> Floats:
    """T² of each hour by what the other weeks teach: relations, and what is expected in its cell of the week.

    A week's averages hang on to the day before it, and the day after it to them: neither day teaches its relations.

    Args:
        clean: hours × signals, deviations in spreads from habits that were learned from the same hours; NaN where there
            is nothing to learn.
        teaches: by hour, whether relations can be learned from it.
        cells: the cell of the week of each hour.

    Returns:
        By hour, T²; NaN before the first whole week (weeks are counted back from the end).
    """
    distance = np.full(len(clean), np.nan)
    silent = is_silent(clean)
    hour = np.arange(len(clean))
    for first in _weeks(len(clean)):
        outside = (hour < first) | (hour >= first + WEEK)
        far = (hour < first - DAY) | (hour >= first + WEEK + DAY)
        # Deviations from medians less the other weeks' median of them: deviations from the other weeks' median.
        smoothed = smoothed_of(clean - medians_by_cell(clean[outside], cells[outside])[cells])
        center, precision = _fitted(smoothed[teaches & far])
        week = slice(first, first + WEEK)
        distance[week] = _distance(smoothed[week] - center, silent[week], precision)
    return distance


def of_all_weeks(inside: float, outside: float, weeks: int) -> float:
    """How much nearer hours to come are than hours held out, of which one week less was known.

    What is learned is wrong by a share c / weeks of T², which hours learned from fall short by and hours to come exceed
    by (as in the corrected cross-validation of Burman, "A comparative study of ordinary cross-validation, v-fold
    cross-validation and the repeated learning-testing methods", Biometrika, 1989).

    Args:
        inside: usual T² of the hours learned from, by all weeks.
        outside: usual T² of the hours held out, by all weeks but their own.
        weeks: how many there are, two at least.

    Returns:
        A factor, 1 at most.
    """
    ratio = max(outside / inside, 1.0)
    share = (ratio - 1) / (1 / (weeks - 1) + ratio / weeks)
    return (1 + share / weeks) / (1 + share / (weeks - 1))


def medians_by_cell(values: Floats, cells: Integers) -> Floats:
    """Medians of hours × signals by cell of the week (cells × signals); 0 where fewer than three hours are known."""
    medians = np.zeros((CELLS, values.shape[1]))
    for cell in np.unique(cells):
        of_cell = values[cells == cell]
        medians[cell] = np.where(np.isfinite(of_cell).sum(axis=0) >= _ENOUGH_FOR_CELL, median(of_cell), 0.0)
    return medians


def alarm_level(distance: Floats) -> Floats:
    """By hour the highest limit by which an alarm would be certain in it.

    That takes `LEAST_HOURS` hours beyond the limit with fewer than `QUIET_HOURS` calm ones between two that follow each
    other, as `events.runs` has it.

    Args:
        distance: T² of the hours in which enough was measured; the others are left out.
    """
    level = distance
    for _ in range(LEAST_HOURS - 1):
        begun = np.concatenate([np.full(QUIET_HOURS, -np.inf), level])
        before = np.lib.stride_tricks.sliding_window_view(begun, QUIET_HOURS)[: len(level)].max(axis=1)
        level = np.minimum(distance, before)
    return level


def farthest_of_days(distance: Floats, known: Flags) -> Floats:
    """The highest `alarm_level` of each day, counted back from the end, most of whose hours are known.

    Args:
        distance: T² by hour; NaN where there is none.
        known: by hour, whether enough was measured to judge it.
    """
    used = np.flatnonzero(known & np.isfinite(distance))
    day = (len(distance) - 1 - used) // DAY
    farthest = np.full(len(distance) // DAY + 1, -np.inf)
    np.maximum.at(farthest, day, alarm_level(distance[used]))
    hours = np.bincount(day, minlength=len(farthest))
    return np.asarray(farthest[hours >= ENOUGH_MEASURED * DAY])


def limit_of(farthest: Floats) -> float:
    """What the largest of a day exceeds `BUDGET` times a month.

    They follow Gumbel's law (block maxima of what has an exponential tail, as T² has; Coles, "An Introduction to
    Statistical Modeling of Extreme Values", 2001): weeks are too few to reach as far as the budget asks.
    """
    # Only here, where relations are learned: it takes a second to import, which every command would wait for.
    from scipy import stats

    place, scale = stats.gumbel_r.fit(farthest)
    return float(stats.gumbel_r.isf(BUDGET / DAYS_PER_MONTH, place, scale))


def _weeks(length: int) -> range:
    """The first hour of each whole week, counted back from the end."""
    return range(length % WEEK, length, WEEK)


def _distance(off: Floats, silent: Flags, precision: Floats) -> Floats:
    """T² by hour of deviations from the center, hours × signals."""
    off = completed(off, silent, precision)
    return np.asarray((off @ precision * off).sum(axis=1))


def _fitted(smoothed: Floats) -> tuple[Floats, Floats]:
    """Center and inverse covariance of smoothed deviations, hours × signals."""
    center = np.median(smoothed, axis=0)
    return center, np.asarray(np.linalg.inv(_shrunk(smoothed - center)), dtype=np.float64)


def _shrunk(off: Floats) -> Floats:
    """The covariance, drawn towards its diagonal as far as its noise asks (Ledoit and Wolf, "A well-conditioned
    estimator for large-dimensional covariance matrices", Journal of Multivariate Analysis, 2004)."""
    # Only here, as above.
    from sklearn.covariance import empirical_covariance, ledoit_wolf_shrinkage, shrunk_covariance

    scale = np.sqrt((off**2).mean(axis=0) + 1e-6)
    standard = off / scale
    # Hours that follow each other are alike: there are fewer of them than it seems.
    shrinkage = ledoit_wolf_shrinkage(standard[:: round(1 / SMOOTHING)], assume_centered=True)
    correlation = shrunk_covariance(empirical_covariance(standard, assume_centered=True), shrinkage)
    return np.asarray(correlation * np.outer(scale, scale) + 1e-6 * np.eye(len(scale)))
