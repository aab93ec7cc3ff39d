"""Tables in Parquet files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from src.domain.tables.table import NEVER, Column, Refusal, Table


def read_parquet(path: Path, name: str, most_bytes: int) -> Table:
    """The table in a Parquet file; its first row is line 1.

    Raises:
        Refusal: where it is cut off, too large, or empty.
    """
    try:
        file = pq.ParquetFile(path)
        size = sum(file.metadata.row_group(number).total_byte_size for number in range(file.num_row_groups))
        if size > most_bytes:
            raise Refusal(
                f"{name} holds {size / 1e6:,.0f} MB unpacked, more than {most_bytes / 1e6:,.0f}. "
                "Part it, by year for example"
            )
        table = file.read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0][:120]
        raise Refusal(
            f"{name}: the Parquet file cannot be read ({reason}); it is cut off or damaged. "
            "Take it again from where it came"
        ) from None
    if not table.num_rows:
        raise Refusal(f"{name} is empty: it has columns and no row. Export it again")
    columns = [_column(column) for column in table.columns]
    lines = np.arange(1, table.num_rows + 1, dtype=np.int64)
    return Table(name, [(heading,) for heading in table.column_names], columns, lines)


def _column(cells: pa.ChunkedArray) -> Column:
    if pa.types.is_dictionary(cells.type):
        cells = cells.cast(cells.type.value_type)
    kind = cells.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        micros = cells.cast(pa.timestamp("us", getattr(kind, "tz", None)), safe=False).cast(pa.int64())
        instants = pc.fill_null(micros, int(NEVER)).to_numpy()
        return Column(None, None, instants, getattr(kind, "tz", None) is not None)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        figures = pc.fill_null(cells.cast(pa.float64(), safe=False), float("nan")).to_numpy()
        return Column(None, np.array(figures, dtype=np.float64))
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        # Neither a number nor a text: as if nothing stood there.
        return Column(pa.chunked_array([pa.array([""] * len(cells), pa.string())]))
    return Column(pc.utf8_trim_whitespace(pc.fill_null(cells.cast(pa.string()), "")))
