"""A simulated network: EPANET's Net3 for four weeks, with leaks and sensor faults that are known.

Hydraulics by wntr (EPANET 2.2). Demands follow Net3's own daily patterns with a weekly rhythm and noise; the leaks take
a known flow out of known junctions, and the sensors report with noise, every five minutes.
"""

from __future__ import annotations

import contextlib
import math
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import wntr

from src.processing.nodes import Node

START = datetime(2024, 3, 4, tzinfo=UTC)
DAYS = 28
STEP = 300
DISTRICT = "net3"
BAR_PER_METRE = 0.0980665
# Junctions with a pressure sensor, spread over the network.
PRESSURE_SENSORS = ("15", "35", "105", "119", "145", "151", "181", "195", "207", "237")
# Junctions whose customers' meters report together.
CUSTOMER_GROUPS = {"customers-north": "1", "customers-south": "2", "customers-rest": ""}

Floats = npt.NDArray[np.float64]


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
    """What a sensor reports instead of the truth: stuck (its last value), silent (nothing), spikes (ten times it)."""

    node_id: str
    kind: str
    begin: datetime
    end: datetime


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


def simulate(seed: int = 3) -> tuple[pd.DataFrame, list[Node], datetime]:
    """Readings (timestamp, node_id, district_id, flow_rate L/s, pressure bar), nodes, and the end of the span."""
    noise = np.random.default_rng(seed)
    model = _model(noise)
    # EPANET works in files, some of them wherever the process happens to be.
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        results = wntr.sim.EpanetSimulator(model).run_sim(file_prefix=str(Path(folder) / "net3"))
    # The last step belongs to the instant after the span.
    flow, pressure, demand = (
        frame.iloc[: DAYS * 86400 // STEP]
        for frame in (results.link["flowrate"] * 1000, results.node["pressure"], results.node["demand"] * 1000)
    )
    instants = START.timestamp() + np.arange(len(flow)) * float(STEP)

    nodes: list[Node] = []
    series: list[pd.DataFrame] = []

    def sensor(node_id: str, name: str, node_type: str, role: str, metadata: str = "{}", **values: Floats) -> None:
        known = {"node_id": node_id, "node_name": name, "node_type": node_type, "role": role, "metadata": metadata}
        nodes.append(Node.model_validate(known | {"district_id": DISTRICT}))
        series.append(pd.DataFrame({"timestamp": instants, "node_id": node_id} | values))

    def measured(values: pd.Series, spread: float) -> Floats:
        """What a meter with this relative noise shows."""
        return np.maximum(values.to_numpy() * (1 + spread * noise.standard_normal(len(values))), 0)

    sensor("inlet-river", "River intake", "reservoir", "inlet", flow_rate=measured(flow["60"], 0.002))
    sensor("inlet-lake", "Lake intake", "reservoir", "inlet", flow_rate=measured(flow["10"], 0.002))
    for tank in model.tank_name_list:
        level = pressure[tank] * BAR_PER_METRE
        area = math.pi * (model.get_node(tank).diameter / 2) ** 2
        known = orjson.dumps({"tank_area_m2": area}).decode()
        sensor(f"tank-{tank}", f"Tank {tank}", "storage", "storage", known, pressure=measured(level, 0.0005))
    groups = _customers(model)
    for node_id, junctions in groups.items():
        own = demand[junctions].sum(axis=1)
        own -= sum((leak.at(np.floor(instants / 3600) * 3600) for leak in LEAKS if leak.junction in junctions), 0.0)
        sensor(node_id, node_id.replace("-", " ").capitalize(), "consumption", "consumption", flow_rate=own.to_numpy())
    for junction in PRESSURE_SENSORS:
        sensor(
            f"pressure-{junction}",
            f"Pressure at {junction}",
            "monitoring",
            "monitoring",
            pressure=measured(pressure[junction] * BAR_PER_METRE, 0.001),
        )
    readings = pd.concat(series, ignore_index=True)
    readings["timestamp"] = pd.to_datetime(readings["timestamp"], unit="s", utc=True)
    for fault in FAULTS:
        readings = _faulty(readings, fault)
    return readings.assign(district_id=DISTRICT), nodes, START + timedelta(days=DAYS)


def _model(noise: np.random.Generator) -> wntr.network.WaterNetworkModel:
    folder = Path(wntr.__file__).parent / "library" / "networks"
    model = wntr.network.WaterNetworkModel(str(folder / "Net3.inp"))
    hours = DAYS * 24
    model.options.time.duration = DAYS * 86400
    model.options.time.hydraulic_timestep = model.options.time.report_timestep = STEP
    day_factor = np.where(np.arange(DAYS) % 7 >= 5, 0.93, 1.0) * (1 + 0.03 * noise.standard_normal(DAYS))
    for _, pattern in list(model.patterns()):
        daily = np.tile(pattern.multipliers, DAYS)[:hours]
        pattern.multipliers = daily * np.repeat(day_factor, 24) * (1 + 0.04 * noise.standard_normal(hours))
    # Net3's controls end after its own week: the lake's pump goes on by the time of day.
    for name in [name for name, control in list(model.controls()) if "SYSTEM TIME" in str(control)]:
        model.remove_control(name)
    pump = model.get_link("10")
    for name, hour, state in (("lake on", 1, 1), ("lake off", 15, 0)):
        condition = wntr.network.controls.TimeOfDayCondition(model, "is", f"{hour:02d}:00:00")
        action = wntr.network.controls.ControlAction(pump, "status", state)
        model.add_control(name, wntr.network.controls.Control(condition, action))
    begins = START.timestamp() + np.arange(hours, dtype=np.float64) * 3600.0
    for number, leak in enumerate(LEAKS):
        model.add_pattern(f"leak-{number}", leak.at(begins))
        model.get_node(leak.junction).add_demand(0.001, f"leak-{number}")
    return model


def _customers(model: wntr.network.WaterNetworkModel) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {name: [] for name in CUSTOMER_GROUPS}
    for junction in model.junction_name_list:
        # Three-digit names are Net3's street grid, by its two halves.
        matching = (
            n for n, first in CUSTOMER_GROUPS.items() if not first or (junction[0] == first and len(junction) > 2)
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
    else:
        every_fourth = readings.index[concerned][::4]
        readings.loc[every_fourth, column] *= 10
    return readings
