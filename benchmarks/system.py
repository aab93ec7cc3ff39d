"""A throw-away system with made-up readings, for measuring."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import orjson
import pandas as pd
import redis
from sqlalchemy import Engine, create_engine, make_url, text

from src.db.engines import create_database_engine
from src.db.migrate import migrate
from src.db.tables import SCHEMA
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
            values = database | cache | warehouse | settings
            loaded = Settings(**values)  # type: ignore[arg-type]
            load(loaded, Dataset(frame, [], START))
            migrate(create_database_engine(loaded), loaded)
            # As in the images.
            process = {"LOG_FORMAT": "json", "MALLOC_ARENA_MAX": "2"}
            yield dict(os.environ) | {key.upper(): value for key, value in values.items()} | process


def database_of(environment: dict[str, str]) -> Engine:
    """The database of a system, by the environment of its processes."""
    address = {name.lower(): value for name, value in environment.items() if name.startswith("POSTGRES_")}
    return create_database_engine(Settings(**address))  # type: ignore[arg-type]


def worked_off(environment: dict[str, str], most_seconds: float) -> dict[str, Any]:
    """The row of the job by which the service works off everything, as on the day it is installed.

    Raises:
        SystemExit: if it does not complete.
    """
    ran = subprocess.run(
        [sys.executable, "-m", "src.processing.service.main", "--once"],
        env=environment, capture_output=True, timeout=most_seconds, check=False,
    )  # fmt: skip
    job: dict[str, Any] = orjson.loads(ran.stdout.splitlines()[-1]) if ran.stdout else {}
    if job.get("status") != "completed" or job.get("error_message"):
        raise SystemExit(f"the service failed: {job.get('error_message')}\n{ran.stderr.decode()[-2000:]}")
    return job


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


class Engines:
    """PostgreSQL, Redis and the warehouse of one run, which can be taken away and come back where they were.

    The database is on the server of TEST_TIMESCALE_URL, where that names one.
    """

    def __init__(self, folder: Path, stack: ExitStack, **settings: object) -> None:
        self._folder, self._stack = folder, stack
        self._open: dict[str, AbstractContextManager[dict[str, str]]] = {}
        self._ports = (engines.free_port(), engines.free_port())
        self.settings = Settings(
            **(self._postgres() | self._start("redis") | self._start("warehouse")),  # type: ignore[arg-type]
            **settings,  # type: ignore[arg-type]
        )
        stack.callback(self._stop_all)

    def _postgres(self) -> dict[str, str]:
        on_timescale = os.environ.get("TEST_TIMESCALE_URL")
        return self._stack.enter_context(database_on(on_timescale)) if on_timescale else self._start("postgres")

    def _start(self, name: str) -> dict[str, str]:
        makers: dict[str, Callable[[Path], AbstractContextManager[dict[str, str]]]] = {
            "postgres": engines.postgres,
            "redis": engines.redis,
            "warehouse": lambda folder: engines.bigquery(folder, ports=self._ports),
        }
        self._open[name] = makers[name](self._folder / name)
        return self._open[name].__enter__()

    def _stop(self, name: str) -> None:
        self._open.pop(name).__exit__(None, None, None)

    def _stop_all(self) -> None:
        for name in list(self._open):
            self._stop(name)

    def restart_postgres(self) -> None:
        """Ends every session, and where the server is this run's own, the server."""
        if "postgres" in self._open:
            self._stop("postgres")
            self._start("postgres")
            return
        admin = create_engine(str(os.environ["TEST_TIMESCALE_URL"]))
        with admin.connect() as connection:
            sessions = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
            connection.execute(sessions, {"name": self.settings.postgres_db})
        admin.dispose()

    def flush_redis(self) -> None:
        with redis.Redis(host=self.settings.redis_host, port=self.settings.redis_port) as client:
            client.flushall()

    def stop_warehouse(self) -> None:
        self._stop("warehouse")

    def start_warehouse(self) -> None:
        self._start("warehouse")


def comparable_rows(database: Engine) -> dict[str, set[str]]:
    """What cycles left, as texts by table, without random ids and the instants at which rows were written."""
    without = {
        "computed_metrics": ["computed_at"],
        "network_efficiency": ["computation_timestamp"],
        "district_balances": [],
        "nodes": ["created_at", "updated_at"],
    }
    only = {
        "ingestion_watermarks": ["node_id", "last_row", "last_reading"],
        "anomalies": ["node_id", "anomaly_type", "measurement_type", "timestamp"],
    }
    with database.connect() as connection:
        rows = {
            name: pd.read_sql_table(name, connection, SCHEMA).drop(columns=columns) for name, columns in without.items()
        } | {name: pd.read_sql_table(name, connection, SCHEMA)[columns] for name, columns in only.items()}
    return {name: {_text_of(list(row)) for row in frame.itertuples(index=False)} for name, frame in rows.items()}


def _text_of(value: Any) -> str:
    """What must be the same; windows merged in another order differ in the last digits."""
    if isinstance(value, list):
        return "[" + ", ".join(map(_text_of, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_text_of(item)}" for key, item in sorted(value.items())) + "}"
    return f"{value:.9g}" if isinstance(value, float) else str(value)
