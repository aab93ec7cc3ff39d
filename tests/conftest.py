from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, make_url, text

from src.db.engines import create_database_engine
from src.db.migrate import migrate
from src.quickstart.engines import postgres
from src.settings import Settings


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with postgres(tmp_path_factory.mktemp("postgres") / "data") as address:
        yield address


@pytest.fixture
def settings(server: dict[str, str]) -> Iterator[Settings]:
    """Settings that lead to an empty database of the test's own."""
    admin = create_database_engine(Settings(bigquery_project_id="demo", **server))
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("DROP DATABASE IF EXISTS test"))
        connection.execute(text("CREATE DATABASE test"))
    yield Settings(bigquery_project_id="demo", **server | {"postgres_db": "test"})
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("DROP DATABASE test WITH (FORCE)"))
    admin.dispose()


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
