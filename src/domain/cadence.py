"""How a sensor reports, found from its own readings: the yardstick for completeness and for how long a value holds.

Lost readings lengthen intervals to multiples of the true one, but the true one stays the most frequent however many
are lost at random: hence the mode, not the mean or the median.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

# A day with fewer intervals of its own than this borrows those of the day before.
ENOUGH_INTERVALS = 6
# Intervals within 5 % of each other count as the same: clocks jitter.
_BIN = np.log(1.05)
# A sensor fewer of whose intervals are the usual one reports when something changes, or loses most of its readings.
_REGULAR_SHARE = 0.7
# A value holds for this many cadences, and never longer than this; of an irregular sensor as long as its longest
# interval of two days and of the night after, or, where that is more than twice the next and may be an outage, as the
# second longest.
GAP_CADENCES = 3
GAP_SECONDS = 23 * 3600
_LEEWAY = 1.1


@dataclass(frozen=True)
class Pace:
    """How sensors report, one entry per reading or node-day: cadence (s; NaN: unknown), how long a value holds (s), and
    whether they report irregularly, so that means must go by time."""

    cadence: Floats
    limit: Floats
    is_irregular: Booleans

    def at(self, index: Integers) -> Pace:
        return Pace(self.cadence[index], self.limit[index], self.is_irregular[index])


def pace_by_day(day: Integers, seconds: Floats) -> tuple[Integers, Pace]:
    """How each node reports on each local day, from its readings of that day, the one before and, for how long a value
    of an irregular sensor holds, the first of the day after.

    Args:
        day, seconds: as of `cadence_by_day`.

    Returns:
        The distinct node-days, and the pace of each.
    """
    days, cadence, count, share = _cadence_by_day(day, seconds)
    limit = np.minimum(GAP_CADENCES * cadence, GAP_SECONDS)
    irregular = np.zeros(len(days), dtype=bool)
    doubtful = days[(count < ENOUGH_INTERVALS) | (share < _REGULAR_SHARE)]
    if len(doubtful):
        known = np.isfinite(seconds) & (seconds > 0)
        group = np.concatenate([day[known], day[known] + 1])
        interval = np.concatenate([seconds[known], seconds[known]])
        relevant = np.isin(group, doubtful)
        group, interval = group[relevant], interval[relevant]
        groups, _, counts, shares = _modes(group, interval)
        # The interval that begins on a day holds on it, too.
        overnight = known & np.concatenate([[True], day[1:] != day[:-1]]) & np.isin(day - 1, doubtful)
        group, interval = np.concatenate([group, day[overnight] - 1]), np.concatenate([interval, seconds[overnight]])
        order = np.lexsort((interval, group))
        group, interval = group[order], interval[order]
        ends = np.searchsorted(group, groups, side="right")
        at = np.searchsorted(days, groups)
        irregular[at] = (counts >= ENOUGH_INTERVALS) & (shares < _REGULAR_SHARE)
        longest, second = interval[ends - 1], interval[np.maximum(ends - 2, 0)]
        usual = np.where(longest <= 2 * second, longest, second)
        longer = np.minimum(np.fmax(limit[at], _LEEWAY * usual), GAP_SECONDS)
        limit[at] = np.where(irregular[at], longer, limit[at])
    return days, Pace(cadence, limit, irregular)


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
    days, cadence, _, _ = _cadence_by_day(day, seconds)
    return days, cadence


def _cadence_by_day(day: Integers, seconds: Floats) -> tuple[Integers, Floats, Integers, Floats]:
    """As `cadence_by_day`, with the number of intervals within each node-day and the share of the most frequent."""
    overnight = np.concatenate([[True], day[1:] != day[:-1]])[: len(day)]
    days = day[overnight]
    within = np.isfinite(seconds) & (seconds > 0) & ~overnight
    crossing = np.isfinite(seconds) & (seconds > 0) & overnight

    measured_days, modes, counts, shares = _modes(day[within], seconds[within])
    count = np.zeros(len(days), dtype=np.int64)
    cadence, share = np.full(len(days), np.nan), np.zeros(len(days))
    at = np.searchsorted(days, measured_days)
    count[at], cadence[at], share[at] = counts, modes, shares

    sparse = np.flatnonzero(count < ENOUGH_INTERVALS)
    if len(sparse):
        cadence[sparse] = np.nan
        sparse_days = days[sparse]
        borrowed_day = np.concatenate([day[within], day[crossing], day[within] + 1])
        borrowed = np.concatenate([seconds[within], seconds[crossing], seconds[within]])
        relevant = np.isin(borrowed_day, sparse_days)
        two_days, mode, intervals, _ = _modes(borrowed_day[relevant], borrowed[relevant])
        known = intervals >= 2
        cadence[np.searchsorted(days, two_days[known])] = mode[known]
    return days, cadence, count, share


def _modes(group: Integers, seconds: Floats) -> tuple[Integers, Floats, Integers, Floats]:
    """Per group, in ascending order: the group, the median of its fullest bin of intervals, how many intervals it has,
    and the share of them that lies in that bin."""
    if not len(group):
        return np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64), np.empty(0)
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
    counts = np.diff(np.append(group_starts, len(group)))
    return groups[first], seconds[middle][best][first], counts, sizes[best][first] / counts
