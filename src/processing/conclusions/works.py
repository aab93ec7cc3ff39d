"""The calendar of works as rows, and the works that are not attached to events yet."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import Connection, text

from src.domain.anomalies.stored import Stored
from src.domain.anomalies.watch import Watch
from src.domain.anomalies.works import AROUND_INSTANT, Calendar, Work
from src.processing.conclusions.counts import changed_spans, count_events
from src.processing.conclusions.events import as_written, stored_events, write_events

# Of events that were over before that, nothing is changed any more.
LOOKS_BACK = timedelta(days=90)
_MARGIN = max(AROUND_INSTANT.values())
# A work at a meter counts in the balance of the district that its water comes from, too, wherever that is concluded.
_WORKS = text(
    """
    SELECT work_id, kind, work.node_id, work.district_id, begin, "end", note, node.role,
        node.district_id AS of_district, node.metadata ->> 'feeding_district_id' AS feeding_district_id
    FROM water_infrastructure.works AS work LEFT JOIN water_infrastructure.nodes AS node ON node.node_id = work.node_id
    WHERE deleted_at IS NULL AND coalesce("end", begin) >= :since
        AND (work.node_id = ANY(:nodes) OR work.district_id = ANY(:districts) OR node.district_id = ANY(:districts)
            OR node.metadata ->> 'feeding_district_id' = ANY(:districts))
    ORDER BY begin, work_id
    """
)
_TO_ATTACH = text(
    "SELECT work_id, changed_at FROM water_infrastructure.works WHERE attached_at IS DISTINCT FROM changed_at"
)
_ANY_TO_ATTACH = text(
    "SELECT EXISTS (SELECT FROM water_infrastructure.works WHERE attached_at IS DISTINCT FROM changed_at)"
)
_ATTACHED = text(
    """
    UPDATE water_infrastructure.works SET attached_at = works.changed_at
    FROM unnest(CAST(:works AS uuid[]), CAST(:changed AS timestamptz[])) AS noted (work_id, changed_at)
    WHERE works.work_id = noted.work_id AND works.changed_at = noted.changed_at
    """
)


def calendar_of(
    connection: Connection, network: pd.DataFrame, districts: Collection[str], events: Iterable[Stored], start: datetime
) -> Calendar:
    """The works that may explain something of these nodes in hours from `start` on, or one of these events.

    Args:
        network: whole districts, as of `hours.active_nodes`.
        districts: these.
    """
    since = min([start, *(event.finding.begin for event in events)]) - _MARGIN
    bound = {"since": since, "nodes": list(network.index), "districts": list(districts)}
    rows = connection.execute(_WORKS, bound).all()
    works = [Work(row.work_id, row.kind, row.node_id, row.district_id, row.begin, row.end, row.note) for row in rows]
    meters = ("inlet", "outlet", "consumption", "storage")
    balances_of = {
        row.node_id: frozenset(filter(None, (row.of_district, row.feeding_district_id)))
        for row in rows
        if row.node_id is not None and row.role in meters
    }
    return Calendar(works, districts_of(network), balances_of)


def districts_of(network: pd.DataFrame) -> dict[str, str | None]:
    """The district of each node, None where it is in none."""
    return {str(node_id): None if pd.isna(name) else str(name) for node_id, name in network["district_id"].items()}


def any_to_attach(connection: Connection) -> bool:
    """Whether a work was stated, changed or taken back since works were last attached to events."""
    return bool(connection.scalar(_ANY_TO_ATTACH))


def attach_works(
    connection: Connection,
    network: pd.DataFrame,
    node_ids: Collection[str],
    districts: Collection[str],
    as_of: datetime,
    *,
    with_others: bool,
) -> tuple[int, datetime | None]:
    """Attaches the works as they are now to events that are open, or were within `LOOKS_BACK`. Harmless to repeat.

    Args:
        network: the active ones of the nodes, as of `hours.active_nodes`.
        with_others: as of `events.stored_events`.

    Returns:
        How many events have changed, and from when on windows lie under other events.
    """
    watch = Watch(
        stored_events(connection, as_of - LOOKS_BACK, None, node_ids, with_others=with_others), districts_of(network)
    )
    before = {event.anomaly_id: as_written(event, event.judged_until) for event in watch.stored}
    watch.explain(calendar_of(connection, network, districts, watch.stored, as_of), as_of)
    # Whatever is still to be judged of them stays so.
    changed = [as_written(event, event.judged_until) for event in watch.stored if event.anomaly_id in watch.touched]
    write_events(connection, changed)
    last = as_of + timedelta(microseconds=1)
    return len(changed), count_events(connection, changed_spans(before, changed, last, last))


def works_to_attach(connection: Connection) -> list[list[str]]:
    """The works that are not attached to events yet, and the version of each, as a job's row holds them."""
    return [[str(row.work_id), row.changed_at.isoformat()] for row in connection.execute(_TO_ATTACH)]


def mark_attached(connection: Connection, noted: Sequence[Sequence[str]]) -> None:
    """Records that these works are attached to all events; one that was changed meanwhile is still to be attached."""
    if noted:
        bound: Mapping[str, Any] = {
            "works": [work_id for work_id, _ in noted],
            "changed": [datetime.fromisoformat(changed) for _, changed in noted],
        }
        connection.execute(_ATTACHED, bound)
