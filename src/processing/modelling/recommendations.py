"""Pressure management, daily: how leakage follows pressure in each district, and the set-points that would save water.

The relation of a district is a model of type efficiency_optimization: fitted from its nights, registered with its
interval, renewed by one fitted from newer nights. Recommendations rest on the active one.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import orjson
import pandas as pd
from sqlalchemy import Connection, delete, select, text
from sqlalchemy.dialects.postgresql import insert

from src.db import tables
from src.db.bulk_read import read_rows
from src.domain import pressure, set_points
from src.domain.losses import NIGHT_USE_LITRES
from src.domain.pressure import NotKnown, Relation
from src.observability import logger
from src.processing.jobs.announcement import announce
from src.processing.jobs.runtime import Runtime
from src.processing.jobs.scheduled import Done, run_scheduled
from src.processing.modelling import registry
from src.vocabulary import MINIMUM_PRESSURE

JOB_TYPE = "recommendations"
# Nights that a relation is fitted to; days whose pressures a schedule must have served; when a relation is renewed.
NIGHTS, RENEWED_AFTER = timedelta(days=90), timedelta(days=7)
# As `domain.losses.night_flow_loss` counts it.
NIGHT_HOURS = (2, 3)
_DISTRICTS = text(
    """
    SELECT district_id, array_agg(node_id ORDER BY node_id) FILTER (WHERE role = 'inlet') AS inlets,
        array_agg(node_id ORDER BY node_id) FILTER (WHERE coalesce(role, '') NOT IN ('inlet', 'storage')) AS others
    FROM water_infrastructure.nodes WHERE is_active AND out_of_service_since IS NULL AND district_id IS NOT NULL
    GROUP BY district_id HAVING count(*) FILTER (WHERE role = 'inlet') > 0 ORDER BY district_id
    """
)
_PRESSURES = """
    SELECT node_id, window_start, avg_pressure, min_pressure FROM water_infrastructure.computed_metrics
    WHERE node_id = ANY(%(nodes)s) AND time_window = '1hour' AND window_start >= %(start)s AND window_end <= %(end)s
        AND avg_pressure IS NOT NULL
"""
_BALANCES = """
    SELECT window_start, (zone_metrics -> %(district)s ->> 'input_volume')::double precision,
        (zone_metrics -> %(district)s ->> 'output_volume')::double precision, zone_metrics -> %(district)s ->> 'method'
    FROM water_infrastructure.network_efficiency
    WHERE time_window = '1hour' AND window_start >= %(start)s AND window_end <= %(end)s
"""


def run_recommendations(runtime: Runtime, as_of: datetime) -> bool:
    """The daily look at every district, if no other replica has done it; whether it was done here, and did not fail."""

    def look() -> Done:
        outcomes, failures = write_recommendations(runtime, as_of)
        error = "; ".join(f"{district}: {reason}" for district, reason in failures.items()) or None
        return Done({"outcomes": outcomes}, error, failed=bool(failures) and not outcomes)

    done = run_scheduled(runtime, JOB_TYPE, f"Recommendations {as_of:%Y-%m-%d}", as_of, look)
    announce(runtime)
    return done is not None


def write_recommendations(runtime: Runtime, as_of: datetime) -> tuple[dict[str, str], dict[str, str]]:
    """Renews what is recommended for every district that has an inlet; harmless to repeat.

    Returns:
        The outcome by district, and by district what went wrong: one bad district does not stop the others.
    """
    with runtime.database.begin() as connection:
        found = connection.execute(_DISTRICTS).all()
        stored = tables.recommendations
        connection.execute(delete(stored).where(stored.c.district_id.not_in([row.district_id for row in found])))
    outcomes, failures = {}, {}
    for district in found:
        try:
            with runtime.database.begin() as connection:
                row = _recommendation(runtime, connection, district, as_of)
                statement = insert(stored).values(row)
                changed = {name: statement.excluded[name] for name in row}
                connection.execute(statement.on_conflict_do_update(index_elements=["district_id"], set_=changed))
            outcomes[district.district_id] = row["outcome"]
        except (ValueError, ArithmeticError) as error:
            logger(__name__).exception("no recommendation could be computed", district_id=district.district_id)
            failures[district.district_id] = f"{type(error).__name__}: {error}"
    return outcomes, failures


def _recommendation(runtime: Runtime, connection: Connection, district: Any, as_of: datetime) -> dict[str, Any]:
    row: dict[str, Any] = {
        "district_id": district.district_id,
        "computed_at": as_of,
        "outcome": "refused",
        "minimum_pressure": MINIMUM_PRESSURE,
        "schedule": [],
    } | dict.fromkeys(
        ("model_id", "inlet_node_id", "critical_node_id", "leakage_volume", "saving_volume", "saving_volume_lower",
         "saving_volume_upper")
    )  # fmt: skip
    try:
        if len(district.inlets) > 1:
            raise NotKnown(pressure.several_inlets(district.inlets))
        row["inlet_node_id"] = inlet = district.inlets[0]
        hours, lowest, error = _pressures(runtime, connection, inlet, district.others or [], as_of)
        model_id, relation = _relation(runtime, connection, district.district_id, hours, error, as_of)
        row["model_id"] = model_id
        found = set_points.schedule(relation, hours, lowest)
    except NotKnown as reason:
        return row | {"reason": str(reason)}
    return row | {
        "outcome": "recommended",
        "reason": f"{found.critical_node} keeps {MINIMUM_PRESSURE:g} bar with {set_points.MARGIN:g} bar to "
        f"spare; leakage follows pressure with an exponent of {relation.exponent:.2f} ({relation.lower:.2f} to "
        f"{relation.upper:.2f})",
        "critical_node_id": found.critical_node,
        "schedule": [
            {
                "from": f"{period.begin:02d}:00",
                "to": f"{period.end:02d}:00",
                "set_point": period.set_point,
                "present_set_point": period.present,
            }
            for period in found.periods
        ],
        "leakage_volume": found.leakage,
        "saving_volume": found.saving,
        "saving_volume_lower": found.saving_lower,
        "saving_volume_upper": found.saving_upper,
    }


def _pressures(
    runtime: Runtime, connection: Connection, inlet: str, others: list[str], as_of: datetime
) -> tuple[pd.DataFrame, pd.DataFrame, float]:
    """By local hour set_point and mean pressure (bar), each node's lowest pressure, and the mean's error (a share)."""
    columns = {"node_id": "text", "window_start": "instant", "average": "number", "lowest": "number"}
    bound = {"nodes": [inlet, *others], "start": as_of - NIGHTS, "end": as_of}
    rows = read_rows(connection, _PRESSURES, bound, columns)
    average, lowest = (
        rows.pivot(index="window_start", columns="node_id", values=name).tz_convert(runtime.zone)
        for name in ("average", "lowest")
    )
    if inlet not in average:
        raise NotKnown(pressure.no_set_point(inlet))
    within = [name for name in average if name != inlet]
    # A sensor that was taken away, or came yesterday, does not represent the district.
    within = [name for name in within if average[name].notna().mean() > 0.5]
    if not within:
        raise NotKnown(pressure.NO_PRESSURE_WITHIN)
    mean, error = pressure.mean_pressure(average[within])
    return pd.DataFrame({"set_point": average[inlet], "pressure": mean}), lowest[within], error


def _relation(
    runtime: Runtime, connection: Connection, district_id: str, hours: pd.DataFrame, error: float, as_of: datetime
) -> tuple[UUID, Relation]:
    """The relation in use: the active one, or one fitted now where there is none or it is old.

    Raises:
        NotKnown: where there is neither.
    """
    active = registry.active_of(connection, registry.PRESSURE, district_id)
    if active is not None and active.training_data_end < as_of - NIGHTS:
        registry.retire(
            connection, active.model_id, as_of, registry.SERVICE, f"its nights are over {NIGHTS.days} days old"
        )
        active = None
    if active is not None and active.activated_at > as_of - RENEWED_AFTER:
        return _relation_of(connection, active)
    try:
        nights, metered = _nights(runtime, connection, district_id, hours, as_of)
        relation = pressure.leakage_relation(nights, metered, error)
    except NotKnown:
        if active is None:
            raise
        return _relation_of(connection, active)
    model_id = registry.add(
        connection,
        registry.PRESSURE,
        district_id,
        orjson.dumps(asdict(relation)),
        as_of,
        runtime.clock.now(),
        {
            "validation_metrics": {name: getattr(relation, name) for name in ("exponent", "lower", "upper", "nights")},
            "parameters": {"use_is_metered": metered, "pressure_error": error},
            "training_data_start": hours.index[0].to_pydatetime(),
            "training_data_end": hours.index[-1].to_pydatetime() + timedelta(hours=1),
            "training_samples": relation.nights,
        },
    )
    reason = (
        f"{relation.nights} nights tell an exponent of {relation.exponent:.2f} ({relation.lower:.2f} to "
        f"{relation.upper:.2f})"
    )
    registry.promote(connection, model_id, as_of, registry.SERVICE, reason)
    return model_id, relation


def _relation_of(connection: Connection, active: Any) -> tuple[UUID, Relation]:
    try:
        return active.model_id, Relation(**orjson.loads(registry.artefact_of(connection, active.model_id)))
    except registry.TamperedArtefact as refused:
        raise NotKnown(str(refused)) from None


def _nights(
    runtime: Runtime, connection: Connection, district_id: str, hours: pd.DataFrame, as_of: datetime
) -> tuple[pd.DataFrame, bool]:
    """Nights as `domain.pressure.leakage_relation` wants them, and whether legitimate use is metered."""
    columns = {"window_start": "instant", "input": "number", "output": "number", "method": "text"}
    bound = {"district": district_id, "start": as_of - NIGHTS, "end": as_of}
    balances = read_rows(connection, _BALANCES, bound, columns).set_index("window_start").tz_convert(runtime.zone)
    metered = bool((balances["method"] == "metered").any())
    if metered:
        use = balances["output"].where(balances["method"] == "metered") / 3.6
    else:
        columns_of = tables.districts.c
        known = connection.execute(
            select(columns_of.connections, columns_of.night_use_litres).where(columns_of.district_id == district_id)
        ).one_or_none()
        if known is None or not known.connections:
            raise NotKnown(pressure.NO_NIGHT_USE)
        per_connection = NIGHT_USE_LITRES if known.night_use_litres is None else known.night_use_litres
        use = pd.Series(known.connections * per_connection / 3600, balances.index)
    hourly = hours.join(pd.DataFrame({"inflow": balances["input"] / 3.6, "use": use}))
    local = pd.DatetimeIndex(hourly.index)
    at_night = hourly[np.isin(local.hour, NIGHT_HOURS)]
    day = pd.DatetimeIndex(at_night.index).tz_localize(None).normalize()
    # A night of which an hour is missing would be compared with whole ones.
    grouped = at_night.groupby(day)
    return grouped.mean().where(grouped.count() == len(NIGHT_HOURS)), metered
