"""Alembic's entry point: the settings say where the database is."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

from src.db.engines import create_database_engine
from src.db.tables import SCHEMA, metadata
from src.settings import load_settings


def run(connection: Connection) -> None:
    # The version table lives in the schema, so the schema comes first.
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
    connection.commit()
    context.configure(connection=connection, target_metadata=metadata, version_table_schema=SCHEMA)
    with context.begin_transaction():
        context.run_migrations()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with create_database_engine(load_settings()).connect() as own:
        run(own)
