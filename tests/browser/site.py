"""A real API process over a real database, as browsers see it, and what can go wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import httpx
import redis
from sqlalchemy import Connection, Engine, Table, delete, insert, select, text

from src.db import api_keys
from src.db.engines import create_database_engine
from src.db.generation import advance, publish
from src.db.migrate import migrate
from src.quickstart import engines
from src.settings import Settings
from tests.conftest import fresh_database
from tests.system import eventually, process

SCOPES = ("read", "write", "admin")


@dataclass
class Site:
    """What is served at `url`.

    Attributes:
        keys: an API key of each scope.
    """

    settings: Settings
    database: Engine
    keys: dict[str, str] = field(default_factory=dict)
    _api: ExitStack | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.api_port}"

    def start(self) -> None:
        """Starts the API and waits until it is ready."""
        self._api = ExitStack()
        self._api.enter_context(process("src.api.main", settings=self.settings))
        eventually(self._is_ready, seconds=60)

    def stop(self) -> None:
        """Ends the API process."""
        if self._api is not None:
            self._api.close()
        self._api = None

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/ready", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    @contextmanager
    def away(self) -> Iterator[None]:
        """No API process within the block; afterwards it is there again, at the same address."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextmanager
    def without_database(self) -> Iterator[None]:
        """The database takes no connection within the block, and has ended those that were; nothing is cached."""
        name = self.settings.postgres_db
        with self._as_owner() as connection:
            connection.execute(text(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false"))
            connection.execute(
                text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"), {"name": name}
            )
        with self.redis() as client:
            # Under a generation that nobody has seen, nothing is cached.
            client.incrby("abbanoa:generation", 1)
        try:
            yield
        finally:
            with self._as_owner() as connection:
                connection.execute(text(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true"))
            self.database.dispose()
            self.changed(lambda connection: None)
            eventually(self._is_ready, seconds=30)

    @contextmanager
    def _as_owner(self) -> Iterator[Connection]:
        other = self.settings.model_copy(update={"postgres_db": "postgres"})
        engine = create_database_engine(other)
        try:
            with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                yield connection
        finally:
            engine.dispose()

    @contextmanager
    def redis(self) -> Iterator[redis.Redis]:
        with redis.Redis(host=self.settings.redis_host, port=self.settings.redis_port) as client:
            yield client

    def changed(self, change: Callable[[Connection], object]) -> None:
        """Changes rows, and tells the API that they changed."""
        with self.database.begin() as connection:
            change(connection)
            advance(connection)
        with self.database.begin() as connection, self.redis() as client:
            publish(connection, client)

    @contextmanager
    def restored(self, table: Table) -> Iterator[None]:
        """Makes the table's rows be again what they were before the block."""
        with self.database.connect() as connection:
            rows = [dict(row) for row in connection.execute(select(table)).mappings()]
        try:
            yield
        finally:
            self.changed(
                lambda connection: (connection.execute(delete(table)), connection.execute(insert(table), rows))
            )

    def end_sessions(self) -> None:
        """Ends every session, as a day's end does."""
        with self.redis() as client:
            for name in client.scan_iter("abbanoa:session:*"):
                client.delete(name)


@contextmanager
def serving(
    server: dict[str, str], folder: Path, now: datetime, fill: Callable[[Connection], object]
) -> Iterator[Site]:
    """A site over a database of its own, that `fill` puts rows into, and a Redis of its own."""
    with fresh_database(server) as fresh, engines.redis(folder) as redis_address:
        place = {name: str(getattr(fresh, name)) for name in ("postgres_host", "postgres_port", "postgres_user")}
        settings = Settings(
            **place,
            **redis_address,
            postgres_db=fresh.postgres_db,
            bigquery_project_id="demo",
            clock=f"frozen:{now.isoformat()}",
            api_port=engines.free_port(),
            api_requests_per_minute_and_key=0,
            api_requests_per_minute_and_address=0,
        )
        site = Site(settings, create_database_engine(settings))
        migrate(site.database, settings)
        with site.database.begin() as connection:
            fill(connection)
            site.keys = {
                scope: api_keys.create(connection, f"{scope} desk", scope, None, "test", person="A. Melis").text
                for scope in SCOPES
            }
        with site.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            # What autovacuum does within minutes of a load.
            connection.execute(text("ANALYZE"))
        try:
            site.start()
            yield site
        finally:
            site.stop()
            site.database.dispose()
