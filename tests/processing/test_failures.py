"""Which failures of a real database are worth waiting for."""

from __future__ import annotations

import psycopg2
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from src.db.engines import create_database_engine
from src.db.failures import is_passing
from src.processing.jobs.patience import PAUSES, patiently
from src.processing.jobs.runtime import Runtime
from src.settings import Settings


def raised(database: Engine, state: str) -> DBAPIError:
    """The error of a statement that the server ends with this SQLSTATE."""
    with pytest.raises(DBAPIError) as caught, database.begin() as connection:
        connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{state}'; END $$"))
    return caught.value


@pytest.mark.parametrize("state", ["55P03", "40P01", "40001", "08006", "57P01", "57P02", "57P03"])
def test_a_conflict_and_a_server_that_goes_away_are_passing(database: Engine, state: str):
    assert is_passing(raised(database, state))


@pytest.mark.parametrize(
    "state", ["53100", "53200", "53400", "57014", "25006", "54000", "22003", "23514", "42P01", "XX000", "08P01"]
)
def test_what_stays_until_somebody_acts_is_not_passing(database: Engine, state: str):
    assert not is_passing(raised(database, state))


def test_a_connection_that_is_ended_is_passing_whoever_notices_it(database: Engine):
    with pytest.raises(DBAPIError) as caught, database.begin() as connection:
        connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    assert is_passing(caught.value)
    # SQLAlchemy sees neither a COPY of psycopg2's own nor, therefore, that the connection was lost in it.
    with database.connect() as connection:
        cursor = connection.connection.cursor()
        with pytest.raises(psycopg2.Error) as raw:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        assert is_passing(raw.value)
        with pytest.raises(DBAPIError) as rolled_back, connection.begin():
            raise raw.value
        assert is_passing(rolled_back.value)
        connection.invalidate()


def test_a_server_that_cannot_be_reached_is_passing_and_a_mistake_of_our_own_is_not(settings: Settings):
    engine = create_database_engine(settings.model_copy(update={"postgres_port": 1, "postgres_host": "127.0.0.1"}))
    with pytest.raises(DBAPIError) as caught, engine.connect():
        pass
    assert is_passing(caught.value)
    assert not is_passing(ValueError("no reading"))


@pytest.mark.usefixtures("short_pauses")
def test_work_is_tried_again_while_failures_pass_and_not_for_ever(database: Engine, runtime: Runtime):
    attempts = 0

    def work(state: str, times: int) -> int:
        nonlocal attempts
        attempts += 1
        if attempts <= times:
            raise raised(database, state)
        return attempts

    assert patiently(runtime, lambda: work("40P01", 3), "test") == 4
    attempts = 0
    with pytest.raises(DBAPIError):
        patiently(runtime, lambda: work("40P01", 100), "test")
    assert attempts == len(PAUSES) + 1
    attempts = 0
    with pytest.raises(DBAPIError):
        patiently(runtime, lambda: work("53100", 100), "test")
    assert attempts == 1
    runtime.stopping.set()
    attempts = 0
    with pytest.raises(DBAPIError):
        patiently(runtime, lambda: work("40P01", 100), "test")
    assert attempts == 1


def test_a_server_that_vanished_is_noticed_within_a_minute(settings: Settings):
    engine = create_database_engine(settings)
    with engine.connect() as connection:
        given = connection.connection.driver_connection.get_dsn_parameters()
    idle, between, times = (int(given[f"keepalives_{name}"]) for name in ("idle", "interval", "count"))
    assert idle + between * times <= 60
    assert int(given["tcp_user_timeout"]) <= 60_000
    engine.dispose()
