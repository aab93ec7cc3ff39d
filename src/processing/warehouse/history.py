"""Hourly history for training, and weather, summed up by the warehouse: hours travel, not readings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
from google.cloud import bigquery

from src.domain.forecasting.series import WEATHER
from src.domain.readings import VALID_RANGE
from src.processing.warehouse.client import Warehouse, WarehouseError, run_query, sentences
from src.settings import Settings


@dataclass(frozen=True)
class HourlyFlow:
    """`flow`: index aware hours without gaps, one column per node asked for, L/s; what it cost to read."""

    flow: pd.DataFrame
    rows: int
    bytes_processed: int


def read_hourly_flow(
    warehouse: Warehouse, settings: Settings, node_ids: Sequence[str], start: datetime, end: datetime
) -> HourlyFlow:
    """Mean flow of every hour of [start, end), of readings that are possible.

    Raises:
        WarehouseError: with a sentence that says what to do; where BIGQUERY_MAXIMUM_BYTES_BILLED does not suffice, too.
    """
    least, most = VALID_RANGE["flow_rate"]
    names = ("node_id", "timestamp", "flow_rate")
    node, instant, flow = (settings.bigquery_columns.get(name, name) for name in names)
    # Only identifiers that Settings has validated stand in the text; every value is a typed parameter.
    query = f"""
        SELECT {node} AS node_id, TIMESTAMP_TRUNC({instant}, HOUR) AS hour, AVG({flow}) AS flow
        FROM `{settings.bigquery_project_id}.{settings.bigquery_dataset_id}.{settings.bigquery_table}`
        WHERE {instant} >= @start AND {instant} < @end AND {node} IN UNNEST(@node_ids)
            AND {flow} >= @least AND {flow} <= @most
        GROUP BY node_id, hour
    """  # noqa: S608
    rows, bytes_processed = _answer(
        warehouse,
        settings,
        query,
        [
            *_span(start, end),
            bigquery.ScalarQueryParameter("least", "FLOAT64", least),
            bigquery.ScalarQueryParameter("most", "FLOAT64", most),
            bigquery.ArrayQueryParameter("node_ids", "STRING", list(node_ids)),
        ],
    )
    wide = rows.pivot(index="hour", columns="node_id", values="flow").reindex(columns=list(node_ids))
    if len(wide):
        wide.index = pd.DatetimeIndex(wide.index).tz_convert("UTC")
        wide = wide.reindex(pd.date_range(wide.index[0], wide.index[-1], freq="h"))
    return HourlyFlow(wide.astype("float64"), len(rows), bytes_processed)


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
    told = [name for name in WEATHER if columns[name] in there]
    if columns["timestamp"] not in there or not told:
        raise WarehouseError(
            f"The weather table {settings.bigquery_weather_table} needs a column {columns['timestamp']} and any of "
            f"{', '.join(columns[name] for name in WEATHER)}; it has {', '.join(sorted(there))}. "
            "BIGQUERY_WEATHER_COLUMNS names them."
        )
    means = ", ".join(f"AVG({columns[name]}) AS {name}" for name in told)
    query = f"""
        SELECT TIMESTAMP_TRUNC({columns["timestamp"]}, HOUR) AS hour, {means}
        FROM `{table}` WHERE {columns["timestamp"]} >= @start AND {columns["timestamp"]} < @end GROUP BY hour
    """  # noqa: S608
    rows, _ = _answer(warehouse, settings, query, _span(start, end))
    rows.index = pd.DatetimeIndex(rows["hour"]).tz_convert("UTC")
    return rows[told].astype("float64").sort_index()


def _span(start: datetime, end: datetime) -> list[bigquery.ScalarQueryParameter]:
    return [
        bigquery.ScalarQueryParameter("start", "TIMESTAMP", start),
        bigquery.ScalarQueryParameter("end", "TIMESTAMP", end),
    ]


def _answer(
    warehouse: Warehouse,
    settings: Settings,
    query: str,
    parameters: Sequence[bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter],
) -> tuple[pd.DataFrame, int]:
    """The rows of a query, and the bytes it processed."""
    result, bytes_processed = run_query(warehouse, settings, query, parameters)
    with sentences(settings):
        # A stand-in cannot serve query results by the Storage API.
        storage = None if settings.bigquery_rest_endpoint else warehouse.storage
        rows = result.to_arrow(bqstorage_client=storage, create_bqstorage_client=False).to_pandas()
    return rows, bytes_processed
