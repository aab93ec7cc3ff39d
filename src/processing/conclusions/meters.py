"""The windows of the meters that balances are made of, and what is estimated of the time that nothing vouches for."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from sqlalchemy import Connection, text

from src.db.bulk_read import read_rows
from src.domain.days import day_start
from src.processing.conclusions.hours import channels_left_out

# What is usual in a week is that of the weeks before its Monday, so that every job finds the same.
_USUAL_OF = timedelta(weeks=4)
# An hour at least so much of which is vouched for went on as it did; a gap of so many hours, of which nothing usual is
# known, as those before and after it.
_KNOWN_HOUR, _SHORT_GAP = 0.25, 2
_WINDOWS = """
    SELECT metric.node_id, window_start, total_volume AS volume,
        coalesce(flow_coverage, data_completeness / 100) AS coverage,
        estimated_volume, sqrt(flow_variance) AS deviation, cadence_seconds AS cadence,
        -- How much of the window readings stand for themselves: for the rest of what they vouch for, they hold.
        least(1, flow_count * cadence_seconds / extract(epoch FROM window_end - window_start)) AS sampled
    FROM unnest(CAST(%(nodes)s AS text[])) AS listed (node_id)
    CROSS JOIN LATERAL (
        -- OFFSET 0: node by node, also where the database has no statistics yet.
        SELECT * FROM water_infrastructure.computed_metrics
        WHERE node_id = listed.node_id AND time_window = %(time_window)s
            AND window_start >= %(start)s AND window_start < %(end)s
        OFFSET 0
    ) AS metric
"""
_KINDS = {
    "node_id": "text", "window_start": "instant", "volume": "number", "coverage": "number",
    "estimated_volume": "number", "deviation": "number", "cadence": "number", "sampled": "number",
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
            AND flow_coverage >= 0.5 AND total_volume IS NOT NULL
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
    # A district's only inlet that stood at nothing while its pressure moved has measured nothing; one of several may be
    # shut.
    inlets = meters[meters["role"] == "inlet"]
    only = inlets["node_id"][~inlets["district_id"].duplicated(keep=False)]
    left_out = channels_left_out(connection, only).get("flow_rate", set())
    grid["volume"] = grid["volume"].mask(grid["node_id"].isin(left_out) & (grid["volume"] == 0))
    grid["coverage"] = grid["coverage"].fillna(0.0).where(grid["volume"].notna(), 0.0)
    return grid


def with_rest_of_hours(connection: Connection, hours: pd.DataFrame, zone: ZoneInfo) -> pd.DataFrame:
    """Adds what meters are estimated to have measured in the part of each hour that nothing vouches for.

    An hour that is known by a quarter went on as it did; of any other, the meter's usual hour is taken, or, where
    nothing usual is known and the gap is short, what lies between the hours before and after it on the same day.
    """
    missing = 1 - hours["coverage"]
    share = missing / hours["coverage"].where(hours["coverage"] >= _KNOWN_HOUR)
    rest = hours["volume"] * share
    # The mean of what is missing may lie as far from that of what is known as single readings do.
    deviation = (hours["deviation"] * 3.6 * missing).fillna(0.3 * rest.abs())
    lacking = hours[(missing > 0) & rest.isna() & (hours["role"] != "storage")]
    if len(lacking):
        local = lacking["window_start"].dt.tz_convert(zone)
        # Without the zone: in some, a day begins at one.
        dates = local.dt.tz_localize(None).dt.normalize()
        week = dates - pd.to_timedelta(dates.dt.dayofweek, unit="D")
        lacking = lacking.assign(at_weekend=local.dt.dayofweek >= 5, hour=local.dt.hour, week=week)
        for monday, of_week in lacking.groupby("week"):
            noon = (pd.Timestamp(str(monday)) + pd.Timedelta(hours=12)).tz_localize(zone)
            end = pd.Timestamp(day_start(noon.to_pydatetime(), zone))
            bound: dict[str, Any] = {"nodes": sorted(set(of_week["node_id"])), "zone": str(zone)}
            usual = pd.read_sql(_USUAL, connection, params=bound | {"start": end - _USUAL_OF, "end": end})
            found = of_week[["node_id", "at_weekend", "hour"]].merge(
                usual, how="left", on=["node_id", "at_weekend", "hour"]
            )
            rest.loc[of_week.index] = found["usual"].to_numpy(dtype="float64") * missing.loc[of_week.index]
            deviation.loc[of_week.index] = (
                found["usual_deviation"].to_numpy(dtype="float64") * missing.loc[of_week.index]
            )
    rest, deviation = rest.where(missing > 0, 0.0), deviation.where(missing > 0, 0.0)
    day = hours["window_start"].dt.tz_convert(zone).dt.tz_localize(None).dt.normalize()
    between, spread = _between_neighbours(hours, rest, day)
    lacks = rest.isna() & between.notna() & (hours["role"] != "storage")
    rest, deviation = rest.mask(lacks, between * missing), deviation.mask(lacks, spread * missing)
    held = _deviation_of_holding(hours, hours["volume"].fillna(0.0) + rest, day)
    return hours.assign(rest=rest, rest_deviation=np.sqrt(deviation**2 + held**2))


def _between_neighbours(
    hours: pd.DataFrame, rest: pd.Series[float], day: pd.Series[pd.Timestamp]
) -> tuple[pd.Series[float], pd.Series[float]]:
    """What each hour (m³) of a short gap would be on a straight line between the hours around it, at the edge of a day
    as the one hour beside it, and how far off that may be (standard deviation); NaN elsewhere. Only hours of the same
    day count, so that no later job finds otherwise."""
    whole = hours["volume"].fillna(0.0) + rest
    if not rest.isna().any():
        return rest * np.nan, rest * np.nan
    order = hours.assign(whole=whole, day=day).sort_values(["node_id", "window_start"], kind="stable")
    of_day = order.groupby(["node_id", "day"], sort=False)["whole"]
    before, after = of_day.ffill(limit=_SHORT_GAP), of_day.bfill(limit=_SHORT_GAP)
    gap = order["whole"].isna()
    of_another = (order["node_id"] != order["node_id"].shift()) | (order["day"] != order["day"].shift())
    run = ((gap != gap.shift()) | of_another).cumsum()
    length, place = gap.groupby(run).transform("size"), gap.groupby(run).cumcount() + 1
    line = (before + (after - before) * place / (length + 1)).fillna(before).fillna(after)
    between = line.where(gap & (length <= _SHORT_GAP))
    spread = ((after - before).abs() / 2).fillna(0.3 * between.abs()).where(between.notna())
    return between.reindex(hours.index), spread.reindex(hours.index)


def _deviation_of_holding(
    hours: pd.DataFrame, whole: pd.Series[float], day: pd.Series[pd.Timestamp]
) -> pd.Series[float]:
    """The standard deviation (m³) of each hour's volume that comes from samples which hold for others that were lost.

    Of a share f of n samples that are there at random, each holds for a stretch whose length varies; the mean square of
    such a sum's error is 2 (1 - f) / (f n) times that of the step from sample to sample, for which the day's steps from
    hour to hour stand. A volume that was counted holds for nothing: of it as much is sampled as is vouched for.
    """
    order = hours.assign(whole=whole, day=day).sort_values(["node_id", "window_start"], kind="stable")
    keys = [order["node_id"], order["day"]]
    step = order.groupby(keys, sort=False)["whole"].diff() ** 2
    step = step.groupby(keys, sort=False).transform("mean")
    sums = order[["sampled", "coverage"]].fillna(0.0).groupby(keys, sort=False).transform("sum")
    share = (sums["sampled"] / sums["coverage"].where(sums["coverage"] > 0)).clip(0.01, 1)
    samples = (3600 / order["cadence"]).clip(lower=1)
    variance = step * 2 * (1 - share) / (share * samples)
    return (variance.fillna(0.0) ** 0.5).reindex(hours.index)


def with_rest_of_days(days: pd.DataFrame, hours: pd.DataFrame, edges: pd.DatetimeIndex) -> pd.DataFrame:
    """Adds the rests of a day's hours put together; unknown where that of an hour is."""
    at = np.searchsorted(edges, hours["window_start"], side="right") - 1
    within = hours[(at >= 0) & (at < len(edges) - 1)]
    summed = (
        within.assign(window_start=edges[at[(at >= 0) & (at < len(edges) - 1)]], squared=within["rest_deviation"] ** 2)
        .groupby(["node_id", "window_start"])
        .agg(rest=("rest", "sum"), known=("rest", "count"), hours=("rest", "size"), squared=("squared", "sum"))
        .reset_index()
    )
    summed["unknown"] = summed["known"] < summed["hours"]
    summed["rest"] = summed["rest"].mask(summed["unknown"])
    summed["rest_deviation"] = np.sqrt(summed["squared"]).mask(summed["unknown"])
    return days.merge(
        summed[["node_id", "window_start", "rest", "rest_deviation"]], how="left", on=["node_id", "window_start"]
    )
