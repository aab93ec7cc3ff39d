"""What is concluded from the windows a job has changed: balances, anomalies, data quality, forecasts.

Each conclusion has transactions of its own, a few seconds long. One that fails leaves the others untouched; what it has
not concluded stands in the job's `result_summary`, and the next job takes it in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from src.observability import logger
from src.processing import jobs
from src.processing.cycle.balance import write_balances
from src.processing.cycle.detect import judge_anomalies
from src.processing.cycle.extent import Extent, Progress, extent_of, together
from src.processing.models.forecasts import write_forecasts
from src.processing.patience import patiently
from src.processing.quality import DAILY, write_quality
from src.processing.runtime import Runtime

# Where nothing came in, what is missing is still to be noticed: of the whole network so much is always looked at.
ALWAYS = timedelta(days=1)
# What other jobs have left: conclusions that failed, and what jobs have written that failed before any.
_LEFT = text(
    """
    SELECT job_id, result_summary -> 'not_concluded' AS not_concluded, (
        SELECT jsonb_object_agg(node.key, node.value) FROM water_infrastructure.job_chunks AS chunk,
            jsonb_each(chunk.result_summary -> 'touched') AS node
        WHERE chunk.job_id = job.job_id AND job.status = 'failed' AND job.job_type = :cycle
            AND NOT job.result_summary ? 'concluded_later'
    ) AS touched
    FROM water_infrastructure.processing_jobs AS job
    WHERE job_id <> :job_id AND (result_summary ? 'not_concluded'
        OR status = 'failed' AND job_type = :cycle AND NOT result_summary ? 'concluded_later')
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


def conclude(runtime: Runtime, job_id: UUID, as_of: datetime, given_up: str | None = None) -> Concluded:
    """Draws every conclusion from what a job has written and from what others have left.

    Args:
        as_of: the instant the job stands for.
        given_up: a reason for which nothing is concluded now; all is left to the next job.
    """
    with runtime.database.connect() as connection:
        extents, taken = _extents(connection, job_id, as_of)
    concluded = Concluded(taken=taken)
    not_concluded: dict[str, Any] = {}
    present = Extent(as_of - ALWAYS)
    for name, step in STEPS.items():
        begun = time.perf_counter()
        drawn = _draw(runtime, step, extents[name], as_of, given_up)
        if drawn.error is not None:
            log = logger(__name__).bind(step=name, job_id=str(job_id))
            log.error("a conclusion could not be drawn", exc_info=drawn.error)
            problem = f"{type(drawn.error).__name__}: {drawn.error}"
            concluded.problems.append(f"The {name} could not be computed: {problem}"[:1000])
            if name in OF_HOURS:
                not_concluded[name] = drawn.left.plain()
                if given_up is None and extents[name].first < present.start:
                    # What stands in the way may lie in the past, and hides nothing of what happens now.
                    drawn = replace(drawn, rows=drawn.rows + _draw(runtime, step, present, as_of).rows)
        if drawn.error is None or drawn.rows:
            concluded.summary[name] = drawn.rows
        concluded.summary["seconds"][name] = time.perf_counter() - begun
    if not_concluded:
        concluded.summary["not_concluded"] = not_concluded
    return concluded


@dataclass(frozen=True)
class _Drawn:
    """How far a step came: rows written, what is `left`, and what stopped it."""

    rows: int
    left: Extent
    error: Exception | None = None


def _draw(runtime: Runtime, step: Step, extent: Extent, as_of: datetime, given_up: str | None = None) -> _Drawn:
    rows, left = 0, extent
    try:
        if given_up is not None:
            raise RuntimeError(given_up)
        for progress in step(runtime, extent, as_of):
            rows += progress.rows
            left = left.after(progress.until)
    except Exception as error:
        return _Drawn(rows, left, error)
    return _Drawn(rows, left)


def mark_taken(connection: Connection, taken: list[UUID]) -> None:
    """Records that what these jobs have left was taken over, in the transaction that ends the job which did."""
    if taken:
        connection.execute(_TAKEN, {"job_ids": taken})


def _extents(connection: Connection, job_id: UUID, as_of: datetime) -> tuple[dict[str, Extent], list[UUID]]:
    """What each step has to conclude, and the jobs that left a part of it."""
    start = as_of - ALWAYS
    rows = connection.execute(_TOUCHED, {"job_id": job_id}).all()
    touched = Extent(start, {row.node_id: datetime.fromisoformat(row.first) for row in rows})
    of_step = {name: [touched] for name in STEPS}
    taken = []
    for row in connection.execute(_LEFT, {"job_id": job_id, "cycle": jobs.CYCLE}):
        taken.append(row.job_id)
        if row.touched:
            nodes = {node: datetime.fromisoformat(at) for node, at in row.touched.items()}
            for extents in of_step.values():
                extents.append(Extent(start, nodes))
        for name, plain in (row.not_concluded or {}).items():
            of_step[name].append(extent_of(plain))
    return {name: together(extents) for name, extents in of_step.items()}, taken
