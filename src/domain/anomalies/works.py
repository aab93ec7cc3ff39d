"""The calendar of works: what a utility does on its network, and which findings it explains.

What a work explains is attached to it and not raised: the event stays on record, as information.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from src.domain.anomalies.events import INFO, Finding
from src.domain.anomalies.signals import HOUR, INFLOW, LOSS
from src.vocabulary import AnomalyType, WorkKind

# A finding begins so long before a work at the earliest, and so long after its end at the latest: crews are early, and
# mains need hours to settle. Of an exchange often no more than the day is known.
BEFORE, AFTER = timedelta(hours=2), timedelta(hours=6)
AROUND_INSTANT: Mapping[WorkKind, timedelta] = {
    "meter_exchange": timedelta(hours=24),
    "network_change": timedelta(hours=6),
}
# What works and closures leave behind is theirs to explain for so long after their end.
OUTLASTS = timedelta(hours=24)
# After these the level that was found is the level to expect.
LEVEL_CHANGES: tuple[WorkKind, ...] = ("meter_exchange", "network_change")
LEAKS: tuple[AnomalyType, ...] = ("burst", "slow_leak")
_UNUSUAL: tuple[AnomalyType, ...] = ("unusual_flow", "unusual_pressure", "unusual_temperature", "unusual_together")
_PRESSURES: tuple[AnomalyType, ...] = ("low_pressure", "high_pressure")
# Events that do not concern a moment: limits that do not fit, and a collector that is away.
_NEVER: tuple[AnomalyType, ...] = ("unfit_limits", "collection_outage")
# A cut takes water and pressure away, and may silence what it leaves without either, but it lets no water out; a change
# moves levels for good, but breaks no sensor. Crews at work may do anything but make a sensor report what cannot be, or
# move its clock; whoever exchanges a meter may do that as well.
_ONLY: Mapping[WorkKind, frozenset[AnomalyType]] = {
    "closure": frozenset(
        {"low_pressure", "unusual_pressure", "low_flow", "unusual_flow", "flat_line", "silent", "jump"}
    ),
    "network_change": frozenset({*LEAKS, *_UNUSUAL, *_PRESSURES, "jump"}),
}
_ALL_BUT: Mapping[WorkKind, frozenset[AnomalyType]] = {
    "works": frozenset({*_NEVER, "out_of_range", "clock_jump"}),
    "meter_exchange": frozenset(_NEVER),
}
_FLOWS = ("flow_rate", LOSS, INFLOW)
# Why a leak is over that was none.
LEVEL_CHANGED = "a work explains the new level, which is expected from now on"
_EXPLAINED_BY = "; explained by "


@dataclass(frozen=True)
class Work:
    """What is planned or done at a node, in a district, or both; `end` is None where it is an instant.

    Attributes:
        end: exclusive; of `works` and `closure` always known.
    """

    work_id: UUID
    kind: WorkKind
    node_id: str | None
    district_id: str | None
    begin: datetime
    end: datetime | None = None
    note: str | None = None


class Trouble(Protocol):
    """What a work may explain: a finding, or a leak that is known."""

    @property
    def node_id(self) -> str: ...
    @property
    def anomaly_type(self) -> AnomalyType: ...
    @property
    def measurement(self) -> str | None: ...
    @property
    def begin(self) -> datetime: ...
    @property
    def end(self) -> datetime | None: ...


@dataclass(frozen=True)
class Calendar:
    """The works that may explain something, and where they act.

    Attributes:
        district_of: the district of each node that findings may be of; None where it is in none.
        balances_of: of each node that a work names and that is a meter, the districts in whose balance it counts.
    """

    works: Sequence[Work] = ()
    district_of: Mapping[str, str | None] = field(default_factory=dict)
    balances_of: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def explanation_of(self, trouble: Trouble, until: datetime | None = None) -> Work | None:
        """The work that explains a finding: of several, the one that began nearest to it.

        Args:
            until: what has no end went on until then. None: it is not known how long.
        """
        lasted = trouble.end or until
        candidates = [work for work in self.works if self._explains(work, trouble) and not _is_outlasted(work, lasted)]
        return min(candidates, key=lambda work: (abs(work.begin - trouble.begin), work.work_id), default=None)

    def moves_level(self, trouble: Trouble) -> Work | None:
        """The work after which what looks like a leak is the level to expect."""
        if not self.works or trouble.anomaly_type not in LEAKS:
            return None
        work = self.explanation_of(trouble)
        return work if work is not None and work.kind in LEVEL_CHANGES else None

    def _explains(self, work: Work, trouble: Trouble) -> bool:
        return (
            _may_explain(work.kind, trouble.anomaly_type)
            and _is_near(work, trouble.begin)
            and self._is_there(work, trouble)
        )

    def _is_there(self, work: Work, trouble: Trouble) -> bool:
        if work.node_id == trouble.node_id:
            return True
        district = self.district_of.get(trouble.node_id)
        if district is None:
            return False
        if trouble.measurement in (LOSS, INFLOW) and district in self.balances_of.get(work.node_id or "", ()):
            return True
        if work.district_id != district:
            return False
        if work.kind != "meter_exchange":
            return True
        # Of a district whose meters were exchanged, flows are others; of one meter's district no more than its balance.
        of_flow = (LOSS, INFLOW) if work.node_id is not None else _FLOWS
        return trouble.measurement in of_flow


def _may_explain(kind: WorkKind, anomaly_type: AnomalyType) -> bool:
    only = _ONLY.get(kind)
    return anomaly_type in only if only is not None else anomaly_type not in _ALL_BUT[kind]


def _is_near(work: Work, begin: datetime) -> bool:
    if work.end is None:
        around = AROUND_INSTANT.get(work.kind, AFTER)
        return work.begin - around <= begin <= work.begin + around
    return work.begin - BEFORE <= begin <= work.end + AFTER


def _is_outlasted(work: Work, lasted: datetime | None) -> bool:
    """Whether trouble has gone on too long after a work to be its doing, as where a valve was left shut."""
    if work.end is None or work.kind in LEVEL_CHANGES or lasted is None:
        return False
    return lasted > work.end + OUTLASTS


def explained(finding: Finding, work: Work | None) -> Finding:
    """The finding with the work that explains it attached; without one as it was before any was.

    Explained it is no more than information, and `why["explained_by"]` names the work, and the severity it would have.
    A leak after which the level is another is over when it was found: the next is measured from the new level.
    """
    finding = _unexplained(finding)
    if work is None:
        return finding
    by = {"work_id": str(work.work_id), "kind": work.kind, "note": work.note, "severity": finding.severity}
    description = f"{work.kind.replace('_', ' ')} of {work.begin:%Y-%m-%d %H:%M} UTC" + (
        f": {work.note}" if work.note else ""
    )
    why = finding.why | {
        "explained_by": by,
        "explanation": f"{finding.why.get('explanation', '')}{_EXPLAINED_BY}{description}",
    }
    end = finding.end
    if finding.anomaly_type in LEAKS and work.kind in LEVEL_CHANGES and (end is None or end > finding.detected):
        why |= {"closed_because": LEVEL_CHANGED, "settled": finding.detected.isoformat()}
        end = finding.detected
    return replace(finding, severity=INFO, why=why, end=end)


def _unexplained(finding: Finding) -> Finding:
    by = finding.why.get("explained_by")
    if by is None:
        return finding
    why = {name: value for name, value in finding.why.items() if name != "explained_by"}
    why["explanation"] = why["explanation"].split(_EXPLAINED_BY, 1)[0]
    end = finding.end
    if why.get("closed_because") == LEVEL_CHANGED:
        # Its detector decides whether it goes on.
        end = None
        why = {name: value for name, value in why.items() if name != "closed_because"} | {"settled": None}
    return replace(finding, severity=by["severity"], why=why, end=end)


def parted(finding: Finding, works: Calendar, until: datetime) -> list[Finding]:
    """The finding, in parts where a work explains it, and not the same one that it came back."""
    times = finding.episodes
    by = [works.explanation_of(replace(finding, begin=begin, end=end), until) for begin, end in times]
    again = next((n for n, work in enumerate(by) if work != by[0]), 0)
    if not again or by[0] is None or (finding.end is not None and finding.end <= times[again][0]):
        return [finding]
    before = finding.why | {"times": again}
    first = replace(finding, end=times[again - 1][1], why=before, episodes=times[:again])
    return [first, *parted(since(finding, again), works, until)]


def since(finding: Finding, episode: int) -> Finding:
    """The finding without what was before one of its episodes."""
    begin, left = finding.episodes[episode][0], finding.episodes[episode:]
    detected = max(finding.detected, begin + HOUR)
    return replace(finding, begin=begin, detected=detected, why=finding.why | {"times": len(left)}, episodes=left)


def is_explained(finding: Finding) -> bool:
    """Whether a work explains it."""
    return "explained_by" in finding.why


def is_new_level(finding: Finding) -> bool:
    """Whether a work explains it after which things are, and stay, as they were found: its hours are the new normal."""
    return is_explained(finding) and finding.why["explained_by"]["kind"] in LEVEL_CHANGES
