"""`./scripts/quickstart.sh`: the whole system on this machine, with sample data, until Ctrl-C."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine, func, select

from src.db import api_keys, tables
from src.db.engines import create_database_engine
from src.db.migrate import migrate
from src.db.tables import processing_jobs
from src.domain.metrics import TIME_WINDOWS
from src.processing.nodes import import_nodes
from src.quickstart import engines
from src.quickstart.datasets import DATASETS, load, load_weather
from src.quickstart.report import ask, table_of_nodes
from src.settings import Settings

console = Console(stderr=True)


class Trouble(Exception):
    """What stands in the way, in a sentence."""


def main(arguments: list[str] | None = None) -> int:
    """Starts everything, processes the sample data, serves; the exit code."""
    parser = argparse.ArgumentParser(
        prog="./scripts/quickstart.sh",
        description="Starts PostgreSQL, Redis and a BigQuery stand-in from their wheels, loads sample data, processes "
        "it and serves the API on 127.0.0.1:${API_PORT:-8000} until Ctrl-C. A page of another origin may ask it if "
        "API_CORS_ORIGINS names that.",
    )
    parser.add_argument(
        "--dataset",
        choices=DATASETS,
        default="bwdf",
        help="bwdf: inflows of ten real district metered areas; network: a simulated network with known leaks and "
        "sensor faults (default: %(default)s)",
    )
    parser.add_argument("--once", action="store_true", help="exit when the data are processed")
    parser.add_argument(
        "--data", type=Path, default=Path(".quickstart"), help="where the data stay between starts (%(default)s)"
    )
    options = parser.parse_args(arguments)
    # SIGTERM unwinds like Ctrl-C, so that no engine is left running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as started:
            _run(options, started)
    except Trouble as trouble:
        console.print(f"[red]{trouble}[/red]", highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 0 if not options.once else 130
    return 0


def _run(options: argparse.Namespace, started: ExitStack) -> None:
    begun = time.monotonic()
    port = _free_api_port()
    folder: Path = (options.data / options.dataset).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    started.enter_context(_only_user_of(folder))
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=console,
    ) as progress:  # fmt: skip
        with _step(progress, "Starting PostgreSQL, Redis and the BigQuery stand-in"):
            addresses = started.enter_context(engines.postgres(folder / "postgres"))
            addresses |= started.enter_context(engines.redis(folder / "redis"))
            addresses |= started.enter_context(engines.bigquery(folder / "bigquery"))
        environment = addresses | {"api_port": str(port), "chunk_readings": "25000"}
        # Whoever writes a dashboard tries it here first.
        environment["api_cors_origins"] = os.environ.get("API_CORS_ORIGINS", "")
        # Nobody but this machine can ask, however often it likes.
        environment |= dict.fromkeys(
            ("api_requests_per_minute_and_key", "api_requests_per_minute_and_address"), "1000000000"
        )
        # Nothing of the sample data is to be forgotten, however long ago it was measured.
        environment |= dict.fromkeys(
            ("retention_metrics_days", "retention_balances_days", "retention_jobs_days"), "36500"
        )
        loaded = folder / "loaded.json"
        if not loaded.exists():
            with _step(progress, f"Loading the dataset {options.dataset}"):
                dataset = DATASETS[options.dataset]()
                weather = {} if dataset.weather is None else {"bigquery_weather_table": "weather"}
                settings = Settings(**environment | weather)  # type: ignore[arg-type]
                database = create_database_engine(settings)
                load(settings, dataset)
                if dataset.weather is not None:
                    load_weather(settings, dataset.weather)
                migrate(database, settings)
                with database.begin() as connection:
                    import_nodes(connection, dataset.nodes)
                loaded.write_bytes(orjson.dumps({"end": dataset.end} | weather))
        known = orjson.loads(loaded.read_bytes())
        end = datetime.fromisoformat(known.pop("end"))
        environment |= known
        # Both services live at the dataset's end, so that "the last 24 hours" hold data.
        environment["clock"] = f"ticking:{end.isoformat()}@{datetime.now(UTC).isoformat()}"
        settings = Settings(**environment)  # type: ignore[arg-type]
        database = create_database_engine(settings)
        migrate(database, settings)
        key = _api_key(database, folder / "api_key")
        earlier = _job_ids(database)
        _process(progress, database, environment, folder)
        with _step(progress, "Starting the API"):
            api = started.enter_context(_service("src.api.main", environment, folder / "api.log"))
            _wait_until_ready(f"http://127.0.0.1:{port}", api, folder / "api.log")
    url = f"http://127.0.0.1:{port}"
    console.print(table_of_nodes(url, key))
    _print_urls(url, key)
    if not options.once:
        started.enter_context(_service("src.processing.service.main", environment, folder / "processing.log"))
    told = _result(database, earlier) | {"seconds": round(time.monotonic() - begun, 1), "api": url}
    sys.stdout.write(orjson.dumps({"dataset": options.dataset} | told).decode() + "\n")
    sys.stdout.flush()
    if not options.once:
        console.print(f"Logs: {folder}/api.log and processing.log. Ctrl-C stops everything.", soft_wrap=True)
        if code := api.wait():
            raise Trouble(f"The API ended with code {code}; {folder}/api.log says why.")


def _process(progress: Progress, database: Engine, environment: dict[str, str], folder: Path) -> None:
    """One cycle of the real service, with its own progress shown."""
    bar = progress.add_task("Processing nodes", total=None)
    log = folder / "processing.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "src.processing.service.main", "--once"],
            env=_environment(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        newest = select(processing_jobs).order_by(processing_jobs.c.created_at.desc()).limit(1)
        while process.poll() is None:
            with database.connect() as connection:
                job = connection.execute(newest).one_or_none()
            if job is not None and job.status == "running":
                progress.update(bar, total=job.total_items, completed=job.processed_items + job.failed_items)
            time.sleep(0.1)
    finally:
        engines.end(process)
    with database.connect() as connection:
        job = connection.execute(newest).one_or_none()
    if process.returncode or job is None:
        raise Trouble(f"Processing failed: {job.error_message if job else ''} See {log}")
    progress.update(bar, total=max(job.total_items, 1), completed=max(job.total_items, 1))


def _result(database: Engine, known: set[Any]) -> dict[str, Any]:
    """What the jobs of this start did."""
    with database.connect() as connection:
        jobs = [job for job in connection.execute(select(processing_jobs)) if job.job_id not in known]
        nodes = connection.scalar(select(func.count()).select_from(tables.nodes))
    windows = {size: sum(job.result_summary.get("windows", {}).get(size, 0) for job in jobs) for size in TIME_WINDOWS}
    readings = sum(job.result_summary.get("readings", 0) for job in jobs)
    return {"nodes": nodes, "readings_ingested": readings, "windows": windows, "jobs": len(jobs)}


def _job_ids(database: Engine) -> set[Any]:
    with database.connect() as connection:
        return set(connection.execute(select(processing_jobs.c.job_id)).scalars())


def _free_api_port() -> int:
    port = os.environ.get("API_PORT") or "8000"
    if not port.isdigit() or not 1 <= int(port) <= 65535:
        raise Trouble(f"API_PORT is '{port}': it should be a port between 1 and 65535.")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(port)))
        except OSError as error:
            raise Trouble(f"Port {port} of 127.0.0.1 cannot be used ({error.strerror}): set API_PORT.") from None
    return int(port)


@contextmanager
def _only_user_of(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Trouble(f"Another quickstart is running on {folder}: stop it, or choose another --data.") from None
        yield


@contextmanager
def _step(progress: Progress, name: str) -> Iterator[None]:
    task = progress.add_task(name, total=1)
    yield
    progress.update(task, completed=1)


@contextmanager
def _service(module: str, environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module],
            env=_environment(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        engines.end(process)


def _environment(addresses: dict[str, str]) -> dict[str, str]:
    """This process's environment with the settings of the quickstart, which win."""
    own = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    return own | {name.upper(): value for name, value in addresses.items()} | {"LOG_FORMAT": "json"}


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while ask(f"{url}/ready") is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise Trouble(f"The API did not start; {log} says why.")
        time.sleep(0.1)


def _api_key(database: Engine, file: Path) -> str:
    """The key of this quickstart: made once, kept beside its data for its owner's eyes only."""
    if not file.exists():
        with database.begin() as connection:
            key = api_keys.create(connection, "quickstart", "admin", None, "quickstart")
        file.touch(mode=0o600)
        file.write_text(key.text)
    return file.read_text()


def _print_urls(url: str, key: str) -> None:
    console.print(f"API            {url}/api/v1/dashboard/summary", highlight=False, soft_wrap=True)
    console.print(f"Documentation  {url}/docs", highlight=False, soft_wrap=True)
    console.print(f"API key        {key}", highlight=False, soft_wrap=True)
    console.print(f"Try            curl -H 'X-API-Key: {key}' {url}/api/v1/status", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
