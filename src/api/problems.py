"""What goes wrong, as RFC 9457 application/problem+json."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import asyncpg
import orjson
import redis
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from src.api.routes import Routes
from src.observability import logger

# What asyncpg raises when there is no database to work with.
DATABASE_AWAY: tuple[type[Exception], ...] = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.exceptions.OperatorInterventionError,
    asyncpg.exceptions.InsufficientResourcesError,
    asyncpg.exceptions.QueryCanceledError,
    # Before the first migration.
    asyncpg.exceptions.InvalidCatalogNameError,
    asyncpg.exceptions.UndefinedTableError,
    asyncpg.exceptions.InvalidSchemaNameError,
)
DATABASE_AWAY_DETAIL = "The database does not answer; try again shortly"
UNFORESEEN_DETAIL = "This should not have happened; the log says more"


class Problem(BaseModel):
    """RFC 9457."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["There is no node 'node-42'"])
    errors: list[dict[str, str]] | None = Field(
        None, description="for 422: the offending fields, `field` and `message`"
    )


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail} | more
    return Response(orjson.dumps(body), status, dict(headers or {}), "application/problem+json")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for OpenAPI: those named, and the ones every route has."""
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in (*statuses, 422, 503)
    }


def install(app: FastAPI, routes: Routes) -> None:
    """Makes every error of the app a problem."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if error.status_code == 405:
            # Routes are declared one method at a time; the header is for all that share the path.
            return problem(405, str(error.detail), {"Allow": ", ".join(routes.methods(request.scope["path"]))})
        return problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        errors = [
            {"field": str(e["loc"][-1]), "in": str(e["loc"][0]), "message": str(e["msg"])} for e in error.errors()
        ]
        detail = "; ".join(f"{e['field']}: {e['message']}" for e in errors)
        return problem(422, detail, errors=errors)

    async def away(request: Request, error: Exception) -> Response:
        logger(__name__).error("the database does not answer", error=f"{type(error).__name__}: {error}")
        return problem(503, DATABASE_AWAY_DETAIL, {"Retry-After": "5"})

    for kind in DATABASE_AWAY:
        app.add_exception_handler(kind, away)

    @app.exception_handler(redis.RedisError)
    async def no_sessions(request: Request, error: Exception) -> Response:
        # Cached answers do without Redis; only sessions cannot.
        return problem(503, "Redis does not answer, so there are no sessions now", {"Retry-After": "5"})
