"""How the lines of a text are parted into cells, and which of a table's first lines are its headings."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from src.domain.tables.figures import is_no_value, looks_like_figure
from src.domain.tables.instants import TIME_ONLY, looks_like_instant

# What parts cells in the files of loggers and control systems; a space only where nothing else does.
SEPARATORS = (";", "\t", ",", "|", "^", "~", "¦", "§", "#", "!", ":", " ")
_MOST_HEADING_LINES = 6
_WITH_DECIMALS = re.compile(r"[+-]?\d+[.,]\d+")


@dataclass(frozen=True)
class Header:
    """Where a table's lines of headings begin (`first`) and its data do (`data`), counted from 0, and how many cells a
    row of it has."""

    first: int
    data: int
    width: int


def separator_of(lines: Sequence[str]) -> str | None:
    """What parts the cells of these lines; None where nothing does.

    That is right with which most lines have equally many cells, and most of these are a number, an instant, a word for
    no value or a name without anything else that could part cells.
    """
    best: tuple[float, int, str] | None = None
    for separator in SEPARATORS:
        if not any(separator in line for line in lines):
            continue
        # In times and remarks colons and spaces stand anyway: they part cells where nothing else parts instants off.
        if separator in ": " and best is not None and best[0] > 0.5:
            continue
        rows = [row for row in split(lines, separator) if any(cell.strip() for cell in row)]
        widths = Counter(len(row) for row in rows)
        width, _ = max(
            ((width, count) for width, count in widths.items() if width > 1),
            key=lambda pair: (pair[1], pair[0]),
            default=(0, 0),
        )
        if width < 2:
            continue
        fitting = [row for row in rows if len(row) == width]
        cells = [cell.strip() for row in fitting[-60:] for cell in row]
        clean = sum(_is_clean(cell) for cell in cells) / len(cells)
        has_instants = any(looks_like_instant(cell.strip()) for row in fitting[-20:] for cell in row)
        score = clean * len(fitting) / len(rows) + (0.5 if has_instants else 0.0)
        if best is None or score > best[0] + 1e-9:
            best = (score, width, separator)
    return None if best is None else best[2]


def split(lines: Sequence[str], separator: str) -> list[list[str]]:
    """The cells of each line; several spaces part as one does."""
    if separator == " ":
        return [line.split() for line in lines]
    return list(csv.reader(lines, delimiter=separator))


def header_of(rows: Sequence[Sequence[str]]) -> Header | None:
    """Where headings and data begin; None where no line of these looks like data.

    Data begin with the first of the rows that have an instant and as many cells as most that have one.
    """
    dated = [place for place, row in enumerate(rows) if _is_data(row)]
    if not dated:
        return None
    width = Counter(_width(rows[place]) for place in dated).most_common(1)[0][0]
    width = max(width, max(len(row) for row in (rows[place] for place in dated) if _width(row) == width))
    data = next(place for place in dated if len(rows[place]) >= width or _width(rows[place]) >= min(2, width))
    # Cells behind the last separator are no columns.
    inner = max(_width(rows[place]) for place in dated)
    # A reading whose date is missing is no line of headings.
    while data > 0 and _is_undated(rows[data - 1]):
        data -= 1
    first = data
    while first > 0 and data - first < _MOST_HEADING_LINES:
        row = rows[first - 1]
        filled = sum(bool(cell.strip()) for cell in row)
        if any(looks_like_instant(cell.strip()) for cell in row):
            break
        # A title or a remark stands alone; a line of units may leave the first cells empty.
        if filled < 2 and not (width <= 2 and filled == 1 and len(row) >= width):
            break
        if (
            filled <= 2 < inner - 1
            and not any(cell.strip() == "" for cell in row[:1])
            and len(_trimmed(row)) < inner - 1
        ):
            break
        first -= 1
    return Header(first, data, width)


def headings_of(rows: Sequence[Sequence[str]], header: Header) -> list[tuple[str, ...]]:
    """Of each column, what its lines of headings say.

    In all lines but the last an empty cell repeats what stands left of it, as merged cells of a sheet do.
    """
    lines = [[cell.strip() for cell in row] for row in rows[header.first : header.data]]
    width = max([header.width, *(len(_trimmed(line)) for line in lines)], default=header.width)
    filled = []
    for place, line in enumerate(lines):
        line = (line + [""] * width)[:width]
        if place < len(lines) - 1:
            for column in range(2, width):
                # What stands below decides whether it is a group: a column that is named there needs no other's name.
                below = any(column < len(other) and other[column] for other in lines[place + 1 :])
                if not line[column] and below and line[column - 1]:
                    line[column] = line[column - 1]
        filled.append(line)
    return [tuple(line[column] for line in filled) for column in range(width)]


def _trimmed(row: Sequence[str]) -> Sequence[str]:
    width = _width(row)
    return row[:width]


def _width(row: Sequence[str]) -> int:
    """How many cells a row has without the empty ones at its end."""
    return max((place + 1 for place, cell in enumerate(row) if cell.strip()), default=0)


def _is_data(row: Sequence[str]) -> bool:
    cells = [cell.strip() for cell in row]
    dates = [place for place, cell in enumerate(cells) if looks_like_instant(cell)]
    if not dates and not (cells and _is_epoch(cells[0])):
        return False
    # "Esportato il; 12/03/2025" is a remark: a row of data has something else that is a value, and no words in pairs.
    others = [cell for place, cell in enumerate(cells) if place not in dates and cell]
    if not others:
        return len(cells) > 1 and dates[0] == 0
    return any(looks_like_figure(cell) or is_no_value(cell) for cell in others)


def _is_undated(row: Sequence[str]) -> bool:
    """Whether a row has nothing but values, and any of them is none that a heading might be."""
    filled = [cell.strip() for cell in row if cell.strip()]
    if len(filled) < 2 or not all(looks_like_figure(cell) or is_no_value(cell) for cell in filled):
        return False
    return any(_WITH_DECIMALS.fullmatch(cell) for cell in filled)


def _is_epoch(text: str) -> bool:
    return text.isdigit() and len(text) in (10, 13) and text[0] == "1"


def _is_clean(cell: str) -> bool:
    if (
        not cell
        or is_no_value(cell)
        or looks_like_figure(cell)
        or looks_like_instant(cell)
        or TIME_ONLY.fullmatch(cell)
    ):
        return True
    return not any(separator in cell for separator in SEPARATORS[:9])
