"""The time that readings vouch for: what a meter's volume, coverage and time-weighted mean rest on.

A sample of a rate or a level holds until the next one, an amount was counted since the previous one. Where the next or
the previous is further away than the sensor's way of reporting explains, nobody knows what was in between, and the
reading vouches for one cadence only. What is known of a local day never depends on more than the `LEAD_DAYS` before and
the `LAG_DAYS` after it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from src.domain.cadence import Pace, pace_by_day

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]

SECOND = 1_000_000
# Local days before and after a window on which it may depend: a logger that was away for a day and a half counts
# what flowed meanwhile.
LEAD_DAYS = LAG_DAYS = 2
_NEVER = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Spans:
    """Spans [begin, end) (epoch µs) in order of node and begin, each with the figures of its reading.

    `value` is the mean over the span (of a volume: the rate, L/s), `amount` m³ (NaN where no water is measured),
    `weighted` whether means go by time and not by readings, `stretched` whether the span is longer than the sensor's
    way of reporting explains, so that how its amount lies within it is estimated; `reading` the row it belongs to.
    """

    node: Integers
    begin: Integers
    end: Integers
    value: Floats
    amount: Floats
    weighted: Booleans
    stretched: Booleans
    reading: Integers

    def chosen(self, mask: Booleans) -> Spans:
        return Spans(*(values[mask] for values in vars(self).values()))


@dataclass(frozen=True)
class Signal:
    """The readings in which one measurement is there: their rows, nodes, instants (epoch µs), local days (numbered over
    all nodes alike) and how the node reports it on that day."""

    row: Integers
    node: Integers
    instant: Integers
    day: Integers
    pace: Pace

    def since_previous(self, starts: Integers) -> Floats:
        """Seconds since the node's previous reading; NaN where that is further back than `LEAD_DAYS`."""
        seconds = _seconds_since_previous(self.node, self.instant)
        seconds[self.instant - np.nan_to_num(seconds) * SECOND < starts[np.maximum(self.day - LEAD_DAYS, 0)]] = np.nan
        return seconds

    def until_next(self, starts: Integers) -> Floats:
        """Seconds until the node's next reading; NaN where that is further ahead than `LAG_DAYS`."""
        seconds = np.full(len(self.node), np.nan)
        same = self.node[1:] == self.node[:-1]
        seconds[:-1][same] = (self.instant[1:] - self.instant[:-1])[same] / SECOND
        last = np.minimum(self.day + LAG_DAYS + 1, len(starts) - 1)
        seconds[self.instant + np.nan_to_num(seconds) * SECOND >= starts[last]] = np.nan
        return seconds


class Rows:
    """Where readings lie: node, instant (epoch µs), local day (an index of `starts`, the days' first instants), seconds
    since the node's previous row (NaN: more than a day ago), and its pace."""

    def __init__(self, node: Integers, instant: Integers, day: Integers, starts: Integers) -> None:
        self.node, self.instant, self.day, self.starts = node, instant, day, starts
        self.elapsed = _seconds_since_previous(node, instant)
        self.elapsed[instant - np.nan_to_num(self.elapsed) * SECOND < starts[np.maximum(day - 1, 0)]] = np.nan
        node_day = node * (len(starts) + 1) + day
        _, paces = pace_by_day(node_day, self.elapsed)
        self.pace = paces.at(np.cumsum(np.diff(node_day, prepend=node_day[:1]) != 0))

    def signal(self, present: Booleans) -> Signal:
        """The rows in which something is there, with its own pace: others may report more often, or go on while it is
        dead. Where they are too few, the pace is that of all rows."""
        row = np.flatnonzero(present)
        if len(row) == len(self.node):
            return Signal(row, self.node, self.instant, self.day, self.pace)
        some = Rows(self.node[row], self.instant[row], self.day[row], self.starts)
        unknown = np.isnan(some.pace.cadence)
        pace = Pace(
            np.where(unknown, self.pace.cadence[row], some.pace.cadence),
            np.where(unknown, self.pace.limit[row], some.pace.limit),
            some.pace.is_irregular,
        )
        return Signal(row, some.node, some.instant, some.day, pace)


def accounting(rows: Rows, flow: Floats, volume: Floats, is_register: Booleans | None = None) -> Spans:
    """The spans of the readings that account for water: a volume of their own first, else the flow while it holds.

    Args:
        is_register: rows in which a register was read. Of its node the register alone accounts: it has counted what
            flowed whatever was sampled between, and nobody knows what, where its volume is NaN.
    """
    has_volume, samples = ~np.isnan(volume), ~np.isnan(flow)
    if is_register is not None:
        has_volume |= is_register
        samples &= ~np.isin(rows.node, np.unique(rows.node[is_register]))
    signal = rows.signal(has_volume | samples)
    is_amount = has_volume[signal.row]
    if not is_amount.any():
        return held(signal, flow[signal.row], rows.starts, is_flow=True)
    amounts, begins = counted(signal, volume[signal.row], flow[signal.row], rows.starts)
    # What was counted since a sample is known better than how long the sample held.
    until = np.where(is_amount, signal.instant, np.append(begins[1:], _NEVER))
    return together(held(signal, flow[signal.row], rows.starts, is_flow=True, until=until), amounts)


def sampled(rows: Rows, values: Floats) -> Spans:
    """The spans of readings that are samples of a level: pressure, temperature."""
    signal = rows.signal(~np.isnan(values))
    return held(signal, values[signal.row], rows.starts, is_flow=False)


def _seconds_since_previous(node: Integers, instant: Integers) -> Floats:
    """Seconds since the previous row of the same node; NaN for each node's first."""
    seconds = np.full(len(node), np.nan)
    same = node[1:] == node[:-1]
    seconds[1:][same] = (instant[1:] - instant[:-1])[same] / SECOND
    return seconds


def held(signal: Signal, values: Floats, starts: Integers, *, is_flow: bool, until: Integers | None = None) -> Spans:
    """Samples that hold until the next one.

    Args:
        values: aligned with the signal's rows: L/s, bar or °C.
        starts: starts of the local days (epoch µs), indexed by `signal.day`.
        is_flow: whether a value over a time amounts to water.
        until: the instants (epoch µs) at which each ends to hold at the latest.
    """
    pace = signal.pace
    ahead = signal.until_next(starts)
    seconds = np.where(ahead <= pace.limit, ahead, pace.cadence)
    known = ~np.isnan(seconds)
    end = signal.instant + np.rint(np.nan_to_num(seconds) * SECOND).astype(np.int64)
    if until is not None:
        # The next row of the last one of a node is another's.
        same = np.append(signal.node[1:] == signal.node[:-1], False)
        end = np.where(same | (until == signal.instant), np.minimum(end, until), end)
        seconds = (end - signal.instant) / SECOND
        known &= seconds > 0
    amount = values * seconds / 1000 if is_flow else np.full(len(values), np.nan)
    everything = Spans(
        signal.node, signal.instant, end, values, amount, pace.is_irregular, np.zeros(len(values), bool), signal.row
    )
    return everything if known.all() else everything.chosen(known)


def together(one: Spans, other: Spans) -> Spans:
    """The spans of both, in order."""
    if not len(one.node) or not len(other.node):
        return one if len(one.node) else other
    joined = Spans(*(np.concatenate([a, b]) for a, b in zip(vars(one).values(), vars(other).values(), strict=True)))
    order = np.lexsort((joined.begin, joined.node))
    return Spans(*(values[order] for values in vars(joined).values()))


def counted(signal: Signal, amounts: Floats, rates: Floats, starts: Integers) -> tuple[Spans, Integers]:
    """Amounts that were counted since the previous reading, or, where others were lost on the way, since one cadence.

    The rate decides which it is: an amount that fits the meter's rate over one cadence was not counted over ten.

    Args:
        amounts: m³, aligned with the signal's rows; NaN in rows that are samples.
        rates: L/s, as measured beside; NaN where it was not.
        starts: as of `held`.

    Returns:
        The spans of all but those amounts of which nobody knows since when they were counted; and for each of the
        signal's rows the instant (epoch µs) from which on it accounts for water.
    """
    pace = signal.pace
    since = signal.since_previous(starts)
    stretched = since > 1.5 * pace.cadence
    usual = np.where(np.isnan(rates), _rate_of_day(signal, amounts, since, stretched), rates)
    with np.errstate(invalid="ignore", divide="ignore"):
        over_all, over_one = (np.abs(amounts * 1000 / seconds - usual) for seconds in (since, pace.cadence))
    alone = stretched & (over_one < over_all)
    seconds = np.where(alone, pace.cadence, since)
    known = ~np.isnan(seconds) & ~np.isnan(amounts)
    begin = signal.instant - np.rint(np.nan_to_num(seconds) * SECOND).astype(np.int64)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = amounts * 1000 / seconds
    # What was counted gives the mean over its time, and nothing about its instant.
    weighted = pace.is_irregular | stretched | np.isnan(rates)
    everything = Spans(
        signal.node, begin, signal.instant, rate, amounts, weighted, (since > pace.limit) & ~alone, signal.row
    )
    return everything.chosen(known), np.where(known, begin, signal.instant)


def _rate_of_day(signal: Signal, amounts: Floats, since: Floats, stretched: Booleans) -> Floats:
    """The mean rate (L/s) of each reading's node-day over readings that follow the one before; NaN where none does."""
    group = np.cumsum(
        np.concatenate([[True], (signal.node[1:] != signal.node[:-1]) | (signal.day[1:] != signal.day[:-1])])
    )
    regular = ~stretched & ~np.isnan(since) & ~np.isnan(amounts)
    total = np.bincount(group[regular], amounts[regular], group[-1] + 1)
    time = np.bincount(group[regular], since[regular], group[-1] + 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        rates: Floats = (1000 * total / time)[group]
    return rates
