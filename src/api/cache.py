"""Answers cached as bytes: in the process, then in Redis, both named by the data generation, then computed once.

Redis has what was requested twice: most requests with a span of time come once, and would push out of it what every
replica is asked for.

An ETag is a digest of the body, so it is the same on every replica and outlives a generation that changed nothing of
the answer. Without Redis nobody knows the generation: every answer then comes from the database.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import redis.asyncio
from cachetools import TTLCache
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from src.api.headers import prefers_csv, values
from src.api.identity import ANYBODY, Identity
from src.api.measures import ANSWERS
from src.credentials import allows
from src.generation import GENERATION_KEY
from src.observability import logger
from src.settings import Settings

_MEMORY_BYTES = 64 * 1024 * 1024
_POLL_SECONDS = 0.2
# Computed for each request, never cached.
_UNCACHED = ("/api/v1/status",)
# These depend on who asks.
_PERSONAL = ("/api/v1/session", "/api/v1/keys")
_SEPARATOR = b"\n\n"
# Of two that write at once, the later generation stays.
_RAISE = """
if tonumber(ARGV[1]) > tonumber(redis.call('GET', KEYS[1]) or '-1') then redis.call('SET', KEYS[1], ARGV[1]) end
"""
_FROM_MEMORY, _FROM_REDIS, _FROM_DATABASE, _UNCHANGED = (
    ANSWERS.labels(source) for source in ("memory", "redis", "database", "unchanged")
)


@dataclass(slots=True)
class Answer:
    """A 200 ready to be sent, with the headers that make a 304 of it."""

    etag: str
    headers: list[tuple[bytes, bytes]]
    unchanged_headers: list[tuple[bytes, bytes]]
    body: bytes
    in_redis: bool = False

    @classmethod
    def of(cls, body: bytes, content_type: bytes, link: bytes) -> Answer:
        etag = f'"{hashlib.sha1(body + link, usedforsecurity=False).hexdigest()}"'
        shared = [(b"etag", etag.encode()), (b"cache-control", b"private, no-cache"), (b"vary", b"accept")]
        described = [(b"content-type", content_type), (b"content-length", str(len(body)).encode())]
        linked = [(b"link", link)] if link else []
        return cls(etag, [*described, *shared, *linked], shared, body)

    def packed(self) -> bytes:
        headers = dict(self.headers)
        return headers[b"content-type"] + _SEPARATOR + headers.get(b"link", b"") + _SEPARATOR + self.body

    @classmethod
    def unpacked(cls, packed: bytes) -> Answer:
        content_type, link, body = packed.split(_SEPARATOR, 2)
        answer = cls.of(body, content_type, link)
        answer.in_redis = True
        return answer


def _name(generation: int, key: bytes) -> bytes:
    """An answer's name in Redis."""
    return b"abbanoa:answer:%d:%s" % (generation, hashlib.blake2b(key, digest_size=16).digest())


def _may_have_written(scope: Scope) -> bool:
    """Whether the caller may have changed something a moment ago, on whichever replica: it sees what it wrote.

    Where nobody needs a key, everybody might, and learns of it as all others do.
    """
    identity: Identity | None = scope.get("state", {}).get("identity")
    return identity is not None and identity is not ANYBODY and allows(identity.scope, "write")


class AnswerCache:
    """ASGI middleware in front of the application; `watching` must be entered while it serves."""

    def __init__(self, app: ASGIApp, settings: Settings, cache: redis.asyncio.Redis) -> None:
        self._app = app
        self._seconds = settings.cache_seconds
        self._memory: TTLCache[bytes, Answer] = TTLCache(
            _MEMORY_BYTES, settings.cache_seconds, getsizeof=lambda answer: len(answer.body) + 1000
        )
        self._generation: int | None = None
        self._under_way: dict[bytes, asyncio.Task[Answer | list[Message]]] = {}
        self._writes: set[asyncio.Task[None]] = set()
        self._redis = cache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if (
            scope["type"] != "http"
            or scope["method"] != "GET"
            or not path.startswith("/api/v1/")
            or path.startswith(_PERSONAL)
        ):
            await self._app(scope, receive, send)
            return
        kind = b"csv?" if prefers_csv(scope) else b"json?"
        key = kind + scope["raw_path"] + b"?" + scope["query_string"]
        if _may_have_written(scope):
            await self._look_at_generation()
        # Not `get`, which looks twice.
        try:
            found = self._memory[key]
        except KeyError:
            outcome = await self._looked_up(key, scope)
            if isinstance(outcome, list):
                for message in outcome:
                    await send(message)
                return
            found = outcome
        else:
            _FROM_MEMORY.inc()
            if not found.in_redis:
                self._share(key, found)
        known = values(scope, b"if-none-match")
        if known and any(tags.strip() == "*" or found.etag in tags for tags in known):
            _UNCHANGED.inc()
            await send({"type": "http.response.start", "status": 304, "headers": found.unchanged_headers})
            await send({"type": "http.response.body", "body": b""})
            return
        await send({"type": "http.response.start", "status": 200, "headers": found.headers})
        await send({"type": "http.response.body", "body": found.body})

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Follows the data generation in Redis inside the block."""
        serving = asyncio.Event()
        serving.set()
        watcher = asyncio.create_task(self._watch(serving))
        try:
            yield
        finally:
            # Not cancelled: a cancellation in the middle of a Redis call can get lost in its time-outs.
            serving.clear()
            await watcher

    async def _looked_up(self, key: bytes, scope: Scope) -> Answer | list[Message]:
        """The answer, computed at most once however many ask; the raw messages where it is no cacheable one."""
        task = self._under_way.get(key)
        if task is None:
            task = asyncio.create_task(self._compute(key, scope))
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._under_way.pop(key, None))
        return await asyncio.shield(task)

    async def _compute(self, key: bytes, scope: Scope) -> Answer | list[Message]:
        generation = None if scope["path"] in _UNCACHED else self._generation
        if generation is not None:
            packed: bytes | None = None
            with contextlib.suppress(redis.RedisError, OSError):
                packed = await self._redis.get(_name(generation, key))  # type: ignore[assignment]
            if packed is not None:
                answer = Answer.unpacked(packed)
                self._remember(key, answer, generation)
                _FROM_REDIS.inc()
                return answer
        _FROM_DATABASE.inc()
        messages: list[Message] = []

        async def capture(message: Message) -> None:
            messages.append(message)

        async def nothing_more() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        await self._app(scope, nothing_more, capture)
        if messages[0]["status"] != 200:
            return messages
        headers = dict(messages[0]["headers"])
        body = b"".join(message.get("body", b"") for message in messages[1:])
        answer = Answer.of(body, headers[b"content-type"], headers.get(b"link", b""))
        if generation is not None:
            self._remember(key, answer, generation)
        return answer

    def _remember(self, key: bytes, answer: Answer, generation: int) -> None:
        # The generation may have moved on while the answer was being made.
        if generation == self._generation:
            with contextlib.suppress(ValueError):
                self._memory[key] = answer

    def _share(self, key: bytes, answer: Answer) -> None:
        """Puts an answer from this process's memory into Redis, while the caller goes on."""
        if self._generation is None:
            return
        answer.in_redis = True
        write = asyncio.create_task(self._write(_name(self._generation, key), answer))
        self._writes.add(write)
        write.add_done_callback(self._writes.discard)

    async def _write(self, name: bytes, answer: Answer) -> None:
        with contextlib.suppress(redis.RedisError, OSError):
            await self._redis.set(name, answer.packed(), ex=self._seconds)

    async def _watch(self, serving: asyncio.Event) -> None:
        while serving.is_set():
            await self._look_at_generation()
            await asyncio.sleep(_POLL_SECONDS)

    async def _look_at_generation(self) -> None:
        try:
            stored = await self._redis.get(GENERATION_KEY)
            generation = None if stored is None else int(stored)
        except (redis.RedisError, OSError) as error:
            generation = None
            if self._generation is not None:
                logger(__name__).warning("Redis does not answer: serving from the database", error=str(error))
        self._follow(generation)

    def _follow(self, generation: int | None) -> None:
        if generation != self._generation:
            self._generation = generation
            self._memory.clear()

    async def publish(self, generation: int) -> None:
        """Announces that rows have changed: to this replica at once, to the others through Redis, never an old one."""
        if self._generation is not None and generation > self._generation:
            self._follow(generation)
        try:
            await self._redis.eval(_RAISE, 1, GENERATION_KEY, generation)
        except (redis.RedisError, OSError) as error:
            logger(__name__).warning(
                "Redis does not answer; other replicas learn of the change later", error=str(error)
            )
