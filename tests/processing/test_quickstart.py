"""The quickstart as a new user runs it, and the sample data it brings."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import psutil
import pytest

from src.domain import set_points
from src.domain.pressure import leakage_relation, mean_pressure
from src.processing.nodes import Node
from src.quickstart import engines, simulation

# Of 24 nodes: eight weeks of quarters, then four of five minutes less the sixteen hours for which a sensor was silent.
READINGS = 24 * 28 * 288 - 16 * 12 + 24 * 56 * 96


def quickstart(data: Path, *arguments: str, port: int | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "src.quickstart.main", "--once", "--data", str(data), *arguments]
    environment = os.environ | {"API_PORT": str(port or engines.free_port())}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800, check=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the quickstart's data stay."""
    folder = tmp_path_factory.mktemp("quickstart")
    # The embedded PostgreSQL may run as another user, who must be able to come here.
    for above in (folder, *folder.parents[:2]):
        above.chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def first(data: Path) -> subprocess.CompletedProcess[str]:
    """The first start of all."""
    ended = quickstart(data, "--dataset", "network")
    assert ended.returncode == 0, ended.stderr[-4000:]
    return ended


@pytest.fixture(scope="module")
def simulated() -> tuple[pd.DataFrame, list[Node]]:
    """The network with its weeks before, as the quickstart loads it."""
    readings, nodes, _ = simulation.simulate(scenario=simulation.FIRST_DAY)
    return readings, nodes


def summary_of(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    summary: dict[str, Any] = orjson.loads(ended.stdout.splitlines()[-1])
    return summary


def test_the_first_start_processes_the_sample_data(first: subprocess.CompletedProcess[str]):
    summary = summary_of(first)
    assert (summary["dataset"], summary["nodes"]) == ("network", 24)
    assert summary["readings_ingested"] == summary["windows"]["5min"] == READINGS
    assert "Tank 1" in first.stderr


def test_where_to_look_is_shown_before_what_takes_long_and_the_dashboard_first_of_all(
    first: subprocess.CompletedProcess[str],
):
    summary = summary_of(first)
    assert summary["dashboard"] == f"{summary['api']}/dashboard"
    lines = first.stderr.splitlines()
    places = [
        next(place for place, line in enumerate(lines) if line.strip().startswith(beginning))
        for beginning in (f"Dashboard      {summary['dashboard']}", "API ", "Documentation", "API key", "Reading nodes")
    ]
    assert places == sorted(places)


def test_on_the_first_day_there_are_forecasts_detectors_in_shadow_and_a_recommendation(
    first: subprocess.CompletedProcess[str],
):
    summary = summary_of(first)
    # Forecasts of inlets and of customers and the relation of leakage to pressure; two districts' detectors.
    assert summary["models"] == {"active": 3, "shadow": 2}
    # The next week of every node with flow.
    assert summary["predictions"] == 7 * 168
    lines = [line.strip() for line in first.stderr.splitlines()]
    for scope in ("consumption", "inlet"):
        forecast = next(line for line in lines if line.startswith("Forecast ") and f" {scope}: active" in line)
        assert "usual flow" in forecast
    assert {line.split()[1] for line in lines if line.startswith("Detector ")} == {"hill:", "net3:"}
    recommended = next(line for line in lines if line.startswith("Set-points") and "hill: would save" in line)
    assert "m³ a day" in recommended
    # What is not recommended is refused with its reason.
    assert any("net3: none recommended: 2 inlets feed the district" in line for line in lines)


def test_a_second_start_goes_on_where_the_first_was_trains_nothing_again_and_leaves_no_process(
    data: Path, first: subprocess.CompletedProcess[str]
):
    second = quickstart(data, "--dataset", "network")
    summary = summary_of(second)
    assert (summary["readings_ingested"], summary["nodes"], summary["jobs"]) == (0, 24, 1)
    assert summary["models"] == summary_of(first)["models"]
    assert summary["predictions"] == 7 * 168
    left = [
        process for process in psutil.process_iter(["cmdline"]) if str(data) in " ".join(process.info["cmdline"] or [])
    ]
    assert left == []


def test_a_taken_port_gives_one_clear_line(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = quickstart(tmp_path, port=taken.getsockname()[1])
    assert ended.returncode == 1
    assert "cannot be used" in ended.stderr.strip().splitlines()[-1]
    assert "set API_PORT" in ended.stderr.strip().splitlines()[-1]


def test_the_simulated_network_loses_exactly_the_water_of_its_leaks():
    readings, nodes, _ = simulation.simulate()
    flow = readings.pivot(index="timestamp", columns="node_id", values="flow_rate")
    role = {node.node_id: node.role for node in nodes}
    supplied = flow[[name for name in flow if role[name] == "inlet" and name != "inlet-lake"]].sum().sum()
    # The lake's meter shows a few spikes, which are no water.
    lake = flow["inlet-lake"].where(flow["inlet-lake"] < 1000).interpolate().sum()
    consumed = flow[[name for name in flow if role[name] == "consumption"]].sum().sum()
    hours = flow.index.floor("h").as_unit("s").astype("int64").to_numpy().astype(float)
    leaked = sum(leak.at(hours).sum() for leak in simulation.LEAKS)
    pressure = readings.pivot(index="timestamp", columns="node_id", values="pressure")
    diameters = {"tank-1": 25.908, "tank-2": 15.24, "tank-3": 49.9872}
    stored = sum(
        (pressure[tank].iloc[-1] - pressure[tank].iloc[0]) / simulation.BAR_PER_METRE * 3.14159 * (width / 2) ** 2
        for tank, width in diameters.items()
    )
    litres_per_second = stored * 1000 / simulation.STEP
    assert leaked > 0.005 * consumed
    assert supplied + lake == pytest.approx(consumed + leaked + litres_per_second, rel=0.002)


def test_before_the_last_four_weeks_sensors_report_by_the_quarter(simulated: tuple[pd.DataFrame, list[Node]]):
    readings, nodes = simulated
    assert len(readings) == READINGS
    per_node = readings.groupby("node_id")["timestamp"]
    assert set(per_node.min()) == {pd.Timestamp(simulation.FIRST_DAY.start)}
    early = readings[readings["timestamp"] < simulation.START]
    assert set(early["timestamp"].dt.minute) == {0, 15, 30, 45}
    assert set(readings["node_id"]) == {node.node_id for node in nodes}


def test_every_node_has_a_place_of_its_own_within_a_town(simulated: tuple[pd.DataFrame, list[Node]]):
    places = [(node.latitude, node.longitude) for node in simulated[1]]
    assert len(set(places)) == len(places)
    latitudes, longitudes = (np.array(axis, dtype=float) for axis in zip(*places, strict=True))
    assert 0.02 < np.ptp(latitudes) < 0.2
    assert 0.02 < np.ptp(longitudes) < 0.2
    district = {node.node_id: node.district_id for node in simulated[1]}
    assert set(district.values()) == {"net3", "hill"}


def test_leakage_of_the_district_behind_the_valve_follows_its_pressure_as_it_was_made(
    simulated: tuple[pd.DataFrame, list[Node]],
):
    zone = simulation.FIRST_DAY.zone
    assert zone is not None
    readings = simulated[0][simulated[0]["district_id"] == zone.district_id]
    flow, pressure, lowest = (
        readings.pivot(index="timestamp", columns="node_id", values=name)
        .resample("h")
        .agg(how)
        .tz_convert("Europe/Rome")
        for name, how in (("flow_rate", "mean"), ("pressure", "mean"), ("pressure", "min"))
    )
    within = [name for name in pressure if str(name).startswith("pressure-")]
    assert len(within) == len(zone.sensors)
    mean, error = mean_pressure(pressure[within])
    hours = pd.DataFrame({"set_point": pressure["inlet-hill"], "pressure": mean})
    nights = hours.assign(inflow=flow["inlet-hill"], use=flow["customers-hill"])
    nights = nights[np.isin(nights.index.hour, (2, 3))]
    nights = nights.groupby(nights.index.tz_localize(None).normalize()).mean()
    tried = nights["set_point"] < 0.97 * zone.set_point * simulation.BAR_PER_METRE
    assert 0.25 < tried.mean() < 0.5
    relation = leakage_relation(nights, True, error)
    assert relation.lower < zone.exponent < relation.upper
    found = set_points.schedule(relation, hours, lowest[within])
    assert 0 < found.saving_lower < found.saving < found.leakage
    # Nobody is short of pressure while set-points are tried.
    assert lowest[within].min().min() > set_points.MINIMUM_PRESSURE
