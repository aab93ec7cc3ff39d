"""The dashboard's overview: what somebody must know now, in one call."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Request, Response

from src.api import queries, queries_incidents, queries_overview
from src.api.condition import condition_of
from src.api.database import as_json, database_of, now_of
from src.api.problems import documented
from src.api.schemas.overview import DistrictNow, OpenIncident, Overview, PressureBelow
from src.settings import Settings
from src.vocabulary import MINIMUM_PRESSURE

router = APIRouter(prefix="/api/v1/dashboard", tags=["dashboard"])
_MOST_SHOWN, _DAYS = 20, 30
_SAME_SECONDS = 300
_INPUT = ("window_start", "window_end", "total_input_volume", "coverage", "reason")
_LOSS_DAY = ("window_start", "total_input_volume", "total_loss_volume", "loss_margin", "reason")
_NODES = ("nodes_reporting", "nodes_active", "nodes_silent")
_PLANNED = {
    "node_id": "plan_nodes",
    "latitude": "plan_latitudes",
    "longitude": "plan_longitudes",
    "state": "plan_states",
}
_COUNTS = ("open_incidents", "open_critical", "open_warning", "open_info")


@router.get("/overview", response_model=Overview, responses=documented())
async def overview(request: Request) -> Response:
    """Everything the dashboard's first page shows, of stored rows: incidents, freshness, network input and loss,
    pressure below the least, today's forecast, districts, and each node's state for the plan."""
    database, now = database_of(request), now_of(request)
    settings: Settings = request.app.state.settings
    condition = await condition_of(request)
    of_now = now - timedelta(minutes=settings.stale_after_minutes)
    present = now, of_now, MINIMUM_PRESSURE
    days = await database.fetch(queries_overview.NETWORK_BALANCES, "1day", now, _DAYS)
    months = await database.fetch(queries_overview.NETWORK_BALANCES, "30day", now, 1)
    incidents = await database.fetch(queries_incidents.OPEN_INCIDENTS, now - timedelta(days=1), now, _MOST_SHOWN)
    below = await database.fetch(queries_overview.PRESSURE_BELOW, *present, _MOST_SHOWN)
    network = await database.fetch(queries_overview.NETWORK_NOW, *present)
    today = local_day(now, settings.utility_timezone)
    counted = incidents[0] if incidents else dict.fromkeys(_COUNTS, 0)
    # An overview in which nothing has changed is the same for a while, and costs a 304.
    shown = now - timedelta(seconds=now.timestamp() % _SAME_SECONDS)
    latest = condition.freshness["latest_data"]
    lag = None if latest is None else max((shown - datetime.fromisoformat(latest)).total_seconds(), 0.0)
    nodes = network[0] if network else {"latest_data": None} | dict.fromkeys(_NODES, 0)
    return as_json(
        {
            "timestamp": shown,
            "last_update": await database.fetchval(queries.LAST_UPDATE),
            "status": condition.status,
            "reasons": condition.reasons,
            "freshness": {name: nodes[name] for name in ("latest_data", *_NODES)} | {"lag_seconds": lag},
            "input": _input(days),
            "loss": dict(months[0]) | {"window": "30day"} if months else None,
            "loss_days": [{name: day[name] for name in _LOSS_DAY} for day in reversed(days)],
            "incidents": [{name: row[name] for name in OpenIncident.model_fields} for row in incidents],
            "open_incidents": counted["open_incidents"],
            "open_by_severity": {name: counted[f"open_{name}"] for name in ("critical", "warning", "info")},
            "pressure_below": [{name: row[name] for name in PressureBelow.model_fields} for row in below],
            "pressure_below_count": below[0]["below"] if below else 0,
            "forecast": _forecast(await database.fetchrow(queries_overview.TODAY, now, *today)),
            "alerts_firing": await database.fetchval(queries_overview.ALERTS_FIRING),
            "districts": [{name: row[name] for name in DistrictNow.model_fields} for row in _districts(network)],
            "plan": _plan(network),
        }
    )


def _districts(network: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [row for row in network if row["district_id"] is not None]


def _plan(network: list[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The columns of all districts one after the other, each node with its district's place among these."""
    place = {row["district_id"]: number for number, row in enumerate(_districts(network))}
    columns: dict[str, list[Any]] = {"district": []} | {name: [] for name in _PLANNED}
    for row in network:
        columns["district"] += [place.get(row["district_id"])] * len(row["plan_nodes"] or ())
        for name, stored in _PLANNED.items():
            columns[name] += row[stored] or ()
    return columns


def local_day(now: datetime, timezone: str) -> tuple[datetime, datetime]:
    """When the utility's day of an instant begins and ends, in UTC."""
    zone = ZoneInfo(timezone)
    today = now.astimezone(zone).date()
    begin, end = (datetime.combine(today + timedelta(days=n), time(), zone).astimezone(UTC) for n in (0, 1))
    return begin, end


def _input(days: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The network's input on the last local day that has ended."""
    if not days:
        return dict.fromkeys(("window_start", "window_end", "total_volume", "coverage")) | {
            "reason": "no day of the network is balanced yet"
        }
    found = {name: days[0][name] for name in _INPUT}
    return {"total_volume": found.pop("total_input_volume")} | found


def _forecast(today: Mapping[str, Any]) -> dict[str, Any]:
    """Today's volume, where every hour of it is forecast for every inlet; else why it is not known."""
    reason = None
    if not today["inlets"]:
        reason = "no node is known as an inlet"
    elif not today["nodes"]:
        reason = "no model has forecast the flow of an inlet today"
    elif today["whole"] < today["inlets"]:
        reason = f"the whole of today is forecast for {today['whole']} of {today['inlets']} inlets"
    volumes = {name: None if reason else today[name] for name in ("today_volume", "lower", "upper")}
    described = {name: today[name] for name in ("model_version", "made_at", "nodes", "coming_volume")}
    return described | volumes | {"reason": reason}
