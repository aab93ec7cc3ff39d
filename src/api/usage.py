"""The audit of API keys: who used which, from where, hour by hour; written a few times a minute, not per request."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

import asyncpg

from src.api import problems, queries
from src.observability import logger

_WRITE_SECONDS = 5.0


class Usage:
    """Counts in memory; `recording` must be entered for them to be written."""

    def __init__(self) -> None:
        self._requests: Counter[tuple[str, str]] = Counter()
        self._refused: Counter[tuple[str, str]] = Counter()

    def count(self, key_id: str, address: str, *, refused: bool) -> None:
        (self._refused if refused else self._requests)[key_id, address] += 1

    async def write(self, database: asyncpg.Pool) -> None:
        """Adds what was counted since the last time to the database; what cannot be written stays for the next time."""
        requests, refused = self._requests, self._refused
        if not requests and not refused:
            return
        self._requests, self._refused = Counter(), Counter()
        rows = [(*who, requests[who], refused[who]) for who in requests.keys() | refused.keys()]
        try:
            async with database.acquire() as connection, connection.transaction():
                # Connections only read, unless they are set to write.
                await connection.execute("SET TRANSACTION READ WRITE")
                await connection.executemany(queries.ADD_USAGE, sorted(rows))
        except Exception:
            self._requests.update(requests)
            self._refused.update(refused)
            raise

    @contextlib.asynccontextmanager
    async def recording(self, database: asyncpg.Pool) -> AsyncIterator[None]:
        """Writes in the background inside the block, and a last time at its end."""
        ended = asyncio.Event()

        async def run() -> None:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), _WRITE_SECONDS)
                try:
                    await self.write(database)
                except problems.DATABASE_AWAY as error:
                    logger(__name__).warning("the use of API keys is written later", error=str(error))
                except Exception:
                    logger(__name__).exception("the use of API keys could not be written")

        task = asyncio.create_task(run())
        try:
            yield
        finally:
            ended.set()
            await task
