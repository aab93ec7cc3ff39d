"""The watch over all signals, week by week: learn habits, judge the hours, store the events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from src.domain.anomalies.detection import Circumstances, detect, explanation_of, repeated_use
from src.domain.anomalies.events import INCIDENT_HOURS, SAME_HOUR, SEVERITIES, WEEK_HOURS, Finding, with_episodes
from src.domain.anomalies.habits import FULL_HISTORY, SHORT_HOURS, Habits
from src.domain.anomalies.leak_events import is_hardly_leak
from src.domain.anomalies.limits import UNFIT
from src.domain.anomalies.relatives import learn
from src.domain.anomalies.sensor_faults import EVERY_NODE
from src.domain.anomalies.shift import LEAD_HOURS
from src.domain.anomalies.signals import HOUR, Signals, cells_of
from src.domain.anomalies.stored import Stored, explained_event, known_leaks, reconcile, usable_hours
from src.domain.anomalies.together import TOGETHER
from src.domain.anomalies.works import Calendar, parted
from src.domain.days import day_start
from src.domain.service_life import Lives, leaves_service, times_of

HISTORY = FULL_HISTORY * HOUR
# What is over may come back within a week.
COMES_BACK = (WEEK_HOURS + SAME_HOUR + SHORT_HOURS) * HOUR
LEAD = LEAD_HOURS * HOUR
# Why an event is over although nothing was seen to end.
WITHDRAWN = "later readings show nothing of it"
UNWATCHED = "its district's detector is no longer active"
INACTIVE = "its node is no longer active"
FIT_NOW = "its limits fit what is usual here now"
AHEAD = "it lies in the future: a clock ran ahead"


@dataclass
class Watch:
    """Keeps the events of a span of time while it is judged from its first hour to its last.

    `stored` are the events that were open at its begin or began since; `touched` those that are new or have
    changed.
    """

    stored: list[Stored]
    district_of: dict[str, str | None]
    touched: set[UUID] = field(default_factory=set)

    def judge(
        self,
        signals: Signals,
        habits: Habits,
        circumstances: Circumstances,
        zone: ZoneInfo,
        country: str,
        span: tuple[datetime, datetime],
    ) -> dict[str, list[Finding]]:
        """Judges the hours of the span, which lie within one week of habits.

        Args:
            signals: all hours that are at hand; those from `LEAD` before the span's week on are its context, however
                late in the week it begins, so that the same hours are always judged alike.

        Returns:
            The alarms of each multivariate detector, by its model, in the week up to the span's end, active or not.
        """
        start, end = span
        monday = monday_of(start, zone)
        part = signals.between(monday - LEAD, end)
        cells = cells_of(part.hours, zone, country)
        # What no detector looks for any more, or not in this week, is left as it is.
        watched = {detector.district_id for detector in circumstances.detectors if detector.is_active}
        concerned = [
            event
            for event in self.stored
            if (event.finding.end is None or event.finding.end >= start - COMES_BACK)
            and (event.finding.anomaly_type != TOGETHER or event.district_id in watched)
        ]
        detected = detect(part, cells, habits, circumstances, start, known_leaks(self.stored, start))
        reporting = {*part.listed["node_id"], EVERY_NODE}
        works = circumstances.works
        findings = [part for finding in detected.findings for part in parted(finding, works, end)]
        changes = reconcile(concerned, findings, start, reporting)
        for finding in changes.new:
            self._add(finding, works, end)
        for event, finding in changes.changed:
            now = _followed(explained_event(event, Calendar(), end), finding, start)
            self._replace(event, explained_event(now, works, end))
        for event in changes.withdrawn:
            if event.finding.anomaly_type == UNFIT:
                self._close(event, max(start, event.finding.begin), end, FIT_NOW)
                continue
            better = explanation_of(event.finding, detected.findings)
            reason = f"it is the {better.anomaly_type.replace('_', ' ')} that is reported now" if better else WITHDRAWN
            why = event.finding.why | {"closed_because": reason}
            over = replace(event.finding, end=event.finding.begin, why=why)
            self._replace(event, replace(event, finding=over, resolved_at=end, judged_until=None))
        self._take_back_leaks(detected.findings, end)
        self._leave_service(circumstances.lives, end)
        return {
            model: [alarm for alarm in alarms if alarm.detected > monday] for model, alarms in detected.alarms.items()
        }

    def _take_back_leaks(self, findings: Sequence[Finding], now: datetime) -> None:
        """Closes leaks that turned out to be a use that comes back."""
        for event in list(self.stored):
            use = repeated_use(event.finding, findings) if event.resolved_by is None else None
            if use is not None and event.finding.end != event.finding.begin:
                reason = f"it is the {use.anomaly_type.replace('_', ' ')} that comes back and is shown now"
                self._close(event, event.finding.begin, now, reason)

    def explain(self, works: Calendar, until: datetime) -> None:
        """Attaches to every event the work that explains it, and takes away what is stated no more."""
        for event in list(self.stored):
            self._replace(event, explained_event(event, works, until))

    def _leave_service(self, lives: Lives, until: datetime) -> None:
        """Ends the events of nodes that were out of service by then, when they left."""
        for event in list(self.stored):
            finding, times = event.finding, times_of(event.finding, lives)
            leaves = leaves_service(finding, times) if event.resolved_by is None else None
            if leaves is None or leaves.begin > until or (finding.end is not None and finding.end <= leaves.begin):
                continue
            end = max(leaves.begin, finding.begin)
            if finding.end != end:
                self._close(event, end, end, leaves.sentence())

    def close_unwatched(self, watched: set[str], now: datetime) -> None:
        """Ends open events that nobody looks after: of nodes that are no longer active, and of multivariate detectors
        in districts that no active one watches any more; and those that begin after the last hour judged."""
        for event in list(self.stored):
            finding = event.finding
            if finding.end is not None or event.resolved_at is not None:
                continue
            if finding.begin >= now:
                self._close(event, finding.begin, now, AHEAD)
            elif finding.node_id != EVERY_NODE and finding.node_id not in self.district_of:
                self._close(event, now, now, INACTIVE)
            elif finding.anomaly_type == TOGETHER and event.district_id not in watched:
                self._close(event, now, now, UNWATCHED)

    def _close(self, event: Stored, end: datetime, now: datetime, reason: str) -> None:
        finding = replace(event.finding, end=end, why=event.finding.why | {"closed_because": reason})
        self._replace(event, replace(event, finding=finding, resolved_at=now, judged_until=None))

    def _add(self, finding: Finding, works: Calendar, until: datetime) -> None:
        district = self.district_of.get(finding.node_id)
        anomaly_id = uuid4()
        incident = self._incident(district, finding.begin) or anomaly_id
        event = Stored(anomaly_id, with_episodes(finding), finding.end, None, incident, district)
        self.stored.append(explained_event(event, works, until))
        self.touched.add(anomaly_id)

    def _incident(self, district: str | None, begin: datetime) -> UUID | None:
        """The incident of the district's event that began nearest to this, if near enough."""
        if district is None:
            return None
        near = [
            (abs(event.finding.begin - begin), event.incident_id)
            for event in self.stored
            if event.district_id == district and abs(event.finding.begin - begin) <= INCIDENT_HOURS * HOUR
        ]
        return min(near)[1] if near else None

    def _replace(self, event: Stored, now: Stored) -> None:
        if now != event:
            self.stored[self.stored.index(event)] = now
            self.touched.add(event.anomaly_id)


def _followed(event: Stored, finding: Finding, judged_from: datetime) -> Stored:
    """The event as the finding describes it. It began when it began, unless hours that are judged now show that it was
    there before; and it is as severe as it has been, unless it turns out to be hardly a leak."""
    before = event.finding
    begin = min(before.begin, max(finding.begin, judged_from))
    detected = min(before.detected, max(finding.detected, begin))
    severity = max(before.severity, finding.severity, key=SEVERITIES.index)
    if is_hardly_leak(finding.why.get("kinds")):
        severity = finding.severity
    now = with_episodes(replace(finding, begin=begin, detected=detected, severity=severity), before)
    if event.resolved_by is not None:
        # Somebody has declared it over; its end still follows the trouble, so that it is not reported again.
        return replace(event, finding=replace(before, end=finding.end), judged_until=None)
    return replace(event, finding=now, resolved_at=finding.end, judged_until=None)


def monday_of(instant: datetime, zone: ZoneInfo) -> datetime:
    """When the local week of an instant begins."""
    return day_start(instant, zone, -instant.astimezone(zone).weekday())


def weeks(start: datetime, end: datetime, zone: ZoneInfo) -> Iterator[tuple[datetime, datetime, datetime]]:
    """The local weeks that [start, end) touches: when each begins, and the part of the span within it."""
    while start < end:
        monday = monday_of(start, zone)
        following = day_start(monday + timedelta(hours=12), zone, 7)
        yield monday, start, min(following, end)
        start = min(following, end)


def habits_of_week(signals: Signals, monday: datetime, stored: list[Stored], zone: ZoneInfo, country: str) -> Habits:
    """Habits learned from the eight weeks before a week, without the hours that events lie over."""
    history = signals.between(monday - HISTORY, monday)
    return learn(history, cells_of(history.hours, zone, country), usable_hours(history, stored))
