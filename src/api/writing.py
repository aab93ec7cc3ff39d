"""What routes that write have in common: who writes, in a transaction after which cached answers are old."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from fastapi import Request

from src.api import queries
from src.api.database import database_of
from src.api.identity import Identity


def who(request: Request) -> str:
    """Under which name it is recorded: the person that the key was made for, else the key's."""
    identity: Identity = request.state.identity
    return identity.person or identity.key_name


@asynccontextmanager
async def writing(request: Request) -> AsyncIterator[asyncpg.Connection]:
    """A connection in a transaction that may write; once it is committed, the change is announced to every replica."""
    async with database_of(request).acquire() as connection:
        async with connection.transaction():
            await connection.execute("SET TRANSACTION READ WRITE")
            yield connection
            generation = await connection.fetchval(queries.ADVANCE_GENERATION)
    await request.app.state.answers.publish(generation)
