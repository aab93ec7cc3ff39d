"""The pulse of a process: it vouches for its jobs, looks after silent ones, and keeps the generation in Redis."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import redis
from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import SQLAlchemyError

from src.db.tables import processing_replicas
from src.observability import logger
from src.processing.jobs import records as jobs
from src.processing.jobs.announcement import announce
from src.processing.jobs.measures import HEARTBEAT, NOW, observe_state
from src.processing.jobs.runtime import Runtime
from src.processing.service.actors import Queue
from src.processing.service.rescue import rescue
from src.processing.service.timetable import Rhythm


@dataclass(frozen=True)
class Replica:
    """What a replica has, and a command has not: ticks, and queues from which it takes."""

    rhythm: Rhythm
    queue: Queue


class Heartbeat:
    """Beats in a thread of its own, in real time, from `start` to `stop`.

    Without a replica the process is a command that vouches for its own job, and looks after no other.
    """

    def __init__(self, runtime: Runtime, replica: Replica | None) -> None:
        self._runtime = runtime
        self._replica = replica
        self._silence = timedelta(seconds=runtime.settings.replica_timeout_seconds)
        self._ended = threading.Event()
        # What needs Redis has a thread of its own: a Redis that hangs makes nobody appear dead.
        self._threads = [
            threading.Thread(target=self._repeat, args=(self.beat,), name="heartbeat", daemon=True),
            threading.Thread(target=self._repeat, args=(self.look_around,), name="lookout", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(timeout=10)
        with contextlib.suppress(SQLAlchemyError), self._runtime.database.begin() as connection:
            this_replica = processing_replicas.c.replica == self._runtime.replica
            connection.execute(delete(processing_replicas).where(this_replica))

    def _repeat(self, work: Callable[[], None]) -> None:
        while True:
            work()
            if self._ended.wait(min(5.0, self._silence.total_seconds() / 4)):
                return

    def beat(self) -> None:
        """One beat, which needs the database and nothing else: its jobs are being worked on, and this replica lives."""
        runtime = self._runtime
        self._do("vouching", lambda: jobs.beat(runtime.database, runtime.busy()))
        if (replica := self._replica) is not None:
            self._do("signing in", lambda: self._sign_in(replica.rhythm))

    def look_around(self) -> None:
        """What a replica does for the others; each part fails alone."""
        runtime = self._runtime
        if (replica := self._replica) is not None and not runtime.stopping.is_set():
            self._do("rescue", lambda: rescue(runtime, replica.queue, self._silence))
        self._do("announcement", lambda: announce(runtime))
        self._do("measuring", self._measure)

    def _do(self, name: str, part: Callable[[], None]) -> None:
        try:
            part()
        except SQLAlchemyError as error:
            log = logger(__name__).bind(part=name, error=str(error).partition("\n")[0])
            log.warning("the database refuses a part of the heartbeat")
        except Exception:
            logger(__name__).exception("a part of the heartbeat failed", part=name)

    def _measure(self) -> None:
        with contextlib.suppress(redis.RedisError), self._runtime.database.connect() as connection:
            NOW.set(self._runtime.clock.now().timestamp())
            now = self._runtime.clock.now()
            observe_state(connection, self._runtime.redis_now, now, self._silence.total_seconds())

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
        HEARTBEAT.set_to_current_time()
