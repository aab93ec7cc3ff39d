"""Readings into the warehouse: first all of them beside the table, then in one statement into it, or none of them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pandas as pd
from google.api_core import exceptions
from google.cloud import bigquery

from src.domain.readings import MEASUREMENTS
from src.processing.warehouse.client import Warehouse, WarehouseError, sentences
from src.settings import Settings

# As a table is made that is not there: what the product reads, and where a reading came from.
COLUMNS = {
    "timestamp": "TIMESTAMP", "node_id": "STRING", "district_id": "STRING", "flow_rate": "FLOAT64",
    "pressure": "FLOAT64", "temperature": "FLOAT64", "volume": "FLOAT64", "source_file": "STRING",
    "ingestion_timestamp": "TIMESTAMP",
}  # fmt: skip
_KEY = ("timestamp", "node_id")
_KINDS = {"FLOAT64": "float64", "STRING": "string", "TIMESTAMP": "datetime64[us, UTC]"}
_STAGED_HOURS = 24
_MOST_SECONDS = 3600


class Loading:
    """One load into the readings' table of the settings."""

    def __init__(self, warehouse: Warehouse, settings: Settings) -> None:
        """
        Raises:
            WarehouseError: where the table is a view, or lacks a column that is needed.
        """
        self._warehouse, self._settings = warehouse, settings
        self._dataset = f"{settings.bigquery_project_id}.{settings.bigquery_dataset_id}"
        self._target = f"{self._dataset}.{settings.bigquery_table}"
        self._staging = f"{self._dataset}.{settings.bigquery_table[:250]}_load_{uuid4().hex[:12]}"
        self._column = {name: settings.bigquery_columns.get(name, name) for name in COLUMNS}
        with sentences(settings):
            self._table = self._existing()
        if self._table is not None:
            self._check(self._table)

    @property
    def creates_table(self) -> bool:
        """Whether the table is not there yet."""
        return self._table is None

    def load(self, parts: Sequence[Path], now: datetime, step: Callable[[str], None]) -> int:
        """Loads Parquet files with the columns of `COLUMNS` but the last, each by a job of its own; how many readings
        were added or changed.

        A reading of the same node and instant is the same reading, from whichever file: the measurements of its
        file are taken over, and what was stored of others stays. So nothing is doubled, however often a file is
        loaded; and where anything fails, nothing of it is in the table.

        Args:
            now: when they arrive, by the service's clock.
            step: called with what is done next.

        Raises:
            WarehouseError: with a sentence that says what to do.
        """
        try:
            first, last = self._stage(parts, now, step)
            if self._table is None:
                step("Making the table")
                with sentences(self._settings):
                    self._table = self._create()
            step("Merging")
            return self._merge(first, last)
        finally:
            # Where that fails, it expires by itself.
            with contextlib.suppress(Exception):
                self._warehouse.queries.delete_table(self._staging, not_found_ok=True, timeout=self._warehouse.timeout)

    def _existing(self) -> bigquery.Table | None:
        try:
            return self._warehouse.queries.get_table(
                self._target, retry=self._warehouse.retry, timeout=self._warehouse.timeout
            )
        except exceptions.NotFound:
            return None

    def _check(self, table: bigquery.Table) -> None:
        if table.table_type != "TABLE":
            raise WarehouseError(f"{self._target} is a view: name the table behind it in BIGQUERY_TABLE")
        present = {field.name for field in table.schema}
        needed = [self._column[name] for name in COLUMNS if name not in ("district_id", "source_file")]
        if missing := [column for column in needed if column not in present]:
            raise WarehouseError(
                f"Table {self._target} has no column {', '.join(missing)}: name the right ones in BIGQUERY_COLUMNS"
            )

    def _create(self) -> bigquery.Table:
        fields = [
            bigquery.SchemaField(self._column[name], kind, "REQUIRED" if name in _KEY else "NULLABLE")
            for name, kind in COLUMNS.items()
        ]
        table = bigquery.Table(self._target, fields)
        table.time_partitioning = bigquery.TimePartitioning(field=self._column["timestamp"])
        table.clustering_fields = [self._column[name] for name in ("district_id", "node_id", "timestamp")]
        self._warehouse.queries.create_dataset(self._dataset, exists_ok=True, timeout=self._warehouse.timeout)
        return self._warehouse.queries.create_table(table, timeout=self._warehouse.timeout)

    def _stage(self, parts: Sequence[Path], now: datetime, step: Callable[[str], None]) -> tuple[datetime, datetime]:
        """Loads the parts into a table beside the target, which expires by itself; the span of their instants."""
        staging = bigquery.Table(
            self._staging,
            [bigquery.SchemaField(name, kind) for name, kind in (COLUMNS | {"load_part": "INT64"}).items()],
        )
        # By the warehouse's clock, which knows no other.
        staging.expires = datetime.now(UTC) + timedelta(hours=_STAGED_HOURS)
        span: list[datetime] = []
        with sentences(self._settings):
            self._warehouse.queries.create_dataset(self._dataset, exists_ok=True, timeout=self._warehouse.timeout)
            self._warehouse.queries.create_table(staging, timeout=self._warehouse.timeout)
            for number, part in enumerate(parts):
                step(f"Loading part {number + 1} of {len(parts)}")
                rows = pd.read_parquet(part).assign(ingestion_timestamp=pd.Timestamp(now), load_part=number)
                span += [rows["timestamp"].min().to_pydatetime(), rows["timestamp"].max().to_pydatetime()]
                kinds = {name: _KINDS[kind] for name, kind in COLUMNS.items()}
                ready = part.with_suffix(".load")
                rows[[*COLUMNS, "load_part"]].astype(kinds | {"load_part": "int64"}).to_parquet(ready, index=False)
                config = bigquery.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_APPEND")
                with ready.open("rb") as file:
                    job = self._warehouse.queries.load_table_from_file(
                        file, self._staging, job_config=config, timeout=_MOST_SECONDS
                    )
                job.result(timeout=_MOST_SECONDS)
                ready.unlink()
        return min(span), max(span)

    def _merge(self, first: datetime, last: datetime) -> int:
        assert self._table is not None
        kind = {field.name: field.field_type for field in self._table.schema}
        names = [name for name in COLUMNS if self._column[name] in kind]
        others = [name for name in names if name not in _KEY]

        def of_source(name: str) -> str:
            return f"CAST(S.{name} AS {_standard(kind[self._column[name]])})"

        def merged(name: str) -> str:
            return f"COALESCE({of_source(name)}, T.{self._column[name]})"

        changes = " OR ".join(
            f"{of_source(name)} IS NOT NULL AND "
            f"(T.{self._column[name]} IS NULL OR T.{self._column[name]} <> {of_source(name)})"
            for name in MEASUREMENTS
        )
        # Of several files with the same reading the last that has a measurement wins.
        latest = ", ".join(
            f"MAX_BY({name}, CASE WHEN {name} IS NULL THEN NULL ELSE load_part END) AS {name}"
            for name in COLUMNS
            if name not in _KEY
        )
        instant, node = self._column["timestamp"], self._column["node_id"]
        query = f"""
            MERGE `{self._target}` T
            USING (SELECT timestamp, node_id, {latest} FROM `{self._staging}` GROUP BY timestamp, node_id) S
            ON T.{node} = S.node_id AND T.{instant} = S.timestamp
               AND T.{instant} >= @first AND T.{instant} <= @last
            WHEN MATCHED AND ({changes}) THEN
                UPDATE SET {", ".join(f"{self._column[name]} = {merged(name)}" for name in others)}
            WHEN NOT MATCHED THEN
                INSERT ({", ".join(self._column[name] for name in names)})
                VALUES ({", ".join(of_source(name) for name in names)})
        """  # noqa: S608
        config = bigquery.QueryJobConfig(
            query_parameters=[
                bigquery.ScalarQueryParameter("first", "TIMESTAMP", first),
                bigquery.ScalarQueryParameter("last", "TIMESTAMP", last),
            ],
            maximum_bytes_billed=self._settings.bigquery_maximum_bytes_billed,
        )
        with sentences(self._settings):
            job = self._warehouse.queries.query(
                query, job_config=config, timeout=self._warehouse.timeout, job_retry=None
            )
            job.result(timeout=_MOST_SECONDS)
        return int(job.num_dml_affected_rows or 0)


def _standard(kind: str) -> str:
    """A type as queries call it."""
    if not re.fullmatch(r"[A-Z0-9]+", kind):
        raise WarehouseError(f"a column is of the type {kind}, in which no reading can be stored")
    return {"FLOAT": "FLOAT64", "INTEGER": "INT64", "BOOLEAN": "BOOL"}.get(kind, kind)
