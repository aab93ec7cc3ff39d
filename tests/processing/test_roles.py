"""Each service has its own role in the database, with no more rights than it needs; secrets may lie in files."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from src.db.engines import create_database_engine
from src.db.roles import API, PROCESSING, READONLY, apply_roles
from src.processing.jobs.runtime import create_runtime
from src.processing.service.retention import run_retention
from src.settings import Settings, load_settings
from tests.system import START, once, put, readings_of


@pytest.fixture
def roles(database: Engine, settings: Settings) -> None:
    given = {f"postgres_{name}_password": f"{name}-$'secret" for name in ("processing", "api", "readonly")}
    for _ in range(2):
        with database.begin() as connection:
            apply_roles(connection, settings.model_copy(update=Settings(**given).model_dump(include=set(given))))


def as_role(settings: Settings, role: str) -> Engine:
    return create_database_engine(settings.model_copy(update={"postgres_user": role}))


def may(engine: Engine, statement: str) -> bool:
    try:
        with engine.begin() as connection:
            connection.execute(text(statement))
    except ProgrammingError as error:
        assert re.search("permission denied|must be owner|read-only", str(error))  # noqa: PT017
        return False
    return True


def test_the_processing_service_works_with_its_own_role(roles: None, stack: Settings, database: Engine):
    put(stack, readings_of(["n1"], days=1))
    now = START + timedelta(days=1)
    done = once(stack, postgres_user=PROCESSING, clock=f"frozen:{now.isoformat()}")
    assert done.returncode == 0, done.stderr[-2000:]
    runtime = create_runtime(stack.model_copy(update={"postgres_user": PROCESSING}))
    run_retention(runtime, now)
    runtime.database.dispose()
    engine = as_role(stack, PROCESSING)
    assert not may(engine, "SELECT digest FROM water_infrastructure.api_keys")
    assert not may(engine, "DROP TABLE water_infrastructure.nodes")
    assert not may(engine, "CREATE TABLE water_infrastructure.mine (x int)")
    assert not may(engine, "DELETE FROM water_infrastructure.alembic_version")


def test_the_api_reads_everything_and_writes_only_the_use_of_keys(roles: None, settings: Settings):
    engine = as_role(settings, API)
    assert may(engine, "SELECT digest FROM water_infrastructure.api_keys")
    usage = "INSERT INTO water_infrastructure.api_key_usage VALUES ('k', now(), 'a', 1, 0, now())"
    assert may(engine, f"SET TRANSACTION READ WRITE; {usage}")
    for statement in (
        "DELETE FROM water_infrastructure.nodes",
        "UPDATE water_infrastructure.api_keys SET scope = 'admin'",
    ):
        assert not may(engine, f"SET TRANSACTION READ WRITE; {statement}")


def test_people_read_rows_and_no_secrets(roles: None, settings: Settings):
    engine = as_role(settings, READONLY)
    assert may(engine, "SELECT * FROM water_infrastructure.processing_jobs")
    assert not may(engine, "SELECT * FROM water_infrastructure.api_keys")
    assert not may(engine, "SET TRANSACTION READ WRITE; DELETE FROM water_infrastructure.nodes")


def test_passwords_are_stored_as_scram_verifiers(roles: None, database: Engine):
    with database.connect() as connection:
        query = text("SELECT rolpassword FROM pg_authid WHERE rolname = ANY(:roles)")
        stored = connection.execute(query, {"roles": [PROCESSING, API, READONLY]}).scalars().all()
        assert len(stored) == 3
        assert all(verifier.startswith("SCRAM-SHA-256$") for verifier in stored)


def test_a_secret_may_lie_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    (tmp_path / "password").write_text("from a file\n")
    monkeypatch.setenv("POSTGRES_PASSWORD_FILE", str(tmp_path / "password"))
    assert load_settings().postgres_password.get_secret_value() == "from a file"
    monkeypatch.setenv("POSTGRES_PASSWORD", "from a variable")
    assert load_settings().postgres_password.get_secret_value() == "from a variable"
    monkeypatch.setenv("REDIS_PASSWORD_FILE", "/nowhere")
    with pytest.raises(SystemExit):
        load_settings()
    assert "REDIS_PASSWORD_FILE is wrong: /nowhere cannot be read" in capsys.readouterr().err
