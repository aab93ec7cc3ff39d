"""`python -m src.processing.service.main`: the processing service; `--once` runs one tick and ends."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

import orjson
from apscheduler.schedulers.background import BackgroundScheduler

from src.db.migrate import wait_for_schema
from src.observability import configure_logging, logger, serve_measures
from src.processing import jobs
from src.processing.actors import Queue
from src.processing.alerts.delivery import run_delivery
from src.processing.alerts.review import run_alerts
from src.processing.cycle.run import run, run_retry, run_tick
from src.processing.measures import INTERVAL
from src.processing.models.recommendations import run_recommendations
from src.processing.models.review import run_evaluation, run_review
from src.processing.models.training import start_training
from src.processing.quality import run_quality
from src.processing.retention import run_retention
from src.processing.runtime import Runtime, create_runtime
from src.processing.service.heartbeat import Heartbeat
from src.processing.service.timetable import ClockTrigger, Daily, Every, Rhythm, Weekly
from src.settings import load_settings

RETRY = Every(timedelta(seconds=15))
ALERTS, DELIVERY_SECONDS = Every(timedelta(minutes=1)), 5
QUALITY = Every(timedelta(hours=6))
REVIEW = Every(timedelta(hours=1))
EVALUATION_AT, TRAINING_AT = datetime.min.time().replace(hour=2), datetime.min.time().replace(hour=3)
SUNDAY = 6
RETENTION_AT = datetime.min.time().replace(hour=4, minute=30)
RECOMMENDATIONS_AT = datetime.min.time().replace(hour=5)


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
    options = parser.parse_args(arguments)
    settings = load_settings(with_warehouse=True)
    configure_logging(settings)
    serve_measures(0 if options.once else settings.metrics_port)
    runtime = create_runtime(settings)
    if problem := wait_for_schema(runtime.database, seconds=60):
        sys.stderr.write(problem + "\n")
        return 1

    runtime.stop_on_signals()

    INTERVAL.set(settings.check_interval_minutes * 60)
    rhythm = Every(timedelta(minutes=settings.check_interval_minutes))
    queue, heartbeat = Queue(runtime), Heartbeat(runtime, rhythm)
    worker = queue.worker()
    heartbeat.start()
    worker.start()
    try:
        return _once(runtime, queue) if options.once else _serve(runtime, queue, rhythm)
    finally:
        logger(__name__).info("stopping: running slices are committed, the rest goes back to the queue")
        runtime.stopping.set()
        worker.stop(timeout=settings.shutdown_seconds * 1000)
        heartbeat.stop()


def _serve(runtime: Runtime, queue: Queue, rhythm: Rhythm) -> int:
    scheduler = BackgroundScheduler(timezone="UTC")

    def timetable(name: str, when: Rhythm, job: Callable[[datetime], object]) -> None:
        scheduler.add_job(
            lambda: job(when.last(runtime.clock.now())),
            ClockTrigger(when, runtime.clock),
            name=name,
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,
        )

    timetable("cycle", rhythm, partial(run_tick, runtime, queue))
    timetable("retry", RETRY, partial(run_retry, runtime, queue))
    timetable("alerts", ALERTS, partial(run_alerts, runtime))
    # Messages are tried in real time, whatever clock is injected.
    scheduler.add_job(
        partial(run_delivery, runtime), "interval", seconds=DELIVERY_SECONDS, name="alert delivery", coalesce=True
    )
    timetable("data quality", QUALITY, partial(run_quality, runtime))
    timetable("model review", REVIEW, partial(run_review, runtime, queue.send))
    timetable("model evaluation", Daily(EVALUATION_AT, runtime.zone), partial(run_evaluation, runtime))
    timetable(
        "model training",
        Weekly(SUNDAY, TRAINING_AT, runtime.zone),
        lambda as_of: start_training(runtime, queue.send, as_of, "scheduler"),
    )
    timetable("recommendations", Daily(RECOMMENDATIONS_AT, runtime.zone), partial(run_recommendations, runtime))
    timetable("retention", Daily(RETENTION_AT, runtime.zone), partial(run_retention, runtime))
    # What came in while no replica was up is not left waiting for the next tick.
    scheduler.add_job(lambda: run_tick(runtime, queue, rhythm.last(runtime.clock.now())), name="first cycle")
    scheduler.start()
    logger(__name__).info("processing service started", replica=runtime.replica, now=runtime.clock.now().isoformat())
    runtime.stopping.wait()
    scheduler.shutdown(wait=False)
    return 0


def _once(runtime: Runtime, queue: Queue) -> int:
    while earlier := jobs.another_running(runtime.database, jobs.CYCLE):
        logger(__name__).info("waiting for the cycle that is running", job_id=str(earlier))
        if runtime.stopping.wait(1):
            return 1
    now = runtime.clock.now()
    job_id = jobs.claim_by_hand(runtime.database, jobs.CYCLE, f"Processing cycle {now:%Y-%m-%d %H:%M}", now, "--once")
    run(runtime, queue, job_id, now)
    while (job := jobs.describe(runtime.database, job_id))["status"] in jobs.UNFINISHED:
        if runtime.stopping.is_set():
            return 1
        time.sleep(0.1)
    told = {name: job[name] for name in ("job_id", "status", "total_items", "failed_items", "error_message")}
    sys.stdout.write(orjson.dumps(told | dict(job["result_summary"]), default=str).decode() + "\n")
    return 0 if job["status"] == "completed" else 1


if __name__ == "__main__":
    sys.exit(main())
