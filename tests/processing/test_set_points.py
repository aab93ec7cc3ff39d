"""Set-points under which every customer is supplied, whatever comes back in the weeks after; or a refusal."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from src.domain.pressure import NotKnown, Relation
from src.domain.set_points import Schedule, schedule
from src.vocabulary import MINIMUM_PRESSURE

RELATION = Relation(1.0, 0.8, 1.2, 60, 5.0, 4.5, 5.5, 3.5)
SET_POINT = 5.0
WEEKS = 13


def district(
    seed: int,
    *,
    peak: float = 0.0,
    weekdays: tuple[int, ...] = (),
    rare: float = 0.0,
    dips: int = 0,
    from_week: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hours, and the lowest pressure of three nodes in them, over `WEEKS` and four weeks more.

    Args:
        peak: what is lost besides (bar) from 20:00 to 22:00 on some weekdays, from a week on.
        rare: likewise, in single hours some ten times a month.
        dips: hours in which one node's sensor shows nothing.
    """
    random = np.random.default_rng(seed)
    index = pd.date_range("2024-01-08", periods=(WEEKS + 4) * 168, freq="h", tz="Europe/Rome")
    hour, day, week = index.hour.to_numpy(), index.dayofweek.to_numpy(), np.arange(len(index)) // 168
    swing = 0.35 + 0.25 * np.sin((hour - 9) / 24 * 2 * np.pi)
    lost = swing[:, None] * np.array([0.6, 1.0, 1.3]) * (1 + 0.05 * random.standard_normal((len(index), 1)))
    recurring = np.isin(day, weekdays) & np.isin(hour, (20, 21)) & (week >= from_week)
    lost += peak * (recurring[:, None] * random.uniform(0.85, 1, (len(index), 1)))
    if rare:
        is_rare = random.random(len(index)) < 10 / 720
        lost += rare * is_rare[:, None] * random.uniform(0.7, 1, (len(index), 1))
    lowest = pd.DataFrame(SET_POINT - lost, index=index, columns=["a", "b", "c"])
    for row in random.choice(WEEKS * 168, dips, replace=False):
        lowest.iloc[row, int(random.integers(3))] = 0.0
    hours = pd.DataFrame({"set_point": SET_POINT, "pressure": lowest.mean(axis=1)}, index=index)
    return hours, lowest


def learned(hours: pd.DataFrame, lowest: pd.DataFrame) -> Schedule:
    return schedule(RELATION, hours.iloc[: WEEKS * 168], lowest.iloc[: WEEKS * 168])


def least_after(found: Schedule, lowest: pd.DataFrame) -> float:
    """The lowest pressure of the four weeks that follow, under the schedule."""
    set_points = np.empty(24)
    for period in found.periods:
        set_points[period.begin : period.end] = period.set_point
    after = lowest.iloc[WEEKS * 168 :]
    cut = SET_POINT - set_points[pd.DatetimeIndex(after.index).hour.to_numpy()]
    # Where nothing is lowered, nothing is recommended.
    return float((after.min(axis=1) - cut)[cut > 0].min())


@pytest.mark.parametrize("seed", range(50))
def test_the_lowest_pressure_of_the_weeks_after_is_enough_or_nothing_is_recommended(seed: int):
    random = np.random.default_rng(1000 + seed)
    hours, lowest = district(
        seed,
        peak=float(random.uniform(0.5, 2.2)),
        weekdays=tuple(random.choice(7, int(random.integers(1, 4)), replace=False)),
        rare=float(random.choice([0.0, random.uniform(0.5, 1.5)])),
        dips=int(random.choice([0, 3])),
        from_week=int(random.integers(0, WEEKS)),
    )
    try:
        found = learned(hours, lowest)
    except NotKnown:
        return
    assert least_after(found, lowest) >= MINIMUM_PRESSURE


def test_a_loss_that_comes_back_on_two_evenings_a_week_counts_in_full():
    hours, lowest = district(1, peak=1.8, weekdays=(1, 4))
    found = learned(hours, lowest)
    evening = next(period for period in found.periods if period.begin <= 20 < period.end)
    night = next(period for period in found.periods if period.begin <= 3 < period.end)
    assert evening.set_point >= night.set_point + 1.0
    assert least_after(found, lowest) >= MINIMUM_PRESSURE


def test_what_one_node_shows_once_is_its_sensors():
    calm, faulty = (learned(*district(1, dips=dips)) for dips in (0, 2))
    assert [period.set_point for period in faulty.periods] == [period.set_point for period in calm.periods]


def test_what_several_nodes_show_at_once_may_come_back_in_any_hour():
    hours, lowest = district(1)
    lowest.iloc[1000] -= 1.0
    calm, once = (learned(*part) for part in (district(1), (hours, lowest)))
    assert min(period.set_point for period in once.periods) >= min(period.set_point for period in calm.periods) + 0.8


def test_set_points_that_would_have_starved_somebody_in_the_last_fortnight_are_refused():
    hours, lowest = district(1, peak=1.8, weekdays=(1, 4), from_week=WEEKS - 1)
    with pytest.raises(NotKnown, match=r"set-points of the days before would have left \d\.\d\d bar on 2024-04-"):
        learned(hours, lowest)
