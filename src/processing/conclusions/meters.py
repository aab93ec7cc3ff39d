"""The windows of the meters that balances are made of, and what is estimated of the time that nothing vouches for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from sqlalchemy import Connection, text

from src.db.bulk_read import read_rows

# What is usual in a week is that of the weeks before its Monday, so that every job finds the same.
_USUAL_OF = timedelta(weeks=4)
# An hour at least so much of which is vouched for went on as it did.
_KNOWN_HOUR = 0.5
_WINDOWS = """
    SELECT node_id, window_start, total_volume AS volume, coalesce(flow_coverage, data_completeness / 100) AS coverage,
        estimated_volume, sqrt(flow_variance) AS deviation
    FROM water_infrastructure.computed_metrics
    WHERE time_window = %(time_window)s AND window_start >= %(start)s AND window_start < %(end)s
        AND node_id = ANY(%(nodes)s)
"""
_KINDS = {
    "node_id": "text", "window_start": "instant", "volume": "number", "coverage": "number",
    "estimated_volume": "number", "deviation": "number",
}  # fmt: skip
# What meters usually measure in an hour of the day, on working days and on others. Added up in order: the same to the
# last digit whoever asks, and for however many meters.
_USUAL = text(
    """
    SELECT node_id, extract(isodow FROM local) >= 6 AS at_weekend, CAST(extract(hour FROM local) AS integer) AS hour,
        avg(volume ORDER BY window_start) AS usual,
        coalesce(stddev_samp(volume ORDER BY window_start), 0) AS usual_deviation
    FROM (
        SELECT node_id, window_start, window_start AT TIME ZONE :zone AS local, total_volume / flow_coverage AS volume
        FROM water_infrastructure.computed_metrics
        WHERE time_window = '1hour' AND node_id = ANY(:nodes) AND window_start >= :start AND window_start < :end
            AND flow_coverage >= 0.9 AND total_volume IS NOT NULL
    ) AS hours
    GROUP BY 1, 2, 3 HAVING count(*) >= 2
    """
)


def windows_of(connection: Connection, meters: pd.DataFrame, time_window: str, edges: pd.DatetimeIndex) -> pd.DataFrame:
    """Every meter in every window between edges that follow each other, whether or not it reported."""
    span: dict[str, Any] = {"start": edges[0], "end": edges[-1], "nodes": list(meters["node_id"])}
    rows = read_rows(connection, _WINDOWS, span | {"time_window": time_window}, _KINDS)
    grid = meters.merge(pd.DataFrame({"window_start": edges[:-1]}), how="cross")
    grid = grid.merge(rows, how="left", on=["node_id", "window_start"])
    grid["coverage"] = grid["coverage"].fillna(0.0).where(grid["volume"].notna(), 0.0)
    return grid


def with_rest_of_hours(connection: Connection, hours: pd.DataFrame, zone: ZoneInfo) -> pd.DataFrame:
    """Adds what meters are estimated to have measured in the part of each hour that nothing vouches for.

    An hour that is known by half went on as it did; of any other, the meter's usual hour is taken.
    """
    missing = 1 - hours["coverage"]
    share = missing / hours["coverage"].where(hours["coverage"] >= _KNOWN_HOUR)
    rest = hours["volume"] * share
    # The mean of what is missing may lie as far from that of what is known as single readings do.
    deviation = (hours["deviation"] * 3.6 * missing).fillna(0.3 * rest.abs())
    lacking = hours[(missing > 0) & rest.isna() & (hours["role"] != "storage")]
    if len(lacking):
        local = lacking["window_start"].dt.tz_convert(zone)
        week = (local.dt.normalize() - pd.to_timedelta(local.dt.dayofweek, unit="D")).dt.tz_convert("UTC")
        lacking = lacking.assign(at_weekend=local.dt.dayofweek >= 5, hour=local.dt.hour, week=week)
        for monday, of_week in lacking.groupby("week"):
            end = pd.Timestamp(str(monday))
            bound: dict[str, Any] = {"nodes": sorted(set(of_week["node_id"])), "zone": str(zone)}
            usual = pd.read_sql(_USUAL, connection, params=bound | {"start": end - _USUAL_OF, "end": end})
            found = of_week[["node_id", "at_weekend", "hour"]].merge(
                usual, how="left", on=["node_id", "at_weekend", "hour"]
            )
            rest.loc[of_week.index] = found["usual"].to_numpy(dtype="float64") * missing.loc[of_week.index]
            deviation.loc[of_week.index] = (
                found["usual_deviation"].to_numpy(dtype="float64") * missing.loc[of_week.index]
            )
    return hours.assign(rest=rest.where(missing > 0, 0.0), rest_deviation=deviation.where(missing > 0, 0.0))


def with_rest_of_days(days: pd.DataFrame, hours: pd.DataFrame, edges: pd.DatetimeIndex) -> pd.DataFrame:
    """Adds the rests of a day's hours put together; unknown where that of an hour is."""
    at = np.searchsorted(edges, hours["window_start"], side="right") - 1
    within = hours[(at >= 0) & (at < len(edges) - 1)]
    summed = (
        within.assign(window_start=edges[at[(at >= 0) & (at < len(edges) - 1)]], squared=within["rest_deviation"] ** 2)
        .groupby(["node_id", "window_start"])
        .agg(rest=("rest", "sum"), unknown=("rest", lambda rests: rests.isna().any()), squared=("squared", "sum"))
        .reset_index()
    )
    summed["rest"] = summed["rest"].mask(summed["unknown"])
    summed["rest_deviation"] = np.sqrt(summed["squared"]).mask(summed["unknown"])
    return days.merge(
        summed[["node_id", "window_start", "rest", "rest_deviation"]], how="left", on=["node_id", "window_start"]
    )
