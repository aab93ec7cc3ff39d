"""The network's sums: what its districts balance, added up, and how many events lie over each of its windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from sqlalchemy import Connection, Row, select, text

from src.db.tables import districts, network_efficiency
from src.db.upsert import write_changed
from src.domain import efficiency, losses
from src.domain.days import day_start
from src.processing.conclusions.counts import count_in_network
from src.processing.conclusions.events import plain
from src.processing.conclusions.rolling import WINDOWS, indicators_of
from src.processing.jobs.patience import patiently
from src.processing.jobs.runtime import Runtime
from src.vocabulary import BalanceWindow

# Two jobs that add up the same hours would wait for each other row by row, in any order.
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(72652003)")
# As much as is added up in one transaction.
_SPAN = timedelta(days=8)
_MARGINS = ("input_margin", "output_margin", "loss_margin", "estimated_share")
_COUNTED = ("active_nodes", "total_nodes", "network_availability")
_BALANCED = text(
    """
    SELECT district_id, window_start, window_end, balance, active_nodes, total_nodes
    FROM water_infrastructure.district_balances
    WHERE time_window = :time_window AND window_start >= :start AND window_start < :end
        -- What a district that has no meters any more told is no part of the network's sum.
        AND district_id = ANY(:metered)
    """
)
_METERED = text(
    "SELECT DISTINCT coalesce(district_id, '-') FROM water_infrastructure.nodes "
    "WHERE is_active AND role IN ('inlet', 'outlet', 'consumption', 'storage')"
)

Span = tuple[datetime, datetime]


def add_up(runtime: Runtime, start: datetime, as_of: datetime) -> None:
    """Adds the districts' balances up to the network's, from the local day of an instant on."""

    def added(connection: Connection, span: Span) -> None:
        connection.execute(_ONE_AT_A_TIME)
        # The hour across local midnight, where the zone's offset is no whole hour, begins before the day.
        hourly = span[0] - timedelta(seconds=span[0].timestamp() % 3600), span[1]
        _add_up(connection, "1hour", hourly, as_of)
        _add_up(connection, "1day", span, as_of)
        for time_window, days in WINDOWS.items():
            # Those whose last day is one of these.
            rolling = day_start(span[0], runtime.zone, 1 - days), day_start(span[1], runtime.zone, 1 - days)
            _add_up(connection, time_window, rolling, as_of)

    _in_spans(runtime, start, as_of, added)


def count_events_of_network(runtime: Runtime, start: datetime, as_of: datetime) -> None:
    """Makes the network's counts of events match the stored ones, from the local day of an instant on."""
    # The windows that are running lie under events, too.
    _in_spans(
        runtime, start, day_start(as_of, runtime.zone, 1), lambda connection, span: count_in_network(connection, *span)
    )


def _in_spans(runtime: Runtime, start: datetime, end: datetime, work: Callable[[Connection, Span], None]) -> None:
    """Does the work span after span of whole local days, each in a transaction of its own."""

    def done(span: Span) -> None:
        with runtime.database.begin() as connection:
            work(connection, span)

    for span in _spans(start, end, runtime.zone):
        patiently(runtime, partial(done, span), "sums of the network")


def _spans(start: datetime, end: datetime, zone: ZoneInfo) -> Iterator[Span]:
    first = day_start(start, zone)
    while first < end:
        following = min(day_start(first + _SPAN, zone), end)
        yield first, following
        first = following


def _add_up(connection: Connection, time_window: BalanceWindow, span: Span, as_of: datetime) -> None:
    """Writes a row per window: the network's figures, and those of each district in `zone_metrics`."""
    metered = set(connection.execute(_METERED).scalars())
    bound = {"time_window": time_window, "start": span[0], "end": span[1], "metered": sorted(metered)}
    if not (found := connection.execute(_BALANCED, bound).all()):
        return
    known = {}
    if time_window in WINDOWS:
        known = {row.district_id: losses.pipes_of(row) for row in connection.execute(select(districts))}
    zones: dict[datetime, list[Row[Any]]] = {}
    for zone in sorted(found, key=lambda zone: (zone.window_start, zone.district_id)):
        zones.setdefault(zone.window_start, []).append(zone)
    balances = pd.DataFrame(
        [
            # Rows of before margins were known lack some.
            {"window_start": zone.window_start} | {name: zone.balance.get(name) for name in efficiency.BALANCE}
            for listed in zones.values()
            for zone in listed
        ]
    )
    # What is not there is no part of a sum, but makes it unknown.
    missing = [
        {"window_start": window_start, "reason": f"{district_id} is not balanced yet"}
        for window_start, listed in zones.items()
        for district_id in sorted(metered - {zone.district_id for zone in listed})
    ]
    balances = pd.concat([balances, pd.DataFrame(missing, columns=balances.columns)]) if missing else balances
    numbers = [name for name in efficiency.BALANCE if name not in ("method", "reason")]
    balances[numbers] = balances[numbers].astype("float64")
    rows = []
    for whole in efficiency.network_balance(balances).to_dict("records"):
        listed = zones[whole["window_start"].to_pydatetime()]
        # Rows that a migration made do not know how many meters reported in each district.
        is_counted = all(zone.total_nodes is not None for zone in listed)
        active = sum(zone.active_nodes for zone in listed) if is_counted else None
        total = sum(zone.total_nodes for zone in listed) if is_counted else None
        rows.append(
            {
                "time_window": time_window,
                "window_start": listed[0].window_start,
                "window_end": listed[0].window_end,
                "computation_timestamp": as_of,
                "total_input_volume": plain(whole["input_volume"]),
                "total_output_volume": plain(whole["output_volume"]),
                "total_loss_volume": plain(whole["loss_volume"]),
                "efficiency_percentage": plain(whole["efficiency_percentage"]),
                "method": plain(whole["method"]),
                "coverage": plain(whole["coverage"]),
                "reason": plain(whole["reason"]),
                **{name: plain(whole[name]) for name in _MARGINS},
                "indicators": _indicators(time_window, whole, listed, known),
                "zone_metrics": {zone.district_id: zone.balance for zone in listed},
                "active_nodes": active,
                "total_nodes": total,
                "network_availability": 100 * active / total if active is not None and total else None,
            }
        )
    write_changed(connection, network_efficiency, rows, timestamps=("computation_timestamp",), unless_null=_COUNTED)


def _indicators(
    time_window: BalanceWindow, whole: Mapping[Any, Any], listed: Sequence[Row[Any]], known: Mapping[str, losses.Pipes]
) -> dict[str, Any] | None:
    """What the network's losses are compared by, as one network of all its districts' pipes; of 30 and 365 days."""
    if time_window not in WINDOWS:
        return None
    parts = [zone.balance["real_loss_volume"] for zone in listed]
    real = np.nan if pd.isna(whole["loss_volume"]) or None in parts else sum(parts)
    pipes = losses.pipes_together([known.get(zone.district_id, losses.Pipes()) for zone in listed])
    ends = {name: pd.Timestamp(getattr(listed[0], name)) for name in ("window_start", "window_end")}
    window = {**whole, **ends, "real_loss_volume": real}
    return {"real_loss_volume": plain(real)} | indicators_of(time_window, window, pipes)
