"""Which examples a model learns from: all recent ones, fewer of older ones, always the same ones."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from src.domain.forecasting.features import Examples
from src.domain.forecasting.series import HOURS, Numbers

# Up to so many days before the training: this share of the examples.
SHARES = ((180, 1.0), (365, 0.5), (float("inf"), 0.1))


def share_of(age: Numbers) -> Numbers:
    """The share that is used of examples whose targets lie so many days before the training."""
    return np.asarray(np.select([age <= days for days, _ in SHARES], [share for _, share in SHARES]))


def chosen(examples: Examples, nodes: Sequence[str], first_hour: int, until: int, part: float) -> npt.NDArray[np.bool_]:
    """Whether each example is learned from: its target is known by the training, and its hash falls into its share.

    Features are made before, from the whole series, so that those about the past are true.

    Args:
        nodes: the names of the nodes that the examples number.
        first_hour: of the history, since 1970; so that an hour's hash does not depend on where the history begins.
        until: the hour of the training in the history: nothing at or after it is learned from.
        part: the share of `SHARES` that is learned from, 1 for all.
    """
    target = examples.origin + examples.ahead
    names = np.array([zlib.crc32(node.encode()) for node in nodes], dtype=np.uint64)
    chance = _hash(names[examples.node], (target + first_hour).astype(np.uint64), examples.ahead.astype(np.uint64))
    known = np.isfinite(examples.target) & np.isfinite(examples.usual) & np.isfinite(examples.scale)
    return np.asarray(known & (target < until) & (chance < share_of((until - target) / HOURS) * part))


def _hash(*keys: npt.NDArray[np.uint64]) -> Numbers:
    """Numbers in [0, 1) that depend on the keys alone (the finaliser of MurmurHash3, 64 bits)."""
    mixed = np.zeros(len(keys[0]), dtype=np.uint64)
    for key in keys:
        mixed = (mixed ^ key) * np.uint64(0x9E3779B97F4A7C15)
        for multiplier in (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)):
            mixed = (mixed ^ (mixed >> np.uint64(33))) * multiplier
        mixed ^= mixed >> np.uint64(33)
    return np.asarray((mixed >> np.uint64(11)) / 2.0**53)
