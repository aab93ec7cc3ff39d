"""Trouble made by keyword: a server that refuses, jobs that nobody vouches for."""

from __future__ import annotations

from sqlalchemy import Engine, text


def refusing(database: Engine, table_name: str, state: str, when: str = "INSERT OR UPDATE") -> None:
    """Lets the server end every write to a table with this SQLSTATE."""
    with database.begin() as connection:
        connection.execute(
            text(
                "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"RAISE EXCEPTION 'no room' USING ERRCODE = '{state}'; END $$"
            )
        )
        connection.execute(
            text(
                f"CREATE TRIGGER refuse BEFORE {when} ON water_infrastructure.{table_name} "
                "FOR EACH STATEMENT EXECUTE FUNCTION refuse()"
            )
        )


def accepting(database: Engine, table_name: str) -> None:
    with database.begin() as connection:
        connection.execute(text(f"DROP TRIGGER refuse ON water_infrastructure.{table_name}"))


def silenced(database: Engine) -> None:
    with database.begin() as connection:
        connection.execute(
            text("UPDATE water_infrastructure.processing_jobs SET heartbeat_at = now() - interval '1 h'")
        )
