"""Comma or point: which one parts the decimals of a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from src.domain.tables.figures import decimal_votes
from src.domain.tables.table import Table

_SAMPLE = 2_000
_DOUBTFUL = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")


def grouped_or_not(table: Table, decimals: Mapping[str, str], labels: Sequence[str]) -> list[str]:
    """A sentence for columns in which nothing but numbers such as 1.234 has a sign: decimals, or thousands apart."""
    doubtful = []
    for label in labels:
        texts = table.column(label).texts
        sample = [] if texts is None else table.column(label).sample(_SAMPLE)
        example = next((text for text in sample if _DOUBTFUL.fullmatch(text)), None)
        if example is not None and decimal_votes(sample) == (0, 0):
            number = example.replace("," if decimals[label] == "." else ".", "").replace(",", ".")
            doubtful.append(f"{label} ('{example}' as {float(number):g})")
    more = f" and {len(doubtful) - 3} more" if len(doubtful) > 3 else ""
    return [f"whether decimals or thousands are parted: {', '.join(doubtful[:3])}{more}"] if doubtful else []


def decimals_of(table: Table) -> dict[str, str]:
    """The decimal sign of each column: its own numbers show it, else those of all columns, else what parts cells.

    Numbers such as 1.234 alone may have three decimals or be thousands: they are taken to have decimals, as those with
    a comma are unless a comma parts cells.
    """
    samples = {
        label: [] if column.texts is None else column.sample(_SAMPLE)
        for label, column in zip(table.labels, table.columns, strict=True)
    }
    votes = {label: decimal_votes(sample) for label, sample in samples.items()}
    commas, points = (sum(vote[place] for vote in votes.values()) for place in (0, 1))
    result = {}
    for label, sample in samples.items():
        comma, point = votes[label]
        if comma == point:
            comma, point = commas, points
        if comma == point:
            comma = point + (1 if any("," in text for text in sample) and not table.comma_separates else -1)
        result[label] = "," if comma > point else "."
    return result
