"""Flow that never ends at a meter of few customers, where it usually does each day: a leak behind the meter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from src.domain.anomalies.events import WARNING, Finding, runs, span_of
from src.domain.anomalies.habits import ZERO_IS_USUAL, Habits
from src.domain.anomalies.profile import is_zero
from src.domain.anomalies.signals import Signals

# Flow without an end for so many hours, and so many times as long as ever before; an hour without ends it.
LEAST_HOURS, TIMES_USUAL = 3 * 24, 1.5


def continuous_flow(signals: Signals, habits: Habits) -> Iterator[Finding]:
    """Meters at which something flows for days, though it usually stops now and then."""
    zero = is_zero(signals)
    is_flow = (signals.listed["measurement"] == "flow_rate").to_numpy()
    with np.errstate(invalid="ignore"):
        is_judged = (
            is_flow & habits.is_known & (habits.zeros >= ZERO_IS_USUAL) & (signals.listed["role"] == "consumption")
        )
        busy = np.isfinite(signals.mean) & ~zero & (signals.mean > 0) & np.asarray(is_judged)
    for run in runs(busy, zero, 1):
        needed = int(np.ceil(max(LEAST_HOURS, TIMES_USUAL * habits.busy_hours[run.column])))
        rows = slice(run.first, run.last + 1)
        # Of hours without a reading nobody knows whether it flowed.
        flowing = np.flatnonzero(busy[rows, run.column]) + run.first
        if len(flowing) < needed:
            continue
        least = float(np.nanquantile(np.fmin(signals.low[rows, run.column], signals.mean[rows, run.column]), 0.05))
        begin, detected, end = span_of(replace(run, certain=int(flowing[needed - 1])), signals.hours)
        hours = len(flowing)
        signal = signals.listed.iloc[run.column]
        yield Finding(
            signal["node_id"],
            "continuous_flow",
            "flow_rate",
            "pattern",
            begin,
            detected,
            end,
            WARNING,
            least,
            0.0,
            {
                "explanation": f"water has flowed for {hours} hours without an end, which it usually has: "
                f"a leak behind the meter of about {least:.3g} L/s",
                "hours": hours,
                "longest_usual_hours": float(habits.busy_hours[run.column]),
                "lost_m3_so_far": 3.6 * least * hours,
            },
        )
