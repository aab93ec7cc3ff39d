"""`python -m src.db.migrate`: the schema at its newest version, TimescaleDB policies as the settings say."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine

from src.db import timescale
from src.db.engines import create_database_engine
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
