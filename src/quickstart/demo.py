"""`python -m src.quickstart.demo`: BigQuery's stand-in for the containers' demo profile, with a network that lives.

The simulated network is moved in time by whole weeks, so that its fourth week is the present one, and its readings
arrive as they would be measured.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from datetime import datetime, timedelta
from pathlib import Path
from types import FrameType

import orjson
import pandas as pd

from src.db.engines import create_database_engine
from src.db.migrate import wait_for_schema
from src.observability import configure_logging, logger
from src.processing.nodes import import_nodes
from src.quickstart import engines, simulation
from src.quickstart.datasets import Dataset, append, load
from src.settings import Settings, load_settings

WEEK = timedelta(weeks=1)
PORTS = (9050, 9060)
_FEED_SECONDS = 20


def offset_at(now: datetime) -> timedelta:
    """By how much to move the simulation, in whole weeks, so that `now` lies in its fourth."""
    return (now - simulation.START - 3 * WEEK) // WEEK * WEEK


def between(simulated: pd.DataFrame, offset: timedelta, since: datetime, until: datetime) -> pd.DataFrame:
    """The moved readings that arrive in [since, until); after the fourth week it comes again and again.

    The collector asks one node after the other: each has its own delay, within the step of the simulation.
    """
    last_week = simulated[simulated["timestamp"] >= pd.Timestamp(simulation.START + 3 * WEEK)]
    beyond = max(0, -((simulation.START + timedelta(days=simulation.DAYS) + offset - until) // WEEK))
    every = pd.concat(
        [simulated.assign(timestamp=simulated["timestamp"] + offset)]
        + [last_week.assign(timestamp=last_week["timestamp"] + offset + k * WEEK) for k in range(1, beyond + 1)],
        ignore_index=True,
    )
    turn = every["node_id"].astype("category").cat
    delay = pd.to_timedelta(turn.codes * (simulation.STEP / len(turn.categories)), unit="s")
    arrival = every["timestamp"] + delay
    within = (arrival >= pd.Timestamp(since)) & (arrival < pd.Timestamp(until))
    return every.assign(ingestion_timestamp=arrival)[within].reset_index(drop=True)


def serve(settings: Settings, folder: Path) -> int:
    """Runs the stand-in and feeds it until SIGTERM."""
    stopping = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    clock = settings.running_clock
    simulated, _, _ = simulation.simulate()
    # After a restart the same story goes on.
    begun = folder / "begun.json"
    if not begun.exists():
        begun.write_bytes(orjson.dumps({"offset": offset_at(clock.now()).total_seconds()}))
    offset = timedelta(seconds=orjson.loads(begun.read_bytes())["offset"])
    ready = folder / "ready"
    ready.unlink(missing_ok=True)
    with engines.bigquery(folder, "0.0.0.0", PORTS) as address:
        stand_in = Settings(**address)  # type: ignore[arg-type]
        fed = clock.now()
        load(stand_in, Dataset(between(simulated, offset, simulation.START + offset, fed), [], fed))
        ready.touch()
        logger(__name__).info("the stand-in has its readings", until=fed.isoformat())
        while not stopping.wait(_FEED_SECONDS):
            now = clock.now()
            rows = between(simulated, offset, fed, now)
            if len(rows):
                append(stand_in, rows)
            fed = now
    return 0


def add_nodes(settings: Settings) -> int:
    """Writes into the database what the simulated utility knows about its nodes."""
    database = create_database_engine(settings)
    if problem := wait_for_schema(database, seconds=60):
        sys.stderr.write(problem + "\n")
        return 1
    _, nodes, _ = simulation.simulate()
    with database.begin() as connection:
        import_nodes(connection, nodes)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The stand-in, or the nodes; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m src.quickstart.demo", description=__doc__)
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    serving = commands.add_parser("serve", help=f"run BigQuery's stand-in on ports {PORTS[0]} and {PORTS[1]}")
    serving.add_argument("--data", type=Path, required=True, help="where its tables lie")
    commands.add_parser("nodes", help="import the simulated network's nodes into the database")
    options = parser.parse_args(arguments)
    settings = load_settings()
    configure_logging(settings)
    return serve(settings, options.data) if options.command == "serve" else add_nodes(settings)


if __name__ == "__main__":
    sys.exit(main())
