"""Which nodes are out of service: when they were, for the hours that are judged, and since when, for everybody."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from sqlalchemy import Connection, text

from src.db.bulk_read import read_rows
from src.domain.anomalies.signals import HOUR, INFLOW, LOSS, Signals
from src.domain.service_life import BY_HAND, OutOfService, silent_times

# Whoever has sent nothing for so long at the begin of the hours at hand may have been silent for longer.
_LONG = 24
# Whoever sends what cannot be is not silent; what was filled in for it, or means that nothing was measured, does
# not count as sent.
SENT = "reason NOT IN ('interpolated', 'duplicate', 'no_valid_measurement') AND right(reason, 11) <> 'placeholder'"
# Of all its hours, those after which a silence follows that is long enough to matter, and the last.
_SILENCES = f"""
    SELECT node_id, hour, following FROM (
        SELECT listed.node_id, sent.hour,
            lead(sent.hour) OVER (PARTITION BY listed.node_id ORDER BY sent.hour) AS following
        FROM unnest(CAST(%(nodes)s AS text[])) AS listed (node_id)
        CROSS JOIN LATERAL (
            (SELECT window_start AS hour FROM water_infrastructure.computed_metrics
            WHERE node_id = listed.node_id AND time_window = '1hour' AND reading_count > 0
                AND window_start >= %(since)s AND window_start < %(end)s
            OFFSET 0)
            UNION ALL
            (SELECT window_start FROM water_infrastructure.computed_metrics
            WHERE node_id = listed.node_id AND time_window = '1hour' AND reading_count > 0 AND window_start < %(since)s
            ORDER BY window_start DESC LIMIT 1)
            UNION ALL
            (SELECT DISTINCT date_trunc('hour', quarter_start) FROM water_infrastructure.rejected_readings
            WHERE node_id = listed.node_id AND quarter_start >= %(since)s AND quarter_start < %(end)s AND {SENT})
            UNION ALL
            (SELECT date_trunc('hour', quarter_start) FROM water_infrastructure.rejected_readings
            WHERE node_id = listed.node_id AND quarter_start < %(since)s AND {SENT}
            ORDER BY quarter_start DESC LIMIT 1)
        ) AS sent
    ) AS all_hours
    WHERE following IS NULL OR following - hour > make_interval(days => %(days)s)
    ORDER BY node_id, hour
"""  # noqa: S608 - built from this module's own text
# The windows of one that fell silent long ago may be deleted.
_MARKS = """
    SELECT node_id, date_trunc('hour', last_reading) AS hour FROM water_infrastructure.ingestion_watermarks
    WHERE node_id = ANY(%(nodes)s) AND last_reading < %(since)s
"""
# A node that never sent anything is not out of service, but to be looked for.
_UPDATED = text(
    f"""
    UPDATE water_infrastructure.nodes
    SET out_of_service_since = found.since, out_of_service_reason = CASE WHEN found.since IS NOT NULL THEN 'silent' END
    FROM (
        SELECT nodes.node_id, CASE WHEN :days > 0 AND silent.since <= :hour THEN silent.since END AS since
        FROM water_infrastructure.nodes JOIN water_infrastructure.ingestion_watermarks AS mark USING (node_id)
        LEFT JOIN LATERAL (
            SELECT max(quarter_start) AS last FROM water_infrastructure.rejected_readings AS rejected
            WHERE rejected.node_id = nodes.node_id AND quarter_start > mark.last_reading AND quarter_start <= :as_of
                AND {SENT}
        ) AS impossible ON true
        CROSS JOIN LATERAL (
            SELECT date_trunc('hour', least(greatest(mark.last_reading, impossible.last), CAST(:as_of AS timestamptz)))
                + interval '1 hour' + make_interval(hours => :days * 24) AS since
        ) AS silent
        WHERE out_of_service_reason IS DISTINCT FROM 'by hand'
    ) AS found
    WHERE found.node_id = nodes.node_id AND nodes.out_of_service_since IS DISTINCT FROM found.since
    """  # noqa: S608 - built from this module's own text
)


def update_service(connection: Connection, as_of: datetime, days: int) -> None:
    """Takes nodes out of service that have been silent for so many days (0: none), and others back that report again;
    those that somebody took out stay out."""
    hour = as_of.replace(minute=0, second=0, microsecond=0)
    connection.execute(_UPDATED, {"as_of": as_of, "hour": hour, "days": days})


def lives_of(
    connection: Connection, network: pd.DataFrame, signals: Signals, end: datetime, days: int
) -> dict[str, list[OutOfService]]:
    """When nodes were out of service, as far as it concerns the hours of the signals.

    Args:
        network: as of `hours.active_nodes`.
        end: of these hours.
        days: of silence that end a node's service; 0: none do.
    """
    lives: dict[str, list[OutOfService]] = {}
    after = timedelta(days=days)
    if days and len(signals.hours):
        candidates = _long_silent(signals, network.index, after)
        start = signals.hours[0].to_pydatetime()
        for node_id, silences in _silences(connection, candidates, start - after, end, days).items():
            if times := list(silent_times(silences, end, after)):
                lives[node_id] = times
    for node_id, reason, since in zip(
        network.index, network["out_of_service_reason"], network["out_of_service_since"], strict=True
    ):
        if reason == BY_HAND:
            by_hand = OutOfService(since.to_pydatetime(), None, BY_HAND)
            lives[node_id] = [time for time in lives.get(node_id, ()) if time.begin < since] + [by_hand]
    return lives


def _long_silent(signals: Signals, node_ids: Collection[str], after: timedelta) -> list[str]:
    """Nodes that may have been out of service in these hours: silent as long as that, or from their begin on."""
    listed = signals.listed
    names, of_node = np.unique(listed["node_id"].to_numpy(dtype="object"), return_inverse=True)
    reporting = np.zeros((len(signals.hours), len(names)), dtype=bool)
    for column in np.flatnonzero(~listed["measurement"].isin([LOSS, INFLOW])):
        reporting[:, of_node[column]] |= np.isfinite(signals.mean[:, column])
    row = np.arange(len(reporting))[:, None]
    last = np.maximum.accumulate(np.where(reporting, row, -1), axis=0)
    is_long = np.flatnonzero((row - last >= after / HOUR).any(axis=0) | ~reporting[:_LONG].any(axis=0))
    often = {str(name) for name in np.delete(names, is_long)}
    return [node_id for node_id in node_ids if node_id not in often]


def _silences(
    connection: Connection, node_ids: Collection[str], since: datetime, end: datetime, days: int
) -> dict[str, list[tuple[datetime, datetime | None]]]:
    """The silences of each node that are longer than so many days, or go on, as `silent_times` takes them."""
    if not node_ids:
        return {}
    bound = {"nodes": list(node_ids), "since": since, "end": end, "days": days}
    rows = read_rows(connection, _SILENCES, bound, {"node_id": "text", "hour": "instant", "following": "instant"})
    found: dict[str, list[tuple[datetime, datetime | None]]] = {}
    for node_id, hour, following in zip(rows["node_id"], rows["hour"], rows["following"], strict=True):
        silence = hour.to_pydatetime(), None if pd.isna(following) else following.to_pydatetime()
        found.setdefault(str(node_id), []).append(silence)
    marks = read_rows(connection, _MARKS, bound, {"node_id": "text", "hour": "instant"})
    for node_id, hour in zip(marks["node_id"], marks["hour"], strict=True):
        found.setdefault(str(node_id), [(hour.to_pydatetime(), None)])
    return found
