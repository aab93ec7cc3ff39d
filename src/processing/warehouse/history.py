"""Hourly history for training, summed up by the warehouse: hours travel, not readings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
from google.cloud import bigquery

from src.domain.readings import VALID_RANGE
from src.processing.warehouse.client import Warehouse, sentences
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
    with sentences(settings):
        job = warehouse.queries.query(
            query,
            job_config=bigquery.QueryJobConfig(
                query_parameters=[
                    bigquery.ScalarQueryParameter("start", "TIMESTAMP", start),
                    bigquery.ScalarQueryParameter("end", "TIMESTAMP", end),
                    bigquery.ScalarQueryParameter("least", "FLOAT64", least),
                    bigquery.ScalarQueryParameter("most", "FLOAT64", most),
                    bigquery.ArrayQueryParameter("node_ids", "STRING", list(node_ids)),
                ],
                maximum_bytes_billed=settings.bigquery_maximum_bytes_billed,
            ),
            timeout=warehouse.timeout,
            retry=warehouse.retry,
            job_retry=None,
        )
        result = job.result(timeout=warehouse.timeout, retry=warehouse.retry)
        # A stand-in cannot serve query results by the Storage API.
        storage = None if settings.bigquery_rest_endpoint else warehouse.storage
        rows = result.to_arrow(bqstorage_client=storage, create_bqstorage_client=False).to_pandas()
    wide = rows.pivot(index="hour", columns="node_id", values="flow").reindex(columns=list(node_ids))
    if len(wide):
        wide.index = pd.DatetimeIndex(wide.index).tz_convert("UTC")
        wide = wide.reindex(pd.date_range(wide.index[0], wide.index[-1], freq="h"))
    return HourlyFlow(wide.astype("float64"), len(rows), int(job.total_bytes_processed or 0))
