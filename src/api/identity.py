"""Who is calling: API keys from the database, sessions from Redis; both believed for two seconds."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import asyncpg
from cachetools import TTLCache
from starlette.types import Scope

from src.api import queries
from src.api.headers import cookies, values
from src.api.sessions import Sessions
from src.credentials import KEY_PREFIX, SCOPES, SESSION_PREFIX, digest_of, identifier_of

SESSION_COOKIE = "abbanoa_session"
# Over TLS: no other host, not even one of the same domain, can set a cookie of this prefix.
SECURE_SESSION_COOKIE = "__Host-abbanoa_session"
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
    # Who holds it, where it was made for one person.
    person: str | None = None
    session_id: str | None = None


# With API_AUTH=off everybody may do everything.
ANYBODY = Identity("anybody", "anybody", "admin")


@dataclass(frozen=True)
class Presented:
    """A credential, and whether the browser added it to the request by itself."""

    text: str
    by_cookie: bool


def session_cookie(scheme: str) -> str:
    """The name of the session's cookie for requests of a scheme (http, https)."""
    return SECURE_SESSION_COOKIE if scheme == "https" else SESSION_COOKIE


def presented(scope: Scope) -> Presented | None:
    """The credential of a request: X-API-Key or Authorization: Bearer or, without these, the session's cookie.

    Raises:
        Refused: if the request presents two: whose it is must not depend on who reads it.
    """
    keys = {value.strip() for value in values(scope, b"x-api-key")} - {""}
    for value in values(scope, b"authorization"):
        kind, _, token = value.partition(" ")
        if kind.lower() == "bearer" and token.strip():
            keys.add(token.strip())
    by_cookie = not keys
    if by_cookie:
        keys = set(cookies(scope, session_cookie(scope["scheme"]))) - {""}
    if len(keys) > 1:
        raise Refused("The request presents more than one credential; send one")
    return Presented(keys.pop(), by_cookie) if keys else None


class Identities:
    """Knows callers by what they present."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._believed: TTLCache[bytes, Identity | Refused] = TTLCache(10_000, _BELIEVED_SECONDS)

    def believed(self, text: str) -> Identity | None:
        """The caller who presents this credential, where it was looked up a moment ago.

        Raises:
            Refused: if it was not good then.
        """
        # Not `get`, which looks twice.
        try:
            found = self._believed[digest_of(text)]
        except KeyError:
            return None
        if isinstance(found, Refused):
            raise Refused(*found.args)
        return found

    async def looked_up(self, text: str, database: asyncpg.Pool) -> Identity:
        """The caller who presents this credential.

        Raises:
            Refused: if it is not, or no longer, good.
            redis.RedisError: if it is a session and Redis does not answer.
        """
        digest = digest_of(text)
        try:
            found = self._believed[digest] = await self._looked_up(text, digest, database)
        except Refused as refused:
            # A copy: what was raised holds on to every frame that it came through.
            self._believed[digest] = Refused(*refused.args)
            raise
        return found

    def forget(self) -> None:
        """Believes nobody any more without looking: a session has ended."""
        self._believed.clear()

    async def _looked_up(self, text: str, digest: bytes, database: asyncpg.Pool) -> Identity:
        if identifier_of(text, SESSION_PREFIX) is not None:
            # Sessions live in real time, as their keys do, whatever clock is injected.
            session = await self._sessions.of_token(text, digest, datetime.now(UTC))
            if session is None:
                raise Refused("The session has ended or is not known; open another")
            identity = await self._key(session.key_id, None, database)
            scope = min(identity.scope, session.scope, key=SCOPES.index)
            return replace(identity, scope=scope, session_id=session.session_id)
        if (key_id := identifier_of(text, KEY_PREFIX)) is not None:
            return await self._key(key_id, digest, database)
        raise Refused("The API key is not known")

    async def _key(self, key_id: str, digest: bytes | None, database: asyncpg.Pool) -> Identity:
        row = await database.fetchrow(queries.API_KEY, key_id)
        # Compared also where there is no such key, so that the time it takes reveals nothing.
        known = hmac.compare_digest(bytes(32) if row is None else row["digest"], digest or bytes(32))
        if row is None or (digest is not None and not known):
            raise Refused("The API key is not known")
        if row["revoked"]:
            raise Refused("The API key has been revoked")
        if row["expired"]:
            raise Refused("The API key has expired")
        return Identity(key_id, row["key_name"], row["scope"], row["person"])
