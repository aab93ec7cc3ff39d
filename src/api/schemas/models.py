"""Models, their life and how they do; the set-points they recommend."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field

from src.api.schemas.common import Details, Flow, Percent, Pressure, Row, Volume
from src.vocabulary import ModelType


class Validation(Details):
    """How a model did on data that it had not seen: of forecasts, detectors and relations of leakage to pressure."""

    mae: float | None = Field(None, description="mean absolute error of its forecasts, L/s")
    usual_mae: float | None = Field(None, description="the same of the usual flow of the hour, L/s")
    coverage: float | None = Field(None, description="share of hours within the 90 % intervals, 0..1")
    hours: int | None = Field(None, description="forecasts compared")
    limit: float | None = Field(None, description="distance from which a detector alarms")
    exponent: float | None = Field(None, description="N1, of leakage against pressure")
    lower: float | None = Field(None, description="of the exponent; with upper, 95 %")
    upper: float | None = None
    nights: int | None = Field(None, description="that the exponent rests on")


class ModelRecord(Details):
    """What a model's training read; of a detector, what its district's alarms were worth in the last 8 weeks."""

    rows_read: int | None = None
    bytes_processed: int | None = Field(None, description="that BigQuery was asked for")
    days: float | None = None
    leaks: int | None = Field(None, description="found by any detector")
    seen: int | None = Field(None, description="leaks that an alarm lay over")
    earlier: int | None = Field(None, description="leaks that an alarm came before")
    hours_earlier: float | None = Field(None, description="median")
    alarms: int | None = None
    alone: int | None = Field(None, description="alarms beside which no other detector found anything")


class Model(Row):
    model_id: UUID
    model_name: str
    model_type: ModelType
    scope: str = Field(description="the pool of nodes it was trained for")
    version: str
    status: Literal["created", "training", "validating", "shadow", "active", "retired", "failed"]
    is_active: bool
    created_at: datetime
    activated_at: datetime | None
    retired_at: datetime | None
    shadow_since: datetime | None
    fallback_id: UUID | None = Field(description="the model it replaced, to which it may be rolled back")
    training_duration_seconds: float | None
    training_data_start: datetime | None
    training_data_end: datetime | None
    training_samples: int | None
    model_size_bytes: int | None
    model_hash: str | None = Field(description="SHA-256 of its artefact")
    library_versions: dict[str, str]
    metrics: ModelRecord
    validation_metrics: Validation
    latest_performance: DayPerformance | None = Field(description="how its forecasts did, on the last day evaluated")


class ModelDecision(Row):
    decided_at: datetime
    decision: str
    decided_by: str
    reason: str


class Errors(Row):
    mae: Flow
    rmse: Flow
    mape: Percent
    r2_score: float | None


class DayPerformance(Errors):
    evaluation_timestamp: datetime
    predictions_count: int | None
    feature_drift_score: float | None = Field(description="the largest stability index in shares of its limit")
    prediction_drift_score: float | None = Field(description="likewise, of the forecasts")
    drift_detected: bool | None = Field(description="whether a score is above 1")
    drift_reason: str | None = Field(description="what is furthest from the training")


class ModelPerformance(DayPerformance):
    evaluation_window: str
    node_metrics: dict[str, Errors] = Field(description="by node")


class ModelHistory(Model):
    decisions: list[ModelDecision] = Field(description="everything decided of it, and why, oldest first")
    performance: list[ModelPerformance] = Field(description="the last 30 daily evaluations, newest first")


class SetPoint(Row):
    start: str = Field(alias="from", examples=["00:00"])
    to: str = Field(examples=["05:00"])
    set_point: float = Field(description="bar")
    present_set_point: float = Field(description="bar")


class Recommendation(Row):
    district_id: str
    computed_at: datetime
    outcome: Literal["recommended", "refused"]
    reason: str = Field(description="what it rests on, or why nothing can be recommended")
    model_id: UUID | None = Field(description="the relation of leakage to pressure; see /api/v1/models")
    inlet_node_id: str | None
    critical_node_id: str | None = Field(description="the node that allows no lower set-point")
    minimum_pressure: Pressure = Field(description="that every node keeps, bar")
    schedule: list[SetPoint] = Field(description="periods of the local day")
    leakage_volume: Volume = Field(description="of today, m³ a day")
    saving_volume: Volume = Field(description="m³ a day")
    saving_volume_lower: Volume = Field(description="m³ a day; with the upper one, 95 %")
    saving_volume_upper: Volume
