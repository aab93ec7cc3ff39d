"""Alerts: what is wrong now, compared with what somebody was notified of already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

PENDING, FIRING, RESOLVED = "pending", "firing", "resolved"


@dataclass(frozen=True)
class Condition:
    """Something that a rule finds wrong: `subject` distinguishes it from others of the rule."""

    rule: str
    subject: str
    severity: str
    summary: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """An alert that is pending or firing; `notified_at` when somebody was last notified of it."""

    alert_id: UUID
    rule: str
    subject: str
    state: str
    severity: str
    since: datetime
    notified_at: datetime | None


@dataclass(frozen=True)
class Decision:
    """What becomes of an alert: its new state, and whether to notify somebody.

    `alert` is None where the condition is new, `condition` where it no longer holds.
    """

    alert: Standing | None
    condition: Condition | None
    state: str
    notify: bool


def decide(
    conditions: Iterable[Condition],
    standing: Sequence[Standing],
    now: datetime,
    hold: Mapping[str, timedelta],
    again_after: timedelta,
) -> list[Decision]:
    """One decision per condition and per standing alert.

    A condition fires when it has held for as long as its rule demands. Somebody is notified of it once, again every
    `again_after` while it lasts or when it gets worse, and when it is over. Nobody is notified of one that goes away
    before it fired: it is resolved and forgotten.

    Args:
        hold: rule -> how long its conditions must hold; at once where it is missing.
    """
    left = {(alert.rule, alert.subject): alert for alert in standing}
    decisions: list[Decision] = []
    for condition in conditions:
        alert = left.pop((condition.rule, condition.subject), None)
        since = alert.since if alert else now
        if alert is None or alert.state == PENDING:
            fires = now - since >= hold.get(condition.rule, timedelta(0))
            decisions.append(Decision(alert, condition, FIRING if fires else PENDING, fires))
        else:
            is_worse = _RANK[condition.severity] > _RANK[alert.severity]
            is_due = alert.notified_at is None or now - alert.notified_at >= again_after
            decisions.append(Decision(alert, condition, FIRING, is_worse or is_due))
    decisions += [Decision(alert, None, RESOLVED, alert.state == FIRING) for alert in left.values()]
    return decisions


_RANK = {"info": 0, "warning": 1, "critical": 2}
