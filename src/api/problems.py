"""What goes wrong, as RFC 9457 application/problem+json."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import asyncpg
import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from src.observability import logger


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


def install(app: FastAPI) -> None:
    """Makes every error of the app a problem."""

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        errors = [
            {"field": str(e["loc"][-1]), "in": str(e["loc"][0]), "message": str(e["msg"])} for e in error.errors()
        ]
        told = "; ".join(f"{e['field']}: {e['message']}" for e in errors)
        return problem(422, told, errors=errors)

    async def away(request: Request, error: Exception) -> Response:
        logger(__name__).error("the database does not answer", error=f"{type(error).__name__}: {error}")
        return problem(503, "The database does not answer; try again shortly", {"Retry-After": "5"})

    for kind in (
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
    ):
        app.add_exception_handler(kind, away)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> Response:
        return problem(500, "This should not have happened; the log says more")
