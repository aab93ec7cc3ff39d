"""A real API process over a database with a known content."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx
import pytest
import redis
from sqlalchemy import Engine, text

from src.db import api_keys
from src.db.engines import create_database_engine
from src.db.migrate import migrate
from src.quickstart import engines
from src.settings import Settings
from tests.conftest import fresh_database
from tests.system import START, eventually, process, put, readings_of, run_cycle

NOW = START + timedelta(days=8)
ODD = 'o\'brien/"città" %41'


@pytest.fixture(scope="module")
def served(
    server: dict[str, str], redis_address: dict[str, str], bigquery_address: dict[str, str]
) -> Iterator[Settings]:
    """Three nodes over eight days, processed by a real cycle; `silent` is registered and has no readings."""
    with fresh_database(server) as settings:
        address = {name: str(getattr(settings, name)) for name in ("postgres_host", "postgres_port", "postgres_user")}
        full = Settings(
            **address,
            **redis_address,
            **bigquery_address,
            postgres_db=settings.postgres_db,
            clock=f"frozen:{NOW.isoformat()}",
            api_port=engines.free_port(),
            api_requests_per_minute_and_key=0,
            api_requests_per_minute_and_address=0,
        )
        engine = create_database_engine(full)
        migrate(engine, full)
        with redis.Redis(host=full.redis_host, port=full.redis_port) as client:
            # Answers of an earlier database would pass for this one's.
            client.flushall()
        put(full, readings_of(["n1", "n2", ODD], days=8, minutes=15))
        run_cycle(full, NOW)
        with engine.begin() as connection:
            connection.execute(
                text("INSERT INTO water_infrastructure.nodes (node_id, node_name) VALUES ('silent', 'Silent')")
            )
        engine.dispose()
        yield full


@pytest.fixture(scope="module")
def database_of_api(served: Settings) -> Iterator[Engine]:
    engine = create_database_engine(served)
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def key_of(database_of_api: Engine) -> Callable[..., str]:
    """Makes an API key by keyword."""

    def made(name: str = "test", scope: str = "read", lasts: timedelta | None = None) -> str:
        with database_of_api.begin() as connection:
            return api_keys.create(connection, name, scope, lasts, "test").text

    return made


@pytest.fixture(scope="module")
def api(served: Settings, key_of: Callable[..., str]) -> Iterator[httpx.Client]:
    """A client of the running API, with a key that may read."""
    with (
        process("src.api.main", settings=served),
        httpx.Client(
            base_url=f"http://127.0.0.1:{served.api_port}", timeout=10, headers={"X-API-Key": key_of()}
        ) as client,
    ):

        def is_ready() -> bool:
            try:
                return client.get("/ready").status_code == 200
            except httpx.TransportError:
                return False

        eventually(is_ready, seconds=30)
        yield client


@pytest.fixture
def cache(served: Settings) -> Iterator[redis.Redis]:
    with redis.Redis(host=served.redis_host, port=served.redis_port) as client:
        yield client
