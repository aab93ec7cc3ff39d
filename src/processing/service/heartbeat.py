"""The pulse of a replica: it vouches for its jobs, looks after orphans, and keeps Redis told of the data generation."""

from __future__ import annotations

import contextlib
import threading
from datetime import timedelta

import redis
from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError

from src.db.tables import processing_replicas
from src.observability import logger
from src.processing import jobs
from src.processing.cycle.finish import announce, finish
from src.processing.measures import HEARTBEAT, NOW, observe_state
from src.processing.runtime import Runtime
from src.processing.service.timetable import Rhythm


class Heartbeat:
    """Beats in a thread of its own, in real time, from `start` to `stop`.

    Without a rhythm the process is a command that vouches for its job, and no replica.
    """

    def __init__(self, runtime: Runtime, rhythm: Rhythm | None) -> None:
        self._runtime = runtime
        self._rhythm = rhythm
        self._silence = timedelta(seconds=runtime.settings.replica_timeout_seconds)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(timeout=10)
        with contextlib.suppress(SQLAlchemyError), self._runtime.database.begin() as connection:
            own = processing_replicas.c.replica == self._runtime.replica
            connection.execute(delete(processing_replicas).where(own))

    def _run(self) -> None:
        while True:
            try:
                self._beat()
            except SQLAlchemyError as error:
                logger(__name__).warning("the database does not answer", error=str(error).splitlines()[0])
            except Exception:
                logger(__name__).exception("heartbeat failed")
            if self._ended.wait(min(5.0, self._silence.total_seconds() / 4)):
                return

    def _beat(self) -> None:
        runtime = self._runtime
        if self._rhythm is not None:
            self._sign_in(self._rhythm)
        jobs.beat(runtime.database, runtime.busy())
        for job_id in jobs.orphans(runtime.database, self._silence):
            finish(runtime, job_id)
        for job_id in jobs.reap(runtime.database, runtime.clock.now(), self._silence):
            logger(__name__).warning("gave up a job whose replica stopped", job_id=str(job_id))
        announce(runtime)
        self._measure()

    def _measure(self) -> None:
        HEARTBEAT.set_to_current_time()
        NOW.set(self._runtime.clock.now().timestamp())
        with contextlib.suppress(redis.RedisError), self._runtime.database.connect() as connection:
            observe_state(connection, self._runtime.redis, self._silence.total_seconds())

    def _sign_in(self, rhythm: Rhythm) -> None:
        """Keeps this replica in the list that /api/v1/status shows."""
        clock = self._runtime.clock
        upcoming = rhythm.after(clock.now())
        row = {
            "replica": self._runtime.replica,
            "next_run": None if clock.real_seconds_until(upcoming) is None else upcoming,
            "heartbeat_at": func.now(),
        }
        with self._runtime.database.begin() as connection:
            connection.execute(
                insert(processing_replicas)
                .values(row | {"started_at": func.now()})
                .on_conflict_do_update(index_elements=["replica"], set_=row)
            )
