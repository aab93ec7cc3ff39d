"""The beginning of a job that ingests: what is there to read, in which chunks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, bindparam, select, update
from sqlalchemy.dialects.postgresql import insert

from src.db.tables import ingestion_watermarks, nodes, processing_jobs
from src.domain.days import day_start
from src.domain.vouching import LAG_DAYS, LEAD_DAYS
from src.processing.ingest.windows import INSTANT
from src.processing.jobs import chunks
from src.processing.jobs.runtime import Runtime
from src.processing.warehouse.marks import Watermark
from src.processing.warehouse.news import find_news, readings_between


def plan_cycle(runtime: Runtime, job_id: UUID, as_of: datetime) -> list[int]:
    """Finds the nodes with news, registers those nobody knew, and records the chunks to work off: their numbers.

    Raises:
        WarehouseError: if BigQuery cannot be asked what is new.
    """
    keep_from = as_of - timedelta(days=runtime.settings.retention_metrics_days)
    marks = _watermarks(runtime.database)
    news = find_news(runtime.warehouse(), runtime.settings, marks, as_of, keep_from)
    registered = _register(runtime.database, news.unknown, as_of)
    _count_fewer(runtime.database, marks, news.fewer)
    _note(runtime.database, job_id, news.rejected, registered, news.bytes_read, news.problem)
    planned = chunks.plan(news.nodes, as_of + INSTANT, runtime.settings.chunk_readings, runtime.zone)
    chunks.add(runtime.database, job_id, planned)
    return list(range(len(planned)))


def plan_backfill(
    runtime: Runtime, job_id: UUID, start: datetime, end: datetime, node_ids: Collection[str], as_of: datetime
) -> list[int]:
    """Records the chunks that re-read [start, end) of these nodes (none named: of all), widened to local days.

    It moves no watermark: what no tick has read yet, before, between or since, is still read by the next one.
    The days around are written too: their completeness and the water across midnight depend on what is read again.

    Raises:
        WarehouseError: if BigQuery cannot be asked what there is.
    """
    # What retention would delete again is not written.
    retained_from = day_start(as_of - timedelta(days=runtime.settings.retention_metrics_days), runtime.zone)
    first = max(day_start(start, runtime.zone, -LAG_DAYS), min(retained_from, day_start(start, runtime.zone)))
    last = min(day_start(end - INSTANT, runtime.zone, 1 + LEAD_DAYS), as_of + INSTANT)
    found, rejected, bytes_read = readings_between(runtime.warehouse(), runtime.settings, node_ids, first, last)
    registered = _register(runtime.database, {node.node_id: {} for node in found}, as_of)
    known = {node.node_id for node in found}
    # A node whose rows were all withdrawn still has windows that must go.
    withdrawn = sorted(set(node_ids) - known)
    _note(runtime.database, job_id, rejected, registered, bytes_read)
    planned = chunks.plan(found, last, runtime.settings.chunk_readings, runtime.zone)
    if withdrawn:
        planned.append(chunks.Chunk(withdrawn, first, last, 0, {}))
    chunks.add(runtime.database, job_id, planned)
    return list(range(len(planned)))


def _watermarks(database: Engine) -> dict[str, Watermark]:
    with database.connect() as connection:
        mark = ingestion_watermarks.c
        columns = (mark.last_row, mark.last_arrival, mark.recent_rows, mark.last_of_each)
        rows = connection.execute(select(mark.node_id, *columns))
        return {row.node_id: Watermark(*row[1:]) for row in rows}


def _count_fewer(database: Engine, marks: Mapping[str, Watermark], fewer: Mapping[str, int]) -> None:
    """Takes rows that are out of sight by now out of their nodes' counts, or as many late ones would go unnoticed."""
    if not fewer:
        return
    mark = ingestion_watermarks.c
    statement = (
        update(ingestion_watermarks)
        .where(mark.node_id == bindparam("node"), mark.last_arrival == bindparam("arrival"))
        .values(recent_rows=bindparam("rows"))
    )
    with database.begin() as connection:
        connection.execute(
            statement,
            [{"node": node, "arrival": marks[node].last_arrival, "rows": rows} for node, rows in fewer.items()],
        )


def _register(database: Engine, described: Mapping[str, Mapping[str, str]], as_of: datetime) -> list[str]:
    """Adds nodes that nobody had registered, described as in their readings; returns the new ones."""
    if not described:
        return []
    with database.begin() as connection:
        new = connection.execute(
            insert(nodes)
            .values(
                [
                    {
                        "node_id": node_id,
                        "node_name": description.get("node_name", node_id),
                        "node_type": description.get("node_type"),
                        "district_id": description.get("district_id"),
                        "metadata": {"registered_by": "readings"},
                        "created_at": as_of,
                        "updated_at": as_of,
                    }
                    for node_id, description in described.items()
                ]
            )
            .on_conflict_do_nothing()
            .returning(nodes.c.node_id)
        )
        return sorted(new.scalars())


def _note(
    database: Engine,
    job_id: UUID,
    rejected: Mapping[str, int],
    registered: Sequence[str],
    bytes_read: int,
    problem: str | None = None,
) -> None:
    """Keeps in the job's row what its chunks will not see."""
    summary: dict[str, Any] = {
        "rejected": dict(rejected),
        "nodes_registered": list(registered),
        "bytes_read": {"news": bytes_read},
    }
    if problem is not None:
        summary["planning_problem"] = problem
    with database.begin() as connection:
        connection.execute(
            update(processing_jobs).where(processing_jobs.c.job_id == job_id).values(result_summary=summary)
        )
