"""What the queue can run: wiring between Dramatiq's messages and the work, nothing else."""

from __future__ import annotations

from uuid import UUID

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Retries

from src.processing.cycle.finish import finish
from src.processing.cycle.work import Outcome, work_off
from src.processing.runtime import Runtime


class Queue:
    """The queue of chunks on Redis; the worker threads of every replica take from it."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._broker = RedisBroker(
            client=runtime.redis,
            namespace="abbanoa:queue",
            # Retries are for a database that is briefly away; what fails for good is recorded and raises nothing.
            middleware=[Retries(max_retries=3, min_backoff=1_000, max_backoff=10_000)],
            # A killed replica's messages go to others after this many milliseconds ...
            heartbeat_timeout=10_000,
            # ... because one command in ten looks for them.
            maintenance_chance=100_000,
        )
        self._process_chunk = dramatiq.actor(self._process, broker=self._broker, actor_name="process_chunk")

    def send(self, job_id: UUID, chunk_number: int) -> None:
        """Offers a chunk to all replicas.

        Raises:
            redis.RedisError: if Redis does not take it.
        """
        self._process_chunk.send(str(job_id), chunk_number)

    def worker(self) -> dramatiq.Worker:
        """The threads of this process that take chunks; to be started and stopped by the caller."""
        threads = self._runtime.settings.worker_threads
        worker = dramatiq.Worker(self._broker, worker_threads=threads, worker_timeout=200)
        # No more than the threads can hold at once: what waits, waits where an idle replica can take it.
        worker.queue_prefetch = threads
        return worker

    def _process(self, job_id: str, chunk_number: int) -> None:
        outcome = work_off(self._runtime, UUID(job_id), chunk_number)
        if outcome is Outcome.DONE_AND_LAST:
            finish(self._runtime, UUID(job_id))
        elif outcome is Outcome.HANDED_BACK:
            self.send(UUID(job_id), chunk_number)
