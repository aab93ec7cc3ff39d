"""What becomes of models: promotion out of shadow, rollback, retraining. Pure decisions, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from scipy import special

from src.domain.anomalies.multivariate import BUDGET, DAYS_PER_MONTH

# A shadow is judged after a day beside the active model, and retires where a week was not enough.
SHADOW_FOR, SHADOW_AT_MOST = timedelta(hours=24), timedelta(days=7)
# So long the model that was replaced stays loaded.
FALLBACK_FOR = timedelta(days=7)
# The chance of being wrong that a decision by one comparison may have.
SIGNIFICANCE = 0.05
# A shadow is compared every hour of its week, and among so many comparisons one is soon fortunate: at 0.05, 22 of 100
# shadows that are no better were promoted, at this level 4, or 6 where half of an hour's error is left in the next
# (2 000 simulated weeks). A constant level for repeated looks: Pocock, "Group Sequential Methods in the Design and
# Analysis of Clinical Trials", 1977.
SIGNIFICANCE_OF_A_LOOK = 0.002
# An error this many times that of validation calls for a new model; that of the fallback, for the fallback.
DEGRADED = 1.2
# Models are compared by forecasts this near: within a day both have forecast each hour as often.
JUDGED_HOURS = 24
# Fewer compared hours prove nothing, whatever they show.
FEWEST_HOURS = 20
# Detectors are judged by their alarms of so many days. More false ones than the budget are put down to chance, where it
# is likelier than this.
RECORD_DAYS, CHANCE = 56, 0.05
# One that sees this share of so many leaks sees leaks: in its own way, and so those that others miss.
SEEN_SHARE, FEWEST_LEAKS = 0.5, 2
# What is this many times as wrong as its fallback, and surely worse, need not be waited for so long.
PLAINLY_WORSE, FEWEST_HOURS_OF_PLAINLY_WORSE = 2.0, 6
WAIT, PROMOTE, RETIRE, ROLL_BACK, KEEP = "wait", "promote", "retire", "roll_back", "keep"


@dataclass(frozen=True)
class Verdict:
    """What is to be done, and why, in a sentence."""

    action: str
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Mean absolute errors (L/s) of two models on the same targets, and how sure it is that the first is better."""

    hours: int
    error: float
    other_error: float
    p_value: float


def compare(errors: pd.DataFrame) -> Comparison:
    """Compares two models on targets that both have forecast.

    Args:
        errors: index target hours (several rows of an hour are averaged), columns `own` and `other`: absolute errors.

    Returns:
        `p_value` of the one-sided test of Diebold and Mariano ("Comparing Predictive Accuracy", 1995) with the
        correction for few hours of Harvey, Leybourne and Newbold (1997): the errors of neighbouring hours are alike,
        so that a day counts for less than 24 independent hours. 1 where nothing differs or nothing was compared.
    """
    hourly = errors.dropna().groupby(level=0)[["own", "other"]].mean().sort_index()
    count = len(hourly)
    if not count:
        return Comparison(0, np.nan, np.nan, 1.0)
    gain = (hourly["other"] - hourly["own"]).to_numpy()
    mean = gain.mean()
    centred = gain - mean
    # So many hours a difference is remembered; Bartlett's weights keep the variance positive.
    lags = min(12, count // 3)
    variance = (centred @ centred) / count
    for lag in range(1, lags + 1):
        variance += 2 * (1 - lag / (lags + 1)) * (centred[lag:] @ centred[:-lag]) / count
    p_value = 1.0
    if variance > 0 and count > 1:
        horizon = lags + 1
        correction = max((count + 1 - 2 * horizon + horizon * (horizon - 1) / count) / count, 0.0)
        p_value = float(special.stdtr(count - 1, -mean / np.sqrt(variance / count) * np.sqrt(correction)))
    return Comparison(count, float(hourly["own"].mean()), float(hourly["other"].mean()), p_value)


def judge_first(mae: float, usual_mae: float) -> Verdict:
    """Whether the first model of its kind may forecast: it must be better than the usual flow of the hour."""
    if np.isfinite(mae) and np.isfinite(usual_mae) and mae < usual_mae:
        return Verdict(
            PROMOTE, f"its validation error of {mae:.3g} L/s is below that of usual flow, {usual_mae:.3g} L/s"
        )
    return Verdict(
        RETIRE, f"its validation error of {mae:.3g} L/s is not below that of usual flow, {usual_mae:.3g} L/s"
    )


def judge_baseline(reason: str) -> Verdict:
    """The usual flow forecasts where nothing better does, under a method of its own."""
    return Verdict(PROMOTE, f"the usual flow of the hour until a model is better: {reason}")


def judge_shadow(comparison: Comparison, since: datetime, now: datetime) -> Verdict:
    """What becomes of a shadow (the comparison's first) beside its active model."""
    beside = now - since
    evidence = (
        f"over {comparison.hours} hours its error is {comparison.error:.3g} L/s, the active model's "
        f"{comparison.other_error:.3g} L/s (p = {comparison.p_value:.2g})"
    )
    if beside < SHADOW_FOR:
        return Verdict(WAIT, f"it has run beside the active model for {_hours(beside)} of {_hours(SHADOW_FOR)}")
    if comparison.hours >= FEWEST_HOURS and comparison.p_value < SIGNIFICANCE_OF_A_LOOK:
        return Verdict(PROMOTE, evidence)
    if beside >= SHADOW_AT_MOST:
        return Verdict(RETIRE, f"not shown to be better within {SHADOW_AT_MOST.days} days: {evidence}")
    return Verdict(WAIT, f"not shown to be better yet: {evidence}")


def judge_active(comparison: Comparison, promoted: datetime, now: datetime) -> Verdict:
    """Whether an active model (the comparison's first) gives way to the one it replaced, its fallback."""
    if now - promoted > FALLBACK_FOR:
        return Verdict(KEEP, f"its fallback ended {FALLBACK_FOR.days} days after its promotion")
    evidence = f"over {comparison.hours} hours its error is {comparison.error:.3g} L/s, its fallback's "
    evidence += f"{comparison.other_error:.3g} L/s"
    enough = comparison.hours >= FEWEST_HOURS
    plainly_worse = (
        comparison.hours >= FEWEST_HOURS_OF_PLAINLY_WORSE
        and comparison.error > PLAINLY_WORSE * comparison.other_error
        and comparison.p_value > 1 - SIGNIFICANCE
    )
    if plainly_worse or (enough and comparison.error > DEGRADED * comparison.other_error):
        return Verdict(ROLL_BACK, evidence)
    return Verdict(KEEP, evidence if enough else f"only {comparison.hours} hours were compared with its fallback")


def judge_training(error: float, validation_error: float, hours: int) -> Verdict | None:
    """Whether a model's rolling error calls for a new one; None where it does not."""
    if hours >= FEWEST_HOURS and validation_error > 0 and error > DEGRADED * validation_error:
        return Verdict(
            "train",
            f"its error of {error:.3g} L/s is over {DEGRADED:g} times that of its validation, "
            f"{validation_error:.3g} L/s",
        )
    return None


@dataclass(frozen=True)
class Record:
    """What a district's multivariate detector did in the `days` since it began to watch, `RECORD_DAYS` at most.

    `seen` of the `leaks` that anything found raised its alarm too, `earlier` of them before any other detector, by a
    median of `hours_earlier`. Of its `alarms`, `alone` had no other event beside them.
    """

    days: float
    leaks: int
    seen: int
    earlier: int
    hours_earlier: float
    alarms: int
    alone: int

    @property
    def allowed(self) -> int:
        """So many lone alarms the budget allows for: Poisson's 95 % quantile."""
        return int(np.ceil(special.pdtrik(1 - CHANCE, BUDGET * self.days / DAYS_PER_MONTH)))

    @property
    def summary(self) -> str:
        """In words."""
        before = f" by a median of {self.hours_earlier:.0f} h" if self.earlier else ""
        return (
            f"in {self.days:.0f} days it saw {self.seen} of {self.leaks} leaks, {self.earlier} of them before anything "
            f"else did{before}, and raised {self.alone} alarms beside which nothing else was reported ({self.allowed} "
            "allowed)"
        )


def judge_detector(record: Record, since: datetime, now: datetime, has_active: bool) -> Verdict:
    """What becomes of a district's multivariate detector in shadow.

    Args:
        record: of the district's detectors, whatever their version.
        has_active: whether an earlier version's findings are events already: then it has shown what it is good for.
    """
    if now - since < SHADOW_FOR:
        return Verdict(WAIT, f"it has been in shadow for {_hours(now - since)} of {_hours(SHADOW_FOR)}")
    if record.alone > record.allowed:
        return Verdict(WAIT, f"too many false alarms: {record.summary}")
    sees = record.leaks >= FEWEST_LEAKS and record.seen >= SEEN_SHARE * record.leaks
    if record.earlier or sees or has_active:
        return Verdict(PROMOTE, record.summary)
    return Verdict(WAIT, f"not shown to see leaks yet: {record.summary}")


def judge_active_detector(record: Record) -> Verdict:
    """Whether a detector whose findings are events goes back to where it can do no harm."""
    if record.alone > record.allowed:
        return Verdict(RETIRE, f"too many false alarms: {record.summary}")
    return Verdict(KEEP, record.summary)


def _hours(span: timedelta) -> str:
    return f"{span / timedelta(hours=1):.0f} h"
