"""One chunk worked off: slice after slice, each in a transaction of its own, until it is done or the process ends.

A chunk of a training is trained as a whole or not at all. A chunk of conclusions has transactions of its own, and is
drawn again from its beginning where a process ended in the middle.

Whatever happens, a chunk ends: a passing failure of the database is waited for, any other gives the chunk up with its
reason, and so does the fifth beginning that got nowhere. Only where not even that can be recorded it stays queued, and
is offered again (see `rescue`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from enum import Enum, auto
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Connection, Row
from sqlalchemy.exc import SQLAlchemyError

from src.db.failures import is_of_the_database, is_of_the_values, is_passing
from src.db.locks import try_lock
from src.observability import logger
from src.processing.conclusions.conclude import conclude
from src.processing.ingest.windows import Ingested, Span, read_span, write_span
from src.processing.jobs import chunks
from src.processing.jobs import records as jobs
from src.processing.jobs.patience import patiently
from src.processing.jobs.runtime import Runtime
from src.processing.modelling.training import learn_pool, settle_pool
from src.processing.warehouse.client import WarehouseError


class Outcome(Enum):
    """What became of a chunk in this worker's hands."""

    DONE = auto()
    DONE_AND_LAST = auto()
    # The process was asked to end.
    HANDED_BACK = auto()
    NOT_OURS = auto()
    # The database is away, or takes nothing: the chunk stays queued.
    LEFT = auto()


def work_off(runtime: Runtime, job_id: UUID, chunk_number: int) -> Outcome:
    """Writes the chunk's windows; what an earlier, interrupted worker committed is not done again.

    A node whose readings cannot be processed is left out and named; the others of its chunk are processed. Where
    BigQuery does not answer, all of them wait for the next tick.
    """
    if runtime.stopping.is_set():
        return Outcome.HANDED_BACK
    with runtime.busy_with(job_id):
        try:
            purpose = patiently(runtime, lambda: chunks.purpose(runtime.database, job_id, chunk_number), "chunk")
            if purpose in (jobs.CYCLE, jobs.BACKFILL):
                return _slices(runtime, job_id, chunk_number, purpose)
            # What is not sliced is worked on under no transaction, and held otherwise.
            with try_lock(runtime.database, uuid5(job_id, str(chunk_number))) as is_ours:
                if not is_ours or purpose is None:
                    return Outcome.NOT_OURS
                if purpose == chunks.CONCLUSIONS:
                    return _conclude(runtime, job_id, chunk_number)
                return _slices(runtime, job_id, chunk_number, purpose)
        except SQLAlchemyError as error:
            reason = str(error).partition("\n")[0]
            logger(__name__).error("a chunk stays queued", job_id=str(job_id), chunk_number=chunk_number, error=reason)
            return Outcome.LEFT


def _slices(runtime: Runtime, job_id: UUID, chunk_number: int, purpose: str) -> Outcome:
    """Begins the chunk, and works on it until it is done, given up or handed back."""
    if not patiently(runtime, lambda: chunks.begin(runtime.database, job_id, chunk_number), "chunk"):
        reason = f"given up: it was begun {chunks.MOST_ATTEMPTS} times, and each time failed or ended its process"
        return _give_up(runtime, job_id, chunk_number, reason)
    outcome: Outcome | None = None
    while outcome is None:
        if runtime.stopping.is_set():
            return _hand_back(runtime, job_id, chunk_number)
        outcome = _next_slice(runtime, job_id, chunk_number, purpose)
    return outcome


def _conclude(runtime: Runtime, job_id: UUID, chunk_number: int) -> Outcome:
    """Draws the conclusions that a chunk stands for, which this caller holds.

    Raises:
        SQLAlchemyError: if not even what became of them can be written.
    """

    def begin() -> Row[Any] | None:
        with runtime.database.begin() as connection:
            return chunks.begin_conclusions(connection, job_id, chunk_number)

    def end() -> bool:
        now, error = runtime.clock.now(), "; ".join(concluded.problems.values()) or None
        return chunks.end_conclusions(
            runtime.database, job_id, chunk_number, now, runtime.replica, concluded.plain(), error
        )

    if (chunk := patiently(runtime, begin, "chunk of conclusions")) is None:
        return Outcome.NOT_OURS
    concluded = conclude(runtime, chunk, jobs.instant_of(chunk), chunk.attempts + 1)
    return Outcome.DONE_AND_LAST if patiently(runtime, end, "end of conclusions") else Outcome.DONE


def _next_slice(runtime: Runtime, job_id: UUID, chunk_number: int, purpose: str) -> Outcome | None:
    """Does the next slice; None if more are to come.

    Raises:
        SQLAlchemyError: if neither it nor its failure can be written.
    """
    try:
        if purpose == jobs.TRAINING:
            return _train(runtime, job_id, chunk_number)
        return patiently(runtime, lambda: _slice(runtime, job_id, chunk_number), "slice of a chunk")
    except WarehouseError as error:
        if purpose == jobs.BACKFILL:
            # No tick makes up for it: the same command does, once BigQuery answers.
            logger(__name__).error("a chunk cannot be read", job_id=str(job_id), error=str(error))
            return _hand_back(runtime, job_id, chunk_number)
        return _give_up(runtime, job_id, chunk_number, str(error))
    except Exception as error:
        if is_passing(error):
            # Nothing is wrong with the chunk: what it waited for took too long, or the process is asked to end.
            if runtime.stopping.is_set():
                return _hand_back(runtime, job_id, chunk_number)
            raise
        logger(__name__).exception("a chunk cannot be processed", job_id=str(job_id), chunk_number=chunk_number)
        return _give_up(runtime, job_id, chunk_number, f"{type(error).__name__}: {error}"[:500])


def _train(runtime: Runtime, job_id: UUID, chunk_number: int) -> Outcome:
    """Trains the pool that a chunk is, which this caller holds."""

    def taken() -> Row[Any] | None:
        with runtime.database.begin() as connection:
            return chunks.take(connection, job_id, chunk_number)

    def settled() -> Outcome:
        with runtime.database.begin() as connection:
            if (chunk := chunks.take(connection, job_id, chunk_number)) is None:
                return Outcome.NOT_OURS
            summary = settle_pool(runtime, connection, chunk, learned)
            last = chunks.end(connection, job_id, chunk_number, runtime.clock.now(), runtime.replica, summary, {})
        return Outcome.DONE_AND_LAST if last else Outcome.DONE

    if (chunk := patiently(runtime, taken, "pool of a training")) is None:
        return Outcome.NOT_OURS
    learned = learn_pool(runtime, chunk)
    return patiently(runtime, settled, "model of a training")


def _slice(runtime: Runtime, job_id: UUID, chunk_number: int) -> Outcome | None:
    with runtime.database.begin() as connection:
        chunk = chunks.take(connection, job_id, chunk_number)
        if chunk is None:
            return Outcome.NOT_OURS
        failures: dict[str, str] = dict(chunk.result_summary.get("failures", {}))
        end = planned_end = chunks.slice_end(chunk, runtime.settings.chunk_readings, runtime.zone)
        sound = [node_id for node_id in chunk.node_ids if node_id not in failures]
        done = Ingested.from_summary(chunk.result_summary)
        if sound:
            as_of = jobs.instant_of(chunk)

            def read(node_ids: Sequence[str], until: datetime, most_readings: int | None) -> Span:
                return read_span(
                    connection, runtime.reader(), node_ids, chunk.resume_from, until, as_of, runtime.zone,
                    now=runtime.clock.now(), conventions=runtime.conventions, districts=chunk.districts,
                    most_readings=most_readings,
                )  # fmt: skip

            begun = time.perf_counter()
            for reached, span in chunks.portions(
                read, sound, chunk.resume_from, planned_end, runtime.settings.chunk_readings, runtime.zone
            ):
                done = done + Ingested(seconds={"read": time.perf_counter() - begun}, bytes_read=span.bytes_read)
                # A cycle follows the watermarks and moves them; a backfill does neither.
                sparing = _Sparing(connection, span, follows=chunk.job_type == jobs.CYCLE)
                done = done + sparing.write(span.node_ids)
                failures |= sparing.failures
                end = reached
                # One portion is held at a time.
                del span, sparing
                begun = time.perf_counter()
        summary = done.as_summary() | {"failures": failures, "days": chunks.days_between(chunk.resume_from, end)}
        if end < chunk.read_end:
            chunks.go_on(connection, chunk, end, summary)
            return None
        last = chunks.end(connection, job_id, chunk_number, runtime.clock.now(), runtime.replica, summary, failures)
        return Outcome.DONE_AND_LAST if last else Outcome.DONE


def _give_up(runtime: Runtime, job_id: UUID, chunk_number: int, reason: str) -> Outcome:
    def record() -> Outcome:
        with runtime.database.begin() as connection:
            chunk = chunks.take(connection, job_id, chunk_number)
            if chunk is None:
                return Outcome.NOT_OURS
            failures = dict.fromkeys(chunk.node_ids, reason)
            summary = dict(chunk.result_summary) | {"failures": failures}
            now = runtime.clock.now()
            last = chunks.end(connection, job_id, chunk_number, now, runtime.replica, summary, failures)
        return Outcome.DONE_AND_LAST if last else Outcome.DONE

    return patiently(runtime, record, "failure of a chunk")


def _hand_back(runtime: Runtime, job_id: UUID, chunk_number: int) -> Outcome:
    try:
        chunks.hand_back(runtime.database, job_id, chunk_number)
    except SQLAlchemyError as error:
        logger(__name__).warning("a beginning stays counted", job_id=str(job_id), error=str(error).partition("\n")[0])
    return Outcome.HANDED_BACK


class _Sparing:
    """Writes nodes together; where that fails because of what they hold, halves them until the bad ones stand alone."""

    def __init__(self, connection: Connection, span: Span, *, follows: bool) -> None:
        self._connection, self._span, self._follows = connection, span, follows
        self.failures: dict[str, str] = {}

    def write(self, node_ids: Sequence[str]) -> Ingested:
        try:
            with self._connection.begin_nested():
                return write_span(self._connection, self._span.of(node_ids), moves_watermarks=self._follows)
        except Exception as error:
            if is_of_the_database(error) and not is_of_the_values(error):
                # No part of the nodes would fare better.
                raise
            if len(node_ids) == 1:
                logger(__name__).exception("a node's readings cannot be processed", node_id=node_ids[0])
                self.failures[node_ids[0]] = f"{type(error).__name__}: {error}"[:500]
                return Ingested()
            half = len(node_ids) // 2
            return self.write(node_ids[:half]) + self.write(node_ids[half:])
