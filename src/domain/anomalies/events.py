"""Events: what detectors find, hour by hour, made into something with a begin, an end and a reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from src.domain.anomalies.signals import HOUR, Flags, Integers
from src.vocabulary import AnomalyType, DetectionMethod, Severity

INFO: Severity = "info"
WARNING: Severity = "warning"
CRITICAL: Severity = "critical"
SEVERITIES = INFO, WARNING, CRITICAL
# Events of one district that begin within this time of each other belong to one incident.
INCIDENT_HOURS = 6
# What comes back within so many hours, as at the same hour of the next day, is the same event; so is what begins within
# so many hours of the same hour of a day within the week after.
BACK_WITHIN = 26
SAME_HOUR, WEEK_HOURS = 2, 7 * 24


@dataclass(frozen=True)
class Finding:
    """An event as a detector sees it, in the measurement's unit; `end` is None while it lasts.

    `begin` is the best estimate of when it began, `detected` the end of the hour in which it was first certain.
    `measurement` is None where it concerns the whole node. `why` explains it to an operator.
    """

    node_id: str
    anomaly_type: AnomalyType
    measurement: str | None
    method: DetectionMethod
    begin: datetime
    detected: datetime
    end: datetime | None
    severity: Severity
    actual: float | None
    expected: float | None
    why: dict[str, Any] = field(default_factory=dict)
    # When it was there, where it came and went; a stored event has them in `why`.
    episodes: tuple[tuple[datetime, datetime | None], ...] = field(default=(), compare=False)

    @property
    def subject(self) -> tuple[str, str, str | None]:
        """Findings of one subject that overlap in time are the same trouble."""
        return self.node_id, self.anomaly_type, self.measurement

    @property
    def deviation_percentage(self) -> float | None:
        """100 × (actual − expected) / |expected|; None where there is nothing to compare."""
        if self.actual is None or not self.expected:
            return None
        return 100 * (self.actual - self.expected) / abs(self.expected)


@dataclass(frozen=True)
class Run:
    """Rows of one column that belong together: from the first flagged to the last, `certain` the row that settled it,
    `is_over` whether it has been normal for long enough since. `episodes` are the first and last rows of each time that
    it was there; without any, it was there all the while."""

    column: int
    first: int
    last: int
    certain: int
    is_over: bool
    episodes: tuple[tuple[int, int], ...] = ()

    @property
    def times(self) -> int:
        """How often it was there."""
        return max(len(self.episodes), 1)

    @property
    def lengths(self) -> list[int]:
        """How many rows each episode has."""
        return [last - first + 1 for first, last in self.episodes or ((self.first, self.last),)]


def runs(
    flags: Flags,
    is_normal: Flags,
    quiet_hours: int,
    least_hours: int = 1,
    back_within: int = 0,
    *,
    same_hour: bool = False,
) -> Iterator[Run]:
    """Runs of flagged rows, column by column.

    Args:
        flags: rows × columns.
        is_normal: rows × columns; what neither is flagged nor normal (nothing was measured) ends nothing.
        quiet_hours: as many normal rows end a run (hysteresis).
        least_hours: runs with fewer flagged rows are not worth reporting.
        back_within: what comes back after fewer normal rows than this is the same run.
        same_hour: so is what begins at about the same hour of a day within the week after; rows are hours then.
    """
    for column in np.flatnonzero(flags.any(axis=0)):
        flagged = np.flatnonzero(flags[:, column])
        normal = np.concatenate([[0], np.cumsum(is_normal[:, column] & ~flags[:, column])])
        quiet = normal[flagged[1:]] - normal[flagged[:-1] + 1]
        parts: list[list[Integers]] = []
        for episode in np.split(flagged, np.flatnonzero(quiet >= quiet_hours) + 1):
            if len(episode) < least_hours:
                continue
            before = parts[-1][-1] if parts else None
            is_back = before is not None and (
                normal[episode[0]] - normal[before[-1] + 1] < back_within
                or (same_hour and is_same_hour(int(before[0]), int(episode[0])))
            )
            if is_back:
                parts[-1].append(episode)
            else:
                parts.append([episode])
        for part in parts:
            last = int(part[-1][-1])
            since = int(normal[-1] - normal[last + 1])
            certain = int(part[0][least_hours - 1])
            episodes = tuple((int(episode[0]), int(episode[-1])) for episode in part)
            yield Run(int(column), int(part[0][0]), last, certain, since >= quiet_hours, episodes)


def spans(flags: Flags) -> list[tuple[int, int]]:
    """The first row of each run of True in one column, and the row after its last."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False)).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


def is_same_hour(earlier: int, later: int) -> bool:
    """Whether hours, by their rows, are at about the same hour of days that lie no more than a week apart."""
    apart = later - earlier
    return apart <= WEEK_HOURS + SAME_HOUR and min(apart % 24, -apart % 24) <= SAME_HOUR


def span_of(run: Run, hours: pd.DatetimeIndex) -> tuple[datetime, datetime, datetime | None]:
    """Begin, detection and end of a run as instants."""
    begin, last = hours[run.first].to_pydatetime(), hours[run.last].to_pydatetime()
    return begin, hours[run.certain].to_pydatetime() + HOUR, last + HOUR if run.is_over else None


def episodes_of(run: Run, hours: pd.DatetimeIndex) -> tuple[tuple[datetime, datetime | None], ...]:
    """Begin and end of each of a run's episodes as instants; the last one's end is None while it lasts."""
    edges = run.episodes or ((run.first, run.last),)
    ends = [hours[last].to_pydatetime() + HOUR for _, last in edges[:-1]] + [span_of(run, hours)[2]]
    return tuple((hours[first].to_pydatetime(), end) for (first, _), end in zip(edges, ends, strict=True))


def overlap(begin: datetime, end: datetime | None, other_begin: datetime, other_end: datetime | None) -> bool:
    """Whether two spans of time touch; None is an end that has not come."""
    return (end is None or other_begin <= end) and (other_end is None or begin <= other_end)


def with_episodes(finding: Finding, before: Finding | None = None) -> Finding:
    """A finding that came and went, with the times that it was there in `why`: those seen now, and of what was stored
    `before` those that lie before them."""
    episodes = [
        (max(begin, finding.begin), end) for begin, end in finding.episodes if end is None or end > finding.begin
    ]
    if before is not None and episodes:
        episodes = [(begin, end) for begin, end in episodes_in(before) if end and end < episodes[0][0]] + episodes
    if len(episodes) < 2:
        return finding
    listed = [[begin.isoformat(), None if end is None else end.isoformat()] for begin, end in episodes]
    return replace(finding, why=finding.why | {"episodes": listed, "times": len(listed)})


def episodes_in(finding: Finding) -> list[tuple[datetime, datetime | None]]:
    """When a stored event was there: from its begin to its end, but for the times at which it had gone."""
    listed = finding.why.get("episodes")
    if listed is None:
        return [(finding.begin, finding.end)]
    return [
        (datetime.fromisoformat(begin), finding.end if end is None else datetime.fromisoformat(end))
        for begin, end in listed
    ]
