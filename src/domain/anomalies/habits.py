"""What is normal for each signal: by hour of the week, by its peers, by its own noise; as it is stored and used.

How it is learned, see `profile` (each signal by itself) and `relatives` (with its peers).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from src.domain.anomalies.signals import CELLS, Flags, Floats, Integers

# Hours of history: with fewer than two weeks' (an eighth of which may be missing) nothing is judged by habit ("still
# learning"); more than eight weeks are not looked at.
ENOUGH_HISTORY, FULL_HISTORY = 14 * 21, 56 * 24
# The memory of the autoregressive model: a day and two hours.
ORDER = 26
# Peers of a signal at most, and how strongly their weights are held back.
PEERS, RIDGE = 12, 0.1
# What happened so often within the history is a habit, not a fault.
USUAL_TIMES = 3
# With so large a share of hours in which nothing flowed for a time, zero is what a meter shows when nobody takes water.
ZERO_IS_USUAL = 0.05
# What is over within so many hours comes and goes.
SHORT_HOURS = 12
# A deviation beyond so many spreads of its signal counts as so many.
CLIP = 5.0


@dataclass(frozen=True)
class Figures:
    """What is usual of signals, each by itself, in their order (first axis); in the signals' own units unless
    otherwise stated.

    `history` hours of data it was learned from; `mean`; `expected` by cell of the week (n × 72); `swing` by local hour
    (n × 24), the spread around it; `flat_hours`, the longest usual run without any change; `silent_hours`, the longest
    gap that happened `USUAL_TIMES` times; `change` and `spike`, the largest usual ones; `usual_low` and `usual_high`,
    what hourly means went beyond on `USUAL_DAYS` days that lie `USUAL_SPAN` days apart, whatever events lay over them;
    `unrest`, how far all but 2 % of hours lie from what was expected, as a share of the mean; `step`, in which the
    sensor's readings go up and down (0: too fine to see); `zeros`, the share of hours in which nothing flowed for a
    time, and `busy_hours`, the longest run without such an hour; `recurs` by local hour (n × 24), how often it was far
    above what is expected then, for a short time (0: fewer than `USUAL_TIMES`). Spreads are robust standard deviations.
    """

    history: Floats
    mean: Floats
    expected: Floats
    swing: Floats
    flat_hours: Floats
    silent_hours: Floats
    change: Floats
    spike: Floats
    usual_low: Floats
    usual_high: Floats
    unrest: Floats
    step: Floats
    zeros: Floats
    busy_hours: Floats
    recurs: Floats


# Their names: what of a profile habits have, too.
FIGURES = tuple(field.name for field in fields(Figures))


@dataclass(frozen=True)
class Habits(Figures):
    """Habits of signals: what is usual of each by itself, and beside its peers.

    `peers` (n × PEERS), the places of the most alike signals, and their `weights`, from their swings to one's own (0
    where there are fewer); `spread` by local hour (n × 24) of what peers do not explain; `memory` of the autoregressive
    model (n × ORDER) and `surprise`, the spread of what it does not foresee, in spreads; `tail`, the largest usual
    deviation (99.8 %) in spreads.
    """

    peers: Integers
    weights: Floats
    spread: Floats
    memory: Floats
    surprise: Floats
    tail: Floats

    @property
    def is_known(self) -> Flags:
        """Which signals have enough history to be judged."""
        return self.history >= ENOUGH_HISTORY

    def comes_back(self, deviation: Floats, cells: Integers) -> Flags:
        """Hours × signals that rise as far above what is expected as they have done at that hour again and again."""
        hour = cells % 24
        with np.errstate(invalid="ignore"):
            return np.asarray((deviation > CLIP * self.swing[:, hour].T) & (self.recurs[:, hour].T > 0))

    def unexplained(self, values: Floats, cells: Integers) -> Floats:
        """What neither the hour of the week nor the peers explain: hours × signals, in spreads, unclipped."""
        deviation = values - self.expected[:, cells].T
        hour = cells % 24
        remaining = without_peers(deviation, self.swing[:, hour].T, self.peers, self.weights)
        return np.asarray(remaining / self.spread[:, hour].T)

    def of(self, columns: Integers | Flags) -> Habits:
        """Those of some signals, which then have no peers."""
        selected = {field.name: getattr(self, field.name)[columns] for field in fields(self)}
        selected["weights"] = np.zeros_like(selected["weights"])
        return Habits(**selected)

    def described(self, keys: list[str]) -> list[dict[str, Any]]:
        """One JSON-like description per signal; `keys` names the signals that `peers` are places among."""
        descriptions = []
        for n in range(len(self.history)):
            description: dict[str, Any] = {}
            for field in fields(self):
                values = getattr(self, field.name)[n]
                if field.name == "peers":
                    description["peers"] = {
                        keys[p]: float(w) for p, w in zip(values, self.weights[n], strict=True) if w
                    }
                elif field.name == "weights":
                    continue
                elif np.isfinite(values).all():
                    description[field.name] = plain(values)
            descriptions.append(description)
        return descriptions


def plain(values: Any) -> Any:
    """Figures of one signal as JSON holds them."""
    return values.tolist() if np.ndim(values) else float(values)


_SHAPES = {"expected": CELLS, "swing": 24, "spread": 24, "recurs": 24, "memory": ORDER, "weights": PEERS}


def habits_from(descriptions: Sequence[Mapping[str, Any] | None], keys: list[str]) -> Habits:
    """The inverse of `Habits.described`; None for a signal of which nothing is known, which then has no history."""
    count = len(keys)
    place = {key: n for n, key in enumerate(keys)}
    arrays = {
        field.name: np.full((count, _SHAPES[field.name]) if field.name in _SHAPES else count, np.nan)
        for field in fields(Habits)
        if field.name != "peers"
    }
    arrays["history"] = np.zeros(count)
    arrays["weights"][:] = 0.0
    peers = np.zeros((count, PEERS), dtype=np.int64)
    for n, description in enumerate(descriptions):
        for name, value in (description or {}).items():
            if name == "peers":
                known = [(place[peer], weight) for peer, weight in value.items() if peer in place]
                for rank, (peer, weight) in enumerate(known):
                    peers[n, rank], arrays["weights"][n, rank] = peer, weight
            else:
                arrays[name][n] = value
    return Habits(**arrays, peers=peers)


def without_peers(deviation: Floats, swing: Floats, peers: Integers, weights: Floats) -> Floats:
    """Deviations less the share of them that the peers' own deviations explain; an absent peer explains nothing."""
    scaled = np.nan_to_num(np.clip(deviation / swing, -CLIP, CLIP))
    explained = np.zeros_like(scaled)
    for rank in np.flatnonzero(weights.any(axis=0)):
        explained += scaled[:, peers[:, rank]] * weights[:, rank]
    return np.asarray(deviation - swing * explained)


def surprises_of(scaled: Floats, memory: Floats) -> Floats:
    """What the hours before do not foresee; an hour that is missing foresees what is usual."""
    known = np.nan_to_num(scaled)
    foreseen = np.zeros_like(known)
    for lag in range(1, memory.shape[1] + 1):
        foreseen[lag:] += memory[:, lag - 1] * known[:-lag]
    return np.asarray(scaled - foreseen)
