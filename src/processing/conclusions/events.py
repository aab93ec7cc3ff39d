"""Events as rows of `anomalies`, and back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import ARRAY, Connection, Row, Text, bindparam, case, exists, func, select
from sqlalchemy.dialects.postgresql import insert

from src.db.tables import anomalies, nodes
from src.domain.anomalies.events import Finding
from src.domain.anomalies.stored import Stored

# In an event's metadata: the instant until which it was judged, where more hours were to follow. Until they do it has
# that end, so that nobody is alarmed about what may be long over.
_JUDGED_UNTIL = "judged_until"


def stored_events(
    connection: Connection,
    since: datetime,
    until: datetime | None,
    node_ids: Collection[str],
    *,
    with_others: bool = False,
) -> list[Stored]:
    """Events that were open at `since` or began later, and before `until` where that is given; one that was not judged
    to its end yet has none.

    Args:
        node_ids: whose events are wanted.
        with_others: those of the network as a whole, too, and of nodes that are no longer active.
    """
    columns = anomalies.c
    wanted = columns.node_id == func.any(bindparam("nodes", list(node_ids), ARRAY(Text)))
    if with_others:
        wanted |= ~exists().where(nodes.c.node_id == columns.node_id, nodes.c.is_active)
    query = select(anomalies).where(columns.end.is_(None) | (columns.end >= since), wanted)
    if until is not None:
        query = query.where(anomalies.c.timestamp < until)
    return [_stored(row) for row in connection.execute(query)]


def _stored(row: Row[Any]) -> Stored:
    why = dict(row.metadata)
    judged_until = why.pop(_JUDGED_UNTIL, None)
    finding = Finding(
        row.node_id,
        row.anomaly_type,
        row.measurement_type,
        row.detection_method,
        row.timestamp,
        row.detected_at,
        None if judged_until else row.end,
        row.severity,
        row.actual_value,
        row.expected_value,
        why,
    )
    return Stored(
        row.anomaly_id,
        finding,
        None if judged_until else row.resolved_at,
        row.resolved_by,
        row.incident_id or row.anomaly_id,
        row.district_id,
        datetime.fromisoformat(judged_until) if judged_until else None,
        is_shown_open=row.end is None and row.resolved_at is None,
    )


def as_written(event: Stored, judged_until: datetime | None) -> Stored:
    """An event as it is written where hours after `judged_until` are still to be judged: with that end, if it has
    none itself and nobody sees it as open by now. None: nothing is left to judge."""
    if judged_until is None or event.finding.end is not None or event.resolved_by is not None:
        return event
    why = event.finding.why | {_JUDGED_UNTIL: judged_until.isoformat()}
    if event.is_shown_open:
        return replace(event, finding=replace(event.finding, why=why), judged_until=judged_until)
    finding = replace(event.finding, end=judged_until, why=why)
    return replace(event, finding=finding, resolved_at=judged_until, judged_until=judged_until)


def write_events(connection: Connection, events: Sequence[Stored]) -> None:
    """Writes events that are new or have changed, and leaves what people have recorded about them."""
    if not events:
        return
    rows = [
        {
            "anomaly_id": event.anomaly_id,
            "timestamp": event.finding.begin,
            "end": event.finding.end,
            "node_id": event.finding.node_id,
            "anomaly_type": event.finding.anomaly_type,
            "severity": event.finding.severity,
            "measurement_type": event.finding.measurement,
            "actual_value": event.finding.actual,
            "expected_value": event.finding.expected,
            "deviation_percentage": event.finding.deviation_percentage,
            "detection_method": event.finding.method,
            "resolved_at": event.resolved_at,
            "resolved_by": event.resolved_by,
            "metadata": plain(event.finding.why),
            "detected_at": event.finding.detected,
            "district_id": event.district_id,
            "incident_id": event.incident_id,
        }
        for event in events
    ]
    statement = insert(anomalies)
    # Who acknowledged it, and what they noted, is theirs.
    theirs = ("anomaly_id", "resolved_at", "resolved_by")
    changed: dict[str, Any] = {name: statement.excluded[name] for name in rows[0] if name not in theirs}
    # Somebody may have resolved it while this was computed.
    changed["resolved_at"] = case(
        (anomalies.c.resolved_by.is_(None), statement.excluded.resolved_at), else_=anomalies.c.resolved_at
    )
    connection.execute(statement.on_conflict_do_update(index_elements=["anomaly_id"], set_=changed), rows)


def plain(value: Any) -> Any:
    """JSON's own kinds of value: null where nothing is known."""
    if isinstance(value, Mapping):
        return {name: plain(member) for name, member in value.items()}
    if isinstance(value, list):
        return [plain(member) for member in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value
