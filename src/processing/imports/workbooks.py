"""Tables in the sheets of a workbook (xlsx, xls, ods)."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
from python_calamine import CalamineError, CalamineWorkbook

from src.domain.tables.dialect import header_of, headings_of
from src.domain.tables.table import NEVER, Column, Refusal, Table, text_of

_SAMPLE_ROWS = 400


def read_workbook(path: Path, name: str, most_bytes: int) -> list[Table]:
    """The table of each sheet that has one.

    Raises:
        Refusal: where no sheet has one, or the workbook cannot be read.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if not any(part.startswith("xl/") or part == "content.xml" for part in archive.namelist()):
                raise Refusal(f"{name}: this is an archive (ZIP) and no table. Unpack it, and give the files in it")
            size = sum(part.file_size for part in archive.infolist())
            if size > most_bytes:
                raise Refusal(
                    f"{name} holds {size / 1e6:,.0f} MB unpacked, more than {most_bytes / 1e6:,.0f}. "
                    "Part it, by year for example"
                )
    try:
        book = CalamineWorkbook.from_path(str(path))
        sheets = [(sheet, book.get_sheet_by_name(sheet).to_python(skip_empty_area=False)) for sheet in book.sheet_names]
    except (CalamineError, zipfile.BadZipFile, OSError, ValueError) as error:
        raise Refusal(
            f"{name}: the workbook cannot be read ({error}); it may be cut off, or locked by a password. "
            "Take it again from where it came, or save it anew without a password"
        ) from None
    filled = [(sheet, rows) for sheet, rows in sheets if any(text_of(cell) for row in rows for cell in row)]
    if not filled:
        raise Refusal(f"{name} is empty: no sheet has a cell. Export it again")
    tables = []
    for sheet, rows in filled:
        table = _table(f"{name}[{sheet}]" if len(filled) > 1 else name, rows)
        if table is not None:
            tables.append(table)
    if not tables:
        raise Refusal(
            f"{name}: no sheet holds lines with a date and a value ({', '.join(sheet for sheet, _ in filled)}). "
            "Put headings into one row and the readings below it"
        )
    return tables


def _table(source: str, rows: Sequence[Sequence[object]]) -> Table | None:
    shown = [[_shown(cell) for cell in row] for row in rows[:_SAMPLE_ROWS]]
    header = header_of(shown)
    if header is None:
        return None
    headings = headings_of(shown, header)
    body = [
        (number, row)
        for number, row in enumerate(rows[header.data :], start=header.data + 1)
        if any(text_of(cell) for cell in row)
    ]
    columns = [_column([row[place] if place < len(row) else "" for _, row in body]) for place in range(len(headings))]
    preamble = [" ".join(filter(None, row)) for row in shown[: header.first]]
    lines = np.array([number for number, _ in body], dtype=np.int64)
    return Table(source, headings, columns, lines, [line for line in preamble if line])


def _shown(cell: object) -> str:
    if isinstance(cell, datetime):
        return cell.isoformat(" ")
    return text_of(cell)


def _column(cells: Sequence[object]) -> Column:
    """The cells of a column by what they are; times of day and lengths of time as texts."""
    texts, figures, instants = (
        [""] * len(cells),
        np.full(len(cells), np.nan),
        np.full(len(cells), NEVER, dtype=np.int64),
    )
    for row, cell in enumerate(cells):
        if isinstance(cell, bool):
            texts[row] = str(cell)
        elif isinstance(cell, (int, float)):
            figures[row] = cell
        elif isinstance(cell, (datetime, date)):
            instants[row] = np.datetime64(cell, "us").astype(np.int64)
        elif isinstance(cell, timedelta):
            seconds = int(cell.total_seconds())
            texts[row] = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        elif isinstance(cell, time):
            texts[row] = cell.isoformat()
        else:
            texts[row] = text_of(cell)
    any_text, any_figure, any_instant = any(texts), bool((~np.isnan(figures)).any()), bool((instants != NEVER).any())
    return Column(
        pa.chunked_array([pa.array(texts, pa.string())]) if any_text or not (any_figure or any_instant) else None,
        figures if any_figure else None,
        instants if any_instant else None,
    )
