"""The product's own processes as the quickstart starts and stops them, and the environment they get."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.quickstart import engines
from src.quickstart.place import Trouble
from src.quickstart.report import ask
from src.settings import Settings


def settings_of(addresses: dict[str, str], port: int) -> dict[str, str]:
    """The settings of both services, by name: the engines' addresses, and what suits sample data.

    Args:
        addresses: of the engines, as `engines` yields them.
        port: of the API.
    """
    environment = addresses | {"api_port": str(port), "chunk_readings": "25000"}
    # The stand-in shares a small machine with a cycle and a training: it answers, if late.
    environment["bigquery_timeout_seconds"] = "900"
    # Whoever writes a dashboard tries it here first.
    environment["api_cors_origins"] = os.environ.get("API_CORS_ORIGINS", "")
    # Nobody but this machine can ask, however often it likes.
    environment |= dict.fromkeys(
        ("api_requests_per_minute_and_key", "api_requests_per_minute_and_address"), "1000000000"
    )
    # Nothing of the sample data is to be forgotten, however long ago it was measured.
    environment |= dict.fromkeys(("retention_metrics_days", "retention_balances_days", "retention_jobs_days"), "36500")
    return environment


@contextmanager
def running(
    module: str, environment: dict[str, str], log: Path, *arguments: str, niceness: int = 0
) -> Iterator[subprocess.Popen[bytes]]:
    """A module of the product as a process, which ends with the block.

    Args:
        environment: settings by name.
        log: takes what it writes, after what it holds.
        niceness: how far it stands back where processors are scarce, as `nice` has it.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["nice", "-n", str(niceness), sys.executable, "-m", module, *arguments],
            env=_environment(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        engines.end(process)


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Waits until the API at this URL answers.

    Raises:
        Trouble: where its process ends, or half a minute passes.
    """
    deadline = time.monotonic() + 30
    while ask(f"{url}/ready") is None:
        if process.poll() is not None or time.monotonic() > deadline:
            raise Trouble(f"The API did not start; {log} says why.")
        time.sleep(0.1)


def _environment(settings: dict[str, str]) -> dict[str, str]:
    """This process's environment with the settings of the quickstart, which win."""
    inherited = {name: value for name, value in os.environ.items() if name.lower() not in Settings.model_fields}
    return inherited | {name.upper(): value for name, value in settings.items()} | {"LOG_FORMAT": "json"}
