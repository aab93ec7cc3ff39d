"""What is new in the warehouse: bounded queries find which nodes to read, and from when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from src.domain.names import problem_of_name, problem_of_text
from src.domain.readings import EARLIEST
from src.domain.vouching import LAG_DAYS
from src.processing.warehouse.client import Warehouse, WarehouseError
from src.processing.warehouse.counts import (
    BEFORE,
    DESCRIPTION,
    Question,
    count_between,
    count_past,
    count_recent,
    descriptions,
)
from src.processing.warehouse.marks import Watermark, portions
from src.settings import Settings


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
        rejected: how many rows belong to no node or no time, and nodes whose description cannot be stored, by reason.
        unknown: how the readings describe nodes that have no watermark.
        fewer: nodes with nothing new, of whose recent rows some are out of sight by now: how many are left.
        bytes_read: what finding out processed.
        problem: why some nodes could not be looked up.
    """

    nodes: list[NodeNews] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)
    unknown: dict[str, dict[str, str]] = field(default_factory=dict)
    fewer: dict[str, int] = field(default_factory=dict)
    bytes_read: int = 0
    problem: str | None = None


def find_news(
    warehouse: Warehouse, settings: Settings, marks: Mapping[str, Watermark], as_of: datetime, keep_from: datetime
) -> News:
    """The nodes with readings not yet taken in.

    A node is read again from the row before the first that arrived since (that one shows how long the value
    before held, and since when its volume was counted), up to LATE_ARRIVAL_LOOKBACK_DAYS back; where rows are
    not stamped, from LATE_ARRIVAL_HOURS before its watermark. A row may become visible after others that arrived later:
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
    # A clock that ran ahead, ours or a loader's, hides nothing that comes after it was put right.
    marks = {node_id: mark.until(as_of) for node_id, mark in marks.items()}
    keep_from = max(EARLIEST, keep_from)
    # Counted from the newest watermark, so that a service that was down for months misses nothing.
    newest = max((mark.last_row for mark in marks.values()), default=None)
    since = max(keep_from, newest - lookback) if newest else keep_from
    question = Question(
        since,
        as_of,
        timedelta(hours=settings.late_arrival_hours),
        settings.late_arrival_margin_minutes,
        since <= keep_from,
        descriptions(warehouse, settings),
    )
    rejected: Counter[str] = Counter()
    unknown: dict[str, dict[str, str]] = {}
    fewer: dict[str, int] = {}
    news: list[NodeNews] = []
    distant: dict[str, Watermark] = {}
    bytes_read = 0
    problem: str | None = None
    for portion in portions(marks):
        rows, processed = count_recent(warehouse, settings, portion, question)
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
                if question.whole:
                    news.append(_of(row, row.first_reading, row.readings))
                    if mark is None:
                        unknown[row.node_id] = _description(row, rejected)
                else:
                    distant[row.node_id] = mark or Watermark(EARLIEST - timedelta(microseconds=1), None)
            elif (found := _again(row, mark, question)) is not None:
                news.append(found)
            else:
                fewer[row.node_id] = row.recent_now
    if distant:
        for portion in portions(distant):
            try:
                rows, processed = count_past(warehouse, settings, portion, question, keep_from)
            except WarehouseError as error:
                # The nodes of every day do not wait for those that were not seen for long.
                problem = f"{len(distant)} nodes with an unknown past were left out: {error}"
                break
            bytes_read += processed
            for row in rows:
                news.append(_of(row, row.first_reading, row.readings))
                if row.node_id not in marks:
                    unknown[row.node_id] = _description(row, rejected)
    return News(sorted(news, key=lambda n: (n.read_from, n.node_id)), +rejected, unknown, fewer, bytes_read, problem)


def _again(row: Any, mark: Watermark, question: Question) -> NodeNews | None:
    """What to read of a node that was read before; None where nothing is new."""
    if mark.last_arrival is None and row.latest_arrival:
        # A first load that was interrupted: nobody knows what has arrived since its rows were read.
        return _of(row, question.since, row.readings)
    uncounted = row.first_recent if row.recent_now > (mark.recent_rows or 0) else None
    if not (row.first_late or row.first_new or uncounted or row.latest_arrival is None):
        return None
    near = mark.last_row - question.overlap
    # Stamps show what is new; rows without them must be read again.
    first = min(filter(None, [row.first_late, row.first_new, uncounted]), default=None)
    again = [near] if row.unstamped or first is None else []
    read_from = max(question.since, min([*again, *([_before(first, mark)] if first else [])]))
    # Of the days before the near ones, as many readings as their share of the time.
    before = max((near - BEFORE - question.since) / timedelta(days=1), 0.0)
    share = min(max((near - read_from) / timedelta(days=1) / before, 0.0), 1.0) if before else 1.0
    return _of(row, read_from, row.near + round(share * (row.readings - row.near)))


def _before(first: datetime, mark: Watermark) -> datetime:
    """An instant no later than the reading of each measurement before the first new row, or as far back as that row may
    affect."""
    reach = first - timedelta(days=LAG_DAYS + 1)
    return reach if first <= mark.last_row else max(reach, min(mark.last_row, mark.last_of_each or mark.last_row))


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
    """Where the rows are stored; None where that is not known, or cannot be stored until they are read."""
    districts = row.get("districts")
    return None if districts is None or any(map(problem_of_text, districts)) else tuple(sorted(districts))


def _description(row: Any, rejected: Counter[str]) -> dict[str, str]:
    """How the readings describe a node, without what cannot be stored."""
    description = {name: row[name] for name in DESCRIPTION if row.get(name)}
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
    rows, bytes_read = count_between(warehouse, settings, node_ids, start, end)
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
