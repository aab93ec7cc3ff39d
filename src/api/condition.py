"""Whether what the API shows can be trusted, and if not, why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import asyncpg
import redis
from fastapi import Request

from src.api import queries
from src.api.database import database_of, now_of
from src.settings import Settings


@dataclass(frozen=True)
class Condition:
    """The system as a request finds it.

    Attributes:
        reasons: why it is not healthy, in a sentence each.
        job: the latest cycle, of `queries.LAST_JOB`; None before the first.
        replicas: of `queries.REPLICAS`.
        freshness: of `queries.FRESHNESS`.
        lag_seconds: age of the latest reading; None where there is none.
        cache: the state of Redis: connected, memory_used, keys.
    """

    status: Literal["healthy", "degraded", "stale"]
    reasons: list[str]
    job: asyncpg.Record | None
    replicas: asyncpg.Record
    freshness: asyncpg.Record
    lag_seconds: float | None
    cache: dict[str, Any]


async def condition_of(request: Request) -> Condition:
    """Looks at jobs, replicas, readings and Redis."""
    database = database_of(request)
    settings: Settings = request.app.state.settings
    now, stale = now_of(request), timedelta(minutes=settings.stale_after_minutes)
    alive = timedelta(seconds=settings.replica_timeout_seconds)
    job = await database.fetchrow(queries.LAST_JOB)
    replicas = await database.fetchrow(queries.REPLICAS, alive)
    freshness = await database.fetchrow(queries.FRESHNESS, now, now - stale)
    cache = await _redis_status(request)
    latest = freshness["latest_data"]
    lag = None if latest is None else (now - datetime.fromisoformat(latest)).total_seconds()
    is_stale = lag is None or lag > stale.total_seconds()
    found = {
        "there are no readings yet" if lag is None else f"the latest reading is {lag / 3600:.1f} hours old": is_stale,
        "Redis does not answer": not cache["connected"],
        "no processing replica is alive": not replicas["replicas"],
        f"the latest cycle failed: {job and job['error_message']}": job is not None and job["status"] == "failed",
    }
    reasons = [reason for reason, holds in found.items() if holds]
    status: Literal["healthy", "degraded", "stale"] = "stale" if is_stale else "degraded" if reasons else "healthy"
    return Condition(status, reasons, job, replicas, freshness, lag, cache)


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
