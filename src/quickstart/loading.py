"""The data set on its way into the stand-in and the database, and through the first cycle of the real service."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
from rich.progress import Progress, TaskID
from sqlalchemy import Engine, Row, func, select

from src.db.engines import create_database_engine
from src.db.migrate import migrate
from src.db.tables import computed_metrics, node_habits, processing_jobs
from src.processing.jobs import records as jobs
from src.processing.nodes import import_nodes
from src.quickstart.datasets import Dataset, load, load_weather
from src.quickstart.place import Trouble
from src.quickstart.report import job_ids
from src.quickstart.services import running
from src.settings import Settings

WEEK = timedelta(weeks=1)


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


class Cycle:
    """One cycle of the real service, with its own progress shown: what is read, then what is concluded from it."""

    def __init__(self, progress: Progress, database: Engine, environment: dict[str, str], folder: Path) -> None:
        self._progress, self._database, self._log = progress, database, folder / "processing.log"
        self._environment = environment
        # The clock of each start begins where the data end: an earlier start's jobs may seem newer than this one's.
        self._earlier = job_ids(database)
        self._reading = progress.add_task("Reading nodes", total=None)
        self._concluding: TaskID | None = None
        self._weeks: tuple[datetime, float] | None = None
        self._job: Row[Any] | None = None
        self._service: subprocess.Popen[bytes] | None = None

    def start(self, started: ExitStack) -> None:
        """Starts its process, which ends with the stack."""
        # A training beside it comes first: its forecasts wait for no conclusions.
        starting = running("src.processing.service.main", self._environment, self._log, "--once", niceness=10)
        self._service = started.enter_context(starting)

    @property
    def has_read(self) -> bool:
        """Whether all windows are written: what is left are conclusions."""
        return self._concluding is not None

    def is_over(self) -> bool:
        """Whether it has ended; shows how far it is.

        Raises:
            Trouble: where it failed.
        """
        assert self._service is not None
        code = self._service.poll()
        column = processing_jobs.c
        cycle = select(processing_jobs).where(column.job_type == jobs.CYCLE, column.job_id.not_in(self._earlier))
        with self._database.connect() as connection:
            job = connection.execute(cycle.order_by(column.created_at.desc()).limit(1)).one_or_none()
        if code is not None:
            if code or job is None:
                raise Trouble(f"Processing failed: {job.error_message if job else ''} See {self._log}")
            if self._concluding is None or self._weeks is None:
                self._progress.update(self._reading, total=1, completed=1)
            else:
                weeks = self._weeks[1]
                self._progress.update(self._concluding, total=weeks, completed=weeks)
            return True
        if job is not None and job.status == "running":
            done = job.processed_items + job.failed_items
            self._progress.update(self._reading, total=job.total_items or None, completed=done)
            if job.total_items and done >= job.total_items:
                self._conclude()
        return False

    def _conclude(self) -> None:
        """Shows which week events are judged in: what takes long of the conclusions."""
        with self._database.connect() as connection:
            judged = connection.scalar(select(func.max(node_habits.c.valid_from)))
            if self._weeks is None:
                daily = computed_metrics.c.time_window == "1day"
                first, last = (
                    connection.scalar(select(f(computed_metrics.c.window_start)).where(daily))
                    for f in (func.min, func.max)
                )
                self._weeks = first, (last - first) / WEEK
                self._concluding = self._progress.add_task("Balances and events, by week", total=None)
        first, weeks = self._weeks
        if self._concluding is not None and judged is not None:
            self._progress.update(self._concluding, total=weeks, completed=min((judged - first) / WEEK, weeks))
