"""The network and its districts: flows, and the water balance."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from src.api.schemas.common import Count, Flow, Percent, Pressure, Row, Volume
from src.vocabulary import BalanceMethod, BalanceWindow, LossClass

_COVERAGE = (
    "share of the time that readings of the meters vouch for, 0..1: of inlets and outlets or of consumption, whichever "
    "is less"
)
_MARGIN = "half of the 95 % interval that meters' errors and estimates leave, m³"
_ESTIMATED = (
    "share of the metered water that was estimated from what the meters usually measure or, of missing days, from the "
    "other ones, 0..1"
)


_METER_MARGIN = "of days: the part of that margin that meters' errors make, the same day by day, m³"


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


class LossIndicators(Row):
    """What losses of 30 and 365 days are compared by; null where districts' metadata do not allow one, and where the
    balance is impossible."""

    real_loss_volume: Volume = Field(None, description="what of the losses leaks: losses less apparent ones, m³")
    non_revenue_water_percentage: Percent = None
    m1a: float | None = Field(None, description="m³ lost per km of mains and day")
    m1b: Percent = Field(None, description="% of the input that is lost")
    m1_class: LossClass | None = Field(
        None,
        description="the Italian regulator's class of a year's water losses, of 365 days only; by a table (ARERA, "
        "917/2017/R/idr, annex A, article 6) that was not verified against the deliberation and its later changes",
    )
    m1_class_year: int | None = Field(None, description="of the table of classes", examples=[2017])
    infrastructure_leakage_index: float | None = Field(None, description="real losses over the unavoidable ones")


class DistrictWindow(LossIndicators):
    """A district's balance of a window. Of 30 and 365 days there are indicators of loss, too."""

    input_volume: Volume
    output_volume: Volume
    loss_volume: Volume
    efficiency_percentage: Percent
    coverage: float | None = Field(description=_COVERAGE)
    input_margin: Volume = Field(None, description=_MARGIN)
    output_margin: Volume = Field(None, description=_MARGIN)
    loss_margin: Volume = Field(None, description=_MARGIN)
    input_meter_margin: Volume = Field(None, description=_METER_MARGIN)
    output_meter_margin: Volume = Field(None, description=_METER_MARGIN)
    loss_meter_margin: Volume = Field(None, description=_METER_MARGIN)
    estimated_share: float | None = Field(None, description=_ESTIMATED)
    metered_volume: Volume = Field(
        None, description="what all meters measured or are estimated to have, in and out, m³"
    )
    method: BalanceMethod | None = Field(
        description="how consumption is known; with minimum_night_flow, losses are estimated; mixed where days differ"
    )
    reason: str | None = Field(description="why a figure is null, or impossible")
    is_complete: bool = Field(description="whether the coverage is at least 0.8")
    largest_meters: list[str] | None = Field(
        None, description="of days: which meters move most water, at the district's edge and within it"
    )
    known_days: int | None = Field(None, description="of 30 or 365 days: how many are balanced")
    apparent_loss_share: float | None = Field(
        None,
        description="share of the losses that is taken to be apparent (metered too little, or used without leave): a "
        "setting for metered districts, 0 with minimum_night_flow; null where days differ",
    )


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
    active_nodes: int | None = Field(
        description="meters of the balance that reported; of 30 and 365 days, on the last of them"
    )
    total_nodes: int | None
    network_availability: Percent
    total_anomalies: int | None = Field(description="of hours and days; null where nothing was counted", examples=[0])
    indicators: LossIndicators | None = Field(
        description="what the network's losses of 30 and 365 days are compared by, with the pipes of all its districts"
    )
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
    time_window: BalanceWindow
    window_start: datetime
    window_end: datetime
    balance: DistrictWindow


class DistrictDetail(District):
    balances: list[DistrictBalance] = Field(
        description="the latest of an hour and of a day, or of the time window that was asked for"
    )
