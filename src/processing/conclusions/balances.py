"""Water balances of the windows that a job has touched: rows in, `domain.efficiency`, rows out.

Districts are balanced share by share; what the network did is added up from them when all are (see `sums`).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from sqlalchemy import Connection, select, text

from src.db.tables import district_balances, districts
from src.db.upsert import write_changed
from src.domain import efficiency, losses
from src.domain.days import day_start, day_starts
from src.domain.meter_errors import meter_error, storage_error
from src.processing.conclusions.events import plain
from src.processing.conclusions.extent import Extent, Progress
from src.processing.conclusions.meters import windows_of, with_rest_of_days, with_rest_of_hours
from src.processing.conclusions.rolling import write_rolling
from src.processing.conclusions.share import NO_DISTRICT, Share
from src.processing.jobs.patience import patiently
from src.processing.jobs.runtime import Runtime
from src.settings import Settings
from src.vocabulary import BalanceWindow

BAR_PER_METRE = 0.0980665
# Two jobs that balance the same hours would wait for each other row by row, in any order.
_BALANCING = 72652003
# As much as is held in memory at once.
_SPAN = timedelta(days=31)
_NEAR = pd.Timedelta(minutes=30)
# District by its id, as its row in `districts`.
Districts = dict[str, Any]
_METERS = text(
    """
    SELECT node_id, coalesce(district_id, '-') AS district_id, role,
        metadata ->> 'feeding_district_id' AS feeding_district_id,
        CASE WHEN jsonb_typeof(metadata -> 'tank_area_m2') = 'number'
            THEN CAST(metadata ->> 'tank_area_m2' AS double precision) END AS tank_area_m2,
        metadata ->> 'meter_class' AS meter_class,
        CASE WHEN jsonb_typeof(metadata -> 'meter_error_percent') = 'number'
            THEN CAST(metadata ->> 'meter_error_percent' AS double precision) END AS meter_error_percent,
        -- What has fallen silent may still let water pass: only what somebody took out of service is left out.
        CASE WHEN out_of_service_reason = 'by hand' THEN out_of_service_since END AS left_at,
        CASE WHEN out_of_service_reason = 'silent' THEN out_of_service_since END AS silenced_at
    FROM water_infrastructure.nodes
    WHERE is_active AND role IN ('inlet', 'outlet', 'consumption', 'storage')
        AND (coalesce(district_id, '-') = ANY(:districts) OR metadata ->> 'feeding_district_id' = ANY(:districts))
    """
)
_LEVELS = text(
    """
    SELECT node_id, window_start, avg_pressure FROM water_infrastructure.computed_metrics
    WHERE time_window = '5min' AND window_start >= :start AND window_start < :end AND node_id = ANY(:nodes)
        AND avg_pressure IS NOT NULL
    """
)
_PRESSURES = text(
    """
    SELECT coalesce(district_id, '-') AS district_id, window_start, avg(avg_pressure) AS pressure
    FROM water_infrastructure.computed_metrics JOIN water_infrastructure.nodes USING (node_id)
    WHERE time_window = '1hour' AND window_start >= :start AND window_start < :end
        AND coalesce(district_id, '-') = ANY(:districts)
        AND coalesce(role, '') <> 'storage' AND avg_pressure IS NOT NULL
        AND (out_of_service_reason IS DISTINCT FROM 'by hand' OR window_start < out_of_service_since)
        AND NOT EXISTS (
            SELECT FROM water_infrastructure.node_channels AS channel
            WHERE channel.node_id = computed_metrics.node_id AND measurement = 'pressure' AND NOT is_counted
        )
    GROUP BY 1, 2
    """
)
_STORED = text(
    """
    SELECT district_id, window_start, window_end, balance, active_nodes, total_nodes
    FROM water_infrastructure.district_balances
    WHERE time_window = :time_window AND district_id = ANY(:districts)
        AND window_start >= :first AND window_start <= :last
    """
)


def write_balances(runtime: Runtime, share: Share, extent: Extent, as_of: datetime) -> Iterator[Progress]:
    """Balances every hour and local day of a share's districts, from the extent's first day on, that has ended by
    `as_of`, a month in one transaction; after each, to where all is balanced and how many windows were written."""
    zone = runtime.zone
    balanced_here = [*share.districts, *([NO_DISTRICT] if share.is_first else [])]
    with runtime.database.connect() as connection:
        meters = _with_errors(pd.read_sql(_METERS, connection, params={"districts": balanced_here}), runtime.settings)
        known = {row.district_id: row for row in connection.execute(select(districts))}
    # Of a day whose windows are being deleted, what was balanced stays.
    retained_from = day_start(as_of - timedelta(days=runtime.settings.retention_metrics_days), zone, 1)
    first = max(day_start(extent.first, zone), retained_from)
    while meters["district_id"].isin(balanced_here).any() and first < as_of:
        # Spans end with a local day, so that each day is balanced as a whole, and on each with one set of meters.
        left = [day_start(at, zone) for at in meters["left_at"].dropna()]
        end = min([day_start(first + _SPAN, zone), *(day for day in left if day > first)])
        span = first, min(end, as_of)
        serving = meters[[pd.isna(at) or day_start(at, zone) > first for at in meters["left_at"]]]

        def balanced(span: tuple[datetime, datetime] = span, serving: pd.DataFrame = serving) -> int:
            if not serving["district_id"].isin(balanced_here).any():
                return 0
            with runtime.database.begin() as connection:
                share.hold(connection, _BALANCING)
                return _write_span(connection, runtime, serving, known, span, balanced_here)

        yield Progress(span[1], patiently(runtime, balanced, "balances"), first)
        first = span[1]


def _with_errors(meters: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Adds how far each meter errs (share), and each tank (m³), at 95 %."""
    stated = zip(meters["role"], meters["meter_class"], meters["meter_error_percent"].astype("float64"), strict=True)
    errors: dict[str, float] = {str(name): error for name, error in settings.meter_errors.items()}
    return meters.assign(
        error=[meter_error(role, meter_class, percent, errors) for role, meter_class, percent in stated],
        storage_error=storage_error(meters["tank_area_m2"].astype("float64"), settings.level_error_metres),
    )


def _write_span(
    connection: Connection,
    runtime: Runtime,
    meters: pd.DataFrame,
    known: Districts,
    span: tuple[datetime, datetime],
    balanced_here: list[str],
) -> int:
    zone = runtime.zone
    start, end = (pd.Timestamp(instant) for instant in span)
    # The night before shows what leaks on the first morning.
    first_hour = start.floor("h")
    hours = pd.date_range(first_hour - pd.Timedelta(days=1), end, freq="1h")
    of_hours = with_rest_of_hours(connection, windows_of(connection, meters, "1hour", hours), zone)
    hourly = _balances(connection, meters, of_hours, hours, balanced_here)
    hourly = _with_night_flow(hourly, _pressures(connection, hours, balanced_here), known, zone)
    hourly_here = hourly[hourly["window_start"] >= first_hour]
    write_changed(connection, district_balances, _changed(connection, _rows("1hour", hourly_here, hours)))
    written = hourly_here["window_start"].nunique()
    days = pd.DatetimeIndex([day for day in day_starts(span[0], span[1], zone) if day <= span[1]])
    if len(days) > 1:
        of_days = with_rest_of_days(windows_of(connection, meters, "1day", days), of_hours, days)
        daily = _with_nights_added(_balances(connection, meters, of_days, days, balanced_here), hourly, days)
        daily = daily.merge(efficiency.largest_meters(of_days), how="left", on=["window_start", "district_id"])
        changed = _changed(connection, _rows("1day", daily, days))
        write_changed(connection, district_balances, changed)
        if changed:
            starts = sorted({row["window_start"] for row in changed})
            write_rolling(connection, zone, starts, balanced_here, known, runtime.settings.apparent_loss_share)
        written += daily["window_start"].nunique()
    return written


def _balances(
    connection: Connection,
    meters: pd.DataFrame,
    grid: pd.DataFrame,
    edges: pd.DatetimeIndex,
    balanced_here: list[str],
) -> pd.DataFrame:
    """Balances of these districts in the windows between edges that follow each other.

    Args:
        grid: every meter in every window, with what is known of it.
    """
    grid = grid.assign(storage_change=np.nan)
    tanks = meters[(meters["role"] == "storage") & (meters["tank_area_m2"] > 0)]
    around: dict[str, Any] = {"start": edges[0] - _NEAR, "end": edges[-1] + _NEAR, "nodes": list(tanks["node_id"])}
    levels = pd.read_sql(_LEVELS, connection, params=around) if len(tanks) else pd.DataFrame()
    tank: Any
    for tank in tanks.itertuples():
        rows = levels[levels["node_id"] == tank.node_id]
        instants = pd.DatetimeIndex(pd.to_datetime(rows["window_start"], utc=True))
        level = pd.DataFrame({"level": rows["avg_pressure"].to_numpy() / BAR_PER_METRE}, index=instants).sort_index()
        change = efficiency.storage_change(level, edges, float(tank.tank_area_m2))
        grid.loc[grid["node_id"] == tank.node_id, "storage_change"] = change.to_numpy()
    reporting = _reporting(grid, meters)
    balances = efficiency.water_balance(grid).merge(reporting, on=["window_start", "district_id"])
    # Inlets through which others get water are read with them; what those districts balance is not known here.
    return balances[balances["district_id"].isin(balanced_here)].reset_index(drop=True)


def _reporting(grid: pd.DataFrame, meters: pd.DataFrame) -> pd.DataFrame:
    """How many of a district's meters measured something in the window, and how many there are in service."""
    silenced = grid["node_id"].map(meters.set_index("node_id")["silenced_at"])
    is_out = grid["window_start"] >= pd.to_datetime(silenced, utc=True)
    reported = grid["volume"].notna() | grid["storage_change"].notna()
    counted = grid.assign(active_nodes=reported, total_nodes=reported | ~is_out)
    by_window = counted.groupby(["window_start", "district_id"])[["active_nodes", "total_nodes"]]
    return by_window.sum().reset_index()


def _pressures(connection: Connection, hours: pd.DatetimeIndex, balanced_here: list[str]) -> pd.DataFrame:
    """Mean pressure (bar) of each district by hour: index window_start, columns districts."""
    bound: dict[str, Any] = {"start": hours[0], "end": hours[-1], "districts": balanced_here}
    rows = pd.read_sql(_PRESSURES, connection, params=bound)
    rows["window_start"] = pd.to_datetime(rows["window_start"], utc=True)
    return rows.pivot(index="window_start", columns="district_id", values="pressure").reindex(hours[:-1])


def _with_night_flow(hourly: pd.DataFrame, pressures: pd.DataFrame, known: Districts, zone: ZoneInfo) -> pd.DataFrame:
    """Estimates the losses of districts whose customers have no meters, where their connections are known."""
    parts = []
    for district_id, balances in hourly.groupby("district_id"):
        district = known.get(str(district_id))
        if balances["method"].isna().all() and district is not None and district.connections:
            local = pd.DatetimeIndex(balances["window_start"]).tz_convert(zone)
            pressure = pressures[district_id] if district_id in pressures else pd.Series(np.nan, pressures.index)
            inflow = pd.DataFrame(
                {
                    "flow": balances["input_volume"].to_numpy() / 3.6,
                    "pressure": pressure.reindex(balances["window_start"]).to_numpy(),
                },
                index=local,
            )
            use = losses.NIGHT_USE_LITRES if district.night_use_litres is None else district.night_use_litres
            exponent = 1.0 if district.leakage_exponent is None else district.leakage_exponent
            lost = losses.night_flow_loss(inflow, district.connections, use, exponent).to_numpy()
            balances = efficiency.with_loss(balances, pd.Series(lost, balances.index))
        parts.append(balances)
    return pd.concat(parts, ignore_index=True)


def _with_nights_added(daily: pd.DataFrame, hourly: pd.DataFrame, days: pd.DatetimeIndex) -> pd.DataFrame:
    """Puts the hours' estimated losses together for days; a day with an hour that is not known has none."""
    estimated = hourly[hourly["method"] == efficiency.NIGHT_FLOW]
    if estimated.empty:
        return daily
    day = days[np.searchsorted(days, estimated["window_start"], side="right") - 1]
    of_day = estimated.assign(day=day).groupby(["day", "district_id"])["loss_volume"].agg(["sum", "count"])
    hours_of = pd.Series((days[1:] - days[:-1]) / pd.Timedelta(hours=1), index=days[:-1])
    keys = pd.MultiIndex.from_frame(daily[["window_start", "district_id"]])
    found = of_day.reindex(keys)
    complete = found["count"].to_numpy() == hours_of.reindex(daily["window_start"]).to_numpy()
    concerned = daily["district_id"].isin(estimated["district_id"].unique())
    lost = pd.Series(np.where(complete, found["sum"].to_numpy(), np.nan), daily.index)
    return pd.concat([daily[~concerned], efficiency.with_loss(daily[concerned], lost[concerned])], ignore_index=True)


def _rows(time_window: BalanceWindow, balances: pd.DataFrame, edges: pd.DatetimeIndex) -> list[dict[str, Any]]:
    """As they are stored."""
    ends = dict(zip(edges[:-1], edges[1:], strict=True))
    return [
        {
            "district_id": str(zone["district_id"]),
            "time_window": time_window,
            "window_start": zone["window_start"].to_pydatetime(),
            "window_end": ends[zone["window_start"]].to_pydatetime(),
            "balance": _zone(zone, of_day=time_window == "1day"),
            "active_nodes": int(zone["active_nodes"]),
            "total_nodes": int(zone["total_nodes"]),
        }
        for zone in balances.to_dict("records")
    ]


def _changed(connection: Connection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those of these rows, all of one window size, that differ from what is stored: most are as they were."""
    if not rows:
        return []
    bound = {
        "districts": sorted({row["district_id"] for row in rows}),
        "time_window": rows[0]["time_window"],
        "first": min(row["window_start"] for row in rows),
        "last": max(row["window_start"] for row in rows),
    }
    stored = {
        (row.district_id, row.window_start): row._asdict() | {"time_window": bound["time_window"]}
        for row in connection.execute(_STORED, bound)
    }
    return [row for row in rows if stored.get((row["district_id"], row["window_start"])) != row]


def _zone(zone: dict[Hashable, Any], *, of_day: bool) -> dict[str, Any]:
    """The figures of one district; for days, also what those of a month and a year are put together from."""
    figures = {name: plain(zone[name]) for name in [*efficiency.BALANCE, *(efficiency.METER_MARGINS if of_day else [])]}
    coverage, used = figures["coverage"], figures["efficiency_percentage"]
    figures["is_complete"] = coverage is not None and coverage >= efficiency.SUFFICIENT_COVERAGE
    if of_day:
        is_impossible = zone["loss_volume"] < -zone["loss_margin"]
        figures["non_revenue_water_percentage"] = None if used is None or is_impossible else 100 - used
        figures["largest_meters"] = plain(zone["largest_meters"])
    return figures
