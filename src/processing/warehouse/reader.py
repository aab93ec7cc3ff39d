"""Readings out of BigQuery: the Storage Read API for a table, a bounded query job for a view."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from google.cloud import bigquery
from google.cloud.bigquery_storage import types

from src.processing.warehouse.client import Warehouse, WarehouseError, run_query, sentences, too_dear
from src.settings import Settings

# What a reading consists of, under the names the product uses; BIGQUERY_COLUMNS maps them to the warehouse's own.
SCHEMA = pa.schema(
    [
        ("node_id", pa.string()),
        ("timestamp", pa.timestamp("us", "UTC")),
        ("flow_rate", pa.float64()),
        ("pressure", pa.float64()),
        ("temperature", pa.float64()),
        ("volume", pa.float64()),
        ("ingestion_timestamp", pa.timestamp("us", "UTC")),
    ]
)
# The collector's remarks on a reading, where the warehouse has columns for them.
OPTIONAL = pa.schema([("is_interpolated", pa.bool_()), ("data_quality_score", pa.float64())])
# Of BigQuery's types, those it is understood in; a column of this name and another type is somebody else's.
_UNDERSTOOD = {
    "is_interpolated": ("BOOL", "BOOLEAN", "INT64", "INTEGER"),
    "data_quality_score": ("FLOAT64", "FLOAT", "NUMERIC", "BIGNUMERIC", "INT64", "INTEGER"),
}


class TooManyReadings(Exception):
    """A read would have brought more rows than its caller can hold."""


@dataclass(frozen=True)
class Readings:
    """`frame` has the columns of `SCHEMA`: node_id (category), timestamps (datetime64[us, UTC]), measurements float64;
    and of `OPTIONAL` those that have any value: is_interpolated (bool), data_quality_score (float64).

    `bytes_read` is what the warehouse processed for it; 0 where that is not known.
    """

    frame: pd.DataFrame
    bytes_read: int


class Reader:
    """Reads spans of readings. One instance serves all threads."""

    def __init__(self, warehouse: Warehouse, settings: Settings) -> None:
        self._warehouse = warehouse
        self._settings = settings
        self._dataset = f"{settings.bigquery_project_id}.{settings.bigquery_dataset_id}"
        self._column = {name: settings.bigquery_columns.get(name, name) for name in SCHEMA.names}
        self._district = settings.bigquery_columns.get("district_id", "district_id")

    def read(
        self,
        node_ids: Sequence[str],
        start: datetime,
        end: datetime,
        *,
        districts: Sequence[str] | None = None,
        most_readings: int | None = None,
    ) -> Readings:
        """Every row of these nodes with start <= timestamp < end, in no particular order.

        Args:
            districts: the only ones their rows are stored under, "" for none, by which a clustered table is read in
                part; None where they are not known.
            most_readings: the reading stops where there are more rows; None: there is no limit.

        Raises:
            TooManyReadings: if there are more than `most_readings`.
            WarehouseError: with a sentence that says what to do; where BIGQUERY_MAXIMUM_BYTES_BILLED does not suffice,
                too.
        """
        with sentences(self._settings):
            table = self._warehouse.queries.get_table(
                f"{self._dataset}.{self._settings.bigquery_table}",
                retry=self._warehouse.retry,
                timeout=self._warehouse.timeout,
            )
            present = {field.name for field in table.schema}
            wanted = self._column | optional_columns(table, self._settings)
            missing = [column for column in wanted.values() if column not in present]
            # A view may not list its columns; its query names a missing one itself.
            if missing and table.table_type == "TABLE":
                raise WarehouseError(
                    f"Table {table.full_table_id} has no column {', '.join(missing)}: "
                    "name the right ones in BIGQUERY_COLUMNS"
                )
            if table.table_type == "TABLE":
                arrow, bytes_read = self._read_table(table, wanted, node_ids, start, end, districts, most_readings)
            else:
                arrow, bytes_read = self._query_view(wanted, node_ids, start, end, districts, most_readings)
        return Readings(_informative(arrow).to_pandas(categories=["node_id"]), bytes_read)

    def _read_table(
        self,
        table: bigquery.Table,
        wanted: Mapping[str, str],
        node_ids: Sequence[str],
        start: datetime,
        end: datetime,
        districts: Sequence[str] | None,
        most_readings: int | None,
    ) -> tuple[pa.Table, int]:
        instant, node = self._column["timestamp"], self._column["node_id"]
        # The Storage API knows no parameters: literals are the only way, and `_literal` the only maker of them.
        restriction = (
            f"{instant} >= TIMESTAMP {_literal(_iso(start))} AND {instant} < TIMESTAMP {_literal(_iso(end))} "
            f"AND {node} IN ({', '.join(_literal(node_id) for node_id in node_ids)})"
        )
        if districts is not None:
            restriction += f" AND ({self._within(districts, ', '.join(map(_literal, districts)))})"
        bounds = {"retry": self._warehouse.retry, "timeout": self._warehouse.timeout}
        session = self._warehouse.storage.create_read_session(
            parent=f"projects/{self._settings.bigquery_project_id}",
            read_session=types.ReadSession(
                table=f"projects/{table.project}/datasets/{table.dataset_id}/tables/{table.table_id}",
                data_format=types.DataFormat.ARROW,
                read_options=types.ReadSession.TableReadOptions(
                    selected_fields=list(wanted.values()), row_restriction=restriction
                ),
            ),
            max_stream_count=self._settings.bigquery_streams,
            **bounds,
        )
        bytes_read = int(session.estimated_total_bytes_scanned)
        # This interface silently does what a query would be refused for.
        if bytes_read > self._settings.bigquery_maximum_bytes_billed:
            raise WarehouseError(too_dear(self._settings, bytes_read))
        if not session.streams:
            return _schema(wanted).empty_table(), bytes_read
        limit = _Limit(most_readings)

        def stream(name: str) -> pa.Table:
            parts = [_schema(wanted).empty_table()]
            for page in self._warehouse.storage.read_rows(name, **bounds).rows(session).pages:
                limit.count(page.num_items)
                parts.append(_renamed(pa.Table.from_batches([page.to_arrow()]), wanted))
            return pa.concat_tables(parts)

        with ThreadPoolExecutor(len(session.streams), thread_name_prefix="bigquery") as pool:
            return pa.concat_tables(pool.map(stream, [s.name for s in session.streams])), bytes_read

    def _within(self, districts: Sequence[str], listed: str) -> str:
        condition = f"{self._district} IN ({listed})"
        return f"{condition} OR {self._district} IS NULL" if "" in districts else condition

    def _query_view(
        self,
        wanted: Mapping[str, str],
        node_ids: Sequence[str],
        start: datetime,
        end: datetime,
        districts: Sequence[str] | None,
        most_readings: int | None,
    ) -> tuple[pa.Table, int]:
        parameters: list[bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter] = [
            bigquery.ScalarQueryParameter("start", "TIMESTAMP", start),
            bigquery.ScalarQueryParameter("end", "TIMESTAMP", end),
            bigquery.ArrayQueryParameter("node_ids", "STRING", list(node_ids)),
        ]
        within = "TRUE"
        if districts is not None:
            within = self._within(districts, "SELECT * FROM UNNEST(@districts)")
            parameters.append(bigquery.ArrayQueryParameter("districts", "STRING", list(districts)))
        # Only identifiers that Settings has validated stand in the text; every value is a typed parameter.
        query = (
            f"SELECT {', '.join(wanted.values())} "  # noqa: S608
            f"FROM `{self._dataset}.{self._settings.bigquery_table}` "
            f"WHERE {self._column['timestamp']} >= @start AND {self._column['timestamp']} < @end "
            f"AND {self._column['node_id']} IN UNNEST(@node_ids) AND ({within})"
        )
        rows, bytes_read = run_query(self._warehouse, self._settings, query, parameters)
        _Limit(most_readings).count(rows.total_rows or 0)
        # A stand-in cannot serve query results by the Storage API.
        storage = None if self._settings.bigquery_rest_endpoint else self._warehouse.storage
        bounds = {"timeout": self._warehouse.timeout}
        arrow = rows.to_arrow(bqstorage_client=storage, create_bqstorage_client=False, **bounds)
        return _renamed(arrow, wanted), bytes_read


def optional_columns(table: bigquery.Table, settings: Settings) -> dict[str, str]:
    """Of `OPTIONAL` what a table or view has, and its name there; one that is given a name is meant to be there."""
    types = {field.name: field.field_type for field in table.schema}
    named = settings.bigquery_columns
    return {
        name: named.get(name, name) for name in OPTIONAL.names if name in named or types.get(name) in _UNDERSTOOD[name]
    }


def _schema(wanted: Mapping[str, str]) -> pa.Schema:
    return pa.schema([field for field in (*SCHEMA, *OPTIONAL) if field.name in wanted])


def _renamed(arrow: pa.Table, wanted: Mapping[str, str]) -> pa.Table:
    return arrow.select(list(wanted.values())).rename_columns(list(wanted)).cast(_schema(wanted))


def _informative(arrow: pa.Table) -> pa.Table:
    """The table without those of the collector's columns that mark no row; null means that nothing is known."""
    if "is_interpolated" in arrow.column_names:
        filled_in = pc.fill_null(arrow["is_interpolated"], False)
        place = arrow.column_names.index("is_interpolated")
        arrow = arrow.set_column(place, "is_interpolated", filled_in)
        if not pc.any(filled_in).as_py():
            arrow = arrow.drop_columns("is_interpolated")
    if "data_quality_score" in arrow.column_names and arrow["data_quality_score"].null_count == len(arrow):
        arrow = arrow.drop_columns("data_quality_score")
    return arrow


class _Limit:
    """Counts rows as they come, over all streams of a read, and stops it where they are too many."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._counted = 0
        self._lock = threading.Lock()

    def count(self, rows: int) -> None:
        with self._lock:
            self._counted += rows
            if self._most is not None and self._counted > self._most:
                raise TooManyReadings(f"more than {self._most} readings")


def _iso(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat()


def _literal(value: str) -> str:
    """A GoogleSQL string literal that means exactly `value`, whatever is in it."""
    escaped = "".join(
        f"\\{character}" if character in "\\'" else character if character.isprintable() else f"\\U{ord(character):08x}"
        for character in value
    )
    return f"'{escaped}'"
