"""How meters count: in both directions, and by a register that only grows.

What is found here is found from a stretch of readings as they came, before anything is set aside, and holds from then
on; what people state of a node wins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.domain.vouching import SECOND

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# A meter that errs for some hours turns round on few days, one between two districts on most.
LEAST_DAYS, LEAST_SHARE = 7, 0.05
# Of a register's steps so many go up; an amount since the previous reading goes up and down.
_GROWING, LEAST_STEPS = 0.98, 24
# A register stands many times higher than what it grows by.
_HIGH = 20.0
# A step so many times the day's usual one, and more than a street's main carries (L/s), is another register, not water.
_JUMP, _LEAST_JUMP = 100.0, 50.0
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
    for node_id, own in frame.groupby("node_id", observed=True):
        size = np.abs(own["flow"]).quantile(0.9)
        # Zero drifts a little below zero, and placeholders lie far below.
        back, forth = ((own["flow"] * sign).between(0.05 * size, 3 * size) for sign in (-1, 1))
        by_day = pd.DataFrame({"day": own["day"], "back": back, "forth": forth}).groupby("day")[["back", "forth"]].any()
        turning = (by_day["back"] & by_day["forth"]).sum()
        if len(by_day) >= LEAST_DAYS and turning >= len(by_day) / 2 and min(back.mean(), forth.mean()) >= LEAST_SHARE:
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
    frame = pd.DataFrame(
        {
            "node_id": raw["node_id"].to_numpy()[known],
            "timestamp": raw["timestamp"].to_numpy()[known],
            "volume": volume[known],
        }
    ).sort_values(["node_id", "timestamp"], kind="stable")
    found = []
    for node_id, own in frame.groupby("node_id", observed=True):
        figures = own["volume"].to_numpy()
        steps = np.diff(figures)
        up = steps[steps > 0]
        if len(up) < LEAST_STEPS or (steps >= 0).mean() < _GROWING:
            continue
        if np.median(figures) > _HIGH * np.median(up):
            found.append(str(node_id))
    return found


def increments(node: Integers, instant: Integers, day: Integers, register: Floats) -> Floats:
    """What registers have grown by since their previous reading, m³; NaN where that cannot be known.

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
    # Where nothing usual is known of the day, what a large main carries is the limit.
    most = np.fmin(np.where(usual > 0, np.fmax(_JUMP * usual, _LEAST_JUMP), _MOST_RATE), _MOST_RATE)
    known = same & (step >= 0) & (rate <= most)
    result[row[1:][known]] = step[known]
    return result


def _usual(node: Integers, day: Integers, rate: Floats) -> Floats:
    """The median of the positive rates of each node-day (NaN: none), for each of its rows."""
    frame = pd.DataFrame({"node": node, "day": day, "rate": np.where(rate > 0, rate, np.nan)})
    return frame.groupby(["node", "day"])["rate"].transform("median").to_numpy(dtype="float64")
