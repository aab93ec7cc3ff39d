"""What a forecast is made from: the usual flow of the hour, how far the last hours were from it, calendar, weather.

An *example* is one node, one origin (the hour up to which flow is known, itself not known) and one target, 0 to 167
hours after it. Everything is expressed in shares of the node's own recent mean flow, so that nodes of any size learn
together. Nothing of an example looks at flow at or after its origin.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from src.domain.forecasting.series import HOURS, SATURDAY, SUNDAY, WEEK, History, Integers, Numbers

TARGETS = WEEK * HOURS
# Days of the same kind whose median is the usual flow; days over which a node's recent level is taken.
USUAL_DAYS, LEVEL_DAYS = 4, 28
# Of so many weeks a node's flow must be known for a model to forecast it by what it learned: then each kind of day was
# seen so often.
LEAST_WEEKS = 3
# Only nodes that had flow within so many days are trained and forecast.
FLOWED_WITHIN_DAYS = 28
# So many days before an origin are looked at: the level, and before each of its days the usual ones.
LOOK_BACK_DAYS = LEVEL_DAYS + WEEK * (USUAL_DAYS + 1)
# Below this share of its hours known, a node's recent level means nothing.
ENOUGH_KNOWN = 0.25
_GROUP_DAYS = {0: 10, 1: USUAL_DAYS, 2: USUAL_DAYS}
_RECENT_HOURS = (1, 3, 6, 12, 24, 48, 72, 168)
_NEAREST_HOLIDAY = 8


@dataclass(frozen=True)
class Examples:
    """`values` has a row per example, a column per name of `FEATURES`; the other arrays one element per example.

    `usual` (L/s) is the median of the hour on the last days of its kind, `scale` (L/s) the node's recent mean flow;
    `target` (L/s) is NaN where unknown. `node` numbers the history's nodes, `origin` and `ahead` are hours: since the
    history's first hour, and since the origin.
    """

    values: npt.NDArray[np.float32]
    usual: Numbers
    scale: Numbers
    target: Numbers
    node: Integers
    origin: Integers
    ahead: Integers

    def only(self, chosen: npt.NDArray[Any]) -> Examples:
        """The chosen ones: a mask, or numbers of rows."""
        return Examples(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))


def joined(parts: list[Examples]) -> Examples:
    """The examples of all parts, in order."""
    return Examples(
        *(np.concatenate([getattr(part, name) for part in parts]) for name in Examples.__dataclass_fields__)
    )


class View:
    """A history whose days begin at the hour of an origin, so that all before a day is known at the origin."""

    def __init__(self, history: History, hour: int) -> None:
        self._hour = hour
        days = len(history.kind) - (hour > 0)
        self.flow = _begun_at(history.flow, hour)
        # The kind of day of each hour: the last hours of a day that begins at noon are of the next one's kind.
        ahead = np.arange(days)[:, None] + (np.arange(HOURS) + hour)[None, :] // HOURS
        self.kind: Integers = history.kind[ahead]
        self.holiday: Numbers = history.holiday.astype(float)[ahead]
        odd = np.flatnonzero(history.holiday & (history.days.dayofweek.to_numpy() != SUNDAY))
        apart = np.abs(np.arange(len(history.kind))[:, None] - odd[None, :]) if len(odd) else None
        nearest = np.minimum(apart.min(axis=1), _NEAREST_HOLIDAY) if apart is not None else _NEAREST_HOLIDAY
        self.to_holiday: Numbers = np.broadcast_to(nearest, len(history.kind)).astype(float)[ahead]
        self.last_year = _begun_at(history.last_year, hour)
        self.weather = {name: _begun_at(figures[None], hour)[0] for name, figures in history.weather.items()}
        # At most two kinds of hours: those of the day on which a day of this view begins, and those of the next.
        self._parts = [slice(0, HOURS - hour), slice(HOURS - hour, HOURS)] if hour else [slice(0, HOURS)]

    def examples(self, day: int, days: int = WEEK) -> Examples:
        """The examples of all nodes whose origin is the begin of this day of the view.

        Args:
            day: counted from the first of the history.
            days: so many days of targets.

        Raises:
            ValueError: if the history ends before the origin, or too short after its begin.
        """
        if not LEVEL_DAYS <= day <= self.flow.shape[1] or day + WEEK > len(self.kind):
            raise ValueError(f"no examples of day {day} of a history of {self.flow.shape[1]} days")
        with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
            # Means of what is all unknown are unknown.
            warnings.simplefilter("ignore", RuntimeWarning)
            return self._examples(day, days)

    def _examples(self, day: int, count: int) -> Examples:
        nodes, shape = len(self.flow), (len(self.flow), count, HOURS)
        targets = np.arange(day, day + count)
        past = slice(day - LEVEL_DAYS, day)
        recent = self.flow[:, past]
        scale = np.nanmean(recent, axis=(1, 2))
        scale[(np.isfinite(recent).mean(axis=(1, 2)) < ENOUGH_KNOWN) | ~(scale > 0)] = np.nan
        share = scale[:, None, None]
        odd = (recent - self._usual_before[:, past]) / share
        usual, group, same_kind = np.full(shape, np.nan), np.full(shape, np.nan), np.full((*shape, USUAL_DAYS), np.nan)
        for part in self._parts:
            for number, target in enumerate(targets):
                days = self._days_like(target, part, day, USUAL_DAYS)
                usual[:, number, part] = _median(self.flow[:, days, part])
                same_kind[:, number, part, : len(days)] = self.flow[:, days, part].transpose(0, 2, 1)
                alike = self._days_alike(target, part, day)
                group[:, number, part] = np.nanmean(self.flow[:, alike, part], axis=1)
        features = self._of_origin(recent, odd, scale)
        known = {name: value[:, None, None] for name, value in features.items()}
        base = usual / share
        known |= {"usual": base, "group": group / share - base}
        known |= {f"same_kind_{n + 1}": same_kind[..., n] / share - base for n in range(USUAL_DAYS)}
        known |= {f"odd_{n}_days_ago": odd[:, -n, None, :] for n in (1, 2, 3)}
        week, fortnight = np.nanmean(odd[:, -7:], axis=1), np.nanmean(odd[:, -14:], axis=1)
        known |= {"odd_week": week[:, None], "odd_fortnight": fortnight[:, None]}
        known["network_odd_week"] = np.nanmedian(week, axis=0)[None, None]
        # What the same days of last year were, beyond what the last weeks foresee.
        last_year = self.last_year[:, targets]
        known["last_year"] = last_year - base
        known["last_year_day"] = np.nanmean(last_year, axis=2, keepdims=True)
        known["network_last_year"] = np.nanmedian(known["last_year"], axis=0)[None]
        known |= {name: value[None] for name, value in self._of_calendar(targets).items()}
        known |= {name: value[None] for name, value in self._of_weather(targets, day).items()}
        known["node"] = np.arange(nodes, dtype=float)[:, None, None]
        values = np.empty((*shape, len(FEATURES)), dtype=np.float32)
        for number, name in enumerate(FEATURES):
            values[..., number] = known.get(name, np.nan)
        target_flow = np.full(shape, np.nan)
        there = self.flow[:, day : day + count]
        target_flow[:, : there.shape[1]] = there
        ahead = count * HOURS
        return Examples(
            values.reshape(nodes * ahead, -1),
            usual.reshape(-1),
            np.repeat(scale, ahead),
            target_flow.reshape(-1),
            np.repeat(np.arange(nodes), ahead),
            np.full(nodes * ahead, day * HOURS + self._hour),
            np.tile(np.arange(ahead), nodes),
        )

    def _of_origin(self, recent: Numbers, odd: Numbers, scale: Numbers) -> dict[str, Numbers]:
        hours = odd.reshape(len(odd), -1)
        features = {f"odd_{count}_hours": np.nanmean(hours[:, -count:], axis=1) for count in _RECENT_HOURS}
        last_week = np.nanmean(recent[:, -7:], axis=(1, 2))
        return features | {
            "spread": np.nanstd(hours[:, -14 * HOURS :], axis=1),
            "network_odd_day": np.full(len(odd), np.nanmedian(features["odd_24_hours"])),
            "network_odd_168_hours": np.full(len(odd), np.nanmedian(features["odd_168_hours"])),
            "level_week": last_week / scale,
            "level_day": np.nanmean(recent[:, -1], axis=1) / scale,
            "trend": last_week / np.nanmean(recent[:, -14:-7], axis=(1, 2)),
            "unknown": np.isnan(hours[:, -TARGETS:]).mean(axis=1),
        }

    def _of_calendar(self, targets: Integers) -> dict[str, Numbers]:
        after = np.minimum(targets + 1, len(self.holiday) - 1)
        return {
            "hour": np.broadcast_to((np.arange(HOURS) + self._hour) % HOURS, (len(targets), HOURS)).astype(float),
            "ahead": np.arange(len(targets) * HOURS, dtype=float).reshape(-1, HOURS),
            "kind": self.kind[targets].astype(float),
            "holiday": self.holiday[targets],
            "holiday_next_day": self.holiday[after],
            "holiday_day_before": self.holiday[targets - 1],
            "days_to_holiday": self.to_holiday[targets],
        }

    def _of_weather(self, targets: Integers, day: int) -> dict[str, Numbers]:
        features: dict[str, Numbers] = {name: figures[targets] for name, figures in self.weather.items()}
        for name, (source, hours, total) in _ROLLED.items():
            if source in self.weather:
                features[name] = self._rolled(source, hours, total)[targets]
        before = slice(day - LEVEL_DAYS, day)
        if "temperature" in self.weather:
            mean = self._rolled("temperature", HOURS, False)
            features["warmer_than_month"] = mean[targets] - np.nanmean(mean[before])
            features["warmer_than_last_day"] = mean[targets] - mean[day - 1, -1]
            features["hottest_hour"] = np.broadcast_to(
                np.nanmax(self.weather["temperature"][targets], axis=1)[:, None], (len(targets), HOURS)
            )
        for name, source in (("warmer_than_usual", "temperature"), ("wetter_than_usual", "rain")):
            if source in self.weather:
                usual = np.empty((len(targets), HOURS))
                for part in self._parts:
                    for number, target in enumerate(targets):
                        days = self._days_like(target, part, day, USUAL_DAYS)
                        usual[number, part] = np.nanmean(self.weather[source][days, part], axis=0)
                features[name] = self.weather[source][targets] - usual
        return features

    def _rolled(self, source: str, hours: int, total: bool) -> Numbers:
        if (source, hours) not in self._rolling:
            figures = self.weather[source].reshape(-1)
            known = np.isfinite(figures)
            sums = np.cumsum(np.where(known, figures, 0.0)), np.cumsum(known)
            added, count = (s - np.concatenate([np.zeros(min(hours, len(s))), s[:-hours]]) for s in sums)
            mean = added / np.where(count > 0, count, np.nan)
            self._rolling[source, hours] = (mean * hours if total else mean).reshape(-1, HOURS)
        return self._rolling[source, hours]

    @cached_property
    def _rolling(self) -> dict[tuple[str, int], Numbers]:
        return {}

    @cached_property
    def _usual_before(self) -> Numbers:
        """For each known day the usual flow of its kind as it was known at its begin."""
        usual = np.full(self.flow.shape, np.nan)
        for day in range(self.flow.shape[1]):
            for part in self._parts:
                days = self._days_like(day, part, day, USUAL_DAYS)
                if len(days):
                    usual[:, day, part] = _median(self.flow[:, days, part])
        return usual

    def _days_like(self, target: int | np.integer[Any], part: slice, before: int, most: int) -> Integers:
        """The latest days before a day whose hours of this part are of the target's kind, newest first."""
        kinds = self.kind[:before, part.start]
        return np.flatnonzero(kinds == self.kind[target, part.start])[-most:][::-1]

    def _days_alike(self, target: int | np.integer[Any], part: slice, before: int) -> Integers:
        """The same among working days, Saturdays, Sundays: more days, less exact."""
        groups = _group(self.kind[:before, part.start])
        group = int(_group(self.kind[target, part.start]))
        return np.flatnonzero(groups == group)[-_GROUP_DAYS[group] :][::-1]


def _begun_at(figures: Numbers, hour: int) -> Numbers:
    """(column, day, hour) with days that begin at another hour; the last one may be known in part."""
    if not hour:
        return figures
    flat = figures.reshape(len(figures), -1)[:, hour:]
    padded = np.concatenate([flat, np.full((len(figures), hour), np.nan)], axis=1)
    return padded.reshape(len(figures), -1, HOURS)


def _group(kind: Integers) -> Integers:
    return np.where(kind == SUNDAY, 2, np.where(kind == SATURDAY, 1, 0))


def _median(figures: Numbers) -> Numbers:
    """Over the second axis, of what is known; much faster than numpy's own."""
    if not figures.shape[1]:
        return np.full((figures.shape[0], *figures.shape[2:]), np.nan)
    ordered = np.sort(figures, axis=1)
    count = np.isfinite(ordered).sum(axis=1, keepdims=True)
    lower: Numbers = np.take_along_axis(ordered, np.maximum(count - 1, 0) // 2, axis=1)
    upper = np.take_along_axis(ordered, np.minimum(count // 2, figures.shape[1] - 1), axis=1)
    return np.asarray(((lower + upper) / 2)[:, 0])


# Feature -> the weather it sums up, over so many hours up to the target, as a total or as a mean.
_ROLLED = {
    "temperature_day": ("temperature", HOURS, False),
    "temperature_week": ("temperature", 7 * HOURS, False),
    "rain_day": ("rain", HOURS, True),
    "rain_3_days": ("rain", 3 * HOURS, True),
    "rain_fortnight": ("rain", 14 * HOURS, True),
}
FEATURES: tuple[str, ...] = (
    *(f"odd_{count}_hours" for count in _RECENT_HOURS),
    *("spread", "network_odd_day", "network_odd_168_hours", "level_week", "level_day", "trend", "unknown"),
    *("usual", "group"),
    *(f"same_kind_{n + 1}" for n in range(USUAL_DAYS)),
    *("odd_1_days_ago", "odd_2_days_ago", "odd_3_days_ago", "odd_week", "odd_fortnight", "network_odd_week"),
    *("last_year", "last_year_day", "network_last_year"),
    *("hour", "ahead", "kind", "holiday", "holiday_next_day", "holiday_day_before", "days_to_holiday"),
    *("temperature", "rain", "humidity", *_ROLLED),
    *("warmer_than_month", "warmer_than_last_day", "hottest_hour", "warmer_than_usual", "wetter_than_usual"),
    "node",
)
CATEGORIES = ("node", "kind")
