"""Simulated networks: EPANET's hydraulics with leaks, sensor faults and unusual days that are known.

Hydraulics by wntr (EPANET 2.2). Demands follow the network's own daily patterns with a weekly rhythm, holidays and
noise; the leaks take a known flow out of known junctions, and the sensors report with noise.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import wntr

from src.processing.nodes import Node
from src.quickstart import pressure_zone
from src.quickstart.places import Place, on_the_map
from src.quickstart.pressure_zone import PressureZone

START = datetime(2024, 3, 4, tzinfo=UTC)
DAYS = 28
STEP = 300
BAR_PER_METRE = 0.0980665

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Network:
    """One of wntr's networks as one district: the links by which water comes in (to node id and name), the junctions
    with a pressure sensor, and the groups of junctions whose customers' meters report together (to how the names of
    their junctions begin; "" takes the rest)."""

    name: str
    inlets: Mapping[str, tuple[str, str]]
    pressure_sensors: tuple[str, ...]
    customer_groups: Mapping[str, str]
    # The hours of the day between which a pump runs, where its own controls end with the network's own week.
    pump_hours: Mapping[str, tuple[int, int]] = field(default_factory=dict)


NET3 = Network(
    "Net3",
    {"60": ("inlet-river", "River intake"), "10": ("inlet-lake", "Lake intake")},
    ("15", "35", "105", "119", "145", "151", "181", "195", "207", "237"),
    # Three-digit names are Net3's street grid, by its two halves.
    {"customers-north": "1", "customers-south": "2", "customers-rest": ""},
    {"10": (1, 15)},
)


@dataclass(frozen=True)
class Leak:
    """Water that escapes at a junction, in L/s: from `begin` on, growing over `growth` (zero: a burst) to `flow`."""

    junction: str
    begin: datetime
    end: datetime
    flow: float
    growth: timedelta = timedelta(0)

    def at(self, instants: Floats) -> Floats:
        """Its flow at instants given in seconds since 1970."""
        age = instants - self.begin.timestamp()
        share = np.clip(age / max(self.growth.total_seconds(), 1.0), 0, 1)
        return np.where((age >= 0) & (instants < self.end.timestamp()), self.flow * share, 0.0)


@dataclass(frozen=True)
class Fault:
    """What a sensor reports instead of the truth: stuck (its last value), silent (nothing), spikes (of every fourth
    reading ten times the flow, or half as much again of the pressure), negative (the flow with the wrong sign), clock
    (an hour behind: its readings of that hour come twice)."""

    node_id: str
    kind: str
    begin: datetime
    end: datetime


@dataclass(frozen=True)
class Scenario:
    """What is simulated, and all that is known to happen in it."""

    network: Network = NET3
    start: datetime = START
    days: int = DAYS
    step: int = STEP
    leaks: tuple[Leak, ...] = ()
    faults: tuple[Fault, ...] = ()
    # Days (from the start) on which customers use so many times as much as usual.
    unusual_days: Mapping[int, float] = field(default_factory=dict)
    has_customer_meters: bool = True
    # A district behind a valve, which one of the network's junctions feeds.
    zone: PressureZone | None = None
    # Before this instant sensors report at every `sparse_step` seconds only.
    sparse_until: datetime | None = None
    sparse_step: int = 900


def _at(day: int, hour: int) -> datetime:
    return START + timedelta(days=day, hours=hour)


LEAKS = (
    Leak("151", _at(15, 3), _at(19, 9), 30.0),
    Leak("237", _at(20, 0), _at(28, 0), 25.0, growth=timedelta(days=6)),
)
FAULTS = (
    Fault("pressure-195", "stuck", _at(12, 6), _at(14, 6)),
    Fault("pressure-35", "silent", _at(17, 10), _at(18, 2)),
    Fault("inlet-lake", "spikes", _at(10, 12), _at(10, 13)),
)


QUICKSTART = Scenario(leaks=LEAKS, faults=FAULTS)
# The same four weeks with eight more before them, from which models can learn, and with the district behind the valve.
WEEKS_BEFORE = 8
FIRST_DAY = replace(
    QUICKSTART,
    start=START - timedelta(weeks=WEEKS_BEFORE),
    days=DAYS + 7 * WEEKS_BEFORE,
    zone=PressureZone(),
    sparse_until=START,
)


def simulate(seed: int = 3, scenario: Scenario = QUICKSTART) -> tuple[pd.DataFrame, list[Node], datetime]:
    """Readings (timestamp, node_id, district_id, flow_rate L/s, pressure bar), nodes, and the end of the span."""
    noise = np.random.default_rng(seed)
    model = _model(noise, scenario)
    zone = scenario.zone
    used_in_zone = None if zone is None else pressure_zone.build(model, zone, scenario.days, seed)
    # EPANET works in files, some of them wherever the process happens to be.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        results = wntr.sim.EpanetSimulator(model).run_sim(file_prefix=str(Path(folder) / "network"))
    # The last step belongs to the instant after the span.
    flow, pressure, demand = (
        frame.iloc[: scenario.days * 86400 // scenario.step]
        for frame in (results.link["flowrate"] * 1000, results.node["pressure"], results.node["demand"] * 1000)
    )
    instants = scenario.start.timestamp() + np.arange(len(flow), dtype=np.float64) * float(scenario.step)
    district = scenario.network.name.lower()

    nodes: list[Node] = []
    series: list[pd.DataFrame] = []

    def sensor(
        node_id: str,
        name: str,
        kind: tuple[str, str],
        at: Iterable[str],
        metadata: Mapping[str, object] | None = None,
        district_id: str = district,
        **values: Floats,
    ) -> None:
        """A node (`kind`: its type and role) in the middle of some of EPANET's, and what it reports."""
        known = {"node_id": node_id, "node_name": name, "node_type": kind[0], "role": kind[1]}
        latitude, longitude = on_the_map(_place(model, one) for one in at)
        known |= {"district_id": district_id, "metadata": orjson.dumps(metadata or {}).decode()}
        nodes.append(Node.model_validate(known | {"latitude": latitude, "longitude": longitude}))
        rows = pd.DataFrame({"timestamp": instants, "node_id": node_id, "district_id": district_id} | values)
        series.append(rows[_is_reported(instants, scenario)])

    def measured(values: pd.Series, spread: float) -> Floats:
        """What a meter with this relative noise shows."""
        return np.maximum(values.to_numpy() * (1 + spread * noise.standard_normal(len(values))), 0)

    for link, (node_id, name) in scenario.network.inlets.items():
        ends = model.get_link(link)
        at = [ends.start_node_name if ends.start_node_name in model.reservoir_name_list else ends.end_node_name]
        sensor(node_id, name, ("reservoir", "inlet"), at, flow_rate=measured(flow[link], 0.002))
    for tank in model.tank_name_list:
        level = pressure[tank] * BAR_PER_METRE
        area = math.pi * (model.get_node(tank).diameter / 2) ** 2
        known = {"tank_area_m2": area}
        kind = ("storage", "storage")
        sensor(f"tank-{tank}", f"Tank {tank}", kind, [tank], known, pressure=measured(level, 0.0005))
    groups = _customers(model, scenario) if scenario.has_customer_meters else {}
    hour = np.floor(instants / 3600) * 3600
    for node_id, junctions in groups.items():
        metered = demand[junctions].sum(axis=1)
        metered -= sum((leak.at(hour) for leak in scenario.leaks if leak.junction in junctions), 0.0)
        name = node_id.replace("-", " ").capitalize()
        sensor(node_id, name, ("consumption", "consumption"), junctions, flow_rate=metered.to_numpy())
    for junction in scenario.network.pressure_sensors:
        sensor(
            f"pressure-{junction}",
            f"Pressure at {junction}",
            ("monitoring", "monitoring"),
            [junction],
            pressure=measured(pressure[junction] * BAR_PER_METRE, 0.001),
        )
    if zone is not None and used_in_zone is not None:
        behind = {"pressure": measured(pressure[zone.inlet] * BAR_PER_METRE, 0.001)}
        behind["flow_rate"] = measured(flow[zone.valve], 0.002)
        fed = {"feeding_district_id": district}
        name = zone.district_id.capitalize()
        sensor(
            f"inlet-{zone.district_id}", f"{name} valve", ("distribution", "inlet"), [zone.inlet], fed,
            zone.district_id, **behind,
        )  # fmt: skip
        used = np.repeat(used_in_zone, 3600 // scenario.step)[: len(instants)]
        kind = ("consumption", "consumption")
        customers = f"customers-{zone.district_id}"
        sensor(customers, f"Customers {zone.district_id}", kind, zone.names[1:], {}, zone.district_id, flow_rate=used)
        for junction in map(zone.junction, zone.sensors):
            measurements = {"pressure": measured(pressure[junction] * BAR_PER_METRE, 0.001)}
            name, kind = f"Pressure at {junction}", ("monitoring", "monitoring")
            sensor(f"pressure-{junction}", name, kind, [junction], {}, zone.district_id, **measurements)
    readings = pd.concat(series, ignore_index=True)
    readings["timestamp"] = pd.to_datetime(readings["timestamp"], unit="s", utc=True)
    for fault in scenario.faults:
        readings = _faulty(readings, fault)
    return readings, nodes, scenario.start + timedelta(days=scenario.days)


def mean_demand(network: Network) -> float:
    """What the network's customers use on average, in L/s."""
    model = _read(network)
    patterns = {name: float(np.mean(pattern.multipliers)) for name, pattern in model.patterns()}
    entries = (entry for _, junction in model.junctions() for entry in junction.demand_timeseries_list)
    return 1000 * float(sum(entry.base_value * patterns.get(entry.pattern_name, 1.0) for entry in entries))


def _read(network: Network) -> wntr.network.WaterNetworkModel:
    folder = Path(wntr.__file__).parent / "library" / "networks"
    return wntr.network.WaterNetworkModel(str(folder / f"{network.name}.inp"))


def _model(noise: np.random.Generator, scenario: Scenario) -> wntr.network.WaterNetworkModel:
    model = _read(scenario.network)
    days, hours = scenario.days, scenario.days * 24
    model.options.time.duration = days * 86400
    model.options.time.pattern_timestep = 3600
    model.options.time.hydraulic_timestep = model.options.time.report_timestep = scenario.step
    day_factor = np.where(np.arange(days) % 7 >= 5, 0.93, 1.0) * (1 + 0.03 * noise.standard_normal(days))
    for day, times in scenario.unusual_days.items():
        day_factor[day] *= times
    for _, pattern in list(model.patterns()):
        multipliers = np.repeat(pattern.multipliers, max(1, 24 // len(pattern.multipliers)))
        daily = np.tile(multipliers, hours // len(multipliers) + 1)[:hours]
        pattern.multipliers = daily * np.repeat(day_factor, 24) * (1 + 0.04 * noise.standard_normal(hours))
    if scenario.network.pump_hours:
        for name in [name for name, control in list(model.controls()) if "SYSTEM TIME" in str(control)]:
            model.remove_control(name)
    for link, switched in scenario.network.pump_hours.items():
        for name, hour, state in zip(("on", "off"), switched, (1, 0), strict=True):
            condition = wntr.network.controls.TimeOfDayCondition(model, "is", f"{hour:02d}:00:00")
            action = wntr.network.controls.ControlAction(model.get_link(link), "status", state)
            model.add_control(f"{link} {name}", wntr.network.controls.Control(condition, action))
    begins = scenario.start.timestamp() + np.arange(hours, dtype=np.float64) * 3600.0
    for number, leak in enumerate(scenario.leaks):
        model.add_pattern(f"leak-{number}", leak.at(begins))
        model.get_node(leak.junction).add_demand(0.001, f"leak-{number}")
    return model


def _place(model: wntr.network.WaterNetworkModel, name: str) -> Place:
    x, y = model.get_node(name).coordinates
    return float(x), float(y)


def _is_reported(instants: Floats, scenario: Scenario) -> npt.NDArray[np.bool_]:
    """At which instants (seconds since 1970) sensors report."""
    if scenario.sparse_until is None:
        return np.ones(len(instants), dtype=bool)
    return np.asarray((instants >= scenario.sparse_until.timestamp()) | (instants % scenario.sparse_step == 0))


def _customers(model: wntr.network.WaterNetworkModel, scenario: Scenario) -> dict[str, list[str]]:
    network, others = scenario.network, () if scenario.zone is None else scenario.zone.names
    groups: dict[str, list[str]] = {name: [] for name in network.customer_groups}
    for junction in model.junction_name_list:
        if junction in others:
            continue
        matching = (
            name
            for name, first in network.customer_groups.items()
            if not first or (junction.startswith(first) and len(junction) > 2)
        )
        groups[next(matching)].append(junction)
    return groups


def _faulty(readings: pd.DataFrame, fault: Fault) -> pd.DataFrame:
    concerned = (readings["node_id"] == fault.node_id) & readings["timestamp"].between(
        pd.Timestamp(fault.begin), pd.Timestamp(fault.end), inclusive="left"
    )
    if fault.kind == "silent":
        return readings[~concerned]
    column = "pressure" if fault.node_id.startswith("pressure") else "flow_rate"
    if fault.kind == "stuck":
        readings.loc[concerned, column] = readings.loc[concerned, column].iloc[0]
    elif fault.kind == "negative":
        readings.loc[concerned, column] *= -1
    elif fault.kind == "clock":
        # Until it is set right, each reading is sent with an instant an hour before, at which others were sent already.
        late = readings[concerned]
        late = late.assign(timestamp=late["timestamp"] - pd.Timedelta(hours=1))
        readings = pd.concat([readings[~concerned], late], ignore_index=True)
    else:
        every_fourth = readings.index[concerned][::4]
        # Ten times a pressure would be no possible one.
        readings.loc[every_fourth, column] *= 10 if column == "flow_rate" else 1.5
    return readings
