"""The data set on its way into the stand-in and the database, and through the first cycle of the real service."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import orjson
from rich.progress import Progress
from sqlalchemy import Engine, select

from src.db.engines import create_database_engine
from src.db.migrate import migrate
from src.db.tables import processing_jobs
from src.processing.jobs import records as jobs
from src.processing.nodes import import_nodes
from src.quickstart.datasets import Dataset, load, load_weather
from src.quickstart.place import Trouble
from src.quickstart.services import running
from src.settings import Settings


def load_once(environment: dict[str, str], folder: Path, dataset_of: Callable[[], Dataset]) -> dict[str, str]:
    """Loads a data set, if this folder's engines do not hold it yet.

    Args:
        environment: settings by name.
        dataset_of: makes the data set where it is needed.

    Returns:
        The further settings that belong to the data set. Both services live at its end, so that "the last 24 hours"
        hold data.
    """
    loaded = folder / "loaded.json"
    if not loaded.exists():
        dataset = dataset_of()
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
    known: dict[str, str] = orjson.loads(loaded.read_bytes())
    end = datetime.fromisoformat(known.pop("end"))
    return known | {"clock": f"ticking:{end.isoformat()}@{datetime.now(UTC).isoformat()}"}


def process(progress: Progress, database: Engine, environment: dict[str, str], folder: Path) -> None:
    """One cycle of the real service, with its own progress shown.

    Raises:
        Trouble: where it fails.
    """
    bar = progress.add_task("Processing nodes", total=None)
    log = folder / "processing.log"
    newest = select(processing_jobs).where(processing_jobs.c.job_type == jobs.CYCLE)
    newest = newest.order_by(processing_jobs.c.created_at.desc()).limit(1)
    with running("src.processing.service.main", environment, log, "--once") as service:
        while service.poll() is None:
            with database.connect() as connection:
                job = connection.execute(newest).one_or_none()
            if job is not None and job.status == "running":
                progress.update(bar, total=job.total_items, completed=job.processed_items + job.failed_items)
            time.sleep(0.1)
    with database.connect() as connection:
        job = connection.execute(newest).one_or_none()
    if service.returncode or job is None:
        raise Trouble(f"Processing failed: {job.error_message if job else ''} See {log}")
    progress.update(bar, total=max(job.total_items, 1), completed=max(job.total_items, 1))
