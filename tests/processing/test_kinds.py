"""What a lasting rise is, where it shows, and how much water it takes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from src.domain.anomalies.events import Finding
from src.domain.anomalies.leaks import LEAKS
from src.domain.anomalies.relatives import learn
from src.domain.anomalies.shift import AGES, shifts
from src.domain.anomalies.signals import LOSS, Signals, cells_of
from tests.signals import DAY, HOUR, MONDAY, ROME, WEEK, raised, rows, signal, together, watch

AT = MONDAY + 6 * WEEK + 8 * HOUR


def multiplied(signals: Signals, start, end, by: np.ndarray | float, node_id: str = "inlet") -> Signals:
    """The signals of a node times so much within [start, end)."""
    columns = np.flatnonzero(signals.listed["node_id"] == node_id)
    figures = {}
    for name in ("mean", "low", "high"):
        values = getattr(signals, name).copy()
        part = values[rows(signals, start, end), columns[0]]
        values[rows(signals, start, end), columns[0]] = part * by
        figures[name] = values
    return replace(signals, **figures)


def leaks_of(signals: Signals, until=None, **more) -> list[Finding]:
    return [
        event.finding
        for event in watch(signals, until, **more).stored
        if event.finding.anomaly_type in LEAKS and event.finding.end != event.finding.begin
    ]


def test_the_same_flow_by_night_and_by_day_is_a_leak():
    (leak,) = leaks_of(raised(signal(weeks=7), AT, AT + 3 * DAY, 12.0))
    assert leak.why["kinds"]["leak"] > 0.95
    assert sum(leak.why["kinds"].values()) == pytest.approx(1)
    assert "as a leak" in leak.why["explanation"]


@pytest.mark.parametrize("share", [0.08, 0.3])
def test_the_same_share_of_usual_use_is_no_leak_and_nothing_for_the_night(share: float):
    (rise,) = leaks_of(multiplied(signal(weeks=7), AT, AT + 5 * DAY, 1 + share))
    assert rise.why["kinds"]["leak"] < 0.05
    assert rise.severity != "critical"


def test_demand_that_grows_for_weeks_is_reported_as_growth_and_is_never_critical():
    growth = 1 + 0.8 * np.clip(np.arange(6 * 168) / (6 * 168), 0, 1)
    events = leaks_of(multiplied(signal(weeks=14, noise=0.03), MONDAY + 8 * WEEK, MONDAY + 14 * WEEK, growth))
    assert events
    assert {event.severity for event in events} <= {"info", "warning"}
    assert events[0].why["kinds"]["demand_growth"] > 0.5


def test_water_that_another_district_gave_up_is_moved_and_not_lost():
    here = raised(signal("inlet", weeks=7), AT, AT + 2 * DAY, 14.0)
    there = raised(signal("other", weeks=7, mean=90, district="e", seed=3), AT, AT + 2 * DAY, -14.0, "other")
    beside = signal("third", weeks=7, mean=80, district="f", seed=4)
    (rise,) = [event for event in leaks_of(together(here, there, beside)) if event.node_id == "inlet"]
    assert rise.why["given_up_by"] == "other"
    assert rise.why["kinds"]["moved"] > 0.5
    assert rise.severity != "critical"
    alone = [event for event in leaks_of(together(here, beside)) if event.node_id == "inlet"]
    assert alone[0].why["given_up_by"] is None


def test_a_customers_meter_that_counts_less_is_named_for_the_loss_it_makes():
    inlet = signal(weeks=7, noise=0.01)
    meter = raised(
        signal("meter", weeks=7, mean=60, noise=0.01, role="consumption", seed=2), AT, AT + 2 * DAY, -8, "meter"
    )
    other = signal("other", weeks=7, mean=30, noise=0.01, role="consumption", seed=3)
    loss = raised(signal(weeks=7, measurement=LOSS, mean=10, noise=0.1, daily=0.0, seed=4), AT, AT + 2 * DAY, 8.0)
    (rise,) = [event for event in leaks_of(together(inlet, meter, other, loss)) if event.measurement == LOSS]
    assert rise.why["given_up_by"] == "meter"
    assert rise.why["kinds"]["meter"] > 0.5
    assert "(meter)" in rise.why["explanation"]


@pytest.mark.parametrize("seed", range(4))
def test_the_water_lost_lies_within_its_margin(seed: int):
    (leak,) = leaks_of(raised(signal(weeks=7, seed=seed), AT, AT + 3 * DAY, 12.0))
    hours = (leak.end - leak.begin) / HOUR
    assert leak.why["lost_m3_so_far"] == pytest.approx(12.0 * 3.6 * hours, abs=1.2 * leak.why["lost_m3_margin"])
    assert leak.why["lost_m3_margin"] < 0.2 * leak.why["lost_m3_so_far"]
    assert leak.why["night_flow"] == pytest.approx(leak.why["night_flow_before"] + 12.0, abs=3)


def test_the_water_lost_does_not_shrink_while_habits_learn_a_leak_that_stays():
    staying = raised(signal(weeks=11), AT, AT + 5 * WEEK, 12.0)
    lost = [leaks_of(staying, until=AT + days * DAY)[0].why["lost_m3_so_far"] for days in (5, 12, 19, 26)]
    assert lost == sorted(lost)
    assert lost[-1] == pytest.approx(12.0 * 86.4 * 26, rel=0.2)


def test_a_repair_that_did_not_hold_is_named():
    twice = raised(raised(signal(weeks=8), AT, AT + 2 * DAY, 20.0), AT + 7 * DAY, AT + 9 * DAY, 20.0)
    first, second = leaks_of(twice)
    assert first.why["came_back_after"] is None
    assert second.why["came_back_after"] == first.end.isoformat()


def test_the_sensors_that_show_a_leak_are_ranked_with_their_distances():
    def pressure(name: str, by: float, seed: int) -> Signals:
        one = signal(name, "pressure", weeks=7, mean=4, noise=0.01, daily=0, role="monitoring", seed=seed)
        return raised(one, AT, AT + 3 * DAY, by, name)

    district = together(
        raised(signal(weeks=7), AT, AT + 3 * DAY, 20.0),
        pressure("far", 0.0, 5), pressure("near", -0.4, 6), pressure("between", -0.15, 7),
    )  # fmt: skip
    places = {"near": (45.0, 9.0), "between": (45.01, 9.0)}
    (leak,) = leaks_of(district, places=places)
    names = [sensor["node_id"] for sensor in leak.why["sensors"]]
    assert names[:2] == ["near", "between"]
    assert "far" not in names
    near, between = leak.why["sensors"][:2]
    assert near["spreads"] < between["spreads"] < 0
    assert near["distance_m"] == 0
    # A hundredth of a degree of latitude.
    assert between["distance_m"] == pytest.approx(1112, rel=0.01)


def household(seed: int, weeks: int = 7) -> Signals:
    """A meter at which nothing flows by night, and now and then by day."""
    one = signal(f"home-{seed}", weeks=weeks, mean=0.05, noise=0.3, daily=0.5, role="consumption", seed=seed)
    random = np.random.default_rng(seed)
    hour = one.hours.tz_convert(ROME).hour.to_numpy()
    idle = (hour < 6) | (random.random(len(hour)) < 0.2)
    figures = {name: np.where(idle[:, None], 0.0, np.abs(getattr(one, name))) for name in ("mean", "low", "high")}
    return replace(one, **figures)


def test_households_on_holiday_are_no_stuck_sensors():
    homes = [household(seed) for seed in range(20)]
    away = []
    for home in homes:
        figures = {}
        for name in ("mean", "low", "high"):
            values = getattr(home, name).copy()
            values[rows(home, AT, AT + 6 * DAY)] = 0.0
            figures[name] = values
        away.append(replace(home, **figures))
    assert [event.finding.anomaly_type for event in watch(together(*away)).stored] == []


def test_a_household_where_water_never_stops_has_a_leak_behind_its_meter():
    dripping = raised(household(1), AT, AT + 6 * DAY, 0.02, "home-1")
    (event,) = [e.finding for e in watch(dripping).stored if e.finding.anomaly_type == "continuous_flow"]
    assert AT - DAY < event.begin <= AT + HOUR
    assert event.detected - event.begin >= 3 * DAY
    assert event.actual == pytest.approx(0.02, rel=0.3)
    assert not [e for e in watch(household(1)).stored if e.finding.anomaly_type == "continuous_flow"]


def restless(count: int, weeks: int, seed: int) -> np.ndarray:
    """Noise of so many signals whose hours remember the hour before (hours × signals)."""
    random = np.random.default_rng(seed)
    noise = np.zeros((weeks * 168, count))
    for row in range(1, len(noise)):
        noise[row] = 0.65 * noise[row - 1] + random.normal(0, 0.035, count)
    return noise


def noisy(count: int, weeks: int, seed: int = 1) -> Signals:
    """Inflows of districts that have nothing in common but their pattern."""
    parts = [signal(f"n{n}", weeks=weeks, noise=0.0, seed=n, district=f"d{n}") for n in range(count)]
    signals = together(*parts)
    values = signals.mean * np.exp(restless(count, weeks, seed))
    return replace(signals, mean=values, low=values * 0.99, high=values * 1.01)


@pytest.mark.parametrize("weeks", [3, 8])
def test_evidence_of_steps_is_as_large_as_chance_makes_it_however_short_the_history(weeks: int):
    signals = noisy(24, weeks + 5)
    cells = cells_of(signals.hours, ROME, "")
    known = weeks * 168
    history = signals.between(MONDAY, MONDAY + weeks * WEEK)
    habits = learn(history, cells[:known], np.ones(history.mean.shape, dtype=bool))
    deviation = signals.mean - habits.expected[:, cells].T
    evidence = shifts(deviation, cells, habits, known).evidence[:, known:]
    for age, of_age in zip(AGES, evidence, strict=True):
        assert 0.6 < np.std(of_age[np.isfinite(of_age)]) < 1.35, age


def test_signals_that_have_nothing_in_common_explain_nothing_of_each_other():
    signals = noisy(24, 8)
    cells = cells_of(signals.hours, ROME, "")
    habits = learn(signals, cells, np.ones(signals.mean.shape, dtype=bool))
    assert (habits.weights != 0).sum() <= 6
    # Nor do those that moved for good in the same week.
    moved = signals.mean.copy()
    moved[4 * 168 :, :6] += 20
    habits = learn(replace(signals, mean=moved), cells, np.ones(moved.shape, dtype=bool))
    assert (habits.weights[:6] != 0).sum() <= 4


@pytest.mark.parametrize("hours", [0, 1, 5, 22, 30, 168])
def test_however_little_history_there_is_habits_are_learned_of_it(hours: int):
    signals = together(signal(weeks=1), signal("other", weeks=1, district="e"))
    history = signals.between(MONDAY, MONDAY + hours * HOUR)
    habits = learn(history, cells_of(history.hours, ROME, "IT"), np.ones(history.mean.shape, dtype=bool))
    assert habits.history.tolist() == [hours, hours]
    assert not habits.is_known.any()
