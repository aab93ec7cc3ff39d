"""A table out of a file, column by column, and what can be wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Micros = npt.NDArray[np.int64]
Rows = npt.NDArray[np.int64]

# Of this value an instant is unknown.
NEVER = np.iinfo(np.int64).min


class Refusal(Exception):
    """Why nothing is taken of a file: a sentence with the file, the place in it and the next step.

    Attributes:
        draft: a mapping that was understood so far, to be corrected; None where there is none.
    """

    def __init__(self, sentence: str, draft: object = None) -> None:
        super().__init__(sentence)
        self.draft = draft


@dataclass(frozen=True)
class Column:
    """The cells of one column; of what the file holds as numbers or instants there is no text.

    Attributes:
        texts: a text a row, empty where there is none; None where no cell is a text.
        figures: a number a row, NaN where the cell is none; None where no cell is.
        instants: microseconds since 1970 by the file's own clock, `NEVER` where the cell is none.
        is_utc: whether that clock is UTC, as the file itself says.
    """

    texts: pa.ChunkedArray | None = None
    figures: Floats | None = None
    instants: Micros | None = None
    is_utc: bool = False

    def shown(self, row: int) -> str:
        """The cell of a row as a person would read it."""
        if self.texts is not None and (text := self.texts[row].as_py()):
            return str(text)
        if self.instants is not None and self.instants[row] != NEVER:
            return str(np.datetime64(int(self.instants[row]), "us").astype(datetime))
        if self.figures is not None and not np.isnan(self.figures[row]):
            return text_of(float(self.figures[row]))
        return ""

    def sample(self, most: int) -> list[str]:
        """Up to so many cells that are not empty, from all over the column."""
        rows = np.flatnonzero(self.is_filled())
        if len(rows) > most:
            rows = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
        if self.texts is not None and self.figures is None and self.instants is None:
            return [str(text) for text in self.texts.take(pa.array(rows)).to_pylist()]
        return [self.shown(int(row)) for row in rows]

    def is_filled(self) -> Flags:
        """Which cells are not empty."""
        filled: Flags = np.zeros(len(self), dtype=np.bool_)
        if self.texts is not None:
            filled |= pc.greater(pc.binary_length(self.texts), 0).to_numpy()
        if self.figures is not None:
            filled |= ~np.isnan(self.figures)
        if self.instants is not None:
            filled |= self.instants != NEVER
        return filled

    def codes(self) -> Rows:
        """Of each row a number for what stands there, the same where the same does."""
        if self.texts is None or self.figures is not None or self.instants is not None:
            shown = [self.shown(row) for row in range(len(self))]
            return np.unique(np.array(shown, dtype=np.str_), return_inverse=True)[1].astype(np.int64)
        encoded = self.texts.combine_chunks().dictionary_encode()
        coded = encoded.combine_chunks() if isinstance(encoded, pa.ChunkedArray) else encoded
        codes: Rows = coded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        return codes

    def __len__(self) -> int:
        parts = (part for part in (self.texts, self.figures, self.instants) if part is not None)
        return len(next(parts))


@dataclass(frozen=True)
class Problem:
    """Cells or rows that were not taken, of one reason and column.

    Attributes:
        places: the first of them: the line, and the text that stands there.
    """

    reason: str
    column: str
    count: int
    places: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Table:
    """A table whose first line of data is known.

    Attributes:
        source: the file's name, and the sheet's where there are several.
        headings: of each column its heading, one part for each line of headings; unique when joined.
        lines: of each row, the line of the file (row of the sheet) in which it stands.
        preamble: the lines before the headings.
        comma_separates: whether a comma parts cells.
        problems: lines that are no row of it.
    """

    source: str
    headings: Sequence[tuple[str, ...]]
    columns: Sequence[Column]
    lines: Rows
    preamble: Sequence[str] = ()
    comma_separates: bool = False
    problems: Sequence[Problem] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        """What each column is called."""
        return labels_of(self.headings)

    def __len__(self) -> int:
        return len(self.lines)

    def column(self, label: str) -> Column:
        return self.columns[self.labels.index(label)]

    def problem(self, reason: str, label: str, bad: Flags) -> Problem:
        """A problem of the cells that are marked."""
        rows = np.flatnonzero(bad)
        cells = self.column(label) if label in self.labels else None
        places = tuple((int(self.lines[row]), cells.shown(int(row)) if cells else "") for row in rows[:3])
        return Problem(reason, label, len(rows), places)


def labels_of(headings: Sequence[tuple[str, ...]]) -> list[str]:
    """What columns with these headings are called; repeated names are numbered, columns without one counted."""
    labels: list[str] = []
    for place, parts in enumerate(headings):
        plain = " / ".join(dict.fromkeys(part.strip() for part in parts if part.strip())) or f"column {place + 1}"
        label, number = plain, 1
        while label in labels:
            number += 1
            label = f"{plain} ({number})"
        labels.append(label)
    return labels


def text_of(cell: object) -> str:
    """A cell of a sheet as text, numbers without a trailing zero."""
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    return "" if cell is None else str(cell).strip()
