"""`python -m src.api.main`: the REST API, which computes nothing and serves what is stored."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from src.api import dashboard, documentation, problems
from src.api.cache import AnswerCache
from src.api.database import create_cache, create_pool
from src.api.gate import Gate
from src.api.head import Head
from src.api.identity import SECURE_SESSION_COOKIE, Identities
from src.api.limits import RateLimiter
from src.api.measures import Measured
from src.api.parameters import each_known_and_once
from src.api.routers import (
    districts,
    insights,
    models,
    network,
    nodes,
    overview,
    series,
    session,
    survey,
    system,
    works,
)
from src.api.routes import OPEN, Routes
from src.api.server import JoiningProtocol
from src.api.sessions import Sessions
from src.api.usage import Usage
from src.observability import configure_logging, serve_measures
from src.settings import Settings, load_settings


def create_app(settings: Settings) -> FastAPI:
    """The application with its connections, which are opened when it starts to serve."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.pool = create_pool(settings)
        state = app.state
        async with state.pool, state.usage.recording(state.pool), state.limiter.sharing(), state.answers.watching():
            yield
        await state.redis.aclose()

    app = FastAPI(
        title="Abbanoa Processing Services",
        version="1.0.0",
        summary="Precomputed metrics of a water network",
        description="Instants are UTC (ISO 8601, Z); windows are [window_start, window_end); numbers are unrounded; "
        "what is not known is null. Lists page by the `Link` header (rel=next). Answers carry an ETag: send it as "
        "If-None-Match, and what has not changed costs a 304.",
        lifespan=lifespan,
        dependencies=[Depends(each_known_and_once)],
        docs_url=None,
        redoc_url=None,
    )
    documentation.install(app)
    dashboard.install(app, settings)
    resources = (system, overview, nodes, series, districts, network, insights, works, survey, models, session)
    routes = Routes([*app.router.routes, *(route for resource in resources for route in resource.router.routes)])
    state = app.state
    state.settings, state.routes, state.redis = settings, routes, create_cache(settings)
    state.usage, state.limiter, state.sessions = Usage(), RateLimiter(state.redis), Sessions(state.redis)
    state.identities = Identities(state.sessions)
    state.answers = AnswerCache(app, settings, state.redis)
    problems.install(app, routes)
    for resource in resources:
        app.include_router(resource.router)

    def openapi() -> dict[str, object]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                summary=app.summary,
                description=app.description,
                routes=app.routes,
            )
            reference = "#/components/schemas/{model}"
            schema["components"]["schemas"]["Problem"] = problems.Problem.model_json_schema(ref_template=reference)
            if settings.api_auth == "required":
                _describe_access(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


def create_service(settings: Settings) -> ASGIApp:
    """The application behind its measures, its gate and its cache.

    These stand in front of FastAPI, not within: an answer from memory does not pass through its layers.
    """
    app = create_app(settings)
    return Measured(_cross_origin(Head(Gate(app)), settings), app.state.routes)


def _cross_origin(app: ASGIApp, settings: Settings) -> ASGIApp:
    """Lets pages of the origins in API_CORS_ORIGINS send requests, if there are any; a preflight needs no key."""
    if not settings.allowed_origins:
        return app
    return CORSMiddleware(
        app,
        allow_origins=settings.allowed_origins,
        allow_methods=["GET", "HEAD", "POST", "DELETE"],
        allow_headers=["Authorization", "Content-Type", "If-None-Match", "X-API-Key", "X-Request-ID"],
        allow_credentials=True,
        expose_headers=[
            "ETag", "Link", "RateLimit-Limit", "RateLimit-Policy", "RateLimit-Remaining", "RateLimit-Reset",
            "Retry-After", "X-Request-ID",
        ],
    )  # fmt: skip


def _describe_access(schema: dict[str, Any]) -> None:
    """Writes into OpenAPI who may request what."""
    schema["components"]["securitySchemes"] = {
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        "bearer": {"type": "http", "scheme": "bearer", "description": "an API key or a session's token"},
        "session": {"type": "apiKey", "in": "cookie", "name": SECURE_SESSION_COOKIE},
    }
    schema["security"] = [{name: []} for name in schema["components"]["securitySchemes"]]
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            if path in OPEN:
                operation["security"] = []
            else:
                operation["responses"] = {**problems.documented(401, 403, 429), **operation["responses"]}


def main(arguments: list[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(
        prog="python -m src.api.main",
        description="Serves the REST API on API_HOST:API_PORT; its documentation is at /docs. Settings come from the "
        "environment: see .env.processing.example.",
    )
    parser.parse_args(arguments)
    settings = load_settings()
    configure_logging(settings)
    serve_measures(settings.metrics_port)
    # An answer of thousands of values would set off a full collection every few requests.
    gc.set_threshold(50_000, 50, 50)
    uvicorn.run(
        create_service(settings),
        host=settings.api_host,
        port=settings.api_port,
        loop="uvloop",
        http=JoiningProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=settings.api_trusted_proxies,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
