"""Set-points that would save water, and leave every node of a district enough pressure. Pressures are bar.

How much pressure is lost between the inlet and a node is learned hour by hour of the day. Losses that come back at
their hour count in full; peaks that several nodes show at once, at no hour of their own, may come back in any hour;
those that one node among several shows are its sensor's fault. What is recommended must hold on a fortnight that it
was not learned from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.domain.pressure import NotKnown, Relation
from src.vocabulary import MINIMUM_PRESSURE

Numbers = npt.NDArray[np.float64]
# The reserve above the least pressure that every customer is owed, for what sensors and hours do not show.
MARGIN = 0.2
# Valves are set in such steps; less of a gain than this is none.
STEP = 0.1
# Hours whose needs differ by no more than this have one set-point.
ALIKE = 0.2 + 1e-9
# A loss so many spreads above the usual one of its hour is a peak. Peaks have an hour of their own where they came on
# so many days, and so many times as often as in the mean hour.
_PEAK, _HABIT_DAYS, _HABIT_TIMES = 4, 3, 3
# So many nodes that show a peak at once are no sensor's fault; a sensor that shows less than this (bar) shows nothing.
_SHARED_NODES, _NOTHING = 2, 0.1
# What is usual now is that of so many days; losses are those of all days that are given.
PRESENT_DAYS = 28
# The days at the end on which what was learned before them is tried.
HELD_OUT_DAYS = 14


@dataclass(frozen=True)
class Period:
    """Hours [begin, end) of the local day, the set-point for them and the one of now, bar."""

    begin: int
    end: int
    set_point: float
    present: float


@dataclass(frozen=True)
class Schedule:
    """Set-points around the day, the node that allows no less, what leaks today and what they would save, m³ a day."""

    periods: list[Period]
    critical_node: str
    leakage: float
    saving: float
    saving_lower: float
    saving_upper: float


def schedule(relation: Relation, hours: pd.DataFrame, lowest: pd.DataFrame) -> Schedule:
    """The lowest set-points, hour by hour, at which every node still has `MINIMUM_PRESSURE`.

    What is lost between the inlet and a node is taken to stay as it was at its largest in that hour of the day, or in
    the hour before or after; as lower pressure means less flow, it can only become less. A peak at no hour of its
    own may come back in any hour. No set-point is raised.

    Args:
        relation: of the district's leakage against its mean pressure.
        hours: index aware hours in the utility's zone, columns set_point and pressure (mean of the district), bar.
        lowest: the same index, a column per node: the lowest pressure of the hour, bar; NaN where unknown.

    Raises:
        NotKnown: where an hour of the day was never seen, where no set-point can be lowered, or where a schedule of the
            days before the last `HELD_OUT_DAYS` would have left a node less than `MINIMUM_PRESSURE` in them.
    """
    recent = hours[hours.index > hours.index[-1] - pd.Timedelta(days=PRESENT_DAYS)]
    by_hour = recent[["set_point", "pressure"]].groupby(recent.index.hour).median().reindex(range(24))
    present, pressure = (by_hour[name].to_numpy() for name in by_hour)
    if np.isnan(present).any() or np.isnan(pressure).any():
        raise NotKnown("the pressures of some hours of the day are not known")
    losses = _losses(hours, lowest)
    needed = _needed(losses)
    new, critical = _lowered(needed, present)
    cut = present - new
    if not (cut > 0).any():
        raise NotKnown(f"nothing to lower: {critical} needs the present set-points to have {MINIMUM_PRESSURE:g} bar")
    _try_out(hours, lowest, losses, present)
    savings, leakage = _savings(relation, pressure, cut)
    return Schedule(_periods(new, present), critical, leakage, savings[0], min(savings), max(savings))


@dataclass(frozen=True)
class _Losses:
    """What was lost between the inlet and each node, hours × nodes (NaN: unknown, or a sensor's fault), `usual` by hour
    of the day (24 × nodes), and whether it was a `stray` peak: the network's, but at no hour of its own."""

    lost: pd.DataFrame
    usual: pd.DataFrame
    stray: pd.DataFrame


def _losses(hours: pd.DataFrame, lowest: pd.DataFrame) -> _Losses:
    lost = lowest.rsub(hours["set_point"], axis=0)
    of_day = pd.DatetimeIndex(lost.index).hour.to_numpy()
    usual = lost.groupby(of_day).median().reindex(range(24))
    beyond = lost - usual.loc[of_day].to_numpy()
    is_peak = beyond > _PEAK * (1.4826 * (beyond - beyond.median()).abs().median() + STEP / 2)
    # Peaks that come back have their hours, in which they are many more than in others.
    days = is_peak.groupby(of_day).sum().reindex(range(24), fill_value=0)
    has_habit = (days >= np.maximum(_HABIT_DAYS, _HABIT_TIMES * days.mean())).to_numpy()
    has_habit = np.logical_or.reduce([np.roll(has_habit, shift, axis=0) for shift in (-1, 0, 1)])
    stray = is_peak & ~has_habit[of_day]
    # One node among several that shows something once, or one that shows nothing, has a sensor at fault.
    is_shared = (stray.sum(axis=1) >= min(_SHARED_NODES, len(lost.columns))).to_numpy()[:, None]
    real = stray & is_shared & (lowest > _NOTHING)
    return _Losses(lost.where(~stray | real), usual, real)


def _needed(losses: _Losses) -> pd.DataFrame:
    """The set-point that each node needs in each hour of the day (24 × nodes)."""
    of_day = pd.DatetimeIndex(losses.lost.index).hour.to_numpy()
    most = losses.lost.where(~losses.stray).groupby(of_day).max().reindex(range(24))
    unseen = [str(name) for name in most if most[name].isna().any()]
    if len(unseen) == len(most.columns):
        raise NotKnown("the pressures of some hours of the day are not known")
    if unseen:
        raise NotKnown(f"the pressure of {', '.join(unseen[:3])} is not known in some hours of the day")
    beyond = (losses.lost - losses.usual.loc[of_day].to_numpy()).where(losses.stray).max().fillna(0.0).to_numpy()
    around = np.maximum.reduce([np.roll(most.to_numpy(), shift, axis=0) for shift in (-1, 0, 1)])
    # A stray peak may come on top of those that have their hour.
    return pd.DataFrame(MINIMUM_PRESSURE + MARGIN + beyond + around, most.index, most.columns)


def _lowered(needed: pd.DataFrame, present: Numbers) -> tuple[Numbers, str]:
    """The set-points by hour of the day that suffice for every node, none above the present ones; and the node that
    allows no less."""
    critical = str(needed.columns[int(np.argmax(needed.max().to_numpy()))])
    rounded = np.ceil(np.round(needed.max(axis=1).to_numpy() / STEP, 6)) * STEP
    new = np.minimum(_held(rounded), present)
    # Not worth a change of the valve.
    return np.where(present - new < STEP, present, new), critical


def _try_out(hours: pd.DataFrame, lowest: pd.DataFrame, losses: _Losses, present: Numbers) -> None:
    """Replays the last `HELD_OUT_DAYS` under what would have been recommended before them.

    Args:
        losses: of all hours, so that a sensor's fault is known by them.

    Raises:
        NotKnown: if a node would have had less than `MINIMUM_PRESSURE`.
    """
    begin = hours.index[-1] - pd.Timedelta(days=HELD_OUT_DAYS)
    before = hours.index <= begin
    if not before.sum() >= 24 * HELD_OUT_DAYS // 2:
        return
    try:
        new, _ = _lowered(_needed(_losses(hours[before], lowest[before])), present)
    except NotKnown:
        # With what was known then, nothing would have been recommended that could have failed.
        return
    of_day = pd.DatetimeIndex(hours.index[~before]).hour.to_numpy()
    lost = losses.lost[~before]
    left = (new[of_day][:, None] - lost).min(axis=1)
    # Where the present set-points leave less, the schedule changes nothing.
    is_lowered = new[of_day] < present[of_day]
    short = left[(left < MINIMUM_PRESSURE - 1e-9) & is_lowered]
    if len(short):
        raise NotKnown(
            f"set-points of the days before would have left {short.min():.2f} bar on {short.idxmin():%Y-%m-%d %H:%M}, "
            f"and less than {MINIMUM_PRESSURE:g} in {len(short)} of the last {len(left)} hours: losses change too much"
        )


def _savings(relation: Relation, pressure: Numbers, cut: Numbers) -> tuple[list[float], float]:
    """m³ a day that lower pressures save, for the likeliest relation and the ends of its interval; leakage today."""
    after = np.maximum(pressure - cut, 0.1 * pressure)

    def a_day(leakage: float, exponent: float, at: Numbers) -> float:
        return float(leakage * 3.6 * ((at / relation.pressure) ** exponent).sum())

    savings = []
    for leakage, exponent in [(relation.leakage, relation.exponent)] + [
        (leakage, exponent)
        for leakage in (relation.least_leakage, relation.most_leakage)
        for exponent in (relation.lower, relation.upper)
    ]:
        savings.append(a_day(leakage, exponent, pressure) - a_day(leakage, exponent, after))
    return savings, a_day(relation.leakage, relation.exponent, pressure)


def _held(needed: Numbers) -> Numbers:
    """The same set-point for hours that need nearly the same, the highest of theirs: valves wear with every change."""
    held, begin = needed.copy(), 0
    for hour in range(1, len(needed) + 1):
        if hour == len(needed) or np.ptp(needed[begin : hour + 1]) > ALIKE:
            held[begin:hour] = needed[begin:hour].max()
            begin = hour
    return held


def _periods(new: Numbers, present: Numbers) -> list[Period]:
    """Equal hours that follow each other, together."""
    periods: list[Period] = []
    begin = 0
    for hour in range(1, 25):
        if hour == 24 or abs(new[hour] - new[begin]) > 1e-9:
            periods.append(Period(begin, hour, round(float(new[begin]), 3), float(present[begin:hour].mean())))
            begin = hour
    return periods
