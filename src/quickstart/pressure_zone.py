"""A district behind a pressure-reducing valve, as part of a simulated network: customers, and leaks that follow
pressure.

Leaks are EPANET's emitters: at every junction a flow of coefficient * pressure ** exponent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import wntr

from src.quickstart.places import Place

Floats = npt.NDArray[np.float64]
# Demand by the hour, of its mean.
_DAY = (
    *(0.35, 0.28, 0.24, 0.25, 0.40, 0.85, 1.45, 1.70, 1.45, 1.20, 1.10, 1.15),
    *(1.30, 1.20, 1.00, 0.95, 1.05, 1.30, 1.55, 1.60, 1.30, 0.95, 0.75, 0.60),
)
# What the set-point is in a night, of the usual one, and how often.
_TRIED, _HOW_OFTEN = (1.0, 0.94, 0.88), (0.6, 0.2, 0.2)
# The hours (UTC) of a night: from the evening before on.
_NIGHT = (-1, 5)


@dataclass(frozen=True)
class PressureZone:
    """A district that a junction of the network feeds through a valve.

    Attributes:
        district_id: its name, with which those of its junctions begin.
        fed_by: the junction of the network.
        set_point: usual pressure behind the valve, m; it was tried 6 % and 12 % lower in some nights.
        demand: of all customers on average, L/s.
        leakage: of all leaks at 40 m, L/s.
        exponent: of leaks by pressure.
        junctions: how many it has.
        highest: how far they lie above the valve at most, m.
        sensors: the numbers of the junctions with a pressure sensor.
    """

    district_id: str = "hill"
    fed_by: str = "119"
    set_point: float = 42.0
    demand: float = 8.0
    leakage: float = 3.0
    exponent: float = 1.1
    junctions: int = 12
    highest: float = 8.0
    sensors: tuple[int, ...] = (2, 5, 8, 11)

    @property
    def valve(self) -> str:
        """The link whose flow is the district's inflow."""
        return f"{self.district_id}-valve"

    @property
    def inlet(self) -> str:
        """The junction behind the valve."""
        return f"{self.district_id}-inlet"

    def junction(self, number: int) -> str:
        """The name of a junction."""
        return f"{self.district_id}-{number}"

    @property
    def names(self) -> tuple[str, ...]:
        """All its junctions."""
        return (self.inlet, *(self.junction(number) for number in range(self.junctions)))


def build(model: wntr.network.WaterNetworkModel, zone: PressureZone, days: int, seed: int) -> Floats:
    """Adds the district to a network whose patterns go by the hour.

    Args:
        days: that are simulated.
        seed: of what customers do and of the nights in which set-points were tried; the pipes are always the same.

    Returns:
        What its customers use in each hour, L/s.
    """
    pipes, habits = np.random.default_rng(1), np.random.default_rng([seed, 1])
    ground = model.get_node(zone.fed_by).elevation
    use = np.tile(_DAY, days) * np.repeat(1 + 0.03 * habits.standard_normal(days), 24)
    use = use * (1 + 0.04 * habits.standard_normal(days * 24))
    model.add_pattern(zone.district_id, use)
    model.options.hydraulic.emitter_exponent = zone.exponent
    places = _places(model, zone, pipes)
    model.add_junction(zone.inlet, elevation=ground, coordinates=places[0])
    model.add_valve(zone.valve, zone.fed_by, zone.inlet, 0.3, "PRV", initial_setting=zone.set_point)
    shares, leaks = pipes.uniform(0.5, 1.5, zone.junctions), pipes.uniform(0.3, 1.7, zone.junctions)
    shares, leaks = shares / shares.sum(), leaks / leaks.sum()
    for number in range(zone.junctions):
        model.add_junction(
            zone.junction(number),
            base_demand=zone.demand * shares[number] / 1000,
            demand_pattern=zone.district_id,
            # The farther, the higher.
            elevation=ground + zone.highest * number / (zone.junctions - 1),
            coordinates=places[1 + number],
        )
        coefficient = zone.leakage * leaks[number] / 1000 / 40**zone.exponent
        model.get_node(zone.junction(number)).emitter_coefficient = coefficient
        behind = zone.inlet if number == 0 else zone.junction(max(0, number - int(pipes.integers(1, 4))))
        length, diameter = (200, 0.2) if number == 0 else (float(pipes.uniform(100, 300)), 0.15)
        model.add_pipe(f"{zone.district_id}-pipe-{number}", behind, zone.junction(number), length, diameter, 120)
    _vary(model, zone, habits.choice(_TRIED, days, p=_HOW_OFTEN) * zone.set_point)
    return zone.demand * use


def _vary(model: wntr.network.WaterNetworkModel, zone: PressureZone, set_points: Floats) -> None:
    """Sets the valve for the nights in which another set-point was tried, and back in the morning."""
    controls = wntr.network.controls
    for day in np.flatnonzero(set_points != zone.set_point):
        for hour, set_point in zip(_NIGHT, (float(set_points[day]), zone.set_point), strict=True):
            action = controls.ControlAction(model.get_link(zone.valve), "setting", set_point)
            condition = controls.SimTimeCondition(model, "=", max(int(day) * 24 + hour, 0) * 3600)
            model.add_control(f"{zone.valve} on day {day} from {hour} h", controls.Control(condition, action))


def _places(model: wntr.network.WaterNetworkModel, zone: PressureZone, random: np.random.Generator) -> list[Place]:
    """Where the inlet and the junctions lie: away from the middle of the network, in rows."""
    x, y = model.get_node(zone.fed_by).coordinates
    every = np.array([model.get_node(name).coordinates for name in model.node_name_list])
    away = np.array([x, y]) - every.mean(axis=0)
    away = away / np.hypot(*away)
    across = np.array([-away[1], away[0]])
    found = [np.array([x, y]) + 0.6 * away]
    for number in range(zone.junctions):
        row, place = divmod(number, 3)
        found.append(found[0] + (row + 1) * away + (place - 1) * across + random.uniform(-0.25, 0.25, 2))
    return [(float(one[0]), float(one[1])) for one in found]
