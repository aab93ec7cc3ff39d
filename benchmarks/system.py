"""A throw-away system with made-up readings, for measuring."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import pandas as pd
from sqlalchemy import create_engine, make_url, text

from src.db.engines import create_database_engine
from src.db.migrate import migrate
from src.quickstart import engines
from src.quickstart.datasets import Dataset, load
from src.settings import Settings

START = datetime(2023, 5, 1, tzinfo=UTC)


def readings(nodes: int, count: int) -> pd.DataFrame:
    """Flow, pressure and temperature of so many nodes, every five minutes, so many times each."""
    random = np.random.default_rng(1)
    total = nodes * count
    instants = np.tile(pd.date_range(START, periods=count, freq="5min").to_numpy(), nodes)
    return pd.DataFrame(
        {
            "timestamp": pd.Series(instants).dt.tz_localize("UTC") if instants.dtype.kind == "M" else instants,
            "node_id": np.repeat([f"node-{n:04d}" for n in range(nodes)], count),
            "flow_rate": random.gamma(4.0, 3.0, total),
            "pressure": random.normal(4.0, 0.3, total).clip(0, 10),
            "temperature": random.normal(14.0, 1.0, total),
        }
    )


@contextmanager
def database_on(url: str) -> Iterator[dict[str, str]]:
    """An empty database of its own on a server that is there already, gone afterwards; as settings."""
    at, name = make_url(url), f"bench_{uuid4().hex[:8]}"
    if at.password:
        # Drivers look here where the settings name no password, in the processes that are measured as well.
        os.environ["PGPASSWORD"] = str(at.password)
    admin = create_engine(at, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    address = {"postgres_host": at.host, "postgres_port": at.port or 5432, "postgres_user": at.username}
    try:
        yield {key: str(value) for key, value in address.items()} | {"postgres_db": name}
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


@contextmanager
def system(frame: pd.DataFrame, **settings: str) -> Iterator[dict[str, str]]:
    """A migrated system whose warehouse holds the frame; yields the environment of its processes.

    Its database is on the server of TEST_TIMESCALE_URL, where that names one.
    """
    on_timescale = os.environ.get("TEST_TIMESCALE_URL")
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with (
            database_on(on_timescale) if on_timescale else engines.postgres(folder / "postgres") as database,
            engines.redis(folder / "redis") as cache,
            engines.bigquery(folder / "bigquery") as warehouse,
        ):
            said = database | cache | warehouse | settings
            loaded = Settings(**said)  # type: ignore[arg-type]
            load(loaded, Dataset(frame, [], START))
            migrate(create_database_engine(loaded), loaded)
            yield dict(os.environ) | {key.upper(): value for key, value in said.items()} | {"LOG_FORMAT": "json"}


@contextmanager
def process(arguments: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process that ends with the block."""
    started = subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield started
    finally:
        engines.end(started)


def peak_mb(pid: int) -> float:
    """The most memory (MB, resident) that a running process has had so far; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM")), 0.0)
