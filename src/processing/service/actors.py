"""What the queue can run: wiring between Dramatiq's messages and the work, nothing else.

Chunks of cycles and trainings have a queue and threads each: a training takes minutes, and no reading waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from src.processing.jobs import records as jobs
from src.processing.jobs.measures import CHUNK_QUEUE, QUEUE_NAMESPACE, TRAINING_QUEUE, waiting
from src.processing.jobs.runtime import Runtime
from src.processing.service.finish import finish
from src.processing.service.work import Outcome, work_off

# Trainings use every processor they get: one at a time in each replica.
TRAINING_THREADS = 1


class Queue:
    """The queues on Redis; the threads of every replica take from them."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        # A broker for each: a worker of Dramatiq's takes from every queue of its broker.
        chunk_broker, training_broker = _broker(runtime), _broker(runtime)
        self._workers = [
            _worker(chunk_broker, runtime.settings.worker_threads),
            _worker(training_broker, TRAINING_THREADS),
        ]
        self._process_chunk = dramatiq.actor(
            self._process, broker=chunk_broker, queue_name=CHUNK_QUEUE, actor_name="process_chunk"
        )
        self._finish_job = dramatiq.actor(
            self._finish, broker=chunk_broker, queue_name=CHUNK_QUEUE, actor_name="finish_job"
        )
        self._train_pool = dramatiq.actor(
            self._train, broker=training_broker, queue_name=TRAINING_QUEUE, actor_name="train_pool"
        )

    def send(self, job_id: UUID, chunk_number: int) -> None:
        """Offers a chunk of readings to all replicas.

        Raises:
            redis.RedisError: if Redis does not take it.
        """
        self._process_chunk.send(str(job_id), chunk_number)

    def send_training(self, job_id: UUID, chunk_number: int) -> None:
        """Offers a pool of a training to all replicas.

        Raises:
            redis.RedisError: if Redis does not take it.
        """
        self._train_pool.send(str(job_id), chunk_number)

    def sender(self, job_type: str) -> Callable[[UUID, int], None]:
        """What offers chunks of jobs of this type."""
        return self.send_training if job_type == jobs.TRAINING else self.send

    def offer_finish(self, job_id: UUID) -> None:
        """Offers to all replicas to finish a job whose chunks have all ended.

        Raises:
            redis.RedisError: if Redis does not take it.
        """
        self._finish_job.send(str(job_id))

    def is_empty(self, job_type: str) -> bool:
        """Whether no message waits where those of this type of job wait.

        Raises:
            redis.RedisError: if Redis does not answer.
        """
        return not waiting(self._runtime.redis_now, TRAINING_QUEUE if job_type == jobs.TRAINING else CHUNK_QUEUE)

    def start(self) -> None:
        """Lets this process take from the queues."""
        for worker in self._workers:
            worker.start()

    def stop(self, seconds: int) -> None:
        """Ends that; waits at most so long for what is running."""
        with ThreadPoolExecutor(len(self._workers)) as threads:
            list(threads.map(lambda worker: worker.stop(timeout=seconds * 1000), self._workers))

    def _process(self, job_id: str, chunk_number: int) -> None:
        self._work_off(UUID(job_id), chunk_number, self.send)

    def _train(self, job_id: str, chunk_number: int) -> None:
        self._work_off(UUID(job_id), chunk_number, self.send_training)

    def _finish(self, job_id: str) -> None:
        finish(self._runtime, UUID(job_id), self.send)

    def _work_off(self, job_id: UUID, chunk_number: int, send: Callable[[UUID, int], None]) -> None:
        outcome = work_off(self._runtime, job_id, chunk_number)
        if outcome is Outcome.DONE_AND_LAST:
            finish(self._runtime, job_id, self.send)
        elif outcome is Outcome.HANDED_BACK:
            send(job_id, chunk_number)


def _broker(runtime: Runtime) -> RedisBroker:
    return RedisBroker(
        client=runtime.redis,
        namespace=QUEUE_NAMESPACE,
        # No middleware: what fails is recorded, waited for or rescued, with the database as the only truth.
        middleware=[],
        # A killed replica's messages go to others after this many milliseconds ...
        heartbeat_timeout=10_000,
        # ... because one command in ten looks for them.
        maintenance_chance=100_000,
    )


def _worker(broker: RedisBroker, threads: int) -> dramatiq.Worker:
    worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=200)
    # No more than the threads can hold at once: what waits, waits where an idle replica can take it.
    worker.queue_prefetch = threads
    return worker
