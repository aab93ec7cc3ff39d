"""Work that meets a passing failure of the database is tried again, a bounded number of times."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from src.db.failures import is_passing
from src.observability import logger
from src.processing.jobs.runtime import Runtime

T = TypeVar("T")
# Seconds before the second attempt, the third, ...: as long as a database needs to start again.
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)


def patiently(runtime: Runtime, work: Callable[[], T], what: str) -> T:
    """What `work` returns; tried again after a pause where it meets a passing failure of the database.

    Args:
        work: harmless to repeat; each attempt begins and ends its own transaction.
        what: names the work in the log.

    Raises:
        Exception: the last failure, if it is not passing, if all attempts met one, or if the process is asked to end.
    """
    for pause in PAUSES:
        try:
            return work()
        except Exception as error:
            if not is_passing(error) or runtime.stopping.is_set():
                raise
            log = logger(__name__).bind(work=what, seconds=pause, error=str(error).partition("\n")[0])
            log.warning("the database is away or busy; the work is tried again")
            # Two that were in each other's way do not meet again at the same instant.
            if runtime.stopping.wait(pause * random.uniform(0.75, 1.25)):
                raise
    return work()
