"""Sessions in Redis: opened with a key, renewed by use, ended by time, by people, or with their key.

They have no time to live in Redis' own sense: keys that have one may be evicted to make room for cached answers. What
has run out is swept away whenever a session is opened.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import orjson
import redis.asyncio

from src.credentials import SESSION_PREFIX, Credential, identifier_of, new_credential

# Of one key; whoever opens another ends the oldest.
MOST_OF_A_KEY = 100
# A session is written again once so much of its time is gone.
_RENEWED_AFTER = 0.1
_BY_EXPIRY = "abbanoa:sessions-by-expiry"


@dataclass(frozen=True)
class Session:
    """A session as it lies in Redis, without its token; instants in seconds since 1970.

    Attributes:
        scope: what it allows at most; its key may allow less.
        idle_seconds: how long it lasts without being used.
        expires_at: when it ends unless it is used before.
        ends_at: when it ends however much it is used.
    """

    session_id: str
    key_id: str
    digest: str
    scope: str
    created_at: float
    idle_seconds: float
    expires_at: float
    ends_at: float
    address: str
    user_agent: str


class Sessions:
    """All open sessions; every method raises redis.RedisError where Redis does not answer."""

    def __init__(self, cache: redis.asyncio.Redis) -> None:
        self._redis = cache

    async def open(
        self, key_id: str, scope: str, idle: timedelta, longest: timedelta, address: str, user_agent: str, now: datetime
    ) -> tuple[Credential, Session]:
        """A session for the holder of a key; its token is shown once.

        Args:
            idle: how long it lasts without being used.
            longest: how long it lasts at most.
        """
        await self._sweep(now)
        for session in (await self.of_key(key_id, now))[MOST_OF_A_KEY - 1 :]:
            await self._forget([session])
        token = new_credential(SESSION_PREFIX)
        begun = now.timestamp()
        session = Session(
            token.identifier,
            key_id,
            token.digest.hex(),
            scope,
            begun,
            idle.total_seconds(),
            begun + min(idle, longest).total_seconds(),
            begun + longest.total_seconds(),
            address,
            user_agent[:200],
        )
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(_name(token.identifier), orjson.dumps(session))
            pipe.sadd(_of_key(key_id), token.identifier)
            pipe.zadd(_BY_EXPIRY, {token.identifier: session.expires_at})
            await pipe.execute()
        return token, session

    async def of_token(self, text: str, digest: bytes, now: datetime) -> Session | None:
        """The open session that a token is of, whose use renews it; None where there is none.

        Args:
            digest: of the text.
        """
        session_id = identifier_of(text, SESSION_PREFIX)
        session = None if session_id is None else await self._get(session_id, now)
        if session is None or not hmac.compare_digest(bytes.fromhex(session.digest), digest):
            return None
        return await self._renewed(session, now)

    async def of_key(self, key_id: str, now: datetime) -> list[Session]:
        """The open sessions of a key, newest first."""
        members = await self._redis.smembers(_of_key(key_id))
        found = await self._all([_text(member) for member in members])
        is_open = [session for session in found if session.expires_at > now.timestamp()]
        return sorted(is_open, key=lambda session: session.created_at, reverse=True)

    async def end(self, session_id: str, key_id: str | None, now: datetime) -> bool:
        """Ends a session, of this key where one is named; False if there is none."""
        session = await self._get(session_id, now)
        if session is None or key_id not in (None, session.key_id):
            return False
        await self._forget([session])
        return True

    async def _renewed(self, session: Session, now: datetime) -> Session:
        expires_at = min(now.timestamp() + session.idle_seconds, session.ends_at)
        if expires_at - session.expires_at < _RENEWED_AFTER * session.idle_seconds:
            return session
        renewed = replace(session, expires_at=expires_at)
        # XX: a session that was ended meanwhile is not brought back.
        await self._redis.set(_name(session.session_id), orjson.dumps(renewed), xx=True)
        await self._redis.zadd(_BY_EXPIRY, {session.session_id: expires_at}, xx=True)
        return renewed

    async def _get(self, session_id: str, now: datetime) -> Session | None:
        found = await self._all([session_id])
        return found[0] if found and found[0].expires_at > now.timestamp() else None

    async def _all(self, session_ids: Sequence[str]) -> list[Session]:
        if not session_ids:
            return []
        stored = await self._redis.mget([_name(session_id) for session_id in session_ids])
        return [session for text in stored if text is not None and (session := _parsed(text)) is not None]

    async def _sweep(self, now: datetime) -> None:
        outdated = await self._redis.zrangebyscore(_BY_EXPIRY, "-inf", now.timestamp(), start=0, num=1000)
        names = [_text(name) for name in outdated if isinstance(name, (bytes, str))]
        await self._forget(await self._all(names))
        if names:
            await self._redis.zrem(_BY_EXPIRY, *names)

    async def _forget(self, sessions: Sequence[Session]) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            for session in sessions:
                pipe.delete(_name(session.session_id))
                pipe.srem(_of_key(session.key_id), session.session_id)
                pipe.zrem(_BY_EXPIRY, session.session_id)
            await pipe.execute()


def text_of(instant: float) -> str:
    """An instant in seconds since 1970 as ISO 8601 in UTC."""
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _parsed(stored: bytes | str) -> Session | None:
    """None for what an older version has stored: its owner opens another."""
    try:
        return Session(**orjson.loads(stored))
    except (TypeError, ValueError):
        return None


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _name(session_id: str) -> str:
    return f"abbanoa:session:{session_id}"


def _of_key(key_id: str) -> str:
    return f"abbanoa:sessions:{key_id}"
