"""Pattern: hours that are far from what this hour of the week, the peers and the recent level let expect."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from src.domain.anomalies.events import BACK_WITHIN, CRITICAL, INFO, WARNING, Finding, Run, episodes_of, runs, span_of
from src.domain.anomalies.habits import SHORT_HOURS, USUAL_TIMES, ZERO_IS_USUAL, Habits
from src.domain.anomalies.signals import HOLIDAY, SATURDAY, WORKDAY, Floats, Integers, Signals
from src.vocabulary import AnomalyType, Severity

# A deviation is unusual beyond so many spreads, and beyond so many times the largest usual one, whichever is more.
SPREADS, TIMES_USUAL = 6.0, 2.0
# It must last; one hour alone is the spikes' business.
LEAST_HOURS, QUIET_HOURS = 3, 6
# What districts lose and take in has detectors of its own.
_TYPES: dict[str, AnomalyType] = {
    "flow_rate": "unusual_flow",
    "pressure": "unusual_pressure",
    "temperature": "unusual_temperature",
}


def off_pattern(
    signals: Signals, cells: Integers, habits: Habits, deviation: Floats, level: Floats
) -> Iterator[Finding]:
    """Deviations from the pattern as events, high and low apart.

    Args:
        deviation: hours × signals, what habits do not explain, in the signals' units.
        level: hours × signals, its recent average before each hour.
    """
    spread = habits.spread[:, cells % 24].T
    is_judged = habits.is_known & signals.listed["measurement"].isin(list(_TYPES)).to_numpy()
    with np.errstate(invalid="ignore"):
        scaled, far = (deviation - level) / spread, deviation / spread
        limit = np.maximum(SPREADS, TIMES_USUAL * habits.tail)
        for sign in (-1.0, 1.0):
            # What is as expected is not unusual, wherever the level was: it is back.
            flags = (sign * scaled > limit) & (sign * far > limit) & is_judged
            if sign < 0:
                # Where nothing flows now and then, that nobody takes water is nothing unusual.
                flags &= ~((signals.mean == 0) & (habits.zeros >= ZERO_IS_USUAL))
            for run in runs(flags, np.isfinite(scaled), QUIET_HOURS, LEAST_HOURS, BACK_WITHIN, same_hour=True):
                rows = slice(run.first, run.last + 1)
                beyond = np.where(flags[rows, run.column], sign * scaled[rows, run.column], np.nan)
                worst = run.first + int(np.nanargmax(beyond))
                times = float(np.nanmax(beyond) / limit[run.column])
                lasted = sum(run.lengths)
                begin, detected, end = span_of(run, signals.hours)
                signal = signals.listed.iloc[run.column]
                actual = float(signals.mean[worst, run.column])
                difference = float(deviation[worst, run.column] - level[worst, run.column])
                yield Finding(
                    node_id=signal["node_id"],
                    anomaly_type=_TYPES[signal["measurement"]],
                    measurement=signal["measurement"],
                    method="pattern",
                    begin=begin,
                    detected=detected,
                    end=end,
                    severity=_severity_of(times, lasted, run),
                    actual=actual,
                    expected=actual - difference,
                    why={
                        "explanation": f"{'much higher' if sign > 0 else 'much lower'} than at this hour of the week"
                        + _repeated(run, cells),
                        "worst_hour": signals.hours[worst].isoformat(),
                        "spreads": float(np.nanmax(beyond)),
                        "usual_spreads": float(habits.tail[run.column]),
                        "hours_beyond": int(flags[rows, run.column].sum()),
                        "times": run.times,
                        "history_days": float(habits.history[run.column] / 24),
                    },
                    episodes=episodes_of(run, signals.hours),
                )


def _repeated(run: Run, cells: Integers) -> str:
    """In words, when what came back again and again was there."""
    if run.times < USUAL_TIMES:
        return ""
    firsts, lasts = (cells[[episode[edge] for episode in run.episodes]] for edge in (0, 1))
    begins, ends = (int(np.median(edge % 24)) for edge in (firsts, lasts))
    kinds = sorted({int(kind) for kind in firsts // 24})
    days = {WORKDAY: "working days", SATURDAY: "Saturdays", HOLIDAY: "Sundays and holidays"}
    on = " and ".join(days[kind] for kind in kinds) if len(kinds) < len(days) else "all kinds of days"
    return (
        f"; it came back {run.times} times, from about {begins:02d}:00 to {(ends + 1) % 24:02d}:00 on {on}: "
        "a new use or schedule, which is learned if it goes on"
    )


def _severity_of(times_limit: float, hours: int, run: Run) -> Severity:
    """What is over by itself each time, and comes back, is a schedule: no matter for now."""
    severity = severity_of(times_limit, hours)
    is_schedule = run.times >= USUAL_TIMES and max(run.lengths) <= SHORT_HOURS
    return WARNING if severity == CRITICAL and is_schedule else severity


def severity_of(times_limit: float, hours: int) -> Severity:
    """Size by duration: a little beyond the limit for a few hours is for the record, far and long is for now."""
    weight = times_limit * hours
    return INFO if weight < 6 else WARNING if weight < 48 else CRITICAL
