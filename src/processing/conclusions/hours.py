"""Hourly figures as detectors look at them: rows of windows and of balances, arranged by hour and signal."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

import numpy as np
import pandas as pd
from sqlalchemy import Connection, select, text

from src.db.bulk_read import read_rows
from src.db.tables import node_channels
from src.domain.anomalies.signals import MEASURED, Signals, signals_of
from src.domain.service_life import BY_HAND

_NODES = text(
    "SELECT node_id, district_id, role, metadata, latitude, longitude, out_of_service_since, out_of_service_reason "
    "FROM water_infrastructure.nodes "
    "WHERE is_active AND node_id = ANY(:nodes)"
)
_FIGURES = [column for columns in MEASURED.values() for column in columns]
_MEANS = [columns[0] for columns in MEASURED.values()]
# OFFSET 0 makes the database look hours up node by node: of rows that have just come it has no statistics, and it would
# read those of every node.
_HOURS = """
    SELECT place, window_start, cadence_seconds, {figures}
    FROM unnest(CAST(%(nodes)s AS text[])) WITH ORDINALITY AS listed (node_id, place)
    CROSS JOIN LATERAL (
        SELECT window_start, cadence_seconds, {figures} FROM water_infrastructure.computed_metrics
        WHERE node_id = listed.node_id AND time_window = '1hour'
            AND window_start >= %(start)s AND window_start < %(end)s
        OFFSET 0
    ) AS hour
"""
_BALANCES = """
    SELECT window_start, district_id,
        CASE WHEN balance ->> 'method' = 'metered' THEN (balance ->> 'loss_volume')::double precision END AS loss,
        (balance ->> 'input_volume')::double precision AS inflow
    FROM water_infrastructure.district_balances
    WHERE time_window = '1hour' AND district_id = ANY(%(districts)s)
        AND window_start >= %(start)s AND window_start < %(end)s
"""


def active_nodes(connection: Connection, node_ids: Collection[str]) -> pd.DataFrame:
    """Those of the nodes that are active: index node_id, sorted; columns district_id, role, metadata,
    latitude, longitude, out_of_service_since and out_of_service_reason (as stored)."""
    nodes = pd.read_sql(_NODES, connection, params={"nodes": list(node_ids)}, index_col="node_id").sort_index()
    return nodes.assign(out_of_service_since=pd.to_datetime(nodes["out_of_service_since"], utc=True))


def channels_left_out(connection: Connection, node_ids: Collection[str]) -> dict[str, set[str]]:
    """Of each measurement the nodes whose channel enters no average, limit or quality: it measures nothing, repeats
    another or is in a unit that does not fit."""
    channels = node_channels.c
    rows = connection.execute(
        select(channels.measurement, channels.node_id).where(
            channels.node_id.in_(list(node_ids)), channels.is_counted.is_(False)
        )
    )
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.measurement, set()).add(row.node_id)
    return found


def hourly_signals(
    connection: Connection,
    network: pd.DataFrame,
    node_ids: Collection[str],
    start: datetime,
    end: datetime,
    whole_from: datetime,
    *,
    balanced: bool = True,
    all_channels: bool = False,
) -> Signals:
    """The hourly figures of some nodes in [start, end).

    Args:
        network: whole districts, as of `active_nodes`.
        node_ids: those wanted, in any order.
        whole_from: before it, only means are read.
        balanced: with the signals of the districts' balances, under their first inlets.
        all_channels: with those that measure nothing, repeat another or are in a unit that does not fit.
    """
    nodes = network.assign(supply=_supplies(network)).loc[sorted(node_ids), ["district_id", "role", "supply"]]
    parts = []
    for figures, first, last in ((_MEANS, start, min(whole_from, end)), (_FIGURES, max(whole_from, start), end)):
        if first < last:
            columns = {"place": "integer", "window_start": "instant", "cadence_seconds": "number"}
            columns |= dict.fromkeys(figures, "number")
            query = _HOURS.format(figures=", ".join(figures))
            bound = {"nodes": list(nodes.index), "start": first, "end": last}
            parts.append(read_rows(connection, query, bound, columns))
    rows = pd.concat(parts, ignore_index=True).reindex(columns=["place", "window_start", "cadence_seconds", *_FIGURES])
    rows["node_id"] = pd.Categorical.from_codes(rows["place"].to_numpy(dtype="int64") - 1, nodes.index)
    left_at = _left_by_hand(network).reindex(nodes.index)
    if left_at.notna().any():
        # What a node sends after somebody took it out of service means nothing.
        at = pd.DatetimeIndex(left_at)[rows["place"].to_numpy(dtype="int64") - 1]
        rows = rows[~np.asarray(rows["window_start"] >= pd.Series(at, rows.index))]
    if not all_channels:
        for measurement, left_out in channels_left_out(connection, nodes.index).items():
            of_channel = list(MEASURED.get(measurement, ()))
            rows.loc[rows["node_id"].isin(left_out), of_channel] = np.nan
    if not balanced:
        return signals_of(rows, nodes, start, end)
    districts = sorted(network["district_id"].dropna().unique())
    balances = read_rows(
        connection,
        _BALANCES,
        {"start": start, "end": end, "districts": districts},
        {"window_start": "instant", "district_id": "text", "loss": "number", "inflow": "number"},
    )
    by_inlet = _by_inlet(balances, network)
    by_inlet = by_inlet[by_inlet["node_id"].isin(nodes.index)]
    return signals_of(rows, nodes, start, end, by_inlet)


def _left_by_hand(network: pd.DataFrame) -> pd.Series:
    """Since when each node is out of service by hand; NaT where it is not, or where that is not known."""
    if "out_of_service_since" not in network:
        return pd.Series(pd.NaT, network.index, dtype="datetime64[us, UTC]")
    return network["out_of_service_since"].where(network["out_of_service_reason"] == BY_HAND)


def _by_inlet(balances: pd.DataFrame, network: pd.DataFrame) -> pd.DataFrame:
    """Balances as flows (L/s), under the first inlet of each district: always the same, whatever flows."""
    inlets = network[(network["role"] == "inlet") & network["district_id"].notna()]
    main = inlets.reset_index().drop_duplicates("district_id").set_index("district_id")["node_id"]
    meters = network[network["role"].isin(["inlet", "outlet", "storage"])].groupby("district_id").size()
    # What passes on to another district is no inflow of this one.
    meters = meters.add(_feeding(network).value_counts(), fill_value=0)
    parts = []
    for measurement in ("loss", "inflow"):
        known = balances.dropna(subset=[measurement])
        # One inlet alone is its district's inflow already.
        several = measurement == "loss" or known["district_id"].map(meters).fillna(0) > 1
        known = known[known["district_id"].isin(main.index) & several]
        parts.append(
            pd.DataFrame(
                {
                    "node_id": known["district_id"].map(main),
                    "window_start": known["window_start"],
                    "measurement": measurement,
                    "flow": known[measurement] / 3.6,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _feeding(network: pd.DataFrame) -> pd.Series:
    """By inlet, the district that it takes its water from; those that take it from none are left out."""
    if "metadata" not in network:
        # A sample of other districts, of which no more is known.
        return pd.Series(dtype=object)
    inlets = network[network["role"] == "inlet"]
    feeding = {node: (metadata or {}).get("feeding_district_id") for node, metadata in inlets["metadata"].items()}
    return pd.Series({node: name for node, name in feeding.items() if isinstance(name, str)}, dtype=object)


def _supplies(network: pd.DataFrame) -> pd.Series:
    """The first district, by name, of those that pass water on to each other, of each node's; null without one."""
    feeding = _feeding(network)
    first = {name: name for name in [*network["district_id"].dropna(), *feeding]}
    for district, feeding_district in zip(network["district_id"].reindex(feeding.index), feeding, strict=True):
        if district in first:
            joined = {first[district], first[feeding_district]}
            first = {name: min(joined) if supply in joined else supply for name, supply in first.items()}
    return network["district_id"].map(first)


def floor_hour(instant: datetime) -> datetime:
    """The whole hour at or before an instant."""
    return instant - timedelta(seconds=instant.timestamp() % 3600)
