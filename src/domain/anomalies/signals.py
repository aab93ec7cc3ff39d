"""Hourly figures of many sensors side by side: what every detector looks at."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import holidays
import numpy as np
import numpy.typing as npt
import pandas as pd

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# Measurement -> the columns of computed_metrics that hold its hourly figures.
MEASURED = {
    "flow_rate": ("avg_flow_rate", "min_flow_rate", "max_flow_rate", "max_flow_change", "max_flow_spike"),
    "pressure": ("avg_pressure", "min_pressure", "max_pressure", "max_pressure_change", "max_pressure_spike"),
    "temperature": (
        "avg_temperature", "min_temperature", "max_temperature", "max_temperature_change", "max_temperature_spike",
    ),
}  # fmt: skip
# Signals of a district's balance, under its first inlet: water that customers' meters do not account for, and where
# they have none, what comes in by all inlets together.
LOSS, INFLOW = "loss", "inflow"
HOUR = timedelta(hours=1)
WORKDAY, SATURDAY, HOLIDAY = 0, 1, 2
# Cells of a week as habits distinguish them: three kinds of day, 24 hours each.
CELLS = 72


@dataclass(frozen=True)
class Signals:
    """Hours × signals; a signal is one measurement of one node.

    `mean`, `low`, `high` in L/s, bar or °C; `change` and `spike` the largest step within the hour and the largest one
    taken back at once; `cadence` the seconds between readings. NaN where nothing was measured. `hours` are the UTC
    instants at which they begin, without gaps. `listed` has a row per signal: node_id, measurement, district_id, role
    and, where districts pass water on to each other, supply, the same for all of these.
    """

    hours: pd.DatetimeIndex
    listed: pd.DataFrame
    mean: Floats
    low: Floats
    high: Floats
    change: Floats
    spike: Floats
    cadence: Floats

    def between(self, start: datetime, end: datetime) -> Signals:
        """The same signals in the hours that begin within [start, end)."""
        first, last = (int(self.hours.searchsorted(pd.Timestamp(edge))) for edge in (start, end))
        figures = {name: getattr(self, name)[first:last] for name in _FIGURES}
        return Signals(self.hours[first:last], self.listed, **figures)

    def of(self, columns: Integers) -> Signals:
        """Some of the signals."""
        figures = {name: getattr(self, name)[:, columns] for name in _FIGURES}
        return Signals(self.hours, self.listed.iloc[columns].reset_index(drop=True), **figures)


_FIGURES = ("mean", "low", "high", "change", "spike", "cadence")


def signals_of(
    rows: pd.DataFrame, nodes: pd.DataFrame, start: datetime, end: datetime, balances: pd.DataFrame | None = None
) -> Signals:
    """Arranges hourly windows by hour and signal.

    Args:
        rows: 1hour windows: node_id, window_start, the columns of `MEASURED`, cadence_seconds.
        nodes: index node_id; columns district_id, role and, at will, supply (null where unknown).
        balances: of the districts' balances: node_id, window_start, measurement (`LOSS` or `INFLOW`), flow in L/s.
        start, end: whole hours; the end is exclusive.

    Returns:
        One signal per node and measurement that has a value anywhere in `rows`, in the order of node and measurement.
    """
    hours = pd.date_range(start, end, freq="h", inclusive="left", tz="UTC")
    known = rows[rows["node_id"].isin(nodes.index)]
    node = known["node_id"].astype("category")
    codes, names = node.cat.codes.to_numpy(), node.cat.categories
    row = ((known["window_start"] - pd.Timestamp(start)) // HOUR).to_numpy()
    inside = (row >= 0) & (row < len(hours))
    known, codes, row = known[inside], codes[inside], row[inside]

    def spread(column: str) -> Floats:
        matrix = np.full((len(hours), len(names)), np.nan)
        matrix[row, codes] = known[column].to_numpy(dtype="float64")
        return matrix

    cadence = spread("cadence_seconds")
    parts: list[tuple[pd.DataFrame, list[Floats]]] = []
    for measurement, columns in MEASURED.items():
        figures = [spread(column) for column in columns]
        used = np.flatnonzero(np.isfinite(figures[0]).any(axis=0))
        if len(used):
            listed = pd.DataFrame({"node_id": names[used].astype(str), "measurement": measurement})
            parts.append((listed, [matrix[:, used] for matrix in [*figures, cadence]]))
    for measurement in (LOSS, INFLOW) if balances is not None else ():
        assert balances is not None
        of_measurement = balances[balances["measurement"] == measurement]
        wide = of_measurement.pivot(index="window_start", columns="node_id", values="flow").reindex(hours)
        wide = wide.loc[:, wide.notna().any(axis=0)]
        listed = pd.DataFrame({"node_id": wide.columns.astype(str), "measurement": measurement})
        unknown = np.full(wide.shape, np.nan)
        parts.append((listed, [wide.to_numpy(dtype="float64"), *[unknown] * (len(_FIGURES) - 1)]))
    if not parts:
        empty = np.empty((len(hours), 0))
        listed = pd.DataFrame(columns=["node_id", "measurement", "district_id", "role"], dtype=object)
        return Signals(hours, listed, *[empty] * len(_FIGURES))
    listed = pd.concat([part for part, _ in parts], ignore_index=True)
    order = np.lexsort((listed["measurement"], listed["node_id"]))
    stacked = [np.concatenate([figures[n] for _, figures in parts], axis=1)[:, order] for n in range(len(_FIGURES))]
    facts = [name for name in ("district_id", "role", "supply") if name in nodes]
    described = listed.iloc[order].join(nodes[facts], on="node_id").reset_index(drop=True)
    return Signals(hours, described, *stacked)


def kinds_of_day(hours: pd.DatetimeIndex, zone: ZoneInfo, country: str) -> Integers:
    """Whether each hour's local day is a working day, a Saturday, or a Sunday or public holiday of the country."""
    if hours.empty:
        return np.empty(0, dtype=np.int64)
    local = hours.tz_convert(zone)
    days = local.normalize().tz_localize(None)
    years = range(local.year.min(), local.year.max() + 1)
    calendar = holidays.country_holidays(country, years=years) if country else ()
    festive = _is_holiday(days, calendar)
    return np.where(festive | (local.dayofweek == 6), HOLIDAY, np.where(local.dayofweek == 5, SATURDAY, WORKDAY))


def _is_holiday(days: pd.DatetimeIndex, calendar: Collection[object]) -> Flags:
    unique = days.unique()
    festive = pd.Series([day.date() in calendar for day in unique], index=unique, dtype=bool)
    return festive.reindex(days).to_numpy()


def cells_of(hours: pd.DatetimeIndex, zone: ZoneInfo, country: str) -> Integers:
    """The cell of the week each hour falls into: kind of day × 24 + local hour."""
    local: Integers = hours.tz_convert(zone).hour.to_numpy().astype(np.int64)
    return kinds_of_day(hours, zone, country) * 24 + local
