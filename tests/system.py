"""A whole system made by keyword: readings in the warehouse, real service processes, rows read back."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson
import pandas as pd
from sqlalchemy import Engine

from src.db.tables import SCHEMA
from src.processing.ingest.plan import plan_cycle
from src.processing.jobs import records as jobs
from src.processing.jobs.runtime import create_runtime
from src.processing.service.finish import finish
from src.processing.service.work import work_off
from src.quickstart.datasets import Dataset, load
from src.quickstart.engines import end
from src.settings import Settings

START = datetime(2023, 5, 1, tzinfo=UTC)
KEY = ["node_id", "time_window", "window_start"]


def readings_of(
    nodes: list[str], days: float = 2, minutes: float = 5, start: datetime = START, seed: int = 1
) -> pd.DataFrame:
    """Regular readings of flow, pressure and temperature that arrive as they are measured."""
    count = int(days * 1440 / minutes)
    random = np.random.default_rng(seed)
    frames = []
    for node_id in nodes:
        instants = pd.date_range(start, periods=count, freq=pd.Timedelta(minutes=minutes))
        flow, pressure = random.uniform(1, 50, count), random.uniform(2, 6, count)
        frames.append(
            pd.DataFrame(
                {
                    "timestamp": instants,
                    "node_id": node_id,
                    "flow_rate": flow,
                    "pressure": pressure,
                    "temperature": 14.5,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def silent(readings: pd.DataFrame, node_id: str, first: datetime, last: datetime) -> pd.DataFrame:
    """The readings without those of a node within [first, last)."""
    at = readings["timestamp"]
    return readings[~((readings["node_id"] == node_id) & at.between(first, last, inclusive="left"))]


def put(settings: Settings, readings: pd.DataFrame) -> None:
    """Makes the warehouse hold exactly these readings."""
    load(settings, Dataset(readings, [], START))


def run_cycle(settings: Settings, as_of: datetime) -> dict[str, Any]:
    """A cycle within this process, without the queue; the job's row."""
    runtime = create_runtime(settings)
    job_id = jobs.claim_by_hand(runtime.database, jobs.CYCLE, "cycle", as_of, "test")
    for number in plan_cycle(runtime, job_id, as_of):
        work_off(runtime, job_id, number)
    finish(runtime, job_id)
    job = jobs.describe(runtime.database, job_id)
    runtime.database.dispose()
    runtime.redis.close()
    return job


def table(database: Engine, name: str) -> pd.DataFrame:
    with database.connect() as connection:
        return pd.read_sql_table(name, connection, SCHEMA)


def metrics(database: Engine) -> pd.DataFrame:
    """Every window, in order, without the instant at which it was computed."""
    return table(database, "computed_metrics").drop(columns="computed_at").sort_values(KEY, ignore_index=True)


def environment(settings: Settings, **changed: object) -> dict[str, str]:
    """The settings as a process gets them."""
    values = settings.model_dump(exclude_unset=True, exclude={"postgres_password", "redis_password"}) | changed
    inherited = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    texts = {
        name.upper(): value if isinstance(value, str) else orjson.dumps(value).decode()
        for name, value in values.items()
    }
    return inherited | texts | {"LOG_FORMAT": "json"}


@contextmanager
def process(module: str, *arguments: str, settings: Settings, **changed: object) -> Iterator[subprocess.Popen[bytes]]:
    """A module of the product as a process of its own, ended with the block."""
    # Not pipes: nobody reads them, and a full one stops the process.
    with tempfile.TemporaryFile() as output:
        started = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=environment(settings, **changed),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield started
        finally:
            end(started)
            output.seek(0)
            # Shown by pytest where a test fails.
            sys.stderr.write(output.read()[-4000:].decode(errors="replace"))


def run(module: str, *arguments: str, settings: Settings, **changed: object) -> subprocess.CompletedProcess[str]:
    """A command of the product, to its end."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=environment(settings, **changed),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def once(settings: Settings, **changed: object) -> subprocess.CompletedProcess[str]:
    return run("src.processing.service.main", "--once", settings=settings, **changed)


def eventually(condition: Callable[[], Any], seconds: float = 90) -> Any:
    """What the condition gives when it first holds; fails where it never does."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)
    return found
