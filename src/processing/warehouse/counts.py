"""Questions to the warehouse about what it holds, node by node: counts and instants, never readings."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from google.cloud import bigquery

from src.domain.names import MOST_CHARACTERS
from src.domain.readings import EARLIEST
from src.domain.vouching import LEAD_DAYS
from src.processing.warehouse.client import Warehouse, run_query, sentences
from src.processing.warehouse.marks import KNOWN, Portion
from src.settings import Settings

_scalar = bigquery.ScalarQueryParameter
# What the readings may state about the node itself; a warehouse need not have these columns.
DESCRIPTION = ("node_name", "node_type", "district_id")
# A job reads whole local days, and the days before them: with the zone's offset, so much before its beginning.
BEFORE = timedelta(days=LEAD_DAYS + 1)
# Names that hold something other than blanks; what a name may be is defined and checked in `domain.names`.
_NOT_BLANK = r"r'[^\s\pZ\x{85}\x{1c}-\x{1f}]'"


@dataclass(frozen=True)
class Question:
    """What a look at the warehouse covers: timely are the instants of [since, as_of].

    Attributes:
        whole: nothing older than `since` is ever read: what is seen of a node without a watermark is all there is.
        columns: the table's columns that describe a node, by our name.
    """

    since: datetime
    as_of: datetime
    overlap: timedelta
    margin_minutes: int
    whole: bool
    columns: Mapping[str, str]


_PER_NODE = (
    "readings",
    "near",
    "first_reading",
    "first_late",
    "first_new",
    "first_recent",
    "recent_now",
    "recent_rows",
    "latest_arrival",
    "arrived_until",
    "unstamped",
)


def count_recent(
    warehouse: Warehouse, settings: Settings, portion: Portion, question: Question
) -> tuple[Iterable[Any], int]:
    """A row for each node with news, and one (without a node_id) that counts what the others hold."""
    node, instant, arrival = _names(settings)
    described = question.columns if question.whole else {}
    description = "".join(
        f", reading.{column} AS {name}" for name, column in described.items() if name != "district_id"
    )
    if district := question.columns.get("district_id"):
        description += f", reading.{district} AS district_id"
    grouped = "".join(f", MAX({name}) AS {name}" for name in described)
    grouped += ", ARRAY_AGG(DISTINCT IFNULL(district_id, '')) AS districts" if district else ""
    per_node = [*_PER_NODE, *described, *(["districts"] if district else [])]
    # Only identifiers that Settings has validated stand in the text; every value is a typed parameter.
    query = rf"""
        WITH known AS ({KNOWN}),
        seen AS (
            SELECT reading.{node} AS node_id, reading.{instant} AS instant, {_stamp(arrival)} AS arrival{description},
                known.last_row, known.last_arrival, known.recent_then,
                reading.{instant} >= @since AND reading.{instant} <= @as_of AS timely,
                IFNULL(REGEXP_CONTAINS(reading.{node}, {_NOT_BLANK}), FALSE) AS named,
                IFNULL(CHAR_LENGTH(reading.{node}) <= @most_characters
                    AND NOT REGEXP_CONTAINS(reading.{node}, r'\x00'), FALSE) AS storable
            FROM `{_table(settings)}` AS reading LEFT JOIN known ON known.known_id = reading.{node}
            WHERE (reading.{instant} >= @lead OR reading.{instant} < @earliest)
                AND (@first IS NULL OR reading.{node} >= @first)
                AND (@end IS NULL OR reading.{node} < @end OR reading.{node} IS NULL AND @first IS NULL)
        ),
        placed AS (
            SELECT *, GREATEST(MAX(IF(timely, arrival, NULL)) OVER (PARTITION BY node_id), IFNULL(
                last_arrival, MAX(IF(timely, arrival, NULL)) OVER (PARTITION BY node_id))) AS arrived_until
            FROM seen
        ),
        nodes AS (
            SELECT node_id{grouped},
                LOGICAL_AND(named AND storable) AS sound,
                COUNTIF(timely AND NOT named) AS blank,
                COUNTIF(timely AND named AND NOT storable) AS invalid,
                COUNTIF(instant < @earliest) AS ancient,
                COUNTIF(instant > @as_of) AS future,
                COUNTIF(timely) AS readings,
                COUNTIF(timely AND instant >= TIMESTAMP_SUB(last_row, INTERVAL @near_minutes MINUTE)) AS near,
                MIN(IF(timely, instant, NULL)) AS first_reading,
                MIN(IF(timely AND arrival > last_arrival, instant, NULL)) AS first_late,
                MIN(IF(timely AND instant > last_row, instant, NULL)) AS first_new,
                MIN(IF(timely AND arrival <= last_arrival
                    AND arrival > TIMESTAMP_SUB(last_arrival, INTERVAL @margin MINUTE), instant, NULL)) AS first_recent,
                COUNTIF(timely AND arrival <= last_arrival
                    AND arrival > TIMESTAMP_SUB(last_arrival, INTERVAL @margin MINUTE)) AS recent_now,
                COUNTIF(timely AND arrival <= arrived_until
                    AND arrival > TIMESTAMP_SUB(arrived_until, INTERVAL @margin MINUTE)) AS recent_rows,
                MAX(IF(timely, arrival, NULL)) AS latest_arrival,
                COUNTIF(timely AND arrival IS NULL) AS unstamped,
                MAX(arrived_until) AS arrived_until,
                MAX(last_row) AS last_row, MAX(last_arrival) AS last_arrival, MAX(recent_then) AS recent_then
            FROM placed GROUP BY node_id
        ),
        judged AS (
            SELECT *, IF(sound AND readings > 0 AND (last_row IS NULL OR last_row < @since OR last_arrival IS NULL
                OR latest_arrival IS NULL OR first_late IS NOT NULL OR first_new IS NOT NULL
                OR recent_now != IFNULL(recent_then, -1)), node_id, NULL) AS with_news
            FROM nodes
        )
        SELECT with_news AS node_id, SUM(blank) AS blank, SUM(invalid) AS invalid, SUM(ancient) AS ancient,
            SUM(future) AS future, {", ".join(f"ANY_VALUE({name}) AS {name}" for name in per_node)}
        FROM judged GROUP BY with_news
    """  # noqa: S608
    near = question.overlap + BEFORE
    parameters = [
        bigquery.ArrayQueryParameter("marks", "STRING", portion.entries),
        _scalar("first", "STRING", portion.first),
        _scalar("end", "STRING", portion.end),
        _scalar("earliest", "TIMESTAMP", EARLIEST),
        _scalar("lead", "TIMESTAMP", max(EARLIEST, question.since - BEFORE)),
        _scalar("since", "TIMESTAMP", question.since),
        _scalar("as_of", "TIMESTAMP", question.as_of),
        _scalar("margin", "INT64", question.margin_minutes),
        _scalar("near_minutes", "INT64", int(near / timedelta(minutes=1))),
        _scalar("most_characters", "INT64", MOST_CHARACTERS),
    ]
    return run_query(warehouse, settings, query, parameters)


def count_past(
    warehouse: Warehouse, settings: Settings, portion: Portion, question: Question, keep_from: datetime
) -> tuple[Iterable[Any], int]:
    """Per node its readings after the mark's last row, however long ago, and how they describe the node."""
    node, instant, arrival = _names(settings)
    described = "".join(f", reading.{column} AS {name}" for name, column in question.columns.items())
    grouped = "".join(f", MAX({name}) AS {name}" for name in question.columns)
    if "district_id" in question.columns:
        grouped += ", ARRAY_AGG(DISTINCT IFNULL(district_id, '')) AS districts"
    # Counted as recent is what the next search for news sees, too.
    query = f"""
        WITH known AS ({KNOWN}),
        seen AS (
            SELECT reading.{node} AS node_id, reading.{instant} AS instant, {_stamp(arrival)} AS arrival{described},
                reading.{instant} >= @keep_from AND reading.{instant} > known.last_row AS unread
            FROM `{_table(settings)}` AS reading JOIN known ON known.known_id = reading.{node}
            WHERE reading.{instant} >= @lead AND reading.{instant} <= @as_of
        ),
        placed AS (SELECT *, MAX(IF(unread, arrival, NULL)) OVER (PARTITION BY node_id) AS arrived_until FROM seen)
        SELECT node_id, COUNTIF(unread) AS readings, MIN(IF(unread, instant, NULL)) AS first_reading,
            MAX(arrived_until) AS arrived_until,
            COUNTIF(unread AND instant >= @since
                AND arrival > TIMESTAMP_SUB(arrived_until, INTERVAL @margin MINUTE)) AS recent_rows{grouped}
        FROM placed GROUP BY node_id HAVING readings > 0
    """  # noqa: S608
    parameters = [
        bigquery.ArrayQueryParameter("marks", "STRING", portion.entries),
        _scalar("earliest", "TIMESTAMP", EARLIEST),
        _scalar("keep_from", "TIMESTAMP", keep_from),
        _scalar("lead", "TIMESTAMP", max(EARLIEST, keep_from - BEFORE)),
        _scalar("since", "TIMESTAMP", question.since),
        _scalar("as_of", "TIMESTAMP", question.as_of),
        _scalar("margin", "INT64", question.margin_minutes),
    ]
    return run_query(warehouse, settings, query, parameters)


def count_between(
    warehouse: Warehouse, settings: Settings, node_ids: Collection[str], start: datetime, end: datetime
) -> tuple[Iterable[Any], int]:
    """A row for each node with readings in [start, end) or in the days before: how many of the former it has.

    Args:
        node_ids: those looked at; none named: all.

    Returns:
        Rows of node_id, readings and (where the table knows districts) districts; the bytes processed.
    """
    node, instant, _ = _names(settings)
    district = descriptions(warehouse, settings).get("district_id")
    query = f"""
        SELECT {node} AS node_id, COUNTIF({instant} >= @start) AS readings
            {f", ARRAY_AGG(DISTINCT IFNULL({district}, '')) AS districts" if district else ""}
        FROM `{_table(settings)}`
        WHERE {instant} >= @lead AND {instant} < @end AND ({node} IN UNNEST(@node_ids) OR @every_node)
        GROUP BY {node}
    """  # noqa: S608
    parameters = [
        _scalar("lead", "TIMESTAMP", start - BEFORE),
        _scalar("start", "TIMESTAMP", start),
        _scalar("end", "TIMESTAMP", end),
        _scalar("every_node", "BOOL", not node_ids),
        bigquery.ArrayQueryParameter("node_ids", "STRING", list(node_ids)),
    ]
    return run_query(warehouse, settings, query, parameters)


def _stamp(arrival: str) -> str:
    """When a row arrived; unknown where that was never stamped, and as long as the stamp lies in the future: a loader's
    clock that runs ahead must not make what comes after it look old."""
    return f"IF(reading.{arrival} BETWEEN @earliest AND @as_of, reading.{arrival}, NULL)"


def descriptions(warehouse: Warehouse, settings: Settings) -> dict[str, str]:
    """Those columns that describe a node which the table has, by our name."""
    with sentences(settings):
        table = warehouse.queries.get_table(_table(settings), retry=warehouse.retry, timeout=warehouse.timeout)
    present = {column.name for column in table.schema}
    columns = {name: settings.bigquery_columns.get(name, name) for name in DESCRIPTION}
    return {name: column for name, column in columns.items() if column in present}


def _names(settings: Settings) -> tuple[str, str, str]:
    node, instant, arrival = (
        settings.bigquery_columns.get(name, name) for name in ("node_id", "timestamp", "ingestion_timestamp")
    )
    return node, instant, arrival


def _table(settings: Settings) -> str:
    return f"{settings.bigquery_project_id}.{settings.bigquery_dataset_id}.{settings.bigquery_table}"
