"""Pools: nodes of the same role that learn together; large roles are divided by district."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from src.domain.forecasting.features import FLOWED_WITHIN_DAYS

# So many nodes are trained together; the examples of more would not fit into a training's memory.
MOST_NODES = 100
FLOWED_WITHIN = timedelta(days=FLOWED_WITHIN_DAYS)
_NODES = text(
    """
    SELECT node_id, coalesce(role, 'monitoring') AS role, coalesce(district_id, '') AS district_id
    FROM water_infrastructure.nodes
    WHERE is_active AND out_of_service_since IS NULL AND EXISTS (
        SELECT FROM water_infrastructure.computed_metrics AS metric
        WHERE metric.node_id = nodes.node_id AND time_window = '1day' AND avg_flow_rate IS NOT NULL
            AND window_start >= :since AND window_start < :until
    )
    ORDER BY role, district_id, node_id
    """
)


@dataclass(frozen=True)
class Pool:
    """`scope` is the name of a pool, which its models bear; it stays the same while nodes come and go."""

    scope: str
    node_ids: list[str]


def pools(connection: Connection, as_of: datetime) -> list[Pool]:
    """The pools of all active nodes that had flow within the last `FLOWED_WITHIN`."""
    by_role: dict[str, dict[str, list[str]]] = {}
    for row in connection.execute(_NODES, {"since": as_of - FLOWED_WITHIN, "until": as_of}):
        by_role.setdefault(row.role, {}).setdefault(row.district_id, []).append(row.node_id)
    found = []
    for role, districts in by_role.items():
        count = sum(map(len, districts.values()))
        if count <= MOST_NODES:
            found.append(Pool(role, [node for nodes in districts.values() for node in nodes]))
            continue
        for district, nodes in districts.items():
            scope = f"{role} of {district or 'no district'}"
            for number, first in enumerate(range(0, len(nodes), MOST_NODES)):
                part = f" {number + 1}" if len(nodes) > MOST_NODES else ""
                found.append(Pool(scope + part, nodes[first : first + MOST_NODES]))
    return found
