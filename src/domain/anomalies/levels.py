"""Leaks beside works: a step that a change of meter or network explains is a new level, and the next is measured from
it.

The step is taken out of the series that leaks are looked for in, by what the signal was before and after; whatever
habits have learned of it since concerns both sides alike, so that a burst the day after is seen as it always would be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pandas as pd

from src.domain.anomalies import leaks
from src.domain.anomalies.events import Finding
from src.domain.anomalies.leak_events import LeakContext, event_of
from src.domain.anomalies.leaks import Leak
from src.domain.anomalies.signals import Floats, Signals
from src.domain.anomalies.works import Calendar

# A level is the mean of so many hours: the days before a step, and the whole day after it.
HOURS_BEFORE, HOURS_AFTER = 72, 24


@dataclass(frozen=True)
class Level:
    """Since when a signal has another level."""

    node_id: str
    measurement: str
    begin: datetime


def leaks_beside_works(
    seen: LeakContext, judged_from: datetime, known: Sequence[Leak], calendar: Calendar
) -> tuple[list[Finding], list[Level]]:
    """As of `leaks.leaks`, as events, with the works that may explain a step; and the new levels, known and found now.

    Args:
        calendar: a step that one of its works explains as a new level is reported once and moves the level after it.
    """
    levels = [
        Level(leak.node_id, leak.measurement, leak.begin) for leak in known if calendar.moves_level(leak) is not None
    ]
    others = [leak for leak in known if calendar.moves_level(leak) is None]
    changes: list[Finding] = []
    while True:
        moved = replace(seen, deviation=from_new_levels(seen.deviation, seen.signals, levels))
        found = [
            event_of(leak, column, others, moved)
            for column, leak in leaks.leaks(
                moved.signals, moved.cells, moved.habits, moved.deviation, moved.reference, judged_from, others
            )
        ]
        new = [finding for finding in found if calendar.moves_level(finding) is not None]
        # What is left of a step that was taken out is no second one.
        fresh = [finding for finding in new if not any(_is_same(finding, level, calendar) for level in levels)]
        if not fresh:
            return [*changes, *(finding for finding in found if finding not in new)], levels
        first: dict[tuple[str, str], Finding] = {}
        for finding in sorted(fresh, key=lambda finding: finding.begin):
            first.setdefault((finding.node_id, finding.measurement or "flow_rate"), finding)
        changes += first.values()
        levels += [Level(*signal, finding.begin) for signal, finding in first.items()]


def from_new_levels(deviation: Floats, signals: Signals, levels: Sequence[Level]) -> Floats:
    """What habits do not explain (hours × signals, L/s), with each signal's steps to a new level taken out."""
    if not levels:
        return deviation
    moved = deviation.copy()
    listed = signals.listed
    for level in sorted(levels, key=lambda level: level.begin):
        row = int(signals.hours.searchsorted(pd.Timestamp(level.begin)))
        is_it = (listed["node_id"] == level.node_id) & (listed["measurement"] == level.measurement)
        for column in np.flatnonzero(is_it):
            before = moved[max(row - HOURS_BEFORE, 0) : row, column]
            after = moved[row : row + HOURS_AFTER, column]
            if np.isfinite(before).any() and np.isfinite(after).any():
                moved[row:, column] -= np.nanmean(after) - np.nanmean(before)
    return moved


def _is_same(finding: Finding, level: Level, calendar: Calendar) -> bool:
    """Whether both are of one signal and explained by the same work."""
    if (finding.node_id, finding.measurement) != (level.node_id, level.measurement):
        return False
    work = calendar.moves_level(finding)
    before = Leak(level.node_id, finding.anomaly_type, level.measurement, level.begin, level.begin, 0.0, 0.0)
    return work is not None and calendar.explanation_of(before) == work
