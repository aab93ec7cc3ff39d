"""Nodes: what is known of them, what was measured, how far it can be trusted, what is expected."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from src.api.schemas.common import Count, Details, Flow, NodeName, Percent, Pressure, Row, Score, Temperature, Volume
from src.vocabulary import ModelType, OutOfServiceReason, Role, Severity


class Node(Row):
    node_id: NodeName
    node_name: str
    node_type: str | None
    role: Role | None = Field(description="what it measures in its district's balance")
    location_name: str | None
    district_id: str | None = Field(description="district metered area")
    district_name: str | None = Field(description="null where nobody has named it")
    latitude: float | None
    longitude: float | None
    is_active: bool
    last_reading: datetime | None
    out_of_service_since: datetime | None = Field(
        description="since when no events, averages or scores are made of it; null: it is in service"
    )
    out_of_service_reason: OutOfServiceReason | None = Field(
        description="by hand: until the node file says otherwise; silent: until readings come again"
    )


class NodeDetail(Node):
    installation_date: date | None
    metadata: dict[str, Any] = Field(
        description="what people said of it: limits, units, ranges, tank_area_m2, feeding_district_id ..."
    )
    created_at: datetime
    updated_at: datetime


class NodeMetrics(Row):
    """The latest window that has ended."""

    node_id: NodeName
    node_name: str
    timestamp: datetime = Field(description="window end")
    flow_rate: Flow
    pressure: Pressure
    temperature: Temperature
    efficiency: Percent = Field(description="% of the district's input that reaches consumers")
    anomaly_count: Count
    data_completeness: Percent = Field(description="% of the readings that the node's cadence promises")
    quality_score: Score
    window_start: datetime


class HistoryRow(Row):
    window_start: datetime
    window_end: datetime
    avg_flow_rate: Flow
    min_flow_rate: Flow
    max_flow_rate: Flow
    avg_pressure: Pressure
    min_pressure: Pressure
    max_pressure: Pressure
    avg_temperature: Temperature
    min_temperature: Temperature
    max_temperature: Temperature
    total_volume: Volume
    estimated_volume: Volume = Field(description="how much of the volume was spread over windows by time, m³")
    anomaly_count: Count
    quality_score: Score
    data_completeness: Percent = Field(description="% of the readings that the node's cadence promises")
    flow_coverage: float | None = Field(description="share of the window that flow or volume is vouched for, 0..1")
    pressure_coverage: float | None = Field(description="likewise of pressure")
    temperature_coverage: float | None = Field(description="likewise of temperature")


class Rejected(Row):
    """Readings or values that were set aside for one reason within a quarter of an hour."""

    quarter_start: datetime
    reason: str = Field(examples=["pressure_too_high", "flow_rate_placeholder", "conflicting"])
    readings: int
    lowest: float | None = Field(description="of the values set aside, in `unit`; null where whole readings were")
    highest: float | None
    unit: Literal["L/s", "bar", "°C", "m³"] | None = Field(
        description="null where whole readings were set aside, and of placeholders, which are shown as they came"
    )


class Statement(Row):
    """What people have stated of a channel in the node file; it wins over what is learned. What is absent is not
    stated."""

    unit: str | None = None
    range: Details | None = Field(None, description="low and high, in the product's unit")
    connected: bool | None = None
    volume_is: Literal["increment", "counter"] | None = None


class Channel(Row):
    measurement: Literal["flow_rate", "pressure", "temperature", "volume"]
    hours: int = Field(description="hours looked at, of the eight weeks before valid_from; of few, nothing is said")
    is_counted: bool = Field(description="whether it enters averages, limits, quality and the network's figures")
    is_connected: bool | None = Field(description="false: nothing is measured; null: that cannot be told yet")
    copy_of: str | None = Field(description="the measurement of the same node whose figures it repeats")
    unit_questioned: bool = Field(description="its figures are hardly in the unit for which they are taken")
    likely_unit: str | None = Field(description="the unit that would fit", examples=["m"])
    resolution: float | None = Field(description="the step in which its figures come, in its unit")
    reporting: Literal["periodic", "on_change", "daily", "irregular"] | None = Field(
        description="how it reports; null: too few readings in the last week"
    )
    is_two_way: bool | None = Field(description="whether the flow turns round day by day; null: not found to")
    volume_is: Literal["counter"] | None = Field(description="counter: readings of a register; null: not found to be")
    placeholders: list[float] = Field(description="figures that came where nothing was measured", examples=[[-9999.0]])
    evidence: list[str] = Field(description="what the above rests on")
    valid_from: datetime | None = Field(description="the Monday from which on this holds; null: to be learned")
    learned_at: datetime | None
    stated: Statement


class QualityIssue(Row):
    type: str = Field(
        description="missing_readings, no_readings, volume_against_flow, why readings were set aside, what is missing "
        "of or wrong with a measurement (flow_rate_missing, pressure_not_connected, temperature_repeats_another, "
        "pressure_unit_questioned); or an event",
        examples=["missing_readings"],
    )
    severity: Severity
    count: int = Field(description="readings, hours or events")
    first: datetime
    last: datetime


class Quality(Row):
    node_id: NodeName
    check_timestamp: datetime
    time_window: Literal["24h", "7d"]
    completeness_score: Score
    validity_score: Score
    consistency_score: Score
    overall_quality_score: Score
    missing_data_points: Count
    invalid_values: Count
    outliers_detected: Count
    issues: list[QualityIssue] = Field(description="what lowers the scores")


class Prediction(Row):
    node_id: NodeName
    prediction_timestamp: datetime
    target_timestamp: datetime
    predicted_value: Flow
    lower_bound: Flow
    upper_bound: Flow
    confidence_score: Score
    model_type: ModelType
    model_version: str
    model_id: UUID
