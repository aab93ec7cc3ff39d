from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import hypothesis
import pytest
import redis
from sqlalchemy import Engine, create_engine, make_url, text

from src.db.engines import create_database_engine
from src.db.migrate import migrate
from src.quickstart import engines
from src.settings import Settings

# A slow machine fails no test.
hypothesis.settings.register_profile("without a deadline", deadline=None)
hypothesis.settings.load_profile("without a deadline")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with engines.postgres(tmp_path_factory.mktemp("postgres") / "data") as address:
        yield address


@contextmanager
def fresh_database(server: dict[str, str], name: str) -> Iterator[Settings]:
    """Settings that lead to an empty database of this name."""
    admin = create_database_engine(Settings(bigquery_project_id="demo", **server))
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield Settings(bigquery_project_id="demo", **server | {"postgres_db": name})
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture
def settings(server: dict[str, str]) -> Iterator[Settings]:
    """Settings that lead to an empty database of the test's own."""
    with fresh_database(server, "test") as settings:
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
    kept = {
        name: str(getattr(settings, name))
        for name in ("postgres_host", "postgres_port", "postgres_user", "postgres_db")
    }
    return Settings(**kept, **redis_address, **bigquery_address, clock="frozen:2023-05-10T00:00:00Z")


@pytest.fixture
def database(settings: Settings) -> Iterator[Engine]:
    """A migrated database: the migrations are tested with every test that uses it."""
    engine = create_database_engine(settings)
    migrate(engine, settings)
    yield engine
    engine.dispose()


@pytest.fixture
def timescale() -> Iterator[Engine]:
    """An empty database on a server that has TimescaleDB, where TEST_TIMESCALE_URL names one."""
    url = os.environ.get("TEST_TIMESCALE_URL")
    if not url:
        pytest.skip("TEST_TIMESCALE_URL is not set: the hypertable paths need a server with TimescaleDB")
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE IF EXISTS abbanoa_test WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE abbanoa_test"))
    engine = create_engine(make_url(url).set(database="abbanoa_test"))
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text("DROP DATABASE abbanoa_test WITH (FORCE)"))
    admin.dispose()
