"""In what units the warehouse has its figures, what is possible there, and how meters count: settings, what people
state of nodes, and what was found out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, select

from src.db.tables import node_channels, nodes
from src.domain.channels import Conventions
from src.domain.readings import MEASUREMENTS
from src.domain.units import UnknownUnit, conversion
from src.settings import Settings, refuse


def conventions_of(settings: Settings) -> Conventions:
    """What the settings state of all readings; a unit that is none ends the process with a line that names it."""
    units = {name: str(getattr(settings, f"unit_{name}")) for name in MEASUREMENTS}
    for name, unit in units.items():
        try:
            conversion(name, unit)
        except UnknownUnit as error:
            refuse(f"UNIT_{name.upper()}", str(error))
    ranges = {str(name): (edges.low, edges.high) for name, edges in settings.valid_ranges.items()}
    return Conventions(units, ranges, settings.minimum_quality_score, settings.volume_is)


def stated_channels(connection: Connection, node_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """What people have stated of the channels of these nodes, and how their meters were found to count, as
    `domain.channels.channels_of` takes it."""
    metadata = nodes.c.metadata
    statement = select(
        nodes.c.node_id,
        metadata["units"].label("units"),
        metadata["ranges"].label("ranges"),
        metadata["volume_is"].label("volume_is"),
    ).where(nodes.c.node_id.in_(node_ids))
    stated: dict[str, Mapping[str, Any]] = {
        row.node_id: {"units": row.units, "ranges": row.ranges, "volume_is": row.volume_is}
        for row in connection.execute(statement)
    }
    found = select(node_channels.c.node_id, node_channels.c.is_two_way, node_channels.c.is_counter).where(
        and_(node_channels.c.node_id.in_(node_ids), node_channels.c.is_two_way | node_channels.c.is_counter)
    )
    for row in connection.execute(found):
        of_node = dict(stated.get(row.node_id, {}))
        counts = {"is_two_way": row.is_two_way, "is_counter": row.is_counter}
        of_node["found"] = of_node.get("found", {}) | {name: True for name, value in counts.items() if value}
        stated[row.node_id] = of_node
    return stated
