"""What the whole network did over each of the time ranges that are shown: rows in, `domain.network`, rows out."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
from sqlalchemy import Connection, func, select, text
from sqlalchemy.dialects.postgresql import insert

from src.db.tables import network_metrics, nodes
from src.domain import network
from src.domain.days import day_start

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# time_range -> its length, and the window size that its edges are multiples of.
TIME_RANGES = {
    "1h": (HOUR, "5min"),
    "6h": (6 * HOUR, "5min"),
    "24h": (DAY, "5min"),
    "3d": (3 * DAY, "1hour"),
    "7d": (7 * DAY, "1hour"),
    "30d": (30 * DAY, "1hour"),
}
# Inlets and outlets also where they reported nothing: then what came in is not known, however long they have been
# silent; nobody has stated that no water passes there. What somebody took out of service is no part of the network.
_PER_NODE = """
    SELECT nodes.node_id, nodes.role, nodes.district_id, nodes.is_active,
        nodes.metadata ->> 'feeding_district_id' AS feeding_district_id,
        count(windows.node_id) > 0 AS has_reported,
        least(1, coalesce(sum(measured_seconds), 0) / CAST(:whole_seconds AS double precision)) AS flow_measured,
        sum(avg_flow_rate * flow_seconds) FILTER (WHERE avg_flow_rate IS NOT NULL)
            / nullif(sum(flow_seconds) FILTER (WHERE avg_flow_rate IS NOT NULL), 0) AS flow_rate,
        sum(avg_pressure * pressure_seconds) FILTER (WHERE avg_pressure IS NOT NULL)
            / nullif(sum(pressure_seconds) FILTER (WHERE avg_pressure IS NOT NULL), 0) AS pressure,
        sum(total_volume) AS volume,
        NOT coalesce(bool_and(flow.is_counted), true) AS flow_left_out,
        NOT coalesce(bool_and(pressure.is_counted), true) AS pressure_left_out
    FROM ({windows}) AS windows RIGHT JOIN water_infrastructure.nodes ON nodes.node_id = windows.node_id
    LEFT JOIN water_infrastructure.node_channels AS flow
        ON flow.node_id = windows.node_id AND flow.measurement = 'flow_rate'
    LEFT JOIN water_infrastructure.node_channels AS pressure
        ON pressure.node_id = windows.node_id AND pressure.measurement = 'pressure'
    WHERE (windows.node_id IS NOT NULL OR (nodes.is_active AND nodes.role IN ('inlet', 'outlet')))
        AND (out_of_service_reason IS DISTINCT FROM 'by hand' OR out_of_service_since >= :until)
    GROUP BY nodes.node_id
"""
_WINDOWS = """
    SELECT node_id, avg_flow_rate, avg_pressure, total_volume,
        -- Windows of before coverage was known: how many of the readings were there.
        coalesce(flow_coverage, data_completeness / 100, 1) * extract(epoch FROM window_end - window_start)
            AS flow_seconds,
        coalesce(pressure_coverage, data_completeness / 100, 1) * extract(epoch FROM window_end - window_start)
            AS pressure_seconds,
        -- Five minutes without a reading have no window, whatever a reading before them vouches for.
        CASE WHEN time_window <> '5min' AND (avg_flow_rate IS NOT NULL OR total_volume IS NOT NULL)
            THEN coalesce(flow_coverage, data_completeness / 100, 1) * extract(epoch FROM window_end - window_start) END
            AS measured_seconds
    FROM water_infrastructure.computed_metrics
    WHERE time_window = :window_{n} AND window_start >= :start_{n} AND window_start < :end_{n}
"""
# Null unless every hour of the span was balanced.
_EFFICIENCY = text(
    """
    SELECT CASE WHEN count(total_output_volume) = count(*) AND sum(total_input_volume) > 0
        THEN 100 * sum(total_output_volume) / sum(total_input_volume) END
    FROM water_infrastructure.network_efficiency
    WHERE time_window = '1hour' AND window_start >= :start AND window_end <= :end
    """
)


_EVENTS = text(
    """
    SELECT count(*) FROM water_infrastructure.anomalies
    WHERE timestamp < :end AND ("end" IS NULL OR "end" > greatest(:start, timestamp))
        AND anomaly_type <> 'unfit_limits' AND NOT metadata ? 'explained_by'
    """
)


def tiles(start: datetime, end: datetime, finest: str, zone: ZoneInfo) -> list[tuple[str, datetime, datetime]]:
    """The span [start, end) covered by windows as long as they fit, each once: size, first instant and end of each run.

    Means and volumes merge exactly, so that a month is read as days and not as hours.

    Args:
        finest: the size that the span's edges are multiples of.
    """
    following = {"5min": "1hour", "1hour": "1day"}
    coarser = following.get(finest)
    if coarser is None:
        return [(finest, start, end)]
    if coarser == "1hour":
        first, last = (edge - timedelta(seconds=edge.timestamp() % 3600) for edge in (start, end))
        first += HOUR if first < start else timedelta(0)
    else:
        first, last = day_start(start, zone), day_start(end, zone)
        first = day_start(start, zone, 1) if first < start else first
        if first.timestamp() % 3600 or last.timestamp() % 3600:
            # Where the zone's offset is no whole hour, days are not made of hours.
            return [(finest, start, end)]
    if first >= last:
        return [(finest, start, end)]
    edges = [(finest, start, first), (finest, last, end)]
    return [edge for edge in edges if edge[1] < edge[2]] + tiles(first, last, coarser, zone)


def _per_node(connection: Connection, start: datetime, end: datetime, finest: str, zone: ZoneInfo) -> pd.DataFrame:
    bound: dict[str, Any] = {"until": end}
    parts, whole = [], timedelta(0)
    for n, (window, first, last) in enumerate(tiles(start, end, finest, zone)):
        parts.append(_WINDOWS.format(n=n))
        bound |= {f"window_{n}": window, f"start_{n}": first, f"end_{n}": last}
        whole += last - first if window != "5min" else timedelta(0)
    # In less than an hour that cannot be seen.
    bound["whole_seconds"] = whole.total_seconds() or None
    return pd.read_sql(text(_PER_NODE.format(windows=" UNION ALL ".join(parts))), connection, params=bound)


def write_network_metrics(connection: Connection, as_of: datetime, zone: ZoneInfo) -> None:
    """One row per time range that ends at `as_of`, in whole windows."""
    is_in_service = nodes.c.is_active & nodes.c.out_of_service_since.is_(None)
    total = connection.scalar(select(func.count()).select_from(nodes).where(is_in_service))
    for time_range, (length, time_window) in TIME_RANGES.items():
        step = HOUR.total_seconds() if time_window == "1hour" else 300
        end = as_of - timedelta(seconds=as_of.timestamp() % step)
        span: dict[str, Any] = {"start": end - length, "end": end}
        measured = network.network_metrics(_per_node(connection, end - length, end, time_window, zone))
        row = {
            "time_range": time_range,
            "computation_timestamp": as_of,
            "window_start": end - length,
            "window_end": end,
            "total_nodes": total,
            **vars(measured),
            "efficiency_percentage": connection.scalar(_EFFICIENCY, span),
            "anomaly_count": connection.scalar(_EVENTS, span),
        }
        statement = insert(network_metrics).values(row)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["time_range", "computation_timestamp"], set_={k: statement.excluded[k] for k in row}
            )
        )
