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

from sqlalchemy import Row

from src.observability import logger
from src.processing.conclusions.anomalies import judge_anomalies
from src.processing.conclusions.balances import write_balances
from src.processing.conclusions.channels import learn_channels
from src.processing.conclusions.extent import Extent, Progress, extent_of, together
from src.processing.conclusions.plan import ALWAYS, OF_HOURS
from src.processing.conclusions.quality import DAILY, write_quality
from src.processing.conclusions.share import Share, extents_in, joined, share_of
from src.processing.conclusions.sums import add_up, count_events_of_network
from src.processing.jobs.patience import patiently
from src.processing.jobs.runtime import Runtime
from src.processing.modelling.forecasts import write_forecasts

# Conclusions that were begun so often without an end are drawn of the last day only, then not at all.
MOST_ATTEMPTS = 3
_TOO_OFTEN = (
    f"conclusions were begun {MOST_ATTEMPTS} times, each time the process ended in the middle (was it out of memory?)"
)
Step = Callable[[Runtime, Share, Extent, datetime], Iterator[Progress]]


def _quality(runtime: Runtime, share: Share, extent: Extent, as_of: datetime) -> Iterator[Progress]:
    silence = timedelta(days=runtime.settings.out_of_service_after_days)

    def checked() -> int:
        with runtime.database.begin() as connection:
            return write_quality(connection, share.node_ids, as_of, *DAILY, silence)

    yield Progress(as_of, patiently(runtime, checked, "data quality"))


# What channels are is known before anything is concluded from them.
STEPS: Mapping[str, Step] = {
    "channels": learn_channels,
    "balances": write_balances,
    "anomalies": judge_anomalies,
    "quality": _quality,
}
FORECASTS = "forecasts"


@dataclass
class Concluded:
    """What came of a share's conclusions, or of a whole job's.

    Attributes:
        rows: written or changed, by conclusion.
        seconds: spent, by conclusion.
        problems: what went wrong, in a sentence each, by conclusion.
        left: the hours that are not concluded, by conclusion.
        changed_from: from when on the network's sums may be others than before, by the conclusion they rest on.
    """

    rows: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    left: dict[str, Extent] = field(default_factory=dict)
    changed_from: dict[str, datetime] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As a chunk's summary holds it; `concluded_of` reads it."""
        return {
            "rows": self.rows,
            "seconds": self.seconds,
            "problems": self.problems,
            "left": {name: extent.plain() for name, extent in self.left.items()},
            "changed_from": {name: instant.isoformat() for name, instant in self.changed_from.items()},
        }


def concluded_of(plain: Mapping[str, Any]) -> Concluded:
    """The inverse of `Concluded.plain`."""
    return Concluded(
        dict(plain["rows"]),
        dict(plain["seconds"]),
        dict(plain["problems"]),
        {name: extent_of(left) for name, left in plain["left"].items()},
        {name: datetime.fromisoformat(instant) for name, instant in plain["changed_from"].items()},
    )


def conclude(runtime: Runtime, chunk: Row[Any], as_of: datetime, attempt: int) -> Concluded:
    """Draws every conclusion that a chunk stands for.

    What lies in the past hides nothing of the present: where a past part fails, or takes more than half the time
    between two ticks, the last day is looked at all the same, and what is left stands in `left`. Where the process
    ended in the middle before, less is tried: nothing that others left, then the last day only, then nothing.

    Args:
        as_of: the instant the job stands for.
        attempt: how often the chunk's conclusions have been begun.
    """
    concluded = Concluded(problems={"conclusions": _TOO_OFTEN} if attempt > MOST_ATTEMPTS else {})
    if "pool" in chunk.conclusions:
        if attempt <= MOST_ATTEMPTS:
            _forecast(runtime, chunk, as_of, concluded)
        return concluded
    share, extents = share_of(chunk), extents_in(chunk)
    present = Extent(as_of - ALWAYS)
    touched = extents.get("touched", present)
    deadline = math.inf
    if (late_after := chunk.conclusions.get("late_after")) is not None:
        deadline = time.monotonic() + (datetime.fromisoformat(late_after) - datetime.now(UTC)).total_seconds()
    for name, step in STEPS.items():
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
            concluded.problems[name] = _problem(name, chunk, drawing.error)
        else:
            concluded.rows[name] = drawing.rows
        if drawing.changed_from is not None:
            concluded.changed_from[name] = drawing.changed_from
        remaining = [*unseen, *([drawing.left] if drawing.left is not None else [])]
        if remaining and name in OF_HOURS:
            concluded.left[name] = together(remaining)
        concluded.seconds[name] = time.perf_counter() - begun
    if "balances" in concluded.left:
        # The signals of a balance are judged once there is one.
        concluded.left["anomalies"] = together([concluded.left["balances"], concluded.left.get("anomalies", present)])
    return concluded


def _forecast(runtime: Runtime, chunk: Row[Any], as_of: datetime, concluded: Concluded) -> None:
    """Forecasts the pool that a chunk is, and adds what came of it."""
    begun = time.perf_counter()
    work = partial(write_forecasts, runtime, chunk.conclusions["pool"], chunk.node_ids, as_of)
    try:
        concluded.rows[FORECASTS] = patiently(runtime, work, "forecasts")
    except Exception as error:
        concluded.problems[FORECASTS] = _problem(FORECASTS, chunk, error)
    concluded.seconds[FORECASTS] = time.perf_counter() - begun


def _problem(name: str, chunk: Row[Any], error: Exception) -> str:
    """The sentence about a conclusion that could not be drawn, which is logged as well."""
    log = logger(__name__).bind(step=name, job_id=str(chunk.job_id), chunk_number=chunk.chunk_number)
    log.error("a conclusion could not be drawn", exc_info=error)
    return f"The {name} could not be computed: {type(error).__name__}: {error}"[:1000]


def for_the_network(runtime: Runtime, chunks: Sequence[Row[Any]], as_of: datetime) -> Concluded:
    """What the shares of a job have concluded, together, and the network's sums of it."""
    found = Concluded(dict.fromkeys((*STEPS, FORECASTS), 0), dict.fromkeys((*STEPS, FORECASTS), 0.0))
    left: dict[str, list[tuple[Share, Extent]]] = {}
    problems: dict[tuple[str, str], list[str]] = {}
    shares: list[Share] = []
    for chunk in chunks:
        part = concluded_of(chunk.result_summary.get("concluded") or _not_concluded(chunk).plain())
        named = [chunk.conclusions["pool"]] if "pool" in chunk.conclusions else None
        if named is None:
            share = share_of(chunk)
            shares.append(share)
            named = [] if share.is_whole else list(share.districts) or [f"{len(share.node_ids)} nodes of no district"]
            for name, extent in part.left.items():
                left.setdefault(name, []).append((share, extent))
        for name, rows in part.rows.items():
            # Windows of the whole network are the same ones for each share.
            found.rows[name] = max(found.rows[name], rows) if name == "balances" else found.rows[name] + rows
        for name, spent in part.seconds.items():
            found.seconds[name] += spent
        for name, problem in part.problems.items():
            problems.setdefault((name, problem), []).extend(named)
        for name, instant in part.changed_from.items():
            found.changed_from[name] = min(instant, found.changed_from.get(name, instant))
    found.left = {name: joined(listed, shares, as_of) for name, listed in left.items()}
    for (name, problem), named in problems.items():
        found.rows.pop(name, None)
        more = f" and {len(named) - 3} more" if len(named) > 3 else ""
        where = f" ({', '.join(named[:3])}{more})" if named else ""
        found.problems[name] = "; ".join(filter(None, [found.problems.get(name), problem + where]))
    begun = time.perf_counter()
    try:
        if "balances" in found.changed_from:
            add_up(runtime, found.changed_from["balances"], as_of)
        if found.changed_from:
            count_events_of_network(runtime, min(found.changed_from.values()), as_of)
    except Exception as error:
        logger(__name__).exception("the network's sums could not be made")
        problem = f"The network's sums could not be made: {type(error).__name__}: {error}"
        found.problems["network"] = problem[:1000]
        missing = Extent(min(found.changed_from.values()))
        found.left["balances"] = together([missing, found.left.get("balances", missing)])
    found.seconds["network"] = time.perf_counter() - begun
    return found


def _not_concluded(chunk: Row[Any]) -> Concluded:
    """Of a chunk that somebody ended who knows nothing of conclusions, as a replica of an earlier version does."""
    extents = {} if "pool" in chunk.conclusions else extents_in(chunk)
    left = {name: [e for planned, e in extents.items() if planned in ("touched", f"left {name}")] for name in OF_HOURS}
    problems = {"conclusions": "conclusions were taken for readings by a replica of an earlier version"}
    return Concluded(problems=problems, left={name: together(listed) for name, listed in left.items() if listed})


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
