"""`python -m src.api.main`: the REST API, which computes nothing and serves what is stored."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.types import ASGIApp

from src.api import problems
from src.api.cache import AnswerCache
from src.api.database import create_pool
from src.api.routers import insights, network, nodes, system
from src.observability import configure_logging
from src.settings import Settings, load_settings


def create_app(settings: Settings) -> FastAPI:
    """The application with its connections, which are opened when it starts to serve."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.pool = create_pool(settings)
        # The middleware exists once the application has been assembled, which is before it starts.
        cache: AnswerCache = app.state.answers
        app.state.redis = cache.redis
        async with app.state.pool, cache.watching():
            yield

    app = FastAPI(
        title="Abbanoa Processing Services",
        version="1.0.0",
        summary="Precomputed metrics of a water network",
        description="Instants are UTC (ISO 8601, Z); windows are [window_start, window_end); numbers are unrounded; "
        "what is not known is null. Lists page by the `Link` header (rel=next). Answers carry an ETag: send it as "
        "If-None-Match, and what has not changed costs a 304.",
        lifespan=lifespan,
    )
    app.state.settings = settings

    def assembled(inner: ASGIApp) -> ASGIApp:
        cache = app.state.answers = AnswerCache(inner, settings)
        return cache

    app.add_middleware(assembled)
    problems.install(app)
    for resource in (system, nodes, network, insights):
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
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
    return app


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
    # An answer of thousands of values would set off a full collection every few requests.
    gc.set_threshold(50_000, 50, 50)
    uvicorn.run(
        create_app(settings),
        host=settings.api_host,
        port=settings.api_port,
        loop="uvloop",
        http="httptools",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.shutdown_seconds,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
