"""Anomalies of the hours that a job has touched: rows in, `domain.anomalies`, events out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pandas as pd
from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import insert

from src.db.bulk_read import read_rows
from src.db.tables import node_habits
from src.domain.anomalies.detection import Circumstances, usable_hours
from src.domain.anomalies.habits import Habits, habits_from
from src.domain.anomalies.limits import limits_of
from src.domain.anomalies.signals import MEASURED, Signals, cells_of, signals_of
from src.domain.anomalies.together import keys_of
from src.domain.anomalies.watch import HISTORY, LEAD, Watch, habits_of_week, weeks
from src.processing.cycle.events import stored_events, write_events
from src.processing.models.detectors import WEEK, detectors_of_week, keep_alarms, learn_detectors

_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(72652002)")
_NODES = text(
    """
    SELECT node_id, district_id, role, metadata FROM water_infrastructure.nodes WHERE is_active ORDER BY node_id
    """
)
# So long before a week every figure is looked at; before that, means suffice.
_RECENT = timedelta(days=3)
_FIGURES = [column for columns in MEASURED.values() for column in columns]
_MEANS = [columns[0] for columns in MEASURED.values()]
_HOURS = """
    SELECT place, window_start, cadence_seconds, {figures}
    FROM water_infrastructure.computed_metrics
    JOIN unnest(%(nodes)s) WITH ORDINALITY AS asked (node_id, place) USING (node_id)
    WHERE time_window = '1hour' AND window_start >= %(start)s AND window_start < %(end)s
"""
_BALANCES = """
    SELECT window_start, zone.key AS district_id,
        CASE WHEN zone.value ->> 'method' = 'metered' THEN (zone.value ->> 'loss_volume')::double precision END AS loss,
        (zone.value ->> 'input_volume')::double precision AS inflow
    FROM water_infrastructure.network_efficiency, jsonb_each(zone_metrics) AS zone
    WHERE time_window = '1hour' AND window_start >= %(start)s AND window_start < %(end)s
"""
_REJECTED = """
    SELECT node_id, quarter_start, reason, readings FROM water_infrastructure.rejected_readings
    WHERE quarter_start >= %(start)s AND quarter_start < %(end)s
"""
# What the windows of nodes with events say of them. One that was withdrawn has no length, and lies over nothing.
_COUNT = text(
    """
    UPDATE water_infrastructure.computed_metrics AS kept SET anomaly_count = counted.events
    FROM (
        SELECT metric.node_id, time_window, window_start, count(anomaly_id) AS events
        FROM water_infrastructure.computed_metrics AS metric
        LEFT JOIN water_infrastructure.anomalies AS event ON event.node_id = metric.node_id
            AND event.timestamp < window_end
            AND (event."end" IS NULL OR event."end" > greatest(window_start, event.timestamp))
        WHERE metric.node_id = ANY(:nodes) AND window_start >= :start AND window_start < :end
        GROUP BY metric.node_id, time_window, window_start
    ) AS counted
    WHERE kept.node_id = counted.node_id AND kept.time_window = counted.time_window
        AND kept.window_start = counted.window_start AND kept.anomaly_count IS DISTINCT FROM counted.events
        AND kept.window_start >= :start
    """
)
_COUNT_IN_NETWORK = text(
    """
    UPDATE water_infrastructure.network_efficiency AS kept
    SET total_anomalies = counted.events, critical_anomalies = counted.critical
    FROM (
        SELECT time_window, window_start, count(anomaly_id) AS events,
            count(anomaly_id) FILTER (WHERE severity = 'critical') AS critical
        FROM water_infrastructure.network_efficiency
        LEFT JOIN water_infrastructure.anomalies AS event
            ON event.timestamp < window_end
            AND (event."end" IS NULL OR event."end" > greatest(window_start, event.timestamp))
        WHERE window_end > :start AND window_start < :end
        GROUP BY time_window, window_start
    ) AS counted
    WHERE kept.time_window = counted.time_window AND kept.window_start = counted.window_start
        AND (kept.total_anomalies, kept.critical_anomalies) IS DISTINCT FROM (counted.events, counted.critical)
    """
)


def write_anomalies(connection: Connection, zone: ZoneInfo, country: str, start: datetime, as_of: datetime) -> int:
    """Judges every whole hour from `start` to `as_of` again; the number of events that are new or changed.

    Repeating it changes nothing; readings that came late change what they touch.
    """
    # Two jobs that end at once would both find what is new.
    connection.execute(_ONE_AT_A_TIME)
    start, until = (edge.replace(minute=0, second=0, microsecond=0) for edge in (start, as_of))
    known = pd.read_sql(_NODES, connection, index_col="node_id")
    if known.empty or start >= until:
        return 0
    stored = stored_events(connection, start - HISTORY - timedelta(days=7), until)
    watch = Watch(stored, {str(node_id): district for node_id, district in known["district_id"].items()})
    watched: set[str] = set()
    for monday, first, end in weeks(start, until, zone):
        watched = _judge_week(connection, watch, known, zone, country, monday, (first, end), as_of)
    watch.close_unwatched(watched, until)
    write_events(connection, [event for event in watch.stored if event.anomaly_id in watch.touched])
    concerned = sorted(
        {event.finding.node_id for event in watch.stored if event.finding.end is None or event.finding.end >= start}
    )
    begins = [event.finding.begin for event in watch.stored if event.anomaly_id in watch.touched]
    first = min([start, *begins])
    # Days are windows too, and begin before their hours.
    connection.execute(_COUNT, {"nodes": concerned, "start": first - timedelta(days=1), "end": as_of})
    connection.execute(_COUNT_IN_NETWORK, {"start": first, "end": as_of})
    return len(watch.touched)


def _judge_week(
    connection: Connection,
    watch: Watch,
    known: pd.DataFrame,
    zone: ZoneInfo,
    country: str,
    monday: datetime,
    span: tuple[datetime, datetime],
    as_of: datetime,
) -> set[str]:
    """Judges the part of a week; the districts that an active multivariate detector watches."""
    first, end = span
    signals = _signals(connection, known, monday - LEAD, end, monday - _RECENT)
    habits = _habits(connection, watch, known, signals, zone, country, monday, as_of)
    said: Any = known["metadata"].to_dict()
    limits = [limits_of(measurement, role, said[node_id] or {}) for node_id, measurement, role in _listed(signals)]
    rejections = read_rows(
        connection,
        _REJECTED,
        {"start": monday - _RECENT, "end": end},
        {"node_id": "text", "quarter_start": "instant", "reason": "text", "readings": "integer"},
    )
    rejections = rejections[rejections["node_id"].isin(known.index)].reset_index(drop=True)
    detectors = detectors_of_week(connection, monday, as_of)
    alarms = watch.judge(signals, habits, Circumstances(limits, rejections, detectors), zone, country, span)
    keep_alarms(connection, alarms, monday)
    return {detector.district_id for detector in detectors if detector.is_active}


def _signals(
    connection: Connection, known: pd.DataFrame, start: datetime, end: datetime, whole_from: datetime
) -> Signals:
    """The hourly figures of all active nodes; before `whole_from` their means only."""
    parts = []
    for figures, first, last in ((_MEANS, start, min(whole_from, end)), (_FIGURES, max(whole_from, start), end)):
        if first < last:
            columns = {"place": "integer", "window_start": "instant", "cadence_seconds": "number"}
            columns |= dict.fromkeys(figures, "number")
            query = _HOURS.format(figures=", ".join(figures))
            asked = {"nodes": list(known.index), "start": first, "end": last}
            parts.append(read_rows(connection, query, asked, columns))
    rows = pd.concat(parts, ignore_index=True).reindex(columns=["place", "window_start", "cadence_seconds", *_FIGURES])
    rows["node_id"] = pd.Categorical.from_codes(rows["place"].to_numpy(dtype="int64") - 1, known.index)
    balances = read_rows(
        connection,
        _BALANCES,
        {"start": start, "end": end},
        {"window_start": "instant", "district_id": "text", "loss": "number", "inflow": "number"},
    )
    return signals_of(rows, known[["district_id", "role"]], start, end, _told_by_balances(balances, known))


def _told_by_balances(balances: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """What balances tell as flows (L/s), under the first inlet of each district: always the same, whatever flows."""
    inlets = known[(known["role"] == "inlet") & known["district_id"].notna()]
    main = inlets.reset_index().drop_duplicates("district_id").set_index("district_id")["node_id"]
    meters = known[known["role"].isin(["inlet", "outlet", "storage"])].groupby("district_id").size()
    parts = []
    for measurement in ("loss", "inflow"):
        told = balances.dropna(subset=[measurement])
        # One inlet alone is its district's inflow already.
        several = measurement == "loss" or told["district_id"].map(meters).fillna(0) > 1
        told = told[told["district_id"].isin(main.index) & several]
        parts.append(
            pd.DataFrame(
                {
                    "node_id": told["district_id"].map(main),
                    "window_start": told["window_start"],
                    "measurement": measurement,
                    "flow": told[measurement] / 3.6,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _habits(
    connection: Connection,
    watch: Watch,
    known: pd.DataFrame,
    signals: Signals,
    zone: ZoneInfo,
    country: str,
    monday: datetime,
    as_of: datetime,
) -> Habits:
    """The habits that hold in a week; what was not learned yet is learned, and kept. So are detectors of the week that
    `as_of` lies in; those of weeks long past would never be in use."""
    keys = keys_of(signals)
    columns = {"key": "text", "habits": "text"}
    query = """
        SELECT measurement || ' ' || node_id, habits FROM water_infrastructure.node_habits
        WHERE valid_from = %(monday)s
    """
    stored = read_rows(connection, query, {"monday": monday}, columns)
    told: dict[str, Mapping[str, Any]] = {
        key: orjson.loads(habits) for key, habits in zip(stored["key"], stored["habits"], strict=True)
    }
    missing = [n for n, key in enumerate(keys) if key not in told]
    if missing:
        history = _signals(connection, known, monday - HISTORY, monday, monday - HISTORY)
        learned = habits_of_week(history, monday, watch.stored, zone, country)
        if as_of - monday <= WEEK:
            cells, usable = cells_of(history.hours, zone, country), usable_hours(history, watch.stored)
            learn_detectors(connection, history, cells, learned, usable, monday, as_of)
        names = keys_of(history)
        described = dict(zip(names, learned.described(names), strict=True))
        rows = []
        for n in missing:
            own = described.get(keys[n], {})
            told[keys[n]] = own
            signal = signals.listed.iloc[n]
            rows.append(
                {
                    "node_id": signal["node_id"],
                    "measurement": signal["measurement"],
                    "valid_from": monday,
                    "history_days": own.get("history", 0.0) / 24,
                    "habits": own,
                }
            )
        connection.execute(insert(node_habits).on_conflict_do_nothing(), rows)
    return habits_from([told[key] for key in keys], keys)


def _listed(signals: Signals) -> list[tuple[str, str, str | None]]:
    """Node, measurement and role of each signal."""
    columns = (signals.listed[name] for name in ("node_id", "measurement", "role"))
    return [(str(node), str(measurement), role) for node, measurement, role in zip(*columns, strict=True)]
