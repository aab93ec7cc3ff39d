"""When jobs are due, on any clock and any day."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from apscheduler.schedulers.background import BackgroundScheduler
from hypothesis import given
from hypothesis import strategies as st

from src.clock import FrozenClock, TickingClock
from src.processing.service.timetable import ClockTrigger, Daily, Every
from tests.system import eventually

ROME = ZoneInfo("Europe/Rome")
RHYTHMS = [Every(timedelta(minutes=30)), Daily(time(2, 30), ROME), Daily(time(4, 30), ROME)]


@pytest.mark.parametrize("rhythm", RHYTHMS)
@given(instant=st.datetimes(datetime(2023, 1, 1), datetime(2024, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001
def test_an_instant_lies_between_two_occurrences_that_follow_each_other(rhythm, instant: datetime):
    last, after = rhythm.last(instant), rhythm.after(instant)
    assert last <= instant < after
    assert rhythm.after(last) == after
    assert rhythm.last(after) == after


def test_a_tick_fires_when_the_injected_clock_reaches_it_and_never_on_a_frozen_one():
    real = datetime.now(UTC)
    start = datetime(2023, 5, 1, 11, 59, tzinfo=UTC)
    trigger = ClockTrigger(RHYTHMS[0], TickingClock(start, real.timestamp(), 60))
    first = trigger.get_next_fire_time(None, real)
    again = trigger.get_next_fire_time(None, real)
    assert (first - real).total_seconds() == pytest.approx(1, abs=0.3)
    assert (again - first).total_seconds() == pytest.approx(0, abs=0.1)
    assert ClockTrigger(RHYTHMS[0], FrozenClock(start)).get_next_fire_time(None, real) is None


def test_a_scheduler_alone_fires_every_tick_and_none_twice():
    # Half an hour passes in 0.4 s. A stall of this machine may cost a tick, never two out of three.
    clock = TickingClock(datetime(2023, 5, 1, tzinfo=UTC), datetime.now(UTC).timestamp(), 4500)
    rhythm, fired = RHYTHMS[0], []
    scheduler = BackgroundScheduler(timezone="UTC")
    scheduler.add_job(
        lambda: fired.append(rhythm.last(clock.now())),
        ClockTrigger(rhythm, clock),
        coalesce=True,
        misfire_grace_time=None,
    )
    scheduler.start()
    eventually(lambda: len(fired) >= 10, seconds=60)
    scheduler.shutdown()
    steps = [(after - before) // timedelta(minutes=30) for before, after in zip(fired, fired[1:], strict=False)]
    assert min(steps) == 1
    assert sorted(steps)[len(steps) // 2] == 1
