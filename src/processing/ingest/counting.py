"""How meters are found to count when their readings are taken in, stored so that it holds from then on."""

from __future__ import annotations

from collections.abc import Collection, Mapping
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
    two_way = two_way_meters(_of_unknown(raw, stated, "is_two_way"))
    counters = registers(_of_unknown(raw, stated, "is_counter"))
    return store_counting(connection, two_way, counters, stated, as_of)


def store_counting(
    connection: Connection, two_way: Collection[str], counters: Collection[str], stated: Stated, as_of: datetime
) -> Stated:
    """Stores which meters turn round and which volumes are registers' readings, where it is neither stated nor found
    yet; what is known of nodes with that."""
    named = {"is_two_way": two_way, "is_counter": counters}
    found: dict[str, dict[str, bool]] = {}
    for name, node_ids in named.items():
        for node_id in node_ids:
            if not _is_known(stated.get(node_id, {}), name):
                found.setdefault(node_id, {})[name] = True
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
    for name in named:
        if of_name := [node_id for node_id, counts in sorted(found.items()) if name in counts]:
            log = logger(__name__).bind(what=name, nodes=of_name[:20], count=len(of_name))
            log.info("meters were found to count otherwise; what is stored of them is outdated until it is read again")
    return dict(stated) | {
        node_id: dict(stated.get(node_id, {})) | {"found": dict(stated.get(node_id, {}).get("found") or {}) | counts}
        for node_id, counts in found.items()
    }


def _of_unknown(raw: pd.DataFrame, stated: Stated, name: str) -> pd.DataFrame:
    """The readings of nodes of which this is neither stated nor found."""
    known = {node_id for node_id, statements in stated.items() if _is_known(statements, name)}
    return raw[~raw["node_id"].isin(known)] if known else raw


def _is_known(statements: Mapping[str, Any], name: str) -> bool:
    if (statements.get("found") or {}).get(name):
        return True
    if name == "is_counter":
        return statements.get("volume_is") in (COUNTER, INCREMENT)
    ranges = statements.get("ranges")
    edges = ranges.get("flow_rate") if isinstance(ranges, Mapping) else None
    return isinstance(edges, Mapping) and edges.get("low") is not None
