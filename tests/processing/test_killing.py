"""Killing whatever runs, in both phases of cycles: what is left is what an undisturbed run leaves.

KILLING_TIMES and KILLING_SEED set how often and in which order; `./scripts/bench.sh endurance` does it for a fortnight.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.system import Engines, comparable_rows
from src.db.engines import create_database_engine
from src.db.migrate import migrate
from src.quickstart.datasets import Dataset, load
from src.quickstart.engines import end
from tests.system import START, environment

TIMES = int(os.environ.get("KILLING_TIMES", "20"))
SEED = int(os.environ.get("KILLING_SEED", "1"))
# Enough for several chunks of readings and two shares of districts.
NODES, DISTRICT, TICKS = 270, 15, 8
HOUR, BEGIN = timedelta(hours=1), START + timedelta(days=3)
UNTIL = BEGIN + TICKS * HOUR
SETTINGS = {
    "check_interval_minutes": 60,
    "chunk_readings": 5000,
    "replica_timeout_seconds": 5,
    "bigquery_timeout_seconds": 10,
    "clock": f"stepped:{BEGIN.isoformat()}",
}


def readings() -> pd.DataFrame:
    """Hourly readings of a large network; some nodes fall silent, and one is stuck."""
    chance = np.random.default_rng(SEED)
    instants = pd.date_range(START, UNTIL, freq="h")
    frames = []
    for n in range(NODES):
        frame = pd.DataFrame({"timestamp": instants, "node_id": f"n{n:03}", "district_id": f"d{n // DISTRICT:02}"})
        frame["flow_rate"] = 10 + np.sin(instants.hour.to_numpy() / 4) + chance.normal(0, 0.2, len(instants))
        frame["pressure"] = 7.0 if n == 40 else 4 + chance.normal(0, 0.1, len(instants))
        frames.append(frame[instants < BEGIN + 2 * HOUR] if n in (7, 200) else frame)
    rows = pd.concat(frames, ignore_index=True)
    return rows.assign(ingestion_timestamp=rows["timestamp"])


class Services:
    """Two replicas that replay, started again as often as they are killed."""

    def __init__(self, parts: Engines) -> None:
        self.parts = parts
        self.running = [self._start() for _ in range(2)]

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "src.processing.service.main", "--until", UNTIL.isoformat()],
            env=environment(self.parts.settings),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def look_after(self) -> bool:
        """Starts again who was killed; whether any still has something to do."""
        for number, service in enumerate(self.running):
            if service.poll() not in (None, 0):
                self.running[number] = self._start()
        return any(service.poll() is None for service in self.running)

    def kill(self, chance: random.Random) -> None:
        victim = chance.choice(self.running)
        victim.kill()
        victim.wait()


def lived_through(
    folder: Path, rows: pd.DataFrame, times: int, within: float
) -> tuple[dict[str, set[str]], dict[str, int]]:
    """What the cycles left after something was killed so many times, spread over so many seconds; how often what was.

    The seconds are those of an undisturbed run: on a slow machine, too, a process then gets on between two blows, and
    no chunk is given up for having been begun too often.
    """
    chance, struck = random.Random(SEED), dict[str, int]()
    with ExitStack() as stack:
        parts = Engines(folder, stack, **SETTINGS)
        load(parts.settings, Dataset(rows, [], BEGIN))
        database = create_database_engine(parts.settings)
        stack.callback(database.dispose)
        migrate(database, parts.settings)
        services = Services(parts)
        stack.callback(lambda: [end(service) for service in services.running])

        def warehouse() -> None:
            parts.stop_warehouse()
            time.sleep(chance.uniform(0, 1))
            parts.start_warehouse()

        def postgres() -> None:
            database.dispose()
            parts.restart_postgres()

        strikes: dict[str, Callable[[], None]] = {
            "replica": lambda: services.kill(chance),
            "database": postgres,
            "redis": parts.flush_redis,
            "warehouse": warehouse,
        }
        while services.look_after():
            if sum(struck.values()) >= times:
                time.sleep(0.2)
                continue
            time.sleep(chance.uniform(0.2, 1.8) * within / times)
            what = chance.choice(["replica", "replica", "replica", "database", "redis", "warehouse"])
            strikes[what]()
            struck[what] = struck.get(what, 0) + 1
        try:
            return comparable_rows(database), struck
        except SQLAlchemyError:
            database.dispose()
            return comparable_rows(database), struck


def test_killed_at_random_the_cycles_leave_what_they_leave_undisturbed(tmp_path: Path):
    rows = readings()
    tmp_path.chmod(0o755)
    begun = time.monotonic()
    undisturbed, _ = lived_through(tmp_path / "undisturbed", rows, 0, 0)
    within = time.monotonic() - begun
    assert len(undisturbed["computed_metrics"]) > NODES * TICKS
    assert undisturbed["anomalies"]
    disturbed, struck = lived_through(tmp_path / "disturbed", rows, TIMES, within)
    assert sum(struck.values()) >= TIMES / 2, struck
    for name, expected in undisturbed.items():
        different = disturbed[name] ^ expected
        assert not different, (name, struck, sorted(different)[:4])
