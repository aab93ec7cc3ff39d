"""What the API counts of itself, for Prometheus."""

from __future__ import annotations

import time
from functools import lru_cache

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from src.api.routes import Routes

REQUESTS = Counter("abbanoa_api_requests_total", "Requests answered", ["method", "route", "status"])
SECONDS = Histogram(
    "abbanoa_api_request_seconds",
    "From the request to the last byte of its answer",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
ANSWERS = Counter("abbanoa_api_answers_total", "Answers by where they came from", ["source"])
REFUSED = Counter("abbanoa_api_refused_total", "Requests not let through", ["reason"])
_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS"})


class Measured:
    """ASGI middleware that counts and times requests by route."""

    def __init__(self, app: ASGIApp, routes: Routes) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "other"
            requests, seconds = _children(method, self._routes.template(scope["method"], scope["path"]), status)
            requests.inc()
            seconds.observe(time.perf_counter() - begun)


# Looking children up by their labels costs more than counting.
@lru_cache(maxsize=10_000)
def _children(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(method, route, str(status)), SECONDS.labels(route)
