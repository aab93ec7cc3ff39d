"""`python -m src.processing.service.main`: the processing service; `--once` runs one tick and ends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import datetime, time, timedelta
from functools import partial

import orjson
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy.exc import SQLAlchemyError

from src import collect_as_usual
from src.clock import SteppedClock, parse_instant
from src.db.migrate import wait_for_schema
from src.observability import configure_logging, logger, serve_measures
from src.processing.alerts.delivery import run_delivery
from src.processing.alerts.review import run_alerts
from src.processing.conclusions.quality import run_quality
from src.processing.ingest.outdated import find_outdated
from src.processing.jobs import records as jobs
from src.processing.jobs.measures import INTERVAL
from src.processing.jobs.runtime import Runtime, create_runtime
from src.processing.modelling.recommendations import run_recommendations
from src.processing.modelling.requests import run_requests
from src.processing.modelling.review import run_evaluation, run_review
from src.processing.modelling.training import start_training
from src.processing.service.actors import Queue
from src.processing.service.ahead import clock_problem
from src.processing.service.cycle import run, run_retry, run_tick
from src.processing.service.heartbeat import Heartbeat, Replica
from src.processing.service.replay import replay
from src.processing.service.retention import run_retention
from src.processing.service.timetable import ClockTrigger, Daily, Entry, Every, Rhythm, Weekly
from src.settings import load_settings

RETRY = Every(timedelta(seconds=15))
ALERTS, DELIVERY_SECONDS = Every(timedelta(minutes=1)), 5
REQUESTS = Every(timedelta(minutes=1))
QUALITY = Every(timedelta(hours=6))
REVIEW = Every(timedelta(hours=1))
EVALUATION_AT, TRAINING_AT = time(2), time(3)
SUNDAY = 6
RETENTION_AT = time(4, 30)
RECOMMENDATIONS_AT = time(5)


def main(arguments: list[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT (or, with `--once`, until its one job has ended); the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m src.processing.service.main",
        description="Takes in new readings every CHECK_INTERVAL_MINUTES. Settings come from the environment: "
        "see .env.processing.example.",
    )
    parser.add_argument(
        "--once", action="store_true", help="run one cycle now, print its result as JSON, and exit (1 if it failed)"
    )
    parser.add_argument(
        "--until",
        type=parse_instant,
        metavar="INSTANT",
        help="work off all that is due until then, one after the other and as fast as it goes, and exit; with "
        "CLOCK=stepped:INSTANT, the begin; alerts are left out",
    )
    options = parser.parse_args(arguments)
    settings = load_settings(with_warehouse=True)
    stepped = isinstance(settings.running_clock, SteppedClock)
    if stepped != (options.until is not None):
        parser.error("--until goes with CLOCK=stepped:<begin>, and neither without the other")
    configure_logging(settings)
    serve_measures(0 if options.once else settings.metrics_port)
    runtime = create_runtime(settings)
    if problem := wait_for_schema(runtime.database, seconds=60):
        sys.stderr.write(problem + "\n")
        return 1

    runtime.stop_on_signals()
    collect_as_usual()

    INTERVAL.set(settings.check_interval_minutes * 60)
    rhythm = Every(timedelta(minutes=settings.check_interval_minutes))
    queue = Queue(runtime)
    heartbeat = Heartbeat(runtime, Replica(rhythm, queue))
    heartbeat.start()
    queue.start()
    try:
        if options.until is not None:
            return replay(runtime, queue, _timetable(runtime, queue, rhythm), options.until)
        return _once(runtime, queue) if options.once else _serve(runtime, queue, rhythm)
    finally:
        logger(__name__).info("stopping: running slices are committed, the rest goes back to the queue")
        runtime.stopping.set()
        queue.stop(settings.shutdown_seconds)
        heartbeat.stop()


def _timetable(runtime: Runtime, queue: Queue, cycles: Rhythm) -> list[Entry]:
    """What is done when; of what is due at the same instant, the first comes first in a replay."""

    def daily(at: time, job: Callable[[datetime], object], name: str) -> Entry:
        return Entry(name, Daily(at, runtime.zone), job)

    return [
        Entry("cycle", cycles, partial(run_tick, runtime, queue)),
        Entry("data quality", QUALITY, partial(run_quality, runtime)),
        daily(EVALUATION_AT, partial(run_evaluation, runtime), "model evaluation"),
        Entry("model review", REVIEW, partial(run_review, runtime, queue.send_training)),
        Entry(
            "model training",
            Weekly(SUNDAY, TRAINING_AT, runtime.zone),
            lambda as_of: start_training(runtime, queue.send_training, as_of, "scheduler"),
        ),
        daily(RETENTION_AT, partial(run_retention, runtime), "retention"),
        daily(RECOMMENDATIONS_AT, partial(run_recommendations, runtime), "recommendations"),
    ]


def _serve(runtime: Runtime, queue: Queue, rhythm: Rhythm) -> int:
    scheduler = BackgroundScheduler(timezone="UTC")
    between = [
        Entry("retry", RETRY, partial(run_retry, runtime, queue)),
        Entry("alerts", ALERTS, partial(run_alerts, runtime)),
        Entry("requests of models", REQUESTS, partial(run_requests, runtime, queue.send_training)),
    ]
    for entry in _timetable(runtime, queue, rhythm) + between:
        scheduler.add_job(
            partial(_run_due, entry, runtime),
            ClockTrigger(entry.when, runtime.clock),
            name=entry.name,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )
    # Messages are tried in real time, whatever clock is injected.
    delivery = partial(_alone, "alert delivery", lambda: run_delivery(runtime))
    scheduler.add_job(delivery, "interval", seconds=DELIVERY_SECONDS, name="alert delivery", coalesce=True)
    # What came in while no replica was up is not left waiting for the next tick.
    first = Entry("first cycle", rhythm, partial(run_tick, runtime, queue))
    scheduler.add_job(partial(_run_due, first, runtime), name=first.name)
    scheduler.add_job(partial(_alone, "units and ranges", lambda: _report_outdated(runtime)), name="units and ranges")
    scheduler.start()
    logger(__name__).info("processing service started", replica=runtime.replica, now=runtime.clock.now().isoformat())
    # Not for ever: the kernel may hand a signal to any thread, and Python acts on it when this one wakes.
    while not runtime.stopping.wait(1):
        pass
    scheduler.shutdown(wait=False)
    return 0


def _run_due(entry: Entry, runtime: Runtime) -> None:
    _alone(entry.name, lambda: _run_unless_ahead(entry, runtime))


def _run_unless_ahead(entry: Entry, runtime: Runtime) -> None:
    if (problem := clock_problem(runtime)) is not None:
        logger(__name__).error("a job is not done", job=entry.name, reason=problem)
        return
    entry.job(entry.when.last(runtime.clock.now()))


def _alone(name: str, work: Callable[[], object]) -> None:
    """Runs a line of the timetable; what goes wrong with it is logged, and concerns no other."""
    try:
        work()
    except SQLAlchemyError as error:
        logger(__name__).error("the database refuses a job", job=name, error=str(error).partition("\n")[0])
    except Exception:
        logger(__name__).exception("a job of the timetable failed", job=name)


def _report_outdated(runtime: Runtime) -> None:
    """Logs which windows were computed by other settings than those of now: nothing else shows it."""
    settings = runtime.settings
    with runtime.database.connect() as connection:
        outdated = find_outdated(
            connection, runtime.conventions, runtime.clock.now(), settings.retention_metrics_days, runtime.zone
        )
    if outdated is not None:
        logger(__name__).warning("stored windows are outdated", nodes=len(outdated.node_ids), do=outdated.sentence())


def _once(runtime: Runtime, queue: Queue) -> int:
    _alone("units and ranges", lambda: _report_outdated(runtime))
    while earlier := jobs.another_running(runtime.database, jobs.CYCLE):
        logger(__name__).info("waiting for the cycle that is running", job_id=str(earlier))
        if runtime.stopping.wait(1):
            return 1
    if (problem := clock_problem(runtime)) is not None:
        sys.stderr.write(problem + "\n")
        return 1
    now = runtime.clock.now()
    job_id = jobs.claim_by_hand(runtime.database, jobs.CYCLE, f"Processing cycle {now:%Y-%m-%d %H:%M}", now, "--once")
    run(runtime, queue, job_id, now)
    while (job := jobs.describe(runtime.database, job_id))["status"] in jobs.UNFINISHED:
        if runtime.stopping.is_set():
            return 1
        runtime.stopping.wait(0.1)
    summary = {name: job[name] for name in ("job_id", "status", "total_items", "failed_items", "error_message")}
    sys.stdout.write(orjson.dumps(summary | dict(job["result_summary"]), default=str).decode() + "\n")
    return 0 if job["status"] == "completed" else 1


if __name__ == "__main__":
    sys.exit(main())
