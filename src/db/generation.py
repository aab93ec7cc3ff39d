"""The data generation: advanced in the transaction that changes what the API shows, then published in Redis."""

from __future__ import annotations

import redis
from sqlalchemy import Connection, select, update

from src.db.tables import data_generation
from src.generation import GENERATION_KEY


def advance(connection: Connection) -> None:
    """Makes every cached answer old, when the caller's transaction commits."""
    connection.execute(update(data_generation).values(generation=data_generation.c.generation + 1))


def publish(connection: Connection, cache: redis.Redis) -> None:
    """Puts the generation into Redis, for the API's replicas. The database is the truth: repeating this heals a Redis
    that was away or emptied.

    Raises:
        redis.RedisError: if Redis does not answer.
    """
    cache.set(GENERATION_KEY, connection.execute(select(data_generation.c.generation)).scalar_one())
