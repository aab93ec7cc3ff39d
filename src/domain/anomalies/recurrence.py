"""What is back: short rises at the hour at which one was there a few days before, as when irrigation begins."""

from __future__ import annotations

import numpy as np

from src.domain.anomalies.events import WEEK_HOURS, is_same_hour
from src.domain.anomalies.habits import CLIP, SHORT_HOURS
from src.domain.anomalies.signals import Flags, Floats


def is_back(deviation: Floats, spread: Floats) -> Flags:
    """Hours of a rise at whose hour of the day another one was, within the week before, that was over by itself; no
    longer than that one lasted, and an hour.

    Args:
        deviation: hours × signals, what habits do not explain, in the signals' units.
        spread: hours × signals, the usual one.
    """
    back = np.zeros(deviation.shape, dtype=bool)
    with np.errstate(invalid="ignore"):
        is_far = deviation > CLIP * spread
    for column in np.flatnonzero(is_far.any(axis=0)):
        edges = np.flatnonzero(np.diff(is_far[:, column], prepend=False, append=False))
        over: list[tuple[int, int]] = []
        for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            recent = [
                length for begun, length in over if first - begun <= WEEK_HOURS + 2 and is_same_hour(begun, first)
            ]
            if recent:
                back[first : min(end, first + max(recent) + 1), column] = True
            if end - first <= SHORT_HOURS:
                over.append((first, end - first))
    return back


def comes_and_goes(deviation: Floats, spread: Floats) -> Flags:
    """Hours far above or below what is expected that are over within `SHORT_HOURS`: they move no level."""
    short = np.zeros(deviation.shape, dtype=bool)
    with np.errstate(invalid="ignore"):
        is_far = np.abs(deviation) > CLIP * spread
    for column in np.flatnonzero(is_far.any(axis=0)):
        edges = np.flatnonzero(np.diff(is_far[:, column], prepend=False, append=False))
        for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            short[first:end, column] = end - first <= SHORT_HOURS
    return short
