"""Shares: the parts of the network that are concluded by themselves, on any replica.

A share holds whole districts. Nodes that belong to no district have shares of their own; their balance, which needs all
of them, is drawn with the first share. A small network is one share, and is looked at as a whole.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import Connection, Row, text

from src.domain.anomalies.sensor_faults import EVERY_NODE
from src.processing.conclusions.extent import Extent, extent_of

K = TypeVar("K")
# So many nodes are concluded together, unless a single district has more.
MOST_NODES = 250
# The nodes of no district lie in so many parts, whatever their number: a share of them is some whole parts.
_PARTS = 1024
# Under what a balance stands of those that belong to no district.
NO_DISTRICT = "-"
_NODES = text("SELECT node_id, district_id FROM water_infrastructure.nodes WHERE is_active ORDER BY node_id")
# The districts that a node's water is passed to, or comes from, are concerned by its readings.
_FEEDERS = text(
    """
    SELECT node_id, metadata ->> 'feeding_district_id' AS district_id FROM water_infrastructure.nodes
    WHERE is_active AND metadata ->> 'feeding_district_id' IS NOT NULL
    """
)
_OUTAGE = text(
    "SELECT min(timestamp) FROM water_infrastructure.anomalies WHERE node_id = :every_node "
    'AND ("end" IS NULL OR "end" > greatest(:first, timestamp))'
)
# Two jobs that conclude the same districts do so one after the other.
_HELD = text(
    "SELECT pg_advisory_xact_lock(:subject, key) "
    "FROM (SELECT DISTINCT key FROM unnest(CAST(:keys AS integer[])) AS key ORDER BY key) AS ordered"
)


@dataclass(frozen=True)
class Share:
    """Some nodes, and the districts that they are all of.

    Attributes:
        is_first: of a job's shares one draws what concerns no district: the balance of nodes without one, outages of
            the whole network, events of nodes that are no longer active.
        is_whole: there are no others.
    """

    node_ids: tuple[str, ...]
    districts: tuple[str, ...]
    is_first: bool
    is_whole: bool

    def hold(self, connection: Connection, subject: int) -> None:
        """Waits until nobody else concludes the same of these districts; until the caller's transaction ends."""
        parts = () if self.districts else {f"{NO_DISTRICT} {_part(node_id)}" for node_id in self.node_ids}
        names = (*self.districts, *parts, *([NO_DISTRICT] if self.is_first else []))
        connection.execute(_HELD, {"subject": subject, "keys": [_key(name) for name in names]})


def shares_of(connection: Connection) -> list[Share]:
    """The shares of all active nodes, in the order of their districts; at least one."""
    by_district: dict[str, list[str]] = {}
    by_part: dict[int, list[str]] = {}
    rows = connection.execute(_NODES).all()
    for row in rows:
        if row.district_id is None:
            by_part.setdefault(_part(row.node_id), []).append(row.node_id)
        else:
            by_district.setdefault(row.district_id, []).append(row.node_id)
    if len(rows) <= MOST_NODES:
        return [Share(tuple(row.node_id for row in rows), tuple(sorted(by_district)), is_first=True, is_whole=True)]
    found = [
        Share(tuple(node for name in names for node in by_district[name]), tuple(names), False, False)
        for names in _together({name: len(by_district[name]) for name in sorted(by_district)})
    ]
    found += [
        Share(tuple(node for part in parts for node in by_part[part]), (), False, False)
        for parts in _together({part: len(by_part[part]) for part in sorted(by_part)})
    ]
    return [replace(found[0], is_first=True), *found[1:]]


def extents_of(connection: Connection, shares: Sequence[Share], extent: Extent) -> list[Extent]:
    """What an extent of the network is for each share: its own nodes', and of those that feed its districts."""
    feeders: dict[str, list[str]] = {}
    for row in connection.execute(_FEEDERS):
        feeders.setdefault(row.district_id, []).append(row.node_id)
    without = [node for share in shares if not share.districts for node in share.node_ids]
    outage: datetime | None = (
        connection.scalar(_OUTAGE, {"first": extent.first, "every_node": EVERY_NODE}) if extent.nodes else None
    )
    found = []
    for share in shares:
        nodes = {node for name in share.districts for node in feeders.get(name, ())} | set(share.node_ids)
        if share.is_whole:
            nodes |= extent.nodes.keys()
        if share.is_first:
            nodes |= {*without, EVERY_NODE}
        late = {node: extent.nodes[node] for node in nodes & extent.nodes.keys()}
        if share.is_first and outage is not None:
            # Late readings of whatever share may show that it was none.
            late[EVERY_NODE] = max(extent.first, outage)
        found.append(Extent(extent.start, {node: at for node, at in late.items() if at < extent.start}))
    return found


def joined(parts: Iterable[tuple[Share, Extent]], shares: Sequence[Share], until: datetime) -> Extent:
    """The extent of the network that holds what is left of some of its shares.

    Args:
        shares: all of them: what the first leaves may be of nodes that belong to no district.
        until: where nothing more is left of the other shares.
    """
    listed = list(parts)
    if len(listed) == 1 and listed[0][0].is_whole:
        return listed[0][1]
    nodes: dict[str, datetime] = {}
    for share, extent in listed:
        others = [node for one in shares if not one.districts for node in one.node_ids] if share.is_first else []
        for node in (*share.node_ids, *others):
            nodes[node] = min(extent.start, extent.nodes.get(node, extent.start), nodes.get(node, extent.start))
        for node, at in extent.nodes.items():
            nodes[node] = min(at, nodes.get(node, at))
    return Extent(until, {node: at for node, at in nodes.items() if at < until})


def plan_of(share: Share, extents: Mapping[str, Extent]) -> dict[str, Any]:
    """A share's conclusions as its chunk's row holds them; `share_of` and `extents_in` read it."""
    return {
        "districts": list(share.districts),
        "is_first": share.is_first,
        "is_whole": share.is_whole,
        "extents": {name: extent.plain() for name, extent in extents.items()},
    }


def share_of(chunk: Row[Any]) -> Share:
    """The share whose conclusions a chunk stands for."""
    planned = chunk.conclusions
    return Share(tuple(chunk.node_ids), tuple(planned["districts"]), planned["is_first"], planned["is_whole"])


def extents_in(chunk: Row[Any]) -> dict[str, Extent]:
    """The extents that were planned for a chunk's conclusions, by name."""
    return {name: extent_of(plain) for name, plain in chunk.conclusions["extents"].items()}


def _together(sizes: Mapping[K, int]) -> list[list[K]]:
    """Neighbours put together until they hold `MOST_NODES`; what is larger stands alone."""
    groups: list[list[K]] = []
    held = MOST_NODES
    for name, size in sizes.items():
        if held + size > MOST_NODES:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += size
    return groups


def _part(node_id: str) -> int:
    return zlib.crc32(node_id.encode()) % _PARTS


def _key(name: str) -> int:
    """A 32-bit number with a sign, as the server's locks have them."""
    return zlib.crc32(name.encode()) - 2**31
