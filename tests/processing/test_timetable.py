"""When jobs are due, on any clock and any day."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.clock import FrozenClock, TickingClock
from src.processing.service.timetable import ClockTrigger, Daily, Every

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
    second = trigger.get_next_fire_time(first, real)
    assert (first - real).total_seconds() == pytest.approx(1, abs=0.3)
    assert (second - real).total_seconds() == pytest.approx(31, abs=0.3)
    assert ClockTrigger(RHYTHMS[0], FrozenClock(start)).get_next_fire_time(None, real) is None
