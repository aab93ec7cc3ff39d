"""The life of a node: out of service by hand, or once it has been silent for long, until readings come again.

A node is silent from the end of the last hour with a reading on, be it an impossible one. When it is out of service
follows from its readings alone, so that the same hours are always judged alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from src.domain.anomalies.events import Finding
from src.domain.anomalies.signals import INFLOW, LOSS
from src.vocabulary import OutOfServiceReason

BY_HAND: OutOfServiceReason = "by hand"
SILENT: OutOfServiceReason = "silent"
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class OutOfService:
    """A time in which nothing is concluded of a node; `end` is None where it has not come back."""

    begin: datetime
    end: datetime | None
    reason: OutOfServiceReason

    def holds(self, instant: datetime) -> bool:
        """Whether the node is out of service at an instant."""
        return self.begin <= instant and (self.end is None or instant < self.end)

    def sentence(self) -> str:
        """Why an event is over, for an operator."""
        return f"out of service since {self.begin:%Y-%m-%d %H:%M} UTC ({self.reason})"


# By node, in order; a node that has always been in service is not in it.
Lives = Mapping[str, Sequence[OutOfService]]


def silent_times(
    silences: Iterable[tuple[datetime, datetime | None]], until: datetime, after: timedelta
) -> Iterator[OutOfService]:
    """When a node was out of service for its silence.

    Args:
        silences: the begin of the last hour in which it sent a reading before each of its silences, and of the next one
            in which it did (None: in none yet), in order; of a node that never sent any there is none.
        until: the end of the hours that are known.
        after: the silence that ends its service; none where it is zero.
    """
    for hour, following in silences if after else ():
        begin = hour + _HOUR + after
        if begin <= (until if following is None else following):
            yield OutOfService(begin, following, SILENT)


def in_service(findings: Sequence[Finding], lives: Lives) -> list[Finding]:
    """The findings of nodes in service: none that begins or is found while its node is not; those that go on then end
    when it leaves. What is found of a district lives under one of its nodes, and concerns no life of that one's."""
    found: list[Finding] = []
    for finding in findings:
        times = times_of(finding, lives)
        if any(time.holds(finding.begin) or time.holds(finding.detected - _HOUR) for time in times):
            continue
        leaves = leaves_service(finding, times)
        if leaves is not None and (finding.end is None or finding.end > leaves.begin):
            finding = replace(finding, end=leaves.begin, why=finding.why | {"closed_because": leaves.sentence()})
        found.append(finding)
    return found


def times_of(finding: Finding, lives: Lives) -> Sequence[OutOfService]:
    """When the node that a finding is about was out of service."""
    is_of_district = finding.measurement in (LOSS, INFLOW) or finding.method == "multivariate"
    return () if is_of_district else lives.get(finding.node_id, ())


def leaves_service(finding: Finding, times: Sequence[OutOfService]) -> OutOfService | None:
    """When its node first went out of service after a finding began, or was when it did."""
    after = (time for time in times if time.end is None or time.end > finding.begin)
    return next(after, None)
