"""`./scripts/quickstart.sh`: the whole system on this machine, with sample data, until Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from sqlalchemy import Engine

from src.db import api_keys
from src.db.engines import create_database_engine
from src.db.migrate import migrate
from src.domain.tables.table import Refusal
from src.processing.survey import print_survey
from src.quickstart import engines
from src.quickstart.datasets import DATASETS, Dataset
from src.quickstart.loading import load_once
from src.quickstart.options import parsed
from src.quickstart.place import Trouble, free_api_port, only_user_of
from src.quickstart.readings import dataset_of, folder_of
from src.quickstart.report import job_ids, print_models, print_urls, result, table_of_nodes
from src.quickstart.services import running, settings_of, wait_until_ready
from src.quickstart.training import process_and_train
from src.settings import Settings

console = Console(stderr=True)


def main(arguments: list[str] | None = None) -> int:
    """Starts everything, processes the sample data, serves; the exit code."""
    options = parsed(arguments)
    # SIGTERM unwinds like Ctrl-C, so that no engine is left running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as started:
            _run(options, started)
    except Trouble as trouble:
        console.print(str(trouble), style="red", markup=False, highlight=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        console.print("Stopped.")
        return 0 if not options.once else 130
    return 0


def _run(options: argparse.Namespace, started: ExitStack) -> None:
    begun = time.monotonic()
    port = free_api_port()
    name = folder_of(options.readings, options.mapping) if options.readings else options.dataset
    folder: Path = (options.data / name).resolve()
    started.enter_context(only_user_of(folder))
    source, named = DATASETS[options.dataset], options.dataset
    if options.readings:
        source, named = _readings_of_files(options, folder), "readings"
    with _progress() as progress:
        with _step(progress, "Starting PostgreSQL, Redis and the BigQuery stand-in"):
            addresses = started.enter_context(engines.postgres(folder / "postgres"))
            addresses |= started.enter_context(engines.redis(folder / "redis"))
            addresses |= started.enter_context(engines.bigquery(folder / "bigquery"))
        # Days of one's own readings are those of one's own zone.
        environment = settings_of(addresses, port) | {"utility_timezone": Settings().utility_timezone}
        with _step(progress, f"Loading the dataset {named}"):
            environment |= load_once(environment, folder, source)
        settings = Settings(**environment)  # type: ignore[arg-type]
        database = create_database_engine(settings)
        migrate(database, settings)
        key = _api_key(database, folder / "api_key")
        earlier = job_ids(database)
        url = f"http://127.0.0.1:{port}"
        with _step(progress, "Starting the API"):
            api = started.enter_context(running("src.api.main", environment, folder / "api.log"))
            wait_until_ready(url, api, folder / "api.log")
    print_urls(console, url, key)
    # Who looks sees the data come in; nobody waits for what takes minutes.
    # The time that is left is shown only where it can be estimated from what was done so far.
    with _progress(TextColumn("left"), TimeRemainingColumn()) as progress:
        process_and_train(progress, database, environment, folder, not options.no_models)
    console.print(table_of_nodes(url, key))
    print_models(console, database)
    print_survey(console, database)
    if not options.once:
        started.enter_context(running("src.processing.service.main", environment, folder / "processing.log"))
    summary = result(database, earlier) | {"seconds": round(time.monotonic() - begun, 1), "api": url}
    summary |= {"dashboard": f"{url}/dashboard"}
    sys.stdout.write(orjson.dumps({"dataset": named} | summary).decode() + "\n")
    sys.stdout.flush()
    if not options.once:
        console.print(f"Logs: {folder}/api.log and processing.log. Ctrl-C stops everything.", soft_wrap=True)
        if code := api.wait():
            raise Trouble(f"The API ended with code {code}; {folder}/api.log says why.")


def _progress(*more: ProgressColumn) -> Progress:
    """Bars with the time that each took, and more columns."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    return Progress(*columns, TimeElapsedColumn(), *more, console=console, speed_estimate_period=120)


def _readings_of_files(options: argparse.Namespace, folder: Path) -> Callable[[], Dataset]:
    """The named files as a data set; questions come now, before anything is started, unless they are loaded."""
    if (folder / "loaded.json").exists():
        return DATASETS[options.dataset]
    zone = ZoneInfo(Settings().utility_timezone)
    try:
        dataset = dataset_of(options.readings, options.mapping, options.yes, console, zone, folder)
    except Refusal as refusal:
        raise Trouble(str(refusal)) from None
    return lambda: dataset


@contextmanager
def _step(progress: Progress, name: str) -> Iterator[None]:
    task = progress.add_task(name, total=1)
    yield
    progress.update(task, completed=1)


def _api_key(database: Engine, file: Path) -> str:
    """The key of this quickstart: made once, stored beside its data for its owner's eyes only."""
    if not file.exists():
        with database.begin() as connection:
            key = api_keys.create(connection, "quickstart", "admin", None, "quickstart")
        file.touch(mode=0o600)
        file.write_text(key.text)
    return file.read_text()


if __name__ == "__main__":
    sys.exit(main())
