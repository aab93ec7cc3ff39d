"""A replay: all that the timetable would have done over a span of time, one thing after the other."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from src.clock import SteppedClock
from src.db.failures import is_passing
from src.observability import logger
from src.processing.jobs import records as jobs
from src.processing.jobs.runtime import Runtime
from src.processing.service.actors import Queue
from src.processing.service.cycle import retry_due, run_retry
from src.processing.service.timetable import Entry

POLL_SECONDS = 0.01


def replay(runtime: Runtime, queue: Queue, timetable: Sequence[Entry], until: datetime) -> int:
    """Moves the stepped clock from one due instant to the next, up to `until`; the exit code.

    At each instant what is due is done in the timetable's order, each once the one before has ended, and failed cycles
    are made up for between two ticks as they are in life. Started again at an instant that was reached before, it goes
    on where it was: what is done has its job already. Nobody waits for a backfill, which is a command of its own.
    Alerts are about the present, and left out.
    """
    clock = runtime.clock
    assert isinstance(clock, SteppedClock)
    while True:
        now = clock.now()
        # Only what an earlier process left behind.
        _wait(runtime)
        for entry in timetable:
            if entry.when.last(now) == now and not runtime.stopping.is_set():
                try:
                    entry.job(now)
                except Exception:
                    logger(__name__).exception("a job of the timetable failed", job=entry.name, as_of=now.isoformat())
                _wait(runtime)
        retry = _make_up(runtime, queue, now)
        if runtime.stopping.is_set():
            # The clock stays: a worker may still be ending what began at this instant.
            return 1
        following = min([entry.when.after(now) for entry in timetable] + ([retry] if retry else []))
        if following > until:
            return 0
        clock.move_to(following)


def _make_up(runtime: Runtime, queue: Queue, now: datetime) -> datetime | None:
    """Makes up for failed cycles where that is due; when it is due again, if at all."""
    try:
        run_retry(runtime, queue, now)
        _wait(runtime)
        due = retry_due(runtime)
    except SQLAlchemyError as error:
        logger(__name__).error("the database refuses a retry", error=str(error).partition("\n")[0])
        return None
    return due if due is not None and due > now else None


def _wait(runtime: Runtime) -> None:
    """Until every job but backfills has ended, or the process is asked to; a database that is away is waited for."""
    while not runtime.stopping.is_set():
        try:
            if not jobs.unfinished(runtime.database):
                return
        except SQLAlchemyError as error:
            if not is_passing(error):
                raise
            logger(__name__).warning("the database does not answer", error=str(error).partition("\n")[0])
        runtime.stopping.wait(POLL_SECONDS)
