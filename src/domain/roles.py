"""What nodes and their channels are taken for: by what people state, and where they state nothing by how it behaves.

A belief rests on evidence that stands beside it in words; without evidence there is none, and the reason
says what is missing. Nothing is concluded from a belief: it is there to be confirmed in the node file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from scipy.spatial import cKDTree

from src.domain.channels import COUNTER
from src.domain.names import listed
from src.vocabulary import OutOfServiceReason, Role

# A tank's level crosses its day's swing in many readings; in a street a pump or a hydrant moves the pressure at once.
# With readings further apart than this both look alike (s); a swing of less (bar) is a sensor's noise.
LEVEL_STEP, LEVEL_CADENCE, LEVEL_SWING = 0.1, 900, 0.02
# A flow that takes two values only has the largest variance that is possible between them (Bhatia and Davis, "A better
# bound on the variance", American Mathematical Monthly, 2000); a pump's has so much of it, and stands at no more than
# this share of its largest value while it is off.
PUMP_VARIANCE, PUMP_OFF = 0.8, 0.01
# A behaviour counts as a habit that showed on so many days, and on this share of those looked at.
FEWEST_DAYS, MOST_DAYS_SHARE = 5, 0.8
# A node whose so many nearest neighbours, all within so many metres, are of one district is believed to be of it.
NEIGHBOURS, NEAR_METRES = 3, 500.0
_EARTH_METRES = 6_371_000.0
# Between the name of a district and what follows in that of a node.
_SEPARATORS = "-_/:. "
# What collectors write as the type of a node, where that names a role.
_TYPES: Mapping[str, Role] = {
    "storage": "storage", "tank": "storage", "reservoir": "storage", "inlet": "inlet", "outlet": "outlet",
    "consumption": "consumption", "customer": "consumption", "monitoring": "monitoring",
}  # fmt: skip
_METERS = ("flow_rate", "volume")
_NAMES = {"flow_rate": "flow", "pressure": "pressure", "temperature": "temperature", "volume": "volume"}


@dataclass(frozen=True)
class Channel:
    """What is recorded of one measurement of a node.

    Attributes:
        unit: in which its figures are taken to come, and `is_unit_stated` whether the node file says so.
        days: local days with a value, of those that are stored; `recent_days` of the last complete ones that a forecast
            rests on (`features.LEAST_WEEKS`); `last_day` the start of the latest, UTC.
        hours: with a value, of the weeks before this one that habits are learned from.
        is_connected, copy_of, unit_questioned, likely_unit, evidence: as of `channel_facts.Facts`.
        counts_as: of a volume `channels.INCREMENT` or `channels.COUNTER`.
        is_moving: whether it was ever anything but nothing.
        looked_at: days by which its behaviour is judged; `level_days` of them moved it as slowly as a tank's level,
            on `pump_days` it stood still or ran at about `pump_flow` L/s (NaN where it never did).
    """

    unit: str
    is_unit_stated: bool = False
    days: int = 0
    recent_days: int = 0
    last_day: datetime | None = None
    hours: int = 0
    is_connected: bool | None = None
    copy_of: str | None = None
    unit_questioned: bool = False
    likely_unit: str | None = None
    evidence: tuple[str, ...] = ()
    counts_as: str | None = None
    is_moving: bool = True
    looked_at: int = 0
    level_days: int = 0
    pump_days: int = 0
    pump_flow: float = float("nan")

    @property
    def is_counted(self) -> bool:
        """Whether it enters averages, limits and quality."""
        return self.is_connected is not False and self.copy_of is None and not self.unit_questioned

    @property
    def is_measured(self) -> bool:
        """Whether it is recorded, and measures what its name says."""
        return self.days > 0 and self.is_counted

    def is_habit(self, days: int) -> bool:
        """Whether what showed on so many of the days looked at is how it behaves."""
        return days >= FEWEST_DAYS and days >= MOST_DAYS_SHARE * self.looked_at


@dataclass(frozen=True)
class Node:
    """What is known of a node: what people state, and what is recorded of it.

    Attributes:
        channels: by measurement, those of which anything is recorded or stated.
        days: local days with a reading, of those that are stored.
        vouched_hours: of the last complete local day, the hours that readings of its flow vouch for; NaN unknown.
        pool: of nodes that learn together; None: it is in none.
        has_forecast: by an active model, of the hours to come.
    """

    node_id: str
    node_type: str | None = None
    district_id: str | None = None
    role: Role | None = None
    is_active: bool = True
    out_of_service_since: datetime | None = None
    out_of_service_reason: OutOfServiceReason | None = None
    has_tank_area: bool = False
    latitude: float | None = None
    longitude: float | None = None
    channels: Mapping[str, Channel] = field(default_factory=dict)
    first_reading: datetime | None = None
    last_reading: datetime | None = None
    cadence_seconds: float | None = None
    days: int = 0
    vouched_hours: float = float("nan")
    pool: str | None = None
    has_forecast: bool = False

    def measures(self, *measurements: str) -> bool:
        """Whether any of these is recorded, and is what its name says."""
        return any(name in self.channels and self.channels[name].is_measured for name in measurements)

    @property
    def is_metering(self) -> bool:
        """Whether water was seen to pass it."""
        return any(name in self.channels and self.channels[name].is_moving for name in _METERS) and self.measures(
            *_METERS
        )

    @property
    def has_level(self) -> bool:
        """Whether what it reports as pressure moves as a tank's level does."""
        channel = self.channels.get("pressure")
        return channel is not None and channel.is_measured and channel.is_habit(channel.level_days)


@dataclass(frozen=True)
class Belief:
    """A value, None where there is no evidence for one, and why, in sentences."""

    value: str | None
    why: tuple[str, ...]


@dataclass(frozen=True)
class Neighbours:
    """The active nodes of a district: how many, those that water was seen to pass, and those stated as inlets."""

    count: int = 0
    metering: tuple[str, ...] = ()
    inlets: tuple[str, ...] = ()

    @classmethod
    def of(cls, nodes: Sequence[Node]) -> Neighbours:
        return cls(
            len(nodes),
            tuple(node.node_id for node in nodes if node.is_metering),
            tuple(node.node_id for node in nodes if node.role == "inlet"),
        )


def believed_role(node: Node, neighbours: Neighbours) -> Belief:
    """The role of a node of which none is stated.

    Args:
        neighbours: the nodes of its district, itself among them; nobody where it is in none.
    """
    if not any(channel.days for channel in node.channels.values()):
        return Belief(None, ("nothing is recorded of it: its role cannot be told",))
    named = _TYPES.get((node.node_type or "").strip().lower())
    if node.measures("pressure") and not node.measures(*_METERS):
        return _of_pressure(node, named)
    if not node.is_metering:
        return Belief(None, ("no water was seen to pass it, and no pressure: its role cannot be told",))
    if named in ("consumption", "inlet", "outlet"):
        return Belief(named, (f"its type is '{node.node_type}', and it measures flow",))
    if not node.district_id:
        return Belief(None, ("it measures flow, and is in no district: what for cannot be told",))
    inlets, count = neighbours.inlets, neighbours.count
    if neighbours.metering == (node.node_id,) and not inlets:
        among = "the only node of its district" if count == 1 else f"the only one of the {count} nodes of its district"
        return Belief("inlet", (f"it is {among} that measures flow: what enters the district passes it",))
    if named == "monitoring":
        return Belief(named, (f"its type is '{node.node_type}'",))
    brought = f", of which {listed(inlets)} {'is' if len(inlets) == 1 else 'are'} stated as inlet" if inlets else ""
    return Belief(
        None,
        (
            f"{len(neighbours.metering)} nodes of its district measure flow{brought}: which of them bring water and "
            "which give it to customers, readings do not say",
        ),
    )


def _of_pressure(node: Node, named: Role | None) -> Belief:
    """Of a node that measures pressure and no flow: a tank, or a sensor to watch."""
    channel = node.channels["pressure"]
    sentences = []
    if named == "storage":
        sentences.append(
            f"its type is '{node.node_type}', and it measures no flow: what it reports as pressure is its level"
        )
    if node.has_level:
        sentences.append(
            f"it moves as a level does: on {channel.level_days} of {channel.looked_at} days no reading was further "
            f"from the one before than {100 * LEVEL_STEP:.0f} % of the day's swing"
        )
    if sentences:
        return Belief("storage", tuple(sentences))
    return Belief("monitoring", ("it measures pressure and no flow: in a balance it has no part",))


def believed_districts(nodes: Sequence[Node]) -> dict[str, Belief]:
    """Of nodes that are in no district, the one that their name or their place suggests; others are left out."""
    districts = {node.district_id for node in nodes if node.district_id}
    without = [node for node in nodes if not node.district_id]
    found: dict[str, Belief] = {}
    for node in without:
        heads = (node.node_id[:n] for n, letter in enumerate(node.node_id) if n and letter in _SEPARATORS)
        if named := [head for head in heads if head in districts]:
            found[node.node_id] = Belief(named[-1], (f"its name begins with that of district {named[-1]}",))
    return found | _by_place([node for node in without if node.node_id not in found], nodes)


def _by_place(without: Sequence[Node], nodes: Sequence[Node]) -> dict[str, Belief]:
    placed = [node for node in nodes if node.district_id and _point(node) is not None]
    sought = [node for node in without if _point(node) is not None]
    if not sought or len(placed) < NEIGHBOURS:
        return {}
    tree = cKDTree(np.array([_point(node) for node in placed]))
    distances, places = tree.query(np.array([_point(node) for node in sought]), k=NEIGHBOURS)
    found = {}
    for node, apart, nearest in zip(sought, distances, places, strict=True):
        named = {placed[place].district_id for place in nearest}
        if len(named) == 1 and apart[-1] <= NEAR_METRES:
            district = placed[nearest[0]].district_id
            # Never shown nearer than it is.
            within = int(np.ceil(apart[-1]))
            found[node.node_id] = Belief(
                district, (f"its {NEIGHBOURS} nearest neighbours, within {within} m, are of district {district}",)
            )
    return found


def _point(node: Node) -> tuple[float, float, float] | None:
    """Where it is, in metres from the middle of the earth; chords of some hundred metres are as long as their arcs."""
    if node.latitude is None or node.longitude is None:
        return None
    latitude, longitude = np.radians([node.latitude, node.longitude])
    x, y, z = np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)
    return float(x * _EARTH_METRES), float(y * _EARTH_METRES), float(z * _EARTH_METRES)


def use_of(measurement: str, channel: Channel, node: Node, role: str | None) -> tuple[str, list[str]]:
    """What a channel is taken for, and why.

    Args:
        role: of its node, stated or believed.
    """
    why = list(channel.evidence)
    name = _NAMES[measurement]
    if channel.is_unit_stated:
        why.append(f"the unit {channel.unit} is stated in the node file")
    if channel.is_connected is False:
        return "nothing: it is not connected", why
    if channel.copy_of is not None:
        return f"a copy of {_NAMES[channel.copy_of]}", why
    if channel.unit_questioned:
        return f"{name} in a unit that does not fit", why
    if not channel.days and measurement != "volume":
        return f"{name}, of which nothing is recorded", why
    if measurement == "volume":
        return ("a register's reading" if channel.counts_as == COUNTER else "volume since the reading before"), why
    if measurement == "pressure" and role == "storage":
        return "the level of a tank", why
    if measurement == "flow_rate" and channel.is_habit(channel.pump_days):
        why.append(
            f"on {channel.pump_days} of {channel.looked_at} days it either stood still or ran at about "
            f"{channel.pump_flow:.3g} L/s"
        )
        return "the flow of a pump", why
    return name, why
