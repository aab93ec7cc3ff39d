"""A district behind a pressure-reducing valve, by EPANET: leaks of a known exponent at every junction."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import wntr

from src.processing.nodes import Node

BAR_PER_METRE = 0.0980665
# Demand by the hour, of its mean.
_DAY = (
    *(0.30, 0.25, 0.20, 0.20, 0.30, 0.60, 1.20, 1.60, 1.50, 1.30, 1.20, 1.20),
    *(1.30, 1.30, 1.10, 1.00, 1.00, 1.20, 1.50, 1.60, 1.40, 1.00, 0.70, 0.45),
)
JUNCTIONS = 12


@dataclass(frozen=True)
class Simulated:
    """By hour from local midnight on: the valve's flow (L/s), pressure (bar) downstream of it and at every junction,
    what customers use and what leaks (L/s)."""

    inflow: pd.Series
    set_point: pd.Series
    pressure: pd.DataFrame
    use: pd.Series
    leakage: pd.Series


def simulated(
    exponent: float,
    seed: int = 1,
    days: int = 60,
    variation: float = 0.06,
    start: str = "2024-01-10",
    set_points: npt.NDArray[np.float64] | None = None,
    leak_drift: float = 0.0,
) -> Simulated:
    """A district whose set-point (45 m) differs from day to day by a share `variation`.

    Args:
        set_points: by hour of the day, m: the same ones every day, instead.
        leak_drift: leaks grow and shrink from day to day by about this share.
    """
    # The same seed is the same network, however many days it is watched.
    random, noise = np.random.default_rng(seed), np.random.default_rng(seed + 1000)
    network = wntr.network.WaterNetworkModel()
    time = network.options.time
    time.duration = days * 86400
    time.pattern_timestep = time.hydraulic_timestep = time.report_timestep = 3600
    network.options.hydraulic.emitter_exponent = exponent
    network.add_pattern("day", np.tile(_DAY, days) * (1 + 0.05 * noise.standard_normal(days * 24)))
    network.add_reservoir("source", base_head=90)
    network.add_junction("upstream")
    network.add_junction("valve")
    network.add_pipe("feed", "source", "upstream", 10, 0.4, 130)
    network.add_valve("set-point", "upstream", "valve", 0.3, "PRV", initial_setting=45)
    for number in range(JUNCTIONS):
        demand = 0.6e-3 * random.uniform(0.5, 1.5)
        height = random.uniform(0, 12)
        network.add_junction(f"j{number}", base_demand=demand, demand_pattern="day", elevation=height)
        # Half as much as is used, at 40 m.
        leak = 0.3e-3 * random.uniform(0.2, 1.8) / 40**exponent
        network.get_node(f"j{number}").emitter_coefficient = leak
    network.add_pipe("p0", "valve", "j0", 300, 0.15, 110)
    for number in range(1, JUNCTIONS):
        network.add_pipe(f"p{number}", f"j{random.integers(0, number)}", f"j{number}", random.uniform(100, 300), 0.12)
    daily = np.clip(45 * (1 + variation * noise.standard_normal(days)), 30, 60)
    hourly = np.repeat(daily, 24) if set_points is None else np.tile(set_points, days)
    for hour in np.flatnonzero(np.diff(hourly, prepend=0)):
        action = wntr.network.controls.ControlAction(network.get_link("set-point"), "setting", hourly[hour])
        condition = wntr.network.controls.SimTimeCondition(network, "=", int(hour) * 3600)
        network.add_control(f"at-{hour}", wntr.network.controls.Control(condition, action))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        results = wntr.sim.EpanetSimulator(network).run_sim(file_prefix=str(Path(folder) / "district"))
    hours = pd.date_range(start, periods=days * 24, freq="h", tz="Europe/Rome")
    pressure = results.node["pressure"].iloc[: len(hours)].set_axis(hours) * BAR_PER_METRE
    use = 1000 * sum(
        network.get_node(f"j{number}").base_demand for number in range(JUNCTIONS)
    ) * pd.Series(network.get_pattern("day").multipliers[: len(hours)], hours)  # fmt: skip
    flow = results.link["flowrate"]["set-point"].iloc[: len(hours)].set_axis(hours) * 1000
    drift = np.exp(np.cumsum(leak_drift * noise.standard_normal(days)))
    leakage = (flow - use) * np.repeat(drift, 24)
    junctions = [f"j{number}" for number in range(JUNCTIONS)]
    return Simulated(use + leakage, pressure["valve"], pressure[junctions], use, leakage)


def readings_of(district: Simulated, seed: int = 1) -> tuple[pd.DataFrame, list[Node], datetime]:
    """What four sensors and the valve report every quarter of an hour, the nodes, and the end of the span."""
    random = np.random.default_rng(seed)
    series = {"valve": {"flow_rate": district.inflow, "pressure": district.set_point}}
    series |= {name: {"pressure": district.pressure[name]} for name in list(district.pressure)[::3]}
    parts, nodes = [], []
    for node_id, values in series.items():
        frame = pd.DataFrame(values).tz_convert("UTC")
        frame = frame.loc[frame.index.repeat(4)] * (1 + 0.002 * random.standard_normal((4 * len(frame), len(values))))
        frame.index += pd.to_timedelta(np.tile([0, 15, 30, 45], len(frame) // 4), unit="min")
        parts.append(frame.rename_axis("timestamp").reset_index().assign(node_id=node_id, district_id="hill"))
        role = "inlet" if node_id == "valve" else "monitoring"
        nodes.append(Node(node_id=node_id, district_id="hill", role=role))
    end: datetime = district.inflow.index[-1].tz_convert("UTC").to_pydatetime() + timedelta(hours=1)
    return pd.concat(parts, ignore_index=True), nodes, end
