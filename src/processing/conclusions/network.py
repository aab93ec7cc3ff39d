"""What the whole network did over each of the time ranges that are shown: rows in, `domain.network`, rows out."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import Connection, func, select, text
from sqlalchemy.dialects.postgresql import insert

from src.db.tables import network_metrics, nodes
from src.domain import network

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# time_range -> its length, and the window size it is made of: short ranges from fine windows, long ones from hours.
TIME_RANGES = {
    "1h": (HOUR, "5min"),
    "6h": (6 * HOUR, "5min"),
    "24h": (DAY, "5min"),
    "3d": (3 * DAY, "1hour"),
    "7d": (7 * DAY, "1hour"),
    "30d": (30 * DAY, "1hour"),
}
_PER_NODE = text(
    """
    SELECT nodes.role,
        sum(avg_flow_rate * flow_count) / nullif(sum(flow_count), 0) AS flow_rate,
        sum(avg_pressure * pressure_count) / nullif(sum(pressure_count), 0) AS pressure,
        sum(total_volume) AS volume
    FROM water_infrastructure.computed_metrics JOIN water_infrastructure.nodes USING (node_id)
    WHERE time_window = :time_window AND window_start >= :start AND window_start < :end
    GROUP BY node_id, nodes.role
    """
)
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
    """
)


def write_network_metrics(connection: Connection, as_of: datetime) -> None:
    """One row per time range that ends at `as_of`, in whole windows."""
    total = connection.scalar(select(func.count()).select_from(nodes).where(nodes.c.is_active))
    for time_range, (length, time_window) in TIME_RANGES.items():
        step = HOUR.total_seconds() if time_window == "1hour" else 300
        end = as_of - timedelta(seconds=as_of.timestamp() % step)
        span: dict[str, Any] = {"start": end - length, "end": end, "time_window": time_window}
        measured = network.network_metrics(pd.read_sql(_PER_NODE, connection, params=span))
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
