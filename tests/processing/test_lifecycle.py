"""Decisions about models: each from figures alone, each with its reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from src.domain import lifecycle
from src.domain.lifecycle import Comparison, compare, judge_active, judge_first, judge_shadow, judge_training

NOW = datetime(2023, 5, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


def errors(hours: int, error: float, other: float, seed: int = 1, memory: float = 0.0) -> pd.DataFrame:
    """Absolute errors around two means, with a memory of the hour before."""
    random = np.random.default_rng(seed)
    common = np.abs(random.normal(1, 0.3, hours))
    noise = random.normal(0, 0.3, hours)
    for n in range(1, hours):
        noise[n] += memory * noise[n - 1]
    index = pd.date_range(NOW, periods=hours, freq="h")
    return pd.DataFrame({"own": error * common + noise, "other": other * common}, index=index)


def test_a_clearly_better_shadow_is_promoted_after_its_day_and_not_before():
    comparison = compare(errors(24, error=0.5, other=1.5))
    assert judge_shadow(comparison, NOW, NOW + 23 * HOUR).action == lifecycle.WAIT
    verdict = judge_shadow(comparison, NOW, NOW + 24 * HOUR)
    assert verdict.action == lifecycle.PROMOTE
    assert "over 24 hours its error is" in verdict.reason


def test_a_shadow_no_better_waits_for_a_week_and_retires():
    comparison = compare(errors(168, error=1.1, other=1.0))
    assert judge_shadow(comparison, NOW, NOW + timedelta(days=6)).action == lifecycle.WAIT
    assert judge_shadow(comparison, NOW, NOW + timedelta(days=7)).action == lifecycle.RETIRE


def test_nothing_compared_promotes_nothing():
    nothing = compare(pd.DataFrame({"own": [], "other": []}))
    assert nothing.hours == 0
    assert judge_shadow(nothing, NOW, NOW + timedelta(days=2)).action == lifecycle.WAIT
    assert judge_shadow(nothing, NOW, NOW + timedelta(days=7)).action == lifecycle.RETIRE


def test_equal_models_whose_errors_have_a_memory_are_seldom_called_different():
    wrong = sum(compare(errors(168, 1.0, 1.0, seed, memory=0.7)).p_value < 0.05 for seed in range(300))
    assert wrong / 300 < 0.09


def test_an_equal_shadow_is_seldom_promoted_though_it_is_judged_again_and_again_for_a_week():
    def is_promoted(seed: int) -> bool:
        compared = errors(168, 1.0, 1.0, seed, memory=0.5)
        looks = range(24, 169, 6)
        return any(
            judge_shadow(compare(compared[:hours]), NOW, NOW + hours * HOUR).action == lifecycle.PROMOTE
            for hours in looks
        )

    assert sum(is_promoted(seed) for seed in range(50)) / 50 < 0.1


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), hours=st.integers(24, 168))
def test_one_of_two_models_at_most_is_better(seed: int, hours: int):
    compared = errors(hours, 0.9, 1.0, seed)
    there = compare(compared).p_value
    back = compare(compared.rename(columns={"own": "other", "other": "own"})).p_value
    assert there + back == pytest.approx(1.0)


def test_a_model_a_fifth_worse_than_its_fallback_is_rolled_back_while_the_fallback_is_there():
    worse, alike = Comparison(24, 1.3, 1.0, 0.9), Comparison(24, 1.19, 1.0, 0.9)
    assert judge_active(worse, NOW, NOW + 24 * HOUR).action == lifecycle.ROLL_BACK
    assert judge_active(alike, NOW, NOW + 24 * HOUR).action == lifecycle.KEEP
    assert judge_active(worse, NOW, NOW + timedelta(days=8)).action == lifecycle.KEEP
    assert judge_active(Comparison(5, 9.0, 1.0, 1.0), NOW, NOW + 5 * HOUR).action == lifecycle.KEEP


@pytest.mark.parametrize(
    ("hours", "error", "p_value", "action"),
    [
        (6, 2.1, 0.99, lifecycle.ROLL_BACK),
        (6, 1.9, 0.99, lifecycle.KEEP),
        (6, 2.1, 0.9, lifecycle.KEEP),
        (5, 2.1, 0.99, lifecycle.KEEP),
    ],
)
def test_one_that_is_plainly_worse_is_not_waited_for_a_night(hours: int, error: float, p_value: float, action: str):
    assert judge_active(Comparison(hours, error, 1.0, p_value), NOW, NOW + hours * HOUR).action == action


def test_an_error_a_fifth_above_validation_calls_for_training():
    assert judge_training(1.25, 1.0, 72) is not None
    assert judge_training(1.15, 1.0, 72) is None
    assert judge_training(9.0, 1.0, 3) is None
    assert judge_training(float("nan"), 1.0, 72) is None


def test_the_first_model_must_beat_the_usual_flow():
    assert judge_first(0.9, 1.0).action == lifecycle.PROMOTE
    assert judge_first(1.0, 1.0).action == lifecycle.RETIRE
    assert judge_first(float("nan"), float("nan")).action == lifecycle.RETIRE
