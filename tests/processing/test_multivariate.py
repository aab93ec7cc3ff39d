"""Signals of a district seen together: what moves as it never did is seen, what moves as ever is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.domain.anomalies.multivariate import BUDGET, DAYS_PER_MONTH, Relations, smoothed_of
from src.domain.anomalies.relating import relations

KEYS = ["flow_rate inlet", "pressure a", "pressure b", "pressure c"]


def district(hours: int = 56 * 24, seed: int = 1) -> np.ndarray:
    """Deviations in spreads: demand raises the flow and lowers all pressures, and every sensor has its own noise."""
    random = np.random.default_rng(seed)
    demand = np.zeros(hours)
    for hour in range(1, hours):
        demand[hour] = 0.7 * demand[hour - 1] + 0.7 * random.normal()
    effect = np.array([0.8, -0.8, -0.8, -0.8])
    return demand[:, None] * effect + 0.6 * random.normal(size=(hours, len(KEYS)))


def cells(hours: int) -> np.ndarray:
    """The cell of the week of hours from a Monday's midnight on."""
    day = np.arange(hours) // 24 % 7
    return np.maximum(day - 4, 0) * 24 + np.arange(hours) % 24


def learned(deviations: np.ndarray, usable: np.ndarray | None = None) -> Relations:
    usable = np.ones(deviations.shape, dtype=bool) if usable is None else usable
    found = relations(KEYS, deviations, usable, cells(len(deviations)))
    assert found is not None
    return found


def test_false_alarms_are_about_as_many_as_the_budget_allows():
    found = [learned(district(seed=seed)).judged(district(seed=seed + 100))[0] for seed in range(20)]
    days = sum(int((distance[: len(distance) // 24 * 24].reshape(-1, 24).max(axis=1) > 1).sum()) for distance in found)
    assert days / (20 * 56 / DAYS_PER_MONTH) < 3 * BUDGET


def test_a_pressure_that_leaves_its_neighbours_is_seen_and_named_though_it_stays_within_its_own_range():
    relations = learned(district())
    after = district(seed=2)
    after[500:, 2] += 2.0
    distance, parts, _ = relations.judged(after)
    assert (distance[504:520] > 1).mean() > 0.7
    assert parts[504:520].mean(axis=0).argmax() == 2
    # As far, but as demand moves all of them, is nothing.
    demand = district(seed=2)
    demand[500:] += 2.0 * np.array([0.8, -0.8, -0.8, -0.8])
    assert (relations.judged(demand)[0][504:520] > 1).mean() < 0.3


def test_the_contributions_add_up():
    distance, parts, _ = learned(district()).judged(district(seed=3))
    np.testing.assert_allclose(parts.sum(axis=1), distance)


def test_hours_over_which_an_event_lies_teach_nothing():
    disturbed, usable = district(), np.ones((56 * 24, len(KEYS)), dtype=bool)
    disturbed[300:400, 1] += 30
    usable[300:400, 1] = False
    assert learned(disturbed, usable).limit == pytest.approx(learned(district()).limit, rel=0.15)


def test_too_little_tells_nothing():
    short = district(hours=20 * 24)
    assert relations(KEYS, short, np.ones(short.shape, dtype=bool), cells(len(short))) is None
    alone = district()
    alone[:, 1:] = np.nan
    assert relations(KEYS, alone, np.ones(alone.shape, dtype=bool), cells(len(alone))) is None


def test_what_is_not_measured_fades():
    smoothed = smoothed_of(np.array([[4.0], [np.nan], [np.nan]]))
    assert smoothed[:, 0] == pytest.approx([1.2, 0.84, 0.588])


def test_relations_come_back_from_json_as_they_were():
    relations = learned(district())
    again = Relations.of(relations.plain())
    np.testing.assert_array_equal(relations.judged(district(seed=4))[0], again.judged(district(seed=4))[0])


def test_relations_that_were_stored_before_still_load():
    stored = {"keys": ["a", "b"], "center": [0.1, 0.0], "precision": [[2.0, 0.5], [0.5, 1.0]], "limit": 12.5}
    again = Relations.of(stored)
    assert again.plain() == stored
    assert again.judged(np.zeros((3, 2)))[0] == pytest.approx([0.02 / 12.5] * 3)


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_what_is_silent_neither_adds_to_the_distance_nor_takes_from_it(seed, missing):
    """T² of what is measured alone, from the part of the covariance that is theirs."""
    random = np.random.default_rng(seed)
    relations = learned(district())
    deviations = district(hours=100, seed=seed % 1000)
    silent = random.choice(len(KEYS), missing, replace=False)
    rest = np.setdiff1d(np.arange(len(KEYS)), silent)
    deviations[:, silent] = np.nan
    distance, parts, _ = relations.judged(deviations)
    covariance = np.linalg.inv(relations.precision)[np.ix_(rest, rest)]
    off = smoothed_of(deviations[:, rest]) - relations.center[rest]
    alone = (off @ np.linalg.inv(covariance) * off).sum(axis=1) / relations.limit
    np.testing.assert_allclose(distance[5:], alone[5:], rtol=1e-6)
    np.testing.assert_allclose(parts[5:, silent], 0, atol=1e-9)


def test_a_sensor_that_falls_silent_while_demand_is_unusual_is_no_alarm():
    relations = learned(district())
    demand = district(seed=5)
    demand[500:] += 2.0 * np.array([0.8, -0.8, -0.8, -0.8])
    demand[500:, 1] = np.nan
    assert (relations.judged(demand)[0][504:520] > 1).mean() < 0.3
