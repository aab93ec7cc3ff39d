"""The system about itself: health, status, jobs, and the landing page's one call."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import redis
from fastapi import APIRouter, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from src.api import queries
from src.api.database import as_json, database_of, now_of
from src.api.pages import page
from src.api.parameters import Cursor, Filter, event_from, next_after
from src.api.problems import Problem, documented
from src.api.schemas.system import Dashboard, Health, Job, Status
from src.settings import Settings

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
    database = database_of(request)
    settings: Settings = request.app.state.settings
    now, stale = now_of(request), timedelta(minutes=settings.stale_after_minutes)
    alive = timedelta(seconds=settings.replica_timeout_seconds)
    job = await database.fetchrow(queries.LAST_JOB)
    replicas = await database.fetchrow(queries.REPLICAS, alive)
    freshness = await database.fetchrow(queries.FRESHNESS, now, now - stale)
    models = await database.fetch(queries.ACTIVE_MODELS)
    cache = await _redis_status(request)
    latest = freshness["latest_data"]
    lag = None if latest is None else (now - datetime.fromisoformat(latest)).total_seconds()
    is_stale = lag is None or lag > stale.total_seconds()
    reasons = {
        "there are no readings yet" if lag is None else f"the latest reading is {lag / 3600:.1f} hours old": is_stale,
        "Redis does not answer": not cache["connected"],
        "no processing replica is alive": not replicas["replicas"],
        f"the latest cycle failed: {job and job['error_message']}": job is not None and job["status"] == "failed",
    }
    told = [reason for reason, holds in reasons.items() if holds]
    return as_json(
        {
            "status": "stale" if is_stale else "degraded" if told else "healthy",
            "reasons": told,
            "timestamp": now,
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
                "latest_data": latest,
                "nodes_reporting": freshness["nodes_reporting"],
                "lag_seconds": lag,
            },
            "redis_status": cache,
            "database_status": "connected",
        }
    )


async def _redis_status(request: Request) -> dict[str, Any]:
    cache = request.app.state.redis
    try:
        return {
            "connected": True,
            "memory_used": (await cache.info("memory"))["used_memory_human"],
            "keys": await cache.dbsize(),
        }
    except (redis.RedisError, OSError):
        return {"connected": False, "memory_used": None, "keys": None}


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
