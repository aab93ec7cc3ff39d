"""Trouble made by keyword: a server that refuses, jobs that nobody vouches for."""

from __future__ import annotations

from sqlalchemy import Engine, text


def refusing(
    database: Engine, table_name: str, state: str, when: str = "INSERT OR UPDATE", rows: str | None = None
) -> None:
    """Lets the server end every write to a table with this SQLSTATE, or (where a condition says which) of some rows."""
    each = "STATEMENT" if rows is None else f"ROW WHEN ({rows})"
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
                f"FOR EACH {each} EXECUTE FUNCTION refuse()"
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
