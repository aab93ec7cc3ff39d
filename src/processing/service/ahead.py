"""Whether this machine's clock may be trusted: what is done in the name of the future stays there for long."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func, select

from src.clock import LiveClock
from src.processing.jobs.runtime import Runtime

# Clocks that are kept in step by NTP differ by less than a second.
MOST_AHEAD = timedelta(minutes=5)


def clock_problem(runtime: Runtime) -> str | None:
    """A sentence where this machine's clock runs ahead of the database's; None where it does not.

    A clock that is injected on purpose (CLOCK) shows what it is meant to show.
    """
    if not isinstance(runtime.clock, LiveClock):
        return None
    with runtime.database.connect() as connection:
        there: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    ahead = runtime.clock.now() - there
    if ahead <= MOST_AHEAD:
        return None
    minutes = ahead / timedelta(minutes=1)
    return f"This machine's clock is {minutes:.0f} minutes ahead of the database's: set them right (NTP)"
