"""`python -m src.processing.models list | train | recommend | promote ID | roll-back ID`: models managed by hand."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable
from datetime import datetime
from uuid import UUID

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import Connection, select

from src import collect_as_usual
from src.db import generation
from src.db.migrate import wait_for_schema
from src.db.tables import recommendations
from src.observability import configure_logging
from src.processing.jobs import records as jobs
from src.processing.jobs.announcement import announce
from src.processing.jobs.runtime import Runtime, create_runtime
from src.processing.modelling import registry
from src.processing.modelling.forecasts import pools_to_forecast, write_forecasts
from src.processing.modelling.recommendations import run_recommendations
from src.processing.modelling.training import plan_training
from src.processing.service.finish import finish
from src.processing.service.heartbeat import Heartbeat
from src.processing.service.work import Outcome, work_off
from src.settings import load_settings


def main(arguments: list[str] | None = None) -> int:
    """Lists models, trains them, or changes who is active; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m src.processing.models",
        description="The service trains, promotes and rolls back by itself; this does it by hand. Who did it, and why, "
        "is kept with the model.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="every model, one line of JSON each, newest first")
    train = commands.add_parser(
        "train", help="train now, in this process, wait for it, and forecast with what is active then"
    )
    train.add_argument("--scope", action="append", default=[], help="a pool to train; default: all")
    commands.add_parser(
        "recommend",
        help="relate leakage to pressure and renew what is recommended for every district, now, in this process",
    )
    for name, purpose in (
        ("promote", "make a model the active one of its scope"),
        ("roll-back", "put back the model that an active one replaced"),
        ("retire", "take a model out of use"),
    ):
        command = commands.add_parser(name, help=purpose)
        command.add_argument("model_id", type=UUID)
        command.add_argument("--reason", required=True, help="why; kept with the decision")
    for command in commands.choices.values():
        command.add_argument("--by", default=getpass.getuser(), help="who decides; default: this user")
    options = parser.parse_args(arguments)
    settings = load_settings(with_warehouse=options.command == "train")
    configure_logging(settings)
    collect_as_usual()
    runtime = create_runtime(settings)
    if problem := wait_for_schema(runtime.database, seconds=10):
        sys.stderr.write(problem + "\n")
        return 1
    if options.command == "list":
        return _list(runtime)
    if options.command == "recommend":
        return _recommend(runtime)
    if options.command == "train":
        return _train(runtime, options.scope, options.by)
    settle: dict[str, Callable[[Connection, UUID, datetime, str, str], object]] = {
        "promote": registry.promote,
        "roll-back": registry.roll_back,
        "retire": registry.retire,
    }
    return _settle(runtime, settle[options.command], options.model_id, options.by, options.reason)


def _list(runtime: Runtime) -> int:
    shown = ("model_id", "model_type", "scope", "version", "status", "created_at", "activated_at", "validation_metrics")
    with runtime.database.connect() as connection:
        for model in registry.all_models(connection):
            sys.stdout.write(orjson.dumps({name: getattr(model, name) for name in shown}).decode() + "\n")
    return 0


def _settle(
    runtime: Runtime,
    settle: Callable[[Connection, UUID, datetime, str, str], object],
    model_id: UUID,
    by: str,
    reason: str,
) -> int:
    try:
        with runtime.database.begin() as connection:
            settle(connection, model_id, runtime.clock.now(), by, reason)
            generation.advance(connection)
    except registry.NoSuchModel as problem:
        sys.stderr.write(f"{problem}; `list` shows what there is\n")
        return 1
    announce(runtime)
    return 0


def _forecast(runtime: Runtime, as_of: datetime) -> None:
    """Forecasts with the models in use at once: a cycle that runs now may have been planned without them."""
    with runtime.database.connect() as connection:
        found = pools_to_forecast(connection, as_of)
    for pool in found:
        write_forecasts(runtime, pool.scope, pool.node_ids, as_of)
    with runtime.database.begin() as connection:
        generation.advance(connection)
    announce(runtime)


def _recommend(runtime: Runtime) -> int:
    heartbeat = Heartbeat(runtime, None)
    heartbeat.start()
    try:
        is_done = run_recommendations(runtime, runtime.clock.now())
    finally:
        heartbeat.stop()
    with runtime.database.connect() as connection:
        found = connection.execute(select(recommendations).order_by(recommendations.c.district_id)).all()
    for row in found:
        summary = {name: getattr(row, name) for name in ("district_id", "outcome", "reason", "saving_volume")}
        sys.stdout.write(orjson.dumps(summary).decode() + "\n")
    return 0 if is_done else 1


def _train(runtime: Runtime, scopes: list[str], by: str) -> int:
    if running := jobs.another_running(runtime.database, jobs.TRAINING):
        sys.stderr.write(f"job {running} is training already: wait for it\n")
        return 1
    runtime.stop_on_signals()
    now = runtime.clock.now()
    job_id = jobs.claim_by_hand(runtime.database, jobs.TRAINING, f"Model training {now:%Y-%m-%d %H:%M}", now, by)
    heartbeat = Heartbeat(runtime, None)
    heartbeat.start()
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        with runtime.busy_with(job_id), Progress(*columns, console=console) as progress:
            numbers = plan_training(runtime, job_id, now, scopes)
            for number in progress.track(numbers, description="pools trained"):
                if work_off(runtime, job_id, number) in (Outcome.HANDED_BACK, Outcome.LEFT):
                    # What is not trained yet, the service trains.
                    return 1
            finish(runtime, job_id)
            _forecast(runtime, now)
    finally:
        heartbeat.stop()
    if not numbers:
        sys.stderr.write("there is no pool to train: no node of it has had flow within four weeks\n")
    job = jobs.describe(runtime.database, job_id)
    summary = {name: job[name] for name in ("job_id", "status", "error_message", "result_summary")}
    sys.stdout.write(orjson.dumps(summary, default=str).decode() + "\n")
    return 0 if job["status"] == "completed" and numbers else 1


if __name__ == "__main__":
    sys.exit(main())
