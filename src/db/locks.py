"""Locks that belong to a session, not to a transaction: held for minutes, they keep nobody from any row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError


@contextmanager
def try_lock(database: Engine, subject: UUID) -> Iterator[bool]:
    """Whether this caller has the lock of a subject, until the block ends; it waits for nobody.

    The server gives it up with the session: a process that dies holds nothing. Where the session is lost inside the
    block another caller may get the lock, so that what is done under it must be harmless to repeat.
    """
    bound = {"number": int.from_bytes(subject.bytes[:8], "big", signed=True)}
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        is_held = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:number)"), bound))
        try:
            yield is_held
        finally:
            if is_held:
                try:
                    connection.execute(text("SELECT pg_advisory_unlock(:number)"), bound)
                except SQLAlchemyError:
                    # The lock must not go back into the pool with its session.
                    connection.invalidate()
