"""Tells the API that a job has written something new."""

from __future__ import annotations

import redis

from src.db import generation
from src.observability import logger
from src.processing.jobs.runtime import Runtime


def announce(runtime: Runtime) -> None:
    """Tells the API that there is something new; where Redis is away, the next heartbeat does."""
    try:
        with runtime.database.connect() as connection:
            generation.publish(connection, runtime.redis_now)
    except redis.RedisError as error:
        logger(__name__).warning("Redis does not answer; the API hears of the new data later", error=str(error))
