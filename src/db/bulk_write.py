"""Bulk writes: COPY of a frame's rows in PostgreSQL's binary format, which is made and read faster than text."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from uuid import UUID

import pandas as pd
import psycopg2
import pyarrow as pa
from pgpq import ArrowToPostgresBinaryEncoder
from pgpq.encoders import StringEncoderBuilder
from pgpq.schema import Jsonb
from sqlalchemy import Connection, DateTime, Double, Integer, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from src.db.failures import driver_errors

# How values of a column travel; a binary COPY converts nothing, so they must be of exactly the column's kind.
_ARROW = {
    Text: pa.string(),
    Double: pa.float64(),
    Integer: pa.int32(),
    DateTime: pa.timestamp("us", tz="UTC"),
    Uuid: pa.binary(16),
    JSONB: pa.string(),
}
# Rows that are encoded before they are sent: some megabytes.
_ROWS_AT_ONCE = 20_000
_BYTES_AT_ONCE = 1 << 20


def copy_rows(connection: Connection, table: Table, rows: pd.DataFrame, into: str | None = None) -> None:
    """Appends rows to a table, as fast as the server takes them; missing values become NULL.

    Args:
        rows: columns of the table, any order; JSON as text.
        into: another table with the same columns, under a name of ours; else the table itself.

    Raises:
        ValueError, TypeError: if a value cannot be what its column holds.
        SQLAlchemyError: if the server refuses the rows.
        RuntimeError: if it did not take them all.
    """
    if rows.empty:
        return
    columns = list(rows.columns)
    kinds = {name: type(table.c[name].type) for name in columns}
    schema = pa.schema([(name, _ARROW[kind]) for name, kind in kinds.items()])
    uuids = [name for name, kind in kinds.items() if kind is Uuid]
    for name in uuids:
        rows = rows.assign(**{name: pd.Series([_bytes_of(value) for value in rows[name]], rows.index, dtype=object)})
    batches = pa.Table.from_pandas(rows, schema, preserve_index=False).to_batches(_ROWS_AT_ONCE)
    encoder = ArrowToPostgresBinaryEncoder.new_with_encoders(
        schema,
        {
            field.name: StringEncoderBuilder.new_with_output(field, Jsonb())
            if kinds[field.name] is JSONB
            else ArrowToPostgresBinaryEncoder.infer_encoder(field)
            for field in schema
        },
    )
    driver_connection = connection.connection.driver_connection
    assert driver_connection is not None
    listed = ", ".join(columns)
    with driver_errors("COPY"), driver_connection.cursor() as cursor:
        parts = _Parts(_encoded(encoder, batches))
        copy = f"COPY {into or table.fullname} ({listed}) FROM STDIN WITH (FORMAT binary)"
        try:
            cursor.copy_expert(copy, io.BufferedReader(parts, _BYTES_AT_ONCE), _BYTES_AT_ONCE)
        except psycopg2.Error as error:
            if parts.problem is None:
                raise
            # A value of ours, which the driver reports as a statement that was cancelled.
            raise parts.problem from error
        if cursor.rowcount != len(rows):
            raise RuntimeError(f"the server took {cursor.rowcount} of {len(rows)} rows")


def _bytes_of(value: object) -> bytes | None:
    return None if pd.isna(value) else UUID(str(value)).bytes  # type: ignore[call-overload]


def _encoded(encoder: ArrowToPostgresBinaryEncoder, batches: Sequence[pa.RecordBatch]) -> Iterator[bytes]:
    """The rows in parts, none of them empty: the encoder gathers small batches and gives nothing for them at first."""
    yield encoder.write_header()
    yield from filter(None, map(encoder.write_batch, batches))
    yield encoder.finish()


class _Parts(io.RawIOBase):
    """A file that is made part by part while it is read: no more than one is held."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._rest = memoryview(b"")
        # What went wrong with making a part.
        self.problem: Exception | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._rest:
            try:
                self._rest = memoryview(next(self._parts, b""))
            except Exception as error:
                self.problem = error
                raise
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count
