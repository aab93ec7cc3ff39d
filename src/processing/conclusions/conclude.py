"""What is concluded from the windows a job has changed: balances, anomalies, data quality, forecasts.

Each conclusion has transactions of its own, a few seconds long. One that fails leaves the others untouched; what it has
not concluded stands in the job's `result_summary`, and the next job takes it in.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from src.observability import logger
from src.processing.conclusions.anomalies import judge_anomalies
from src.processing.conclusions.balances import write_balances
from src.processing.conclusions.extent import Extent, Progress, extent_of, together
from src.processing.conclusions.quality import DAILY, write_quality
from src.processing.jobs import records as jobs
from src.processing.jobs.patience import patiently
from src.processing.jobs.runtime import Runtime
from src.processing.modelling.forecasts import write_forecasts

# Conclusions that were begun so often without an end are drawn of the last day only, then not at all.
MOST_ATTEMPTS = 3
_TOO_OFTEN = (
    f"conclusions were begun {MOST_ATTEMPTS} times, each time the process ended in the middle (was it out of memory?)"
)
# Where nothing came in, what is missing is still to be noticed: of the whole network so much is always looked at.
ALWAYS = timedelta(days=1)
# What other jobs have left: conclusions that failed, and what jobs have written that failed before any.
_LEFT = text(
    """
    SELECT job_id, completed_at, result_summary -> 'not_concluded' AS not_concluded, (
        SELECT jsonb_object_agg(node.key, node.first) FROM (
            SELECT key, min(value) AS first FROM water_infrastructure.job_chunks AS chunk,
                jsonb_each_text(chunk.result_summary -> 'touched') AS touched
            WHERE chunk.job_id = job.job_id AND job.status = 'failed' AND NOT job.result_summary ? 'concluded_later'
            GROUP BY key
        ) AS node
    ) AS touched
    FROM water_infrastructure.processing_jobs AS job
    WHERE job_id <> :job_id AND (result_summary ? 'not_concluded'
        OR status = 'failed' AND NOT result_summary ? 'concluded_later' AND (job_type = :cycle
            -- Whoever interrupted a backfill goes on with it soon, or not at all.
            OR job_type = :backfill AND heartbeat_at < now() - interval '1 hour'))
    """
)
_TAKEN = text(
    """
    UPDATE water_infrastructure.processing_jobs
    SET result_summary = (result_summary - 'not_concluded') || '{"concluded_later": true}'
    WHERE job_id = ANY(:job_ids)
    """
)
_TOUCHED = text(
    """
    SELECT node.key AS node_id, min(node.value) AS first FROM water_infrastructure.job_chunks AS chunk,
        jsonb_each_text(chunk.result_summary -> 'touched') AS node
    WHERE chunk.job_id = :job_id GROUP BY node.key
    """
)
Step = Callable[[Runtime, Extent, datetime], Iterator[Progress]]


def _quality(runtime: Runtime, extent: Extent, as_of: datetime) -> Iterator[Progress]:
    def checked() -> int:
        with runtime.database.begin() as connection:
            return write_quality(connection, as_of, *DAILY)

    yield Progress(as_of, patiently(runtime, checked, "data quality"))


def _forecasts(runtime: Runtime, extent: Extent, as_of: datetime) -> Iterator[Progress]:
    def forecast() -> int:
        with runtime.database.begin() as connection:
            return write_forecasts(runtime, connection, as_of)

    yield Progress(as_of, patiently(runtime, forecast, "forecasts"))


STEPS: Mapping[str, Step] = {
    "balances": write_balances,
    "anomalies": judge_anomalies,
    "quality": _quality,
    "forecasts": _forecasts,
}
# The others say how things stand at an instant, and leave no hours behind.
OF_HOURS = ("balances", "anomalies")


@dataclass
class Concluded:
    """`summary` for the job, what went wrong in `problems`, and the jobs whose conclusions were `taken` over."""

    summary: dict[str, Any] = field(default_factory=lambda: {"seconds": {}})
    problems: list[str] = field(default_factory=list)
    taken: list[UUID] = field(default_factory=list)


def conclude(runtime: Runtime, job_id: UUID, as_of: datetime, attempt: int, *, is_cycle: bool) -> Concluded:
    """Draws every conclusion from what a job has written and, in a cycle, from what others have left.

    What lies in the past hides nothing of the present: where a past part fails, or takes more than half the time
    between two ticks, the last day is looked at all the same, and what is left stands in `not_concluded`. Where the
    process ended in the middle before, less is tried: no leftovers, then the last day only, then nothing.

    Args:
        as_of: the instant the job stands for.
        attempt: how often the job's conclusions have been begun.
    """
    with runtime.database.connect() as connection:
        touched = _touched(connection, job_id, as_of)
        others = _leftovers(connection, job_id, as_of, runtime.clock.now()) if is_cycle else _Leftovers()
    concluded = Concluded(taken=others.jobs)
    present = Extent(as_of - ALWAYS)
    deadline = time.monotonic() + 30 * runtime.settings.check_interval_minutes if is_cycle else math.inf
    if attempt > MOST_ATTEMPTS:
        concluded.problems.append(_TOO_OFTEN)
    left: dict[str, Extent] = {}
    for name, step in STEPS.items():
        begun = time.perf_counter()
        drawing = _Drawing(runtime, step, as_of, deadline)
        if attempt <= MOST_ATTEMPTS + 1:
            drawing.draw(touched if attempt <= MOST_ATTEMPTS else present)
            if drawing.left is not None and touched.first < present.start and attempt <= MOST_ATTEMPTS:
                drawing.draw(present, even_if_late=True)
        unseen = [touched] if attempt > MOST_ATTEMPTS else []
        if (other := others.of_step.get(name)) is not None:
            if attempt == 1:
                drawing.draw(other)
            else:
                unseen.append(other)
        if drawing.error is not None:
            log = logger(__name__).bind(step=name, job_id=str(job_id))
            log.error("a conclusion could not be drawn", exc_info=drawing.error)
            problem = f"The {name} could not be computed: {type(drawing.error).__name__}: {drawing.error}"
            concluded.problems.append(problem[:1000])
        else:
            concluded.summary[name] = drawing.rows
        remaining = [*unseen, *([drawing.left] if drawing.left is not None else [])]
        if remaining and name in OF_HOURS:
            left[name] = together(remaining)
        concluded.summary["seconds"][name] = time.perf_counter() - begun
    if "balances" in left:
        # What a balance tells is judged once there is one.
        left["anomalies"] = together([left["balances"], left.get("anomalies", present)])
    if left:
        given_up = others.given_up + 1 if attempt > 1 else 0
        concluded.summary["not_concluded"] = {
            name: extent.plain() | ({"given_up": given_up} if given_up else {}) for name, extent in left.items()
        }
    return concluded


class _Drawing:
    """One step's conclusions: the rows written, and of the extents drawn what is `left`."""

    def __init__(self, runtime: Runtime, step: Step, as_of: datetime, deadline: float) -> None:
        self._runtime, self._step, self._as_of, self._deadline = runtime, step, as_of, deadline
        self.rows = 0
        self.left: Extent | None = None
        self.error: Exception | None = None

    def draw(self, extent: Extent, *, even_if_late: bool = False) -> None:
        """Draws part after part of an extent, up to a failure or to the deadline."""
        left = extent
        try:
            for progress in self._step(self._runtime, extent, self._as_of):
                self.rows += progress.rows
                left = left.after(progress.until)
                if time.monotonic() > self._deadline and left.first < self._as_of - ALWAYS and not even_if_late:
                    break
            else:
                return
        except Exception as error:
            self.error = self.error or error
        self.left = left if self.left is None else together([self.left, left])


def mark_taken(connection: Connection, taken: list[UUID]) -> None:
    """Records that what these jobs have left was taken over, in the transaction that ends the job which did."""
    if taken:
        connection.execute(_TAKEN, {"job_ids": taken})


@dataclass
class _Leftovers:
    """What other jobs have left of each step, these jobs, and how often a process ended over it."""

    of_step: dict[str, Extent] = field(default_factory=dict)
    jobs: list[UUID] = field(default_factory=list)
    given_up: int = 0


def _touched(connection: Connection, job_id: UUID, as_of: datetime) -> Extent:
    rows = connection.execute(_TOUCHED, {"job_id": job_id}).all()
    return Extent(as_of - ALWAYS, {row.node_id: datetime.fromisoformat(row.first) for row in rows})


def _leftovers(connection: Connection, job_id: UUID, as_of: datetime, now: datetime) -> _Leftovers:
    found = _Leftovers()
    parts: dict[str, list[Extent]] = {}
    for row in connection.execute(_LEFT, {"job_id": job_id, "cycle": jobs.CYCLE, "backfill": jobs.BACKFILL}):
        given_up = max((plain.get("given_up", 0) for plain in (row.not_concluded or {}).values()), default=0)
        if given_up and row.completed_at is not None and now - row.completed_at < _pause(given_up):
            continue
        found.jobs.append(row.job_id)
        found.given_up = max(found.given_up, given_up)
        if row.touched:
            touched = Extent(as_of - ALWAYS, {n: datetime.fromisoformat(at) for n, at in row.touched.items()})
            for name in OF_HOURS:
                parts.setdefault(name, []).append(touched)
        for name, plain in (row.not_concluded or {}).items():
            parts.setdefault(name, []).append(extent_of(plain))
    found.of_step = {name: together(extents) for name, extents in parts.items()}
    return found


def _pause(given_up: int) -> timedelta:
    """How long what ended a process is left alone."""
    return min(timedelta(hours=2**given_up), timedelta(days=1))
