"""The quickstart as a new user runs it, and the sample data it brings."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import orjson
import psutil
import pytest

from src.quickstart import engines, simulation


def quickstart(data: Path, *arguments: str, port: int | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "src.quickstart.main", "--once", "--data", str(data), *arguments]
    environment = os.environ | {"API_PORT": str(port or engines.free_port())}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_it_processes_the_sample_data_goes_on_where_it_was_and_leaves_no_process(tmp_path: Path):
    # The embedded PostgreSQL may run as another user, who must be able to come here.
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    first = quickstart(tmp_path, "--dataset", "network")
    assert first.returncode == 0, first.stderr[-2000:]
    told = orjson.loads(first.stdout.splitlines()[-1])
    assert (told["dataset"], told["nodes"], told["jobs"]) == ("network", 18, 1)
    # Four weeks of five minutes less the sixteen hours for which a sensor was silent.
    assert told["readings_ingested"] == told["windows"]["5min"] == 18 * 28 * 288 - 16 * 12
    assert "Tank 1" in first.stderr
    second = orjson.loads(quickstart(tmp_path, "--dataset", "network").stdout.splitlines()[-1])
    assert (second["readings_ingested"], second["nodes"]) == (0, 18)
    left = [
        process
        for process in psutil.process_iter(["cmdline"])
        if str(tmp_path) in " ".join(process.info["cmdline"] or [])
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
