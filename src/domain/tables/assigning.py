"""The headings of a table's columns read together: a channel of each column, with its node and its unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

import numpy as np
import pyarrow.compute as pc

from src.domain.names import problem_of_name
from src.domain.readings import VALID_RANGE
from src.domain.tables import words
from src.domain.tables.figures import read_figures
from src.domain.tables.headings import Heading, read_heading, units_measure
from src.domain.tables.mapping import Channel, Skipped, two_alike
from src.domain.tables.table import Column, Floats, Refusal, Table
from src.domain.units import UNITS, conversion

_VALUES = 20_000


@dataclass
class Assigned:
    """Channels, what is skipped and why, and a sentence for everything assumed.

    Attributes:
        units_assumed: the measurements whose unit is an assumption, with that unit.
        conflict: why these channels cannot be taken as they are; empty where they can.
    """

    channels: list[Channel] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    assumptions: list[str] = field(default_factory=list)
    units_assumed: dict[str, str] = field(default_factory=dict)
    conflict: str = ""


class Assigning:
    """One table, of which it is known where its nodes and its values stand."""

    def __init__(
        self,
        table: Table,
        decimals: Mapping[str, str],
        node_column: str | None,
        parameter_column: str | None,
        value_column: str | None,
    ) -> None:
        """
        Args:
            decimals: the decimal sign of each column.
            parameter_column: where each row names what it is a value of.
            value_column: where all values stand, if each row names what it is a value of.
        """
        self._table, self._decimals = table, decimals
        self._node_column, self._value_column = node_column, value_column
        self._parameter_column = parameter_column
        self._node = None if node_column else _node_before(table)
        self._hint = _hint(table)
        self._guessed: list[str] = []
        self._result = Assigned()

    def assign(self, drafts: Sequence[tuple[str, Heading]]) -> Assigned:
        """A channel for each column (or parameter) and its heading.

        Raises:
            Refusal: where none is left.
        """
        read = [(label, self._completed(label, heading)) for label, heading in drafts]
        for measurement in UNITS:
            bare = [label for label, h in read if h.measurement == measurement and h.unit is None]
            if bare:
                unit, why = self._default_unit(measurement, bare)
                self._result.units_assumed[measurement] = unit
                self._result.assumptions.append(f"{measurement} without a unit: taken as {unit}, {why}")
        for label, heading in read:
            self._assign_one(label, heading)
        if self._guessed:
            more = f" and {len(self._guessed) - 3} more" if len(self._guessed) > 3 else ""
            listed = ", ".join(self._guessed[:3])
            self._result.assumptions.append(f"measurements after a letter or a name alone: {listed}{more}")
        if any(heading.is_level for _, heading in read):
            self._result.assumptions.append(
                "levels are taken as the pressure of that height of water, in metres of head"
            )
        self._refuse_nothing()
        self._result.conflict = self._two_alike()
        return self._result

    def _assign_one(self, label: str, heading: Heading) -> None:
        measurement = heading.measurement
        if measurement is None:
            self._skip(label, heading.refused or "names no measurement that is known")
            return
        unit = heading.unit or self._result.units_assumed[measurement]
        if measurement not in units_measure(unit):
            self._skip(label, f"'{unit}' is no unit of {measurement}")
            return
        if heading.is_measurement_a_guess:
            self._guessed.append(f"{label} → {measurement}")
        node = None if self._node_column else heading.node or self._node or self._of_file()
        if node is not None and (problem := problem_of_name(node)):
            raise Refusal(f"{self._table.source}, column {label}: the node's name {problem}. Name it in a mapping")
        place = {"parameter": label} if self._value_column else {"column": label}
        known = {"node": node, "measurement": measurement, "unit": unit, "volume_is": self._volume_is(label, heading)}
        self._result.channels.append(Channel.model_validate(place | known))

    def _skip(self, label: str, reason: str) -> None:
        self._result.skipped.append(Skipped(column=label, reason=reason))

    def _completed(self, label: str, heading: Heading) -> Heading:
        """A heading with what stands behind the numbers, or what the file's name says."""
        if heading.refused:
            return heading
        if heading.unit is None and self._value_column is None:
            column = self._table.column(label)
            if column.texts is not None:
                behind = read_figures(_part(column), self._decimals[label]).unit
                possible = units_measure(behind) if behind else []
                if heading.measurement in possible or (heading.measurement is None and possible):
                    return Heading(heading.measurement or possible[0], unit=behind, node=heading.node)
        if heading.measurement is None and heading.unit is None and self._hint is not None:
            return Heading(self._hint, node=heading.node, is_measurement_a_guess=True)
        return heading

    def _of_file(self) -> str:
        """The name of the file, for a node that nothing else names."""
        name = PurePath(self._table.source).name.split(".")[0]
        sentence = f"no column and no heading names the node: it is called {name}, after the file"
        if sentence not in self._result.assumptions:
            self._result.assumptions.append(sentence)
        return name

    def _default_unit(self, measurement: str, labels: Sequence[str]) -> tuple[str, str]:
        """The unit taken where none is named, and why: of pressures one in which the values are possible."""
        product = UNITS[measurement], "the product's own unit"
        if measurement != "pressure" or self._value_column is not None:
            return product
        greatest = max(self._greatest(label) for label in labels)
        highest = VALID_RANGE["pressure"][1]
        if greatest <= highest:
            return product
        for unit, name in (("m", "metres of head"), ("kPa", "kilopascals")):
            factor = conversion("pressure", unit)
            if greatest * factor.numerator / factor.denominator <= highest:
                return unit, f"{name}, as its values reach {greatest:.4g}, which no main bears in bar"
        return product

    def _greatest(self, label: str) -> float:
        values = self._values(label)
        # Rows of nines are placeholders, and a share of wild values proves no unit.
        values = values[np.abs(values) < 3000]
        return float(np.quantile(values, 0.99)) if len(values) else 0.0

    def _values(self, label: str) -> Floats:
        values = read_figures(self._table.column(label), self._decimals[label]).values
        known: Floats = values[~np.isnan(values)]
        return known

    def _volume_is(self, label: str, heading: Heading) -> str | None:
        if heading.measurement != "volume":
            return None
        if heading.is_counter:
            return "counter"
        steps = self._steps(label)
        # Newest first, a register falls.
        is_register = len(steps) >= 9 and any(np.mean(one >= 0) > 0.95 and np.sum(one) > 0 for one in (steps, -steps))
        return "counter" if is_register else "increment"

    def _steps(self, label: str) -> Floats:
        """From each value to the next of the same node."""
        place = label if self._value_column is None else self._value_column
        values = read_figures(self._table.column(place), self._decimals[place]).values
        series = np.zeros(len(values), dtype=np.int64)
        if self._node_column is not None:
            series = self._table.column(self._node_column).codes()
        counts = ~np.isnan(values)
        if (
            self._parameter_column is not None
            and (names := self._table.column(self._parameter_column).texts) is not None
        ):
            counts &= pc.equal(names, label).to_numpy()
        rows = np.flatnonzero(counts)[:_VALUES]
        rows = rows[np.argsort(series[rows], kind="stable")]
        steps: Floats = np.diff(values[rows])[series[rows][1:] == series[rows][:-1]]
        return steps

    def _refuse_nothing(self) -> None:
        if self._result.channels:
            return
        listed = "; ".join(f"{one.column}: {one.reason}" for one in self._result.skipped[:5])
        raise Refusal(
            f"{self._table.source}: no column is a flow, pressure, temperature or volume ({listed or 'none is left'}). "
            "Write what they are into the headings, such as Portata [m3/h], or give a mapping"
        )

    def _two_alike(self) -> str:
        pair = two_alike(self._result.channels)
        if pair is None:
            return ""
        first, second = pair
        of = f" of {first.node}" if first.node else ""
        better = "one of them is" if self._node_column else "they have different nodes, or one of them is"
        return (
            f"{self._table.source}: '{first.place}' and '{second.place}' are both {first.measurement}{of}. "
            f"Give a mapping in which {better} under skipped"
        )


def _part(column: Column) -> Column:
    """The first cells of a column of texts that are not empty, enough to see what stands behind its numbers."""
    rows = np.flatnonzero(column.is_filled())[:200]
    texts = None if column.texts is None else column.texts.take(rows)
    return Column(texts)


def _hint(table: Table) -> str | None:
    """The measurement that the file's name or the lines above its headings name."""
    texts = [PurePath(table.source).name.split(".")[0], *table.preamble]
    found = {heading.measurement for heading in map(read_heading, ([text] for text in texts)) if not heading.unit}
    found.discard(None)
    return next(iter(found)) if len(found) == 1 else None


def _node_before(table: Table) -> str | None:
    """The node that a line above the headings names, as in "Stazione: Monte Urpinu"."""
    for line in table.preamble:
        mark = next((sign for sign in ":;\t=," if sign in line), None)
        if mark is None:
            continue
        head, _, rest = line.partition(mark)
        rest = rest.strip(' :;,=\t"')
        if rest and words.has_role(head.strip(' "'), "node") and not problem_of_name(rest):
            return rest
    return None
