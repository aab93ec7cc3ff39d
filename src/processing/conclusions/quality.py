"""Data quality checks: over a day at the end of every cycle, over a week every six hours."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import Connection, text

from src.db.bulk_read import read_rows
from src.db.tables import data_quality_metrics
from src.db.upsert import write_changed
from src.domain.quality import node_quality
from src.processing.conclusions.service_life import SENT
from src.processing.conclusions.share import shares_of
from src.processing.jobs.runtime import Runtime
from src.processing.jobs.scheduled import Done, run_scheduled

JOB_TYPE = "data_quality"
# What the checks look at: the name of the span, and its length.
DAILY, WEEKLY = ("24h", timedelta(hours=24)), ("7d", timedelta(days=7))
_NODES = text(
    f"""
    SELECT nodes.node_id, cadence_seconds FROM water_infrastructure.nodes
    LEFT JOIN LATERAL (
        SELECT cadence_seconds FROM water_infrastructure.computed_metrics AS metric
        WHERE metric.node_id = nodes.node_id AND time_window = '1day' AND window_start < :end
            AND cadence_seconds IS NOT NULL
        ORDER BY window_start DESC LIMIT 1
    ) AS latest ON true
    WHERE is_active AND nodes.node_id = ANY(:nodes)
        AND (out_of_service_reason IS DISTINCT FROM 'by hand' OR out_of_service_since > :end)
        -- Long silent: as `service_life.silent_times` has it, by the readings that came before the end.
        AND NOT (
            :is_ended_by_silence
            AND NOT EXISTS (
                SELECT FROM water_infrastructure.computed_metrics AS recent
                WHERE recent.node_id = nodes.node_id AND time_window = '1hour' AND reading_count > 0
                    AND window_start >= :reported_since AND window_start < :end
            )
            AND NOT EXISTS (
                SELECT FROM water_infrastructure.rejected_readings AS impossible
                WHERE impossible.node_id = nodes.node_id AND quarter_start >= :reported_since AND quarter_start < :end
                    AND {SENT}
            )
            AND (
                EXISTS (
                    SELECT FROM water_infrastructure.ingestion_watermarks AS mark
                    WHERE mark.node_id = nodes.node_id AND last_reading < :reported_since
                )
                OR EXISTS (
                    SELECT FROM water_infrastructure.computed_metrics AS earlier
                    WHERE earlier.node_id = nodes.node_id AND time_window = '1hour' AND reading_count > 0
                        AND window_start < :reported_since
                )
            )
        )
    ORDER BY nodes.node_id
    """  # noqa: S608 - built from our own text
)
# What people have stated to be no part of a node is no fault of it.
_CHANNELS = text(
    """
    SELECT node_id, measurement, is_counted,
        CASE WHEN nodes.metadata -> 'connected' ->> measurement = 'false' THEN NULL
            WHEN is_connected IS FALSE THEN 'not_connected' WHEN copy_of IS NOT NULL THEN 'repeats_another'
            WHEN unit_questioned THEN 'unit_questioned' END AS fault
    FROM water_infrastructure.node_channels JOIN water_infrastructure.nodes USING (node_id)
    WHERE node_id = ANY(:nodes) AND (hours > 0 OR NOT is_counted)
    ORDER BY node_id, measurement
    """
)
_HOURS = """
    SELECT hour.*
    FROM unnest(CAST(%(nodes)s AS text[])) AS listed (node_id)
    CROSS JOIN LATERAL (
        -- OFFSET 0: node by node, also where the database has no statistics yet.
        SELECT node_id, window_start, reading_count, cadence_seconds, data_completeness, flow_coverage,
            pressure_coverage, temperature_coverage, avg_flow_rate, flow_count, pressure_count, temperature_count,
            total_volume
        FROM water_infrastructure.computed_metrics
        WHERE node_id = listed.node_id AND time_window = '1hour'
            AND window_start >= %(start)s AND window_start < %(end)s
        OFFSET 0
    ) AS hour
"""
_REJECTED = """
    SELECT node_id, quarter_start, reason, readings FROM water_infrastructure.rejected_readings
    WHERE node_id = ANY(%(nodes)s) AND quarter_start >= %(start)s AND quarter_start < %(end)s
"""
# Of what came and went, each time by itself: in between the node was as usual.
_EVENTS = """
    SELECT node_id, anomaly_type, severity, episode.begin, episode."end"
    FROM water_infrastructure.anomalies AS event
    CROSS JOIN LATERAL (
        SELECT timestamp AS begin, "end" WHERE NOT metadata ? 'episodes'
        UNION ALL
        SELECT greatest(CAST(span ->> 0 AS timestamptz), timestamp),
            least(coalesce(CAST(span ->> 1 AS timestamptz), event."end"), event."end")
        FROM jsonb_array_elements(metadata -> 'episodes') AS span
    ) AS episode
    WHERE node_id = ANY(%(nodes)s) AND timestamp < %(end)s
        AND (event."end" IS NULL OR event."end" > greatest(%(start)s, timestamp))
        AND episode.begin < %(end)s AND (episode."end" IS NULL OR episode."end" > greatest(%(start)s, episode.begin))
        AND NOT metadata ? 'explained_by'
"""


def run_quality(runtime: Runtime, as_of: datetime) -> None:
    """The check over a week, if no other replica has done it."""

    silence = timedelta(days=runtime.settings.out_of_service_after_days)

    def check() -> Done:
        with runtime.database.connect() as connection:
            shares = shares_of(connection)
        checked = 0
        for share in shares:
            with runtime.database.begin() as connection:
                checked += write_quality(connection, share.node_ids, as_of, *WEEKLY, silence)
        return Done({"nodes_checked": checked})

    run_scheduled(runtime, JOB_TYPE, f"Data quality {as_of:%Y-%m-%d %H:%M}", as_of, check)


def write_quality(
    connection: Connection,
    node_ids: Sequence[str],
    as_of: datetime,
    time_window: str,
    length: timedelta,
    silence: timedelta,
) -> int:
    """Checks each of these nodes that is active and in service over the whole hours that end by `as_of`; the number of
    nodes. Harmless to repeat.

    Args:
        length: of the span that is checked, `time_window` its name.
        silence: that takes a node out of service; zero: none does.
    """
    end = as_of.replace(minute=0, second=0, microsecond=0)
    bound: dict[str, Any] = {"end": end, "nodes": list(node_ids)}
    bound |= {"is_ended_by_silence": bool(silence), "reported_since": end - silence}
    nodes = pd.read_sql(_NODES, connection, params=bound, index_col="node_id")
    if nodes.empty:
        return 0
    listed = list(nodes.index)
    span = {"start": end - length, "end": end, "nodes": listed}
    numbers = (
        "reading_count", "cadence_seconds", "data_completeness", "flow_coverage", "pressure_coverage",
        "temperature_coverage", "avg_flow_rate", "flow_count", "pressure_count", "temperature_count", "total_volume",
    )  # fmt: skip
    hours = read_rows(
        connection, _HOURS, span, {"node_id": "text", "window_start": "instant"} | dict.fromkeys(numbers, "number")
    )
    rejections = read_rows(
        connection,
        _REJECTED,
        span,
        {"node_id": "text", "quarter_start": "instant", "reason": "text", "readings": "integer"},
    )
    events = read_rows(
        connection,
        _EVENTS,
        span,
        {"node_id": "text", "anomaly_type": "text", "severity": "text", "begin": "instant", "end": "instant"},
    )
    nodes["cadence_seconds"] = nodes["cadence_seconds"].astype("float64")
    channels = pd.read_sql(_CHANNELS, connection, params={"nodes": listed})
    scores = node_quality(nodes, hours, rejections, events, channels, (end - length, end))
    rows = [
        {"node_id": node_id, "check_timestamp": as_of, "time_window": time_window}
        | {str(name): None if name != "quality_issues" and pd.isna(value) else value for name, value in row.items()}
        for node_id, row in scores.to_dict("index").items()
    ]
    write_changed(connection, data_quality_metrics, rows)
    return len(rows)
