"""What a job has to conclude: from what it has written and, in a cycle, from what others have left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from src.processing.conclusions.extent import Extent, extent_of, together
from src.processing.conclusions.share import extents_of, plan_of, shares_of
from src.processing.jobs import records as jobs
from src.processing.modelling.forecasts import pools_to_forecast

# Where nothing came in, what is missing is still to be noticed: of the whole network so much is always looked at.
ALWAYS = timedelta(days=1)
# These write hours; the others write the state at an instant.
OF_HOURS = ("balances", "anomalies")
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


@dataclass
class Plan:
    """What a job has to conclude: of each chunk its nodes and its row's form, and what it takes over from others.

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
    # Of the real time in which replicas work, whatever clock is injected.
    deadline = {} if late_after is None else {"late_after": (datetime.now(UTC) + late_after).isoformat()}
    touched = _touched(connection, job_id, as_of)
    others = _leftovers(connection, job_id, as_of, now) if is_cycle else _Leftovers()
    shares = shares_of(connection)
    extents = {"touched": touched} | {f"left {name}": extent for name, extent in others.of_step.items()}
    by_share = {name: extents_of(connection, shares, extent) for name, extent in extents.items()}
    found = Plan(taken=others.jobs, given_up=others.given_up)
    for number, share in enumerate(shares):
        of_share = {name: listed[number] for name, listed in by_share.items()}
        found.chunks.append((share.node_ids, plan_of(share, of_share) | deadline))
    for pool in pools_to_forecast(connection, as_of):
        found.chunks.append((pool.node_ids, {"pool": pool.scope}))
    return found


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
