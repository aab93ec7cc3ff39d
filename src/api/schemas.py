"""What the endpoints answer, for OpenAPI and its readers; the bytes themselves are made without passing through here.

Instants are UTC, windows are [window_start, window_end), what is not known is null.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Flow = Annotated[float | None, Field(description="L/s", examples=[8.42])]
Pressure = Annotated[float | None, Field(description="bar", examples=[3.6])]
Temperature = Annotated[float | None, Field(description="°C", examples=[14.2])]
Volume = Annotated[float | None, Field(description="m³", examples=[30.3])]
Percent = Annotated[float | None, Field(description="%", examples=[98.5])]
Score = Annotated[float | None, Field(description="0..1", examples=[0.97])]
Count = Annotated[int | None, Field(description="null where nothing was counted", examples=[0])]
NodeName = Annotated[str, Field(examples=["node-santanna"])]
TimeWindow = Literal["5min", "1hour", "1day"]
Severity = Literal["info", "warning", "critical"]
Role = Literal["inlet", "outlet", "consumption", "storage", "monitoring"]
ModelType = Literal["flow_prediction", "anomaly_detection", "efficiency_optimization"]


def storable(text: str) -> str:
    """The text, if the database can hold it.

    Raises:
        ValueError: saying why it cannot.
    """
    if "\x00" in text:
        raise ValueError("must not contain the character NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid UTF-8") from None
    return text


class Row(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Health(Row):
    status: Literal["healthy"]
    timestamp: datetime


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
        description="what people said of it: limits, tank_area_m2, feeding_district_id ..."
    )
    created_at: datetime
    updated_at: datetime


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
    balance: dict[str, Any] = Field(description="as in zone_metrics of /api/v1/network/efficiency")


class DistrictDetail(District):
    balances: list[DistrictBalance] = Field(description="the latest of an hour and of a day")


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
    anomaly_count: Count
    quality_score: Score
    data_completeness: Percent


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


class NetworkEfficiency(Row):
    computation_timestamp: datetime
    window_start: datetime
    window_end: datetime
    total_input_volume: Volume
    total_output_volume: Volume
    total_loss_volume: Volume
    efficiency_percentage: Percent
    method: str | None = Field(
        description="how consumption is known: metered, minimum_night_flow (losses are estimated), or mixed"
    )
    coverage: float | None = Field(description="share of the inlet readings that were really there, 0..1")
    reason: str | None = Field(description="why a figure is null")
    active_nodes: int | None = Field(description="meters of the balance that reported")
    total_nodes: int | None
    network_availability: Percent
    total_anomalies: Count
    zone_metrics: dict[str, Any] = Field(
        description="by district: the same figures, is_complete (coverage of at least 0.8), and for days the "
        "indicators of loss that its metadata allow: m1a m³/km/day, m1b %, m1_class, infrastructure_leakage_index"
    )


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


class Quality(Row):
    node_id: NodeName
    check_timestamp: datetime
    time_window: str
    completeness_score: Score
    validity_score: Score
    consistency_score: Score
    overall_quality_score: Score
    missing_data_points: Count
    invalid_values: Count
    outliers_detected: Count
    issues: list[dict[str, Any]]


class Anomaly(Row):
    anomaly_id: UUID
    timestamp: datetime = Field(description="when it began")
    end: datetime | None = Field(description="null while it goes on")
    node_id: NodeName
    node_name: str | None
    anomaly_type: str
    severity: Literal["info", "warning", "critical"]
    measurement_type: str | None
    actual_value: float | None
    expected_value: float | None
    deviation_percentage: Percent
    detection_method: str
    resolved_at: datetime | None = Field(description="when it ended by itself, or somebody said that it is over")
    resolved_by: str | None = Field(description="who said so; null where it ended by itself")
    is_confirmed: bool | None = Field(description="whether it was found to be real; null where nobody said")
    detected_at: datetime = Field(description="when it was first certain")
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    note: str | None
    district_id: str | None
    incident_id: UUID | None = Field(description="shared by events of one district that belong together")
    metadata: dict[str, Any] = Field(description="`explanation` in words, and the figures it rests on")


class Incident(Row):
    incident_id: UUID
    district_id: str | None
    timestamp: datetime = Field(description="when its first event began")
    end: datetime | None = Field(description="null while any of its events goes on")
    resolved_at: datetime | None = Field(description="null while any of its events is open")
    severity: Severity = Field(description="of its worst event")
    events: int
    open_events: int
    nodes: list[str]
    anomaly_types: list[str]
    is_acknowledged: bool = Field(description="whether every event of it is")
    explanation: str | None = Field(description="of its worst event")


class Remark(BaseModel):
    """What somebody has to say about an event."""

    model_config = ConfigDict(extra="forbid")

    note: Annotated[str, AfterValidator(storable)] | None = Field(
        None, max_length=2000, examples=["Crew sent to via Roma"]
    )


class Verdict(Remark):
    """How an event was dealt with."""

    is_confirmed: bool | None = Field(None, strict=True, description="true: it was real; false: a false alarm")


class Alert(Row):
    alert_id: UUID
    rule: str = Field(examples=["readings are stale"])
    subject: str = Field(description="what tells it from other alerts of its rule", examples=["network"])
    severity: Literal["info", "warning", "critical"]
    state: Literal["firing", "resolved"]
    summary: str
    details: dict[str, Any]
    since: datetime = Field(description="when its condition was first seen")
    fired_at: datetime
    notified_at: datetime | None = Field(description="when it was last put in line for its receivers")
    resolved_at: datetime | None
    undelivered: int = Field(description="messages about it that a receiver has not taken yet")


class ProcessingService(Row):
    last_run: datetime | None = Field(description="the tick that the latest cycle stands for")
    status: str | None
    error_message: str | None
    duration_seconds: float | None
    next_run: datetime | None
    replicas: int


class ActiveModel(Row):
    version: str
    created_at: datetime
    performance: dict[str, Any]
    pools: int = Field(description="pools of nodes that have an active model of this type; this is the latest")


class Model(Row):
    model_id: UUID
    model_name: str
    model_type: str
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
    metrics: dict[str, Any] = Field(
        description="what its training read; of a detector of anomalies, what its district's alarms told so far"
    )
    validation_metrics: dict[str, Any] = Field(
        description="mae and usual_mae (error of the usual flow of the hour), L/s; coverage of the 90 % intervals"
    )
    latest_performance: dict[str, Any] | None = Field(description="how its forecasts of a day did, errors in L/s")


class ModelDecision(Row):
    decided_at: datetime
    decision: str
    decided_by: str
    reason: str


class ModelPerformance(Row):
    evaluation_timestamp: datetime
    evaluation_window: str
    predictions_count: int | None
    mae: Flow
    rmse: Flow
    mape: Percent
    r2_score: float | None
    feature_drift_score: float | None = Field(description="the largest stability index in shares of its limit")
    prediction_drift_score: float | None = Field(description="likewise, of the forecasts")
    drift_detected: bool | None = Field(description="whether a score is above 1")
    drift_reason: str | None = Field(description="what is furthest from the training")
    node_metrics: dict[str, Any]


class ModelHistory(Model):
    decisions: list[ModelDecision] = Field(description="everything decided of it, and why, oldest first")
    performance: list[ModelPerformance] = Field(description="the last 30 daily evaluations, newest first")


class Recommendation(Row):
    district_id: str
    computed_at: datetime
    outcome: Literal["recommended", "refused"]
    reason: str = Field(description="what it rests on, or why nothing can be recommended")
    model_id: UUID | None = Field(description="the relation of leakage to pressure; see /api/v1/models")
    inlet_node_id: str | None
    critical_node_id: str | None = Field(description="the node that allows no lower set-point")
    minimum_pressure: Pressure = Field(description="that every node keeps, bar")
    schedule: list[dict[str, Any]] = Field(
        description="periods of the local day: from, to, set_point and present_set_point in bar"
    )
    leakage_volume: Volume = Field(description="of today, m³ a day")
    saving_volume: Volume = Field(description="m³ a day")
    saving_volume_lower: Volume = Field(description="m³ a day; with the upper one, 95 %")
    saving_volume_upper: Volume


class DataFreshness(Row):
    latest_data: datetime | None
    nodes_reporting: int = Field(description="nodes with a reading within STALE_AFTER_MINUTES")
    lag_seconds: float | None


class RedisStatus(Row):
    connected: bool
    memory_used: str | None
    keys: int | None


class Status(Row):
    status: Literal["healthy", "degraded", "stale"]
    reasons: list[str] = Field(description="why it is not healthy")
    timestamp: datetime
    processing_service: ProcessingService
    active_models: dict[str, ActiveModel]
    data_freshness: DataFreshness
    redis_status: RedisStatus
    database_status: Literal["connected"]


class DashboardNode(Row):
    node_id: NodeName
    node_name: str
    node_type: str | None
    district_id: str | None
    timestamp: datetime | None
    flow_rate: Flow
    pressure: Pressure
    anomaly_count: Count
    quality_score: Score
    data_completeness: Percent


class Dashboard(Row):
    nodes: list[DashboardNode]
    network: NetworkMetrics | None = Field(description="the last 24 hours")
    recent_anomalies: list[Anomaly]
    last_update: datetime | None


class Job(Row):
    job_id: UUID
    job_type: str
    job_name: str
    status: Literal["queued", "running", "completed", "failed"]
    scheduled_for: datetime
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    duration_seconds: float | None
    total_items: int
    processed_items: int
    failed_items: int
    progress_percentage: Percent
    result_summary: dict[str, Any]
    error_message: str | None
    triggered_by: str


class SessionRequest(BaseModel):
    """What kind of session is wanted."""

    model_config = ConfigDict(extra="forbid")

    is_display: bool = Field(
        False, strict=True, description="for a screen on the wall: it may only read, and lasts DISPLAY_SESSION_DAYS"
    )


class NewSession(Row):
    session_id: str
    token: str = Field(description="shown once; also set as an HttpOnly cookie")
    expires_at: datetime = Field(description="unless it is used before")
    ends_at: datetime = Field(description="however much it is used")
    scope: Literal["read", "write", "admin"]


class Session(Row):
    session_id: str
    scope: Literal["read", "write", "admin"]
    created_at: datetime
    expires_at: datetime = Field(description="unless it is used before")
    ends_at: datetime = Field(description="however much it is used")
    address: str = Field(description="from where it was opened")
    user_agent: str
    is_current: bool = Field(description="whether it makes this request")


class ApiKey(Row):
    key_id: str
    key_name: str
    person: str | None = Field(description="who holds it, where it was made for one person")
    scope: Literal["read", "write", "admin"]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    requests: Count
    refused: Count
