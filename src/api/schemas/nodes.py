"""Nodes: what is known of them, what was measured, how far it can be trusted, what is expected."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from src.api.schemas.common import Count, Flow, NodeName, Percent, Pressure, Row, Score, Temperature, Volume
from src.vocabulary import ModelType, Role, Severity


class Node(Row):
    node_id: NodeName
    node_name: str
    node_type: str | None
    role: Role | None = Field(description="what it measures in its district's balance")
    location_name: str | None
    district_id: str | None = Field(description="district metered area")
    latitude: float | None
    longitude: float | None
    is_active: bool
    last_reading: datetime | None


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


class QualityIssue(Row):
    type: str = Field(
        description="missing_readings, no_readings, volume_against_flow, why readings were set aside; or an event",
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
