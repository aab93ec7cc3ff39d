"""`python -m src.db.roles`: one role for each who uses the database, with no more rights than that needs.

`abbanoa_processing` writes rows, `abbanoa_api` reads them and records the use of keys, what people say about events,
what works they state and what they ask of models, `abbanoa_readonly` is for people and dashboards. The schema itself
belongs to the role that migrates.
"""

from __future__ import annotations

import sys
from typing import cast

import psycopg2.extensions
from psycopg2 import sql
from psycopg2.extensions import encrypt_password
from pydantic import SecretStr
from sqlalchemy import Connection

from src.db.engines import create_database_engine
from src.db.migrate import wait_for_schema
from src.db.tables import SCHEMA
from src.observability import configure_logging, logger
from src.settings import Settings, load_settings

PROCESSING, API, READONLY = "abbanoa_processing", "abbanoa_api", "abbanoa_readonly"
_SECRETS = ("api_keys", "api_key_usage")


def apply_roles(connection: Connection, settings: Settings) -> list[str]:
    """Makes each role whose password the settings have, with its rights; harmless to repeat, which changes passwords.

    The owner's own password is set too, so that all of them can be changed by changing the settings.
    """
    passwords: dict[str, SecretStr] = {
        PROCESSING: settings.postgres_processing_password,
        API: settings.postgres_api_password,
        READONLY: settings.postgres_readonly_password,
        settings.postgres_user: settings.postgres_password,
    }
    given = {role: secret.get_secret_value() for role, secret in passwords.items() if secret.get_secret_value()}
    driver = cast(psycopg2.extensions.connection, connection.connection.dbapi_connection)
    with driver.cursor() as cursor:
        for role, password in given.items():
            cursor.execute("SELECT count(*) FROM pg_roles WHERE rolname = %s", (role,))
            if not cursor.fetchone()[0]:
                cursor.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
            # Only the verifier leaves this process: no password can turn up in a server's log.
            verifier = encrypt_password(password, role, driver, "scram-sha-256")
            cursor.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(verifier)))
        names = {"schema": sql.Identifier(SCHEMA), "database": sql.Identifier(settings.postgres_db)}
        cursor.execute(sql.SQL("REVOKE ALL ON DATABASE {database} FROM PUBLIC").format(**names))
        for role in given:
            if role == settings.postgres_user:
                continue
            for statement in _rights(role):
                cursor.execute(sql.SQL(statement).format(role=sql.Identifier(role), **names))
    return list(given)


def _rights(role: str) -> list[str]:
    """Statements that give a role exactly what it needs, of tables that are there and that will be."""
    tables = "ALL TABLES IN SCHEMA {schema}"
    secrets = ", ".join(f"{{schema}}.{table}" for table in _SECRETS)
    rights = [
        # What an earlier version gave is taken back first.
        f"REVOKE ALL ON {tables} FROM {{role}}",
        "GRANT CONNECT ON DATABASE {database} TO {role}",
        "GRANT USAGE ON SCHEMA {schema} TO {role}",
        f"GRANT SELECT ON {tables} TO {{role}}",
    ]
    if role == PROCESSING:
        # Bulk writes pass through temporary tables.
        rights += [
            "GRANT TEMPORARY ON DATABASE {database} TO {role}",
            f"GRANT INSERT, UPDATE, DELETE ON {tables} TO {{role}}",
            f"REVOKE ALL ON {secrets} FROM {{role}}",
            "GRANT SELECT, DELETE ON {schema}.api_key_usage TO {role}",
            "REVOKE INSERT, UPDATE, DELETE ON {schema}.alembic_version FROM {role}",
        ]
    elif role == API:
        rights += [
            "GRANT INSERT, UPDATE ON {schema}.api_key_usage TO {role}",
            # What people say about events, and that cached answers are old then.
            "GRANT UPDATE (acknowledged_at, acknowledged_by, resolved_at, resolved_by, is_confirmed, note) "
            "ON {schema}.anomalies TO {role}",
            # What is planned or done on the network: stated, and taken back without a trace lost.
            'GRANT INSERT (work_id, kind, node_id, district_id, begin, "end", note, created_at, created_by) '
            "ON {schema}.works TO {role}",
            "GRANT UPDATE (deleted_at, deleted_by, changed_at) ON {schema}.works TO {role}",
            # Requests about models; the processing service decides on them.
            "GRANT INSERT (action, model_type, scope, model_id, requested_at, requested_by, note) "
            "ON {schema}.model_requests TO {role}",
            "GRANT UPDATE (generation) ON {schema}.data_generation TO {role}",
            "ALTER ROLE {role} SET default_transaction_read_only = on",
        ]
    else:
        rights += [f"REVOKE ALL ON {secrets} FROM {{role}}", "ALTER ROLE {role} SET default_transaction_read_only = on"]
    return rights


def main() -> int:
    """Applies the roles to the database of the settings; the exit code."""
    settings = load_settings()
    configure_logging(settings)
    database = create_database_engine(settings)
    if problem := wait_for_schema(database, seconds=10):
        sys.stderr.write(problem + "\n")
        return 1
    with database.begin() as connection:
        roles = apply_roles(connection, settings)
    logger(__name__).info("roles are up to date", roles=roles)
    return 0


if __name__ == "__main__":
    sys.exit(main())
