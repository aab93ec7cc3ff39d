"""Events as they are stored: how findings become them, and what they leave of history to learn from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np
import pandas as pd

from src.domain.anomalies import leaks, limits
from src.domain.anomalies.events import Finding, episodes_in, overlap
from src.domain.anomalies.habits import USUAL_TIMES
from src.domain.anomalies.leaks import Leak
from src.domain.anomalies.signals import HOUR, Flags, Signals
from src.domain.anomalies.works import Calendar, explained, is_new_level, since

# An event keeps so much of its time out of what is learned as normal; then it is the new normal.
UNUSUAL_DAYS = timedelta(days=14)
# Events of one kind that begin so near to the same hour of the day are one thing that comes back, unless one went on
# for this long.
RECURS_WITHIN, GOES_ON = timedelta(hours=3), timedelta(days=3)


@dataclass(frozen=True)
class Stored:
    """An event as it is stored: `resolved_at` when it ended or was declared over, `resolved_by` by whom.

    `judged_until` where nobody has looked further yet: it was going on then, and whether it still does is not known.
    `is_shown_open` where people see it as open.
    """

    anomaly_id: UUID
    finding: Finding
    resolved_at: datetime | None
    resolved_by: str | None
    incident_id: UUID
    district_id: str | None
    judged_until: datetime | None = None
    is_shown_open: bool = False


def explained_event(event: Stored, works: Calendar, until: datetime) -> Stored:
    """The event with the work that explains it, if one does; with what another explained of it taken back.

    Args:
        until: what is open went on until then.
    """
    plain = explained(event.finding, None)
    finding = explained(plain, works.explanation_of(plain, until))
    if finding == event.finding:
        return event
    if event.resolved_by is not None:
        # Somebody has declared it over; works do not change when its trouble ended.
        return replace(event, finding=replace(finding, end=event.finding.end))
    if finding.end == event.finding.end:
        return replace(event, finding=finding)
    return replace(event, finding=finding, resolved_at=finding.end, judged_until=None)


@dataclass(frozen=True)
class Changes:
    """What becomes of the stored events: new ones, those that go on or end, and those nothing supports any more."""

    new: list[Finding]
    changed: list[tuple[Stored, Finding]]
    withdrawn: list[Stored]


def reconcile(
    stored: Sequence[Stored], findings: Sequence[Finding], judged_from: datetime, judged_nodes: set[str]
) -> Changes:
    """Matches findings with stored events of the same subject that overlap in time.

    A stored event that went on or lies in the judged hours and that no finding supports was withdrawn by later
    readings, as when those missing in a silence arrive, also after it has ended; unless its node sent nothing at all
    that could be judged, or hours before these are still to be judged. Leaks are never withdrawn: where the flow is
    normal, they are over.

    Args:
        stored: events that were open at `judged_from` or began since.
        judged_nodes: the nodes that were judged.
    """
    left = list(stored)
    new: list[Finding] = []
    changed: list[tuple[Stored, Finding]] = []
    for finding in sorted(findings, key=lambda f: (f.begin, f.detected)):
        # Of several that it may be, the last is the one that goes on; those before it stay as they are. Of leaks, it is
        # the one that began nearest to it.
        same = sorted((e for e in left if _same(e.finding, finding)), key=lambda event: event.finding.begin)
        match = same[-1] if same else None
        if _is_leak(finding):
            match = min(same, key=lambda event: abs(event.finding.begin - finding.begin), default=None)
        if match is None:
            # What was over before is known already, or was found not to be worth it.
            if finding.end is None or finding.end > judged_from:
                new.append(finding)
        else:
            if match.resolved_at is not None and finding.end is not None and finding.end <= judged_from:
                # It was over before, and is left as it was seen then.
                continue
            left.remove(match)
            earlier = [event for event in same[:-1] if not _is_leak(finding)]
            if earlier:
                left = [event for event in left if event not in earlier]
                finding = replace(finding, begin=max(finding.begin, match.finding.begin))
            changed.append((match, finding))
            if again := _since_resolved(match, finding):
                new.append(again)
    withdrawn = [
        event
        for event in left
        if event.finding.node_id in judged_nodes
        and (event.resolved_at is None or _is_within(event, judged_from))
        and not _is_leak(event.finding)
        and not (event.judged_until is not None and event.judged_until < judged_from)
    ]
    return Changes(new, changed, withdrawn)


def _since_resolved(event: Stored, finding: Finding) -> Finding | None:
    """What came back after somebody had declared an event over: a new one."""
    resolved_at = event.resolved_at
    if event.resolved_by is None or resolved_at is None:
        return None
    back = next((n for n, (begin, _) in enumerate(finding.episodes) if n and begin >= resolved_at), None)
    return None if back is None else since(finding, back)


def _is_within(event: Stored, judged_from: datetime) -> bool:
    """Whether an event that is over began and ended in hours that were judged again, and nobody has dealt with it."""
    finding = event.finding
    return event.resolved_by is None and finding.begin >= judged_from and finding.end not in (None, finding.begin)


def _is_leak(finding: Finding) -> bool:
    return finding.anomaly_type in leaks.LEAKS


def _same(stored: Finding, found: Finding) -> bool:
    if stored.subject != found.subject or _direction(stored) != _direction(found):
        return False
    if _is_leak(found):
        # Leaks may lie on top of each other: the step distinguishes them.
        return abs(stored.begin - found.begin) <= 12 * HOUR
    return overlap(stored.begin, stored.end, found.begin, found.end)


def _direction(finding: Finding) -> bool | None:
    """Whether hours off their pattern lie above it: those above and those below are two events. None of any other."""
    if finding.method != "pattern" or finding.actual is None or finding.expected is None:
        return None
    return finding.actual > finding.expected


def known_leaks(stored: Iterable[Stored], at: datetime) -> list[Leak]:
    """The leaks that were found before `at`, as they are stored."""
    return [
        Leak(
            event.finding.node_id,
            event.finding.anomaly_type,
            event.finding.measurement or "flow_rate",
            event.finding.begin,
            event.finding.detected,
            float(event.finding.why["level_before"]),
            float(event.finding.why["size"]),
            event.finding.end,
            datetime.fromisoformat(settled) if (settled := event.finding.why.get("settled")) else None,
            event.resolved_by is not None,
            event.finding.why.get("kinds"),
        )
        for event in stored
        if _is_leak(event.finding) and event.finding.detected <= at
    ]


def usable_hours(signals: Signals, stored: Iterable[Stored]) -> Flags:
    """Hours of each signal that may become a habit: those no event lies over, nor did in its first two weeks.

    Events that were resolved by hand are normal. So is a level that a work explains, from its first
    hour on, and what recurs (see `recurring`), whatever it was called at first; events that
    do not concern the water keep no hours out.
    """
    usable = np.ones(signals.mean.shape, dtype=bool)
    if signals.hours.empty:
        return usable
    events = [
        event
        for event in stored
        if event.finding.anomaly_type != limits.UNFIT and event.resolved_by is None and not is_new_level(event.finding)
    ]
    usual = recurring(events, signals.hours[0].to_pydatetime(), signals.hours[-1].to_pydatetime() + HOUR)
    for event in events:
        finding = event.finding
        if event.anomaly_id in usual:
            continue
        concerned = signals.listed["node_id"] == finding.node_id
        if finding.measurement is not None:
            concerned &= signals.listed["measurement"] == finding.measurement
        usual_from = finding.begin + UNUSUAL_DAYS
        for begin, end in episodes_in(finding):
            edges = (begin, min(end or usual_from, usual_from))
            first, last = (int(signals.hours.searchsorted(pd.Timestamp(edge))) for edge in edges)
            usable[first:last, np.flatnonzero(concerned)] = False
    return usable


def recurring(events: Iterable[Stored], start: datetime, end: datetime) -> set[UUID]:
    """The events of things that came back at their hour at least `USUAL_TIMES` times between two instants: within
    `RECURS_WITHIN` of the same hour of the week, or of the same hour of the day in the week before or after. What lasts
    for days does not come back, it goes on."""
    by_subject: dict[tuple[str, str, str | None], list[Stored]] = defaultdict(list)
    for event in events:
        finding = event.finding
        if start <= finding.begin < end and (_times(finding) > 1 or _lasted(finding, end) <= GOES_ON):
            # The same use may be reported as a burst or as an unusual flow.
            kind = "use" if finding.anomaly_type in (*leaks.LEAKS, "unusual_flow") else finding.anomaly_type
            by_subject[finding.node_id, kind, finding.measurement].append(event)
    return {
        event.anomaly_id
        for alike in by_subject.values()
        for event in alike
        if sum(_times(o.finding) for o in alike if _comes_back(o.finding, event.finding)) >= USUAL_TIMES
    }


def _comes_back(one: Finding, other: Finding) -> bool:
    day, week = timedelta(days=1), timedelta(days=7)
    apart = abs(one.begin - other.begin)
    near_by = day if apart <= week + RECURS_WITHIN else week
    return min(apart % near_by, near_by - apart % near_by) <= RECURS_WITHIN


def _times(finding: Finding) -> int:
    return int(finding.why.get("times", 1))


def _lasted(finding: Finding, until: datetime) -> timedelta:
    return (finding.end or until) - finding.begin
