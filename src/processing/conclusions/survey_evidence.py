"""What a survey is made of: what people state of nodes, what their days show, what is learned and forecast."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
from sqlalchemy import Connection, Row, text

from src.db.bulk_read import read_rows
from src.domain.channels import COUNTER, Conventions
from src.domain.days import day_start
from src.domain.forecasting.features import LEAST_WEEKS
from src.domain.lacking import District, Today
from src.domain.roles import LEVEL_CADENCE, LEVEL_STEP, LEVEL_SWING, PUMP_OFF, PUMP_VARIANCE, Channel, Node
from src.domain.rolling import MONTH
from src.domain.units import UNITS
from src.processing.jobs import records as jobs
from src.processing.modelling import registry
from src.processing.modelling.pools import pools
from src.processing.modelling.recommendations import NIGHT_HOURS, NIGHTS

# Days by which the behaviour of channels is judged.
_LOOKED_AT = 28
# A forecast made longer ago is not of what comes, and a balance of longer ago not of now.
_FORECAST_WITHIN, _BALANCE_WITHIN = timedelta(days=1), timedelta(days=7)
_NODES = text(
    """
    SELECT node_id, node_type, district_id, role, is_active, out_of_service_since, out_of_service_reason, latitude,
        longitude, nodes.updated_at, last_reading, metadata -> 'units' AS units, metadata -> 'connected' AS connected,
        metadata ->> 'volume_is' AS volume_is,
        CASE WHEN jsonb_typeof(metadata -> 'tank_area_m2') = 'number'
            THEN CAST(metadata ->> 'tank_area_m2' AS double precision) > 0 END AS has_tank_area
    FROM water_infrastructure.nodes LEFT JOIN water_infrastructure.ingestion_watermarks USING (node_id)
    ORDER BY node_id
    """
)
_CHANNELS = text(
    """
    SELECT node_id, measurement, hours, is_connected, copy_of, unit_questioned, likely_unit, evidence, is_counter
    FROM water_infrastructure.node_channels WHERE hours > 0 OR evidence <> '[]' OR is_counter
    """
)
_FIGURES = """
    SELECT day.*, first_hour.window_start AS first_reading
    FROM (
        SELECT node_id, count(*) FILTER (WHERE reading_count > 0) AS days,
            min(window_start) FILTER (WHERE reading_count > 0) AS first_day,
            percentile_disc(0.5) WITHIN GROUP (ORDER BY cadence_seconds) AS cadence_seconds,
            count(avg_flow_rate) AS flow_days, count(avg_pressure) AS pressure_days,
            count(avg_temperature) AS temperature_days,
            max(window_start) FILTER (WHERE avg_flow_rate IS NOT NULL) AS flow_last,
            max(window_start) FILTER (WHERE avg_pressure IS NOT NULL) AS pressure_last,
            max(window_start) FILTER (WHERE avg_temperature IS NOT NULL) AS temperature_last,
            count(avg_flow_rate) FILTER (WHERE window_start >= %(recent)s AND window_start < %(today)s) AS flow_recent,
            bool_or(max_flow_rate <> 0 OR min_flow_rate <> 0) AS flow_moving,
            count(avg_flow_rate) FILTER (WHERE is_looked_at) AS flow_looked_at,
            count(avg_pressure) FILTER (WHERE is_looked_at) AS pressure_looked_at,
            count(*) FILTER (WHERE is_pump AND is_looked_at) AS pump_days,
            percentile_cont(0.5) WITHIN GROUP (ORDER BY max_flow_rate) FILTER (WHERE is_pump AND is_looked_at)
                AS pump_flow,
            count(*) FILTER (WHERE is_level AND is_looked_at) AS level_days,
            max(flow_coverage) FILTER (WHERE window_start = %(last_day)s) AS flow_coverage
        FROM (
            SELECT *, window_start >= %(looked_at)s AND window_start < %(today)s AS is_looked_at,
                min_flow_rate >= 0 AND max_flow_rate > 0 AND min_flow_rate <= %(pump_off)s * max_flow_rate
                    AND flow_variance
                        >= %(pump_variance)s * (max_flow_rate - avg_flow_rate) * (avg_flow_rate - min_flow_rate)
                    AND flow_variance > 0 AS is_pump,
                max_pressure - min_pressure >= %(level_swing)s AND cadence_seconds <= %(level_cadence)s
                    AND max_pressure_change <= %(level_step)s * (max_pressure - min_pressure) AS is_level
            FROM water_infrastructure.computed_metrics
            WHERE time_window = '1day' AND window_start >= %(since)s AND window_start < %(end)s
        ) AS window_of_day
        GROUP BY node_id
    ) AS day
    LEFT JOIN LATERAL (
        SELECT window_start FROM water_infrastructure.computed_metrics
        WHERE node_id = day.node_id AND time_window = '1hour' AND reading_count > 0
            AND window_start >= day.first_day AND window_start < day.first_day + interval '25 hours'
        ORDER BY window_start LIMIT 1
    ) AS first_hour ON true
"""
_STEMS = {"flow_rate": "flow", "pressure": "pressure", "temperature": "temperature"}
_KINDS = {
    "node_id": "text", "days": "integer", "first_day": "instant", "cadence_seconds": "number",
    **{f"{stem}_days": "integer" for stem in _STEMS.values()},
    **{f"{stem}_last": "instant" for stem in _STEMS.values()},
    "flow_recent": "integer", "flow_moving": "text", "flow_looked_at": "integer", "pressure_looked_at": "integer",
    "pump_days": "integer", "pump_flow": "number", "level_days": "integer", "flow_coverage": "number",
    "first_reading": "instant",
}  # fmt: skip
# OFFSET 0: node by node, by the index.
_FORECAST = text(
    """
    SELECT nodes.node_id FROM water_infrastructure.nodes
    CROSS JOIN LATERAL (
        SELECT FROM water_infrastructure.ml_predictions_cache JOIN water_infrastructure.ml_models USING (model_id)
        WHERE ml_predictions_cache.node_id = nodes.node_id AND prediction_timestamp > :since
            AND prediction_timestamp <= :as_of AND is_active
        LIMIT 1
    ) AS forecast
    """
)
_UNTRAINED = text(
    """
    SELECT pool ->> 'scope' AS scope, pool ->> 'not_trained' AS reason
    FROM (
        SELECT result_summary -> 'pools' AS pools FROM water_infrastructure.processing_jobs
        WHERE job_type = :training AND status = 'completed' AND scheduled_for <= :as_of
        ORDER BY scheduled_for DESC LIMIT 1
    ) AS last, jsonb_array_elements(pools) AS pool
    WHERE pool ->> 'not_trained' IS NOT NULL
    """
)
_DISTRICTS = text(
    """
    SELECT district_id, described.connections, described.updated_at, day.window_start AS day_start,
        day.balance ->> 'loss_volume' IS NOT NULL AS has_day, day.balance ->> 'reason' AS reason,
        CAST(month.balance ->> 'known_days' AS integer) AS known_days, outcome, recommended.reason AS recommendation
    FROM (
        SELECT district_id FROM water_infrastructure.nodes WHERE district_id <> ''
        UNION SELECT district_id FROM water_infrastructure.districts
    ) AS named
    LEFT JOIN water_infrastructure.districts AS described USING (district_id)
    LEFT JOIN LATERAL (
        SELECT window_start, balance FROM water_infrastructure.district_balances AS stored
        WHERE stored.district_id = named.district_id AND time_window = '1day' AND window_start >= :balanced_since
            AND window_end <= :as_of
        ORDER BY window_start DESC LIMIT 1
    ) AS day ON true
    LEFT JOIN LATERAL (
        SELECT balance FROM water_infrastructure.district_balances AS stored
        WHERE stored.district_id = named.district_id AND time_window = :month
            AND window_start >= :month_since AND window_end <= :as_of
        ORDER BY window_start DESC LIMIT 1
    ) AS month ON true
    LEFT JOIN water_infrastructure.recommendations AS recommended USING (district_id)
    ORDER BY district_id
    """
)
# Nights of which both hours are known, of inlets that feed their district alone.
_NIGHTS = text(
    """
    SELECT district_id, count(*) AS nights FROM (
        SELECT inlet.district_id, date_trunc('day', window_start AT TIME ZONE :zone) AS night
        FROM (
            SELECT district_id, min(node_id) AS node_id FROM water_infrastructure.nodes
            WHERE role = 'inlet' AND is_active AND out_of_service_since IS NULL GROUP BY 1 HAVING count(*) = 1
        ) AS inlet
        CROSS JOIN LATERAL (
            SELECT window_start FROM water_infrastructure.computed_metrics
            WHERE node_id = inlet.node_id AND time_window = '1hour' AND window_start >= :since AND window_start < :as_of
                AND extract(hour FROM window_start AT TIME ZONE :zone) = ANY(:hours)
                AND avg_flow_rate IS NOT NULL AND avg_pressure > 0
            OFFSET 0
        ) AS hour
        GROUP BY 1, 2 HAVING count(*) = cardinality(:hours)
    ) AS whole GROUP BY 1
    """
)


def today_of(connection: Connection, as_of: datetime, zone: ZoneInfo) -> Today:
    """What a survey at an instant goes by."""
    begin, end = day_start(as_of, zone, -1), day_start(as_of, zone)
    untrained = connection.execute(_UNTRAINED, {"training": jobs.TRAINING, "as_of": as_of})
    return Today(
        as_of,
        begin.astimezone(zone).date(),
        round((end - begin) / timedelta(hours=1)),
        zone,
        {row.scope: row.reason for row in untrained},
    )


def nodes_of(
    connection: Connection, today: Today, conventions: Conventions, retention_days: int
) -> tuple[list[Node], dict[str, datetime]]:
    """All nodes by node_id, and when what people state of each had last changed.

    Args:
        retention_days: as long as windows are stored.
    """
    stated = connection.execute(_NODES).all()
    as_of, zone = today.as_of, today.zone
    bound = {
        "since": as_of - timedelta(days=retention_days),
        "end": as_of,
        "recent": day_start(as_of, zone, -7 * LEAST_WEEKS),
        "looked_at": day_start(as_of, zone, -_LOOKED_AT),
        "last_day": day_start(as_of, zone, -1),
        "today": day_start(as_of, zone),
        "pump_off": PUMP_OFF,
        "pump_variance": PUMP_VARIANCE,
        "level_swing": LEVEL_SWING,
        "level_cadence": LEVEL_CADENCE,
        "level_step": LEVEL_STEP,
    }
    figures = {str(row["node_id"]): row for row in read_rows(connection, _FIGURES, bound, _KINDS).to_dict("records")}
    learned: dict[str, dict[str, Row[Any]]] = {}
    for channel in connection.execute(_CHANNELS):
        learned.setdefault(channel.node_id, {})[channel.measurement] = channel
    pool_of = {node_id: pool.scope for pool in pools(connection, as_of) for node_id in pool.node_ids}
    forecast = set(connection.scalars(_FORECAST, {"since": as_of - _FORECAST_WITHIN, "as_of": as_of}))
    found = []
    for row in stated:
        recorded: Mapping[Any, Any] = figures.get(row.node_id, {})
        coverage = recorded.get("flow_coverage")
        cadence = recorded.get("cadence_seconds")
        found.append(
            Node(
                node_id=row.node_id,
                node_type=row.node_type,
                district_id=row.district_id or None,
                role=row.role,
                is_active=row.is_active,
                out_of_service_since=row.out_of_service_since,
                out_of_service_reason=row.out_of_service_reason,
                has_tank_area=bool(row.has_tank_area),
                latitude=row.latitude,
                longitude=row.longitude,
                channels=_channels(row, recorded, learned.get(row.node_id, {}), conventions),
                first_reading=_instant(recorded.get("first_reading")),
                last_reading=row.last_reading,
                cadence_seconds=None if cadence is None or pd.isna(cadence) else float(cadence),
                days=int(recorded.get("days", 0)),
                vouched_hours=float("nan") if coverage is None else float(coverage) * today.last_day_hours,
                pool=pool_of.get(row.node_id),
                has_forecast=row.node_id in forecast,
            )
        )
    return found, {row.node_id: row.updated_at for row in stated}


def _channels(
    row: Row[Any], figures: Mapping[Any, Any], learned: Mapping[str, Row[Any]], conventions: Conventions
) -> dict[str, Channel]:
    """The channels of a node of which anything is recorded, learned or stated."""
    # Metadata are the utility's: what has another form there is something else.
    units, connected = (value if isinstance(value, dict) else {} for value in (row.units, row.connected))
    found: dict[str, Channel] = {}
    for measurement in UNITS:
        stem, facts = _STEMS.get(measurement), learned.get(measurement)
        days = int(figures.get(f"{stem}_days", 0))
        is_stated = measurement in units or measurement in connected
        if measurement == "volume":
            is_stated |= row.volume_is is not None
        if not days and facts is None and not is_stated:
            continue
        is_counter = conventions.volume_is == COUNTER or (facts is not None and bool(facts.is_counter))
        counted = row.volume_is or (COUNTER if is_counter else conventions.volume_is)
        pumped = figures.get("pump_flow")
        found[measurement] = Channel(
            unit=str(units.get(measurement) or conventions.units.get(measurement) or UNITS[measurement]),
            is_unit_stated=measurement in units,
            days=days,
            recent_days=int(figures.get("flow_recent", 0)) if stem == "flow" else 0,
            last_day=_instant(figures.get(f"{stem}_last")),
            hours=0 if facts is None else facts.hours,
            is_connected=None if facts is None else facts.is_connected,
            copy_of=None if facts is None else facts.copy_of,
            unit_questioned=facts is not None and facts.unit_questioned,
            likely_unit=None if facts is None else facts.likely_unit,
            evidence=() if facts is None else tuple(facts.evidence),
            counts_as=counted if measurement == "volume" else None,
            is_moving=stem != "flow" or figures.get("flow_moving") == "t",
            looked_at=int(figures.get(f"{stem}_looked_at", 0)),
            level_days=int(figures.get("level_days", 0)) if stem == "pressure" else 0,
            pump_days=int(figures.get("pump_days", 0)) if stem == "flow" else 0,
            pump_flow=float("nan") if stem != "flow" or pumped is None else float(pumped),
        )
    return found


def districts_of(connection: Connection, today: Today) -> tuple[list[District], dict[str, datetime | None]]:
    """All districts that nodes are in or that somebody has described, by district_id, and when what people state of
    each had last changed."""
    known = connection.execute(
        _DISTRICTS,
        {
            "as_of": today.as_of,
            "balanced_since": today.as_of - _BALANCE_WITHIN,
            "month": f"{MONTH}day",
            "month_since": today.as_of - timedelta(days=MONTH) - _BALANCE_WITHIN,
        },
    ).all()
    # Beside an active one, a shadow waits.
    in_use = sorted(registry.in_use(connection, registry.ANOMALIES, today.as_of), key=lambda one: one.is_active)
    detectors = {one.scope: one for one in in_use if one.is_active or one.status == registry.SHADOW}
    nights = connection.execute(
        _NIGHTS,
        {
            "zone": today.zone.key,
            "since": today.as_of - NIGHTS,
            "as_of": today.as_of,
            "hours": list(NIGHT_HOURS),
        },
    )
    known_nights = {row.district_id: row.nights for row in nights}
    found = []
    for row in known:
        model = detectors.get(row.district_id)
        found.append(
            District(
                row.district_id,
                connections=row.connections,
                has_day=bool(row.has_day),
                day=None if row.day_start is None else row.day_start.astimezone(today.zone).date(),
                reason=row.reason,
                known_days=row.known_days,
                detector=None if model is None else registry.ACTIVE if model.is_active else registry.SHADOW,
                shadow_since=None if model is None else model.shadow_since,
                recommendation=row.outcome,
                recommendation_reason=row.recommendation,
                nights=known_nights.get(row.district_id, 0),
            )
        )
    return found, {row.district_id: row.updated_at for row in known}


def _instant(value: Any) -> datetime | None:
    if value is None or pd.isna(value):
        return None
    instant: datetime = value.to_pydatetime()
    return instant
