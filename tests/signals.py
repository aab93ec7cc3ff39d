"""Hourly signals made by keyword."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from pydantic import ConfigDict

from src.api.schemas.events import Evidence
from src.domain.anomalies.detection import Circumstances
from src.domain.anomalies.limits import limits_of
from src.domain.anomalies.signals import Signals
from src.domain.anomalies.watch import Watch, habits_of_week, weeks
from src.domain.anomalies.whereabouts import Places
from src.processing.conclusions.events import plain

# A Monday of Rome, at midnight.
MONDAY = datetime(2023, 5, 1, 22, tzinfo=UTC) - timedelta(days=1)
ROME = ZoneInfo("Europe/Rome")
HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(days=7)
NOTHING_SET_ASIDE = pd.DataFrame(
    {"node_id": [], "quarter_start": pd.DatetimeIndex([], tz="UTC"), "reason": [], "readings": []}
)


class DocumentedEvidence(Evidence):
    """What the API's documentation names of an event's figures, and nothing else."""

    model_config = ConfigDict(extra="forbid")


def signal(
    node_id: str = "inlet",
    measurement: str = "flow_rate",
    weeks: float = 6,
    mean: float = 100.0,
    noise: float = 0.02,
    daily: float = 0.3,
    role: str | None = "inlet",
    district: str | None = "d",
    seed: int = 1,
    cadence: float = 900.0,
) -> Signals:
    """One signal from `MONDAY` on, with a daily pattern (its share of the mean) and noise (likewise)."""
    hours = pd.date_range(MONDAY, periods=round(weeks * 168), freq="h")
    local = hours.tz_convert(ROME)
    random = np.random.default_rng(seed)
    clean = 1 + daily * np.sin(2 * np.pi * (local.hour.to_numpy() - 9) / 24)
    values = (mean * (clean + noise * random.standard_normal(len(hours))))[:, None]
    listed = pd.DataFrame([{"node_id": node_id, "measurement": measurement, "district_id": district, "role": role}])
    step = 0.05 * mean * np.abs(random.standard_normal(values.shape))
    spread = noise * mean / 2
    return Signals(
        hours, listed, values, values - spread, values + spread, step, step / 4, np.full(values.shape, cadence)
    )


def together(*signals: Signals) -> Signals:
    """Several signals of the same hours side by side."""
    listed = pd.concat([part.listed for part in signals], ignore_index=True)
    names = ("mean", "low", "high", "change", "spike", "cadence")
    figures = {name: np.concatenate([getattr(part, name) for part in signals], axis=1) for name in names}
    return Signals(signals[0].hours, listed, **figures)


def rows(signals: Signals, start: datetime, end: datetime) -> slice:
    """The rows of the hours within [start, end)."""
    return slice(*(int(signals.hours.searchsorted(pd.Timestamp(edge))) for edge in (start, end)))


def raised(signals: Signals, start: datetime, end: datetime, by: float, node_id: str = "inlet") -> Signals:
    """The signals of a node raised by so much within [start, end)."""
    columns = np.flatnonzero(signals.listed["node_id"] == node_id)
    figures = {}
    for name in ("mean", "low", "high"):
        values = getattr(signals, name).copy()
        values[rows(signals, start, end), columns] += by
        figures[name] = values
    return Signals(signals.hours, signals.listed, **figures, change=signals.change, spike=signals.spike,
                   cadence=signals.cadence)  # fmt: skip


def without(signals: Signals, start: datetime, end: datetime, node_id: str = "inlet") -> Signals:
    """The signals without what a node measured within [start, end)."""
    columns = np.flatnonzero(signals.listed["node_id"] == node_id)
    figures = {}
    for name in ("mean", "low", "high", "change", "spike", "cadence"):
        values = getattr(signals, name).copy()
        values[rows(signals, start, end), columns] = np.nan
        figures[name] = values
    return Signals(signals.hours, signals.listed, **figures)


def stuck(signals: Signals, start: datetime, end: datetime, node_id: str = "inlet") -> Signals:
    """The signals with a node that shows one value within [start, end)."""
    columns = np.flatnonzero(signals.listed["node_id"] == node_id)
    figures = {}
    for name in ("mean", "low", "high"):
        values = getattr(signals, name).copy()
        values[rows(signals, start, end), columns] = signals.mean[rows(signals, start, end).start, columns]
        figures[name] = values
    return Signals(signals.hours, signals.listed, **figures, change=signals.change, spike=signals.spike,
                   cadence=signals.cadence)  # fmt: skip


def watch(
    signals: Signals,
    until: datetime | None = None,
    start: datetime | None = None,
    watch: Watch | None = None,
    rejections: pd.DataFrame = NOTHING_SET_ASIDE,
    metadata: dict | None = None,
    places: Places | None = None,
) -> Watch:
    """The events of the hours from `start` (of all) to `until` (the end), on top of those a watch has stored.

    Their figures are those that the API's documentation names.
    """
    listed = signals.listed
    watch = watch or Watch([], dict(zip(listed["node_id"], listed["district_id"], strict=True)))
    limits = [
        limits_of(measurement, role, metadata or {})
        for measurement, role in zip(listed["measurement"], listed["role"], strict=True)
    ]
    known = signals.between(signals.hours[0].to_pydatetime(), until or signals.hours[-1].to_pydatetime() + HOUR)
    end = known.hours[-1].to_pydatetime() + HOUR
    for monday, first, last in weeks(start or known.hours[0].to_pydatetime(), end, ROME):
        habits = habits_of_week(known, monday, watch.stored, ROME, "IT")
        circumstances = Circumstances(limits, rejections, places=places or {})
        watch.judge(known, habits, circumstances, ROME, "IT", (first, last))
    for event in watch.stored:
        DocumentedEvidence.model_validate(plain(event.finding.why))
    return watch


def reported(watch: Watch) -> list[tuple]:
    """What an operator reads of each event that was not withdrawn: node, type, begin, detection, end."""
    return sorted(
        (e.finding.node_id, e.finding.anomaly_type, e.finding.begin, e.finding.detected, e.finding.end)
        for e in watch.stored
        if "closed_because" not in e.finding.why
    )


def types(watch: Watch) -> list[str]:
    return sorted(event.finding.anomaly_type for event in watch.stored)
