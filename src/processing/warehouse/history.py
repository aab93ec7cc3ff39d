"""Hourly history for training, and weather, summed up by the warehouse: hours travel, not readings."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile

import numpy as np
import pandas as pd
import pyarrow as pa
from google.cloud import bigquery, bigquery_storage

from src.domain.forecasting.series import WEATHER
from src.domain.placeholders import ALWAYS
from src.domain.readings import VALID_RANGE
from src.domain.units import UNITS, conversion
from src.processing.warehouse.client import Warehouse, WarehouseError, run_query, sentences
from src.processing.warehouse.reader import optional_columns
from src.settings import Settings

# Batches of a result that wait to be taken: what is beyond them stays in the warehouse.
_WAITING = 8
_HOUR = np.timedelta64(1, "h")
# On a disk where there is one: /tmp is memory in containers.
_DISK = Path("/var/tmp")


class HourlyFlow:
    """Mean flow of every hour, L/s, of many nodes: in a file that nobody else sees, not in memory.

    Three years of 2 300 nodes are half a gigabyte; what is looked at is some nodes' part of it.

    Attributes:
        node_ids: whose flow was requested.
        bytes_processed: what the warehouse read for it.
    """

    def __init__(self, node_ids: Sequence[str], start: datetime, end: datetime, bytes_processed: int) -> None:
        self.node_ids = list(node_ids)
        self.bytes_processed = bytes_processed
        self._start = np.datetime64(start.astimezone(UTC).replace(tzinfo=None), "h")
        hours = int(np.ceil((np.datetime64(end.astimezone(UTC).replace(tzinfo=None), "us") - self._start) / _HOUR))
        self._place = {node_id: number for number, node_id in enumerate(self.node_ids)}
        with TemporaryFile(dir=_DISK if os.access(_DISK, os.W_OK) else None) as file:
            self._flow = np.memmap(file, np.float64, "w+", shape=(len(self.node_ids), hours))
        # Row by row: all at once would be as much memory.
        for row in self._flow:
            row[:] = np.nan

    def add(self, batch: pa.RecordBatch) -> None:
        """Writes rows of node_id, hour and flow, in any order, to their places."""
        node_ids = batch.column("node_id").dictionary_encode()
        places = np.array([self._place[node_id] for node_id in node_ids.dictionary.to_pylist()], dtype=np.int64)
        hours = batch.column("hour").cast(pa.timestamp("us", "UTC")).to_numpy(zero_copy_only=False)
        numbers = ((hours - self._start) // _HOUR).astype(np.int64)
        flow = batch.column("flow").to_numpy(zero_copy_only=False)
        self._flow[places[node_ids.indices.to_numpy()], numbers] = flow

    def of(self, node_ids: Sequence[str]) -> pd.DataFrame:
        """The flow of these nodes from the first hour to the last that any of them has; empty where none has.

        Returns:
            Index aware hours without gaps, one column per node, NaN where nothing is known.
        """
        flow = np.array(self._flow[[self._place[node_id] for node_id in node_ids]]).T
        known = np.flatnonzero(~np.isnan(flow).all(axis=1))
        first, end = (known[0], known[-1] + 1) if len(known) else (0, 0)
        index = pd.date_range(pd.Timestamp(self._start + first * _HOUR, tz="UTC"), periods=end - first, freq="h")
        return pd.DataFrame(flow[first:end], index=index, columns=list(node_ids))


def read_hourly_flow(
    warehouse: Warehouse,
    settings: Settings,
    node_ids: Sequence[str],
    start: datetime,
    end: datetime,
    channels: pd.DataFrame | None = None,
    left_out: Collection[str] = (),
) -> HourlyFlow:
    """Mean flow of every hour of [start, end), L/s, of readings that are possible, measured and trusted.

    However many nodes are requested, the warehouse reads its columns once, and bills them once.

    Args:
        channels: units and ranges, as of `domain.channels.channels_of`; None: the defaults.
        left_out: further nodes, whose flow is not read and stays unknown.

    Raises:
        WarehouseError: with a sentence that says what to do; where BIGQUERY_MAXIMUM_BYTES_BILLED does not suffice, too.
    """
    names = ("node_id", "timestamp", "flow_rate")
    node, instant, flow = (f"reading.{settings.bigquery_columns.get(name, name)}" for name in names)
    table = f"{settings.bigquery_project_id}.{settings.bigquery_dataset_id}.{settings.bigquery_table}"
    with sentences(settings):
        described = warehouse.queries.get_table(table, retry=warehouse.retry, timeout=warehouse.timeout)
    optional = optional_columns(described, settings)
    trusted = ""
    if "is_interpolated" in optional:
        trusted += f" AND NOT COALESCE(CAST(reading.{optional['is_interpolated']} AS BOOL), FALSE)"
    if "data_quality_score" in optional:
        trusted += f" AND COALESCE(CAST(reading.{optional['data_quality_score']} AS FLOAT64), 1) >= @score"
    # Only identifiers that Settings has validated stand in the text; every value is a typed parameter.
    query = f"""
        WITH channels AS (
            SELECT REGEXP_EXTRACT(entry, r'(?s)^(?:[^,]*,){{4}}(.*)$') AS node,
                SAFE_CAST(SPLIT(entry, ',')[OFFSET(0)] AS FLOAT64) AS numerator,
                SAFE_CAST(SPLIT(entry, ',')[OFFSET(1)] AS FLOAT64) AS denominator,
                SAFE_CAST(SPLIT(entry, ',')[OFFSET(2)] AS FLOAT64) AS least,
                SAFE_CAST(SPLIT(entry, ',')[OFFSET(3)] AS FLOAT64) AS most
            FROM UNNEST(@nodes) AS entry
        )
        SELECT {node} AS node_id, TIMESTAMP_TRUNC({instant}, HOUR) AS hour,
            AVG({flow} * channels.numerator / channels.denominator) AS flow
        FROM `{table}` AS reading JOIN channels ON {node} = channels.node
        WHERE {instant} >= @start AND {instant} < @end AND {node} IN UNNEST(@node_ids)
            AND {flow} * channels.numerator / channels.denominator BETWEEN channels.least AND channels.most
            AND {flow} NOT IN UNNEST(@placeholders){trusted}
        GROUP BY 1, 2
    """  # noqa: S608
    rows, bytes_processed = run_query(
        warehouse,
        settings,
        query,
        [
            *_span(start, end),
            bigquery.ArrayQueryParameter("nodes", "STRING", _flow_channels(node_ids, channels)),
            bigquery.ArrayQueryParameter("node_ids", "STRING", list(node_ids)),
            bigquery.ArrayQueryParameter("placeholders", "FLOAT64", list(ALWAYS)),
            bigquery.ScalarQueryParameter("score", "FLOAT64", settings.minimum_quality_score),
        ],
    )
    read = HourlyFlow([*node_ids, *left_out], start, end, bytes_processed)
    with sentences(settings):
        for batch in rows.to_arrow_iterable(
            _fast_way(warehouse, settings), max_queue_size=_WAITING, timeout=warehouse.timeout
        ):
            read.add(batch)
    return read


def _flow_channels(node_ids: Sequence[str], channels: pd.DataFrame | None) -> list[str]:
    """Of each node, as a parameter of a query, how its flow becomes L/s, and the range of that: the name comes last,
    whatever is in it."""
    known = {} if channels is None else channels.to_dict("index")
    entries = []
    for node_id in node_ids:
        channel = known.get(node_id, {})
        unit = channel.get("flow_rate_unit")
        factor = conversion("flow_rate", unit if isinstance(unit, str) else UNITS["flow_rate"])
        edges = (channel.get(f"flow_rate_{edge}") for edge in ("low", "high"))
        least, most = (
            usual if edge is None or np.isnan(edge) else edge
            for edge, usual in zip(edges, VALID_RANGE["flow_rate"], strict=True)
        )
        entries.append(f"{factor.numerator!r},{factor.denominator!r},{float(least)!r},{float(most)!r},{node_id}")
    return entries


def read_hourly_weather(
    warehouse: Warehouse, settings: Settings, start: datetime, end: datetime
) -> pd.DataFrame | None:
    """Mean weather of every hour of [start, end) over all rows of the hour; hours to come are forecasts.

    Returns:
        Index aware hours, columns those of `domain.forecasting.series.WEATHER` that the table has; None where no
        BIGQUERY_WEATHER_TABLE is named.

    Raises:
        WarehouseError: with a sentence that says what to do.
    """
    if not settings.bigquery_weather_table:
        return None
    table = f"{settings.bigquery_project_id}.{settings.bigquery_dataset_id}.{settings.bigquery_weather_table}"
    with sentences(settings):
        there = {field.name for field in warehouse.queries.get_table(table, timeout=warehouse.timeout).schema}
    columns = {name: settings.bigquery_weather_columns.get(name, name) for name in ("timestamp", *WEATHER)}
    available = [name for name in WEATHER if columns[name] in there]
    if columns["timestamp"] not in there or not available:
        raise WarehouseError(
            f"The weather table {settings.bigquery_weather_table} needs a column {columns['timestamp']} and any of "
            f"{', '.join(columns[name] for name in WEATHER)}; it has {', '.join(sorted(there))}. "
            "BIGQUERY_WEATHER_COLUMNS names them."
        )
    means = ", ".join(f"AVG({columns[name]}) AS {name}" for name in available)
    query = f"""
        SELECT TIMESTAMP_TRUNC({columns["timestamp"]}, HOUR) AS hour, {means}
        FROM `{table}` WHERE {columns["timestamp"]} >= @start AND {columns["timestamp"]} < @end GROUP BY hour
    """  # noqa: S608
    answer, _ = run_query(warehouse, settings, query, _span(start, end))
    with sentences(settings):
        rows: pd.DataFrame = answer.to_arrow(
            bqstorage_client=_fast_way(warehouse, settings), create_bqstorage_client=False, timeout=warehouse.timeout
        ).to_pandas()
    rows.index = pd.DatetimeIndex(rows["hour"]).tz_convert("UTC")
    hourly: pd.DataFrame = rows[available].astype("float64").sort_index()
    return hourly


def _span(start: datetime, end: datetime) -> list[bigquery.ScalarQueryParameter]:
    return [
        bigquery.ScalarQueryParameter("start", "TIMESTAMP", start),
        bigquery.ScalarQueryParameter("end", "TIMESTAMP", end),
    ]


def _fast_way(warehouse: Warehouse, settings: Settings) -> bigquery_storage.BigQueryReadClient | None:
    """What fetches a query's rows in streams; a stand-in cannot serve them so, and sends pages."""
    return None if settings.bigquery_rest_endpoint else warehouse.storage
