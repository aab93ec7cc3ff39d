"""What a table most probably says: a mapping for it, with everything that was assumed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from zoneinfo import ZoneInfo

from src.domain.tables import words
from src.domain.tables.assigning import Assigned, Assigning
from src.domain.tables.dating import Sight, instant_columns, instant_of, look_at
from src.domain.tables.decimals import decimals_of, grouped_or_not
from src.domain.tables.figures import is_no_value
from src.domain.tables.headings import Heading, read_heading, units_measure
from src.domain.tables.mapping import Section, Skipped
from src.domain.tables.table import Refusal, Table
from src.domain.units import conversion

_MOST_PARAMETERS = 5_000


@dataclass
class Understanding:
    """A mapping, and a sentence for everything in it that the table does not show itself.

    Attributes:
        units_assumed: the measurements whose unit is an assumption, with that unit.
    """

    section: Section
    assumptions: list[str] = field(default_factory=list)
    units_assumed: dict[str, str] = field(default_factory=dict)


def understand(tables: Sequence[Table], zone: ZoneInfo) -> Understanding:
    """The mapping for tables with the same headings.

    Args:
        zone: the utility's, of times without a zone of their own.

    Raises:
        Refusal: where no instant or no measurement is found in it, or two columns are one thing.
    """
    table = max(tables, key=len)
    seen = list(map(look_at, table.labels, table.headings, table.columns))
    dates = instant_columns(seen, table)
    assumptions: list[str] = []
    instant = instant_of(tables, dates, zone, assumptions)
    skipped, rest = _worth_reading([column for column in seen if column.label not in dates], dates[0])
    district = next((column.label for column in rest if words.has_role(column.label, "district")), None)
    rest = [column for column in rest if column.label != district]
    node = _node_column(rest)
    layout: dict[str, Any] = {"node_column": node, "district_column": district}
    tall = _tall(table, tables, rest, node)
    if tall is not None:
        layout |= {"node_column": tall.node, "parameter_column": tall.parameter, "value_column": tall.value}
        drafts = tall.drafts
        skipped += [Skipped(column=label, reason="names neither node nor value") for label in tall.others]
    else:
        drafts = []
        for column in rest:
            heading = read_heading(column.parts)
            if column.label == node:
                continue
            if column.figures < 0.5 and not heading.refused:
                skipped.append(Skipped(column=column.label, reason="holds texts, no numbers"))
            else:
                drafts.append((column.label, heading))
        drafts = _with_units(tables, rest, drafts)
    decimals = decimals_of(table)
    assigning = Assigning(table, decimals, *map(layout.get, ("node_column", "parameter_column", "value_column")))
    found: Assigned = assigning.assign(drafts)
    skipped += found.skipped
    # Not validated: of two channels that are one thing only a person can say which is meant.
    section = Section.model_construct(instant=instant, channels=found.channels, skipped=skipped, **layout)
    if found.conflict:
        raise Refusal(found.conflict, section)
    assumptions += grouped_or_not(table, decimals, [one.column for one in found.channels if one.column])
    return Understanding(section, assumptions + found.assumptions, found.units_assumed)


def only_dates(table: Table) -> Table:
    """The table with those columns only that `understand` looks at in all tables: of instants, names and units."""
    labels = instant_columns(list(map(look_at, table.labels, table.headings, table.columns)), table)
    roles = ("node", "parameter", "unit")
    places = [
        place
        for place, label in enumerate(table.labels)
        if label in labels or any(words.has_role(label, role) for role in roles)
    ]
    headings = [(table.labels[place],) for place in places]
    return replace(table, headings=headings, columns=[table.columns[place] for place in places])


def _worth_reading(columns: Sequence[Sight], date: str) -> tuple[list[Skipped], list[Sight]]:
    """What is skipped at first sight, and the rest."""
    skipped, rest = [], []
    for column in columns:
        if not column.sample:
            skipped.append(Skipped(column=column.label, reason="empty"))
        elif column.instants > 0.8:
            skipped.append(Skipped(column=column.label, reason=f"a second date; {date} is taken"))
        else:
            rest.append(column)
    return skipped, rest


def _node_column(rest: Sequence[Sight]) -> str | None:
    """The column that names nodes: a code is surer than a display name, and a text than a number."""
    named = [column for column in rest if words.has_role(column.label, "node")]
    texts = [column for column in named if column.figures < 0.5] or named
    codes = [column for column in texts if re.search(r"id\b|cod|tag", words.plain(column.label))]
    return next((column.label for column in codes or texts), None)


@dataclass(frozen=True)
class _Tall:
    """Where each row of a table names what it is a value of."""

    node: str | None
    parameter: str
    value: str
    drafts: list[tuple[str, Heading]]
    others: list[str]


def _tall(table: Table, tables: Sequence[Table], rest: Sequence[Sight], node: str | None) -> _Tall | None:
    """How this is a table with a column of parameters (or tags) and one of values; None where it is none.

    Raises:
        Refusal: where a parameter comes in several units.
    """
    values = [c for c in rest if words.has_role(c.label, "value") and c.figures >= 0.3 and c.label != node]
    parameter = next((c.label for c in rest if words.has_role(c.label, "parameter") and c.figures < 0.5), None)
    if parameter is None:
        # A tag names both node and measurement.
        parameter, node = node, None
    if len(values) != 1 or parameter is None:
        return None
    unit = next((c.label for c in rest if words.has_role(c.label, "unit") and c.figures < 0.5), None)
    drafts = []
    for text, units in _units_of(tables, parameter, unit).items():
        if len(units) > 1:
            raise Refusal(
                f"{table.source}, column {parameter}: '{text}' comes in several units ({', '.join(units)}). "
                "Part the file by unit, so that each has one of each parameter"
            )
        drafts.append((text, read_heading([text, *(f"[{one}]" for one in units)])))
    if len(drafts) > _MOST_PARAMETERS:
        raise Refusal(f"{table.source}, column {parameter}: {len(drafts)} different texts are no parameters")
    used = {parameter, values[0].label, node, unit}
    others = [column.label for column in rest if column.label not in used]
    return _Tall(node, parameter, values[0].label, drafts, others)


def _with_units(
    tables: Sequence[Table], rest: Sequence[Sight], drafts: Sequence[tuple[str, Heading]]
) -> list[tuple[str, Heading]]:
    """Headings without a unit, with that which a column of units or a line above the headings names.

    Raises:
        Refusal: where there are several for one measurement.
    """
    label = next((c.label for c in rest if words.has_role(c.label, "unit") and c.figures < 0.5), None)
    found: dict[str, str] = {}
    for table in tables:
        texts = None if label is None else table.column(label).texts
        named = [] if texts is None else [(text, text) for text in texts.unique().to_pylist() if text]
        above = ((read_heading([line]), line) for line in table.preamble)
        named += [(heading.unit, line) for heading, line in above if heading.unit and not heading.refused]
        for unit, where in named:
            for measurement in units_measure(unit):
                other = found.setdefault(measurement, unit)
                is_needed = any(h.unit is None and h.measurement == measurement for _, h in drafts)
                if is_needed and conversion(measurement, other) != conversion(measurement, unit):
                    raise Refusal(
                        f"{table.source}, '{where}': {measurement} comes in several units ({other}, {unit}). "
                        "Part the files by unit, so that each has one, or name it in the headings of each"
                    )
    return [
        (place, heading if heading.unit else replace(heading, unit=found.get(heading.measurement or "")))
        for place, heading in drafts
    ]


def _units_of(tables: Sequence[Table], parameter: str, unit: str | None) -> dict[str, list[str]]:
    """The texts in the column of parameters, each with the units that stand beside it."""
    found: dict[str, set[str]] = {}
    for table in tables:
        names = table.column(parameter).texts
        units = None if unit is None else table.column(unit).texts
        if names is None:
            continue
        beside = [""] * len(names) if units is None else units.to_pylist()
        for name, one in set(zip(names.to_pylist(), beside, strict=True)):
            if name and not is_no_value(name):
                found.setdefault(name, set()).update({one} - {""})
    return {name: sorted(found[name]) for name in sorted(found)}
