"""The gate in front of everything: who may request what, how often, and under which request id."""

from __future__ import annotations

import ipaddress
import random
import re
import time
from functools import lru_cache

import redis
import redis.asyncio
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from src.api import problems
from src.api.cache import AnswerCache
from src.api.headers import values
from src.api.identity import ANYBODY, Identities, Identity, Refused, presented
from src.api.limits import RateLimiter, Standing
from src.api.measures import REFUSED
from src.api.routes import is_open
from src.api.usage import Usage
from src.credentials import allows
from src.observability import REQUEST_ID, logger
from src.settings import Settings

# Methods that change nothing.
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OTHER_ORIGIN = "A page of another origin may not change anything here; API_CORS_ORIGINS names those that may"
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

    def __init__(self, app: FastAPI) -> None:
        """
        Args:
            app: whose state has settings, identities, limiter, usage and answers, and a pool once it serves.
        """
        settings: Settings = app.state.settings
        self._state = app.state
        self._answers: AnswerCache = app.state.answers
        self._required = settings.api_auth == "required"
        self._origins = frozenset(settings.allowed_origins)
        self._per_key = settings.api_requests_per_minute_and_key
        self._per_address = settings.api_requests_per_minute_and_address
        self._identities: Identities = app.state.identities
        self._limiter: RateLimiter = app.state.limiter
        self._usage: Usage = app.state.usage

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._answers(scope, receive, send)
            return
        sent = next(iter(values(scope, b"x-request-id")), "")
        request_id = sent if _REQUEST_ID.fullmatch(sent) else f"{random.getrandbits(128):032x}"
        added: list[tuple[bytes, bytes]] = [(b"x-request-id", request_id.encode())]
        begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                # A copy: an error that many wait for is one message, sent to each.
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        before = REQUEST_ID.set(request_id)
        try:
            if not is_open(scope["path"]):
                await self._let_in(scope, added)
            await self._answers(scope, receive, send_with_headers)
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
        except Exception:
            logger(__name__).exception("a request failed", path=scope["path"])
            if begun:
                raise
            await problems.problem(500, problems.UNFORESEEN_DETAIL)(scope, receive, send_with_headers)
        finally:
            REQUEST_ID.reset(before)

    async def _let_in(self, scope: Scope, added: list[tuple[bytes, bytes]]) -> None:
        """Names the caller in the request's state, or turns it away.

        Raises:
            _Turned: if it may not pass.
        """
        now, address = time.time(), client_address(scope)
        standing = self._admit(_caller_at(address), self._per_address, now, added, None)
        identity = ANYBODY
        if self._required:
            identity = await self._identity(scope)
            needed = _needed(scope)
            if not allows(identity.scope, needed):
                detail = f"This needs the scope {needed}; the key has {identity.scope}"
                raise _Turned(403, "scope", detail, key_id=identity.key_id)
            of_key = self._admit(f"key:{identity.key_id}", self._per_key, now, added, identity.key_id)
            # Of two limits the response's headers show the one closer to the caller.
            standing = of_key or standing
            self._usage.count(identity.key_id, address, refused=False)
        elif scope["method"] not in _SAFE and not self._is_from_our_pages(scope):
            # Nobody needs a key: without this, any page that somebody has open could change what is stored here.
            raise _Turned(403, "origin", _OTHER_ORIGIN)
        if standing is not None:
            added += standing.headers()
        scope.setdefault("state", {})["identity"] = identity

    def _admit(
        self, caller: str, limit: int, now: float, added: list[tuple[bytes, bytes]], key_id: str | None
    ) -> Standing | None:
        if not limit:
            return None
        standing = self._limiter.admit(caller, limit, now)
        if not standing.admitted:
            added += standing.headers()
            wait = standing.retry_after
            raise _Turned(
                429, "rate limit", f"More than {limit} requests in a minute; try again in {wait} s", key_id=key_id
            )
        return standing

    def _is_from_our_pages(self, scope: Scope) -> bool:
        """Whether a browser confirms that the request comes from a page that may use the session's cookie.

        Other clients send no such header, and no cookie that somebody did not give them.
        """
        origins = values(scope, b"origin")
        if origins:
            return all(origin == _origin_of(scope) or origin in self._origins for origin in origins)
        return all(site in ("same-origin", "none") for site in values(scope, b"sec-fetch-site"))

    async def _identity(self, scope: Scope) -> Identity:
        challenge = {"WWW-Authenticate": 'Bearer realm="abbanoa"'}
        try:
            credential = presented(scope)
            if credential is None:
                raise _Turned(401, "no key", "An API key is needed: X-API-Key or Authorization: Bearer", challenge)
            if credential.by_cookie and scope["method"] not in _SAFE and not self._is_from_our_pages(scope):
                raise _Turned(403, "origin", _OTHER_ORIGIN)
            text = credential.text
            return self._identities.believed(text) or await self._identities.looked_up(text, self._state.pool)
        except Refused as refused:
            raise _Turned(401, "bad key", str(refused), challenge) from None
        except redis.RedisError:
            detail = "Redis does not answer, so sessions cannot be checked; an API key works"
            raise _Turned(503, "no sessions", detail, {"Retry-After": "5"}) from None
        except problems.DATABASE_AWAY as error:
            logger(__name__).error("the database does not answer", error=f"{type(error).__name__}: {error}")
            raise _Turned(503, "no database", problems.DATABASE_AWAY_DETAIL, {"Retry-After": "5"}) from None


def _origin_of(scope: Scope) -> str:
    host = next(iter(values(scope, b"host")), "")
    return f"{scope['scheme']}://{host}"


def client_address(scope: Scope) -> str:
    """The caller's address; uvicorn has put in what a trusted proxy forwarded."""
    client = scope.get("client")
    return client[0] if client else "unknown"


def _needed(scope: Scope) -> str:
    """The least scope that may send a request; some of the routes ask for more themselves."""
    if scope["method"] in _SAFE or _is_for_session(scope):
        return "read"
    # Who changes which model is in use changes what everybody is shown from then on.
    return "admin" if scope["path"].startswith("/api/v1/models/") else "write"


def _is_for_session(scope: Scope) -> bool:
    """Opening and ending one's own session changes nothing of the network."""
    path: str = scope["path"]
    return path == "/api/v1/session" or path.startswith("/api/v1/session/")


@lru_cache(maxsize=10_000)
def _caller_at(address: str) -> str:
    """The caller whom the address stands for; of IPv6 its /64, which one caller has to itself."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return f"address:{address}"
    network = ipaddress.ip_network((parsed, 64), strict=False) if parsed.version == 6 else address
    return f"address:{network}"
