"""Limits: what a measurement must not leave, whatever it usually does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from src.domain.anomalies.events import CRITICAL, WARNING, Finding, runs, span_of
from src.domain.anomalies.signals import Floats, Signals
from src.vocabulary import AnomalyType

# As many normal hours end an event.
QUIET_HOURS = 2
_TYPES: dict[tuple[str, str], AnomalyType] = {
    ("low", "flow_rate"): "low_flow",
    ("high", "flow_rate"): "high_flow",
    ("low", "pressure"): "low_pressure",
    ("high", "pressure"): "high_pressure",
    ("low", "temperature"): "low_temperature",
    ("high", "temperature"): "high_temperature",
}


@dataclass(frozen=True)
class Limits:
    """Alert and emergency limits of a measurement, in its unit; None: no such limit."""

    low: float | None = None
    high: float | None = None
    emergency_low: float | None = None
    emergency_high: float | None = None


# Service pressure in bar. A tank's pressure sensor measures its level, which has no limits until somebody sets them.
SERVICE_PRESSURE = Limits(low=2.5, high=7.0, emergency_low=1.5, emergency_high=9.0)


def limits_of(measurement: str, role: str | None, metadata: Mapping[str, Any]) -> Limits:
    """The limits of a node's measurement: `limits` in its metadata, by measurement, over the service pressure.

    Whatever is no number counts as not said.
    """
    default = SERVICE_PRESSURE if measurement == "pressure" and role != "storage" else Limits()
    own = metadata.get("limits")
    own = own.get(measurement) if isinstance(own, Mapping) else None
    if not isinstance(own, Mapping):
        return default
    told: dict[str, float | None] = dict(vars(default))
    for name in told:
        if name in own:
            value = own[name]
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            told[name] = float(value) if is_number else None if value is None else told[name]
    return Limits(**told)


def beyond_limits(signals: Signals, limits: list[Limits]) -> Iterator[Finding]:
    """Hours whose mean is beyond an alert limit, or that touched an emergency limit, as events."""

    def edge(name: str) -> Floats:
        return np.array([np.nan if (v := getattr(limit, name)) is None else v for limit in limits], dtype=np.float64)

    with np.errstate(invalid="ignore"):
        for side, sign, told in (("low", -1.0, signals.low), ("high", 1.0, signals.high)):
            # Of hours long ago only means are at hand.
            extreme = np.where(np.isfinite(told), told, signals.mean)
            limit, emergency = edge(side), edge(f"emergency_{side}")
            is_alert = sign * signals.mean > sign * limit
            is_emergency = sign * extreme > sign * emergency
            flags = is_alert | is_emergency
            for run in runs(flags, np.isfinite(signals.mean), QUIET_HOURS):
                rows = slice(run.first, run.last + 1)
                own = extreme[rows, run.column]
                worst = float(np.nanmin(own) if sign < 0 else np.nanmax(own))
                critical = bool(is_emergency[rows, run.column].any())
                crossed = limits[run.column]
                passed = getattr(crossed, f"emergency_{side}" if critical else side)
                begin, detected, end = span_of(run, signals.hours)
                signal = signals.listed.iloc[run.column]
                yield Finding(
                    node_id=signal["node_id"],
                    anomaly_type=_TYPES[side, signal["measurement"]],
                    measurement=signal["measurement"],
                    method="limits",
                    begin=begin,
                    detected=detected,
                    end=end,
                    severity=CRITICAL if critical else WARNING,
                    actual=worst,
                    expected=passed,
                    why={
                        "explanation": f"{'below' if sign < 0 else 'above'} the {'emergency' if critical else 'alert'} "
                        f"limit of {passed:g}",
                        "limits": {name: value for name, value in vars(crossed).items() if value is not None},
                        "hours_beyond": int(flags[rows, run.column].sum()),
                    },
                )
