"""What a processing process works with: settings, clock, connections, and what it is busy with."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from types import FrameType
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from redis import Redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry
from sqlalchemy import Engine

from src.clock import Clock
from src.db.engines import create_database_engine
from src.domain.anomalies.sample import SampleMemory
from src.domain.channels import Conventions
from src.domain.forecasting.model import Forecaster
from src.processing.warehouse.channels import conventions_of
from src.processing.warehouse.client import Warehouse, connect
from src.processing.warehouse.history import HourlyFlow
from src.processing.warehouse.reader import Reader
from src.settings import Settings


@dataclass
class Runtime:
    """One per process, shared by its threads."""

    settings: Settings
    database: Engine
    redis: Redis
    # For those who must not wait for a Redis that hangs, and can do without it.
    redis_now: Redis
    replica: str
    # Set when the process was asked to end: work stops at the next committed slice.
    stopping: threading.Event = field(default_factory=threading.Event)
    # Models that were loaded, by their id: an artefact never changes.
    forecasters: dict[UUID, Forecaster] = field(default_factory=dict)
    # What was read for the pools of a training that are still to come, by its job: trainings have one thread.
    training_flow: dict[UUID, HourlyFlow] = field(default_factory=dict)
    # What was read of a large network's sample for the job that is worked on, a thread at a time.
    sampling: threading.Lock = field(default_factory=threading.Lock)
    sample_memory: SampleMemory = field(default_factory=SampleMemory)
    _busy: Counter[UUID] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _warehouse: Warehouse | None = None

    @property
    def clock(self) -> Clock:
        return self.settings.running_clock

    @cached_property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.settings.utility_timezone)

    @cached_property
    def conventions(self) -> Conventions:
        """Units and ranges of all readings of which nothing else is stated."""
        return conventions_of(self.settings)

    def warehouse(self) -> Warehouse:
        """The connection to BigQuery, made when first needed: wrong credentials fail a job, not the service.

        Raises:
            WarehouseError: if there are no usable credentials.
        """
        with self._lock:
            if self._warehouse is None:
                self._warehouse = connect(self.settings)
            return self._warehouse

    def reader(self) -> Reader:
        return Reader(self.warehouse(), self.settings)

    @contextmanager
    def busy_with(self, job_id: UUID) -> Iterator[None]:
        """Inside the block this process vouches for the job."""
        with self._lock:
            self._busy[job_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy[job_id] -= 1
                if not self._busy[job_id]:
                    del self._busy[job_id]

    def stop_on_signals(self) -> None:
        """SIGTERM and SIGINT set `stopping`, nothing more: whoever works ends at the next committed slice."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.stopping.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)

    def busy(self) -> list[UUID]:
        with self._lock:
            return list(self._busy)


def create_runtime(settings: Settings) -> Runtime:
    address: dict[str, Any] = {
        "host": settings.redis_host,
        "port": settings.redis_port,
        "password": settings.redis_password.get_secret_value() or None,
        "health_check_interval": 30,
    }
    # A wrong unit ends the process before it does anything.
    conventions_of(settings)
    patient, impatient = Retry(ExponentialBackoff(cap=1, base=0.05), retries=3), Retry(NoBackoff(), retries=0)
    return Runtime(
        settings=settings,
        database=create_database_engine(settings),
        redis=Redis(**address, socket_connect_timeout=5, socket_timeout=10, retry=patient),
        redis_now=Redis(**address, socket_connect_timeout=1, socket_timeout=2, retry=impatient),
        replica=f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:6]}",
    )
