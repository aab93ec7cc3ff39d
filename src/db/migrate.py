"""`python -m src.db.migrate`: the schema at its newest version, TimescaleDB policies as the settings say."""

from __future__ import annotations

import time
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from src.db import timescale
from src.db.engines import create_database_engine
from src.db.tables import SCHEMA
from src.observability import configure_logging, logger
from src.settings import Settings, load_settings

ROOT = Path(__file__).resolve().parents[2]


def migrate(engine: Engine, settings: Settings, revision: str = "head") -> None:
    """Upgrades (or, for an older `revision`, downgrades) the schema; harmless to repeat."""
    with engine.connect() as connection:
        config = alembic_config(connection)
        (command.downgrade if revision == "base" else command.upgrade)(config, revision)
        connection.commit()
        if revision == "head" and timescale.is_present(connection):
            timescale.apply_policies(connection, settings)
            connection.commit()


def wait_for_schema(engine: Engine, seconds: float) -> str | None:
    """Waits for a database that answers and has the newest schema; returns what is wrong if it does not come."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with engine.connect() as connection:
                # What an operator upgrades by hand is not waited for.
                found = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA})
                newest = ScriptDirectory.from_config(alembic_config(connection)).get_current_head()
                if found.get_current_revision() == newest:
                    return None
                return (
                    f"The schema {SCHEMA} is at version {found.get_current_revision() or 'none'}, this program needs "
                    f"{newest}: run python -m src.db.migrate"
                )
        except OperationalError as error:
            reason = str(error.orig).strip().splitlines()[0]
            if time.monotonic() > deadline:
                return f"PostgreSQL cannot be used ({reason}): check POSTGRES_HOST, POSTGRES_PORT and the credentials"
            logger(__name__).warning("PostgreSQL does not answer yet", error=reason)
            time.sleep(2)


def alembic_config(connection: Connection) -> Config:
    config = Config(str(ROOT / "alembic.ini"))
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.attributes["connection"] = connection
    return config


if __name__ == "__main__":
    loaded = load_settings()
    configure_logging(loaded)
    migrate(create_database_engine(loaded), loaded)
    logger(__name__).info("the schema is at its newest version")
