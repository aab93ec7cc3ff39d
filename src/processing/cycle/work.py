"""One chunk worked off: slice after slice, each in a transaction of its own, until it is done or the process ends.

A chunk of a training is one slice: it is trained as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum, auto
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from src.observability import logger
from src.processing import chunks, jobs
from src.processing.cycle.ingest import Ingested, ingest_span
from src.processing.models.training import train_chunk
from src.processing.runtime import Runtime
from src.processing.warehouse.client import WarehouseError
from src.processing.warehouse.reader import Reader


class Outcome(Enum):
    """What became of a chunk in this worker's hands."""

    DONE = auto()
    DONE_AND_LAST = auto()
    HANDED_BACK = auto()
    NOT_OURS = auto()


def work_off(runtime: Runtime, job_id: UUID, chunk_number: int) -> Outcome:
    """Writes the chunk's windows; what an earlier, interrupted worker committed is not done again.

    A node whose readings cannot be processed is left out and named; the others of its chunk are processed. Where
    BigQuery does not answer, all of them wait for the next tick.
    """
    with runtime.busy_with(job_id):
        outcome: Outcome | None = None
        while outcome is None:
            if runtime.stopping.is_set():
                return Outcome.HANDED_BACK
            outcome = _next_slice(runtime, job_id, chunk_number)
        return outcome


def _next_slice(runtime: Runtime, job_id: UUID, chunk_number: int) -> Outcome | None:
    """Does the next slice; None if more are to come."""
    try:
        with runtime.database.begin() as connection:
            chunk = chunks.take(connection, job_id, chunk_number)
            if chunk is None:
                return Outcome.NOT_OURS
            if chunk.job_type == jobs.TRAINING:
                told = train_chunk(runtime, connection, chunk)
                last = chunks.end(connection, job_id, chunk_number, runtime.clock.now(), runtime.replica, told, {})
                return Outcome.DONE_AND_LAST if last else Outcome.DONE
            failures: dict[str, str] = dict(chunk.result_summary.get("failures", {}))
            # A backfill is made for an instant of its own; a tick stands for the one it was scheduled for.
            as_of = min(chunk.scheduled_for, chunk.job_created_at)
            end = chunks.slice_end(chunk, runtime.settings.chunk_readings, runtime.zone)
            sound = [node_id for node_id in chunk.node_ids if node_id not in failures]
            done = Ingested.from_summary(chunk.result_summary)
            if sound:
                follows = chunk.job_type == jobs.CYCLE
                spared = _Sparing(connection, runtime.reader(), end, as_of, runtime.zone, follows)
                done = done + spared.ingest(sound, chunk.resume_from)
                failures |= spared.failures
            summary = done.as_summary() | {"failures": failures}
            if end < chunk.read_end:
                chunks.go_on(connection, chunk, end, summary)
                return None
            last = chunks.end(connection, job_id, chunk_number, runtime.clock.now(), runtime.replica, summary, failures)
    except WarehouseError as error:
        return _give_up(runtime, job_id, chunk_number, str(error))
    except OperationalError:
        # The database is away or busy: nothing can be recorded, and the queue tries again.
        raise
    except Exception as error:
        logger(__name__).exception("a chunk cannot be processed", job_id=str(job_id), chunk_number=chunk_number)
        return _give_up(runtime, job_id, chunk_number, f"{type(error).__name__}: {error}"[:500])
    return Outcome.DONE_AND_LAST if last else Outcome.DONE


def _give_up(runtime: Runtime, job_id: UUID, chunk_number: int, reason: str) -> Outcome:
    with runtime.database.begin() as connection:
        chunk = chunks.take(connection, job_id, chunk_number)
        if chunk is None:
            return Outcome.NOT_OURS
        failures = dict.fromkeys(chunk.node_ids, reason)
        summary = dict(chunk.result_summary) | {"failures": failures}
        last = chunks.end(connection, job_id, chunk_number, runtime.clock.now(), runtime.replica, summary, failures)
    return Outcome.DONE_AND_LAST if last else Outcome.DONE


class _Sparing:
    """Ingests nodes together; where that fails, halves them until the bad ones stand alone."""

    def __init__(
        self, connection: Connection, reader: Reader, end: datetime, as_of: datetime, zone: ZoneInfo, follows: bool
    ) -> None:
        self._connection, self._reader, self._end, self._as_of = connection, reader, end, as_of
        self._zone = zone
        # A cycle follows the watermarks and moves them; a backfill does neither.
        self._follows = follows
        self.failures: dict[str, str] = {}

    def ingest(self, node_ids: Sequence[str], start: datetime) -> Ingested:
        try:
            with self._connection.begin_nested():
                return ingest_span(
                    self._connection,
                    self._reader,
                    node_ids,
                    start,
                    self._end,
                    self._as_of,
                    self._zone,
                    moves_watermarks=self._follows,
                )
        except (WarehouseError, OperationalError):
            raise
        except Exception as error:
            if len(node_ids) == 1:
                logger(__name__).exception("a node's readings cannot be processed", node_id=node_ids[0])
                self.failures[node_ids[0]] = f"{type(error).__name__}: {error}"[:500]
                return Ingested()
            half = len(node_ids) // 2
            return self.ingest(node_ids[:half], start) + self.ingest(node_ids[half:], start)
