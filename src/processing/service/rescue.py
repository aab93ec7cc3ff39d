"""Jobs nobody has vouched for in a while: what can still be done is offered again, the rest ends with a sentence.

A chunk that waits in the queue has nobody who vouches for it, however well all is: silence alone is no failure.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from src.observability import logger
from src.processing.jobs import chunks
from src.processing.jobs import records as jobs
from src.processing.jobs.runtime import Runtime
from src.processing.service.actors import Queue

INTERRUPTED_PLANNING = "the replica that planned it stopped; the next one takes in what is missing"
INTERRUPTED_BACKFILL = "interrupted: the same command goes on where it stopped"
INTERRUPTED = "the replica that worked on it stopped; the next one makes up for it"


def rescue(runtime: Runtime, queue: Queue, silence: timedelta) -> None:
    """Looks after each job that has been silent for so long, once; a failure with one leaves the others.

    A cycle or a training whose chunks still wait in its queue is only vouched for. Where nothing waits, its messages
    were lost (with a replica, or with what Redis held): its chunks are offered again, or its finishing where all of
    them have ended. A message too many does no harm. How often a chunk is begun is bounded (`chunks.MOST_ATTEMPTS`),
    so that a job ends.

    Args:
        silence: in real time; a job taken up here counts as vouched for, so that one replica takes it up at a time.
    """
    for job_id, job_type in jobs.take_silent(runtime.database, silence):
        try:
            _rescue(runtime, queue, job_id, job_type)
        except Exception:
            logger(__name__).exception("a job could not be looked after", job_id=str(job_id), job_type=job_type)


def _rescue(runtime: Runtime, queue: Queue, job_id: UUID, job_type: str) -> None:
    planned, queued = chunks.count(runtime.database, job_id), chunks.queued(runtime.database, job_id)
    if job_type == jobs.BACKFILL and (queued or not planned):
        # Its command works on it, and takes its chunks up again.
        _fail(runtime, job_id, job_type, INTERRUPTED_BACKFILL)
    elif not planned:
        _fail(runtime, job_id, job_type, INTERRUPTED_PLANNING if job_type in jobs.QUEUED_TYPES else INTERRUPTED)
    elif queued and queue.is_empty(job_type):
        send = queue.sender(job_type)
        for number in queued:
            send(job_id, number)
        logger(__name__).warning("chunks are offered again", job_id=str(job_id), job_type=job_type, chunks=len(queued))
    elif not queued and queue.is_empty(jobs.CYCLE):
        queue.offer_finish(job_id)
        logger(__name__).warning("a job is to be finished again", job_id=str(job_id), job_type=job_type)


def _fail(runtime: Runtime, job_id: UUID, job_type: str, reason: str) -> None:
    if jobs.fail(runtime.database, job_id, runtime.clock.now(), reason):
        logger(__name__).warning("gave up a job whose process stopped", job_id=str(job_id), job_type=job_type)
