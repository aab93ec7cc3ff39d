"""Spans spread over windows: the time of each window that readings vouch for, and their figures for it.

Measurements that are reported together have the same spans, which are cut and compared with windows once for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from src.domain.vouching import SECOND, Spans

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Vouched:
    """Figures of windows from spans, one entry per node and window with any vouched time, in that order.

    `seconds` of the window that are vouched for; `amount` m³ (NaN: no water measured) and how much of it is
    `estimated`; `mean`, `low` and `high` by time, NaN where means go by readings; `reading`, a row whose span lies in
    it.
    """

    node: Integers
    window: Integers
    seconds: Floats
    amount: Floats
    estimated: Floats
    mean: Floats
    low: Floats
    high: Floats
    reading: Integers


@dataclass(frozen=True)
class _Pieces:
    """Spans cut at the edges of windows, in order of node and window: of which span each is, and its seconds. `starts`
    are the first pieces of each `node` and `window`, and `vouched` the seconds of all of them together."""

    span: Integers
    seconds: Floats
    starts: Integers
    node: Integers
    window: Integers
    vouched: Floats


def over_windows(spans: Mapping[str, Spans], edges: Integers) -> dict[str, Vouched]:
    """Spreads the spans of each measurement over windows between edges (epoch µs, ascending); what lies outside all of
    them is left out. `window` numbers the windows by their first edge."""
    pieces = _once_for_all(spans, partial(_cut, edges=edges))
    return {measurement: _summed(spans[measurement], pieces[measurement]) for measurement in spans}


def coverage(spans: Mapping[str, Spans], node: Integers, begin: Integers, length: int) -> dict[str, Floats]:
    """The share (0..1) of windows of one length (µs) that the spans of each measurement vouch for.

    Args:
        node, begin: the windows, in order of node and begin (epoch µs).
    """
    return _once_for_all(spans, partial(_covered, node=node, begin=begin, length=length))


def _once_for_all(spans: Mapping[str, Spans], work: Callable[[Spans], Result]) -> dict[str, Result]:
    done: dict[str, Result] = {}
    for measurement in spans:
        same = next((name for name in done if _lie_alike(spans[name], spans[measurement])), None)
        done[measurement] = work(spans[measurement]) if same is None else done[same]
    return done


def _lie_alike(one: Spans, other: Spans) -> bool:
    return all(
        np.array_equal(a, b) for a, b in ((one.begin, other.begin), (one.end, other.end), (one.node, other.node))
    )


def _cut(spans: Spans, edges: Integers) -> _Pieces:
    first = np.searchsorted(edges, spans.begin, side="right") - 1
    last = np.searchsorted(edges, spans.end, side="left") - 1
    pieces = np.maximum(last - first + 1, 1)
    if (pieces > 1).any():
        span = np.repeat(np.arange(len(first)), pieces)
        window = np.arange(len(span)) - np.repeat(np.cumsum(pieces) - pieces, pieces) + first[span]
    else:
        span, window = np.arange(len(first)), first
    inside = (window >= 0) & (window < len(edges) - 1)
    if not inside.all():
        span, window = span[inside], window[inside]
    begin = np.maximum(spans.begin[span], edges[window])
    end = np.minimum(spans.end[span], edges[window + 1])
    node = spans.node[span]
    # Amounts counted backward and samples held forward may lie in each other where a meter changes between both.
    is_ordered = ((node[1:] > node[:-1]) | ((node[1:] == node[:-1]) & (window[1:] >= window[:-1]))).all()
    if not is_ordered:
        order = np.lexsort((window, node))
        span, window, begin, end, node = span[order], window[order], begin[order], end[order], node[order]
    if not len(node):
        return _Pieces(span, np.empty(0), np.empty(0, np.int64), node, window, np.empty(0))
    starts = np.flatnonzero(np.concatenate([[True], (node[1:] != node[:-1]) | (window[1:] != window[:-1])]))
    seconds = (end - begin) / SECOND
    whole = (edges[window[starts] + 1] - edges[window[starts]]) / SECOND
    vouched = np.minimum(np.add.reduceat(seconds, starts), whole)
    return _Pieces(span, seconds, starts, node[starts], window[starts], vouched)


def _summed(spans: Spans, pieces: _Pieces) -> Vouched:
    """The pieces of each node and window added up."""
    starts, span, seconds = pieces.starts, pieces.span, pieces.seconds
    nothing = np.full(len(starts), np.nan)
    total, estimated, mean, low, high = (nothing,) * 5
    if len(starts) and not np.isnan(spans.amount).all():
        whole = (spans.end - spans.begin)[span] / SECOND
        amount = spans.amount[span] * (seconds / whole)
        has_water = ~np.isnan(amount)
        sums = np.add.reduceat(np.where(has_water, amount, 0.0), starts)
        total = np.where(np.add.reduceat(has_water.astype(np.int64), starts) > 0, sums, np.nan)
        partly = spans.stretched[span] & (seconds < whole) & has_water
        estimated = np.where(np.isnan(total), np.nan, 0.0)
        if partly.any():
            estimated += np.add.reduceat(np.where(partly, amount, 0.0), starts)
    if len(starts) and spans.weighted.any():
        value = spans.value[span]
        by_time = np.add.reduceat(spans.weighted[span].astype(np.int64), starts) > 0
        time = np.add.reduceat(seconds, starts)
        mean = np.where(by_time, np.add.reduceat(value * seconds, starts) / time, np.nan)
        low = np.where(by_time, np.fmin.reduceat(value, starts), np.nan)
        high = np.where(by_time, np.fmax.reduceat(value, starts), np.nan)
    reading = spans.reading[span[starts]]
    return Vouched(pieces.node, pieces.window, pieces.vouched, total, estimated, mean, low, high, reading)


def _covered(spans: Spans, node: Integers, begin: Integers, length: int) -> Floats:
    if not len(spans.node):
        return np.zeros(len(node))
    first = min(int(begin.min()), int(spans.begin.min()))
    width = max(int(begin.max()) + length, int(spans.end.max())) - first + 1
    begins = spans.node * width + (spans.begin - first)
    lengths = spans.end - spans.begin
    before = np.concatenate([[0], np.cumsum(lengths)])

    def vouched_until(instant: Integers) -> Integers:
        at = np.searchsorted(begins, node * width + (instant - first), side="left")
        last = np.maximum(at - 1, 0)
        of_node = (at > 0) & (spans.node[last] == node)
        reached = np.minimum(instant - spans.begin[last], lengths[last])
        return np.where(of_node, before[last] + reached, before[at])

    return np.minimum((vouched_until(begin + length) - vouched_until(begin)) / length, 1.0)
