"""Tables in files of text, read in parts, so that what stands in memory is little more than the file."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa

from src.domain.tables.dialect import Header, header_of, headings_of, separator_of, split
from src.domain.tables.figures import is_no_value, looks_like_figure
from src.domain.tables.instants import looks_like_instant
from src.domain.tables.table import Column, Problem, Refusal, Table
from src.processing.imports.encodings import encoding_of

_SAMPLE_LINES = 400
_DECIMALS = re.compile(r"-?\d+[.,](\d+)")
_ROWS_AT_ONCE = 50_000
_NO_TABLE = "Export it as CSV, Excel or Parquet: a line of headings, then a line for each instant"


def read_text(path: Path, name: str) -> Table:
    """The table in a file of text.

    Raises:
        Refusal: where it is none, or ends in the middle of a line.
    """
    encoding = encoding_of(path, name)
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        sample = [line.rstrip("\r\n") for line in islice(file, _SAMPLE_LINES)]
    if not any(line.strip() for line in sample):
        raise Refusal(f"{name} is empty: there is nothing to take. Export it again")
    head = next(line for line in sample if line.strip()).lstrip("\ufeff").lstrip()
    if head[:1] == "<":
        raise Refusal(f"{name}, line 1: this is a web page or XML, whatever its name says. {_NO_TABLE}")
    if head[:1] in "{[" and '"' in head[:200]:
        raise Refusal(f"{name}, line 1: this is JSON. {_NO_TABLE}")
    stated = head[4:5] if head.casefold().startswith("sep=") and len(head.strip()) == 5 else None
    separator = stated or separator_of([line for line in sample if line.strip()])
    if separator is None:
        raise Refusal(f"{name}, line 1: nothing parts this into columns ('{head[:40]}'). {_NO_TABLE}")
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        return _Reading(name, file, separator, sample, bool(stated)).table()


class _Reading:
    """One pass over a file of which the separator is known."""

    def __init__(self, name: str, file: io.TextIOBase, separator: str, sample: list[str], is_stated: bool) -> None:
        self._name, self._separator = name, separator
        self._last_line, self._is_cut = 0, False
        self._file = file
        rows = split([line.lstrip("\ufeff") for line in sample], separator)
        self._rows = rows[1:] if is_stated else rows
        self._skipped = int(is_stated)
        self._preamble_of = sample

    def table(self) -> Table:
        header = header_of(self._rows)
        if header is None:
            first = next((row for row in self._rows if any(cell.strip() for cell in row)), [])
            filled = [row for row in self._rows if any(cell.strip() for cell in row)]
            if len(filled) == 1 and len(first) > 1 and all(first) and not any(map(str.isdigit, "".join(first))):
                raise Refusal(
                    f"{self._name} has headings and no row below them: there is nothing to take. Export it again"
                )
            raise Refusal(
                f"{self._name}, line 1: no line holds a date and a value ('{self._separator.join(first)[:60]}'). "
                f"{_NO_TABLE}"
            )
        headings = headings_of(self._rows, header)
        width = len(headings)
        self._refuse_decimals(header, headings)
        parts: list[list[pa.Array]] = [[] for _ in range(width)]
        lines: list[np.ndarray] = []
        ragged: list[tuple[int, str]] = []
        counts: Counter[str] = Counter()
        again = self._last_headings(header)
        for numbers, rows in self._chunks(header):
            whole_lines, whole_rows = [], []
            for number, row in zip(numbers, rows, strict=True):
                self._refuse_swallowed(number, row)
                if again and row[0].strip() == again[0] and self._are_headings(number, row, again):
                    counts["repeated headings"] += 1
                    continue
                if len(row) > width and not any(cell.strip() for cell in row[width:]):
                    row = row[:width]
                if len(row) == width:
                    whole_lines.append(number)
                    whole_rows.append(row)
                else:
                    counts[f"a line of {len(row)} cells instead of {width}"] += 1
                    ragged.append((number, self._separator.join(row)[:60]))
            if whole_rows:
                for place, cells in enumerate(zip(*whole_rows, strict=True)):
                    parts[place].append(pa.array([cell.strip() for cell in cells], pa.string()))
                lines.append(np.array(whole_lines, dtype=np.int64))
        total = sum(map(len, lines))
        self._refuse_odd(ragged, counts, total, width)
        if lines and self._is_cut and lines[-1][-1] == self._last_line:
            self._refuse_cut_number(parts[-1][-1].to_pylist())
        columns = [Column(pa.chunked_array(part, pa.string())) for part in parts]
        problems = [Problem(reason, "", count, tuple(ragged[:3])) for reason, count in counts.items()]
        preamble = [line for line in self._preamble_of[self._skipped : self._skipped + header.first] if line.strip()]
        return Table(
            self._name, headings, columns, np.concatenate(lines) if lines else np.empty(0, np.int64), preamble,
            self._separator == ",", problems,
        )  # fmt: skip

    def _refuse_odd(self, ragged: list[tuple[int, str]], counts: Counter[str], total: int, width: int) -> None:
        if not ragged:
            return
        line, text = ragged[-1]
        if line == self._last_line and self._is_cut and len(ragged) == 1:
            raise Refusal(
                f"{self._name}, line {line}: the file ends in the middle of this line ('{text}'). "
                "Take it again from where it came, or delete this line; nothing was taken of it"
            )
        if len(ragged) > max(total, 1) * 0.5:
            line, text = ragged[0]
            cells = text.count(self._separator) + 1
            why = (
                " Its decimals may have the sign that parts cells:" if self._separator == "," and cells > width else ""
            )
            raise Refusal(
                f"{self._name}, line {line}: most lines do not have the {width} cells of the headings ('{text}')."
                f"{why} export it with another separator, such as a semicolon"
            )

    def _last_headings(self, header: Header) -> list[str]:
        """The last line of headings that names its first column; empty where none does."""
        lines = ([cell.strip() for cell in row] for row in self._rows[header.first : header.data])
        return next((line for line in reversed(list(lines)) if line and line[0]), [])

    def _are_headings(self, number: int, row: list[str], headings: list[str]) -> bool:
        """Whether a row that begins as the headings is the headings again.

        Raises:
            Refusal: where it is other headings.
        """
        cells = [cell.strip() for cell in row]
        if any(looks_like_figure(cell) or is_no_value(cell) for cell in cells):
            return False
        if list(filter(None, cells)) != list(filter(None, headings)):
            raise Refusal(
                f"{self._name}, line {number}: from here on the file has other headings "
                f"('{self._separator.join(cells)[:60]}'). Part it there, and give the parts together"
            )
        return True

    def _refuse_swallowed(self, number: int, row: list[str]) -> None:
        """Where a quotation mark that nobody closes makes one cell of many lines."""
        for cell in row:
            behind = cell.splitlines()[1:] if "\n" in cell or "\r" in cell else []
            if any(looks_like_instant(line.split(self._separator)[0].strip(' "')) for line in behind):
                raise Refusal(
                    f"{self._name}, line {number - len(behind)}: a quotation mark begins here and is not closed before "
                    f"line {number} ('{cell[:40].splitlines()[0]}'). Delete it, or export the file again"
                )

    def _refuse_cut_number(self, texts: list[str]) -> None:
        """Where the last number of a file without an end has fewer decimals than all others of its column."""
        *others, last = texts
        decimals = {
            len(text) - 1 - max(text.rfind(","), text.rfind(".")) for text in others if _DECIMALS.fullmatch(text)
        }
        if len(others) < 2 or len(decimals) != 1 or not all(map(_DECIMALS.fullmatch, filter(None, others))):
            return
        found = _DECIMALS.fullmatch(last)
        if last and last[0].isdigit() and (found is None or len(found[1]) < next(iter(decimals))):
            raise Refusal(
                f"{self._name}, line {self._last_line}: the file ends in the middle of this line ('{last}', where all "
                "others have more decimals). Take it again from where it came, or delete this line; "
                "nothing was taken of it"
            )

    def _refuse_decimals(self, header: Header, headings: list[tuple[str, ...]]) -> None:
        """Where commas part cells and numbers, there are more cells than headings."""
        named = sum(any(parts) for parts in headings)
        if self._separator != "," or header.first == header.data or named == len(headings) or any(headings[-1]):
            return
        row = self._rows[header.data]
        if len(row) > named and any(cell.strip() for cell in row[named:]):
            raise Refusal(
                f"{self._name}, line {self._skipped + header.data + 1}: {len(row)} cells where {named} have a heading "
                f"('{','.join(row)[:60]}'): its decimals may have the comma that parts cells. "
                "Export it with another separator, such as a semicolon"
            )

    def _chunks(self, header: Header) -> Iterator[tuple[list[int], list[list[str]]]]:
        """The rows of data with their lines, blank ones left out."""
        tail = _Tail(self._file)
        reader = csv.reader(tail, delimiter=self._separator)
        pairs: Iterator[tuple[int, list[str]]]
        if self._separator == " ":
            pairs = ((number, line.split()) for number, line in enumerate(tail, start=1))
        else:
            pairs = ((reader.line_num, row) for row in reader)
        pairs = islice(pairs, header.data + self._skipped, None)
        try:
            while chunk := list(islice(pairs, _ROWS_AT_ONCE)):
                filled = [(number, row) for number, row in chunk if any(row) and any(cell.strip() for cell in row)]
                yield [number for number, _ in filled], [row for _, row in filled]
                self._last_line = filled[-1][0] if filled else 0
                self._is_cut = not tail.last.endswith(("\n", "\r"))
        except csv.Error as error:
            raise Refusal(f"{self._name}, line {reader.line_num + 1}: {error}. {_NO_TABLE}") from None


class _Tail:
    """The lines of a file, of which the last is remembered."""

    def __init__(self, file: io.TextIOBase) -> None:
        self._file = file
        self.last = "\n"

    def __iter__(self) -> Iterator[str]:
        for line in self._file:
            self.last = line
            yield line
