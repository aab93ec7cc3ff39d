"""What comes back is reported again where somebody, or a work, had explained it, and with its true severity."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import UUID

import numpy as np
import pytest

from src.domain.anomalies.detection import Circumstances
from src.domain.anomalies.limits import limits_of
from src.domain.anomalies.signals import Signals
from src.domain.anomalies.watch import Watch, habits_of_week, weeks
from src.domain.anomalies.works import Calendar, Work
from src.vocabulary import WorkKind
from tests.signals import (
    DAY,
    HOUR,
    MONDAY,
    NOTHING_SET_ASIDE,
    ROME,
    WEEK,
    raised,
    rows,
    signal,
    together,
    watch,
    without,
)

AT = MONDAY + 4 * WEEK + 10 * HOUR


def pressure(*changes: tuple[datetime, datetime, float]) -> Signals:
    signals = signal("p", "pressure", mean=4.0, noise=0.01, daily=0.05, role="monitoring")
    for start, end, by in changes:
        signals = raised(signals, start, end, by, "p")
    return signals


def judged(signals: Signals, start: datetime, until: datetime, works: Calendar, on: Watch | None = None) -> Watch:
    on = on or Watch([], {"p": "d"})
    limits = [limits_of("pressure", "monitoring", {})]
    known = signals.between(MONDAY, until)
    for monday, first, last in weeks(start, until, ROME):
        habits = habits_of_week(known, monday, on.stored, ROME, "IT")
        on.judge(
            known, habits, Circumstances(limits, NOTHING_SET_ASIDE, works=works), ROME, "IT", (first, last)
        )  # fmt: skip
    return on


def events_of(on: Watch, kind: str) -> list[tuple[str, datetime, str]]:
    return sorted(
        (e.finding.anomaly_type, e.finding.begin, e.finding.severity)
        for e in on.stored
        if e.finding.anomaly_type == kind and e.finding.begin >= AT - DAY
    )


# A little for three hours, and three days later at the same hour nearly all of it.
BACK = pressure((AT, AT + 3 * HOUR, -1.8), (AT + 3 * DAY, AT + 5 * DAY, -3.5))
THEN = AT + 3 * DAY + 8 * HOUR


def test_low_pressure_that_comes_back_after_somebody_resolved_it_is_reported_again():
    on = judged(BACK, MONDAY, AT + DAY, Calendar())
    on.stored = [replace(e, resolved_at=AT + 10 * HOUR, resolved_by="ann") for e in on.stored]
    judged(BACK, AT + DAY, THEN, Calendar(), on)
    both = [("low_pressure", AT, "warning"), ("low_pressure", AT + 3 * DAY, "critical")]
    assert events_of(on, "low_pressure") == both
    judged(BACK, AT + DAY, THEN, Calendar(), on)
    assert events_of(on, "low_pressure") == both


@pytest.mark.parametrize("kind", ["low_pressure", "unusual_pressure"])
def test_what_comes_back_days_after_a_work_is_not_explained_by_it(kind: str):
    works = Calendar([Work(UUID(int=7), "works", "p", None, AT - HOUR, AT + 4 * HOUR)], {"p": "d"})
    on = judged(BACK, MONDAY, AT + DAY, works)
    judged(BACK, AT + DAY, THEN, works, on)
    assert events_of(on, kind) == [(kind, AT, "info"), (kind, AT + 3 * DAY, "critical")]
    judged(BACK, AT + DAY, THEN, works, on)
    assert events_of(on, kind) == [(kind, AT, "info"), (kind, AT + 3 * DAY, "critical")]
    assert events_of(judged(BACK, MONDAY, THEN, works), kind) == events_of(on, kind)


def test_works_on_days_that_follow_each_other_explain_each_its_own_day():
    signals = pressure(*((AT + n * DAY, AT + n * DAY + 3 * HOUR, -3.5) for n in range(3)))
    days = [AT + n * DAY for n in range(3)]
    works = Calendar([Work(UUID(int=n), "works", "p", None, day, day + 3 * HOUR) for n, day in enumerate(days)],
                     {"p": "d"})  # fmt: skip
    on = judged(signals, MONDAY, AT + 4 * DAY, works)
    assert events_of(on, "low_pressure") == [("low_pressure", day, "info") for day in days]


@pytest.mark.parametrize("kind", ["works", "closure"])
def test_what_goes_on_for_more_than_a_day_after_a_work_is_raised(kind: WorkKind):
    signals = pressure((AT, AT + 5 * DAY, -3.5))
    works = Calendar([Work(UUID(int=7), kind, "p", None, AT - HOUR, AT + 4 * HOUR)], {"p": "d"})
    on = judged(signals, MONDAY, AT + DAY, works)
    assert events_of(on, "low_pressure") == [("low_pressure", AT, "info")]
    judged(signals, AT + DAY, AT + 30 * HOUR, works, on)
    assert events_of(on, "low_pressure") == [("low_pressure", AT, "critical")]
    on.touched.clear()
    on.explain(works, AT + 30 * HOUR)
    assert not on.touched
    assert events_of(judged(signals, MONDAY, AT + 6 * DAY, works), "low_pressure") == [("low_pressure", AT, "critical")]


def test_an_inlet_that_rests_at_night_and_stands_still_for_a_day_is_reported():
    start, signals = AT + 2 * DAY - 3 * HOUR, signal()
    flowing = np.ones(signals.mean.shape)
    flowing[np.isin(signals.hours.tz_convert(ROME).hour, (2, 3))] = 0
    flowing[rows(signals, start, start + 20 * HOUR)] = 0
    figures = {name: getattr(signals, name) * flowing for name in ("mean", "low", "high")}
    on = watch(replace(signals, **figures), until=start + DAY)
    assert "flat_line" in [e.finding.anomaly_type for e in on.stored if e.finding.begin >= start - HOUR]


@pytest.mark.parametrize("dips", [0, 2])
def test_a_collapse_is_critical_though_short_dips_came_before_it(dips: int):
    before = [(AT + n * DAY, AT + n * DAY + 3 * HOUR, -0.8) for n in range(dips)]
    on = judged(pressure(*before, (AT + 2 * DAY, AT + 5 * DAY, -1.4)), MONDAY, AT + 3 * DAY + 6 * HOUR, Calendar())
    assert events_of(on, "unusual_pressure")[-1][2] == "critical"


@pytest.mark.parametrize("seed", [1, 2, 4])
def test_a_large_burst_is_critical_from_its_first_hours_on_where_nothing_tells_what_it_is(seed: int):
    start = MONDAY + 4 * WEEK + 3 * DAY + 17 * HOUR
    signals = raised(signal(daily=0.02, noise=0.03, seed=seed), start, start + 5 * DAY, by=40.0)
    (burst,) = [e.finding for e in watch(signals, until=start + 4 * HOUR).stored if e.finding.end is None]
    assert burst.anomaly_type == "burst"
    assert burst.severity == "critical"


def test_a_rise_that_turns_out_to_be_no_leak_is_critical_no_more():
    start, signals = MONDAY + 4 * WEEK + 3 * DAY + 9 * HOUR, signal()
    share = np.ones(signals.mean.shape)
    share[rows(signals, start, start + WEEK)] = 1.25
    figures = {name: getattr(signals, name) * share for name in ("mean", "low", "high")}
    signals = replace(signals, **figures)
    on = watch(signals, until=start)
    for hour in range(48):
        on = watch(signals, start=start + hour * HOUR, until=start + (hour + 1) * HOUR, watch=on)
    (rise,) = [e.finding for e in on.stored if e.finding.anomaly_type == "burst"]
    assert rise.why["kinds"]["leak"] < 0.05
    assert rise.severity == "warning"


@pytest.mark.parametrize(("hours_before", "is_moved"), [(0, True), (24, False), (48, False)])
def test_what_fell_a_day_before_a_rise_did_not_give_it_up(hours_before: int, is_moved: bool):
    start = AT + 3 * DAY
    signals = together(signal(noise=0.03), signal("other", noise=0.03, seed=2, district="e"))
    signals = raised(signals, start, start + WEEK, 30)
    signals = raised(signals, start - hours_before * HOUR, start + WEEK, -30, "other")
    (burst,) = [e.finding for e in watch(signals, until=start + 12 * HOUR).stored if e.finding.anomaly_type == "burst"]
    assert (burst.why["given_up_by"] == "other") is is_moved


def test_of_a_silent_household_nobody_knows_whether_its_water_stops():
    signals = signal("h", role="consumption", cadence=3600.0)
    random = np.random.default_rng(3)
    use = (random.random(signals.mean.shape) < 0.4) * random.random(signals.mean.shape) * 0.1
    signals = replace(signals, mean=use, low=use.copy(), high=use.copy())
    signals = raised(signals, AT, AT + 2 * HOUR, 0.05, "h")
    signals = raised(signals, AT + 74 * HOUR, AT + 76 * HOUR, 0.05, "h")
    signals = without(signals, AT + 2 * HOUR, AT + 74 * HOUR, "h")
    found = {e.finding.anomaly_type for e in watch(signals, until=AT + 80 * HOUR).stored}
    assert "silent" in found
    assert "continuous_flow" not in found


def test_low_and_high_hours_of_one_sensor_are_two_events_each_of_which_ends():
    turn = AT + 60 * HOUR
    signals = pressure((AT, turn, -0.75), (turn, turn + 30 * HOUR, 1.2))
    at_once = judged(signals, MONDAY, AT + 6 * DAY, Calendar())
    on = judged(signals, MONDAY, turn - HOUR, Calendar())
    for hour in range(72):
        judged(signals, turn + (hour - 1) * HOUR, turn + hour * HOUR, Calendar(), on)
    assert len(events_of(on, "unusual_pressure")) == 2
    assert events_of(on, "unusual_pressure") == events_of(at_once, "unusual_pressure")
    assert all(event.finding.end is not None for event in on.stored)


def test_a_burst_on_top_of_another_one_of_the_same_day_is_never_taken_for_it():
    signals = raised(signal(), AT, AT + 12 * DAY, 10)
    signals = raised(signals, AT + 12 * HOUR, AT + 12 * DAY, 35)
    on = watch(signals, until=AT + 2 * DAY)
    found = sorted((e.anomaly_id, e.finding.begin, e.finding.why["size"]) for e in on.stored)
    assert len({begin for _, begin, _ in found}) == 2
    for hour in range(3):
        watch(signals, start=AT + 2 * DAY + hour * HOUR, until=AT + 2 * DAY + (hour + 1) * HOUR, watch=on)
        assert sorted((e.anomaly_id, e.finding.begin, e.finding.why["size"]) for e in on.stored) == found
