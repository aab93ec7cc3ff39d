"""How many events lie over each window: counted again where events have changed, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from src.db.timescale import allow_decompression
from src.domain.anomalies.stored import Stored
from src.domain.anomalies.works import is_explained

# The longest window: a local day on which clocks are set back.
_LONGEST_WINDOW = timedelta(hours=25)
# An event that was withdrawn has no length, and lies over nothing. Windows over which events lie are found from the
# events, which are few, and those that have lost theirs by an index of the windows with a count; of both only those
# are written whose count differs. The many windows over which nothing lies are not even read.
# OFFSET 0 makes the database look windows up event by event: of rows that have just come it has no statistics, and it
# would rather sort them all. Neighbouring windows are written as one run, within a week, so that a statement touches
# one chunk.
_COUNTED = text(
    """
    CREATE TEMPORARY TABLE counted ON COMMIT DROP AS
    WITH span AS (
        SELECT * FROM unnest(CAST(:nodes AS text[]), CAST(:firsts AS timestamptz[]), CAST(:lasts AS timestamptz[]))
            AS span (node_id, first, last)
    ), reach AS (
        SELECT node_id, min(first) - interval '25 hours' AS lowest, max(last) AS highest FROM span GROUP BY node_id
    ), under_events AS (
        SELECT metric.node_id, metric.time_window, metric.window_start, metric.window_end, metric.anomaly_count,
            count(*) AS events
        FROM reach
        JOIN water_infrastructure.anomalies AS event ON event.node_id = reach.node_id
            -- Of a day that the span ends in, what begins later counts as well.
            AND event.timestamp < reach.highest + interval '25 hours'
            -- Limits that do not fit say nothing of the windows, and what a work explains is no trouble.
            AND event.anomaly_type <> 'unfit_limits' AND NOT event.metadata ? 'explained_by'
            AND (event."end" IS NULL OR event."end" > reach.lowest)
        CROSS JOIN LATERAL (
            SELECT node_id, time_window, window_start, window_end, anomaly_count
            FROM water_infrastructure.computed_metrics
            WHERE node_id = event.node_id AND time_window IN ('5min', '1hour', '1day')
                AND window_start >= greatest(event.timestamp - interval '25 hours', reach.lowest)
                AND window_start < least(event."end", reach.highest)
                AND window_start >= :lowest AND window_start < :highest
            OFFSET 0
        ) AS metric
        WHERE event.timestamp < metric.window_end
            AND (event."end" IS NULL OR event."end" > greatest(metric.window_start, event.timestamp))
        GROUP BY 1, 2, 3, 4, 5
    ), with_count AS (
        SELECT metric.*
        FROM reach
        CROSS JOIN LATERAL (
            SELECT node_id, time_window, window_start, window_end, anomaly_count
            FROM water_infrastructure.computed_metrics
            WHERE node_id = reach.node_id AND anomaly_count IS DISTINCT FROM 0
                AND window_start >= reach.lowest AND window_start < reach.highest
                AND window_start >= :lowest AND window_start < :highest
            OFFSET 0
        ) AS metric
    ), changed AS (
        SELECT node_id, time_window, window_start, window_end, max(events) AS events,
            date_bin('7 days', window_start, 'epoch') AS week
        FROM (SELECT * FROM under_events UNION ALL SELECT *, 0 FROM with_count) AS metric
        WHERE EXISTS (
            SELECT FROM span
            WHERE span.node_id = metric.node_id AND metric.window_start < span.last AND metric.window_end > span.first
        )
        GROUP BY node_id, time_window, window_start, window_end, anomaly_count
        HAVING anomaly_count IS DISTINCT FROM max(events)
    ), beginnings AS (
        SELECT *, window_start IS DISTINCT FROM lag(window_end) OVER alike AS begins FROM changed
        WINDOW alike AS (PARTITION BY node_id, time_window, week, events ORDER BY window_start)
    ), numbered AS (
        SELECT *, count(*) FILTER (WHERE begins) OVER alike AS run FROM beginnings
        WINDOW alike AS (PARTITION BY node_id, time_window, week, events ORDER BY window_start)
    )
    SELECT node_id, time_window, week, events, min(window_start) AS first, max(window_start) AS last
    FROM numbered GROUP BY node_id, time_window, week, events, run
    """
)
_WEEKS = text("SELECT week, min(first) AS first, max(last) AS last FROM counted GROUP BY week ORDER BY week")
_LOOK_UP = text("SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off")
_AS_BEFORE = text("SET LOCAL enable_hashjoin TO DEFAULT; SET LOCAL enable_mergejoin TO DEFAULT")
# The empty text keeps the database from the index by time, which passes over every node's windows: without statistics
# both indexes look alike to it.
_UPDATED = text(
    """
    UPDATE water_infrastructure.computed_metrics AS metric SET anomaly_count = counted.events FROM counted
    WHERE counted.week = :week AND metric.window_start BETWEEN :first AND :last
        AND metric.node_id = counted.node_id AND metric.time_window || '' = counted.time_window
        AND metric.window_start BETWEEN counted.first AND counted.last
    """
)
_IN_NETWORK = text(
    """
    UPDATE water_infrastructure.network_efficiency AS balance
    SET total_anomalies = counted.events, critical_anomalies = counted.critical
    FROM (
        SELECT time_window, window_start, count(anomaly_id) AS events,
            count(anomaly_id) FILTER (WHERE severity = 'critical') AS critical
        FROM water_infrastructure.network_efficiency
        LEFT JOIN water_infrastructure.anomalies AS event
            ON event.timestamp < window_end AND event.anomaly_type <> 'unfit_limits'
            AND NOT event.metadata ? 'explained_by'
            AND (event."end" IS NULL OR event."end" > greatest(window_start, event.timestamp))
        -- A year lies over each of its events: only hours and days have counts.
        WHERE time_window IN ('1hour', '1day') AND window_end > :first AND window_start < :last
        GROUP BY time_window, window_start
    ) AS counted
    WHERE balance.time_window = counted.time_window AND balance.window_start = counted.window_start
        AND (balance.total_anomalies, balance.critical_anomalies) IS DISTINCT FROM (counted.events, counted.critical)
    """
)


@dataclass(frozen=True)
class Span:
    """Hours of one node over which events have come, gone or gone on."""

    node_id: str
    first: datetime
    last: datetime


def changed_spans(
    before: Mapping[UUID, Stored], after: Iterable[Stored], judged_from: datetime, until: datetime
) -> list[Span]:
    """Where the events that lie over windows are others now.

    That is where an event begins or ends elsewhere than before, or a work explains it now and did not before, or no
    more; and, because windows themselves are new there, the judged hours of every node that has an event in them.

    Args:
        before: what was stored, by its id.
        after: what is stored now.
    """
    spans = []
    for event in after:
        begin, end = event.finding.begin, event.finding.end or until
        earlier = before.get(event.anomaly_id)
        if end >= judged_from:
            spans.append(Span(event.finding.node_id, judged_from, until))
        if earlier is None:
            spans.append(Span(event.finding.node_id, begin, end))
            continue
        was_begin, was_end = earlier.finding.begin, earlier.finding.end or until
        if is_explained(earlier.finding) != is_explained(event.finding):
            spans.append(Span(event.finding.node_id, min(begin, was_begin), max(end, was_end)))
        for one, other in ((begin, was_begin), (end, was_end)):
            if one != other:
                spans.append(Span(event.finding.node_id, min(one, other), max(one, other)))
    return spans


def count_events(connection: Connection, spans: Iterable[Span]) -> datetime | None:
    """Makes `anomaly_count` of the windows that touch these spans match the stored events. Only rows that differ are
    written, however long an event has lasted.

    Returns:
        The first instant of them, from which on the network's counts may be others, too.
    """
    listed = sorted({(span.node_id, span.first, span.last) for span in spans if span.first < span.last})
    if not listed:
        return None
    nodes, firsts, lasts = (list(column) for column in zip(*listed, strict=True))
    first: datetime = min(firsts)
    last: datetime = max(lasts)
    bound = {"nodes": nodes, "firsts": firsts, "lasts": lasts, "lowest": first - _LONGEST_WINDOW, "highest": last}
    connection.execute(_COUNTED, bound)
    connection.execute(text("ANALYZE counted"))
    if weeks := connection.execute(_WEEKS).all():
        # Where late readings have changed an event of long ago, its windows may be compressed.
        allow_decompression(connection)
        connection.execute(_LOOK_UP)
        for week in weeks:
            connection.execute(_UPDATED, week._asdict())
        connection.execute(_AS_BEFORE)
    connection.execute(text("DROP TABLE counted"))
    return first


def count_in_network(connection: Connection, first: datetime, last: datetime) -> None:
    """Makes the network's counts of events match the stored ones, in the windows that touch [first, last)."""
    connection.execute(_IN_NETWORK, {"first": first, "last": last})
