"""Who is calling: API keys from the database, sessions from Redis; both believed for two seconds."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from datetime import timedelta
from http.cookies import CookieError, SimpleCookie

import asyncpg
import orjson
import redis.asyncio
from cachetools import TTLCache

from src.api import queries
from src.credentials import KEY_PREFIX, SESSION_PREFIX, Credential, digest_of, identifier_of, new_credential

SESSION_COOKIE = "abbanoa_session"
# For so long a revoked key may still be let in.
_BELIEVED_SECONDS = 2


class Refused(Exception):
    """Why a credential is not accepted, in a sentence for its owner."""


@dataclass(frozen=True)
class Identity:
    """A caller: the key it holds, directly or through a session."""

    key_id: str
    key_name: str
    scope: str
    session_id: str | None = None


# With API_AUTH=off everybody may do everything.
ANYBODY = Identity("anybody", "anybody", "admin")


@dataclass(frozen=True)
class Session:
    """A session as it lies in Redis, without its token."""

    session_id: str
    key_id: str
    digest: str
    created_at: str
    expires_at: str
    address: str
    user_agent: str


def presented(headers: dict[bytes, bytes]) -> str | None:
    """The credential of a request (headers by lower-case name): X-API-Key, Authorization: Bearer, or the cookie."""
    if key := headers.get(b"x-api-key"):
        return key.decode("latin-1").strip()
    kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    if kind.lower() == "bearer" and token.strip():
        return token.strip()
    if cookies := headers.get(b"cookie"):
        try:
            morsel = SimpleCookie(cookies.decode("latin-1")).get(SESSION_COOKIE)
        except CookieError:
            return None
        return morsel.value if morsel else None
    return None


class Identities:
    """Knows callers by what they present."""

    def __init__(self, cache: redis.asyncio.Redis) -> None:
        self._redis = cache
        self._believed: TTLCache[bytes, Identity | Refused] = TTLCache(10_000, _BELIEVED_SECONDS)

    async def of(self, text: str, database: asyncpg.Pool) -> Identity:
        """The caller who presents this credential.

        Raises:
            Refused: if it is not, or no longer, good.
            redis.RedisError: if it is a session and Redis does not answer.
        """
        digest = digest_of(text)
        found = self._believed.get(digest)
        if found is None:
            try:
                found = await self._looked_up(text, digest, database)
            except Refused as refused:
                found = refused
            self._believed[digest] = found
        if isinstance(found, Refused):
            raise Refused(*found.args)
        return found

    async def _looked_up(self, text: str, digest: bytes, database: asyncpg.Pool) -> Identity:
        if (session_id := identifier_of(text, SESSION_PREFIX)) is not None:
            session = await self._session(session_id)
            if session is None or not hmac.compare_digest(bytes.fromhex(session.digest), digest):
                raise Refused("The session has ended or is not known; open another")
            return await self._key(session.key_id, None, session_id, database)
        if (key_id := identifier_of(text, KEY_PREFIX)) is not None:
            return await self._key(key_id, digest, None, database)
        raise Refused("The API key is not known")

    async def _key(self, key_id: str, digest: bytes | None, session_id: str | None, database: asyncpg.Pool) -> Identity:
        row = await database.fetchrow(queries.API_KEY, key_id)
        # Compared also where there is no such key, so that the time it takes tells nothing.
        known = hmac.compare_digest(bytes(32) if row is None else row["digest"], digest or bytes(32))
        if row is None or (digest is not None and not known):
            raise Refused("The API key is not known")
        if row["revoked"]:
            raise Refused("The API key has been revoked")
        if row["expired"]:
            raise Refused("The API key has expired")
        return Identity(key_id, row["key_name"], row["scope"], session_id)

    async def _session(self, session_id: str) -> Session | None:
        stored = await self._redis.get(_session_key(session_id))
        return None if stored is None else Session(**orjson.loads(stored))

    async def open_session(
        self, identity: Identity, now: str, expires_at: str, lasts: timedelta, address: str, user_agent: str
    ) -> Credential:
        """A session for the holder of a key; its token is told once."""
        token = new_credential(SESSION_PREFIX)
        session = Session(
            token.identifier, identity.key_id, token.digest.hex(), now, expires_at, address, user_agent[:200]
        )
        of_key = _sessions_of_key(identity.key_id)
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(_session_key(token.identifier), orjson.dumps(session), ex=lasts)
            pipe.sadd(of_key, token.identifier)
            pipe.expire(of_key, lasts)
            await pipe.execute()
        return token

    async def sessions(self, key_id: str) -> list[Session]:
        """The open sessions of a key, newest first."""
        of_key = _sessions_of_key(key_id)
        members = await self._redis.smembers(of_key)
        names = sorted(name.decode() if isinstance(name, bytes) else name for name in members)
        if not names:
            return []
        stored = await self._redis.mget([_session_key(name) for name in names])
        if ended := [name for name, text in zip(names, stored, strict=True) if text is None]:
            await self._redis.srem(of_key, *ended)
        found = [Session(**orjson.loads(text)) for text in stored if text is not None]
        return sorted(found, key=lambda session: session.created_at, reverse=True)

    async def end_session(self, session_id: str, key_id: str | None) -> bool:
        """Ends a session, of this key where one is named; False if there is none."""
        session = await self._session(session_id)
        if session is None or key_id not in (None, session.key_id):
            return False
        await self._redis.delete(_session_key(session_id))
        await self._redis.srem(_sessions_of_key(session.key_id), session_id)
        self._believed.clear()
        return True


def _session_key(session_id: str) -> str:
    return f"abbanoa:session:{session_id}"


def _sessions_of_key(key_id: str) -> str:
    return f"abbanoa:sessions:{key_id}"
