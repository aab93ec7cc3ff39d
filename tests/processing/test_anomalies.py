"""What detectors report, and what they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.domain.anomalies.events import runs
from src.domain.anomalies.habits import Habits, habits_from
from src.domain.anomalies.limits import SERVICE_PRESSURE, Limits, limits_of
from src.domain.anomalies.relatives import learn
from src.domain.anomalies.signals import HOLIDAY, LOSS, SATURDAY, WORKDAY, cells_of, kinds_of_day
from src.domain.anomalies.watch import WITHDRAWN
from tests.signals import (
    DAY,
    HOUR,
    MONDAY,
    ROME,
    WEEK,
    raised,
    reported,
    rows,
    signal,
    stuck,
    together,
    types,
    watch,
    without,
)

# In the fifth week habits are known and there is a week to come.
AT = MONDAY + 4 * WEEK + 2 * DAY + 10 * HOUR


@settings(max_examples=200)
@given(states=st.lists(st.sampled_from("fnm"), max_size=40), quiet=st.integers(1, 4))
def test_runs_hold_every_flag_and_are_parted_by_enough_normal_hours_only(states, quiet):
    flags = np.array([[state == "f"] for state in states], dtype=bool).reshape(-1, 1)
    normal = np.array([[state == "n"] for state in states], dtype=bool).reshape(-1, 1)
    found = list(runs(flags, normal, quiet))
    covered = {row for run in found for row in range(run.first, run.last + 1)}
    assert {row for row, state in enumerate(states) if state == "f"} <= covered
    for before, after in zip(found, [*found[1:], None], strict=False):
        between = states[before.last + 1 : after.first if after else None]
        assert (between.count("n") >= quiet) == (after is not None or before.is_over)
        inside = "".join(states[before.first : before.last + 1])
        assert all(gap.count("n") < quiet for gap in inside.split("f"))


def test_nothing_is_reported_in_ordinary_weeks():
    for seed in range(3):
        pressure = signal("p", "pressure", mean=4.0, noise=0.01, daily=0.05, role="monitoring", seed=seed + 50)
        assert types(watch(together(signal(seed=seed), pressure))) == []


def test_pressure_has_service_limits_and_a_node_its_own():
    pressure = signal("p", "pressure", weeks=1, mean=4.0, noise=0.01, daily=0.0, role="monitoring")
    low = raised(pressure, MONDAY + DAY, MONDAY + DAY + 5 * HOUR, -1.8, "p")
    event = watch(low).stored[0].finding
    assert (event.anomaly_type, event.severity, event.expected) == ("low_pressure", "warning", 2.5)
    assert (event.begin, event.end) == (MONDAY + DAY, MONDAY + DAY + 5 * HOUR)
    assert event.actual == pytest.approx(2.2, abs=0.2)
    emptied = watch(raised(pressure, MONDAY + DAY, MONDAY + DAY + 5 * HOUR, -3.0, "p")).stored[0].finding
    assert (emptied.severity, emptied.expected) == ("critical", 1.5)
    assert types(watch(low, metadata={"limits": {"pressure": {"low": 2.0}}})) == []


def test_limits_that_make_no_sense_count_as_not_stated_and_tanks_have_none():
    assert limits_of("pressure", "monitoring", {"limits": "high"}) == SERVICE_PRESSURE
    assert limits_of("pressure", None, {"limits": {"pressure": {"low": "low"}}}) == SERVICE_PRESSURE
    assert limits_of("pressure", None, {"limits": {"pressure": {"low": None}}}) == replace(
        SERVICE_PRESSURE, low=None, is_stated=True
    )
    assert limits_of("pressure", "storage", {}) == limits_of("flow_rate", "inlet", {}) == Limits()
    assert limits_of("flow_rate", "inlet", {"limits": {"flow_rate": {"high": 50}}}) == Limits(high=50.0, is_stated=True)


def test_a_value_that_never_stands_still_and_does_is_a_flat_line():
    event = watch(stuck(signal(), AT, AT + DAY)).stored[0].finding
    assert (event.anomaly_type, event.begin, event.end) == ("flat_line", AT, AT + DAY)
    assert event.detected - event.begin <= 6 * HOUR


def test_a_sensor_that_often_stands_still_may():
    restful = signal()
    for day in range(42):
        restful = stuck(restful, MONDAY + day * DAY, MONDAY + day * DAY + 8 * HOUR)
    assert "flat_line" not in types(watch(stuck(restful, AT, AT + 10 * HOUR)))
    assert "flat_line" in types(watch(stuck(restful, AT, AT + 40 * HOUR)))


def test_a_silence_is_recognised_by_the_nodes_own_cadence_and_lasts_until_it_reports():
    quiet = without(signal(), AT, AT + 3 * HOUR)
    event = watch(quiet).stored[0].finding
    assert (event.anomaly_type, event.measurement) == ("silent", None)
    assert (event.begin, event.detected, event.end) == (AT, AT + 2 * HOUR, AT + 3 * HOUR)
    assert types(watch(without(signal(cadence=3600.0), AT, AT + 2 * HOUR))) == []
    going_on = watch(quiet, until=AT + 3 * HOUR).stored[0]
    assert (going_on.finding.end, going_on.resolved_at) == (None, None)


def test_one_measurement_that_is_missing_is_reported_for_that_measurement():
    node = together(
        signal("n", role=None), signal("n", "pressure", mean=4.0, noise=0.01, daily=0.05, role=None, seed=2)
    )
    node.mean[rows(node, AT, AT + 6 * HOUR), 1] = np.nan
    event = watch(node).stored[0].finding
    assert (event.anomaly_type, event.measurement) == ("silent", "pressure")


def test_when_most_nodes_fall_silent_at_once_it_is_one_event_of_what_collects_from_them():
    network = together(*(signal(f"n{n}", seed=n, district=f"d{n}") for n in range(5)))
    for n in range(4):
        network = without(network, AT, AT + 5 * HOUR, f"n{n}")
    network = without(network, AT, AT + 12 * HOUR, "n3")
    found = watch(network).stored
    assert sorted(event.finding.anomaly_type for event in found) == ["collection_outage", "silent"]
    outage = next(event.finding for event in found if event.finding.anomaly_type == "collection_outage")
    assert (outage.begin, outage.end, outage.why["nodes"]) == (AT, AT + 5 * HOUR, ["n0", "n1", "n2", "n3"])
    alone = next(event.finding for event in found if event.finding.anomaly_type == "silent")
    assert (alone.node_id, alone.begin, alone.end) == ("n3", AT + 5 * HOUR, AT + 12 * HOUR)


def test_spikes_and_jumps_are_judged_by_the_sensors_own_habit():
    at = rows(signal(), AT, AT + HOUR)
    spiky = signal()
    spiky.spike[at], spiky.change[at] = 60.0, 60.0
    assert types(watch(spiky)) == ["spikes"]
    stepping = signal()
    stepping.change[at] = 90.0
    assert types(watch(stepping)) == ["jump"]
    used_to_it = signal()
    used_to_it.spike[::12], used_to_it.change[::12] = 60.0, 60.0
    assert types(watch(used_to_it)) == []


def test_what_many_sensors_of_a_district_show_at_once_is_one_event_of_the_water():
    parts = [signal(f"p{n}", "pressure", mean=4, noise=0.01, daily=0, role="monitoring", seed=n) for n in range(5)]
    for part in parts[:4]:
        part.spike[rows(part, AT, AT + HOUR)] = 1.0
    assert types(watch(together(*parts))) == ["transient"]


@pytest.mark.parametrize(
    ("reason", "kind"),
    [("flow_rate_negative", "negative_flow"), ("pressure_too_high", "out_of_range"), ("conflicting", "clock_jump")],
)
def test_impossible_readings_are_reported_where_they_are_many(reason: str, kind: str):
    quarters = pd.date_range(AT, AT + 2 * HOUR, freq="15min", inclusive="left", tz="UTC")
    set_aside = pd.DataFrame({"node_id": "inlet", "quarter_start": quarters, "reason": reason, "readings": 1})
    event = watch(signal(), rejections=set_aside).stored[0].finding
    assert (event.anomaly_type, event.begin, event.end) == (kind, AT, AT + 2 * HOUR)
    assert event.why["readings_set_aside"] == 8
    seldom = signal(cadence=60.0)
    assert types(watch(seldom, rejections=set_aside)) == []


def test_hours_far_from_their_pattern_are_reported_once_habits_are_known():
    supply = raised(signal(role="consumption"), AT, AT + 6 * HOUR, -60.0)
    event = watch(supply).stored[0].finding
    assert (event.anomaly_type, event.measurement, event.begin) == ("unusual_flow", "flow_rate", AT)
    assert event.actual < event.expected
    assert event.deviation_percentage == pytest.approx(-60, abs=25)
    learning = raised(signal(role="consumption"), MONDAY + 10 * DAY, MONDAY + 10 * DAY + 6 * HOUR, -60.0)
    assert types(watch(learning, until=MONDAY + 2 * WEEK)) == []


def test_holidays_are_sundays():
    days = pd.DatetimeIndex(["2023-06-01 10:00", "2023-06-02 10:00", "2023-06-03 10:00", "2023-06-04 10:00"], tz="UTC")
    assert kinds_of_day(days, ROME, "IT").tolist() == [WORKDAY, HOLIDAY, SATURDAY, HOLIDAY]
    assert kinds_of_day(days, ROME, "").tolist() == [WORKDAY, WORKDAY, SATURDAY, HOLIDAY]


@pytest.mark.parametrize("seed", range(4))
def test_a_burst_is_found_within_hours_sized_and_over_when_it_is_repaired(seed: int):
    burst = raised(signal(seed=seed), AT, AT + 3 * DAY, 10.0)
    found = watch(burst).stored
    assert [event.finding.anomaly_type for event in found] == ["burst"]
    event = found[0].finding
    assert event.detected - AT <= 12 * HOUR
    assert abs(event.begin - AT) <= 6 * HOUR
    assert abs(event.end - (AT + 3 * DAY)) <= 6 * HOUR
    assert event.why["size_now"] == pytest.approx(10, rel=0.25)
    assert event.why["share_percent"] == pytest.approx(10, rel=0.25)


def test_a_leak_that_grows_slowly_is_found_before_it_is_large():
    growing = signal(weeks=8)
    begin = rows(growing, AT, AT + 20 * DAY)
    size = np.linspace(0, 15, begin.stop - begin.start)[:, None]
    for values in (growing.mean, growing.low, growing.high):
        values[begin] += size
    event = watch(growing).stored[0].finding
    assert event.anomaly_type in ("slow_leak", "burst")
    assert (event.detected - AT) / (20 * DAY) * 15 < 8


def test_a_burst_on_top_of_a_leak_is_an_event_of_its_own():
    leaking = raised(signal(weeks=8), AT, AT + 10 * DAY, 10.0)
    twice = raised(leaking, AT + 3 * DAY, AT + 5 * DAY, 25.0)
    found = [event.finding for event in watch(twice, AT + 10 * DAY).stored]
    assert [event.anomaly_type for event in found] == ["burst", "burst"]
    assert abs(found[1].begin - (AT + 3 * DAY)) <= 6 * HOUR
    assert abs(found[1].end - (AT + 5 * DAY)) <= 6 * HOUR
    assert found[0].end is None


def test_water_that_no_meter_accounts_for_tells_a_leak_of_one_percent():
    loss = signal(measurement=LOSS, mean=1.0, noise=0.3, daily=0.0, seed=9)
    loss.low[:], loss.high[:] = np.nan, np.nan
    both = together(signal(), loss)
    both.mean[rows(both, AT, AT + 2 * DAY), 1] += 1.5
    event = watch(both).stored[0].finding
    assert (event.anomaly_type, event.measurement, event.method) == ("burst", LOSS, "water_balance")
    assert event.why["share_percent"] == pytest.approx(1.5, abs=0.3)


def test_a_burst_is_confirmed_by_the_pressure_of_its_district_and_more_severe():
    pressure = signal("p", "pressure", mean=4.0, noise=0.01, daily=0.05, role="monitoring", seed=3)
    burst = together(raised(signal(), AT, AT + DAY, 10.0), pressure)
    unconfirmed = watch(burst, until=AT + DAY).stored[0].finding
    confirmed = watch(raised(burst, AT, AT + DAY, -0.2, "p"), until=AT + DAY).stored
    event = next(e.finding for e in confirmed if e.finding.anomaly_type == "burst")
    assert event.why["confirmed_by_pressure"]["node_id"] == "p"
    severities = ["info", "warning", "critical"]
    assert severities.index(event.severity) > severities.index(unconfirmed.severity)
    # One trouble of one district is one incident.
    assert len({event.incident_id for event in confirmed}) == 1


def troubled():
    """Two inlets with a burst, a flat line, a silence and low flow."""
    first = raised(signal("inlet"), AT, AT + 2 * DAY, 12.0)
    second = signal("other", seed=5, district="e")
    second = stuck(second, AT + 5 * HOUR, AT + 20 * HOUR, "other")
    second = without(second, AT + 40 * HOUR, AT + 47 * HOUR, "other")
    return together(first, raised(second, AT + 60 * HOUR, AT + 66 * HOUR, -70.0, "other"))


def test_judging_hour_by_hour_again_and_again_finds_the_same_as_judging_at_once():
    signals = troubled()
    until = AT + 4 * DAY
    at_once = reported(watch(signals, until))
    assert {kind for _, kind, *_ in at_once} == {"burst", "flat_line", "silent", "unusual_flow"}
    watched = watch(signals, AT - DAY)
    now = AT - DAY
    while now < until:
        now += 5 * HOUR
        # A tick judges again from the day before on, as late readings may have changed it.
        watched = watch(signals, min(now, until), now - 30 * HOUR, watched)
    assert reported(watched) == at_once
    before = list(watched.stored)
    watched.touched.clear()
    assert watch(signals, until, until - 2 * DAY, watched).stored == before
    assert not watched.touched


def test_readings_that_arrive_late_close_the_silence_they_heal():
    whole = signal()
    watched = watch(without(whole, AT, AT + 6 * HOUR), AT + 6 * HOUR)
    assert watched.stored[0].resolved_at is None
    healed = watch(whole, AT + 8 * HOUR, AT - 10 * HOUR, watched).stored
    assert len(healed) == 1
    assert (healed[0].resolved_at, healed[0].finding.why["closed_because"]) == (AT + 8 * HOUR, WITHDRAWN)


def test_what_was_resolved_by_hand_stays_so_and_is_not_reported_again_while_it_lasts():
    burst = raised(signal(weeks=8), AT, AT + 8 * DAY, 12.0)
    watched = watch(burst, AT + DAY)
    assert types(watched) == ["burst"]
    watched.stored[0] = replace(watched.stored[0], resolved_by="somebody", resolved_at=AT + DAY)
    later = watch(burst, AT + 7 * DAY, AT - 10 * HOUR, watched)
    assert types(later) == ["burst"]
    assert later.stored[0].resolved_at == AT + DAY


def test_events_do_not_become_habits():
    stood = stuck(signal(), MONDAY + 20 * DAY, MONDAY + 23 * DAY)
    found = watch(stood, AT)
    assert types(found) == ["flat_line"]
    # The next one is found as soon as the first was.
    again = stuck(stood, AT, AT + 12 * HOUR)
    second = watch(again, AT + 12 * HOUR, AT - HOUR, found).stored[-1].finding
    assert second.detected - second.begin <= 6 * HOUR


def test_habits_survive_being_stored():
    signals = together(
        signal("a", district="a"), signal("b", district="b", seed=2), signal("new", weeks=6, district="c")
    )
    signals = without(signals, MONDAY, MONDAY + 6 * WEEK - 2 * HOUR, "new")
    learned = learn(signals, cells_of(signals.hours, ROME, "IT"), np.ones(signals.mean.shape, dtype=bool))
    keys = ["flow a", "flow b", "flow new"]
    back = habits_from(learned.described(keys), keys)
    for name in Habits.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(back, name)[:2], getattr(learned, name)[:2], err_msg=name)
    assert back.is_known.tolist() == [True, True, False]
    # A peer that is no longer there explains nothing.
    assert not habits_from(learned.described(keys)[:1], keys[:1]).weights.any()


def test_what_all_districts_do_is_no_news():
    weather = np.clip(np.random.default_rng(77).standard_normal(6 * 168).cumsum() / 2, -12, 12)[:, None]
    everybody = [signal(f"d{n}", district=f"d{n}", seed=n) for n in range(6)]
    for district in everybody:
        for values in (district.mean, district.low, district.high):
            values += weather
    assert types(watch(everybody[0])) != []
    assert types(watch(together(*everybody))) == []
