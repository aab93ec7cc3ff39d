"""The survey of the network, made at the end of a cycle: rows in, `domain.survey`, rows out.

It reads days, never hours or readings, and everything of all nodes at once: a network of thousands costs seconds. It
is made once an hour, or at once where what people state has changed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ARRAY, Connection, Text, any_, cast, not_, text

from src.db.tables import district_survey, node_survey
from src.db.upsert import write_changed
from src.domain.survey import DistrictSurvey, NodeSurvey, survey
from src.processing.conclusions.survey_evidence import districts_of, nodes_of, today_of
from src.processing.jobs.patience import patiently
from src.processing.jobs.runtime import Runtime

EVERY = timedelta(hours=1)
_PART = 1000
_IS_DUE = text(
    """
    SELECT coalesce(max(surveyed_at) NOT BETWEEN :since AND :as_of, true) OR EXISTS (
        SELECT FROM water_infrastructure.nodes FULL JOIN water_infrastructure.node_survey AS found USING (node_id)
        WHERE nodes.updated_at IS DISTINCT FROM found.described_at
    ) OR EXISTS (
        SELECT FROM water_infrastructure.districts LEFT JOIN water_infrastructure.district_survey AS found
            USING (district_id)
        WHERE districts.updated_at IS DISTINCT FROM found.described_at
    )
    FROM water_infrastructure.node_survey
    """
)


def write_survey(runtime: Runtime, as_of: datetime) -> int | None:
    """Surveys the network as it is at `as_of`, if that is due; how many nodes, or None where it was not."""

    def written() -> int | None:
        with runtime.database.begin() as connection:
            if not connection.scalar(_IS_DUE, {"since": as_of - EVERY + timedelta(seconds=1), "as_of": as_of}):
                return None
            return _write(connection, runtime, as_of)

    return patiently(runtime, written, "survey")


def _write(connection: Connection, runtime: Runtime, as_of: datetime) -> int:
    today = today_of(connection, as_of, runtime.zone)
    kept_days = runtime.settings.retention_metrics_days
    nodes, described = nodes_of(connection, today, runtime.conventions, kept_days)
    districts, districts_described = districts_of(connection, today)
    of_nodes, of_districts = survey(nodes, districts, today)
    node_rows = [_node_row(found, as_of, described[found.node.node_id]) for found in of_nodes]
    district_rows = [_district_row(found, as_of, districts_described[found.district_id]) for found in of_districts]
    for table, key, listed in ((node_survey, "node_id", node_rows), (district_survey, "district_id", district_rows)):
        names = [row[key] for row in listed]
        is_there = table.c[key] == any_(cast(names, ARRAY(Text)))
        connection.execute(table.delete().where(not_(is_there)))
        for first in range(0, len(listed), _PART):
            write_changed(connection, table, listed[first : first + _PART])
    return len(node_rows)


def _node_row(found: NodeSurvey, as_of: datetime, described_at: datetime) -> dict[str, Any]:
    node, place = found.node, found.district_believed
    return {
        "node_id": node.node_id,
        "surveyed_at": as_of,
        "described_at": described_at,
        "district_believed": None if place is None else {"value": place.value, "why": "; ".join(place.why)},
        "role_believed": found.role_believed,
        "why": list(found.why),
        "channels": [
            {"measurement": one.measurement, "taken_for": one.taken_for, "unit": one.unit, "why": list(one.why)}
            for one in found.channels
        ],
        "first_reading": node.first_reading,
        "last_reading": node.last_reading,
        "cadence_seconds": node.cadence_seconds,
        "days": node.days,
        "lacking": {name: list(sentences) for name, sentences in found.lacking.items()},
    }


def _district_row(found: DistrictSurvey, as_of: datetime, described_at: datetime | None) -> dict[str, Any]:
    return {
        "district_id": found.district_id,
        "surveyed_at": as_of,
        "described_at": described_at,
        "nodes": found.nodes,
        "lacking": {name: list(sentences) for name, sentences in found.lacking.items()},
        "has": dict(found.has),
    }
