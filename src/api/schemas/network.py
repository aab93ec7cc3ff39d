"""The network and its districts: flows, and the water balance."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from src.api.schemas.common import Count, Flow, Percent, Pressure, Row, Volume
from src.vocabulary import BalanceMethod, LossClass

_COVERAGE = (
    "share of the time that readings of the meters vouch for, 0..1: of inlets and outlets or of consumption, whichever "
    "is less"
)
_MARGIN = "half of the 95 % interval that meters' errors and estimates leave, m³"
_ESTIMATED = "share of the metered water that was estimated from what the meters usually measure, 0..1"


class NetworkMetrics(Row):
    timestamp: datetime
    window_start: datetime
    window_end: datetime
    active_nodes: int = Field(description="nodes that reported in the range")
    total_nodes: int
    flow_basis: Literal["inlets", "all_nodes"] = Field(
        description="whose flow is added up: the inlets' or, where no node is known as one, every node's"
    )
    total_flow: Flow
    avg_pressure: Pressure
    total_volume: Volume
    efficiency_percentage: Percent
    anomaly_count: Count
    reason: str | None = Field(None, description="which channels were left out, and why a figure may be null")


class DistrictWindow(Row):
    """A district's balance of a window; days have indicators of loss too, null where its metadata do not allow one."""

    input_volume: Volume
    output_volume: Volume
    loss_volume: Volume
    efficiency_percentage: Percent
    coverage: float | None = Field(description=_COVERAGE)
    input_margin: Volume = Field(None, description=_MARGIN)
    output_margin: Volume = Field(None, description=_MARGIN)
    loss_margin: Volume = Field(None, description=_MARGIN)
    estimated_share: float | None = Field(None, description=_ESTIMATED)
    method: Literal["metered", "minimum_night_flow"] | None = Field(
        description="how consumption is known; with minimum_night_flow, losses are estimated"
    )
    reason: str | None = Field(description="why a figure is null, or impossible")
    is_complete: bool = Field(description="whether the coverage is at least 0.8")
    non_revenue_water_percentage: Percent = None
    m1a: float | None = Field(None, description="m³ lost per km of mains and day")
    m1b: Percent = None
    m1_class: LossClass | None = Field(None, description="the Italian regulator's class of water losses")
    infrastructure_leakage_index: float | None = Field(None, description="real losses over the unavoidable ones")


class NetworkEfficiency(Row):
    computation_timestamp: datetime
    window_start: datetime
    window_end: datetime
    total_input_volume: Volume
    total_output_volume: Volume
    total_loss_volume: Volume
    efficiency_percentage: Percent
    method: BalanceMethod | None = Field(
        description="how consumption is known; with minimum_night_flow, losses are estimated"
    )
    coverage: float | None = Field(description=_COVERAGE)
    input_margin: Volume = Field(None, description=_MARGIN)
    output_margin: Volume = Field(None, description=_MARGIN)
    loss_margin: Volume = Field(None, description=_MARGIN)
    estimated_share: float | None = Field(None, description=_ESTIMATED)
    reason: str | None = Field(description="why a figure is null, or impossible")
    active_nodes: int | None = Field(description="meters of the balance that reported")
    total_nodes: int | None
    network_availability: Percent
    total_anomalies: Count
    zone_metrics: dict[str, DistrictWindow] = Field(description="by district, as `-` those without one")


class District(Row):
    district_id: str
    district_name: str | None
    mains_km: float | None
    connections: int | None
    private_pipe_km: float | None
    mean_pressure_metres: float | None = Field(description="head, m")
    night_use_litres: float | None = Field(description="legitimate use at night, L per connection and hour")
    leakage_exponent: float | None = Field(description="N1, of leakage against pressure")
    nodes: int = Field(description="active ones")
    roles: dict[str, int] = Field(description="how many of them have which role", examples=[{"inlet": 1}])
    open_anomalies: int


class DistrictBalance(Row):
    time_window: Literal["1hour", "1day"]
    window_start: datetime
    window_end: datetime
    balance: DistrictWindow


class DistrictDetail(District):
    balances: list[DistrictBalance] = Field(description="the latest of an hour and of a day")
