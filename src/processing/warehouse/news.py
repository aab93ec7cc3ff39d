"""What is new in the warehouse: bounded queries say which nodes to read, and from when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from google.cloud import bigquery

from src.domain.readings import EARLIEST
from src.processing.warehouse.client import Warehouse, sentences
from src.settings import Settings

_scalar = bigquery.ScalarQueryParameter
# What the readings may say about the node itself; a warehouse need not have these columns.
_DESCRIPTION = ("node_name", "node_type", "district_id")


@dataclass(frozen=True)
class Watermark:
    """The last row of a node taken in, valid or not, and the latest arrival among them (None: never stamped)."""

    last_row: datetime
    last_arrival: datetime | None


@dataclass(frozen=True)
class NodeNews:
    """Readings of one node that a job must take in: all from `read_from` on, about `readings` in number."""

    node_id: str
    read_from: datetime
    readings: int
    latest_arrival: datetime | None


@dataclass(frozen=True)
class News:
    """`rejected` counts rows that belong to no node or no time; `unknown` describes nodes that have no watermark."""

    nodes: list[NodeNews]
    rejected: Counter[str]
    unknown: dict[str, dict[str, str]]


def find_news(
    warehouse: Warehouse, settings: Settings, marks: Mapping[str, Watermark], as_of: datetime, keep_from: datetime
) -> News:
    """The nodes with readings not yet taken in.

    A node is read again from LATE_ARRIVAL_HOURS before its watermark, and from further back, up to
    LATE_ARRIVAL_LOOKBACK_DAYS, where a row arrived since. Nodes never seen, and those silent for longer than the
    lookback, are read from their first reading that is not yet taken in. A node whose first load was interrupted is
    read again from the lookback on.

    Args:
        marks: node_id -> its watermark.
        as_of: later readings wait for their time to come.
        keep_from: older readings are beyond retention and not read.

    Raises:
        WarehouseError: with a sentence that says what to do.
    """
    lookback = timedelta(days=settings.late_arrival_lookback_days)
    overlap = timedelta(hours=settings.late_arrival_hours)
    # Counted from the newest watermark, so that a service that was down for months misses nothing.
    newest = max((mark.last_row for mark in marks.values()), default=None)
    since = max(EARLIEST, keep_from, newest - lookback) if newest else max(EARLIEST, keep_from)
    rejected: Counter[str] = Counter()
    news: list[NodeNews] = []
    distant: dict[str, datetime] = {}
    for row in _recent(warehouse, settings, marks, as_of, since, overlap):
        rejected["timestamp_before_2000"] += row.ancient
        rejected["timestamp_in_future"] += row.future
        if row.node_id is None or not row.node_id.strip():
            rejected["empty_node_id"] += row.readings
            continue
        mark = marks.get(row.node_id)
        if not row.readings:
            continue
        if mark is None or mark.last_row < since:
            distant[row.node_id] = mark.last_row if mark else EARLIEST - timedelta(microseconds=1)
        elif mark.last_arrival is None and row.latest_arrival:
            # A first load that was interrupted: nobody can tell what has arrived since its rows were read.
            news.append(NodeNews(row.node_id, since, row.readings, row.latest_arrival))
        elif row.first_late or row.first_new or row.latest_arrival is None:
            read_from = min(filter(None, (mark.last_row - overlap, row.first_late, row.first_new)))
            count = row.readings if row.first_late and row.first_late < mark.last_row - overlap else row.near
            news.append(NodeNews(row.node_id, max(read_from, keep_from), count, row.latest_arrival))
    unknown: dict[str, dict[str, str]] = {}
    if distant:
        for row in _whole_past(warehouse, settings, distant, as_of, keep_from):
            news.append(NodeNews(row.node_id, row.first_reading, row.readings, row.latest_arrival))
            if row.node_id not in marks:
                unknown[row.node_id] = {name: row[name] for name in _DESCRIPTION if row.get(name)}
    return News(sorted(news, key=lambda n: (n.read_from, n.node_id)), +rejected, unknown)


def readings_between(
    warehouse: Warehouse, settings: Settings, node_ids: Collection[str], start: datetime, end: datetime
) -> list[NodeNews]:
    """The nodes with readings in [start, end), all of them or (where any are named) those of `node_ids`."""
    node, instant, arrival = _names(settings)
    query = f"""
        SELECT {node} AS node_id, COUNT(*) AS readings, MIN({instant}) AS first_reading,
            MAX({arrival}) AS latest_arrival
        FROM `{_table(settings)}`
        WHERE {instant} >= @start AND {instant} < @end AND ({node} IN UNNEST(@node_ids) OR @every_node)
        GROUP BY {node}
    """  # noqa: S608
    parameters = [
        _scalar("start", "TIMESTAMP", start),
        _scalar("end", "TIMESTAMP", end),
        _scalar("every_node", "BOOL", not node_ids),
        bigquery.ArrayQueryParameter("node_ids", "STRING", list(node_ids)),
    ]
    rows = _rows(warehouse, settings, query, parameters)
    return sorted(
        (NodeNews(r.node_id, r.first_reading, r.readings, r.latest_arrival) for r in rows if (r.node_id or "").strip()),
        key=lambda n: n.node_id,
    )


def _recent(
    warehouse: Warehouse,
    settings: Settings,
    marks: Mapping[str, Watermark],
    as_of: datetime,
    since: datetime,
    overlap: timedelta,
) -> Iterable[Any]:
    node, instant, arrival = _names(settings)
    timely = f"{instant} >= @since AND {instant} <= @as_of"
    # Only identifiers that Settings has validated stand in the text; every value is a typed parameter.
    query = f"""
        SELECT {node} AS node_id,
            COUNTIF({timely}) AS readings,
            COUNTIF({timely} AND {instant} >= mark.near_from) AS near,
            MIN(IF({timely} AND {arrival} > mark.last_arrival, {instant}, NULL)) AS first_late,
            MIN(IF({timely} AND {instant} > mark.last_row, {instant}, NULL)) AS first_new,
            MAX(IF({timely}, {arrival}, NULL)) AS latest_arrival,
            COUNTIF({instant} < @earliest) AS ancient,
            COUNTIF({instant} > @as_of) AS future
        FROM `{_table(settings)}` AS reading
        LEFT JOIN UNNEST(@marks) AS mark ON mark.known_id = reading.{node}
        WHERE {instant} >= @since OR {instant} < @earliest
        GROUP BY {node}
    """  # noqa: S608
    # A job reads whole local days, and the day before them.
    margin = overlap + timedelta(days=2)
    parameters = [
        _scalar("earliest", "TIMESTAMP", EARLIEST),
        _scalar("since", "TIMESTAMP", since),
        _scalar("as_of", "TIMESTAMP", as_of),
        bigquery.ArrayQueryParameter(
            "marks",
            "STRUCT",
            [
                bigquery.StructQueryParameter(
                    None,
                    _scalar("known_id", "STRING", node_id),
                    _scalar("last_row", "TIMESTAMP", mark.last_row),
                    _scalar("near_from", "TIMESTAMP", mark.last_row - margin),
                    _scalar("last_arrival", "TIMESTAMP", mark.last_arrival),
                )
                # An empty array of structures has no type: one entry that matches nobody gives it one.
                for node_id, mark in (marks or {"": Watermark(EARLIEST, EARLIEST)}).items()
            ],
        ),
    ]
    return _rows(warehouse, settings, query, parameters)


def _whole_past(
    warehouse: Warehouse, settings: Settings, after: Mapping[str, datetime], as_of: datetime, keep_from: datetime
) -> Iterable[Any]:
    """Per node its readings after the given instant, however long ago, and what they say about the node."""
    node, instant, arrival = _names(settings)
    with sentences(settings):
        table = warehouse.queries.get_table(_table(settings), retry=warehouse.retry, timeout=warehouse.timeout)
    present = {column.name for column in table.schema}
    described = {name: settings.bigquery_columns.get(name, name) for name in _DESCRIPTION}
    description = "".join(f", MAX({column}) AS {name}" for name, column in described.items() if column in present)
    query = f"""
        SELECT {node} AS node_id, COUNT(*) AS readings, MIN({instant}) AS first_reading,
            MAX({arrival}) AS latest_arrival{description}
        FROM `{_table(settings)}` AS reading
        JOIN UNNEST(@distant) AS known ON known.known_id = reading.{node}
        WHERE {instant} >= @keep_from AND {instant} <= @as_of AND {instant} > known.after
        GROUP BY {node}
    """  # noqa: S608
    parameters = [
        _scalar("keep_from", "TIMESTAMP", max(EARLIEST, keep_from)),
        _scalar("as_of", "TIMESTAMP", as_of),
        bigquery.ArrayQueryParameter(
            "distant",
            "STRUCT",
            [
                bigquery.StructQueryParameter(
                    None, _scalar("known_id", "STRING", node_id), _scalar("after", "TIMESTAMP", instant)
                )
                for node_id, instant in after.items()
            ],
        ),
    ]
    return _rows(warehouse, settings, query, parameters)


def _names(settings: Settings) -> tuple[str, str, str]:
    node, instant, arrival = (
        settings.bigquery_columns.get(name, name) for name in ("node_id", "timestamp", "ingestion_timestamp")
    )
    return node, instant, arrival


def _table(settings: Settings) -> str:
    return f"{settings.bigquery_project_id}.{settings.bigquery_dataset_id}.{settings.bigquery_table}"


def _rows(warehouse: Warehouse, settings: Settings, query: str, parameters: list[Any]) -> Iterable[Any]:
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
        return list(job.result(timeout=warehouse.timeout, retry=warehouse.retry))
