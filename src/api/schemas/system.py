"""The system about itself: health, status, jobs, and the landing page."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from src.api.schemas.common import Count, Flow, NodeName, Percent, Pressure, Row, Score
from src.api.schemas.events import Anomaly
from src.api.schemas.models import Validation
from src.api.schemas.network import NetworkMetrics
from src.vocabulary import ModelType


class Health(Row):
    status: Literal["healthy"]
    timestamp: datetime


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
    performance: Validation
    pools: int = Field(description="pools of nodes that have an active model of this type; this is the latest")


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
    active_models: dict[ModelType, ActiveModel]
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
