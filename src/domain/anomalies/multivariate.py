"""A district's signals seen together: that they no longer move as one, before any of them stands out alone.

What habits do not explain of each signal is averaged exponentially, and the averages are judged together by Hotelling's
T² (the multivariate exponentially weighted moving average chart; Lowry, Woodall, Champ, Rigdon, "A Multivariate
Exponentially Weighted Moving Average Control Chart", Technometrics, 1992). A leak that raises the inflow by one spread
and lowers five pressures by one spread each is far from anything they did together, though near for every single one.
How relations and the limit are learned, see `relating`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from src.domain.anomalies.signals import Flags, Floats

# The weight of the newest hour: half of what is judged is younger than two hours.
SMOOTHING = 0.3
# Deviations beyond so many spreads count as so many.
CLIP = 6.0
# With less of an average's weight on hours that were measured, the signal is silent.
_FADED = 0.5
# So many false alarms a month are allowed for.
BUDGET = 0.5
# One odd hour is not worth an alarm; so many usual ones end it.
LEAST_HOURS, QUIET_HOURS = 2, 6
DAY, DAYS_PER_MONTH = 24, 30.4


@dataclass(frozen=True)
class Relations:
    """How signals move together: `keys` name them, `center` and `precision` (inverse covariance) are of their smoothed
    deviations in spreads, `limit` is the T² that clean weeks to come exceed as often as `BUDGET` allows."""

    keys: list[str]
    center: Floats
    precision: Floats
    limit: float

    def judged(self, deviations: Floats) -> tuple[Floats, Floats, Floats]:
        """How far hours are from what is usual, and what each signal contributes.

        Args:
            deviations: hours × signals in the order of `keys`, in spreads; NaN where nothing was measured.

        Returns:
            T² in shares of the limit, by hour; hours × signals, the parts it is the sum of; and likewise, how far the
            signals' averages are from their usual ones, in spreads.
        """
        off = completed(smoothed_of(deviations) - self.center, is_silent(deviations), self.precision)
        parts = off * (off @ self.precision) / self.limit
        return parts.sum(axis=1), parts, off

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "keys": self.keys,
            "center": self.center.tolist(),
            "precision": self.precision.tolist(),
            "limit": self.limit,
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Relations:
        """What `plain` made."""
        return cls(list(plain["keys"]), np.array(plain["center"]), np.array(plain["precision"]), float(plain["limit"]))


def smoothed_of(deviations: Floats) -> Floats:
    """Exponential averages of hours × signals; where nothing was measured the average fades."""
    return _averaged(np.clip(np.nan_to_num(deviations), -CLIP, CLIP), before=0.0)


def completed(off: Floats, silent: Flags, precision: Floats) -> Floats:
    """Deviations of hours × signals with what the others let expect of the silent ones (the normal distribution's
    conditional mean), so that T² of all is T² of those that were measured (Schur complement)."""
    full = np.array(off)
    for pattern in np.unique(silent[silent.any(axis=1)], axis=0):
        hours = np.flatnonzero((silent == pattern).all(axis=1))
        measured = full[np.ix_(hours, np.flatnonzero(~pattern))]
        drawn = measured @ precision[np.ix_(~pattern, pattern)]
        full[np.ix_(hours, np.flatnonzero(pattern))] = -np.linalg.solve(precision[np.ix_(pattern, pattern)], drawn.T).T
    return full


def is_silent(deviations: Floats) -> Flags:
    """Where so little was measured lately that most of an exponential average of it has faded."""
    # Before the first hour all is taken for measured: the averages begin at their usual values.
    return np.asarray(_averaged(np.isfinite(deviations).astype(np.float64), before=1.0) < _FADED)


def _averaged(values: Floats, before: float) -> Floats:
    """Exponential averages down each column, which stood at `before` when the first hour came."""
    begun = pd.DataFrame(np.vstack([np.full((1, values.shape[1]), before), values]))
    return begun.ewm(alpha=SMOOTHING, adjust=False).mean().to_numpy()[1:]
