"""From the clock of a file to UTC: the two days on which clocks are changed, put right from the order of rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.domain.tables.table import NEVER, Flags, Micros

_HOUR = 3_600_000_000
_FIXED = re.compile(r"(?:UTC|GMT)?([+-])(\d{1,2})(?::?(\d{2}))?", re.IGNORECASE)


@dataclass(frozen=True)
class Utc:
    """`instants`: microseconds since 1970, `NEVER` where unknown; `skipped`: local times that the zone does not have;
    `guessed`: of an hour that comes twice, those for which the order of rows leaves open which is meant."""

    instants: Micros
    skipped: Flags
    guessed: Flags


def zone_of(name: str) -> tzinfo:
    """The zone of a name: of IANA's, UTC, or a fixed offset such as +01:00.

    Raises:
        ValueError: with a sentence.
    """
    if name.upper() in ("UTC", "GMT", "Z"):
        return timezone.utc  # noqa: UP017
    if (found := _FIXED.fullmatch(name.strip())) is not None:
        offset = timedelta(hours=int(found[2]), minutes=int(found[3] or 0))
        if offset <= timedelta(hours=14):
            return timezone(offset if found[1] == "+" else -offset)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        message = f"'{name}' is no time zone; write one such as Europe/Rome, UTC, or +01:00 for a clock never changed"
        raise ValueError(message) from None


def is_zone(name: str) -> bool:
    """Whether this is the name of a zone."""
    try:
        zone_of(name)
    except ValueError:
        return False
    return True


def to_utc(local: Micros, zone: tzinfo, groups: npt.NDArray[np.int64] | None = None) -> Utc:
    """Instants of a local clock.

    Of an hour that comes twice, rows of one series that run on are its first pass, and from where time goes back its
    second (the other way round where rows are sorted newest first).

    Args:
        local: microseconds since 1970 by the clock, in the order of the file.
        groups: of each row, the series that it belongs to; None: all are one.
    """
    result, skipped, guessed = local.copy(), np.zeros(len(local), np.bool_), np.zeros(len(local), np.bool_)
    known = local != NEVER
    if not known.any():
        return Utc(result, skipped, guessed)
    if isinstance(zone, timezone):
        shift = int(zone.utcoffset(None).total_seconds()) * 1_000_000
        result[known] -= shift
        return Utc(result, skipped, guessed)
    naive = pd.DatetimeIndex(local[known].astype("datetime64[us]"))
    twice, missing = _unusual(naive, zone)
    series = np.zeros(len(naive), dtype=np.int64) if groups is None else np.asarray(groups)[known]
    is_summer, open_question = _passes(naive.to_numpy().astype("datetime64[us]").astype(np.int64), twice, series)
    aware = naive.tz_localize(zone, ambiguous=is_summer, nonexistent="NaT").tz_convert("UTC")
    micros = aware.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
    micros[missing] = NEVER
    result[known] = micros
    skipped[np.flatnonzero(known)[missing]] = True
    guessed[np.flatnonzero(known)[open_question]] = True
    return Utc(result, skipped, guessed)


def keeps_summer_time(local: Micros, zone: ZoneInfo, groups: npt.NDArray[np.int64] | None = None) -> bool | None:
    """Whether the file's clock is put forward and back as the zone's; None where nothing shows it.

    A clock that skips an hour as the zone does, between rows in the hours beside it, is; one that shows hours which the
    zone skips is not, nor one that shows the hour which comes twice just once in a
    series that has no gap before or after it.
    """
    naive = pd.DatetimeIndex(local[local != NEVER].astype("datetime64[us]"))
    if not len(naive):
        return None
    series = np.zeros(len(naive), np.int64) if groups is None else np.asarray(groups)[local != NEVER]
    twice, missing = _unusual(naive, zone)
    micros = naive.to_numpy().astype("datetime64[us]").astype(np.int64)
    for_it = against = 0
    for hour in np.unique(micros[twice] // _HOUR):
        around = np.abs(micros // _HOUR - hour) <= 1
        for one in np.unique(series[around]):
            times = micros[around & (series == one)]
            before, within, after = (times[times // _HOUR == hour + step] for step in (-1, 0, 1))
            if not len(before) or not len(after) or not len(within):
                continue
            # As many rows as in the hours beside it are one pass.
            usual = (len(before) + len(after)) / 2
            if len(within) >= 1.5 * usual:
                for_it += 1
            elif len(np.unique(within)) == len(within) and (np.diff(times) > 0).all() | (np.diff(times) < 0).all():
                against += 1
    hours = np.unique(micros // _HOUR)
    for hour in hours[_skipped(hours + 1, zone) & ~_skipped(hours, zone)]:
        around = (micros // _HOUR >= hour) & (micros // _HOUR <= hour + 2)
        for one in np.unique(series[around]):
            offsets = set((micros[around & (series == one)] // _HOUR - hour).tolist())
            for_it += offsets == {0, 2}
    against += 2 * len(np.unique(micros[missing] // (24 * _HOUR)))
    if not for_it and not against:
        return None
    return for_it >= against


def _unusual(naive: pd.DatetimeIndex, zone: tzinfo) -> tuple[Flags, Flags]:
    """Which local times come twice, and which not at all."""
    every = np.ones(len(naive), dtype=np.bool_)
    missing = np.asarray(naive.tz_localize(zone, ambiguous=every, nonexistent="NaT").isna())
    either = np.asarray(naive.tz_localize(zone, ambiguous="NaT", nonexistent="NaT").isna())
    return either & ~missing, missing


def _skipped(hours: npt.NDArray[np.int64], zone: tzinfo) -> Flags:
    """Which hours (since 1970, by the clock) the zone does not have."""
    return _unusual(pd.DatetimeIndex((hours * _HOUR).astype("datetime64[us]")), zone)[1]


def _passes(micros: Micros, twice: Flags, series: npt.NDArray[np.int64]) -> tuple[Flags, Flags]:
    """Of times that come twice, which are those of summer time; and where that is only a guess."""
    is_summer, is_open = np.ones(len(micros), dtype=np.bool_), np.zeros(len(micros), dtype=np.bool_)
    places = np.flatnonzero(twice)
    if not len(places):
        return is_summer, is_open
    by_hour: dict[tuple[int, int], list[int]] = {}
    for place in places:
        by_hour.setdefault((int(series[place]), int(micros[place] // (24 * _HOUR))), []).append(int(place))
    direction: dict[int, bool] = {}
    for (one, _), members in by_hour.items():
        if one not in direction:
            times = micros[series == one]
            direction[one] = bool(np.sum(np.diff(times) < 0) > np.sum(np.diff(times) > 0))
        newest_first = direction[one]
        ordered = members[::-1] if newest_first else members
        second = False
        previous: int | None = None
        for row in ordered:
            now = int(micros[row])
            again = previous is not None and now == previous
            if previous is not None and now < previous:
                second = True
            is_summer[row] = not (second or again)
            previous = now
        if not any(~is_summer[ordered]):
            is_open[ordered] = True
    return is_summer, is_open
