"""How far forecasts may be off: the spread of real errors on weeks the model had not seen, carried over to new ones.

Split conformal prediction (Lei et al., "Distribution-Free Predictive Inference for Regression", JASA 2018), with the
errors in units of each node's own hourly spread, and apart for near and far hours and for parts of the day.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from src.domain.forecasting.features import FEATURES, Examples
from src.domain.forecasting.series import HOURS, WEEK, Integers, Numbers

COVERAGE = 0.9
# Hours ahead up to which errors are alike; parts of the day, by their first hour.
NEAR = (3, 6, 12, 24, 48, 96, 168)
PARTS = (0, 5, 9, 13, 18, 22)
# With fewer errors than this a node has no width of its own.
ENOUGH_ERRORS = 200
# No node is so regular that its errors could be known to less than this share of its flow.
LEAST_SPREAD = 0.01


@dataclass(frozen=True)
class Intervals:
    """`lower`, `upper` (near, part of the day): errors in units of a node's spread; `width` (node): its own factor."""

    lower: Numbers
    upper: Numbers
    width: Numbers

    def around(self, examples: Examples, flow: Numbers) -> tuple[Numbers, Numbers]:
        """Lower and upper bounds (L/s) of forecasts, never negative; nodes not learned from have the factor 1."""
        lower, upper = self._bounds(examples)
        return np.maximum(flow + lower, 0.0), np.maximum(flow + upper, 0.0)

    def reached(self, examples: Examples, errors: Numbers) -> Numbers:
        """How far errors (L/s) are, in shares of the bound on their side; above 1 they lie outside."""
        lower, upper = self._bounds(examples)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(errors >= 0, errors / upper, errors / lower))

    def _bounds(self, examples: Examples) -> tuple[Numbers, Numbers]:
        known = examples.node < len(self.width)
        width = np.where(known, self.width[np.where(known, examples.node, 0)], 1.0) if len(self.width) else 1.0
        unit = spread_of(examples) * width
        near, part = cells_of(examples)
        return unit * self.lower[near, part], unit * self.upper[near, part]


def intervals_of(examples: Examples, errors: Numbers, nodes: int) -> Intervals:
    """Learns from the errors (measured - forecast, L/s) of examples that were not learned from.

    Weeks differ more than hours of the same week do: the bounds are widened until those learned from the other weeks
    hold in each one (cross-conformal; Vovk, "Cross-conformal predictors", 2015). Where there are no errors, nothing is
    known of how far a forecast may be off: the bounds are NaN.
    """
    week = examples.origin // (WEEK * HOURS)
    reached = np.full(len(errors), np.nan)
    if len(np.unique(week)) > 1:
        for held_out in np.unique(week):
            rest = _of_errors(examples.only(week != held_out), errors[week != held_out], nodes)
            reached[week == held_out] = rest.reached(examples.only(week == held_out), errors[week == held_out])
    known = reached[np.isfinite(reached)]
    wider = max(float(np.quantile(known, COVERAGE)), 1.0) if len(known) else 1.0
    learned = _of_errors(examples, errors, nodes)
    return Intervals(wider * learned.lower, wider * learned.upper, learned.width)


def _of_errors(examples: Examples, errors: Numbers, nodes: int) -> Intervals:
    alike = errors / spread_of(examples)
    known = np.isfinite(alike)
    tails = (1 - COVERAGE) / 2, (1 + COVERAGE) / 2
    whole = np.quantile(np.abs(alike[known]), COVERAGE) if known.any() else np.nan
    width = np.ones(nodes)
    for node in range(nodes):
        of_node = np.abs(alike[known & (examples.node == node)])
        if len(of_node) >= ENOUGH_ERRORS and whole > 0:
            width[node] = np.quantile(of_node, COVERAGE) / whole
    alike = alike / width[examples.node]
    near, part = cells_of(examples)
    lower, upper = np.full((len(NEAR), len(PARTS)), -whole), np.full((len(NEAR), len(PARTS)), whole)
    for n in range(len(NEAR)):
        for p in range(len(PARTS)):
            of_cell = alike[known & (near == n) & (part == p)]
            if len(of_cell) >= ENOUGH_ERRORS:
                lower[n, p], upper[n, p] = np.quantile(of_cell, tails)
    # A forecast lies within its own interval, however lopsided the errors were.
    return Intervals(np.minimum(lower, 0.0), np.maximum(upper, 0.0), width)


def spread_of(examples: Examples) -> Numbers:
    """Of each example's node the recent hourly spread around its usual flow, L/s."""
    spread = examples.values[:, FEATURES.index("spread")].astype(np.float64)
    return np.asarray(np.fmax(spread, LEAST_SPREAD) * examples.scale)


def cells_of(examples: Examples) -> tuple[Integers, Integers]:
    """How near, and in which part of the day, the target of each example lies."""
    hour = examples.values[:, FEATURES.index("hour")]
    near = np.searchsorted(np.array(NEAR), examples.ahead, side="right")
    return np.minimum(near, len(NEAR) - 1), np.searchsorted(np.array(PARTS), hour, side="right") - 1
