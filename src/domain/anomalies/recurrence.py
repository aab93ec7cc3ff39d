"""What is back: short rises at the hour at which one was there a few days before, as when irrigation begins."""

from __future__ import annotations

import numpy as np

from src.domain.anomalies.events import SAME_HOUR, WEEK_HOURS, is_same_hour, spans
from src.domain.anomalies.habits import CLIP, SHORT_HOURS
from src.domain.anomalies.signals import Flags, Floats

# What is larger than the rise before, by so much, is no second time of it; nor is what lasts for so long.
LARGER, BACK_HOURS = 1.5, 6


def is_back(deviation: Floats, spread: Floats) -> Flags:
    """Hours of a rise at whose hour of the day another one was, within the week before, that was over by itself.

    As soon as it is larger than that one, or lasts an hour longer or for more than `BACK_HOURS`, it is none of these,
    from its first hour on.

    Args:
        deviation: hours × signals, what habits do not explain, in the signals' units.
        spread: hours × signals, the usual one.
    """
    back = np.zeros(deviation.shape, dtype=bool)
    with np.errstate(invalid="ignore"):
        is_far = deviation > CLIP * spread
    for column in np.flatnonzero(is_far.any(axis=0)):
        over: list[tuple[int, int, float]] = []
        for first, end in spans(is_far[:, column]):
            length, size = end - first, float(deviation[first:end, column].max())
            back[first:end, column] = any(
                first - begun <= WEEK_HOURS + SAME_HOUR
                and is_same_hour(begun, first)
                and length <= min(lasted + 1, BACK_HOURS)
                and size <= LARGER * before
                for begun, lasted, before in over
            )
            if length <= SHORT_HOURS:
                over.append((first, length, size))
    return back


def comes_and_goes(deviation: Floats, spread: Floats) -> Flags:
    """Hours far above or below what is expected that are over within `SHORT_HOURS`: they move no level."""
    short = np.zeros(deviation.shape, dtype=bool)
    with np.errstate(invalid="ignore"):
        is_far = np.abs(deviation) > CLIP * spread
    for column in np.flatnonzero(is_far.any(axis=0)):
        for first, end in spans(is_far[:, column]):
            short[first:end, column] = end - first <= SHORT_HOURS
    return short
