"""Leaks as events: how much water, how severe, what it most likely is, and where it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd

from src.domain.anomalies.events import CRITICAL, INFO, WARNING, Finding
from src.domain.anomalies.habits import Habits
from src.domain.anomalies.kinds import explained_kind, given_up_by, kinds_of, most_likely
from src.domain.anomalies.leaks import LONGEST, SLOW_GROWTH, SLOW_LEAK, Leak
from src.domain.anomalies.shift import LEVEL_HALF_LIFE, variance_of_hours
from src.domain.anomalies.signals import HOUR, INFLOW, LOSS, Floats, Integers, Signals
from src.vocabulary import LeakKind, Severity

# What is so unlikely to be a leak is none to get up for; in a rise's first hours nothing shows what it is.
_NO_LEAK = 0.2
# From this share of the mean inflow on, and from this many days' inflow lost on, it is a matter for now.
_CRITICAL_SHARE, _WARNING_SHARE, _CRITICAL_DAYS = 0.2, 0.08, 0.5
# A repair that failed so soon after did not hold; nights of so many days show what flowed before.
_SOON, _NIGHTS = timedelta(days=14), 7
# Then it is learned as usual, and what is above that has another shape.
LEARNED_AFTER = timedelta(days=14)
# Expected to be below this share of its mean, a flow is shut.
SHUT = 0.05
# The local hours of the minimum night flow.
_NIGHT = (2, 3)
# Bounds of 95 %.
_BOUNDS = 1.96


@dataclass(frozen=True)
class LeakContext:
    """What leaks are judged by: `deviation`, hours × signals, what habits do not explain (L/s); `reference` the mean
    inflow (L/s) that each signal's steps are compared with (NaN where they are no sign of a leak)."""

    signals: Signals
    cells: Integers
    habits: Habits
    deviation: Floats
    reference: Floats


def event_of(leak: Leak, column: int, known: Sequence[Leak], seen: LeakContext) -> Finding:
    """A leak as the event that it is by the last of the hours.

    Args:
        column: the place of its signal.
        known: leaks that were found before, of any signal.
    """
    hours, signals = seen.signals.hours, seen.signals
    first = int(hours.searchsorted(pd.Timestamp(leak.begin)))
    last = len(hours) if leak.end is None else int(hours.searchsorted(pd.Timestamp(leak.end)))
    rows = slice(first, max(last, first + 1))
    above = seen.deviation[rows, column] - leak.level_before
    lasted = ((leak.end or hours[-1].to_pydatetime() + HOUR) - leak.begin) / HOUR
    lately = _mean(above[-24:])
    size = leak.size if np.isnan(lately) else max(lately, leak.size)
    share = size / float(seen.reference[column])
    # What habits have learned of it by then is water lost all the same.
    least = leak.size if lasted * HOUR > LEARNED_AFTER else 0.0
    lost, margin = _lost(above, lasted, leak.size, least, _noise(column, lasted, seen.habits))
    kinds, giver = leak.kinds, None
    if kinds is None or lasted * HOUR <= LEARNED_AFTER:
        kinds, giver = _kinds(rows, column, above, leak, seen)
    kind = most_likely(kinds)
    usually_shut = _is_usually_shut(rows, column, seen)
    actual = _mean(signals.mean[rows, column][-24:])
    nights = np.isin(seen.cells % 24, _NIGHT)
    before = slice(max(first - _NIGHTS * 24, 0), first)
    same = (other for other in known if (other.node_id, other.measurement) == (leak.node_id, leak.measurement))
    settled = last if leak.settled is None else int(hours.searchsorted(pd.Timestamp(leak.settled)))
    after = slice(last, max(settled, last))
    earlier = [other for other in same if other.end is not None and other.end <= leak.begin < other.end + _SOON]
    is_lasting = leak.end is not None and leak.end - leak.begin >= LONGEST
    why: dict[str, Any] = {
        "explanation": f"{'growing' if leak.anomaly_type == SLOW_LEAK else 'a lasting step of'} "
        f"{'water loss' if leak.measurement == LOSS else 'inflow'} that habits do not explain: {size:.3g} L/s, "
        f"{100 * share:.1f} % of the mean inflow"
        + (f", {leak.size:.3g} L/s when it was found" if size > SLOW_GROWTH * leak.size else "")
        + ("; in hours in which nothing usually flows: supply that was not shut, or a new use" if usually_shut else "")
        + (f"; {explained_kind(kind, leak.measurement)}" if kind and not usually_shut else "")
        + (f" ({giver})" if giver else "")
        + ("; lasting, and from now on taken as the level to expect" if is_lasting else ""),
        "size": leak.size,
        "size_now": size,
        "share_percent": 100 * share,
        "level_before": leak.level_before,
        "lost_m3_so_far": lost,
        "lost_m3_margin": margin,
        "kinds": kinds,
        "given_up_by": giver,
        "night_flow_before": _mean_or_none(signals.mean[before, column][nights[before]]),
        "night_flow": _mean_or_none(signals.mean[rows, column][nights[rows]][-len(_NIGHT) :]),
        "night_flow_after": _mean_or_none(signals.mean[after, column][nights[after]]),
        "came_back_after": max(other.end for other in earlier if other.end).isoformat() if earlier else None,
        "hours": lasted,
        "settled": leak.settled.isoformat() if leak.settled else None,
    }
    return Finding(
        node_id=leak.node_id,
        anomaly_type=leak.anomaly_type,
        measurement=leak.measurement,
        method="water_balance" if leak.measurement == LOSS else "level_shift",
        begin=leak.begin,
        detected=leak.detected,
        end=leak.end,
        severity=_severity(share, lost / (float(seen.reference[column]) * 86.4), lasted, kinds),
        actual=actual if np.isfinite(actual) else None,
        expected=actual - size if np.isfinite(actual) else None,
        why=why,
    )


def _severity(share: float, days_lost: float, hours: float, kinds: Mapping[LeakKind, float] | None) -> Severity:
    """By the share of the inflow and the days' inflow lost; what is hardly a leak loses no water."""
    is_leak = not is_hardly_leak(kinds)
    if is_leak and (share >= _CRITICAL_SHARE or days_lost >= _CRITICAL_DAYS):
        return CRITICAL
    return WARNING if share >= _WARNING_SHARE or (is_leak and hours >= 48) else INFO


def is_hardly_leak(kinds: Mapping[LeakKind, float] | None) -> bool:
    """Whether a rise is most likely something else."""
    return kinds is not None and kinds["leak"] < _NO_LEAK


def _lost(above: Floats, hours: float, size: float, least: float, noise: float) -> tuple[float, float]:
    """m³ above the level before, hours without a value as the mean of the others; and the margin of it (95 %).

    Args:
        size: the leak's when it was found (L/s), which stands for hours none of which is known.
        least: no less than this flowed (L/s).
        noise: the standard deviation (L/s) of an average over so many hours above the level before.
    """
    mean = _mean(above)
    lost = 3.6 * hours * (size if np.isnan(mean) else max(mean, least))
    return lost, 3.6 * hours * _BOUNDS * noise


def _noise(column: int, hours: float, habits: Habits) -> float:
    """The standard deviation of an average over so many hours less the level before them, both of what lies above an
    expected value that was learned as a median of the hours of some weeks."""
    # What little is known of how hours remember each other must not make them surer than if they did not.
    single = max(float(variance_of_hours(habits.of(np.array([column])))[0]), float((habits.spread[column] ** 2).mean()))
    of_level = 2 * LEVEL_HALF_LIFE / np.log(2)
    learned = np.pi / 2 / max(float(habits.history[column]), 1.0)
    return float(np.sqrt(single * (1 / max(hours, 1.0) + 1 / of_level + learned)))


def _kinds(
    rows: slice, column: int, above: Floats, leak: Leak, seen: LeakContext
) -> tuple[Mapping[LeakKind, float] | None, str | None]:
    """The probability of each kind, and the node whose flow fell as this one rose."""
    listed, habits = seen.signals.listed, seen.habits
    inflow = _inflow(column, listed)
    cells = seen.cells[rows]
    kinds = None
    if (
        inflow is not None
        and habits.is_known[inflow]
        and habits.mean[inflow] > 0
        and not _is_usually_shut(rows, inflow, seen)
    ):
        usual = habits.expected[inflow][cells] / habits.mean[inflow]
        kinds = kinds_of(above, usual, cells, habits, column)
    same = (listed["district_id"] == listed["district_id"].iloc[column]).to_numpy()
    if leak.measurement == LOSS:
        # A customers' meter that counts less makes a loss of what it leaves out.
        kind: LeakKind = "meter"
        candidates = same & (listed["role"] == "consumption").to_numpy()
        candidates &= (listed["measurement"] == "flow_rate").to_numpy()
    else:
        kind = "moved"
        candidates = np.isfinite(seen.reference) & (listed["measurement"] != LOSS).to_numpy()
        candidates &= ~same & listed["district_id"].notna().to_numpy()
    given = given_up_by(leak.size, rows, seen.deviation, np.flatnonzero(candidates), habits, column)
    if given is None:
        return kinds, None
    giver, sure = given
    rest: dict[LeakKind, float] = kinds or {"leak": 1.0, "demand_growth": 0.0, "meter": 0.0}
    found = {name: (1 - sure) * probability for name, probability in rest.items()}
    found[kind] = found.get(kind, 0.0) + sure
    return found, str(listed["node_id"].iloc[giver])


def _is_usually_shut(rows: slice, column: int, seen: LeakContext) -> bool:
    """Whether next to nothing is expected in these hours, as where supply is rationed: that has no shape."""
    expected = seen.habits.expected[column][seen.cells[rows]]
    return bool(np.nanmax(expected) <= SHUT * abs(seen.habits.mean[column])) if np.isfinite(expected).any() else False


def _inflow(column: int, listed: pd.DataFrame) -> int | None:
    """The signal whose pattern is that of use in the district: of a loss that of the inflow, else itself."""
    if listed["measurement"].iloc[column] != LOSS:
        return column
    same = listed["district_id"] == listed["district_id"].iloc[column]
    inflows = same & ((listed["measurement"] == INFLOW) | (listed["role"] == "inlet"))
    inflows &= listed["measurement"].isin([INFLOW, "flow_rate"])
    ordered = listed[inflows].sort_values("measurement", key=lambda names: names != INFLOW, kind="stable")
    return int(ordered.index[0]) if len(ordered) else None


def _mean(values: Floats) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _mean_or_none(values: Floats) -> float | None:
    mean = _mean(values)
    return mean if np.isfinite(mean) else None
