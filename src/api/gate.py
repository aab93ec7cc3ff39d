"""The gate in front of everything: who may ask what, how often, and under which request id."""

from __future__ import annotations

import ipaddress
import re
import time
from functools import lru_cache
from uuid import uuid4

import redis
import redis.asyncio
import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from src.api import problems
from src.api.identity import ANYBODY, Identities, Identity, Refused, presented
from src.api.limits import RateLimiter
from src.api.measures import REFUSED
from src.api.usage import Usage
from src.credentials import allows
from src.observability import logger
from src.settings import Settings

# Answered to everybody: they tell nothing of the network.
OPEN = frozenset({"/health", "/ready", "/docs", "/redoc", "/openapi.json"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class _Turned(Exception):
    """A request that is not let through."""

    def __init__(
        self, status: int, reason: str, detail: str, headers: dict[str, str] | None = None, key_id: str | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.reason, self.detail, self.headers, self.key_id = status, reason, detail, headers, key_id


class Gate:
    """ASGI middleware outside of the answer cache, because a cached answer too is for those who may see it."""

    def __init__(
        self, app: ASGIApp, settings: Settings, identities: Identities, limiter: RateLimiter, usage: Usage
    ) -> None:
        self._app = app
        self._required = settings.api_auth == "required"
        self._per_key = settings.api_requests_per_minute_and_key
        self._per_address = settings.api_requests_per_minute_and_address
        self._identities = identities
        self._limiter = limiter
        self._usage = usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        added: list[tuple[bytes, bytes]] = [(b"x-request-id", request_id.encode())]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            if scope["path"] not in OPEN:
                await self._let_in(scope, headers, added)
            await self._app(scope, receive, send_with_headers)
        except _Turned as turned:
            REFUSED.labels(turned.reason).inc()
            address = client_address(scope)
            logger(__name__).info(
                "refused", reason=turned.reason, path=scope["path"], address=address, key_id=turned.key_id
            )
            if turned.key_id is not None:
                self._usage.count(turned.key_id, address, refused=True)
            answer = problems.problem(turned.status, turned.detail, turned.headers)
            await answer(scope, receive, send_with_headers)
        finally:
            structlog.contextvars.unbind_contextvars("request_id")

    async def _let_in(self, scope: Scope, headers: Headers, added: list[tuple[bytes, bytes]]) -> None:
        """Names the caller in the request's state, or turns it away.

        Raises:
            _Turned: if it may not pass.
        """
        now, address = time.time(), client_address(scope)
        self._admit(f"address:{_network_of(address)}", self._per_address, now, added, None)
        identity = ANYBODY
        if self._required:
            identity = await self._identity(scope, headers)
            needed = "read" if scope["method"] in ("GET", "HEAD", "OPTIONS") or _own_session(scope) else "write"
            if not allows(identity.scope, needed):
                detail = f"This needs the scope {needed}; the key has {identity.scope}"
                raise _Turned(403, "scope", detail, key_id=identity.key_id)
            self._admit(f"key:{identity.key_id}", self._per_key, now, added, identity.key_id)
            self._usage.count(identity.key_id, address, refused=False)
        scope.setdefault("state", {})["identity"] = identity

    def _admit(self, caller: str, limit: int, now: float, added: list[tuple[bytes, bytes]], key_id: str | None) -> None:
        if not limit:
            return
        standing = self._limiter.admit(caller, limit, now)
        # The request id stays; of two limits the one closer to the caller, its key's, is told.
        added[1:] = standing.headers()
        if not standing.admitted:
            wait = standing.retry_after
            raise _Turned(
                429, "rate limit", f"More than {limit} requests in a minute; try again in {wait} s", key_id=key_id
            )

    async def _identity(self, scope: Scope, headers: Headers) -> Identity:
        text = presented(headers)
        challenge = {"WWW-Authenticate": 'Bearer realm="abbanoa"'}
        if text is None:
            raise _Turned(401, "no key", "An API key is needed: X-API-Key or Authorization: Bearer", challenge)
        try:
            return await self._identities.of(text, scope["app"].state.pool)
        except Refused as refused:
            raise _Turned(401, "bad key", str(refused), challenge) from None
        except redis.RedisError:
            detail = "Redis does not answer, so sessions cannot be checked; an API key works"
            raise _Turned(503, "no sessions", detail, {"Retry-After": "5"}) from None
        except problems.DATABASE_AWAY as error:
            logger(__name__).error("the database does not answer", error=f"{type(error).__name__}: {error}")
            raise _Turned(503, "no database", problems.DATABASE_AWAY_DETAIL, {"Retry-After": "5"}) from None


def client_address(scope: Scope) -> str:
    """The caller's address; uvicorn has put in what a trusted proxy said."""
    client = scope.get("client")
    return client[0] if client else "unknown"


def _own_session(scope: Scope) -> bool:
    """Opening and ending one's own session changes nothing of the network."""
    path: str = scope["path"]
    return path == "/api/v1/session" or path.startswith("/api/v1/session/")


@lru_cache(maxsize=10_000)
def _network_of(address: str) -> str:
    """The address, or for IPv6 its /64, which one caller has to itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address
