"""Stored windows that other units or ranges, or an earlier version, made, and the command that makes them right."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Row, bindparam, text

from src.domain.channels import Conventions, channels_of, unusable
from src.domain.days import day_start
from src.processing.ingest.windows import versions_of
from src.processing.warehouse.channels import stated_channels

# Days are few, and made of all there is.
_STORED = text(
    """
    SELECT node_id, computation_version, min(window_start) AS first, max(window_end) AS last
    FROM water_infrastructure.computed_metrics
    WHERE time_window = '1day' AND (CAST(:nodes AS text[]) IS NULL OR node_id = ANY(CAST(:nodes AS text[])))
    GROUP BY node_id, computation_version
    """
).bindparams(bindparam("nodes"))
# A command line holds so many names; of more, every node is read again.
_MOST_NAMED = 50


@dataclass(frozen=True)
class Outdated:
    """Nodes with windows that other units or ranges made, and the local days of these: from `first`, before `end`."""

    node_ids: list[str]
    first: date
    end: date

    def sentence(self) -> str:
        """What is wrong, and the command that puts it right."""
        named = len(self.node_ids) <= _MOST_NAMED
        nodes = " --nodes " + " ".join(map(shlex.quote, self.node_ids)) if named else ""
        return (
            f"Stored windows of {len(self.node_ids)} nodes were computed under other units or ranges than hold now. "
            f"This reads them again: python -m src.processing.backfill --start {self.first} --end {self.end}{nodes}"
        )


def find_outdated(
    connection: Connection,
    conventions: Conventions,
    now: datetime,
    retention_days: int,
    zone: ZoneInfo,
    node_ids: Sequence[str] | None = None,
) -> Outdated | None:
    """Looks for such windows of these nodes (None: of all) within retention; None where there are none.

    Nodes of which something unusable is stated are left out: no reading of theirs is taken in either.
    """
    rows: Sequence[Row[Any]] = connection.execute(
        _STORED, {"nodes": None if node_ids is None else list(node_ids)}
    ).all()
    listed = sorted({row.node_id for row in rows})
    stated = stated_channels(connection, listed)
    problems = unusable(listed, stated, conventions)
    listed = [node_id for node_id in listed if node_id not in problems]
    rows = [row for row in rows if row.node_id not in problems]
    channels = channels_of(listed, stated, conventions)
    expected = dict(zip(listed, versions_of(listed, channels), strict=True))
    retained_from = day_start(now - timedelta(days=retention_days), zone)
    wrong = [row for row in rows if row.computation_version != expected[row.node_id] and row.last > retained_from]
    if not wrong:
        return None
    first = max(min(row.first for row in wrong), retained_from).astimezone(zone).date()
    end = max(row.last for row in wrong).astimezone(zone).date()
    return Outdated(sorted({row.node_id for row in wrong}), first, end)
