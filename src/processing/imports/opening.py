"""Files of others opened by what is in them, not by their names: text, workbook, Parquet, and any of these in gzip."""

from __future__ import annotations

import gzip
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from src.domain.tables.table import Refusal, Table
from src.processing.imports.columnar import read_parquet
from src.processing.imports.delimited import read_text
from src.processing.imports.workbooks import read_workbook

# Of a file, unpacked: three to four times that stands in memory while it is read.
MOST_BYTES = 500_000_000
_BLOCK = 1 << 20
_NO_TABLE = {
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture (PNG)",
    b"\xff\xd8\xff": "a picture (JPEG)",
    b"GIF8": "a picture (GIF)",
    b"II*\x00": "a picture (TIFF)",
    b"Rar!": "an archive (RAR)",
    b"7z\xbc\xaf": "an archive (7z)",
    b"SQLite format": "an SQLite database",
    b"\x7fELF": "a program",
    b"{\\rtf": "a document (RTF)",
}


def open_tables(path: Path, most_bytes: int = MOST_BYTES) -> list[Table]:
    """The tables in a file: one, or one a sheet.

    Raises:
        Refusal: with a sentence that names the file, the place and the next step.
    """
    name = path.name
    try:
        if path.is_dir():
            raise Refusal(f"{path} is a folder. Name the files in it, such as {path}/*.csv")
        with _unpacked(path, name, most_bytes) as (plain, size):
            return _tables(plain, name, size, most_bytes)
    except OSError as error:
        raise Refusal(f"{path} cannot be read: {error.strerror or error}") from None


def _tables(path: Path, name: str, size: int, most_bytes: int) -> list[Table]:
    with path.open("rb") as file:
        head = file.read(16)
    if not size:
        raise Refusal(f"{name} is empty: it has no byte. Export it again, or take it again from where it came")
    for magic, what in _NO_TABLE.items():
        if head.startswith(magic):
            raise Refusal(
                f"{name}: this is {what}, whatever its name says, and no table. Export it as CSV, Excel or Parquet"
            )
    if size > most_bytes:
        raise Refusal(
            f"{name} holds {size / 1e6:,.0f} MB, and a file may hold {most_bytes / 1e6:,.0f}. "
            "Part it, by year for example, and give the parts together"
        )
    if head.startswith(b"PAR1"):
        return [read_parquet(path, name, most_bytes)]
    if head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        return read_workbook(path, name, most_bytes)
    return [read_text(path, name)]


@contextmanager
def _unpacked(path: Path, name: str, most_bytes: int) -> Iterator[tuple[Path, int]]:
    """The file itself, or what is packed in it; and its size."""
    with path.open("rb") as file:
        is_packed = file.read(2) == b"\x1f\x8b"
    if not is_packed:
        yield path, path.stat().st_size
        return
    with tempfile.NamedTemporaryFile() as unpacked:
        size = lines = 0
        try:
            with gzip.open(path) as packed:
                while block := packed.read(_BLOCK):
                    size += len(block)
                    lines += block.count(b"\n")
                    if size > most_bytes:
                        raise Refusal(
                            f"{name} holds more than {most_bytes / 1e6:,.0f} MB unpacked, the most a file may hold. "
                            "Part it, by year for example, and give the parts together"
                        )
                    unpacked.write(block)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise Refusal(
                f"{name}, line {lines + 1}: the packed file ends or is damaged in this line ({error}). "
                "Take it again from where it came; nothing was taken of it"
            ) from None
        unpacked.flush()
        yield Path(unpacked.name), size
