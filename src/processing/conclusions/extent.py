"""The hours that a job must conclude, and how far it has come."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class Progress:
    """Everything before `until` is concluded; `rows` were written or changed for the last part, and from `changed_from`
    on the network's sums may be others (None: they are not)."""

    until: datetime
    rows: int
    changed_from: datetime | None = None


@dataclass(frozen=True)
class Extent:
    """Hours of the whole network from `start` on, and of single nodes from earlier ones on."""

    start: datetime
    nodes: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def first(self) -> datetime:
        """The first hour of any node."""
        return min([self.start, *self.nodes.values()])

    def after(self, until: datetime) -> Extent:
        """What is left once everything before an instant is concluded."""
        nodes = {node: max(at, until) for node, at in self.nodes.items()}
        start = max(self.start, until)
        return Extent(start, {node: at for node, at in nodes.items() if at < start})

    def plain(self) -> dict[str, Any]:
        """As JSON holds it; `extent_of` reads it."""
        return {"from": self.start.isoformat(), "nodes": {node: at.isoformat() for node, at in self.nodes.items()}}


def extent_of(plain: Mapping[str, Any]) -> Extent:
    """The inverse of `Extent.plain`."""
    nodes = {node: datetime.fromisoformat(at) for node, at in plain["nodes"].items()}
    return Extent(datetime.fromisoformat(plain["from"]), nodes)


def together(extents: Iterable[Extent]) -> Extent:
    """The least extent that holds all of these, of which there is at least one."""
    listed = list(extents)
    start = min(extent.start for extent in listed)
    nodes: dict[str, datetime] = {}
    for extent in listed:
        for node, at in extent.nodes.items():
            if at < start:
                nodes[node] = min(at, nodes.get(node, at))
    return Extent(start, nodes)
