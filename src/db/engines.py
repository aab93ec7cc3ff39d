"""Connections of the processing service."""

from __future__ import annotations

from sqlalchemy import URL, Engine, create_engine

from src.settings import Settings


def database_url(settings: Settings) -> URL:
    """Where PostgreSQL is; a host that begins with / is the folder of its socket."""
    on_socket = settings.postgres_host.startswith("/")
    return URL.create(
        "postgresql+psycopg2",
        username=settings.postgres_user,
        password=settings.postgres_password.get_secret_value() or None,
        host=None if on_socket else settings.postgres_host,
        port=None if on_socket else settings.postgres_port,
        database=settings.postgres_db,
        query={"host": settings.postgres_host, "port": str(settings.postgres_port)} if on_socket else {},
    )


def create_database_engine(settings: Settings) -> Engine:
    """An engine whose sessions speak UTC and give up on a dead server rather than hang."""
    return create_engine(
        database_url(settings),
        # Every worker thread and the one of trainings, each with a session that holds a lock, and beside them the
        # scheduler, the heartbeat and a command's own progress display.
        pool_size=2 * settings.worker_threads + 6,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": 10,
            # A server that vanished without a word is noticed within a minute, whether its answer is waited for or
            # what is sent to it is not acknowledged (milliseconds).
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
            "tcp_user_timeout": 60_000,
            # As POSTGRES_SSLMODE; libpq itself ignores it on a socket.
            "sslmode": settings.postgres_sslmode,
            **({"sslrootcert": settings.postgres_sslrootcert} if settings.postgres_sslrootcert else {}),
            "options": "-c timezone=UTC -c lock_timeout=60000",
            "application_name": "abbanoa-processing",
        },
    )
