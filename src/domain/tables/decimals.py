"""Comma or point: which one parts the decimals of a table."""

from __future__ import annotations

from src.domain.tables.figures import decimal_votes
from src.domain.tables.table import Table

_SAMPLE = 3_000


def decimal_of(table: Table, label: str) -> str:
    """The decimal sign of a column: its own numbers tell, else those of the other columns, else what parts cells.

    Numbers such as 1.234 alone may have three decimals or be thousands: then a comma has parted cells or is one.
    """
    comma, point = decimal_votes(_numbers(table, label))
    if comma == point:
        for other in table.labels:
            if other != label:
                more_commas, more_points = decimal_votes(_numbers(table, other))
                comma, point = comma + more_commas, point + more_points
    if comma != point:
        return "," if comma > point else "."
    has_comma = any("," in text for text in _numbers(table, label))
    return "," if has_comma and not table.comma_separates else "."


def _numbers(table: Table, label: str) -> list[str]:
    column = table.column(label)
    return [] if column.texts is None else column.sample(_SAMPLE)
