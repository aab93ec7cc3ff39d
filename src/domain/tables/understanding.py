"""What a table most probably says: a mapping for it, with everything that was assumed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from zoneinfo import ZoneInfo

import numpy as np
from pydantic import ValidationError

from src.domain.names import problem_of_name
from src.domain.readings import VALID_RANGE
from src.domain.tables import words
from src.domain.tables.clocks import keeps_summer_time
from src.domain.tables.decimals import decimal_of
from src.domain.tables.figures import is_no_value, looks_like_figure, read_figures
from src.domain.tables.headings import Heading, read_heading, units_measure
from src.domain.tables.instants import TIME_ONLY, looks_like_instant, read_instants
from src.domain.tables.mapping import Channel, Instant, Section, Skipped
from src.domain.tables.table import Column, Refusal, Table
from src.domain.units import UNITS, conversion

_SAMPLE = 200
_VALUES = 20_000
_MOST_PARAMETERS = 5_000
_ZONES_IN_HEADINGS = re.compile(
    r"\b(UTC|GMT|CET|CEST|MEZ|MESZ)\b(?:\s*([+-]\d{1,2}(?::\d{2})?))?|(?<![\w])([+-]\d{2}:\d{2})", re.IGNORECASE
)


@dataclass
class Understanding:
    """A mapping, and a sentence for everything in it that the table does not say itself.

    Attributes:
        units_assumed: the measurements whose unit is an assumption, with that unit.
    """

    section: Section
    assumptions: list[str] = field(default_factory=list)
    units_assumed: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Seen:
    """A column at first sight: the share of its cells that look like an instant, a time of day, a number."""

    label: str
    parts: tuple[str, ...]
    sample: list[str]
    instants: float
    times: float
    figures: float

    @property
    def is_empty(self) -> bool:
        return not self.sample


def understand(tables: Sequence[Table], zone: ZoneInfo) -> Understanding:
    """The mapping for tables with the same headings.

    Args:
        zone: the utility's, of times that do not say theirs.

    Raises:
        Refusal: where no instant or no measurement is found in it, or two columns are one thing.
    """
    table = max(tables, key=len)
    seen = [
        _seen(label, parts, column)
        for label, parts, column in zip(table.labels, table.headings, table.columns, strict=True)
    ]
    assumptions: list[str] = []
    instant_columns = _instant_columns(seen, table)
    skipped: list[Skipped] = []
    rest = [column for column in seen if column.label not in instant_columns]
    instant = _instant(tables, instant_columns, zone, assumptions)
    for column in [column for column in rest if column.is_empty]:
        skipped.append(Skipped(column=column.label, reason="empty"))
    for column in [column for column in rest if column.instants > 0.8 and not column.is_empty]:
        skipped.append(Skipped(column=column.label, reason=f"a second date; {instant_columns[0]} is taken"))
    rest = [column for column in rest if column.label not in {one.column for one in skipped}]
    is_text = {column.label for column in rest if column.figures < 0.5}
    district = next((column.label for column in rest if words.has_role(column.label, "district")), None)
    node = _node_column([column for column in rest if column.label != district], is_text)
    section = _tall(table, rest, node, district, instant, skipped, assumptions)
    if section is None:
        section = _wide_or_long(tables, rest, node, district, is_text, instant, skipped, assumptions)
    return section


def _seen(label: str, parts: tuple[str, ...], column: Column) -> _Seen:
    sample = [text for text in column.sample(_SAMPLE) if not is_no_value(text)]
    count = max(len(sample), 1)
    is_dated = column.instants is not None and column.texts is None and column.figures is None
    instants = 1.0 if is_dated else sum(map(looks_like_instant, sample)) / count
    times = sum(TIME_ONLY.fullmatch(text) is not None for text in sample) / count
    return _Seen(label, parts, sample, instants, times, sum(map(looks_like_figure, sample)) / count)


def _instant_columns(seen: Sequence[_Seen], table: Table) -> list[str]:
    dated = [column for column in seen if column.instants >= 0.6]
    if not dated:
        numbered = [c for c in seen if words.has_role(c.label, "instant") and c.figures > 0.9 and _is_serial(c.sample)]
        if not numbered:
            if not len(table):
                raise Refusal(f"{table.source} has headings and no row below them: there is nothing to take")
            found = ", ".join(column.label for column in seen[:6])
            raise Refusal(
                f"{table.source}: no column holds dates (the columns are {found}). "
                "Say in a mapping which one does, or add one such as 2025-03-04 12:00"
            )
        dated = numbered
    heading = (
        [c for c in dated if _names_instant(c) and not _is_received(c)]
        or [c for c in dated if not _is_received(c)]
        or dated
    )
    date = heading[0]
    if any(
        ":" in text or re.search(r"\d[T ]\d{1,2}(?:[.h]\d\d)?$", text)
        for text in date.sample
        if not text.endswith("00:00:00")
    ):
        return [date.label]
    times = [c for c in seen if c is not date and c.times >= 0.8]
    times += [c for c in seen if c is not date and c.figures >= 0.8 and _is_hour(c)]
    return [date.label, times[0].label] if times else [date.label]


def _names_instant(column: _Seen) -> bool:
    found = {words.plain(word) for word in words.words_of(column.label)}
    return bool(found & words.known(words.ROLES["instant"]))


def _is_received(column: _Seen) -> bool:
    return bool({words.plain(word) for word in words.words_of(column.label)} & words.RECEIVED)


def _is_serial(sample: Sequence[str]) -> bool:
    numbers = [float(text) for text in sample if re.fullmatch(r"\d+(?:\.\d+)?", text)]
    return bool(numbers) and (all(20_000 <= n < 80_000 for n in numbers) or all(3e8 <= n < 7e18 for n in numbers))


def _is_hour(column: _Seen) -> bool:
    plain = {words.plain(word) for word in words.words_of(column.label)}
    return bool(plain & words.TIME_WORDS) and all(
        re.fullmatch(r"\d{1,2}|0\.\d+", text) and float(text) <= 24 for text in column.sample
    )


def _instant(tables: Sequence[Table], labels: list[str], zone: ZoneInfo, assumptions: list[str]) -> Instant:
    label = " + ".join(labels)
    orders, undecided, evidence, bare = set(), False, [], False
    for table in tables:
        found = read_instants([table.column(name) for name in labels])
        if found.order is not None:
            if found.is_decided:
                orders.add(found.order)
            else:
                undecided = True
        without = np.isnan(found.offset) & (found.local != np.iinfo(np.int64).min)
        if without.any():
            bare = True
            evidence.append(
                keeps_summer_time(
                    found.local[without], zone, None if len(table.columns) > 60 else _series(table, labels)[without]
                )
            )
    if len(orders) > 1:
        raise Refusal(
            f"{label}: in some of the files dates are {' and in others '.join(sorted(orders))}. "
            "Take them one after the other, or give each a mapping with its order"
        )
    order = next(iter(orders), "day first" if undecided else None)
    if undecided and not orders:
        assumptions.append(f"{label}: dates are taken as day first, as nothing in the column says otherwise")
    said = _ZONES_IN_HEADINGS.search(label)
    plain = words.plain(label)
    if not bare:
        return Instant(columns=labels, order=order, zone="UTC")
    if said is not None or re.search(r"(?:^|_)utc(?:$|_)", plain):
        name = "UTC" if said is None else _zone_in_heading(said)
        return Instant(columns=labels, order=order, zone=name)
    if "solare" in plain or "winterzeit" in plain or "normalzeit" in plain:
        assumptions.append(f"{label}: standard time all year, as its heading says")
        return Instant(columns=labels, order=order, zone="+01:00" if zone.key != "UTC" else "UTC")
    if any(found is False for found in evidence) and not any(evidence):
        assumptions.append(f"{label}: its clock is not put forward or back on the days of {zone.key}; taken as UTC")
        return Instant(columns=labels, order=order, zone="UTC")
    shown = "its clock is put forward and back as there" if any(evidence) else "nothing in the file says another zone"
    assumptions.append(f"{label}: times are taken as {zone.key}; {shown}")
    return Instant(columns=labels, order=order, zone=zone.key)


def _zone_in_heading(found: re.Match[str]) -> str:
    if found[3]:
        return found[3]
    fixed = {"CET": "+01:00", "MEZ": "+01:00", "CEST": "+02:00", "MESZ": "+02:00"}
    return f"{found[2]}" if found[2] else fixed.get(found[1].upper(), "UTC")


def _series(table: Table, labels: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Of each row a number for the texts that stand in it, by which long tables are parted into series."""
    code = np.zeros(len(table), dtype=np.int64)
    for label, column in zip(table.labels, table.columns, strict=True):
        if label in labels or column.texts is None or column.figures is not None:
            continue
        if not (words.has_role(label, "node") or words.has_role(label, "parameter")):
            continue
        encoded = column.texts.combine_chunks().dictionary_encode()
        coded = encoded.combine_chunks() if hasattr(encoded, "combine_chunks") else encoded
        code = code * (len(coded.dictionary) + 1) + coded.indices.to_numpy(zero_copy_only=False)
    return code


def _node_column(rest: Sequence[_Seen], is_text: set[str]) -> str | None:
    named = [c.label for c in rest if words.has_role(c.label, "node")]
    texts = [label for label in named if label in is_text]
    if texts:
        # A code is surer than a display name.
        ids = [label for label in texts if re.search(r"id\b|cod|tag", words.plain(label))]
        return (ids or texts)[0]
    return named[0] if named else None


def _tall(
    table: Table, rest: Sequence[_Seen], node: str | None, district: str | None, instant: Instant,
    skipped: list[Skipped], assumptions: list[str],
) -> Understanding | None:  # fmt: skip
    """A table in which each row names what it is a value of; None where this is none."""
    values = [c for c in rest if words.has_role(c.label, "value") and c.figures >= 0.3 and c.label != node]
    parameter = next((c.label for c in rest if words.has_role(c.label, "parameter") and c.figures < 0.5), None)
    if len(values) != 1 or (parameter is None and node is None):
        return None
    if parameter is None:
        # A tag names both node and measurement.
        parameter, node = node, None
    if parameter is None:
        return None
    unit_column = next((c.label for c in rest if words.has_role(c.label, "unit") and c.figures < 0.5), None)
    value = values[0].label
    pairs = _pairs(table, parameter, unit_column)
    if len(pairs) > _MOST_PARAMETERS:
        raise Refusal(f"{table.source}: {parameter} holds {len(pairs)} different texts, which name no measurements")
    drafts: list[tuple[str, Heading]] = []
    for text, units in pairs.items():
        heading = read_heading([text, f"[{units[0]}]"] if units and units[0] else [text])
        if len(units) > 1:
            raise Refusal(
                f"{table.source}: {parameter} '{text}' comes in several units ({', '.join(units)}). "
                "Part it by unit, so that each file has one of each parameter"
            )
        drafts.append((text, heading))
    taken = {parameter, value, node, district, unit_column}
    for column in rest:
        if column.label not in taken:
            skipped.append(Skipped(column=column.label, reason="names neither node nor value"))
    return _section(
        [table], [(text, heading) for text, heading in drafts], instant, skipped, assumptions,
        node_column=node, district_column=district, parameter_column=parameter, value_column=value,
    )  # fmt: skip


def _pairs(table: Table, parameter: str, unit: str | None) -> dict[str, list[str]]:
    names = table.column(parameter).texts
    units = table.column(unit).texts if unit is not None else None
    found: dict[str, list[str]] = {}
    if names is None:
        return found
    for name, one in set(
        zip(names.to_pylist(), units.to_pylist() if units is not None else [""] * len(names), strict=True)
    ):
        if name.strip() and not is_no_value(name.strip()):
            found.setdefault(name.strip(), []).append(one.strip())
    return {name: sorted(set(filter(None, found[name]))) for name in sorted(found)}


def _wide_or_long(
    tables: Sequence[Table], rest: Sequence[_Seen], node: str | None, district: str | None, is_text: set[str],
    instant: Instant, skipped: list[Skipped], assumptions: list[str],
) -> Understanding:  # fmt: skip
    drafts: list[tuple[str, Heading]] = []
    for column in rest:
        if column.label in (node, district):
            continue
        heading = read_heading(column.parts)
        if heading.refused:
            skipped.append(Skipped(column=column.label, reason=heading.refused))
        elif column.label in is_text:
            skipped.append(Skipped(column=column.label, reason="holds texts, no numbers"))
        else:
            drafts.append((column.label, heading))
    return _section(tables, drafts, instant, skipped, assumptions, node_column=node, district_column=district)


def _section(
    tables: Sequence[Table], drafts: Sequence[tuple[str, Heading]], instant: Instant, skipped: list[Skipped],
    assumptions: list[str], *, node_column: str | None, district_column: str | None,
    parameter_column: str | None = None, value_column: str | None = None,
) -> Understanding:  # fmt: skip
    table = max(tables, key=len)
    node = None if node_column else _node_before(table)
    hint = _hint(table)
    channels: list[Channel] = []
    units_assumed: dict[str, str] = {}
    guessed: list[str] = []
    read = [(label, _with_hint(table, label, heading, hint, parameter_column is not None)) for label, heading in drafts]
    default = {
        kind: _default_unit(
            table,
            kind,
            [label for label, h in read if h.measurement == kind and not h.unit],
            parameter_column is not None,
        )
        for kind in UNITS
    }
    for label, heading in read:
        if heading.measurement is None:
            skipped.append(Skipped(column=label, reason="names no measurement that is known"))
            continue
        unit = heading.unit
        if unit is not None and heading.measurement not in units_measure(unit):
            skipped.append(Skipped(column=label, reason=f"'{unit}' is no unit of {heading.measurement}"))
            continue
        if unit is None:
            unit, why = default[heading.measurement]
            if heading.measurement not in units_assumed:
                units_assumed[heading.measurement] = unit
                assumptions.append(f"{heading.measurement} without a unit: taken as {unit}, {why}")
        if heading.is_measurement_a_guess:
            guessed.append(f"{label} → {heading.measurement}")
        own = None if node_column else heading.node or node or _stem(table)
        if own is not None and problem_of_name(own):
            raise Refusal(
                f"{table.source}, column {label}: the name of its node {problem_of_name(own)}. Name it in a mapping"
            )
        if own is not None and heading.node is None and node is None and not guessed.count("file"):
            guessed.append("file")
            assumptions.append(f"no column and no heading names the node: it is called {own}, after the file")
        channels.append(
            Channel(
                column=None if parameter_column else label,
                parameter=label if parameter_column else None,
                node=own,
                measurement=heading.measurement,  # type: ignore[arg-type]
                unit=unit,
                volume_is=_volume_is(table, label, heading, parameter_column is not None),
            )
        )
    letters = [one for one in guessed if one != "file"]
    if letters:
        more = f" and {len(letters) - 3} more" if len(letters) > 3 else ""
        assumptions.append(f"measurements after a letter or a unit alone: {', '.join(letters[:3])}{more}")
    if any(h.is_level for _, h in read):
        assumptions.append("levels are taken as the pressure of that height of water, in metres of head")
    if not channels:
        listed = "; ".join(f"{one.column}: {one.reason}" for one in skipped[:5])
        raise Refusal(
            f"{table.source}: no column is a flow, pressure, temperature or volume ({listed}). "
            "Write what they are into the headings, such as Portata [m3/h], or give a mapping"
        )
    _no_two_alike(table, channels, node_column is not None)
    try:
        section = Section(
            instant=instant, node_column=node_column, district_column=district_column, channels=channels,
            parameter_column=parameter_column, value_column=value_column, skipped=skipped,
        )  # fmt: skip
    except ValidationError as error:
        raise Refusal(f"{table.source}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from None
    return Understanding(section, assumptions, units_assumed)


def _with_hint(table: Table, label: str, heading: Heading, hint: str | None, is_tall: bool) -> Heading:
    """A heading completed by what stands behind the numbers, and by the name of the file."""
    if not is_tall and heading.unit is None:
        column = table.column(label)
        if column.texts is not None and (behind := read_figures(column, decimal_of(table, label)).unit):
            possible = units_measure(behind)
            if heading.measurement in possible or (heading.measurement is None and possible):
                return Heading(heading.measurement or possible[0], unit=behind, node=heading.node)
    if heading.measurement is None and hint is not None and heading.unit is None:
        return Heading(hint, node=heading.node, is_measurement_a_guess=True)
    return heading


def _hint(table: Table) -> str | None:
    """The measurement that the file's name or the lines above its headings name."""
    found = {read_heading([text]).measurement for text in (PurePath(table.source).name.split(".")[0], *table.preamble)}
    found.discard(None)
    return next(iter(found)) if len(found) == 1 else None


def _node_before(table: Table) -> str | None:
    """The node that a line above the headings names, as in "Stazione: Monte Urpinu"."""
    for line in table.preamble:
        head, mark, rest = line.partition(":")
        if not mark:
            head, mark, rest = line.partition(";")
        rest = rest.strip(' ;,\t"')
        if mark and rest and words.has_role(head.strip(' "'), "node") and not problem_of_name(rest):
            return rest
    return None


def _stem(table: Table) -> str:
    return PurePath(table.source).name.split(".")[0]


def _default_unit(table: Table, measurement: str, labels: Sequence[str], is_tall: bool) -> tuple[str, str]:
    """The unit taken where none is named, and why."""
    product = UNITS[measurement]
    if measurement != "pressure" or is_tall or not labels:
        return product, "the product's own unit"
    greatest = 0.0
    for label in labels:
        values = read_figures(table.column(label), decimal_of(table, label)).values
        known = values[~np.isnan(values) & (np.abs(values) < 3000)]
        greatest = max(greatest, float(np.quantile(known, 0.99)) if len(known) else 0.0)
    highest = VALID_RANGE["pressure"][1]
    if greatest <= highest:
        return product, "the product's own unit"
    for unit in ("m", "kPa"):
        factor = conversion("pressure", unit)
        if greatest * factor.numerator / factor.denominator <= highest:
            name = "metres of head" if unit == "m" else unit
            return unit, f"{name}, as its values reach {greatest:.4g}, which no main bears in bar"
    return product, "the product's own unit"


def _volume_is(table: Table, label: str, heading: Heading, is_tall: bool) -> str | None:
    if heading.measurement != "volume":
        return None
    if heading.is_counter or is_tall:
        return "counter" if heading.is_counter else "increment"
    values = read_figures(table.column(label), decimal_of(table, label)).values
    known = values[~np.isnan(values)][:_VALUES]
    if len(known) < 10:
        return "increment"
    rising = np.mean(np.diff(known) >= 0)
    return "counter" if rising > 0.95 and known[-1] > known[0] else "increment"


def _no_two_alike(table: Table, channels: Sequence[Channel], has_node_column: bool) -> None:
    by_meaning: dict[tuple[str | None, str], str] = {}
    for channel in channels:
        key = (None if has_node_column else channel.node, channel.measurement)
        if key in by_meaning:
            of = f" of {channel.node}" if channel.node and not has_node_column else ""
            raise Refusal(
                f"{table.source}: columns '{by_meaning[key]}' and '{channel.place}' are both {channel.measurement}{of}. "
                "Give a mapping in which they have different nodes, or one of them is under skipped"
            )
        by_meaning[key] = channel.place
