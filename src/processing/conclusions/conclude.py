"""What is concluded from the windows a job has changed: balances, anomalies, data quality, forecasts.

The network's shares are concluded by themselves, on any replica, each conclusion in transactions of its own, a few
seconds long. One that fails leaves the others untouched; what it has not concluded stands in the job's
`result_summary`, and the next job takes it in. When all shares are done, the network's sums are made of theirs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from src.observability import logger
from src.processing.conclusions.anomalies import judge_anomalies
from src.processing.conclusions.balances import add_up, write_balances
from src.processing.conclusions.counts import count_in_network
from src.processing.conclusions.extent import Extent, Progress, extent_of, together
from src.processing.conclusions.quality import DAILY, write_quality
from src.processing.conclusions.share import Share, extents_in, extents_of, joined, plan_of, share_of, shares_of
from src.processing.jobs import records as jobs
from src.processing.jobs.patience import patiently
from src.processing.jobs.runtime import Runtime
from src.processing.modelling.forecasts import pools_to_forecast, write_forecasts

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
Step = Callable[[Runtime, Share, Extent, datetime], Iterator[Progress]]


def _quality(runtime: Runtime, share: Share, extent: Extent, as_of: datetime) -> Iterator[Progress]:
    def checked() -> int:
        with runtime.database.begin() as connection:
            return write_quality(connection, share.node_ids, as_of, *DAILY)

    yield Progress(as_of, patiently(runtime, checked, "data quality"))


STEPS: Mapping[str, Step] = {"balances": write_balances, "anomalies": judge_anomalies, "quality": _quality}
FORECASTS = "forecasts"
# The others say how things stand at an instant, and leave no hours behind.
OF_HOURS = ("balances", "anomalies")


@dataclass
class Concluded:
    """What came of a share's conclusions, or of a whole job's.

    Attributes:
        rows: written or changed, by conclusion.
        seconds: spent, by conclusion.
        problems: what went wrong, in a sentence each, by conclusion.
        left: the hours that are not concluded, by conclusion.
        changed_from: from when on the network's sums may be others than before.
    """

    rows: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    left: dict[str, Extent] = field(default_factory=dict)
    changed_from: datetime | None = None

    def plain(self) -> dict[str, Any]:
        """As a chunk's summary holds it; `concluded_of` reads it."""
        return {
            "rows": self.rows,
            "seconds": self.seconds,
            "problems": self.problems,
            "left": {name: extent.plain() for name, extent in self.left.items()},
            "changed_from": self.changed_from.isoformat() if self.changed_from else None,
        }


def concluded_of(plain: Mapping[str, Any]) -> Concluded:
    """The inverse of `Concluded.plain`."""
    return Concluded(
        dict(plain["rows"]),
        dict(plain["seconds"]),
        dict(plain["problems"]),
        {name: extent_of(left) for name, left in plain["left"].items()},
        datetime.fromisoformat(plain["changed_from"]) if plain["changed_from"] else None,
    )


@dataclass
class Plan:
    """What a job has to conclude: of each chunk its nodes and how its row says it, and what it takes over from others.

    `given_up`: how often a process ended over what was left.
    """

    chunks: list[tuple[Sequence[str], dict[str, Any]]] = field(default_factory=list)
    taken: list[UUID] = field(default_factory=list)
    given_up: int = 0


def plan(connection: Connection, job_id: UUID, as_of: datetime, now: datetime, late_after: timedelta | None) -> Plan:
    """What follows from what a job has written and, in a cycle, from what others have left.

    Args:
        as_of: the instant the job stands for.
        late_after: in a cycle, the real time from now on after which the past is left to the next one.
    """
    is_cycle = late_after is not None
    deadline = {} if late_after is None else {"late_after": (datetime.now(UTC) + late_after).isoformat()}
    touched = _touched(connection, job_id, as_of)
    others = _leftovers(connection, job_id, as_of, now) if is_cycle else _Leftovers()
    shares = shares_of(connection)
    extents = {"touched": touched} | {f"left {name}": extent for name, extent in others.of_step.items()}
    by_share = {name: extents_of(connection, shares, extent) for name, extent in extents.items()}
    found = Plan(taken=others.jobs, given_up=others.given_up)
    for number, share in enumerate(shares):
        own = {name: listed[number] for name, listed in by_share.items()}
        found.chunks.append((share.node_ids, plan_of(share, list(STEPS), own) | deadline))
    for pool in pools_to_forecast(connection, as_of):
        everything = Share(tuple(pool.node_ids), (), is_first=False, is_whole=False)
        found.chunks.append((pool.node_ids, plan_of(everything, [FORECASTS], {}) | {"pool": pool.scope}))
    return found


def conclude(runtime: Runtime, chunk: Row[Any], as_of: datetime, attempt: int) -> Concluded:
    """Draws every conclusion that a chunk stands for.

    What lies in the past hides nothing of the present: where a past part fails, or takes more than half the time
    between two ticks, the last day is looked at all the same, and what is left stands in `left`. Where the process
    ended in the middle before, less is tried: nothing that others left, then the last day only, then nothing.

    Args:
        as_of: the instant the job stands for.
        attempt: how often the chunk's conclusions have been begun.
    """
    share, extents = share_of(chunk), extents_in(chunk)
    concluded = Concluded(problems={"conclusions": _TOO_OFTEN} if attempt > MOST_ATTEMPTS else {})
    steps: Mapping[str, Step] = STEPS
    if FORECASTS in chunk.conclusions["steps"]:
        steps = {FORECASTS: partial(_forecasts, chunk.conclusions["pool"])}
    present = Extent(as_of - ALWAYS)
    touched = extents.get("touched", present)
    deadline = math.inf
    if (late_after := chunk.conclusions.get("late_after")) is not None:
        deadline = time.monotonic() + (datetime.fromisoformat(late_after) - datetime.now(UTC)).total_seconds()
    for name, step in steps.items():
        begun = time.perf_counter()
        drawing = _Drawing(runtime, step, share, as_of, deadline)
        if attempt <= MOST_ATTEMPTS + 1:
            drawing.draw(touched if attempt <= MOST_ATTEMPTS else present)
            if drawing.left is not None and touched.first < present.start and attempt <= MOST_ATTEMPTS:
                drawing.draw(present, even_if_late=True)
        unseen = [touched] if attempt > MOST_ATTEMPTS else []
        if (other := extents.get(f"left {name}")) is not None:
            if attempt == 1:
                drawing.draw(other)
            else:
                unseen.append(other)
        if drawing.error is not None:
            log = logger(__name__).bind(step=name, job_id=str(chunk.job_id), districts=share.districts[:5])
            log.error("a conclusion could not be drawn", exc_info=drawing.error)
            problem = f"The {name} could not be computed: {type(drawing.error).__name__}: {drawing.error}"
            concluded.problems[name] = problem[:1000]
        else:
            concluded.rows[name] = drawing.rows
        if drawing.changed_from is not None:
            concluded.changed_from = min(drawing.changed_from, concluded.changed_from or drawing.changed_from)
        remaining = [*unseen, *([drawing.left] if drawing.left is not None else [])]
        if remaining and name in OF_HOURS:
            concluded.left[name] = together(remaining)
        concluded.seconds[name] = time.perf_counter() - begun
    if "balances" in concluded.left:
        # What a balance tells is judged once there is one.
        concluded.left["anomalies"] = together([concluded.left["balances"], concluded.left.get("anomalies", present)])
    return concluded


def _forecasts(scope: str, runtime: Runtime, share: Share, extent: Extent, as_of: datetime) -> Iterator[Progress]:
    work = partial(write_forecasts, runtime, scope, share.node_ids, as_of)
    yield Progress(as_of, patiently(runtime, work, "forecasts"))


def for_the_network(runtime: Runtime, chunks: Sequence[Row[Any]], as_of: datetime) -> Concluded:
    """What the shares of a job have concluded, together, and the network's sums of it."""
    found = Concluded(dict.fromkeys((*STEPS, FORECASTS), 0), dict.fromkeys((*STEPS, FORECASTS), 0.0))
    left: dict[str, list[tuple[Share, Extent]]] = {}
    problems: dict[tuple[str, str], list[str]] = {}
    shares = [share_of(chunk) for chunk in chunks if "pool" not in chunk.conclusions]
    for chunk in chunks:
        share = share_of(chunk)
        part = concluded_of(chunk.result_summary.get("concluded") or _not_concluded(chunk).plain())
        for name, rows in part.rows.items():
            # Windows of the whole network are the same ones for each share.
            found.rows[name] = max(found.rows[name], rows) if name == "balances" else found.rows[name] + rows
        for name, spent in part.seconds.items():
            found.seconds[name] += spent
        for name, problem in part.problems.items():
            named = [] if share.is_whole else list(share.districts) or [f"{len(share.node_ids)} nodes of no district"]
            problems.setdefault((name, problem), []).extend(named)
        for name, extent in part.left.items():
            left.setdefault(name, []).append((share, extent))
        if part.changed_from is not None:
            found.changed_from = min(part.changed_from, found.changed_from or part.changed_from)
    found.left = {name: joined(listed, shares, as_of) for name, listed in left.items()}
    for (name, problem), named in problems.items():
        found.rows.pop(name, None)
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        where = f" ({', '.join(named[:3])}{more})" if named else ""
        found.problems[name] = "; ".join(filter(None, [found.problems.get(name), problem + where]))
    begun = time.perf_counter()
    try:
        if found.changed_from is not None:
            add_up(runtime, found.changed_from, as_of)
            patiently(runtime, partial(_count, runtime, found.changed_from), "counts of the network")
    except Exception as error:
        logger(__name__).exception("the network's sums could not be made")
        problem = f"The network's sums could not be made: {type(error).__name__}: {error}"
        found.problems["network"] = problem[:1000]
        assert found.changed_from is not None
        missing = Extent(found.changed_from)
        found.left["balances"] = together([missing, found.left.get("balances", missing)])
    found.seconds["network"] = time.perf_counter() - begun
    return found


def _not_concluded(chunk: Row[Any]) -> Concluded:
    """Of a chunk that somebody ended who knows nothing of conclusions, as a replica of an earlier version does."""
    extents = extents_in(chunk)
    left = {name: [e for planned, e in extents.items() if planned in ("touched", f"left {name}")] for name in OF_HOURS}
    problems = {"conclusions": "conclusions were taken for readings by a replica of an earlier version"}
    return Concluded(problems=problems, left={name: together(listed) for name, listed in left.items() if listed})


def _count(runtime: Runtime, first: datetime) -> None:
    with runtime.database.begin() as connection:
        count_in_network(connection, first)


class _Drawing:
    """One step's conclusions: the rows written, and of the extents drawn what is `left`."""

    def __init__(self, runtime: Runtime, step: Step, share: Share, as_of: datetime, deadline: float) -> None:
        self._runtime, self._step, self._share = runtime, step, share
        self._as_of, self._deadline = as_of, deadline
        self.rows = 0
        self.changed_from: datetime | None = None
        self.left: Extent | None = None
        self.error: Exception | None = None

    def draw(self, extent: Extent, *, even_if_late: bool = False) -> None:
        """Draws part after part of an extent, up to a failure or to the deadline."""
        left = extent
        try:
            for progress in self._step(self._runtime, self._share, extent, self._as_of):
                self.rows += progress.rows
                if progress.changed_from is not None:
                    self.changed_from = min(progress.changed_from, self.changed_from or progress.changed_from)
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
