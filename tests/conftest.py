from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import hypothesis
import pytest
import redis
from sqlalchemy import Engine, make_url, text

from src.db.engines import create_database_engine
from src.db.migrate import migrate
from src.db.timescale import has_community_features
from src.quickstart import engines
from src.settings import Settings

# A slow machine fails no test.
hypothesis.settings.register_profile("without a deadline", deadline=None, max_examples=50)
# By --hypothesis-profile=thorough.
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=1200)
hypothesis.settings.load_profile("without a deadline")


# Just after the readings that most tests make.
NOW = "frozen:2023-05-10T00:00:00Z"
# Where it names a server with TimescaleDB, that server stands in for the embedded PostgreSQL in every test.
TIMESCALE_URL = os.environ.get("TEST_TIMESCALE_URL")


# These take minutes, by themselves or by what their tests share.
LONGEST = ("test_killing", "test_quickstart")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # First, so that no worker has to be waited for at the end.
    items.sort(key=lambda item: item.path.stem not in LONGEST)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # Not the header, which a quiet run leaves out.
    name = f"TimescaleDB at {make_url(TIMESCALE_URL)!r}" if TIMESCALE_URL else "embedded PostgreSQL, no TimescaleDB"
    terminalreporter.write_line(f"database of the tests: {name}")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Settings that lead to the database server of this run."""
    if not TIMESCALE_URL:
        with engines.postgres(tmp_path_factory.mktemp("postgres") / "data") as address:
            yield address
        return
    url = make_url(TIMESCALE_URL)
    if url.password:
        # Drivers look here where the settings name no password, in the processes that tests start as well.
        os.environ["PGPASSWORD"] = str(url.password)
    yield {
        "postgres_host": url.host or "localhost",
        "postgres_port": str(url.port or 5432),
        "postgres_user": url.username or "postgres",
        "postgres_db": url.database or "postgres",
    }


@contextmanager
def fresh_database(server: dict[str, str], template: str = "template0") -> Iterator[Settings]:
    """Settings that lead to a copy of another database, by default an empty one, under a name that no other run has."""
    name = f"abbanoa_test_{uuid4().hex[:12]}"
    admin = create_database_engine(Settings(bigquery_project_id="demo", **server))
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    try:
        yield Settings(bigquery_project_id="demo", **server | {"postgres_db": name})
    finally:
        with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


@pytest.fixture(scope="session")
def template(server: dict[str, str]) -> Iterator[str]:
    """The name of a migrated database, of which tests get copies: migrations take ten times as long.

    Their readings are of 2023, which policies by the server's own clock would delete.
    """
    with fresh_database(server) as settings:
        engine = create_database_engine(settings)
        migrate(engine, settings.model_copy(update={"clock": NOW}))
        engine.dispose()
        admin = create_database_engine(Settings(bigquery_project_id="demo", **server))
        with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # Whoever is connected, such as a scheduler of TimescaleDB's, is in the way of who would copy it.
            connection.execute(text(f"ALTER DATABASE {settings.postgres_db} ALLOW_CONNECTIONS false"))
            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
                {"name": settings.postgres_db},
            )
        admin.dispose()
        yield settings.postgres_db


@pytest.fixture
def settings(server: dict[str, str], request: pytest.FixtureRequest) -> Iterator[Settings]:
    """Settings that lead to a database of the test's own: migrated for who takes `database`, else empty."""
    template = request.getfixturevalue("template") if "database" in request.fixturenames else "template0"
    with fresh_database(server, template) as settings:
        yield settings


@pytest.fixture(scope="session")
def redis_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with engines.redis(tmp_path_factory.mktemp("redis")) as address:
        yield address


@pytest.fixture(scope="session")
def bigquery_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with engines.bigquery(tmp_path_factory.mktemp("bigquery")) as address:
        yield address


@pytest.fixture
def stack(
    settings: Settings, database: Engine, redis_address: dict[str, str], bigquery_address: dict[str, str]
) -> Settings:
    """Settings of a whole, empty system: a migrated database, Redis, and a warehouse without a table."""
    with redis.Redis(host=redis_address["redis_host"], port=int(redis_address["redis_port"])) as client:
        client.flushall()
    address = {
        name: str(getattr(settings, name))
        for name in ("postgres_host", "postgres_port", "postgres_user", "postgres_db")
    }
    return Settings(**address, **redis_address, **bigquery_address, clock=NOW)


@pytest.fixture
def database(settings: Settings) -> Iterator[Engine]:
    """A migrated database without rows."""
    engine = create_database_engine(settings)
    yield engine
    engine.dispose()


@pytest.fixture
def timescale(server: dict[str, str]) -> Iterator[Engine]:
    """An empty database on a server that has TimescaleDB, where TEST_TIMESCALE_URL names one."""
    if not TIMESCALE_URL:
        pytest.skip("TEST_TIMESCALE_URL is not set: the hypertable paths need a server with TimescaleDB")
    with fresh_database(server) as settings:
        engine = create_database_engine(settings)
        yield engine
        engine.dispose()


@pytest.fixture
def licensed(timescale: Engine) -> Engine:
    """The same where the server's configuration leaves TimescaleDB its community licence."""
    if not _has_community_licence(timescale):
        pytest.skip("the server of TEST_TIMESCALE_URL lacks the community licence: it compresses nothing")
    return timescale


@pytest.fixture
def unlicensed(timescale: Engine) -> Engine:
    """The same where the server's configuration leaves TimescaleDB the Apache licence only."""
    if _has_community_licence(timescale):
        pytest.skip("the server of TEST_TIMESCALE_URL has the community licence")
    return timescale


def _has_community_licence(database: Engine) -> bool:
    with database.begin() as connection:
        connection.execute(text("CREATE EXTENSION IF NOT EXISTS timescaledb"))
        return has_community_features(connection)
