"""Events as rows of `anomalies`, and back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, case, select
from sqlalchemy.dialects.postgresql import insert

from src.db.tables import anomalies
from src.domain.anomalies.detection import Stored
from src.domain.anomalies.events import Finding


def stored_events(connection: Connection, since: datetime, until: datetime) -> list[Stored]:
    """Events that were open at `since` or began later."""
    rows = connection.execute(
        select(anomalies).where(anomalies.c.timestamp < until, (anomalies.c.end.is_(None)) | (anomalies.c.end >= since))
    )
    return [
        Stored(
            row.anomaly_id,
            Finding(
                row.node_id,
                row.anomaly_type,
                row.measurement_type,
                row.detection_method,
                row.timestamp,
                row.detected_at,
                row.end,
                row.severity,
                row.actual_value,
                row.expected_value,
                dict(row.metadata),
            ),
            row.resolved_at,
            row.resolved_by,
            row.incident_id or row.anomaly_id,
            row.district_id,
        )
        for row in rows
    ]


def write_events(connection: Connection, events: list[Stored]) -> None:
    """Writes events that are new or say something else than before, and leaves what people have said about them."""
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
    for first in range(0, len(rows), 500):
        connection.execute(
            statement.on_conflict_do_update(index_elements=["anomaly_id"], set_=changed).values(
                rows[first : first + 500]
            )
        )


def plain(value: Any) -> Any:
    """JSON's own kinds of value: null where nothing is known."""
    if isinstance(value, Mapping):
        return {name: plain(own) for name, own in value.items()}
    if isinstance(value, list):
        return [plain(own) for own in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value
