"""In what units the warehouse has its figures, and what is possible there: settings, and what people state of nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from src.db.tables import nodes
from src.domain.channels import Conventions
from src.domain.readings import MEASUREMENTS
from src.domain.units import UnknownUnit, conversion
from src.settings import Settings, refuse


def conventions_of(settings: Settings) -> Conventions:
    """What the settings say of all readings; a unit that is none ends the process with a line that names it."""
    units = {name: str(getattr(settings, f"unit_{name}")) for name in MEASUREMENTS}
    for name, unit in units.items():
        try:
            conversion(name, unit)
        except UnknownUnit as error:
            refuse(f"UNIT_{name.upper()}", str(error))
    ranges = {str(name): (edges.low, edges.high) for name, edges in settings.valid_ranges.items()}
    return Conventions(units, ranges, settings.minimum_quality_score)


def stated_channels(connection: Connection, node_ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """What people have stated of the units and ranges of these nodes, as `domain.channels.channels_of` takes it."""
    metadata = nodes.c.metadata
    statement = select(nodes.c.node_id, metadata["units"].label("units"), metadata["ranges"].label("ranges")).where(
        nodes.c.node_id.in_(node_ids)
    )
    return {row.node_id: {"units": row.units, "ranges": row.ranges} for row in connection.execute(statement)}
