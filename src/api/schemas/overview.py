"""The dashboard's overview."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from src.api.schemas.common import Flow, NodeName, Percent, Pressure, Row, Score, Volume
from src.api.schemas.events import Incident
from src.vocabulary import BalanceMethod, Severity


class Freshness(Row):
    latest_data: datetime | None = Field(description="when the latest reading of a node in use was measured")
    lag_seconds: float | None = Field(
        description="s from the latest reading of all to `timestamp`; null where there is none"
    )
    nodes_reporting: int = Field(description="nodes in use with a reading within STALE_AFTER_MINUTES")
    nodes_active: int
    nodes_silent: int = Field(
        description="nodes in service without a reading for a day, or that an open event says are silent"
    )


class NetworkInput(Row):
    """What came into the network on the last local day that has ended."""

    window_start: datetime | None
    window_end: datetime | None
    total_volume: Volume
    coverage: float | None = Field(description="share of the day that the meters' readings vouch for, 0..1")
    reason: str | None = Field(description="why a figure is null, or impossible")


class LossDay(Row):
    window_start: datetime = Field(description="when the local day begins")
    total_input_volume: Volume
    total_loss_volume: Volume
    loss_margin: Volume = Field(description="half of the 95 % interval, m³")
    reason: str | None


class Loss(LossDay):
    """The network's latest balance of 30 local days."""

    window: Literal["30day"]
    window_end: datetime
    efficiency_percentage: Percent
    method: BalanceMethod | None
    coverage: float | None = Field(description="share of the time that the meters' readings vouch for, 0..1")


class OpenIncident(Incident):
    water_lost_m3: Volume = Field(
        description="so far, m³, of that event of it which lost most: several may be the same water; null: no leak"
    )
    place: str | None = Field(description="location, or else name, of its worst event's node")


class OpenBySeverity(Row):
    """Open incidents by the severity of their worst event."""

    critical: int
    warning: int
    info: int


class PressureBelow(Row):
    node_id: NodeName
    node_name: str
    district_id: str | None
    pressure: Pressure = Field(description="mean of the last hour, bar")
    minimum: float = Field(description="bar: of the node's own limits, or else of service")
    window_end: datetime


class TodaysForecast(Row):
    """The flow of all inlets today, added up: as forecast last before the local day began, or else first within it."""

    model_version: str | None = Field(description="of the latest of the pools' models")
    made_at: datetime | None
    nodes: int = Field(description="inlets that were forecast")
    today_volume: Volume
    lower: Volume = Field(description="m³: the hours' 90 % intervals added up, wider than that of the day")
    upper: Volume
    coming_volume: Volume = Field(
        description="m³, from this hour to the day's end, by the latest forecasts; null unless all inlets have one"
    )
    reason: str | None = Field(description="why the volume is null")


class DistrictNow(Row):
    district_id: str
    district_name: str | None
    nodes: int = Field(description="active ones")
    open_anomalies: int
    severity: Severity | None = Field(description="of its worst open event; null: none is open")
    flow: Flow = Field(description="mean input of the last hour, L/s")
    loss_share: float | None = Field(description="of the input of 30 days, 0..1")
    efficiency_percentage: Percent = Field(description="% of the input of 30 days that reaches consumers")
    pressure_min: Pressure = Field(description="the least mean of the last hour of any of its nodes, bar")
    quality: Score = Field(description="mean quality score of its nodes' last hours, 0..1")
    latitude: float | None = Field(description="mean of its nodes', °")
    longitude: float | None
    reason: str | None = Field(description="why the share of losses is null")


State = Literal["ok", "warning", "critical", "silent", "low_pressure", "out_of_service"]


class Plan(Row):
    """Active nodes whose coordinates are known, a column each, by district and node_id."""

    node_id: list[str]
    district: list[int | None] = Field(description="place in `districts`; null: in none")
    latitude: list[float] = Field(description="°, rounded to 0.00001 (1 m)")
    longitude: list[float]
    state: list[State] = Field(
        description="what matters most: out_of_service, critical (an open event), silent, low_pressure, warning (an "
        "open event), ok"
    )


class Overview(Row):
    timestamp: datetime = Field(
        description="when this was put together, by the service's clock, rounded down to 5 minutes: what has not "
        "changed stays the same, and costs a 304"
    )
    last_update: datetime | None = Field(description="when the latest cycle was completed")
    status: Literal["healthy", "degraded", "stale"] = Field(description="as /api/v1/status has it")
    reasons: list[str]
    freshness: Freshness
    input: NetworkInput
    loss: Loss | None
    loss_days: list[LossDay] = Field(description="the last 30 local days, oldest first")
    incidents: list[OpenIncident] = Field(description="the 20 most urgent open ones")
    open_incidents: int
    open_by_severity: OpenBySeverity
    pressure_below: list[PressureBelow] = Field(
        description="the 20 nodes with the least pressure against their minimum"
    )
    pressure_below_count: int
    forecast: TodaysForecast
    alerts_firing: int
    districts: list[DistrictNow]
    plan: Plan
