"""The survey of the network, made at the end of a cycle: rows in, `domain.survey`, rows out.

It reads days, never hours or readings, and everything of all nodes at once: a network of thousands costs seconds. It
is made once an hour, or at once where what people state, which models are in use, or what is recommended has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ARRAY, Connection, Table, Text, any_, bindparam, cast, func, not_, select, text
from sqlalchemy.dialects.postgresql import JSONB, insert

from src.db.tables import district_survey, node_survey
from src.domain.survey import DistrictSurvey, NodeSurvey, survey
from src.processing.conclusions.survey_evidence import districts_of, nodes_of, today_of
from src.processing.jobs.patience import patiently
from src.processing.jobs.runtime import Runtime

EVERY = timedelta(hours=1)
_PART = 500
_IS_DUE = text(
    """
    SELECT coalesce(max(surveyed_at) NOT BETWEEN :since AND :as_of, true) OR EXISTS (
        SELECT FROM water_infrastructure.nodes FULL JOIN water_infrastructure.node_survey AS found USING (node_id)
        WHERE nodes.updated_at IS DISTINCT FROM found.described_at
    ) OR EXISTS (
        SELECT FROM water_infrastructure.districts LEFT JOIN water_infrastructure.district_survey AS found
            USING (district_id)
        WHERE districts.updated_at IS DISTINCT FROM found.described_at
    ) OR EXISTS (
        SELECT FROM water_infrastructure.ml_models
        WHERE greatest(shadow_since, activated_at, retired_at) > (
            SELECT max(surveyed_at) FROM water_infrastructure.node_survey
        )
    ) OR EXISTS (
        SELECT FROM water_infrastructure.recommendations
        WHERE computed_at > (SELECT max(surveyed_at) FROM water_infrastructure.node_survey)
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
    retention_days = runtime.settings.retention_metrics_days
    nodes, described = nodes_of(connection, today, runtime.conventions, retention_days)
    districts, districts_described = districts_of(connection, today)
    of_nodes, of_districts = survey(nodes, districts, today)
    node_rows = [_node_row(found, as_of, described[found.node.node_id]) for found in of_nodes]
    district_rows = [_district_row(found, as_of, districts_described[found.district_id]) for found in of_districts]
    for table, rows in ((node_survey, node_rows), (district_survey, district_rows)):
        _replace(connection, table, rows)
    return len(node_rows)


def _replace(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    """Makes a table hold exactly these rows: a statement for some hundred of them, not one for each."""
    (key,) = table.primary_key
    is_there = key == any_(cast([row[key.name] for row in rows], ARRAY(Text)))
    connection.execute(table.delete().where(not_(is_there)))
    columns = [column.name for column in table.c]
    # As JSON, which says of itself what is a list and what is null.
    records = func.jsonb_populate_recordset(
        text(f"CAST(NULL AS {table.fullname})"), cast(bindparam("rows", type_=JSONB), JSONB)
    )
    read = records.table_valued(*columns, name="records")
    statement = insert(table).from_select(columns, select(*(read.c[name] for name in columns)))
    new = {name: statement.excluded[name] for name in columns if name != key.name}
    upsert = statement.on_conflict_do_update(index_elements=[key], set_=new)
    for first in range(0, len(rows), _PART):
        connection.execute(upsert, {"rows": rows[first : first + _PART]})


def _node_row(found: NodeSurvey, as_of: datetime, described_at: datetime) -> dict[str, Any]:
    node, place = found.node, found.district_believed
    return {
        "node_id": node.node_id,
        "surveyed_at": as_of.isoformat(),
        "described_at": described_at.isoformat(),
        "district_believed": None if place is None else {"value": place.value, "why": "; ".join(place.why)},
        "role_believed": found.role_believed,
        "why": list(found.why),
        "channels": [
            {"measurement": one.measurement, "taken_for": one.taken_for, "unit": one.unit, "why": list(one.why)}
            for one in found.channels
        ],
        "first_reading": None if node.first_reading is None else node.first_reading.isoformat(),
        "last_reading": None if node.last_reading is None else node.last_reading.isoformat(),
        "cadence_seconds": node.cadence_seconds,
        "days": node.days,
        "lacking": {name: list(sentences) for name, sentences in found.lacking.items()},
    }


def _district_row(found: DistrictSurvey, as_of: datetime, described_at: datetime | None) -> dict[str, Any]:
    return {
        "district_id": found.district_id,
        "surveyed_at": as_of.isoformat(),
        "described_at": None if described_at is None else described_at.isoformat(),
        "nodes": found.nodes,
        "lacking": {name: list(sentences) for name, sentences in found.lacking.items()},
        "has": dict(found.has),
    }
