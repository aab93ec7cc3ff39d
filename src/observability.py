"""Structured logs, JSON for machines and readable lines on a terminal; measures for Prometheus."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from typing import cast

import structlog
from prometheus_client import start_http_server

from src.settings import Settings

# The request that is being answered, where there is one.
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)


def _with_request_id(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    if (request_id := REQUEST_ID.get()) is not None:
        event["request_id"] = request_id
    return event


def configure_logging(settings: Settings) -> None:
    """Routes structlog and the standard library's loggers through one renderer to standard error."""
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not sys.stderr.isatty())
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    )
    shared: list[structlog.types.Processor] = [
        _with_request_id,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info if as_json else structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    for chatty in ("apscheduler", "dramatiq", "google", "urllib3", "alembic"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


def serve_measures(port: int) -> None:
    """Offers Prometheus this process's measures on a port of its own, which is not for the world; 0: on none."""
    if port:
        start_http_server(port)


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """A structured logger: `logger(__name__).info("what happened", key=value)`."""
    return cast(structlog.stdlib.BoundLogger, structlog.get_logger(name))
