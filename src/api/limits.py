"""Rate limits: a sliding window of one minute per caller, counted by every replica and shared through Redis.

A request is judged by what this replica knows, without asking anybody; several times a second the replicas add their
counts together in Redis. Without Redis each replica counts for itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import redis
import redis.asyncio

WINDOW_SECONDS = 60.0
_SHARE_SECONDS = 0.2


class Standing(NamedTuple):
    """What a caller has left: `remaining` requests now, `limit` again after `reset` seconds."""

    admitted: bool
    limit: int
    remaining: int
    reset: int
    retry_after: int = 0

    def headers(self) -> list[tuple[bytes, bytes]]:
        """RateLimit-* as draft-ietf-httpapi-ratelimit-headers had them, and Retry-After where it is refused."""
        fields = [
            *_of_limit(self.limit),
            (b"ratelimit-remaining", b"%d" % self.remaining),
            (b"ratelimit-reset", b"%d" % self.reset),
        ]
        return fields if self.admitted else [*fields, (b"retry-after", b"%d" % self.retry_after)]


@lru_cache
def _of_limit(limit: int) -> tuple[tuple[bytes, bytes], ...]:
    return (b"ratelimit-limit", b"%d" % limit), (b"ratelimit-policy", b"%d;w=%d" % (limit, WINDOW_SECONDS))


@dataclass(slots=True)
class _Count:
    """Requests of one caller: those of the window before, those of this one, and which are not yet counted in Redis."""

    window: int
    before: int = 0
    current: int = 0
    unshared: int = 0


class RateLimiter:
    """Counts by caller; `sharing` must be entered for several replicas to count together."""

    def __init__(self, cache: redis.asyncio.Redis) -> None:
        self._redis = cache
        self._counts: dict[str, _Count] = {}
        self._unshared: set[str] = set()

    def admit(self, caller: str, limit: int, now: float) -> Standing:
        """Counts a request at `now` (seconds since 1970), unless it is over the limit per minute.

        The window slides: of the minute before, the share counts that still lies within the last sixty seconds.
        """
        window = int(now // WINDOW_SECONDS)
        fraction = now / WINDOW_SECONDS - window
        count = self._count(caller, window)
        used = count.before * (1 - fraction) + count.current
        reset = 1 + int((1 - fraction) * WINDOW_SECONDS)
        if used + 1 > limit:
            return Standing(False, limit, 0, reset, _seconds_until_room(count, limit, fraction))
        count.current += 1
        count.unshared += 1
        self._unshared.add(caller)
        return Standing(True, limit, max(0, int(limit - used - 1)), reset)

    async def share(self, now: float) -> None:
        """Adds this replica's counts to those in Redis, and learns the sums.

        Raises:
            redis.RedisError: if Redis does not answer; the counts are added the next time.
        """
        window = int(now // WINDOW_SECONDS)
        for caller in [name for name, count in self._counts.items() if count.window < window - 1]:
            del self._counts[caller]
        callers = [name for name in self._unshared if name in self._counts]
        self._unshared.clear()
        if not callers:
            return
        sent = {name: (self._counts[name], self._counts[name].window, self._counts[name].unshared) for name in callers}
        try:
            async with self._redis.pipeline(transaction=False) as pipe:
                for name, (_, of_window, unshared) in sent.items():
                    key = f"abbanoa:rate:{of_window}:{name}"
                    pipe.incrby(key, unshared)
                    pipe.expire(key, int(3 * WINDOW_SECONDS))
                answers = await pipe.execute()
        except (redis.RedisError, OSError):
            self._unshared.update(callers)
            raise
        for (count, of_window, unshared), total in zip(sent.values(), answers[::2], strict=True):
            # What was counted while Redis answered stays on top.
            if count.window == of_window:
                count.unshared -= unshared
                count.current = total + count.unshared

    @contextlib.asynccontextmanager
    async def sharing(self) -> AsyncIterator[None]:
        """Shares counts in the background inside the block."""
        serving = asyncio.Event()

        async def run() -> None:
            while not serving.is_set():
                with contextlib.suppress(redis.RedisError, OSError):
                    await self.share(time.time())
                await asyncio.sleep(_SHARE_SECONDS)

        task = asyncio.create_task(run())
        try:
            yield
        finally:
            serving.set()
            await task

    def _count(self, caller: str, window: int) -> _Count:
        count = self._counts.get(caller)
        if count is None:
            count = self._counts[caller] = _Count(window)
        elif count.window != window:
            before = count.current if count.window == window - 1 else 0
            count = self._counts[caller] = _Count(window, before)
        return count


def _seconds_until_room(count: _Count, limit: int, fraction: float) -> int:
    """When one more request fits: later in this window as the one before slides out, or in the next."""
    room = limit - 1 - count.current
    if room >= 0 and count.before:
        return max(1, math.ceil((1 - room / count.before - fraction) * WINDOW_SECONDS))
    in_next = 1 - max(limit - 1, 0) / max(count.current, 1)
    return max(1, math.ceil((1 - fraction + max(in_next, 0)) * WINDOW_SECONDS))
