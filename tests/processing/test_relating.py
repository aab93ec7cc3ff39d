"""The limit of multivariate detectors: alarms in weeks to come are as rare as the budget has it, leaks are still found.

Districts are simulated and run through what the service does: habits are learned on eight weeks, relations on the same
weeks, and the weeks after them are judged by the alarm rule.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.domain.anomalies.events import runs
from src.domain.anomalies.multivariate import BUDGET, DAYS_PER_MONTH, LEAST_HOURS, QUIET_HOURS
from src.domain.anomalies.relating import alarm_level, held_out, medians_by_cell, of_all_weeks, relations
from src.domain.anomalies.relatives import learn
from src.domain.anomalies.signals import CELLS, Floats, Integers, Signals, cells_of
from src.domain.anomalies.together import Detector, relations_of_district, unusual_together
from tests.signals import HOUR, MONDAY, ROME, WEEK

LEARNED, JUDGED = 8, 16


def correlated(random: np.random.Generator, count: int, memory: float) -> Floats:
    """An autoregression of order one of variance 1, `count` hours long."""
    from scipy.signal import lfilter

    return lfilter([np.sqrt(1 - memory**2)], [1, -memory], random.standard_normal(count))


def district(size: int, seed: int) -> Signals:
    """An inlet and pressures that demand and the weather move, each as far as it feels them, and noise of their own."""
    random = np.random.default_rng([size, seed])
    hours = pd.date_range(MONDAY, periods=(LEARNED + JUDGED) * 168, freq="h")
    cells = cells_of(hours, ROME, "IT")
    usual = 1 + 0.3 * np.sin(2 * np.pi * (cells % 24 - 7 - 2 * (cells >= 24)) / 24)
    demand = correlated(random, len(hours), 0.7) + 0.5 * correlated(random, len(hours), 0.97)
    moved = demand[:, None] * np.abs(random.normal(0, 0.5, size)) + 0.8 * random.standard_normal((len(hours), size))
    mean = np.column_stack([50 * usual + moved[:, 0], 4 - 0.3 * (usual[:, None] - 1) - 0.02 * moved[:, 1:]])
    listed = pd.DataFrame(
        {
            "node_id": [f"n{n:03d}" for n in range(size)],
            "measurement": ["flow_rate", *["pressure"] * (size - 1)],
            "district_id": "d",
            "role": ["inlet", *["monitoring"] * (size - 1)],
        }
    )
    still = np.zeros(mean.shape)
    return Signals(hours, listed, mean, mean - 1e-3, mean + 1e-3, still, still, still + 900)


@cache
def learned(size: int, seed: int) -> tuple[Signals, Floats, Detector]:
    """The weeks to judge; what habits do not explain of them, in spreads; a detector from the weeks before."""
    signals = district(size, seed)
    cells = cells_of(signals.hours, ROME, "IT")
    history, after = LEARNED * 168, signals.between(MONDAY + LEARNED * WEEK, MONDAY + (LEARNED + JUDGED) * WEEK)
    before = signals.between(MONDAY, MONDAY + LEARNED * WEEK)
    usable = np.ones(before.mean.shape, dtype=bool)
    habits = learn(before, cells[:history], usable)
    scaled = habits.unexplained(signals.mean, cells)
    found = relations_of_district(before, scaled[:history], usable, cells[:history], "d")
    assert found is not None
    return after, scaled[history:], Detector("m", "d", found, is_active=True)


@pytest.mark.parametrize(("size", "seeds"), [(15, 12), (30, 8), (60, 6)])
def test_alarms_in_clean_weeks_to_come_are_as_rare_as_the_budget_has_it_however_many_signals_there_are(
    size: int, seeds: int
):
    alarms = sum(len(unusual_together(*learned(size, seed))) for seed in range(seeds))
    assert alarms / (seeds * JUDGED * 7 / DAYS_PER_MONTH) <= 2 * BUDGET


@pytest.mark.parametrize(("size", "within", "share"), [(15, 24, 0.8), (60, 12, 0.9)])
def test_a_leak_that_moves_every_signal_by_one_spread_is_found(size: int, within: int, share: float):
    found = []
    for seed in range(3):
        signals, scaled, detector = learned(size, seed)
        for begin in range(100, len(scaled) - 72, 150):
            leaking = scaled[begin - 48 : begin + 48].copy()
            leaking[48:] += np.array([1.0, *[-1.0] * (size - 1)])
            at = signals.hours[begin].to_pydatetime()
            alarms = unusual_together(signals.between(at - 48 * HOUR, at + 48 * HOUR), leaking, detector)
            found.append(any(at < alarm.detected <= at + within * HOUR for alarm in alarms))
    assert np.mean(found) >= share


# --- how the limit is taken


def noise(size: int, seed: int = 1) -> tuple[Floats, Integers]:
    """Eight weeks of deviations, and their cells."""
    hours = pd.date_range(MONDAY, periods=LEARNED * 168, freq="h")
    return np.random.default_rng(seed).standard_normal((len(hours), size)), cells_of(hours, ROME, "IT")


@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.6))
def test_the_level_of_an_alarm_is_the_highest_limit_by_which_there_is_one(seed: int, often: float):
    random = np.random.default_rng(seed)
    distance = np.where(random.random(60) < often, random.exponential(size=60), 0.0)
    highest = alarm_level(distance).max()
    for limit, is_alarm in ((highest * 0.999, highest > 0), (highest, False)):
        beyond = (distance > limit)[:, None]
        assert bool(list(runs(beyond, np.ones_like(beyond), QUIET_HOURS, LEAST_HOURS))) == is_alarm


def test_what_a_week_is_judged_by_is_not_learned_from_it():
    deviations, cells = noise(5)
    teaches = np.ones(len(deviations), dtype=bool)
    changed = deviations.copy()
    changed[3 * 168 + 96 : 4 * 168] *= 5
    week = slice(3 * 168, 3 * 168 + 96)
    before, after = (held_out(values, teaches, cells)[week] for values in (deviations, changed))
    # A day later, an average still holds 0.7 ** 24 of what was before.
    np.testing.assert_allclose(before, after, rtol=1e-3)


def test_medians_by_cell_are_those_of_what_is_known():
    values, cells = noise(4)
    values[np.random.default_rng(2).random(values.shape) < 0.3] = np.nan
    values[cells == 30, 2] = np.nan
    medians = medians_by_cell(values, cells)
    assert medians.shape == (CELLS, 4)
    assert medians[30, 2] == 0
    for cell in (0, 40, 71):
        np.testing.assert_allclose(medians[cell], np.nanmedian(values[cells == cell], axis=0))


def test_hours_to_come_are_between_those_learned_from_and_those_held_out():
    # An error of 40 % / weeks: of eight weeks 5 %, of the seven others of a week held out 5.7 %.
    assert of_all_weeks(100 * 0.95, 100 * (1 + 0.4 / 7), 8) == pytest.approx(1.05 / (1 + 0.4 / 7))
    assert of_all_weeks(100, 90, 8) == 1


def test_what_never_moves_has_no_relations():
    deviations, cells = noise(3)
    assert relations(list("abc"), deviations * 0, np.ones(deviations.shape, dtype=bool), cells) is None


def test_a_district_of_many_signals_is_learned():
    deviations, cells = noise(200)
    found = relations([str(n) for n in range(200)], deviations, np.ones(deviations.shape, dtype=bool), cells)
    assert found is not None
    assert len(found.keys) == 200
