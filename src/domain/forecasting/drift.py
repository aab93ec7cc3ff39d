"""Drift: whether what a model forecasts now is still like what it learned from.

By the population stability index (Siddiqi, "Credit Risk Scorecards", 2006), sum of (now - then) * ln(now / then)
over bins that held equal shares then, above 0.25 by custom. As days that follow each other are alike, and a pool of few
nodes has few values, the index of a few days is often larger without any drift: its limit is three times what
19 of 20 spans of the training's own days stayed below, and never less than that 0.25. Only what is relative to a node's
own recent weeks is watched, and compared with days of the same season where there were enough: summer is no drift.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.domain.forecasting.features import FEATURES, Examples
from src.domain.forecasting.series import HOURS, Integers, Numbers

WATCHED = ("odd_24_hours", "odd_168_hours", "spread", "level_week", "trend")
PREDICTED = "predicted"
BINS, LEAST_LIMIT = 8, 0.25
# Days that are compared with the training at once; the limit is so many times the index that this share of such days of
# the training stayed below.
BLOCK_DAYS, ABOVE, MOST_BLOCKS = 3, 3.0, 0.95
# A season with fewer days than this is compared with the whole training.
FEWEST_SEASON_DAYS = 28
# Winter (December to February) 0 to autumn 3.
SEASONS = 4
# The share that an empty bin is taken to hold.
_EMPTY = 0.01


@dataclass(frozen=True)
class Watch:
    """Of one feature: inner `edges` of bins, `counts` (season, bin) of the training, and the `limit` of its index."""

    edges: Numbers
    counts: Numbers
    limit: float

    def index(self, values: Numbers, season: int) -> float:
        """The population stability index of values; NaN where there are none."""
        return _index(_binned(values, self.edges), self._reference(season))

    def _reference(self, season: int) -> Numbers:
        of_season: Numbers = self.counts[season]
        return of_season if of_season.sum() > 0 else np.asarray(self.counts.sum(axis=0))

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {"edges": self.edges.tolist(), "counts": self.counts.tolist(), "limit": self.limit}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Watch:
        """What `plain` made."""
        return cls(np.array(plain["edges"]), np.array(plain["counts"]), float(plain["limit"]))


@dataclass(frozen=True)
class Drift:
    """`features` and `predictions`: the largest index in shares of its limit, above 1 where it drifted; NaN where
    nothing is known. `reason` names what is furthest off."""

    features: float
    predictions: float
    reason: str

    @property
    def detected(self) -> bool:
        return bool(np.nanmax([self.features, self.predictions, 0.0]) > 1)


def watched(examples: Examples, forecast: Numbers, first_day: date) -> dict[str, Numbers]:
    """What is watched of examples: by name an array (value, season, day, one row each)."""
    day = examples.origin // HOURS
    season = ((pd.Timestamp(first_day) + pd.to_timedelta(day, unit="D")).month.to_numpy() % 12) // 3
    # What is known of an origin stands with each of its targets: once is enough.
    _, once = np.unique(np.stack([examples.origin, examples.node]), axis=1, return_index=True)
    found = {
        name: _rows(examples.values[once, FEATURES.index(name)].astype(np.float64), season[once], day[once])
        for name in WATCHED
    }
    odd = (forecast - examples.usual) / examples.scale
    return found | {PREDICTED: _rows(odd, season, day)}


def watches_of(seen: Mapping[str, Numbers]) -> dict[str, Watch]:
    """Learns from what a training saw, as `watched` returns it; what has no values at all is left out."""
    return {name: _watch(rows) for name, rows in seen.items() if len(rows)}


def drift_of(watches: Mapping[str, Watch], seen: Mapping[str, Numbers]) -> Drift:
    """How far what is forecast now, as `watched` returns it, is from what was learned from."""
    found: dict[str, float] = {}
    for name, watch in watches.items():
        rows = seen.get(name)
        if rows is not None and len(rows):
            found[name] = watch.index(rows[:, 0], int(rows[-1, 1])) / watch.limit
    features = [value for name, value in found.items() if name != PREDICTED]
    if not features:
        return Drift(np.nan, np.nan, "nothing is known of the last days")
    worst = max(found, key=lambda name: found[name])
    reason = (
        f"{worst} has a stability index of {found[worst] * watches[worst].limit:.2f} against the training, its limit "
        f"is {watches[worst].limit:.2f}"
    )
    return Drift(max(features), found.get(PREDICTED, np.nan), reason)


def _rows(values: Numbers, season: Numbers, day: Integers) -> Numbers:
    rows = np.column_stack([values, season, day])
    return np.asarray(rows[np.isfinite(values)])


def _watch(rows: Numbers) -> Watch:
    edges = np.unique(np.quantile(rows[:, 0], np.arange(1, BINS) / BINS))
    counts = np.zeros((SEASONS, len(edges) + 1))
    for season in range(SEASONS):
        of_season = rows[rows[:, 1] == season]
        if len(np.unique(of_season[:, 2])) >= FEWEST_SEASON_DAYS:
            counts[season] = _binned(of_season[:, 0], edges)
    if not counts.sum():
        # Too short for any season: all of it is the reference, whatever the season.
        counts[:] = _binned(rows[:, 0], edges)
    free = Watch(edges, counts, 1.0)
    reached = [free.index(block[:, 0], int(block[-1, 1])) for block in _blocks(rows)]
    usual = float(np.nanquantile(reached, MOST_BLOCKS)) if reached else 0.0
    return Watch(edges, counts, max(LEAST_LIMIT, ABOVE * usual))


def _blocks(rows: Numbers) -> Iterator[Numbers]:
    """Rows of some days that follow each other, where most of them are there."""
    number = rows[:, 2].astype(int) // BLOCK_DAYS
    order = np.argsort(number, kind="stable")
    usual = np.median(np.unique(number, return_counts=True)[1])
    for part in np.split(order, np.flatnonzero(np.diff(number[order])) + 1):
        if len(part) >= usual / 2:
            yield rows[part]


def _binned(values: npt.NDArray[Any], edges: Numbers) -> Numbers:
    return np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1).astype(np.float64)


def _index(now: Numbers, then: Numbers) -> float:
    if not now.sum() or not then.sum():
        return float("nan")
    p, q = (np.maximum(counts / counts.sum(), _EMPTY) for counts in (now, then))
    return float(((p - q) * np.log(p / q)).sum())
