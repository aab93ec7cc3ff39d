"""Which columns of a table hold the instant, in which order day and month stand, and by which clock."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from src.domain.tables import words
from src.domain.tables.clocks import is_zone, keeps_summer_time, to_utc, zone_of
from src.domain.tables.figures import is_no_value, looks_like_figure
from src.domain.tables.instants import DAY, TIME_ONLY, Instants, looks_like_instant, read_instants
from src.domain.tables.mapping import Instant
from src.domain.tables.table import NEVER, Column, Flags, Refusal, Table

_SAMPLE = 200
_ZONES_IN_HEADINGS = re.compile(
    r"\b(UTC|GMT|CET|CEST|MEZ|MESZ)\b(?:\s*([+-]\d{1,2}(?::\d{2})?))?|(?<![\w])([+-]\d{2}:\d{2})", re.IGNORECASE
)
# As one column of its own; a number with a sign alone may be a value.
_OFFSETS = re.compile(r"(?:UTC|GMT)?[+-]\d{2}:\d{2}|(?:UTC|GMT)[+-]\d{2}|CES?T|MES?Z|UTC|GMT|Z", re.IGNORECASE)
_KEY = re.compile(r"\b[A-Z][a-z]+/[A-Z]\w+\b")
_FIXED = {"CET": "+01:00", "MEZ": "+01:00", "CEST": "+02:00", "MESZ": "+02:00"}
_WITH_TIME = re.compile(r":|\d[T _-]\d{4}(?:\d\d)?$|\d[T ]\d{1,2}(?:[.h]\d\d)?h?$")


@dataclass(frozen=True)
class Sight:
    """A column at first sight: the shares of its cells that look like an instant, a time of day and a number."""

    label: str
    parts: tuple[str, ...]
    sample: list[str]
    instants: float
    times: float
    figures: float

    @property
    def words(self) -> set[str]:
        """The words of its heading."""
        return {words.plain(word) for word in words.words_of(self.label)}


def look_at(label: str, parts: tuple[str, ...], column: Column) -> Sight:
    """A column at first sight."""
    sample = [text for text in column.sample(_SAMPLE) if not is_no_value(text)]
    count = max(len(sample), 1)
    if column.texts is None and column.figures is None:
        return Sight(label, parts, sample, 1.0 if sample else 0.0, 0.0, 0.0)
    instants = sum(map(looks_like_instant, sample)) / count
    times = sum(TIME_ONLY.fullmatch(text) is not None for text in sample) / count
    return Sight(label, parts, sample, instants, times, sum(map(looks_like_figure, sample)) / count)


def instant_columns(seen: Sequence[Sight], table: Table) -> list[str]:
    """The column of instants, or those of date, time and offset from UTC.

    Raises:
        Refusal: where no column holds dates.
    """
    dated = [column for column in seen if column.instants >= 0.6]
    if not dated:
        dated = [c for c in seen if words.has_role(c.label, "instant") and c.figures > 0.9 and _is_serial(c.sample)]
    if not dated:
        found = ", ".join(column.label for column in seen[:6])
        raise Refusal(
            f"{table.source}: no column holds dates (the columns are {found}). "
            "Say in a mapping which one does, or add one such as 2025-03-04 12:00"
        )
    measured = [column for column in dated if not column.words & words.RECEIVED] or dated
    named = [column for column in measured if column.words & words.known(words.ROLES["instant"])]
    date = (named or measured)[0]
    offset = [c.label for c in seen if c is not date and c.sample and all(map(_OFFSETS.fullmatch, c.sample))][:1]
    if any(_WITH_TIME.search(text) for text in date.sample if not text.endswith("00:00:00")):
        return [date.label, *offset]
    # 12.50 is a time of day only where the heading says so.
    are_times = (c for c in seen if c is not date and c.times >= 0.8)
    times = [c for c in are_times if c.words & words.TIME_WORDS or all(":" in text for text in c.sample)]
    times += [c for c in seen if c is not date and c.figures >= 0.8 and _is_hour(c)]
    return [date.label, times[0].label, *offset] if times else [date.label]


def instant_of(tables: Sequence[Table], labels: list[str], zone: ZoneInfo, assumptions: list[str]) -> Instant:
    """How these columns are instants; what the tables do not show is added to the assumptions.

    Raises:
        Refusal: where the order of day and month is another in each table, or only some instants name their offset.
    """
    label = " + ".join(labels)
    certain, likely, undecided, evidence, is_bare = set[str](), set[str](), False, list[bool](), False
    for table in tables:
        columns = [table.column(name) for name in labels]
        found = read_instants(columns)
        _refuse_two_orders(table, label, columns[0], found)
        if found.order is not None and found.is_decided:
            (certain if found.is_certain else likely).add(found.order)
        undecided |= not found.is_decided
        without = np.isnan(found.offset) & (found.local != NEVER)
        if without.any():
            _refuse_mixed(table, label, ~np.isnan(found.offset), without)
            is_bare = True
            shown = keeps_summer_time(found.local[without], zone, _series(table)[without])
            evidence += [] if shown is None else [shown]
    # What is impossible weighs more than what is far apart.
    orders = certain or likely
    if len(orders) > 1:
        raise Refusal(
            f"{label}: in some of the files dates are {' and in others '.join(sorted(orders))}. "
            "Take them one after the other, or give each a mapping with its order"
        )
    order = next(iter(orders), "day first" if undecided else None)
    if undecided and not orders:
        assumptions.append(f"{label}: dates are taken as day first, as nothing in the column says otherwise")
    if order is not None and orders and not certain:
        assumptions.append(f"{label}: dates are taken as {order}, as its rows then follow each other most closely")
    above = [line for table in tables for line in table.preamble if words.speaks_of_zone(line)]
    name = _zone(label, above, zone, is_bare, evidence, assumptions)
    if is_bare:
        assumptions += _guessed(tables, labels, order, name)
    return Instant.model_validate({"columns": labels, "order": order, "zone": name})


def _refuse_two_orders(table: Table, label: str, column: Column, found: Instants) -> None:
    """Where some rows are dates only with day first and others only with month first, as when a spreadsheet has taken
    those for dates that it could."""
    count = int(found.contrary.sum())
    if count > 1 and count > 0.01 * len(table):
        line = int(table.lines[np.flatnonzero(found.contrary)[0]])
        raise Refusal(
            f"{table.source}, line {line}, column {label}: this is no date with {found.order}, as others are, and "
            f"{count} lines are like it: those up to the twelfth may be either. Export the file again with one order"
        )
    if column.texts is None or column.instants is None:
        return
    is_cell = column.instants != NEVER
    known = found.local != NEVER
    day = (
        found.local
        - found.local.astype("datetime64[us]").astype("datetime64[M]").astype("datetime64[us]").astype(np.int64)
    ) // DAY
    texts, cells = day[known & ~is_cell], day[known & is_cell]
    if len(texts) > 2 and len(cells) > 2 and (texts >= 12).all() and (cells < 12).all():
        line = int(table.lines[np.flatnonzero(is_cell)[0]])
        raise Refusal(
            f"{table.source}, line {line}, column {label}: dates up to the twelfth of a month are dates of the sheet, "
            "and all others texts: the spreadsheet has exchanged day and month of the former. Export the file again, "
            "and have the column taken as text, or give the file that it was made of"
        )


def _refuse_mixed(table: Table, label: str, with_offset: Flags, without: Flags) -> None:
    if with_offset.any():
        with_one, with_none = (int(table.lines[np.flatnonzero(which)[0]]) for which in (with_offset, without))
        raise Refusal(
            f"{table.source}, column {label}: line {with_one} names its offset from UTC and line {with_none} does not. "
            "Give a mapping whose zone says of which zone the latter are"
        )


def _guessed(tables: Sequence[Table], labels: list[str], order: str | None, name: str) -> list[str]:
    """A sentence where the order of rows does not show which of two hours is meant."""
    for table in tables:
        found = read_instants([table.column(one) for one in labels], order)
        bare = np.where(np.isnan(found.offset), found.local, NEVER)
        guessed = to_utc(bare, zone_of(name), _series(table)).guessed
        if guessed.any():
            line = int(table.lines[np.flatnonzero(guessed)[0]])
            return [
                f"{' + '.join(labels)}: of the hour that comes twice in {name}, {table.source} has one only "
                f"(line {line}): taken as the first"
            ]
    return []


def _zone(
    label: str, above: Sequence[str], zone: ZoneInfo, is_bare: bool, evidence: Sequence[bool], assumptions: list[str]
) -> str:
    """The zone of times without an offset."""
    if not is_bare:
        return "UTC"
    named = {found for text in [label, *above] if (found := _named_zone(text.replace("_", " "), zone)) is not None}
    if len(named) > 1:
        raise Refusal(
            f"{label}: the files name several zones ({', '.join(sorted(named))}). Take them one after the other"
        )
    if named:
        return named.pop()
    plain = words.plain(label)
    if any(word in plain for word in ("solare", "winterzeit", "normalzeit")):
        assumptions.append(f"{label}: one hour before UTC's all year, as its heading says standard time")
        return "+01:00"
    if evidence and not any(evidence):
        assumptions.append(f"{label}: its clock is not put forward or back on the days of {zone.key}; taken as UTC")
        return "UTC"
    shown = "its clock is put forward and back as there" if evidence else "nothing in the file says another zone"
    assumptions.append(f"{label}: times are taken as {zone.key}; {shown}")
    return zone.key


def _named_zone(text: str, zone: ZoneInfo) -> str | None:
    """The zone that a heading, or a line above it, names."""
    if (key := _KEY.search(text)) is not None and is_zone(key[0]):
        return key[0]
    found = list(_ZONES_IN_HEADINGS.finditer(text))
    if not found:
        return None
    # "CET/CEST" is a clock put forward and back.
    if {_FIXED.get((one[1] or "").upper()) for one in found} >= {"+01:00", "+02:00"}:
        return zone.key
    match = found[0]
    return match[3] or match[2] or _FIXED.get(match[1].upper(), "UTC")


def _series(table: Table) -> npt.NDArray[np.int64]:
    """Of each row a number for the node and the parameter that stand in it, by which long tables are series."""
    code = np.zeros(len(table), dtype=np.int64)
    for label, column in zip(table.labels, table.columns, strict=True):
        if column.texts is None or not (words.has_role(label, "node") or words.has_role(label, "parameter")):
            continue
        beside = column.codes()
        code = code * (int(beside.max(initial=0)) + 1) + beside
    return code


def _is_serial(sample: Sequence[str]) -> bool:
    numbers = [float(text) for text in sample if re.fullmatch(r"\d+(?:\.\d+)?", text)]
    return bool(numbers) and (all(20_000 <= n < 80_000 for n in numbers) or all(3e8 <= n < 7e18 for n in numbers))


def _is_hour(column: Sight) -> bool:
    """Whether whole hours, or parts of a day, stand there."""
    are_hours = all(re.fullmatch(r"\d{1,2}|0\.\d+", text) and float(text) <= 24 for text in column.sample)
    return bool(column.words & words.TIME_WORDS) and are_hours
