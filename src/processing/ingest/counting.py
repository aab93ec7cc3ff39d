"""How meters are found to count when their readings are taken in, stored so that it holds from then on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pandas as pd
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert

from src.db.tables import node_channels
from src.domain.channels import COUNTER, INCREMENT
from src.domain.counting import registers, two_way_meters
from src.observability import logger

Stated = Mapping[str, Mapping[str, Any]]


def with_counting(connection: Connection, raw: pd.DataFrame, stated: Stated, as_of: datetime) -> Stated:
    """What is known of nodes, with what these readings show of how their meters count; stored where it is new.

    Nothing is looked for in a node of which it is stated, or was found before.

    Args:
        raw: readings of some nodes as read.
        stated: as of `warehouse.channels.stated_channels`.
    """
    found: dict[str, dict[str, bool]] = {}
    for node_id in two_way_meters(_of_unknown(raw, stated, "is_two_way")):
        found.setdefault(node_id, {})["is_two_way"] = True
    for node_id in registers(_of_unknown(raw, stated, "is_counter")):
        found.setdefault(node_id, {})["is_counter"] = True
    if not found:
        return stated
    rows = [
        {
            "node_id": node_id,
            "measurement": "flow_rate" if name == "is_two_way" else "volume",
            "counting_found_at": as_of,
            "is_two_way": name == "is_two_way" or None,
            "is_counter": name == "is_counter" or None,
        }
        for node_id, counts in sorted(found.items())
        for name in counts
    ]
    statement = insert(node_channels)
    new = {name: statement.excluded[name] for name in ("counting_found_at", "is_two_way", "is_counter")}
    connection.execute(statement.on_conflict_do_update(index_elements=list(node_channels.primary_key), set_=new), rows)
    for name in ("is_two_way", "is_counter"):
        if named := [node_id for node_id, counts in sorted(found.items()) if name in counts]:
            logger(__name__).info("meters were found to count otherwise", what=name, nodes=named[:20], count=len(named))
    return dict(stated) | {
        node_id: dict(stated.get(node_id, {})) | {"found": dict(stated.get(node_id, {}).get("found") or {}) | counts}
        for node_id, counts in found.items()
    }


def _of_unknown(raw: pd.DataFrame, stated: Stated, name: str) -> pd.DataFrame:
    """The readings of nodes of which this is neither stated nor found."""
    known = {node_id for node_id, says in stated.items() if (says.get("found") or {}).get(name) or _states(says, name)}
    return raw[~raw["node_id"].isin(known)] if known else raw


def _states(says: Mapping[str, Any], name: str) -> bool:
    if name == "is_counter":
        return says.get("volume_is") in (COUNTER, INCREMENT)
    ranges = says.get("ranges")
    edges = ranges.get("flow_rate") if isinstance(ranges, Mapping) else None
    return isinstance(edges, Mapping) and edges.get("low") is not None
