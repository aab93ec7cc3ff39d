"""The API's connections to PostgreSQL and Redis, and what every route depends on.

Rows carry instants as ISO 8601 text in UTC, and JSON as it is stored.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeVar

import asyncpg
import orjson
import redis.asyncio
from fastapi import Request, Response
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from src.settings import Settings

K = TypeVar("K")
_POSTGRES_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
# Connections that one request may have at once: the others of the pool answer who comes beside it.
_OF_A_REQUEST = 4


def create_pool(settings: Settings) -> asyncpg.Pool:
    """A pool that connects when first used: the service starts, and reports it, while the database is away."""
    return asyncpg.create_pool(
        host=settings.postgres_host,
        port=settings.postgres_port,
        user=settings.postgres_user,
        password=settings.postgres_password.get_secret_value() or None,
        ssl=_encryption(settings),
        database=settings.postgres_db,
        min_size=0,
        max_size=settings.api_pool_size,
        timeout=5,
        command_timeout=10,
        # Behind a pooler in transaction mode a prepared statement may be on another connection.
        statement_cache_size=100 if settings.postgres_statement_cache else 0,
        init=_prepared,
        reset=_nothing_to_reset,
        server_settings={"application_name": "abbanoa-api", "default_transaction_read_only": "on"},
    )


def _encryption(settings: Settings) -> ssl.SSLContext | str | None:
    """What asyncpg wants for POSTGRES_SSLMODE; a socket needs none."""
    if settings.postgres_host.startswith("/"):
        return None
    if settings.postgres_sslmode in ("verify-ca", "verify-full"):
        context = ssl.create_default_context(cafile=settings.postgres_sslrootcert or None)
        context.check_hostname = settings.postgres_sslmode == "verify-full"
        return context
    return settings.postgres_sslmode


def create_cache(settings: Settings) -> redis.asyncio.Redis:
    """The API's connection to Redis, which gives up at once: answers are then taken from the database."""
    return redis.asyncio.Redis(
        host=settings.redis_host,
        port=settings.redis_port,
        password=settings.redis_password.get_secret_value() or None,
        socket_connect_timeout=1,
        socket_timeout=1,
        health_check_interval=30,
        retry=Retry(NoBackoff(), 1),
    )


async def _nothing_to_reset(connection: asyncpg.Connection) -> None:
    """Nobody changes a connection's state, so the round trip that would clear it is saved."""


async def _prepared(connection: asyncpg.Connection) -> None:
    # JSON is passed through as it is, never parsed.
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=str, decoder=lambda text: orjson.Fragment(text.encode())
    )
    # Instants too are passed through, as the text that answers show: asyncpg spends more on making datetimes of a page
    # of windows than on all its numbers.
    await connection.set_type_codec(
        "timestamptz", schema="pg_catalog", format="tuple", encoder=_microseconds, decoder=_text_of_instant
    )


def _microseconds(instant: datetime) -> tuple[int]:
    return ((instant - _POSTGRES_EPOCH) // timedelta(microseconds=1),)


# Windows begin at the same few thousand instants, whoever asks.
@lru_cache(maxsize=20_000)
def _text_of_instant(since_epoch: tuple[int]) -> str:
    """ISO 8601 in UTC, with a Z."""
    return (_POSTGRES_EPOCH + timedelta(microseconds=since_epoch[0])).isoformat().replace("+00:00", "Z")


# No dependencies of FastAPI's, which cost a request more than many queries do.
def database_of(request: Request) -> asyncpg.Pool:
    """The pool that answers a request."""
    return request.app.state.pool


async def fetch_together(database: asyncpg.Pool, queries: Mapping[K, tuple[Any, ...]]) -> dict[K, list[asyncpg.Record]]:
    """The rows of several queries, some of which run at once; if one fails, the others are given up.

    Args:
        queries: each with its arguments, what takes longest first.
    """
    turns = asyncio.Semaphore(_OF_A_REQUEST)

    async def rows(query: str, *arguments: object) -> list[asyncpg.Record]:
        async with turns:
            found: list[asyncpg.Record] = await database.fetch(query, *arguments)
            return found

    tasks = [asyncio.ensure_future(rows(*query)) for query in queries.values()]
    try:
        return dict(zip(queries, await asyncio.gather(*tasks), strict=True))
    finally:
        for task in tasks:
            task.cancel()


def now_of(request: Request) -> datetime:
    """The instant by the service's clock."""
    settings: Settings = request.app.state.settings
    return settings.running_clock.now()


def as_json(content: Any, headers: dict[str, str] | None = None) -> Response:
    """Rows or values as JSON bytes: numbers unrounded, NaN null, instants in UTC with a Z."""
    if isinstance(content, list) and content and isinstance(content[0], asyncpg.Record):
        # Several times as fast as dict(row), which looks every value up by its name.
        names = tuple(content[0].keys())
        content = [dict(zip(names, row, strict=False)) for row in content]
    elif isinstance(content, asyncpg.Record):
        content = dict(content)
    return Response(
        orjson.dumps(content, option=orjson.OPT_UTC_Z, default=_plain), media_type="application/json", headers=headers
    )


def _plain(value: Any) -> Any:
    """What orjson does not know itself: rows within an answer, and asyncpg's own kind of UUID."""
    return dict(value) if isinstance(value, asyncpg.Record) else str(value)
