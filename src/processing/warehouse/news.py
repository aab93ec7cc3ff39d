"""What is new in the warehouse: one bounded query says which nodes to read, and from when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from google.cloud import bigquery

from src.domain.readings import EARLIEST
from src.processing.warehouse.client import Warehouse, sentences
from src.settings import Settings


@dataclass(frozen=True)
class Watermark:
    """The last reading of a node taken in, and the latest arrival among what was taken in (None: never stamped)."""

    last_reading: datetime
    last_arrival: datetime | None


@dataclass(frozen=True)
class NodeNews:
    """Readings of one node that a cycle must take in: all from `read_from` on, `readings` in number."""

    node_id: str
    read_from: datetime
    readings: int
    latest_arrival: datetime | None


def find_news(
    warehouse: Warehouse, settings: Settings, marks: Mapping[str, Watermark], as_of: datetime
) -> tuple[list[NodeNews], Counter[str]]:
    """The nodes with readings not yet taken in, and rows that can belong to no node and no time, counted by reason.

    A node is read again from LATE_ARRIVAL_HOURS before its watermark, and from further back, up to
    LATE_ARRIVAL_LOOKBACK_DAYS, where a row arrived since. Nodes never seen are read from their first reading.

    Args:
        marks: node_id -> its watermark.
        as_of: later readings wait for their time to come.

    Raises:
        WarehouseError: with a sentence that says what to do.
    """
    known = {
        name: settings.bigquery_columns.get(name, name) for name in ("node_id", "timestamp", "ingestion_timestamp")
    }
    node, instant, arrival = known.values()
    lookback = timedelta(days=settings.late_arrival_lookback_days)
    # Only identifiers that Settings has validated stand in the text; every value is a typed parameter.
    query = f"""
        SELECT {node} AS node_id,
            COUNTIF({instant} >= @earliest AND {instant} <= @as_of) AS readings,
            MIN(IF({instant} >= @earliest AND {instant} <= @as_of, {instant}, NULL)) AS first_reading,
            MIN(IF({instant} >= @earliest AND {instant} <= @as_of
                AND {arrival} > mark.last_arrival, {instant}, NULL)) AS first_late,
            MIN(IF({instant} <= @as_of AND {instant} > mark.last_reading, {instant}, NULL)) AS first_new,
            MAX(IF({instant} <= @as_of, {arrival}, NULL)) AS latest_arrival,
            COUNTIF({instant} < @earliest) AS ancient,
            COUNTIF({instant} > @as_of) AS future
        FROM `{settings.bigquery_project_id}.{settings.bigquery_dataset_id}.{settings.bigquery_table}` AS reading
        LEFT JOIN UNNEST(@marks) AS mark ON mark.known_id = reading.{node}
        WHERE {instant} >= @since OR {instant} < @earliest
        GROUP BY {node}
    """  # noqa: S608
    # A node nobody has taken in yet may reach back further than any lookback, so the first cycle asks for everything.
    since = max(EARLIEST, min((mark.last_reading for mark in marks.values()), default=EARLIEST) - lookback)
    scalar = bigquery.ScalarQueryParameter
    parameters = [
        scalar("earliest", "TIMESTAMP", EARLIEST),
        scalar("since", "TIMESTAMP", since),
        scalar("as_of", "TIMESTAMP", as_of),
        bigquery.ArrayQueryParameter(
            "marks",
            "STRUCT",
            [
                bigquery.StructQueryParameter(
                    None,
                    scalar("known_id", "STRING", node_id),
                    scalar("last_reading", "TIMESTAMP", mark.last_reading),
                    scalar("last_arrival", "TIMESTAMP", mark.last_arrival),
                )
                # An empty array of structures has no type: one entry that matches nobody gives it one.
                for node_id, mark in (marks or {"": Watermark(EARLIEST, EARLIEST)}).items()
            ],
        ),
    ]
    with sentences(settings):
        job = warehouse.queries.query(
            query,
            job_config=bigquery.QueryJobConfig(
                query_parameters=parameters, maximum_bytes_billed=settings.bigquery_maximum_bytes_billed
            ),
            timeout=warehouse.timeout,
            retry=warehouse.retry,
            job_retry=None,
        )
        rows = list(job.result(timeout=warehouse.timeout, retry=warehouse.retry))

    news: list[NodeNews] = []
    rejected: Counter[str] = Counter()
    overlap = timedelta(hours=settings.late_arrival_hours)
    for row in rows:
        rejected["timestamp_before_2000"] += row.ancient
        rejected["timestamp_in_future"] += row.future
        if row.node_id is None or not row.node_id.strip():
            rejected["empty_node_id"] += row.readings
        elif row.readings:
            mark = marks.get(row.node_id)
            if mark is None:
                read_from = row.first_reading
            elif row.first_late or row.first_new or row.latest_arrival is None:
                read_from = min(filter(None, (mark.last_reading - overlap, row.first_late, row.first_new)))
            else:
                continue
            news.append(NodeNews(row.node_id, max(read_from, row.first_reading), row.readings, row.latest_arrival))
    return sorted(news, key=lambda n: (n.read_from, n.node_id)), +rejected
