"""How meters count: in both directions, and by a register that only grows.

What is found here is found from a stretch of readings as they came, before anything is set aside, and holds from then
on; what people state of a node wins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.domain.anomalies.signals import Signals
from src.domain.vouching import SECOND

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# A meter that errs for some hours turns round on few days, one between two districts on most.
LEAST_DAYS, LEAST_SHARE = 7, 0.05
# Of a register's steps so many go up; an amount since the previous reading goes up and down.
_GROWING, LEAST_STEPS = 0.98, 24
# A register stands many times higher than what it grows by.
_HIGH = 20.0
# A step so many times the day's usual one, and more than a large main carries (L/s), is another register, not water.
_JUMP, _LEAST_JUMP = 100.0, 200.0
_MOST_RATE = 10_000.0


def two_way_meters(raw: pd.DataFrame) -> list[str]:
    """Nodes whose flow turns round day by day.

    Args:
        raw: readings as read: node_id, timestamp, flow_rate in any unit.

    Returns:
        Those with at least `LEAST_DAYS` days, on half of which it flows in both directions, each direction with a fair
        share of the time and of the largest flow.
    """
    flow = raw["flow_rate"].to_numpy(dtype="float64", na_value=np.nan)
    if not (flow < 0).any():
        return []
    candidates = raw["node_id"].isin(raw.loc[flow < 0, "node_id"].unique()).to_numpy()
    known = candidates & np.isfinite(flow) & raw["timestamp"].notna().to_numpy()
    frame = pd.DataFrame(
        {
            "node_id": raw["node_id"].to_numpy()[known],
            "day": raw["timestamp"].dt.floor("D").to_numpy()[known],
            "flow": flow[known],
        }
    )
    found = []
    for node_id, of_node in frame.groupby("node_id", observed=True):
        size = np.abs(of_node["flow"]).quantile(0.9)
        if size == 0:
            continue
        # Zero drifts a little below zero, and placeholders lie far below.
        back, forth = ((of_node["flow"] * sign).between(0.05 * size, 3 * size) for sign in (-1, 1))
        by_day = pd.DataFrame({"day": of_node["day"], "back": back, "forth": forth}).groupby("day")
        turning = (by_day["back"].any() & by_day["forth"].any()).sum()
        days = by_day.ngroups
        if days >= LEAST_DAYS and turning >= days / 2 and min(back.mean(), forth.mean()) >= LEAST_SHARE:
            found.append(str(node_id))
    return found


def turning_round(signals: Signals, backward: pd.DataFrame) -> list[str]:
    """Nodes whose flow turns round day by day, by what was set aside of it: the rule of `two_way_meters` over weeks.

    Args:
        signals: the weeks looked at, of whole nodes.
        backward: a row per node and day (UTC) with negative flow: node_id, day, readings, lowest (L/s).
    """
    flows = np.flatnonzero(signals.listed["measurement"] == "flow_rate")
    place = dict(zip(signals.listed["node_id"].iloc[flows], flows, strict=True))
    day_of_hour = signals.hours.floor("D")
    found = []
    for node_id, of_node in backward.groupby("node_id", observed=True):
        column = place.get(node_id)
        if column is None:
            continue
        mean = signals.mean[:, column]
        known = np.isfinite(mean)
        forth = known.sum() * 3600 / np.nanmedian(signals.cadence[known, column])
        share = of_node["readings"].sum() / (of_node["readings"].sum() + forth)
        size = np.quantile(np.abs(mean[known]), 0.9)
        is_fair = LEAST_SHARE <= share <= 1 - LEAST_SHARE and abs(of_node["lowest"].median()) > 0.05 * size > 0
        days = day_of_hour[known].union(pd.DatetimeIndex(of_node["day"]))
        turning = of_node["day"].isin(day_of_hour[known & (mean > 0.05 * size)]).sum()
        if is_fair and len(days.unique()) >= LEAST_DAYS and turning >= len(days.unique()) / 2:
            found.append(str(node_id))
    return found


def registers(raw: pd.DataFrame) -> list[str]:
    """Nodes whose `volume` is the reading of a register (a cumulative index) and no amount since the previous reading.

    Args:
        raw: readings as read, in any order: node_id, timestamp, volume.
    """
    volume = raw["volume"].to_numpy(dtype="float64", na_value=np.nan)
    known = np.isfinite(volume) & (volume >= 0) & raw["timestamp"].notna().to_numpy()
    if known.sum() < LEAST_STEPS:
        return []
    node = raw["node_id"].astype("category").cat.remove_unused_categories()
    codes = node.cat.codes.to_numpy().astype(np.int64)[known]
    order = np.lexsort((raw["timestamp"].to_numpy()[known], codes))
    codes, figures = codes[order], volume[known][order]
    step = np.where(codes[1:] == codes[:-1], figures[1:] - figures[:-1], 0.0)
    size = len(node.cat.categories)
    up, down = (np.bincount(codes[1:], mask, size) for mask in (step > 0, step < 0))
    grown = np.bincount(codes[1:], np.maximum(step, 0.0), size)
    first = np.searchsorted(codes, np.arange(size))
    last = np.searchsorted(codes, np.arange(size), side="right") - 1
    is_there = last >= first
    at_first, at_last = (figures[np.where(is_there, edge, 0)] for edge in (first, last))
    with np.errstate(invalid="ignore", divide="ignore"):
        # An amount comes down again by as much as it has gone up, and is no higher than its steps.
        grows = (up >= LEAST_STEPS) & (up / (up + down) >= _GROWING) & (at_last - at_first >= 0.5 * grown)
        is_high = at_last > _HIGH * grown / np.maximum(up, 1)
    return [str(name) for name in node.cat.categories[is_there & grows & is_high]]


def increments(node: Integers, instant: Integers, day: Integers, register: Floats) -> Floats:
    """What registers have grown by since their previous reading, m³; NaN where that cannot be known, or nothing was
    read.

    A register that falls has rolled over where it stood at the end of its digits and what it has gone on by is no more
    than usual; else it was reset or exchanged, and nobody knows what flowed between. Of one that leaps nobody knows
    either.

    Args:
        node: of each reading, in order of node and instant.
        instant: epoch µs.
        day: the reading's local day, however numbered.
        register: m³; NaN where it was not read.
    """
    result = np.full(len(register), np.nan)
    row = np.flatnonzero(np.isfinite(register))
    if len(row) < 2:
        return result
    same = node[row[1:]] == node[row[:-1]]
    before, now = register[row[:-1]], register[row[1:]]
    seconds = (instant[row[1:]] - instant[row[:-1]]) / SECOND
    with np.errstate(divide="ignore", invalid="ignore"):
        digits = 10.0 ** np.ceil(np.log10(np.maximum(before, 1e-9) * (1 + 1e-12)))
        step = now - before
        over = digits - before + now
        rolled = (step < 0) & (before > 0.9 * digits) & (now < 0.1 * digits)
        step = np.where(rolled, over, step)
        rate = 1000 * step / seconds
    usual = _usual(node[row[1:]], day[row[1:]], np.where(same & (now >= before), rate, np.nan))
    most = np.fmin(np.fmax(np.nan_to_num(_JUMP * usual), _LEAST_JUMP), _MOST_RATE)
    known = same & (step >= 0) & (rate <= most)
    result[row[1:][known]] = step[known]
    return result


def _usual(node: Integers, day: Integers, rate: Floats) -> Floats:
    """The median of the positive rates of each node-day, for each of its rows; NaN where there are fewer than three, of
    which the one in question is not the usual one."""
    frame = pd.DataFrame({"node": node, "day": day, "rate": np.where(rate > 0, rate, np.nan)})
    grouped = frame.groupby(["node", "day"])["rate"]
    usual = grouped.transform("median").where(grouped.transform("count") >= 3)
    return usual.to_numpy(dtype="float64")
