"""The survey of a network: what each node and channel is taken for, and what is lacking for what is concluded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from src.domain import lacking, lacking_detector
from src.domain.lacking import District, Today
from src.domain.lacking_detector import known_since
from src.domain.roles import Belief, Neighbours, Node, believed_districts, believed_role, use_of
from src.domain.service_life import BY_HAND


@dataclass(frozen=True)
class ChannelUse:
    """What a channel is taken for, the unit in which its figures are taken to come, and why."""

    measurement: str
    taken_for: str
    unit: str
    why: tuple[str, ...]


@dataclass(frozen=True)
class NodeSurvey:
    """What a node is taken for and why, and what it lacks, by what needs it: balance, forecast, detector."""

    node: Node
    district_believed: Belief | None
    role_believed: str | None
    why: tuple[str, ...]
    channels: tuple[ChannelUse, ...]
    lacking: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class DistrictSurvey:
    """What a district has, and what it lacks for a balance, a forecast, a detector and a recommendation."""

    district_id: str
    nodes: int
    lacking: Mapping[str, tuple[str, ...]]
    has: Mapping[str, bool | str]


def survey(
    nodes: Sequence[Node], districts: Sequence[District], today: Today
) -> tuple[list[NodeSurvey], list[DistrictSurvey]]:
    """Surveys a whole network.

    Args:
        nodes: all of it; districts are those of `districts`.
    """
    of_district: dict[str, list[Node]] = {}
    for node in nodes:
        if node.district_id and node.is_active:
            of_district.setdefault(node.district_id, []).append(node)
    around = {name: Neighbours.of(of_one) for name, of_one in of_district.items()}
    begun = {name: known_since(of_one) for name, of_one in of_district.items()}
    places = believed_districts(nodes)
    found: list[NodeSurvey] = []
    for node in nodes:
        neighbours = around.get(node.district_id or "", Neighbours())
        found.append(_of_node(node, neighbours, places.get(node.node_id), begun.get(node.district_id or ""), today))
    beliefs = {one.node.node_id: Belief(one.role_believed, one.why) for one in found if one.node.role is None}
    forecasts = {one.node.node_id: one.lacking["forecast"] for one in found}
    return found, [
        _of_district(district, of_district.get(district.district_id, []), beliefs, forecasts, begun, today)
        for district in districts
    ]


def _of_node(
    node: Node, neighbours: Neighbours, place: Belief | None, begun: datetime | None, today: Today
) -> NodeSurvey:
    if node.role is None:
        role = believed_role(node, neighbours)
    else:
        role = Belief(None, (f"the role {node.role} is stated",))
    is_only_inlet = neighbours.inlets == (node.node_id,)
    uses = []
    for measurement, channel in node.channels.items():
        taken_for, why = use_of(measurement, channel, node, node.role or role.value)
        uses.append(ChannelUse(measurement, taken_for, channel.unit, tuple(why)))
    return NodeSurvey(
        node,
        place,
        role.value,
        role.why,
        tuple(uses),
        {
            "balance": tuple(lacking.for_balance(node, role, place, is_only_inlet, today)),
            "forecast": tuple(lacking.for_forecast(node, today)),
            "detector": tuple(lacking_detector.for_detector(node, begun, today)),
        },
    )


def _of_district(
    district: District,
    nodes: Sequence[Node],
    beliefs: Mapping[str, Belief],
    forecasts: Mapping[str, Sequence[str]],
    begun: Mapping[str, datetime | None],
    today: Today,
) -> DistrictSurvey:
    believed = {node.node_id: beliefs[node.node_id] for node in nodes if node.node_id in beliefs}
    # What fell silent may still let water pass; what somebody took out of service does not.
    serving = [node for node in nodes if node.out_of_service_reason != BY_HAND]
    sending = [node for node in nodes if node.out_of_service_since is None]
    inlets = [node for node in serving if node.role == "inlet"]
    return DistrictSurvey(
        district.district_id,
        len(nodes),
        {
            "balance": tuple(lacking.balance_of(district, serving, believed)),
            "forecast": tuple(lacking.forecast_of(serving, forecasts, believed)),
            "detector": tuple(lacking_detector.detector_of(district, nodes, begun.get(district.district_id), today)),
            "recommendation": tuple(lacking.recommendation_of(district, sending, believed)),
        },
        {
            "balance": district.has_day,
            "forecast": bool(inlets) and all(node.has_forecast for node in inlets),
            "detector": district.detector or "none",
            "recommendation": district.recommendation or "none",
        },
    )
