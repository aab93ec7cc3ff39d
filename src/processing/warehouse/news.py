"""What is new in the warehouse: bounded queries say which nodes to read, and from when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from google.cloud import bigquery

from src.domain.metrics import LEAD_DAYS
from src.domain.names import MOST_CHARACTERS, problem_of_name, problem_of_text
from src.domain.readings import EARLIEST
from src.processing.warehouse.client import Warehouse, run_query, sentences
from src.processing.warehouse.marks import KNOWN, Portion, Watermark, portions
from src.settings import Settings

_scalar = bigquery.ScalarQueryParameter
# What the readings may say about the node itself; a warehouse need not have these columns.
_DESCRIPTION = ("node_name", "node_type", "district_id")
# A job reads whole local days, and the days before them: with the zone's offset, so much before its beginning.
_BEFORE = timedelta(days=LEAD_DAYS + 1)
# Names that hold something other than blanks; what a name may be is said in `domain.names`, and checked there.
_NOT_BLANK = r"r'[^\s\pZ\x{85}\x{1c}-\x{1f}]'"


@dataclass(frozen=True)
class NodeNews:
    """Readings of one node that a job must take in.

    Attributes:
        read_from: all readings from this instant on.
        readings: about how many these are, with those of the day before.
        latest_arrival: of everything then taken in; None where rows are never stamped.
        recent_rows: how many of them arrived within the margin up to `latest_arrival`.
        districts: which its rows are stored under, "" for those without one; None where the table knows no districts.
    """

    node_id: str
    read_from: datetime
    readings: int
    latest_arrival: datetime | None = None
    recent_rows: int = 0
    districts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class News:
    """What the warehouse holds that is not taken in.

    Attributes:
        nodes: those with readings to take in.
        rejected: how many rows belong to no node or no time, and what is told of nodes but cannot be stored, by reason.
        unknown: what the readings tell of nodes that have no watermark.
        fewer: nodes with nothing new, of whose recent rows some are out of sight by now: how many are left.
        bytes_read: what finding out processed.
    """

    nodes: list[NodeNews] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    unknown: dict[str, dict[str, str]] = field(default_factory=dict)
    fewer: dict[str, int] = field(default_factory=dict)
    bytes_read: int = 0


@dataclass(frozen=True)
class _Asked:
    """What a query for news is about: timely are the instants of [since, as_of]."""

    since: datetime
    as_of: datetime
    overlap: timedelta
    margin_minutes: int
    # Nothing older is ever read: what the query sees of a node without a watermark is all there is.
    whole: bool
    # The table's columns that describe a node, by our name.
    columns: Mapping[str, str]


def find_news(
    warehouse: Warehouse, settings: Settings, marks: Mapping[str, Watermark], as_of: datetime, keep_from: datetime
) -> News:
    """The nodes with readings not yet taken in.

    A node is read again from LATE_ARRIVAL_HOURS before its watermark, and from further back, up to
    LATE_ARRIVAL_LOOKBACK_DAYS, where a row arrived since. A row may become visible after others that arrived later:
    where more rows than were counted lie within LATE_ARRIVAL_MARGIN_MINUTES before the latest arrival, all of those
    are read again. Nodes never seen, and those silent for longer than the lookback, are read from their first reading
    that is not yet taken in. A node whose first load was interrupted is read again from the lookback on.

    Args:
        marks: node_id -> its watermark.
        as_of: later readings wait for their time to come.
        keep_from: older readings are beyond retention and not read.

    Raises:
        WarehouseError: with a sentence that says what to do.
    """
    lookback = timedelta(days=settings.late_arrival_lookback_days)
    keep_from = max(EARLIEST, keep_from)
    # Counted from the newest watermark, so that a service that was down for months misses nothing.
    newest = max((mark.last_row for mark in marks.values()), default=None)
    since = max(keep_from, newest - lookback) if newest else keep_from
    asked = _Asked(
        since,
        as_of,
        timedelta(hours=settings.late_arrival_hours),
        settings.late_arrival_margin_minutes,
        since <= keep_from,
        _descriptions(warehouse, settings),
    )
    rejected: Counter[str] = Counter()
    unknown: dict[str, dict[str, str]] = {}
    fewer: dict[str, int] = {}
    news: list[NodeNews] = []
    distant: dict[str, Watermark] = {}
    bytes_read = 0
    for portion in portions(marks):
        rows, processed = _recent(warehouse, settings, portion, asked)
        bytes_read += processed
        for row in rows:
            rejected["timestamp_before_2000"] += row.ancient
            rejected["timestamp_in_future"] += row.future
            rejected["empty_node_id"] += row.blank
            rejected["invalid_node_id"] += row.invalid
            if row.node_id is None:
                continue
            if problem_of_name(row.node_id):
                rejected["invalid_node_id"] += row.readings
                continue
            mark = marks.get(row.node_id)
            if mark is None or mark.last_row < since:
                if asked.whole:
                    news.append(_of(row, row.first_reading, row.readings))
                    if mark is None:
                        unknown[row.node_id] = _description(row, rejected)
                else:
                    distant[row.node_id] = mark or Watermark(EARLIEST - timedelta(microseconds=1), None)
            elif (found := _again(row, mark, asked)) is not None:
                news.append(found)
            else:
                fewer[row.node_id] = row.recent_now
    if distant:
        for portion in portions(distant):
            rows, processed = _whole_past(warehouse, settings, portion, asked, keep_from)
            bytes_read += processed
            for row in rows:
                news.append(_of(row, row.first_reading, row.readings))
                if row.node_id not in marks:
                    unknown[row.node_id] = _description(row, rejected)
    return News(sorted(news, key=lambda n: (n.read_from, n.node_id)), +rejected, unknown, fewer, bytes_read)


def _again(row: Any, mark: Watermark, asked: _Asked) -> NodeNews | None:
    """What to read of a node that was read before; None where nothing is new."""
    if mark.last_arrival is None and row.latest_arrival:
        # A first load that was interrupted: nobody can tell what has arrived since its rows were read.
        return _of(row, asked.since, row.readings)
    uncounted = row.first_recent if row.recent_now > (mark.recent_rows or 0) else None
    if not (row.first_late or row.first_new or uncounted or row.latest_arrival is None):
        return None
    near = mark.last_row - asked.overlap
    read_from = max(asked.since, min(filter(None, (near, row.first_late, row.first_new, uncounted))))
    # Of the days before the near ones, as many readings as their share of the time.
    before = max((near - _BEFORE - asked.since) / timedelta(days=1), 0.0)
    share = min(max((near - read_from) / timedelta(days=1) / before, 0.0), 1.0) if before else 1.0
    return _of(row, read_from, row.near + round(share * (row.readings - row.near)))


def _of(row: Any, read_from: datetime, readings: int) -> NodeNews:
    return NodeNews(
        row.node_id,
        read_from,
        readings,
        row.arrived_until,
        row.recent_rows,
        _districts(row),
    )


def _districts(row: Any) -> tuple[str, ...] | None:
    """Where the rows are stored; None where that is not known, or cannot be kept until they are read."""
    districts = row.get("districts")
    return None if districts is None or any(map(problem_of_text, districts)) else tuple(sorted(districts))


def _description(row: Any, rejected: Counter[str]) -> dict[str, str]:
    """What the readings tell of a node, without what cannot be stored."""
    description = {name: row[name] for name in _DESCRIPTION if row.get(name)}
    for name in [name for name, text in description.items() if problem_of_name(text)]:
        rejected[f"invalid_{name}"] += 1
        del description[name]
    return description


def readings_between(
    warehouse: Warehouse, settings: Settings, node_ids: Collection[str], start: datetime, end: datetime
) -> tuple[list[NodeNews], Counter[str], int]:
    """The nodes with readings in [start, end), all of them or (where any are named) those of `node_ids`.

    Returns:
        The nodes, to be read from `start` on; how many rows belong to no node, by reason; the bytes processed.
    """
    node, instant, _ = _names(settings)
    district = _descriptions(warehouse, settings).get("district_id")
    query = f"""
        SELECT {node} AS node_id, COUNTIF({instant} >= @start) AS readings
            {f", ARRAY_AGG(DISTINCT IFNULL({district}, '')) AS districts" if district else ""}
        FROM `{_table(settings)}`
        WHERE {instant} >= @lead AND {instant} < @end AND ({node} IN UNNEST(@node_ids) OR @every_node)
        GROUP BY {node}
    """  # noqa: S608
    parameters = [
        _scalar("lead", "TIMESTAMP", start - _BEFORE),
        _scalar("start", "TIMESTAMP", start),
        _scalar("end", "TIMESTAMP", end),
        _scalar("every_node", "BOOL", not node_ids),
        bigquery.ArrayQueryParameter("node_ids", "STRING", list(node_ids)),
    ]
    rows, bytes_read = run_query(warehouse, settings, query, parameters)
    found: list[NodeNews] = []
    rejected: Counter[str] = Counter()
    for row in rows:
        if not (row.node_id or "").strip():
            rejected["empty_node_id"] += row.readings
        elif problem_of_name(row.node_id):
            rejected["invalid_node_id"] += row.readings
        elif row.readings:
            found.append(NodeNews(row.node_id, start, row.readings, districts=_districts(row)))
    return sorted(found, key=lambda n: n.node_id), +rejected, bytes_read


def _recent(warehouse: Warehouse, settings: Settings, portion: Portion, asked: _Asked) -> tuple[Iterable[Any], int]:
    """A row for each node with news, and one (without a node_id) that counts what the others hold."""
    node, instant, arrival = _names(settings)
    described = asked.columns if asked.whole else {}
    description = "".join(
        f", reading.{column} AS {name}" for name, column in described.items() if name != "district_id"
    )
    if district := asked.columns.get("district_id"):
        description += f", reading.{district} AS district_id"
    grouped = "".join(f", MAX({name}) AS {name}" for name in described)
    grouped += ", ARRAY_AGG(DISTINCT IFNULL(district_id, '')) AS districts" if district else ""
    kept = [*described, *(["districts"] if district else [])]
    # Only identifiers that Settings has validated stand in the text; every value is a typed parameter.
    query = rf"""
        WITH known AS ({KNOWN}),
        seen AS (
            SELECT reading.{node} AS node_id, reading.{instant} AS instant, reading.{arrival} AS arrival{description},
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
            SUM(future) AS future, {", ".join(f"ANY_VALUE({name}) AS {name}" for name in (*_PER_NODE, *kept))}
        FROM judged GROUP BY with_news
    """  # noqa: S608
    near = asked.overlap + _BEFORE
    parameters = [
        bigquery.ArrayQueryParameter("marks", "STRING", portion.entries),
        _scalar("first", "STRING", portion.first),
        _scalar("end", "STRING", portion.end),
        _scalar("earliest", "TIMESTAMP", EARLIEST),
        _scalar("lead", "TIMESTAMP", max(EARLIEST, asked.since - _BEFORE)),
        _scalar("since", "TIMESTAMP", asked.since),
        _scalar("as_of", "TIMESTAMP", asked.as_of),
        _scalar("margin", "INT64", asked.margin_minutes),
        _scalar("near_minutes", "INT64", int(near / timedelta(minutes=1))),
        _scalar("most_characters", "INT64", MOST_CHARACTERS),
    ]
    return run_query(warehouse, settings, query, parameters)


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
)


def _whole_past(
    warehouse: Warehouse, settings: Settings, portion: Portion, asked: _Asked, keep_from: datetime
) -> tuple[Iterable[Any], int]:
    """Per node its readings after the mark's last row, however long ago, and what they say about the node."""
    node, instant, arrival = _names(settings)
    described = "".join(f", reading.{column} AS {name}" for name, column in asked.columns.items())
    grouped = "".join(f", MAX({name}) AS {name}" for name in asked.columns)
    if "district_id" in asked.columns:
        grouped += ", ARRAY_AGG(DISTINCT IFNULL(district_id, '')) AS districts"
    # Counted as recent is what the next search for news sees, too.
    query = f"""
        WITH known AS ({KNOWN}),
        seen AS (
            SELECT reading.{node} AS node_id, reading.{instant} AS instant, reading.{arrival} AS arrival{described},
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
        _scalar("keep_from", "TIMESTAMP", keep_from),
        _scalar("lead", "TIMESTAMP", max(EARLIEST, keep_from - _BEFORE)),
        _scalar("since", "TIMESTAMP", asked.since),
        _scalar("as_of", "TIMESTAMP", asked.as_of),
        _scalar("margin", "INT64", asked.margin_minutes),
    ]
    return run_query(warehouse, settings, query, parameters)


def _descriptions(warehouse: Warehouse, settings: Settings) -> dict[str, str]:
    """Those columns that describe a node which the table has, by our name."""
    with sentences(settings):
        table = warehouse.queries.get_table(_table(settings), retry=warehouse.retry, timeout=warehouse.timeout)
    present = {column.name for column in table.schema}
    columns = {name: settings.bigquery_columns.get(name, name) for name in _DESCRIPTION}
    return {name: column for name, column in columns.items() if column in present}


def _names(settings: Settings) -> tuple[str, str, str]:
    node, instant, arrival = (
        settings.bigquery_columns.get(name, name) for name in ("node_id", "timestamp", "ingestion_timestamp")
    )
    return node, instant, arrival


def _table(settings: Settings) -> str:
    return f"{settings.bigquery_project_id}.{settings.bigquery_dataset_id}.{settings.bigquery_table}"
