"""What each channel of a share's nodes is, learned once a week from the weeks before it and stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import Connection, func, select, true
from sqlalchemy.dialects.postgresql import insert

from src.db.bulk_read import read_rows
from src.db.tables import node_channels
from src.domain.anomalies.signals import MEASURED, Signals
from src.domain.anomalies.watch import monday_of
from src.domain.channel_facts import Facts, facts_of, way_of_reporting
from src.domain.channels import Conventions
from src.domain.counting import registers, turning_round
from src.domain.readings import measurement_of
from src.processing.conclusions.extent import Extent, Progress
from src.processing.conclusions.hours import active_nodes, hourly_signals
from src.processing.conclusions.share import Share
from src.processing.ingest.counting import store_counting
from src.processing.jobs.patience import patiently
from src.processing.jobs.runtime import Runtime
from src.processing.warehouse.channels import stated_channels

LOOKED_AT = timedelta(weeks=8)
# How a channel reports shows in a week.
_PACED = timedelta(weeks=1)
# Two jobs that learn the same nodes at once would wait for each other row by row.
_LEARNING = 72652004
_PART = 200
# Five minutes are the finest that is stored: what reports more often is periodic.
_REPORTING = """
    SELECT node_id, measurement, percentile_cont(0.1) WITHIN GROUP (ORDER BY seconds) AS short,
        percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) AS usual,
        percentile_cont(0.9) WITHIN GROUP (ORDER BY seconds) AS long,
        percentile_cont(0.1) WITHIN GROUP (ORDER BY change) AS change
    FROM (
        SELECT measured.node_id, measurement,
            extract(epoch FROM window_start - lag(window_start) OVER readings) AS seconds,
            abs(value - lag(value) OVER readings)
                / nullif(greatest(abs(value), abs(lag(value) OVER readings)), 0) AS change
        FROM unnest(CAST(%(nodes)s AS text[])) AS listed (node_id)
        CROSS JOIN LATERAL (
            SELECT computed_metrics.node_id, window_start, measurement, value
            FROM water_infrastructure.computed_metrics
            CROSS JOIN LATERAL (VALUES ('flow_rate', avg_flow_rate), ('pressure', avg_pressure),
                ('temperature', avg_temperature)) AS figures (measurement, value)
            WHERE computed_metrics.node_id = listed.node_id AND time_window = '5min'
                AND window_start >= %(start)s AND window_start < %(end)s AND value IS NOT NULL
            OFFSET 0
        ) AS measured
        WINDOW readings AS (PARTITION BY measured.node_id, measurement ORDER BY window_start)
    ) AS steps
    WHERE seconds IS NOT NULL
    GROUP BY node_id, measurement HAVING count(*) >= 6
"""
# Of others there is nothing to learn: a node that was first read this week waits for the next.
_TO_LEARN = """
    SELECT listed.node_id
    FROM unnest(CAST(%(nodes)s AS text[])) AS listed (node_id)
    JOIN water_infrastructure.nodes USING (node_id)
    LEFT JOIN LATERAL (
        SELECT true AS is_there FROM water_infrastructure.computed_metrics
        WHERE node_id = listed.node_id AND time_window = '1hour'
            AND window_start >= %(start)s AND window_start < %(end)s
        LIMIT 1
    ) AS hour ON true
    LEFT JOIN LATERAL (
        SELECT true AS is_there FROM water_infrastructure.rejected_readings
        WHERE node_id = listed.node_id AND quarter_start >= %(start)s AND quarter_start < %(end)s
        LIMIT 1
    ) AS set_aside ON true
    LEFT JOIN LATERAL (
        SELECT true AS is_there FROM water_infrastructure.node_channels WHERE node_id = listed.node_id LIMIT 1
    ) AS learned ON true
    WHERE hour.is_there OR set_aside.is_there OR learned.is_there
        OR nodes.metadata ?| ARRAY['connected', 'units', 'ranges']
    ORDER BY 1
"""
# Ticks see a few days at a time; how a meter counts may show in weeks only.
_BACKWARD = """
    SELECT node_id, date_trunc('day', quarter_start, 'UTC') AS day, sum(readings) AS readings, min(lowest) AS lowest
    FROM water_infrastructure.rejected_readings
    WHERE node_id = ANY(%(nodes)s) AND quarter_start >= %(start)s AND quarter_start < %(end)s
        AND reason = 'flow_rate_negative'
    GROUP BY 1, 2
"""
_DAILY_VOLUMES = """
    SELECT day.node_id, day.window_start AS timestamp, day.total_volume AS volume
    FROM unnest(CAST(%(nodes)s AS text[])) AS listed (node_id)
    CROSS JOIN LATERAL (
        SELECT node_id, window_start, total_volume FROM water_infrastructure.computed_metrics
        WHERE node_id = listed.node_id AND time_window = '1day'
            AND window_start >= %(start)s AND window_start < %(end)s AND total_volume IS NOT NULL
        OFFSET 0
    ) AS day
"""
_SET_ASIDE = """
    SELECT node_id, reason, sum(readings) AS readings, min(lowest) AS lowest, max(highest) AS highest
    FROM water_infrastructure.rejected_readings
    WHERE node_id = ANY(%(nodes)s) AND quarter_start >= %(start)s AND quarter_start < %(end)s
        AND (reason LIKE '%%\\_too\\_high' OR reason LIKE '%%\\_placeholder')
    GROUP BY node_id, reason
"""


def learn_channels(runtime: Runtime, share: Share, extent: Extent, as_of: datetime) -> Iterator[Progress]:
    """Learns the channels of those of a share's nodes of which nothing is stored for the week of `as_of`, and
    something is known from before it; how many channels were written. Whatever hours a job has touched, what is stored
    for a week stays."""
    monday = monday_of(as_of, runtime.zone)
    start = monday - LOOKED_AT
    with runtime.database.connect() as connection:
        network = active_nodes(connection, share.node_ids)
        channels = node_channels.c
        learned_of = select(channels.node_id).where(
            channels.node_id.in_(list(network.index)),
            channels.measurement == "flow_rate",
            # A slow job does not take back what a later one has learned.
            channels.valid_from >= monday,
        )
        known = set(connection.scalars(learned_of))
        unknown = [node_id for node_id in network.index if node_id not in known]
        bound = {"nodes": unknown, "start": start, "end": monday}
        missing = list(read_rows(connection, _TO_LEARN, bound, {"node_id": "text"})["node_id"].astype(str))
    for first in range(0, len(missing), _PART):
        part = missing[first : first + _PART]

        def learned(part: Sequence[str] = part) -> int:
            with runtime.database.begin() as connection:
                share.hold(connection, _LEARNING)
                return _learn(connection, network, part, (start, monday), as_of, runtime.conventions)

        yield Progress(as_of, patiently(runtime, learned, "channels of a week"))


def _learn(
    connection: Connection,
    network: pd.DataFrame,
    node_ids: Sequence[str],
    span: tuple[datetime, datetime],
    as_of: datetime,
    conventions: Conventions,
) -> int:
    start, monday = span
    signals = hourly_signals(connection, network, node_ids, start, monday, start, balanced=False, all_channels=True)
    kinds = {"node_id": "text", "reason": "text", "readings": "number", "lowest": "number", "highest": "number"}
    set_aside = read_rows(connection, _SET_ASIDE, {"nodes": list(node_ids), "start": start, "end": monday}, kinds)
    set_aside["measurement"] = [measurement_of(reason) for reason in set_aside["reason"]]
    paces = read_rows(
        connection,
        _REPORTING,
        {"nodes": list(node_ids), "start": monday - _PACED, "end": monday},
        {"node_id": "text", "measurement": "text"} | dict.fromkeys(("short", "usual", "long", "change"), "number"),
    )
    reporting = {
        (str(row["node_id"]), str(row["measurement"])): way_of_reporting(
            row["short"], row["usual"], row["long"], None if pd.isna(row["change"]) else float(row["change"])
        )
        for row in paces.to_dict("records")
    }
    facts = facts_of(signals, set_aside, reporting)
    _find_counting(connection, node_ids, signals, span, as_of)
    metadata: dict[Any, Any] = network["metadata"].to_dict()
    rows = []
    for node_id in node_ids:
        for measurement in MEASURED:
            found = facts.get((node_id, measurement), Facts(0))
            found = _as_stated(found, measurement, metadata[node_id] or {}, conventions)
            rows.append(
                asdict(found)
                | {
                    "node_id": node_id,
                    "measurement": measurement,
                    "valid_from": monday,
                    "learned_at": as_of,
                    "is_counted": found.is_counted,
                    "placeholders": list(found.placeholders),
                    "evidence": list(found.evidence),
                }
            )
    statement = insert(node_channels)
    new = {name: statement.excluded[name] for name in rows[0] if name not in ("node_id", "measurement")}
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=list(node_channels.primary_key),
            set_=new,
            where=func.coalesce(node_channels.c.valid_from <= statement.excluded.valid_from, true()),
        ),
        rows,
    )
    return len(rows)


def _find_counting(
    connection: Connection, node_ids: Sequence[str], signals: Signals, span: tuple[datetime, datetime], as_of: datetime
) -> None:
    """Stores which meters turn round, by the values that were set aside as negative, and whose volumes are registers'
    readings, by their days; their windows are named as outdated then."""
    bound = {"nodes": list(node_ids), "start": span[0], "end": span[1]}
    kinds = {"node_id": "text", "day": "instant", "readings": "number", "lowest": "number"}
    backward = read_rows(connection, _BACKWARD, bound, kinds)
    volumes = read_rows(
        connection, _DAILY_VOLUMES, bound, {"node_id": "text", "timestamp": "instant", "volume": "number"}
    )
    store_counting(
        connection, turning_round(signals, backward), registers(volumes), stated_channels(connection, node_ids), as_of
    )


def _as_stated(facts: Facts, measurement: str, metadata: Mapping[str, Any], conventions: Conventions) -> Facts:
    """The facts where people have stated something: that wins."""
    stated = {name: value if isinstance(value := metadata.get(name), Mapping) else {} for name in _STATED}
    connected = stated["connected"].get(measurement)
    if isinstance(connected, bool):
        sentence = f"stated in the node file: {'' if connected else 'not '}connected"
        facts = replace(facts, is_connected=connected, evidence=(*facts.evidence, sentence))
        if connected:
            facts = replace(facts, copy_of=None)
    if facts.unit_questioned and (measurement in stated["units"] or measurement in stated["ranges"]):
        sentence = "unit or range stated in the node file: not questioned"
        facts = replace(facts, unit_questioned=False, likely_unit=None, evidence=(*facts.evidence, sentence))
    elif facts.unit_questioned and measurement in conventions.ranges:
        sentence = "range stated in the settings: not questioned"
        facts = replace(facts, unit_questioned=False, likely_unit=None, evidence=(*facts.evidence, sentence))
    return facts


_STATED = ("connected", "units", "ranges")
