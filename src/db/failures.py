"""What a failure of the database means: whether the same work may succeed in a moment, or only after somebody acted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

# A lock held by others for too long, a deadlock, two transactions that cannot be put in an order.
_CONFLICTS = frozenset({"55P03", "40P01", "40001"})
# The server was stopped, crashed, or is still starting.
_SERVER_AWAY = frozenset({"57P01", "57P02", "57P03"})
_CONNECTION_EXCEPTION = "08"
# Of those exceptions the one for rows that are not of the columns' types.
_PROTOCOL_VIOLATION = "08P01"
# Values too large for a limit of the server's, a view's own check, and what a trigger objects to.
_OF_VALUES = ("54", "44", "P0")


@contextmanager
def driver_errors(statement: str) -> Iterator[None]:
    """What the driver raises inside the block, where rows are copied past SQLAlchemy, is raised as SQLAlchemy's own."""
    try:
        yield
    except psycopg2.Error as error:
        raise DBAPIError.instance(statement, None, error, psycopg2.Error) from error


def is_passing(error: BaseException) -> bool:
    """Whether the same work is worth trying again soon: the connection was lost, or another transaction was in the way.

    Nothing else is: a full disk, a read-only server or a limit on memory, time or size stays what it is until
    somebody acts, though psycopg2 calls many of these operational errors as well.

    Args:
        error: of SQLAlchemy or of psycopg2; any other is not passing.
    """
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    cause = _cause(error)
    if not isinstance(cause, psycopg2.Error):
        return False
    state: str | None = cause.pgcode
    if state is None:
        # Without a code it is not the server's error: it was not reached, or vanished in the middle of an answer.
        return isinstance(cause, (psycopg2.OperationalError, psycopg2.InterfaceError))
    is_of_connection = state.startswith(_CONNECTION_EXCEPTION) and state != _PROTOCOL_VIOLATION
    return state in _CONFLICTS or state in _SERVER_AWAY or is_of_connection


def is_of_the_values(error: BaseException) -> bool:
    """Whether the database objects to what was to be written: without the rows it objects to, the rest may be written.

    Args:
        error: as of `is_passing`.
    """
    cause = _cause(error)
    if isinstance(cause, (psycopg2.DataError, psycopg2.IntegrityError)):
        return True
    return isinstance(cause, psycopg2.Error) and (cause.pgcode or "").startswith(_OF_VALUES)


def is_of_the_database(error: BaseException) -> bool:
    """Whether it is a failure of the database at all, and no mistake or bad value of our own."""
    return isinstance(_cause(error), (SQLAlchemyError, psycopg2.Error))


def _cause(error: BaseException) -> BaseException | None:
    return error.orig if isinstance(error, StatementError) else error
