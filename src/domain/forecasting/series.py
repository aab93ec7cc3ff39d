"""Hourly series as days of hours on the local clock: the same hour a week ago stays that when clocks change."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import cached_property
from zoneinfo import ZoneInfo

import holidays
import numpy as np
import numpy.typing as npt
import pandas as pd

Numbers = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
HOURS, WEEK = 24, 7
# The quantities of weather, and their units.
WEATHER = {"temperature": "°C", "rain": "mm in the hour", "humidity": "%"}
SUNDAY, SATURDAY = 6, 5
# Days after the last one of flow that calendar and weather reach: a week of targets, and the day after it.
DAYS_AHEAD = 9
# The same weekday a year before; the days before it that are its level.
_YEAR, _LEVEL = 364, 28


@dataclass(frozen=True)
class History:
    """Hourly flow of some nodes on the local clock.

    `flow` has the shape (node, day, hour of the day), L/s, NaN where unknown; `weather` (day, hour) for each name of
    `WEATHER` that is known; `kind` (day) is the day of the week, Monday 0, a holiday counting as Sunday; `last_year`
    (node, day, hour) is the flow of the same weekday a year before, in shares of its level then (`last_year_of`).
    Weather, kinds and last year reach further than the flow: to the last day that may be forecast.
    """

    nodes: list[str]
    first_day: date
    flow: Numbers
    weather: dict[str, Numbers]
    kind: Integers
    holiday: npt.NDArray[np.bool_]
    zone: ZoneInfo
    last_year: Numbers

    @cached_property
    def days(self) -> pd.DatetimeIndex:
        """The days of `kind`: local dates without a zone."""
        return pd.date_range(self.first_day, periods=len(self.kind))

    def reaching_back(self, days: int) -> History:
        """The same with so many days before it of which nothing is known."""
        before = ((days, 0), (0, 0))
        first = self.first_day - timedelta(days=days)
        weekdays = (np.arange(days) + first.weekday()) % WEEK
        return History(
            self.nodes,
            first,
            np.pad(self.flow, ((0, 0), *before), constant_values=np.nan),
            {name: np.pad(figures, before, constant_values=np.nan) for name, figures in self.weather.items()},
            np.concatenate([weekdays, self.kind]),
            np.concatenate([np.zeros(days, dtype=bool), self.holiday]),
            self.zone,
            np.pad(self.last_year, ((0, 0), *before), constant_values=np.nan),
        )

    def place(self, instant: datetime) -> tuple[int, int]:
        """Day and hour of an instant on the local clock, counted from the first day."""
        local = instant.astimezone(self.zone)
        return (local.date() - self.first_day).days, local.hour


def public_holidays(country: str, first: date, last: date) -> set[date]:
    """The public holidays of a country (two letters; none for an empty name) from a day to another."""
    if not country:
        return set()
    calendar = holidays.country_holidays(country, years=range(first.year, last.year + 1))
    return {day for day in calendar if first <= day <= last}


def history_of(flow: pd.DataFrame, weather: pd.DataFrame | None, festive: Collection[date], zone: ZoneInfo) -> History:
    """Puts hourly figures on the local clock.

    Args:
        flow: index aware hours (their begin), one column per node, L/s; hours may be missing or NaN.
        weather: index aware hours, columns any of `WEATHER`; hours ahead are forecasts. None: nothing is known.
        festive: days on which people live as on a Sunday.

    An hour that the clock skips is NaN; of one that it shows twice, the mean counts.
    """
    first: date = flow.index[0].tz_convert(zone).date()
    last: date = flow.index[-1].tz_convert(zone).date()
    known = (last - first).days + 1
    count = known + DAYS_AHEAD
    days = [first + timedelta(days=n) for n in range(count)]
    holiday = np.array([day in festive for day in days])
    kind = np.where(holiday, SUNDAY, np.array([day.weekday() for day in days]))
    weather_by_day = {}
    if weather is not None and len(weather):
        weather_by_day = {
            str(name): _by_day(weather[[name]], first, count, zone)[0] for name in WEATHER if name in weather.columns
        }
    by_day = _by_day(flow, first, known, zone)
    names = [str(name) for name in flow.columns]
    return History(names, first, by_day, weather_by_day, kind, holiday, zone, last_year_of(by_day, count))


def last_year_of(flow: Numbers, days: int) -> Numbers:
    """What flow was a year (364 days, the same weekday) before each of so many days, in shares of its level then.

    The level is the mean of the four weeks before; NaN where less than half of them, or the hour itself, is known.

    Args:
        flow: (node, day, hour), L/s.
    """
    shares = np.full((len(flow), days, HOURS), np.nan)
    whole = np.isfinite(flow)
    sums = np.cumsum(np.where(whole, flow, 0.0).sum(axis=2), axis=1)
    counts = np.cumsum(whole.sum(axis=2), axis=1)
    for day in range(_YEAR + _LEVEL, min(days, flow.shape[1] + _YEAR)):
        then = day - _YEAR
        before = then - _LEVEL - 1
        total, count = (series[:, then - 1] - (series[:, before] if before >= 0 else 0) for series in (sums, counts))
        enough = (count >= _LEVEL * HOURS / 2) & (total > 0)
        shares[enough, day] = flow[enough, then] / (total[enough] / count[enough])[:, None]
    return shares


def _by_day(figures: pd.DataFrame, first: date, days: int, zone: ZoneInfo) -> Numbers:
    """(column, day, hour): means of what falls into each hour of the local clock."""
    local = pd.DatetimeIndex(figures.index).tz_convert(zone).tz_localize(None)
    cell = np.asarray((local - pd.Timestamp(first)) // pd.Timedelta(hours=1), dtype=np.int64)
    inside = (cell >= 0) & (cell < days * HOURS)
    values = figures.to_numpy(dtype=np.float64).T[:, inside]
    sums, counts = np.zeros((len(values), days * HOURS)), np.zeros((len(values), days * HOURS))
    known = np.isfinite(values)
    for series, total, count, valid in zip(values, sums, counts, known, strict=True):
        np.add.at(total, cell[inside][valid], series[valid])
        np.add.at(count, cell[inside][valid], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (sums / np.where(counts > 0, counts, np.nan)).reshape(len(values), days, HOURS)
