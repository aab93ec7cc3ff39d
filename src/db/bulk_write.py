"""Bulk writes: COPY of a frame's rows in PostgreSQL's binary format, which is made and read faster than text."""

from __future__ import annotations

import io
from uuid import UUID

import pandas as pd
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


def copy_rows(connection: Connection, table: Table, rows: pd.DataFrame, into: str | None = None) -> None:
    """Appends rows to a table, as fast as the server takes them; missing values become NULL.

    Args:
        rows: columns of the table, any order; JSON as text.
        into: another table with the same columns, under a name of ours; else the table itself.

    Raises:
        ValueError: if a value cannot be what its column holds.
        SQLAlchemyError: if the server refuses the rows.
    """
    columns = list(rows.columns)
    kinds = {name: type(table.c[name].type) for name in columns}
    schema = pa.schema([(name, _ARROW[kind]) for name, kind in kinds.items()])
    uuids = [name for name, kind in kinds.items() if kind is Uuid]
    encoder = ArrowToPostgresBinaryEncoder.new_with_encoders(
        schema,
        {
            field.name: StringEncoderBuilder.new_with_output(field, Jsonb())
            if kinds[field.name] is JSONB
            else ArrowToPostgresBinaryEncoder.infer_encoder(field)
            for field in schema
        },
    )
    buffer = io.BytesIO()
    buffer.write(encoder.write_header())
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        part = rows.iloc[first : first + _ROWS_AT_ONCE]
        if uuids:
            part = part.assign(**{name: [UUID(str(value)).bytes for value in part[name]] for name in uuids})
        for batch in pa.Table.from_pandas(part, schema, preserve_index=False).to_batches():
            buffer.write(encoder.write_batch(batch))
    buffer.write(encoder.finish())
    buffer.seek(0)
    driver_connection = connection.connection.driver_connection
    assert driver_connection is not None
    listed = ", ".join(columns)
    with driver_errors("COPY"), driver_connection.cursor() as cursor:
        cursor.copy_expert(f"COPY {into or table.fullname} ({listed}) FROM STDIN WITH (FORMAT binary)", buffer, 1 << 20)
