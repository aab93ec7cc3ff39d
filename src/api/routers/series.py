"""Series for charts: many nodes in one call, on one time axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator

from src.api import queries_series
from src.api.axis import WINDOW_SECONDS, Seconds, axis, windows_between
from src.api.database import as_json, database_of, fetch_together, now_of
from src.api.parameters import Instant, invalid, no_such_node, span
from src.api.problems import documented
from src.api.schemas.common import storable
from src.api.schemas.series import Measurement, Series
from src.api.thinning import Floats, thinned
from src.settings import Settings
from src.vocabulary import TimeWindow

router = APIRouter(prefix="/api/v1", tags=["series"])
UNITS: dict[Measurement, str] = {"flow_rate": "L/s", "pressure": "bar", "temperature": "°C", "volume": "m³"}
# Of all nodes and measurements together: a few dozen megabytes while they are arranged.
MOST_WINDOWS = 250_000
_MOST_EVENTS = 500
_LINES = ("values", "lower", "upper")
_KINDS = "history|forecast|expected"
Names = Annotated[
    list[Annotated[str, AfterValidator(storable), Query(max_length=300)]],
    Query(min_length=1, max_length=20, description="repeated, for up to 20 nodes", examples=[["node-santanna"]]),
]


@router.get("/series", response_model=Series, responses=documented(404))
async def series(
    request: Request,
    node_id: Names,
    measurement: Annotated[list[Measurement], Query(max_length=4, description="repeated, for several")] = ["flow_rate"],  # noqa: B006
    time_window: TimeWindow = "1hour",
    start_time: Instant = None,
    end_time: Instant = None,
    include: Annotated[
        str,
        Query(
            pattern=f"^({_KINDS})(,({_KINDS})){{0,2}}$",
            description="what is shown, separated by commas; forecast and expected are of flow_rate by hours",
        ),
    ] = "history,forecast,expected",
    points: Annotated[int, Query(ge=100, le=5000, description="of the time axis, at most about")] = 1000,
) -> Response:
    """What was measured, forecast and expected in the windows that begin in [start_time, end_time), by default of the
    last 7 days, on one time axis; thinned to `points` windows where there are more."""
    settings: Settings = request.app.state.settings
    database = database_of(request)
    start, end = span(start_time, end_time, _end_of_window(now_of(request), time_window), timedelta(days=7))
    names, measurements, kinds = list(dict.fromkeys(node_id)), list(dict.fromkeys(measurement)), include.split(",")
    windows = windows_between(start, end, time_window) * len(names) * len(measurements)
    if windows > MOST_WINDOWS:
        raise invalid(
            "start_time",
            f"the span has {windows} windows of all nodes and measurements, and at most {MOST_WINDOWS} are put on one "
            "axis: ask for a shorter span, a longer time_window or fewer nodes",
        )
    # The history of each measurement by its name.
    wanted: dict[str, tuple[Any, ...]] = {}
    if "history" in kinds:
        for name in measurements:
            wanted[name] = (queries_series.HISTORY[name], names, time_window, start, end)
    if "flow_rate" in measurements and time_window == "1hour":
        if "forecast" in kinds:
            wanted["forecast"] = (queries_series.FORECAST, names, start, end)
        if "expected" in kinds:
            wanted["expected"] = (queries_series.EXPECTED, names, "flow_rate", start, end)
            wanted["learned"] = (queries_series.LEARNED_DAYS, names, "flow_rate", end)
    wanted["nodes"] = (queries_series.SERIES_NODES, names)
    wanted["events"] = (queries_series.SERIES_EVENTS, names, start, end, _MOST_EVENTS)
    rows = await fetch_together(database, wanted)
    nodes = rows["nodes"]
    if missing := [name for name in names if name not in {node["node_id"] for node in nodes}]:
        raise no_such_node(missing[0])
    instants = axis(start, end, time_window, settings.utility_timezone)
    shown: list[dict[str, Any]] = []
    for measured in measurements:
        described = [dict(node) | {"measurement": measured, "unit": UNITS[measured]} for node in nodes]
        if measured in rows:
            shown += _histories(described, _by_node(rows[measured]), instants, measured)
        if measured == "flow_rate" and "forecast" in rows:
            forecasts = _by_node(rows["forecast"])
            shown += [_forecast(node, forecasts.get(node["node_id"]), instants) for node in described]
        if measured == "flow_rate" and "expected" in rows:
            expected = _by_node(rows["expected"])
            days = {row["node_id"]: row["history_days"] for row in rows["learned"]}
            shown += [
                _expected(node, expected.get(node["node_id"]), instants, days.get(node["node_id"]))
                for node in described
            ]
    return as_json(_thinned(shown, instants, time_window, start, end, points) | {"events": rows["events"]})


def _end_of_window(now: datetime, time_window: TimeWindow) -> datetime:
    """The end of the window (of days: of the hour) that is running, so that the same is answered until it has ended."""
    step = min(WINDOW_SECONDS[time_window], 3600)
    return now + timedelta(seconds=-now.timestamp() % step)


def _by_node(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    return {row["node_id"]: row for row in rows}


def _on(instants: Seconds, row: Mapping[str, Any] | None, name: str) -> Floats:
    """A column of a node's windows by their places on the axis; NaN where there is none."""
    line = np.full(len(instants), np.nan)
    if row is not None:
        at = np.array(row["at"], dtype=np.int64)
        places = np.searchsorted(instants, at)
        there = places < len(instants)
        there[there] = instants[places[there]] == at[there]
        values = np.array(row[name], dtype=np.float64)
        # What is no number is not known.
        line[places[there]] = np.where(np.isfinite(values), values, np.nan)[there]
    return line


def _histories(
    nodes: list[dict[str, Any]], rows: Mapping[str, Mapping[str, Any]], instants: Seconds, measured: Measurement
) -> list[dict[str, Any]]:
    columns = {"values": "value", "coverage": "coverage", "quality": "quality"}
    if measured in ("flow_rate", "volume"):
        columns["estimated"] = "estimated"
    if measured != "volume":
        columns |= {"minimum": "low", "maximum": "high"}
    return [
        node
        | {"kind": "history"}
        | {name: _on(instants, rows.get(node["node_id"]), column) for name, column in columns.items()}
        for node in nodes
    ]


def _band(row: Mapping[str, Any] | None, instants: Seconds) -> dict[str, Floats]:
    return {name: _on(instants, row, column) for name, column in zip(_LINES, ("value", "low", "high"), strict=True)}


def _forecast(node: dict[str, Any], row: Mapping[str, Any] | None, instants: Seconds) -> dict[str, Any]:
    described = {name: row and row[name] for name in ("model_id", "model_version", "made_at")}
    reason = None if row else "no model that was active has forecast this node's flow in the span"
    return node | {"kind": "forecast", "reason": reason} | described | _band(row, instants)


def _expected(
    node: dict[str, Any], row: Mapping[str, Any] | None, instants: Seconds, days: float | None
) -> dict[str, Any]:
    reason = None
    if row is None and days is None:
        reason = "detection has not learned yet what is usual here"
    elif row is None:
        reason = (
            f"what is usual here was learned from {days:.0f} days of readings; detection expects nothing before it has "
            "two weeks, and judges only hours after them"
        )
    return node | {"kind": "expected", "reason": reason} | _band(row, instants)


def _thinned(
    shown: list[dict[str, Any]],
    instants: Seconds,
    time_window: TimeWindow,
    start: datetime,
    end: datetime,
    points: int,
) -> dict[str, Any]:
    found = thinned([line["values"] for line in shown], len(instants), points)
    return {
        "time_window": time_window,
        "start_time": start,
        "end_time": end,
        "window_seconds": WINDOW_SECONDS[time_window],
        "thinning": {
            "method": found.method,
            "windows": len(instants),
            "points": len(found.places),
            "statement": found.statement,
        },
        "timestamps": instants[found.places].tolist(),
        "series": [
            {
                name: value[found.places].tolist() if isinstance(value, np.ndarray) else value
                for name, value in line.items()
            }
            for line in shown
        ],
    }
