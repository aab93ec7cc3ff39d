"""Readings out of a table, as its mapping says: in the product's units and UTC, and what is left out is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from src.domain.names import problem_of_name
from src.domain.placeholders import is_placeholder
from src.domain.readings import MEASUREMENTS, VALID_RANGE
from src.domain.tables.clocks import to_utc, zone_of
from src.domain.tables.decimals import decimals_of
from src.domain.tables.figures import is_no_value, looks_like_figure, read_figures
from src.domain.tables.instants import read_instants
from src.domain.tables.mapping import Channel, Section
from src.domain.tables.table import NEVER, Column, Flags, Floats, Problem, Refusal, Table
from src.domain.units import UnknownUnit, conversion, converted

# Reasons that mean that nothing stood there, and not that something was lost.
NOTHING_THERE = ("no value", "placeholder")
_UNNAMED_COLUMN = "a column of numbers that the mapping does not name"
_EARLIEST = int(np.datetime64("2000-01-01", "us").astype(np.int64))


@dataclass(frozen=True)
class Taken:
    """What became of one table.

    Attributes:
        frame: node_id, district_id, timestamp (datetime64[us, UTC]), flow_rate L/s, pressure bar, temperature °C,
            volume m³ (float64, NaN where unknown), one row per node and instant, in that order.
        problems: what was left out, by reason and column.
        values: how many values of each channel were taken, in the order of the section's channels.
    """

    frame: pd.DataFrame
    problems: list[Problem]
    values: list[int] = field(default_factory=list)


def section_for(table: Table, sections: Sequence[Section]) -> Section:
    """The section of a mapping that a table is read by: the first whose files and columns it has.

    Raises:
        Refusal: naming the column that is missing.
    """
    named = [section for section in sections if any(fnmatch(table.source, pattern) for pattern in section.files)]
    if not named:
        patterns = ", ".join(pattern for section in sections for pattern in section.files)
        raise Refusal(f"{table.source}: the mapping is of {patterns} only. Add the file's name under files")
    labels = set(table.labels)
    missing = [[column for column in section.needed() if column not in labels] for section in named]
    best = min(range(len(named)), key=lambda place: len(missing[place]))
    if missing[best]:
        raise Refusal(
            f"{table.source}: the mapping names the column '{missing[best][0]}', which is not there. Its columns are "
            f"{', '.join(table.labels)}. Correct the mapping, or leave it out to have the file understood anew"
        )
    return named[best]


def take(table: Table, section: Section) -> Taken:
    """The readings of a table.

    Raises:
        Refusal: where nothing is left.
    """
    problems = [*table.problems, *_unnamed_columns(table, section)]
    node = _nodes(table, section)
    instants, fit = _instants(table, section, node, problems)
    district = _texts(table.column(section.district_column)) if section.district_column else None
    if section.node_column:
        nameless = np.array([bool(problem_of_name(name)) for name in node.distinct], dtype=np.bool_)[node.codes] & fit
        if nameless.any():
            problems.append(table.problem("no name of a node", section.node_column, nameless))
            fit &= ~nameless
    decimals = decimals_of(table)
    parts: list[pd.DataFrame] = []
    values: list[int] = []
    for channel, rows, column, label in _channels(table, section, problems):
        decimal = section.decimal or decimals[label]
        figures = _figures(table, section, channel, column, label, decimal, rows, fit, problems)
        good = ~np.isnan(figures)
        values.append(int(good.sum()))
        at = rows[good]
        part: dict[str, object] = {"row": at, "instant": instants[at], "measurement": channel.measurement}
        part["node"] = channel.node if channel.node is not None else (section.node or node.of(at))
        part["district"] = district.of(at) if district is not None else (section.district or None)
        parts.append(pd.DataFrame(part | {"value": figures[good]}))
    frame = _one_row_per_instant(table, parts, problems)
    return Taken(frame, problems, values)


@dataclass(frozen=True)
class _Names:
    distinct: list[str]
    codes: npt.NDArray[np.int64]

    def of(self, rows: npt.NDArray[np.int64]) -> pd.Categorical[str]:
        return pd.Categorical.from_codes(self.codes[rows], pd.Index(self.distinct))


def _texts(column: Column) -> _Names:
    if column.texts is None or column.figures is not None or column.instants is not None:
        texts = pa.chunked_array([pa.array([column.shown(row).strip() for row in range(len(column))], pa.string())])
    else:
        texts = column.texts
    encoded = texts.combine_chunks().dictionary_encode()
    coded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
    stripped = [str(text).strip() for text in coded.dictionary.to_pylist()]
    distinct = list(dict.fromkeys(stripped))
    place = {name: number for number, name in enumerate(distinct)}
    renumbered = np.array([place[name] for name in stripped], dtype=np.int64)
    return _Names(distinct, renumbered[coded.indices.to_numpy(zero_copy_only=False)].astype(np.int64))


def _nodes(table: Table, section: Section) -> _Names:
    if section.node_column:
        return _texts(table.column(section.node_column))
    return _Names([section.node or ""], np.zeros(len(table), dtype=np.int64))


def _instants(
    table: Table, section: Section, node: _Names, problems: list[Problem]
) -> tuple[npt.NDArray[np.int64], Flags]:
    """The instants in UTC, and which rows have one."""
    label = " + ".join(section.instant.columns)
    first = section.instant.columns[0]
    found = read_instants([table.column(name) for name in section.instant.columns], section.instant.order)
    known = found.local != NEVER
    has_offset = ~np.isnan(found.offset)
    groups = node.codes
    if section.parameter_column:
        groups = groups * 1_000_003 + _texts(table.column(section.parameter_column)).codes
    instants = found.local.copy()
    instants[known & has_offset] -= (found.offset[known & has_offset] * 1_000_000).astype(np.int64)
    bare = np.where(known & ~has_offset, found.local, NEVER)
    utc = to_utc(bare, zone_of(section.instant.zone), groups)
    instants[known & ~has_offset] = utc.instants[known & ~has_offset]
    empty = ~known & ~found.unread
    early = known & (instants != NEVER) & (instants < _EARLIEST)
    for reason, bad in (
        ("no date", empty),
        ("not a date", found.unread),
        (f"a time that clocks in {section.instant.zone} skip", utc.skipped),
        ("before the year 2000", early),
    ):
        if bad.any():
            problems.append(table.problem(reason, first if reason != "no date" else label, bad))
    return instants, known & ~utc.skipped & ~early


def _unnamed_columns(table: Table, section: Section) -> list[Problem]:
    """Columns of numbers that the mapping does not mention."""
    named = {*section.needed(), *(one.column for one in section.skipped)}
    unnamed = [label for label in table.labels if label not in named and _has_numbers(table.column(label))]
    if not unnamed:
        return []
    more = f" and {len(unnamed) - 5} more" if len(unnamed) > 5 else ""
    return [Problem(_UNNAMED_COLUMN, ", ".join(unnamed[:5]) + more, len(unnamed))]


def _has_numbers(column: Column) -> bool:
    return column.figures is not None or any(map(looks_like_figure, column.sample(20)))


def _count_unnamed(table: Table, section: Section, names: _Names, problems: list[Problem]) -> None:
    """Rows of which the mapping does not say what they are values of."""
    listed = {channel.parameter for channel in section.channels} | {one.column for one in section.skipped} | {""}
    unnamed = np.array([name not in listed and not is_no_value(name) for name in names.distinct], dtype=np.bool_)
    if (rows := unnamed[names.codes]).any():
        label = section.parameter_column or ""
        problems.append(table.problem("a parameter that the mapping does not name", label, rows))


def _channels(
    table: Table, section: Section, problems: list[Problem]
) -> list[tuple[Channel, npt.NDArray[np.int64], Column, str]]:
    """Of each channel the rows in which it stands, and its column."""
    every = np.arange(len(table), dtype=np.int64)
    if section.parameter_column is None or section.value_column is None:
        return [
            (channel, every, table.column(channel.column), channel.column)
            for channel in section.channels
            if channel.column is not None
        ]
    names = _texts(table.column(section.parameter_column))
    _count_unnamed(table, section, names, problems)
    place = {name: number for number, name in enumerate(names.distinct)}
    column = table.column(section.value_column)
    return [
        (channel, np.flatnonzero(names.codes == place.get(channel.parameter or "", -1)), column, section.value_column)
        for channel in section.channels
    ]


def _figures(
    table: Table, section: Section, channel: Channel, column: Column, label: str, decimal: str,
    rows: npt.NDArray[np.int64], fit: Flags, problems: list[Problem],
) -> Floats:  # fmt: skip
    """The values of a channel in the product's unit, NaN where there is none; the rest becomes problems."""
    read = read_figures(column, decimal)
    _refuse_other_unit(table, channel, column, label, read.unit)
    usable = np.zeros(len(table), dtype=np.bool_)
    usable[rows] = True
    usable &= fit
    for reason, bad in (("no value", read.no_value & usable), ("not a number", read.unread & usable)):
        if bad.any():
            problems.append(table.problem(reason, label, bad))
    figures = np.where(usable, read.values, np.nan)[rows]
    values = converted(figures, [conversion(channel.measurement, channel.unit)], np.zeros(len(rows), dtype=np.int64))
    low, high = VALID_RANGE[channel.measurement]
    with np.errstate(invalid="ignore"):
        outside = (values < low) | (values > high)
    placeholder = is_placeholder(figures, outside)
    if channel.volume_is == "counter" and placeholder is not None:
        # A register passes by every figure.
        placeholder &= figures < 0
    listed = np.isin(figures, section.no_value)
    nothing = listed if placeholder is None else listed | placeholder
    if nothing.any():
        bad = np.zeros(len(table), dtype=np.bool_)
        bad[rows[nothing]] = True
        which = ", ".join(f"{figure:g}" for figure in np.unique(figures[nothing])[:3])
        problems.append(table.problem(f"placeholder {which}", label, bad))
        values[nothing] = np.nan
    return values


def _refuse_other_unit(table: Table, channel: Channel, column: Column, label: str, behind: str | None) -> None:
    """Where numbers have a unit behind them that is not the channel's."""
    if behind is None:
        return
    try:
        if conversion(channel.measurement, behind) == conversion(channel.measurement, channel.unit):
            return
    except UnknownUnit:
        pass
    row = next(row for row in np.flatnonzero(column.is_filled()) if column.shown(int(row)).endswith(behind))
    raise Refusal(
        f"{table.source}, line {table.lines[row]}, column {label}: '{column.shown(int(row))}' has a unit of its own, "
        f"which is not {channel.unit}. Say in a mapping which is right, and take the other out of the file"
    )


def _one_row_per_instant(table: Table, parts: list[pd.DataFrame], problems: list[Problem]) -> pd.DataFrame:
    """Values side by side; of two for one node, instant and measurement the later line stays, and the other counts."""
    parts = [part for part in parts if len(part)]
    if not parts:
        raise Refusal(
            f"{table.source}: no value of it could be taken ("
            + "; ".join(f"{one.column}: {one.count} × {one.reason}" for one in problems[:4])
            + "). Check its dates and numbers, or correct the mapping"
        )
    names = [part["node"] for part in parts]
    nodes = pd.unique(pd.concat([pd.Series(pd.unique(name.astype("object"))) for name in names]))
    district = pd.unique(pd.concat([pd.Series(pd.unique(part["district"].astype("object"))) for part in parts]))
    node_code, district_code = pd.Index(nodes), pd.Index([name for name in district if isinstance(name, str) and name])
    code = np.concatenate([_codes(part["node"], node_code) for part in parts])
    of_district = np.concatenate([_codes(part["district"], district_code) for part in parts])
    instant = np.concatenate([part["instant"].to_numpy() for part in parts])
    row = np.concatenate([part["row"].to_numpy() for part in parts])
    value = np.concatenate([part["value"].to_numpy() for part in parts])
    kind = np.concatenate(
        [np.full(len(part), MEASUREMENTS.index(part["measurement"].iloc[0]), dtype=np.int64) for part in parts]
    )
    order = np.lexsort((row, instant, code))
    code, of_district, instant, row, value, kind = (
        one[order] for one in (code, of_district, instant, row, value, kind)
    )
    new = np.ones(len(code), dtype=np.bool_)
    new[1:] = (code[1:] != code[:-1]) | (instant[1:] != instant[:-1])
    place = np.cumsum(new) - 1
    wide = np.full((int(new.sum()), len(MEASUREMENTS)), np.nan)
    _count_repeated(table, place, kind, value, row, problems)
    # Of several assignments to one place the last stays, which is the later line.
    wide[place, kind] = value
    first = np.flatnonzero(new)
    return pd.DataFrame(
        {
            "node_id": pd.Categorical.from_codes(code[first], node_code).astype("str"),
            "district_id": _named(of_district[first], district_code),
            "timestamp": pd.DatetimeIndex(instant[first].astype("datetime64[us]")).tz_localize("UTC"),
            **{name: wide[:, number] for number, name in enumerate(MEASUREMENTS)},
        }
    )


def _named(codes: npt.NDArray[np.int64], names: pd.Index) -> pd.Series:
    if not len(names):
        return pd.Series([None] * len(codes), dtype="object")
    return pd.Series(pd.Categorical.from_codes(codes, names)).astype("object").where(codes >= 0, None)


def _codes(names: pd.Series, index: pd.Index) -> npt.NDArray[np.int64]:
    if isinstance(names.dtype, pd.CategoricalDtype):
        return index.get_indexer(names.cat.categories)[names.cat.codes.to_numpy()].astype(np.int64)
    only = names.iloc[0]
    found = int(index.get_indexer(pd.Index([only]))[0]) if isinstance(only, str) else -1
    return np.full(len(names), found, dtype=np.int64)


def _count_repeated(
    table: Table, place: npt.NDArray[np.int64], kind: npt.NDArray[np.int64], value: Floats,
    row: npt.NDArray[np.int64], problems: list[Problem],
) -> None:  # fmt: skip
    key = place * len(MEASUREMENTS) + kind
    order = np.argsort(key, kind="stable")
    same = key[order][1:] == key[order][:-1]
    if not same.any():
        return
    earlier, later = order[:-1][same], order[1:][same]
    agree = value[earlier] == value[later]
    for reason, which in (
        ("repeated, with the same value", agree),
        ("another value follows for the same instant", ~agree),
    ):
        if which.any():
            lines = table.lines[row[earlier[which]]]
            places = tuple(
                (int(line), f"{one:g}") for line, one in zip(lines[:3], value[earlier[which]][:3], strict=True)
            )
            problems.append(Problem(reason, "", int(which.sum()), places))


def is_loss(problem: Problem) -> bool:
    """Whether something stood there that was not understood."""
    return not problem.reason.startswith((*NOTHING_THERE, "repeated", _UNNAMED_COLUMN))
