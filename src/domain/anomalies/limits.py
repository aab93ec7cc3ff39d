"""Limits: what a measurement must not leave, whatever it usually does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from src.domain.anomalies.events import BACK_WITHIN, CRITICAL, INFO, WARNING, Finding, Run, episodes_of, runs, span_of
from src.domain.anomalies.habits import Habits
from src.domain.anomalies.signals import Flags, Floats, Signals
from src.vocabulary import AnomalyType

# As many normal hours end an event.
QUIET_HOURS = 2
UNFIT: AnomalyType = "unfit_limits"
# How far outside of what is usual a limit that fits lies, as a share of the usual band, and at least (in the unit).
_ROOM, _LEAST_ROOM = 0.1, 0.05
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
    # Whether they were set for this node, and are not those of service.
    is_stated: bool = False

    def edges(self) -> dict[str, float]:
        """Those there are, by name."""
        return {name: getattr(self, name) for name in EDGES if getattr(self, name) is not None}


EDGES = ("low", "high", "emergency_low", "emergency_high")
# Service pressure in bar. A tank's pressure sensor measures its level, which has no limits until somebody sets them.
SERVICE_PRESSURE = Limits(low=2.5, high=7.0, emergency_low=1.5, emergency_high=9.0)


def limits_of(measurement: str, role: str | None, metadata: Mapping[str, Any]) -> Limits:
    """The limits of a node's measurement: `limits` in its metadata, by measurement, over the service pressure.

    Whatever is not a number counts as not stated.
    """
    default = SERVICE_PRESSURE if measurement == "pressure" and role != "storage" else Limits()
    configured = metadata.get("limits")
    configured = configured.get(measurement) if isinstance(configured, Mapping) else None
    if not isinstance(configured, Mapping):
        return default
    edges: dict[str, float | None] = {name: getattr(default, name) for name in EDGES}
    stated = {
        name: value
        for name in EDGES
        if name in configured
        and ((value := configured[name]) is None or isinstance(value, int | float) and not isinstance(value, bool))
    }
    edges |= {name: None if value is None else float(value) for name, value in stated.items()}
    return Limits(**edges, is_stated=bool(stated))


def fitted(limits: list[Limits], habits: Habits) -> tuple[list[Limits], list[tuple[str, ...]]]:
    """Limits of service where a point's ordinary operation keeps them; where it crosses one, the edge of what is usual
    there instead, so that only what goes beyond that is reported.

    Limits that were set for a node hold as they are.

    Returns:
        The limits to watch, and for each signal the names of those that do not fit.
    """
    watched: list[Limits] = []
    unfit: list[tuple[str, ...]] = []
    for column, limit in enumerate(limits):
        band = Band(*(float(getattr(habits, name)[column]) for name in ("usual_low", "usual_high")))
        crossed = () if limit.is_stated else tuple(n for n, edge in limit.edges().items() if band.crosses(n, edge))
        unfit.append(crossed)
        fitting: dict[str, Any] = {name: band.edge(name) for name in crossed}
        watched.append(replace(limit, **fitting))
    return watched, unfit


@dataclass(frozen=True)
class Band:
    """What a point's hourly means usually lie between; NaN where that is not known."""

    low: float
    high: float

    def crosses(self, name: str, edge: float) -> bool:
        """Whether ordinary operation is beyond a limit."""
        beyond: bool = self.low < edge if name.endswith("low") else self.high > edge
        return beyond

    def edge(self, name: str) -> float:
        """The limit that would fit: a little outside of what is usual, an emergency limit twice as far."""
        room = self._room * (2 if name.startswith("emergency") else 1)
        return self.low - room if name.endswith("low") else self.high + room

    @property
    def _room(self) -> float:
        return max(_ROOM * (self.high - self.low), _LEAST_ROOM)


def unfit_limits(
    signals: Signals, habits: Habits, limits: list[Limits], unfit: list[tuple[str, ...]], since: datetime
) -> Iterator[Finding]:
    """One event for each point whose ordinary operation crosses limits of service: they are useless there.

    Args:
        limits: those of service, aligned with the signals as are the names in `unfit`.
        since: when the habits that show this began to hold.
    """
    for column in (n for n, names in enumerate(unfit) if names):
        signal = signals.listed.iloc[column]
        low, high = float(habits.usual_low[column]), float(habits.usual_high[column])
        yield Finding(
            node_id=signal["node_id"],
            anomaly_type=UNFIT,
            measurement=signal["measurement"],
            method="limits",
            begin=since,
            detected=since,
            end=None,
            severity=INFO,
            actual=None,
            expected=None,
            why={
                "explanation": f"limits do not fit this point: {low:.2g} to {high:.2g} is usual here; set its own",
                "usual": {"low": low, "high": high},
                "limits": limits[column].edges(),
                "do_not_fit": list(unfit[column]),
            },
        )


def beyond_limits(signals: Signals, limits: list[Limits]) -> Iterator[Finding]:
    """Hours whose mean is beyond an alert limit, or that touched an emergency limit, as events."""

    def edge(name: str) -> Floats:
        return np.array([np.nan if (v := getattr(limit, name)) is None else v for limit in limits], dtype=np.float64)

    with np.errstate(invalid="ignore"):
        for side, sign, reached in (("low", -1.0, signals.low), ("high", 1.0, signals.high)):
            # Of hours long ago only means are at hand.
            extreme = np.where(np.isfinite(reached), reached, signals.mean)
            limit, emergency = edge(side), edge(f"emergency_{side}")
            is_alert = sign * signals.mean > sign * limit
            is_emergency = sign * extreme > sign * emergency
            flags = is_alert | is_emergency
            found = runs(flags, np.isfinite(signals.mean), QUIET_HOURS, back_within=BACK_WITHIN, same_hour=True)
            for run in (part for whole in found for part in _where_worse(whole, is_emergency[:, whole.column])):
                rows = slice(run.first, run.last + 1)
                values = extreme[rows, run.column]
                worst = float(np.nanmin(values) if sign < 0 else np.nanmax(values))
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
                        "limits": crossed.edges(),
                        "hours_beyond": int(flags[rows, run.column].sum()),
                        "times": run.times,
                    },
                    episodes=episodes_of(run, signals.hours),
                )


def _where_worse(run: Run, is_emergency: Flags) -> Iterator[Run]:
    """A run, or two where it came back as an emergency after times that were none: that is an event of its own."""
    worse = [bool(is_emergency[first : last + 1].any()) for first, last in run.episodes]
    if not any(worse) or worse[0]:
        yield run
        return
    at = worse.index(True)
    before, after = run.episodes[:at], run.episodes[at:]
    yield replace(run, last=before[-1][1], is_over=True, episodes=before)
    yield replace(run, first=after[0][0], certain=after[0][0], episodes=after)
