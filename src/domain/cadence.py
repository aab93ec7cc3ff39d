"""How often a sensor reports, found from its own readings: the yardstick for completeness.

Lost readings lengthen intervals to multiples of the true one, but the true one stays the most frequent however many
are lost at random: hence the mode, not the mean or the median.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# A day with fewer intervals of its own than this borrows those of the day before.
ENOUGH_INTERVALS = 6
# Intervals within 5 % of each other count as the same: clocks jitter.
_BIN = np.log(1.05)


def cadence_by_day(day: Integers, seconds: Floats) -> tuple[Integers, Floats]:
    """The most frequent interval between readings, per node and local day.

    Args:
        day: for each reading the number of its node-day, non-decreasing; days that follow each other on one node have
            consecutive numbers, and nodes are at least two apart.
        seconds: the interval to the node's previous reading; NaN where there is none, or where it began before the
            preceding local day (so that the answer depends on two days of readings, however many were read).

    Returns:
        The distinct node-days, and the cadence of each in seconds: NaN where two days hold fewer than two intervals.
        Of equally frequent intervals the shorter counts.
    """
    days = np.unique(day)
    overnight = np.concatenate([[True], day[1:] != day[:-1]])
    own = np.isfinite(seconds) & (seconds > 0) & ~overnight
    crossing = np.isfinite(seconds) & (seconds > 0) & overnight

    own_days, own_mode, own_count = _modes(day[own], seconds[own])
    count = np.zeros(len(days), dtype=np.int64)
    cadence = np.full(len(days), np.nan)
    at = np.searchsorted(days, own_days)
    count[at], cadence[at] = own_count, own_mode

    sparse = np.flatnonzero(count < ENOUGH_INTERVALS)
    if len(sparse):
        cadence[sparse] = np.nan
        sparse_days = days[sparse]
        borrowed_day = np.concatenate([day[own], day[crossing], day[own] + 1])
        borrowed = np.concatenate([seconds[own], seconds[crossing], seconds[own]])
        relevant = np.isin(borrowed_day, sparse_days)
        two_days, mode, intervals = _modes(borrowed_day[relevant], borrowed[relevant])
        known = intervals >= 2
        cadence[np.searchsorted(days, two_days[known])] = mode[known]
    return days, cadence


def _modes(group: Integers, seconds: Floats) -> tuple[Integers, Floats, Integers]:
    """Per group, in ascending order: the group, the median of its fullest bin of intervals, and its interval count."""
    if not len(group):
        return np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64)
    bins = np.rint(np.log(seconds) / _BIN).astype(np.int64)
    order = np.lexsort((seconds, bins, group))
    group, bins, seconds = group[order], bins[order], seconds[order]
    starts = np.flatnonzero(np.concatenate([[True], (group[1:] != group[:-1]) | (bins[1:] != bins[:-1])]))
    sizes = np.diff(np.append(starts, len(group)))
    middle = starts + (sizes - 1) // 2
    # Fullest bin first, the shorter interval first among equals.
    best = np.lexsort((bins[starts], -sizes, group[starts]))
    groups = group[starts][best]
    first = np.concatenate([[True], groups[1:] != groups[:-1]])
    group_starts = np.flatnonzero(np.concatenate([[True], group[1:] != group[:-1]]))
    return groups[first], seconds[middle][best][first], np.diff(np.append(group_starts, len(group)))
