"""Balances of the last 30 and 365 local days, when one of a day has changed: rows in, `domain.rolling`, rows out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from sqlalchemy import Connection, text

from src.db.tables import district_balances
from src.db.upsert import write_changed
from src.domain import efficiency, losses
from src.domain.days import day_start, day_starts
from src.domain.rolling import MONTH, rolling_balances
from src.processing.conclusions.events import plain
from src.vocabulary import BalanceWindow, RollingWindow

# How many local days each has.
WINDOWS: Mapping[RollingWindow, int] = {"30day": MONTH, "365day": 365}
# The one by which regulators class.
_CLASSED: RollingWindow = "365day"
_DAILY = [*efficiency.BALANCE, *efficiency.METER_MARGINS, "largest_meters"]
_FIGURES = [*efficiency.BALANCE, "real_loss_volume", "apparent_loss_share"]
_DAYS = text(
    """
    SELECT district_id, window_start, window_end, balance, active_nodes, total_nodes
    FROM water_infrastructure.district_balances
    WHERE time_window = '1day' AND district_id = ANY(:districts) AND window_start >= :start AND window_start < :end
    """
)


def write_rolling(
    connection: Connection,
    zone: ZoneInfo,
    changed: Sequence[datetime],
    balanced_here: Sequence[str],
    known: Mapping[str, Any],
    apparent_share: float,
) -> None:
    """Puts the windows together that hold days which have changed, in the transaction that changed these.

    Args:
        changed: the starts of days, in order.
        balanced_here: the districts whose windows are put together.
        known: what the utility knows of districts, by their ids.
        apparent_share: of the losses of metered districts.
    """
    first, longest = changed[0], max(WINDOWS.values())
    bound: dict[str, Any] = {
        "districts": list(balanced_here),
        "start": day_start(first, zone, 1 - longest),
        "end": day_start(changed[-1], zone, longest),
    }
    days = connection.execute(_DAYS, bound).all()
    ended = max(day.window_end for day in days)
    daily = pd.DataFrame(
        [
            # Rows of before margins were known lack some.
            {name: day.balance.get(name) for name in _DAILY}
            | {name: getattr(day, name) for name in ("district_id", "window_start", "active_nodes", "total_nodes")}
            for day in days
        ]
    )
    daily["window_start"] = pd.to_datetime(daily["window_start"], utc=True)
    for time_window, length in WINDOWS.items():
        # What changed on a day is in every window that ends after it and begins before its end.
        end = min(ended, day_start(changed[-1], zone, length))
        edges = pd.DatetimeIndex(day_starts(day_start(first, zone, 1 - length), day_start(end, zone, -1), zone))
        within = daily[(daily["window_start"] >= edges[0]) & (daily["window_start"] < edges[-1])]
        found = rolling_balances(within, edges, length, apparent_share)
        rows = [_row(time_window, window, known) for window in found.to_dict("records")]
        write_changed(connection, district_balances, rows)


def _row(time_window: RollingWindow, window: Mapping[Any, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    figures = {name: plain(window[name]) for name in _FIGURES}
    coverage = figures["coverage"]
    pipes = losses.pipes_of(known.get(str(window["district_id"])))
    return {
        "district_id": str(window["district_id"]),
        "time_window": time_window,
        "window_start": window["window_start"].to_pydatetime(),
        "window_end": window["window_end"].to_pydatetime(),
        "balance": figures
        | {"known_days": int(window["known_days"]), "is_complete": coverage >= efficiency.SUFFICIENT_COVERAGE}
        | indicators_of(time_window, window, pipes),
        "active_nodes": _count(window["active_nodes"]),
        "total_nodes": _count(window["total_nodes"]),
    }


def indicators_of(time_window: BalanceWindow, window: Mapping[Any, Any], pipes: losses.Pipes) -> dict[str, Any]:
    """What the losses of a window are compared by; all null where they are unknown or cannot be."""
    days = (window["window_end"] - window["window_start"]) / pd.Timedelta(days=1)
    # Losses below zero show nothing about the pipes, however far meters may err.
    is_below = window["loss_volume"] is not None and window["loss_volume"] < 0
    lost, real, share = (
        np.nan if is_below or figure is None else float(figure)
        for figure in (window["loss_volume"], window["real_loss_volume"], window["efficiency_percentage"])
    )
    return losses.indicators(lost / days, real / days, 100 - share, pipes, with_class=time_window == _CLASSED)


def _count(number: float) -> int | None:
    return int(number) if np.isfinite(number) else None
