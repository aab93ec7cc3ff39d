"""The system about itself: health, status, jobs, and the landing page's one call."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from src.api import queries
from src.api.condition import condition_of
from src.api.database import as_json, database_of, now_of
from src.api.pages import page
from src.api.parameters import Cursor, Filter, event_from, next_after
from src.api.problems import Problem, documented
from src.api.schemas.system import Dashboard, Health, Job, Status

router = APIRouter(tags=["system"])


@router.get("/health", response_model=Health)
async def health(request: Request) -> Response:
    """Answers while the process can serve."""
    return as_json({"status": "healthy", "timestamp": now_of(request)})


@router.get("/ready", response_model=Health, responses={503: {"model": Problem}})
async def ready(request: Request) -> Response:
    """503 until the database and its schema are there."""
    await database_of(request).fetchval(queries.READY)
    return as_json({"status": "healthy", "timestamp": now_of(request)})


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **documented()})
async def measures() -> Response:
    """What this replica counts of itself, for Prometheus."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@router.get("/api/v1/status", response_model=Status, responses=documented())
async def status(request: Request) -> Response:
    """Whether what is shown elsewhere can be trusted, and if not, why."""
    found = await condition_of(request)
    models = await database_of(request).fetch(queries.ACTIVE_MODELS)
    job, replicas = found.job, found.replicas
    return as_json(
        {
            "status": found.status,
            "reasons": found.reasons,
            "timestamp": now_of(request),
            "processing_service": {
                "last_run": job and job["scheduled_for"],
                "status": job and job["status"],
                "error_message": job and job["error_message"],
                "duration_seconds": job and job["duration_seconds"],
                "next_run": replicas["next_run"],
                "replicas": replicas["replicas"],
            },
            "active_models": {
                model["model_type"]: {name: model[name] for name in ("version", "created_at", "performance", "pools")}
                for model in models
            },
            "data_freshness": {
                "latest_data": found.freshness["latest_data"],
                "nodes_reporting": found.freshness["nodes_reporting"],
                "lag_seconds": found.lag_seconds,
            },
            "redis_status": found.cache,
            "database_status": "connected",
        }
    )


@router.get("/api/v1/jobs", response_model=list[Job], responses=documented())
async def jobs(
    request: Request,
    job_type: Filter = None,
    status: Literal["queued", "running", "completed", "failed"] | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
    cursor: Cursor = None,
) -> Response:
    """Processing jobs, newest first."""
    rows, more = await page(database_of(request), queries.JOBS, job_type, status, *event_from(cursor), limit=limit)
    return as_json(rows, next_after(request, rows, "created_at", "job_id") if more else None)


@router.get("/api/v1/dashboard/summary", response_model=Dashboard, responses=documented())
async def dashboard_summary(request: Request) -> Response:
    """Everything a landing page needs in one call; of events the open ones first, the worst of them at the top."""
    database = database_of(request)
    now = now_of(request)
    events, _ = await page(database, queries.DASHBOARD_EVENTS, now - timedelta(days=1), now, limit=20)
    return as_json(
        {
            "nodes": await database.fetch(queries.DASHBOARD_NODES, now),
            "network": await database.fetchrow(queries.NETWORK_METRICS, "24h"),
            "recent_anomalies": events,
            "last_update": await database.fetchval(queries.LAST_UPDATE),
        }
    )
