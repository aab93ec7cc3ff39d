"""How many events lie over each window: counted again where events have changed, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, text

from src.db.timescale import allow_decompression
from src.domain.anomalies.detection import Stored

# The longest window: a local day on which clocks are set back.
_LONGEST_WINDOW = timedelta(hours=25)
# An event that was withdrawn has no length, and lies over nothing. Windows over which events lie are found from the
# events, which are few; of the others only those are written that say otherwise.
_COUNTED = text(
    """
    CREATE TEMPORARY TABLE counted ON COMMIT DROP AS
    WITH concerned AS (
        SELECT DISTINCT metric.node_id, metric.time_window, metric.window_start, metric.anomaly_count
        FROM unnest(CAST(:nodes AS text[]), CAST(:firsts AS timestamptz[]), CAST(:lasts AS timestamptz[]))
            AS span (node_id, first, last)
        JOIN water_infrastructure.computed_metrics AS metric ON metric.node_id = span.node_id
            AND metric.window_start < span.last AND metric.window_end > span.first
            AND metric.window_start >= span.first - interval '25 hours'
        WHERE metric.window_start >= :lowest AND metric.window_start < :highest
    ), under_events AS (
        SELECT metric.node_id, metric.time_window, metric.window_start, count(*) AS events
        FROM water_infrastructure.anomalies AS event
        JOIN water_infrastructure.computed_metrics AS metric ON metric.node_id = event.node_id
            AND event.timestamp < metric.window_end
            AND (event."end" IS NULL OR event."end" > greatest(metric.window_start, event.timestamp))
            AND metric.window_start >= event.timestamp - interval '25 hours'
            AND metric.window_start < coalesce(event."end", :highest)
        WHERE event.node_id = ANY(CAST(:nodes AS text[])) AND event.timestamp < :highest
            AND (event."end" IS NULL OR event."end" > :lowest)
            AND metric.window_start >= :lowest AND metric.window_start < :highest
        GROUP BY 1, 2, 3
    )
    SELECT node_id, time_window, window_start, coalesce(events, 0) AS events
    FROM concerned LEFT JOIN under_events USING (node_id, time_window, window_start)
    WHERE anomaly_count IS DISTINCT FROM coalesce(events, 0)
    """
)
_BOUNDS = text("SELECT count(*) AS windows, min(window_start) AS first, max(window_start) AS last FROM counted")
_UPDATED = text(
    """
    UPDATE water_infrastructure.computed_metrics AS metric SET anomaly_count = counted.events FROM counted
    WHERE metric.node_id = counted.node_id AND metric.time_window = counted.time_window
        AND metric.window_start = counted.window_start AND metric.window_start BETWEEN :first AND :last
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
            ON event.timestamp < window_end
            AND (event."end" IS NULL OR event."end" > greatest(window_start, event.timestamp))
        WHERE window_end > :first AND window_start < :last
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

    That is where an event begins or ends elsewhere than before, and, because windows themselves are new there, the
    judged hours of every node that has an event in them.

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
        for one, other in ((begin, was_begin), (end, was_end)):
            if one != other:
                spans.append(Span(event.finding.node_id, min(one, other), max(one, other)))
    return spans


def count_events(connection: Connection, spans: Iterable[Span]) -> datetime | None:
    """Makes `anomaly_count` of the windows that touch these spans say what is stored of events now. Only rows that say
    something else are written, however long an event has lasted.

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
    found = connection.execute(_BOUNDS).one()
    if found.windows:
        # Where late readings have changed an event of long ago, its windows may be compressed.
        allow_decompression(connection)
        connection.execute(_UPDATED, {"first": found.first, "last": found.last})
    connection.execute(text("DROP TABLE counted"))
    return first


def count_in_network(connection: Connection, first: datetime, last: datetime) -> None:
    """Makes the network's counts of events say what is stored of them, in the windows that touch [first, last)."""
    connection.execute(_IN_NETWORK, {"first": first, "last": last})
