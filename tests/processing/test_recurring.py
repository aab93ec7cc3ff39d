"""What comes back, what is ordinary at a point, and what cannot be a leak: reported once, or not at all."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from src.domain.anomalies.limits import UNFIT
from src.domain.anomalies.relatives import learn
from src.domain.anomalies.signals import LOSS, Signals, cells_of
from src.domain.anomalies.stored import usable_hours
from tests.signals import DAY, HOUR, MONDAY, ROME, WEEK, raised, signal, stuck, together, types, watch, without


def low_each(pressure: Signals, first: int, last: int, *, every: int = 1) -> Signals:
    """The pressure 2 bar lower from 20:00 to 23:00 on these days."""
    for day in range(first, last, every):
        begin = MONDAY + day * DAY + 20 * HOUR
        pressure = raised(pressure, begin, begin + 3 * HOUR, -2.0, "p")
    return pressure


def pressure_of(weeks: int) -> Signals:
    return signal("p", "pressure", weeks=weeks, mean=4.0, noise=0.01, daily=0.0, role="monitoring")


def test_what_comes_back_every_evening_is_one_event_that_is_over_in_between():
    seen = watch(low_each(pressure_of(2), 2, 6), until=MONDAY + 5 * DAY + 21 * HOUR)
    (event,) = seen.stored
    assert (event.finding.anomaly_type, event.finding.why["times"], event.finding.end) == ("low_pressure", 4, None)
    seen = watch(low_each(pressure_of(2), 2, 6), until=MONDAY + 6 * DAY + 2 * HOUR)
    (event,) = seen.stored
    assert event.finding.end == event.resolved_at == MONDAY + 5 * DAY + 23 * HOUR


def test_limits_that_ordinary_operation_crosses_are_reported_once_and_what_is_usual_is_watched_instead():
    ordinary = low_each(pressure_of(10), 0, 70, every=3)
    events = [event.finding for event in watch(ordinary).stored]
    assert [event.anomaly_type for event in events if event.begin >= MONDAY + 3 * WEEK] == []
    (unfit,) = [event for event in events if event.anomaly_type == UNFIT]
    assert (unfit.node_id, unfit.measurement, unfit.severity, unfit.end) == ("p", "pressure", "info", None)
    assert unfit.why["usual"]["low"] == pytest.approx(2.0, abs=0.1)
    assert unfit.why["explanation"].endswith("is usual here; set its own")
    # Far below even that is an event of its own.
    empty = raised(ordinary, MONDAY + 8 * WEEK, MONDAY + 8 * WEEK + 4 * HOUR, -3.5, "p")
    found = [event.finding for event in watch(empty).stored if event.finding.begin == MONDAY + 8 * WEEK]
    assert ("low_pressure", "critical") in {(event.anomaly_type, event.severity) for event in found}


def test_a_limit_that_was_set_for_a_node_holds_whatever_is_usual():
    events = watch(low_each(pressure_of(6), 0, 42, every=3), metadata={"limits": {"pressure": {"low": 3.0}}}).stored
    assert {event.finding.anomaly_type for event in events} == {"low_pressure"}
    assert max(event.finding.end for event in events) >= MONDAY + 5 * WEEK


def test_limits_that_fit_again_close_the_event_that_they_do_not():
    seen = watch(low_each(pressure_of(14), 0, 28, every=2))
    (unfit,) = [event for event in seen.stored if event.finding.anomaly_type == UNFIT]
    assert unfit.finding.end is not None
    assert unfit.finding.why["closed_because"] == "its limits fit what is usual here now"


def irrigated(weeks: int, by: float = 60.0) -> Signals:
    """An inflow that is raised on three nights a week from the fifth week on."""
    inflow = signal(weeks=weeks)
    for week in range(4, weeks):
        for day in (0, 2, 4):
            begin = MONDAY + week * WEEK + day * DAY + 2 * HOUR
            inflow = raised(inflow, begin, begin + 3 * HOUR, by)
    return inflow


def test_a_use_that_comes_back_at_its_hour_is_reported_until_it_is_learned():
    begins = [event.finding.begin for event in watch(irrigated(9)).stored]
    assert any(MONDAY + 4 * WEEK <= begin < MONDAY + 5 * WEEK for begin in begins)
    assert [begin for begin in begins if begin >= MONDAY + 6 * WEEK] == []


def test_a_leak_is_found_also_where_a_use_comes_and_goes():
    leaking = raised(irrigated(9), MONDAY + 8 * WEEK + DAY, MONDAY + 9 * WEEK, 15.0)
    (leak,) = [event.finding for event in watch(leaking).stored if event.finding.begin >= MONDAY + 6 * WEEK]
    assert leak.anomaly_type == "burst"
    assert abs(leak.begin - (MONDAY + 8 * WEEK + DAY)) <= 6 * HOUR


def switching(weeks: int, seed: int = 3) -> Signals:
    """A pump that runs for some hours and stands for some others."""
    pump = signal(weeks=weeks, daily=0.0, noise=0.01, seed=seed)
    random = np.random.default_rng(seed)
    is_on, hour = True, 0
    while hour < len(pump.hours):
        last = hour + int(random.integers(3, 30))
        if not is_on:
            for figures in (pump.mean, pump.low, pump.high):
                figures[hour:last] = 0.0
        is_on, hour = not is_on, last
    return pump


@pytest.mark.parametrize("seed", range(3))
def test_a_pump_that_switches_is_no_leak(seed: int):
    assert set(types(watch(switching(10, seed)))) & {"burst", "slow_leak"} == set()


def test_a_meter_that_counts_in_coarse_steps_is_no_leak():
    coarse = signal(weeks=8, mean=20.0, noise=0.05)
    for figures in (coarse.mean, coarse.low, coarse.high):
        figures[:] = np.round(figures / 5) * 5
    habits = learn(coarse, cells_of(coarse.hours, ROME, "IT"), np.ones(coarse.mean.shape, bool))
    assert habits.step.tolist() == [5.0]
    assert habits.spread.min() == pytest.approx(5 / 12**0.5)
    assert types(watch(coarse)) == []


def test_a_burst_of_three_days_does_not_become_a_habit():
    inflow = raised(signal(weeks=8), MONDAY + 5 * WEEK, MONDAY + 5 * WEEK + 3 * DAY, 40.0)
    again = raised(inflow, MONDAY + 6 * WEEK + 2 * DAY, MONDAY + 7 * WEEK, 40.0)
    bursts = [event.finding for event in watch(again).stored if event.finding.anomaly_type == "burst"]
    assert [abs(burst.begin - begin) <= 3 * HOUR for burst, begin in zip(
        sorted(bursts, key=lambda burst: burst.begin), (MONDAY + 5 * WEEK, MONDAY + 6 * WEEK + 2 * DAY), strict=True
    )] == [True, True]  # fmt: skip


def test_a_weekend_that_changed_is_reported_and_then_usual():
    inflow = signal(weeks=15, noise=0.015)
    for week in range(6, 15):
        inflow = raised(inflow, MONDAY + week * WEEK + 5 * DAY, MONDAY + (week + 1) * WEEK, 25.0)
    begins = [event.finding.begin for event in watch(inflow).stored]
    assert [begin for begin in begins if begin >= MONDAY + 11 * WEEK] == []
    assert 1 <= len(begins) <= 4


def metered(weeks: int = 8) -> Signals:
    """A district with one inlet, six customers' meters, and what the meters do not account for."""
    customers = [
        signal(f"c{n}", weeks=weeks, mean=14.0, noise=0.02, daily=0.3, role="consumption", seed=20 + n)
        for n in range(6)
    ]
    loss = signal("balance", LOSS, weeks=weeks, mean=16.0, noise=0.03, daily=0.0, seed=40)
    return together(signal(weeks=weeks), *customers, loss)


@pytest.mark.parametrize("share", [0.08, 0.15])
def test_while_a_customers_meter_is_silent_a_leak_shows_in_the_inflow(share: float):
    begin = MONDAY + 6 * WEEK + DAY
    silent = without(without(metered(), begin, MONDAY + 8 * WEEK, "c3"), begin, MONDAY + 8 * WEEK, "balance")
    leaking = raised(silent, begin + 2 * DAY, MONDAY + 8 * WEEK, share * 100, "inlet")
    (leak,) = [e.finding for e in watch(leaking).stored if e.finding.anomaly_type in ("burst", "slow_leak")]
    assert (leak.node_id, leak.measurement) == ("inlet", "flow_rate")
    assert leak.detected - (begin + 2 * DAY) <= 2 * DAY


def test_a_leak_that_the_loss_shows_is_not_reported_for_the_inflow_again():
    begin = MONDAY + 6 * WEEK + DAY
    leaking = raised(
        raised(metered(), begin, MONDAY + 8 * WEEK, 15.0, "inlet"), begin, MONDAY + 8 * WEEK, 15.0, "balance"
    )
    (leak,) = [e.finding for e in watch(leaking).stored if e.finding.anomaly_type in ("burst", "slow_leak")]
    assert (leak.node_id, leak.measurement) == ("balance", LOSS)
    assert leak.detected - begin <= 6 * HOUR


def test_a_leak_that_the_loss_showed_is_no_other_one_when_the_loss_is_not_known_any_more():
    begin = MONDAY + 5 * WEEK + DAY
    leaking = raised(
        raised(metered(), begin, MONDAY + 8 * WEEK, 15.0, "inlet"), begin, MONDAY + 8 * WEEK, 15.0, "balance"
    )
    silent = without(
        without(leaking, begin + WEEK, MONDAY + 8 * WEEK, "c3"), begin + WEEK, MONDAY + 8 * WEEK, "balance"
    )
    (leak,) = [e.finding for e in watch(silent).stored if e.finding.anomaly_type in ("burst", "slow_leak")]
    assert (leak.node_id, leak.measurement) == ("balance", LOSS)


def test_a_stuck_customers_meter_is_a_flat_line_and_no_leak():
    begin, end = MONDAY + 6 * WEEK + DAY + 4 * HOUR, MONDAY + 6 * WEEK + 4 * DAY
    seen = stuck(metered(), begin, end, "c3")
    at = seen.listed.index[seen.listed["node_id"] == "c3"][0]
    missed = metered().mean[:, at] - seen.mean[:, at]
    column = seen.listed.index[seen.listed["measurement"] == LOSS][0]
    for figures in (seen.mean, seen.low, seen.high):
        figures[:, column] += 5 * missed
    assert set(types(watch(seen))) == {"flat_line"}


def test_a_district_that_passes_water_on_does_not_explain_a_leak_in_the_other():
    upper = signal("a", mean=150.0, district="a", seed=5)
    lower = signal("b", mean=60.0, district="b", seed=6)
    upper.mean[:] += lower.mean - 60
    apart = together(upper, lower)
    cells, usable = cells_of(apart.hours, ROME, "IT"), np.ones(apart.mean.shape, bool)
    assert learn(apart, cells, usable).weights.any()
    chained = replace(apart, listed=apart.listed.assign(supply="a"))
    assert not learn(chained, cells, usable).weights.any()


def test_a_leak_is_found_between_the_nights_in_which_the_meter_stands_still():
    begin = MONDAY + 6 * WEEK
    inflow = raised(signal(weeks=7), begin + DAY + 8 * HOUR, MONDAY + 7 * WEEK, 40.0)
    for night in range(5):
        inflow = stuck(inflow, begin + night * DAY, begin + night * DAY + 6 * HOUR)
    events = {event.finding.anomaly_type: event.finding for event in watch(inflow).stored}
    assert set(events) == {"burst", "flat_line"}
    assert events["flat_line"].why["times"] == 5
    assert events["burst"].detected - (begin + DAY + 8 * HOUR) <= 8 * HOUR


def test_what_comes_back_is_as_severe_as_the_hours_that_show_it():
    pressure = signal("p", "pressure", weeks=7, mean=4.0, noise=0.01, daily=0.0, role="monitoring")
    for day in range(2):
        begin = MONDAY + 6 * WEEK + day * DAY + 12 * HOUR
        pressure = raised(pressure, begin, begin + 3 * HOUR, 0.5, "p")
    (event,) = [e.finding for e in watch(pressure).stored if e.finding.anomaly_type == "unusual_pressure"]
    assert (event.why["times"], event.why["hours_beyond"], event.severity) == (2, 6, "warning")


def test_irrigation_on_some_nights_is_one_event_that_names_its_hours_and_is_then_usual():
    use = signal(weeks=14, mean=10, noise=0.04)
    for week in range(8, 14):
        for day in (0, 2, 4):
            begin = MONDAY + week * WEEK + day * DAY + 2 * HOUR
            use = raised(use, begin, begin + 3 * HOUR, 4.0)
    (event,) = [event.finding for event in watch(use).stored if event.finding.end != event.finding.begin]
    assert event.begin == MONDAY + 8 * WEEK + 2 * HOUR
    assert event.end <= MONDAY + 9 * WEEK
    assert event.why["times"] == 3
    assert "from about 02:00 to 05:00 on working days" in event.why["explanation"]
    assert event.severity != "critical"


def test_a_night_set_point_that_changed_is_one_event_and_no_jump_at_its_edges():
    schedule = pressure_of(12)
    for day in range(8 * 7, 12 * 7):
        begin = MONDAY + day * DAY + 22 * HOUR
        schedule = raised(schedule, begin, begin + 7 * HOUR, -1.2, "p")
    step = schedule.change.copy()
    hour = schedule.hours.tz_convert(ROME).hour.to_numpy()
    step[(hour == 22) | (hour == 5)] = 1.2
    late = schedule.hours < MONDAY + 8 * WEEK + 20 * HOUR
    step[late] = pressure_of(12).change[late]
    events = [e.finding for e in watch(replace(schedule, change=step)).stored if e.finding.end != e.finding.begin]
    assert [event.anomaly_type for event in events] == ["unusual_pressure"]
    assert "a new use or schedule" in events[0].why["explanation"]


def test_what_comes_back_at_its_hour_is_one_event_whatever_week_it_is_judged_in():
    seen = watch(low_each(pressure_of(5), 1, 16, every=5))
    low = [event.finding for event in seen.stored if event.finding.anomaly_type == "low_pressure"]
    assert [(event.begin, event.why["times"]) for event in low] == [(MONDAY + DAY + 20 * HOUR, 3)]


def test_what_comes_back_after_somebody_declared_it_over_is_a_new_event():
    ordinary = low_each(pressure_of(3), 2, 3)
    seen = watch(ordinary, until=MONDAY + 3 * DAY)
    (event,) = seen.stored
    resolved = replace(event, resolved_by="somebody", resolved_at=MONDAY + 3 * DAY)
    seen.stored[:] = [resolved]
    again = watch(low_each(ordinary, 4, 5), MONDAY + 6 * DAY, MONDAY + 3 * DAY, seen)
    begins = sorted(event.finding.begin for event in again.stored if event.finding.anomaly_type == "low_pressure")
    assert begins == [MONDAY + 2 * DAY + 20 * HOUR, MONDAY + 4 * DAY + 20 * HOUR]
    assert watch(low_each(ordinary, 4, 5), MONDAY + 6 * DAY, MONDAY + 4 * DAY, again).stored == again.stored


@pytest.mark.parametrize("seed", range(8))
def test_no_two_events_of_one_subject_overlap(seed: int):
    random = np.random.default_rng(seed)
    troubled = pressure_of(4)
    for _ in range(30):
        begin = MONDAY + int(random.integers(0, 4 * 168 - 12)) * HOUR
        troubled = raised(troubled, begin, begin + int(random.integers(1, 12)) * HOUR, -2.0, "p")
    spans = [
        (event.finding.begin, event.finding.end)
        for event in watch(troubled).stored
        if event.finding.anomaly_type == "low_pressure" and event.finding.end != event.finding.begin
    ]
    for (_, end), (begin, _) in itertools.pairwise(sorted(spans)):
        assert end is not None
        assert end <= begin


@pytest.mark.parametrize(("lasted", "days", "size"), [(10, 2, 40.0), (12, 5, 80.0), (3, 1, 40.0)])
def test_a_burst_at_the_hour_of_an_earlier_rise_is_found_within_hours_from_its_begin_on(lasted, days, size):
    at = MONDAY + 6 * WEEK + 9 * HOUR
    earlier = raised(signal(weeks=8), at - days * DAY, at - days * DAY + lasted * HOUR, 30.0)
    found = [
        event.finding
        for event in watch(raised(earlier, at, at + 4 * DAY, size)).stored
        if event.finding.anomaly_type == "burst" and event.finding.begin >= at - 2 * HOUR
    ]
    assert len(found) == 1
    assert abs(found[0].begin - at) <= HOUR
    assert found[0].detected - at <= 8 * HOUR


def test_what_comes_back_as_an_emergency_is_an_event_of_its_own():
    ordinary = low_each(pressure_of(3), 2, 5)
    begin = MONDAY + 6 * DAY + 20 * HOUR
    events = [event.finding for event in watch(raised(ordinary, begin, begin + 3 * HOUR, -3.2, "p")).stored]
    assert [(event.begin, event.severity) for event in sorted(events, key=lambda event: event.begin)] == [
        (MONDAY + 2 * DAY + 20 * HOUR, "warning"),
        (begin, "critical"),
    ]


def flowing(values: np.ndarray, role: str = "inlet") -> Signals:
    """An inflow of these hourly means (L/s), with noise within the hours."""
    one = signal(weeks=len(values) / 168, role=role)
    mean = values[:, None]
    return replace(one, mean=mean, low=mean * 0.98, high=mean * 1.02)


def hours_of(weeks: int) -> np.ndarray:
    return signal(weeks=weeks).hours.tz_convert(ROME).hour.to_numpy()


def rationed(weeks: int = 12) -> np.ndarray:
    """An inflow that is shut from 22:00 to 05:00."""
    hour = hours_of(weeks)
    return np.where((hour >= 22) | (hour < 5), 0.0, signal(weeks=weeks, mean=20, noise=0.04).mean[:, 0])


@pytest.mark.parametrize("role", ["inlet", "monitoring"])
def test_pumping_that_moved_from_night_to_day_is_one_event(role: str):
    hour, late = hours_of(14), np.arange(14 * 168) >= 9 * 168
    pumps = np.where(late, (hour >= 10) & (hour < 18), (hour >= 22) | (hour < 6))
    volume = 60 * (1 + np.random.default_rng(0).normal(0, 0.01, len(hour)))
    (event,) = [e.finding for e in watch(flowing(np.where(pumps, volume, 0.0), role)).stored]
    assert event.anomaly_type == "unusual_flow"
    assert "from about 10:00 to 18:00" in event.why["explanation"]


def test_supply_that_is_shut_every_night_is_usual():
    assert watch(flowing(rationed())).stored == []


def test_a_night_that_was_not_shut_and_a_morning_that_did_not_come_are_reported_as_what_they_are():
    begin = 10 * 168 + 22
    open_all_night, closed = rationed(), rationed()
    open_all_night[begin : begin + 7] = 14.0
    (event,) = [e.finding for e in watch(flowing(open_all_night)).stored if e.finding.end != e.finding.begin]
    assert event.begin == MONDAY + begin * HOUR
    assert "nothing usually flows: supply that was not shut" in event.why["explanation"]
    closed[begin + 7 : begin + 16] = 0.0
    (event,) = [e.finding for e in watch(flowing(closed)).stored if e.finding.end != e.finding.begin]
    assert event.anomaly_type == "flat_line"
    assert "supply failed" in event.why["explanation"]


def test_between_the_times_that_an_event_was_there_hours_are_usual_and_are_learned():
    seen = watch(low_each(pressure_of(3), 2, 8, every=5))
    (event,) = [event for event in seen.stored if event.finding.anomaly_type == "low_pressure"]
    times = [MONDAY + day * DAY + 20 * HOUR for day in (2, 7)]
    assert event.finding.why["episodes"] == [[at.isoformat(), (at + 3 * HOUR).isoformat()] for at in times]
    history = pressure_of(3)
    usable = usable_hours(history, [event])[:, 0]
    assert history.hours[~usable].tolist() == [at + n * HOUR for at in times for n in range(3)]


def test_the_times_of_an_event_are_the_same_however_often_it_is_judged():
    signals = low_each(pressure_of(6), 2, 38, every=6)
    at_once = watch(signals)
    hourly = watch(signals, MONDAY + 2 * DAY)
    for day in range(2, 42):
        hourly = watch(signals, MONDAY + (day + 1) * DAY, MONDAY + day * DAY - 6 * HOUR, hourly)
    for seen in (at_once, hourly):
        low = [event.finding for event in seen.stored if event.finding.anomaly_type == "low_pressure"]
        # Then the limit is known not to fit.
        assert [event.why["times"] for event in low] == [5]
        assert len(low[0].why["episodes"]) == 5
