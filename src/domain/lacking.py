"""What a node or a district lacks for a balance, a forecast, a detector or a recommendation, with the next step.

Each sentence says what is missing, in figures where there are any, and after a colon what to do about it. What is
demanded stands with the code that demands it: here are only the words. What is known is rounded down, what is needed
up, so that no sentence says that there is enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

from src.domain.anomalies.watch import monday_of
from src.domain.efficiency import ESTIMATED_BELOW, NO_CONSUMPTION, NO_INLET
from src.domain.forecasting.features import FLOWED_WITHIN_DAYS, LEAST_WEEKS
from src.domain.names import listed
from src.domain.pressure import FEWEST_NIGHTS, NO_NIGHT_USE, NO_PRESSURE_WITHIN, several_inlets
from src.domain.roles import Belief, Node
from src.domain.rolling import LEAST_KNOWN, MONTH
from src.domain.service_life import BY_HAND

NODE_FILE = "in nodes.csv, and import it with `python -m src.processing.nodes import nodes.csv`"
DISTRICT_FILE = "in districts.csv, and import it with `python -m src.processing.districts import districts.csv`"
_TRAIN = "it is trained on Sunday, or now with `python -m src.processing.models train`"
_METERS = ("inlet", "outlet", "consumption")


@dataclass(frozen=True)
class Today:
    """The instant of a survey.

    Attributes:
        last_day: the last complete local day, and `last_day_hours` how many hours it had.
        zone: the utility's.
        untrained: by pool why its last training made no model.
    """

    as_of: datetime
    last_day: date
    last_day_hours: int
    zone: ZoneInfo
    untrained: Mapping[str, str]

    @property
    def monday(self) -> datetime:
        """When this week began, up to which is learned."""
        return monday_of(self.as_of, self.zone)


@dataclass(frozen=True)
class District:
    """What is known of a district.

    Attributes:
        connections: service connections.
        has_day: whether the loss of the last balanced day is known, `day` that day, `reason` the remark on it.
        known_days: balanced ones of the last `MONTH`; None: nothing was balanced.
        detector: "active", "shadow" or None, and since when it has been in shadow.
        recommendation: "recommended", "refused" or None, and why.
        nights: of its only inlet, nights with flow and pressure, of those that a relation is fitted to.
    """

    district_id: str
    connections: int | None = None
    has_day: bool = False
    day: date | None = None
    reason: str | None = None
    known_days: int | None = None
    detector: str | None = None
    shadow_since: datetime | None = None
    recommendation: str | None = None
    recommendation_reason: str | None = None
    nights: int = 0


def short(known: float, needed: float) -> tuple[int, int] | None:
    """What is known, rounded down, and what is needed, rounded up; None where it is enough."""
    # A share of a whole number may lie a hair above the one it stands for.
    whole = math.ceil(round(needed, 9))
    return None if known >= whole else (math.floor(known), whole)


def for_balance(node: Node, role: Belief, district: Belief | None, is_only_inlet: bool, today: Today) -> Iterator[str]:
    """What a node lacks to take its part in the balance of its district.

    Args:
        role, district: believed ones.
        is_only_inlet: no other node is stated as inlet of its district.
    """
    if "monitoring" in (node.role, role.value):
        # Whoever only watches takes no part in any.
        return
    if node.role is None:
        value = role.value or "inlet, outlet, consumption, storage or monitoring"
        yield f"its role is not stated, so that it counts in no balance: state {value} {NODE_FILE}"
    if not node.district_id:
        value = f"the district {district.value}" if district else "its district"
        yield f"it is in no district, and is balanced only with others that are in none: state {value} {NODE_FILE}"
    yield from out_of_service(node)
    if node.role == "storage":
        if not node.has_tank_area:
            yield f"its area is not known, by which a level is an amount of water: state tank_area_m2 {NODE_FILE}"
        if not node.measures("pressure"):
            yield "no level is recorded of it: send the level as its pressure (1 m of water is 0.0980665 bar)"
    elif node.role in _METERS:
        yield from _metered(node, is_only_inlet, today)


def out_of_service(node: Node) -> Iterator[str]:
    """Why nothing is concluded of a node."""
    if not node.is_active:
        yield f"it is not active: state is_active true {NODE_FILE}"
    elif node.out_of_service_since is not None and node.out_of_service_reason == BY_HAND:
        yield (
            f"it is out of service by hand since {node.out_of_service_since:%Y-%m-%d}: state out_of_service false "
            f"{NODE_FILE}"
        )
    elif node.out_of_service_since is not None:
        yield (
            f"it has been silent since {node.out_of_service_since:%Y-%m-%d} and is out of service: look after the "
            "device; it is back with its first reading"
        )


def _metered(node: Node, is_only_inlet: bool, today: Today) -> Iterator[str]:
    flow = node.channels.get("flow_rate")
    if flow is None or not flow.days:
        yield "neither flow nor volume of it is recorded: connect the meter, or look for what keeps its readings away"
        return
    if _is_dead(node, is_only_inlet):
        yield (
            "its flow stands at nothing, which is no measurement of the only inlet while others move: connect "
            f"the meter, or state that it is connected {NODE_FILE}"
        )
        return
    # What is not vouched for is estimated where it is less than a share of the day.
    needed = (1 - ESTIMATED_BELOW) * today.last_day_hours
    known = 0.0 if math.isnan(node.vouched_hours) else node.vouched_hours
    if known <= needed:
        yield (
            f"of {today.last_day} {math.floor(known)} of {today.last_day_hours} hours are vouched for by readings, "
            f"more than {needed:g} are needed: look for what keeps its readings away"
        )


def _is_dead(node: Node, is_only_inlet: bool) -> bool:
    """Whether it has measured nothing, though it says nothing flowed; one of several inlets may be shut."""
    flow = node.channels.get("flow_rate")
    return is_only_inlet and flow is not None and not flow.is_counted and not flow.is_moving


def balance_of(district: District, nodes: Sequence[Node], beliefs: Mapping[str, Belief]) -> Iterator[str]:
    """What a district lacks for the balance of a day, and for that of a month.

    Args:
        nodes: the active ones of the district.
        beliefs: by node, the role of those of which none is stated.
    """
    by_role = {name: [node for node in nodes if node.role == name] for name in (*_METERS, "storage")}
    found = []
    if not by_role["inlet"]:
        found.append(f"{NO_INLET}: {_who(beliefs, 'inlet', 'the node that brings its water')} {NODE_FILE}")
    if not by_role["consumption"] and not district.connections:
        likely = _who(beliefs, "consumption", "the customers' meters")
        found.append(
            f"{NO_CONSUMPTION}, and its service connections are not known, by which its losses at night could be told: "
            f"{likely} {NODE_FILE}, or connections {DISTRICT_FILE}"
        )
    for tank in by_role["storage"]:
        if not tank.has_tank_area or not tank.measures("pressure"):
            what = "the level" if tank.has_tank_area else "the area"
            found.append(f"{what} of the tank {tank.node_id} is not known: see what that node lacks")
    mute = [node.node_id for name in _METERS for node in by_role[name] if not _is_measuring(node)]
    mute += [node.node_id for node in by_role["inlet"] if _is_dead(node, len(by_role["inlet"]) == 1)]
    if mute:
        found.append(f"nothing is measured at {listed(list(dict.fromkeys(mute)))}: see what these nodes lack")
    yield from found
    if not found and not district.has_day:
        if district.day is None:
            yield "no whole local day is balanced yet: the first is, in the cycle after its midnight"
        elif district.reason:
            yield f"the balance of {district.day} is not known: {district.reason}; see what its nodes lack"
        else:
            yield f"the balance of {district.day} is not known: see what its nodes lack"
    elif district.has_day and district.reason:
        yield f"the balance of {district.day} cannot be: {district.reason}"
    missing = short(district.known_days or 0, LEAST_KNOWN * MONTH)
    if missing and not found:
        yield (
            f"for a month's balance {missing[0]} of the last {MONTH} days are balanced, {missing[1]} are needed: "
            f"wait for {missing[1] - missing[0]} more, or read earlier ones with `python -m src.processing.backfill`"
        )


def _is_measuring(node: Node) -> bool:
    return "flow_rate" in node.channels and node.channels["flow_rate"].days > 0


def _who(beliefs: Mapping[str, Belief], role: str, otherwise: str) -> str:
    believed = [node_id for node_id, belief in beliefs.items() if belief.value == role]
    return f"state the role {role} of {listed(believed) if believed else otherwise}"


def for_forecast(node: Node, today: Today) -> Iterator[str]:
    """What a node lacks to be forecast by what a model has learned."""
    if out := list(out_of_service(node)):
        yield from out
        return
    flow = node.channels.get("flow_rate")
    if flow is None or not flow.days or flow.last_day is None:
        yield "no flow of it is recorded, and flow is what is forecast: connect its flow or its volume"
        return
    if node.pool is None:
        yield (
            f"its last day with flow is {flow.last_day.astimezone(today.zone):%Y-%m-%d}, and only what had flow within "
            f"{FLOWED_WITHIN_DAYS} days is forecast: look for what keeps its readings away"
        )
        return
    if missing := short(flow.recent_days, LEAST_WEEKS * 7):
        yield (
            f"{missing[0]} of the last {missing[1]} days have flow, and all are needed to forecast it by what is "
            f"learned: until {missing[1] - missing[0]} more are there, only its usual flow can be"
        )
    if not node.has_forecast:
        why = today.untrained.get(node.pool)
        because = f" (the last training: {why})" if why else ""
        yield f"no model of its pool '{node.pool}' forecasts it{because}: {_TRAIN}"


def forecast_of(
    nodes: Sequence[Node], lacking: Mapping[str, Sequence[str]], beliefs: Mapping[str, Belief]
) -> Iterator[str]:
    """What a district lacks for forecasts of what comes in.

    Args:
        lacking: by node, what it lacks for a forecast.
    """
    inlets = [node for node in nodes if node.role == "inlet"]
    if not inlets:
        likely = _who(beliefs, "inlet", "the node that brings its water")
        yield f"{NO_INLET}, whose forecasts would be its own: {likely} {NODE_FILE}"
    for inlet in inlets:
        for sentence in lacking.get(inlet.node_id, ()):
            yield f"inlet {inlet.node_id}: {sentence}"


def recommendation_of(district: District, nodes: Sequence[Node], beliefs: Mapping[str, Belief]) -> Iterator[str]:
    """What a district lacks for set-points that save water.

    Args:
        nodes: the active ones of the district that are in service.
    """
    if district.recommendation == "recommended":
        return
    inlets = [node for node in nodes if node.role == "inlet"]
    found = []
    if not inlets:
        found.append(f"{NO_INLET}: {_who(beliefs, 'inlet', 'the node that brings its water')} {NODE_FILE}")
    elif len(inlets) > 1:
        found.append(
            f"{several_inlets([node.node_id for node in inlets])}; give each part of it that one of them feeds a "
            "district of its own"
        )
    elif not inlets[0].measures("pressure"):
        found.append(
            "no pressure of its only inlet is recorded, so that its set-point is not known: connect the pressure "
            "behind its valve"
        )
    if not any(node.measures("pressure") for node in nodes if node.role not in ("inlet", "storage")):
        found.append(f"{NO_PRESSURE_WITHIN}: add a pressure sensor where it is lowest")
    if not any(node.role == "consumption" for node in nodes) and not district.connections:
        found.append(f"{NO_NIGHT_USE}: state connections {DISTRICT_FILE}")
    if not found and (missing := short(district.nights, FEWEST_NIGHTS)):
        found.append(
            f"{missing[0]} of {missing[1]} nights with flow and pressure of the inlet are known: wait for "
            f"{missing[1] - missing[0]} more"
        )
    yield from found
    if not found and district.recommendation == "refused":
        yield f"{district.recommendation_reason}: it is looked at again every morning"
    elif not found:
        yield "what is needed is there: the first recommendation is made in the morning"
