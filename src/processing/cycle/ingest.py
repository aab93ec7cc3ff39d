"""One span of some nodes: read, clean, compute, write. Nothing else happens here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
from sqlalchemy import Connection, Engine, func
from sqlalchemy.dialects.postgresql import insert

from src.db.tables import computed_metrics, ingestion_watermarks
from src.db.upsert import replace_metrics
from src.domain.days import day_start
from src.domain.metrics import LEAD_DAYS, TIME_WINDOWS, window_metrics
from src.domain.readings import clean
from src.processing.warehouse.reader import Reader

# Changes whenever the same readings would give other numbers.
COMPUTATION_VERSION = "1"


@dataclass(frozen=True)
class Ingested:
    """What one span held: rows read, why some were set aside, windows per size, and how many rows changed."""

    readings_read: int
    rejected: Counter[str]
    windows: Counter[str]
    rows_changed: int


def ingest_span(
    database: Engine, reader: Reader, node_ids: Sequence[str], start: datetime, as_of: datetime, zone: ZoneInfo
) -> Ingested:
    """Makes the stored windows of these nodes, from the local day of `start` on, say what readings up to `as_of` say.

    Windows and watermarks are written in one transaction: all of it or nothing. Repeating it changes nothing.

    Raises:
        WarehouseError: if the readings cannot be had; nothing was written.
    """
    first = day_start(start, zone)
    # `as_of` itself is included: the reader's end is exclusive, and instants are whole microseconds.
    raw = reader.read(node_ids, day_start(first, zone, -LEAD_DAYS), as_of + timedelta(microseconds=1))
    cleaned = clean(raw, as_of)
    rows = window_metrics(cleaned.frame, first, zone).assign(
        computed_at=pd.Timestamp(as_of), computation_version=COMPUTATION_VERSION
    )
    # The hour that straddles local midnight, where the zone's offset is no whole hour, begins before the day.
    first_hour = first.replace(minute=0, second=0, microsecond=0)
    spans = {name: first_hour if name == "1hour" else first for name in TIME_WINDOWS}
    with database.begin() as connection:
        changed = replace_metrics(connection, computed_metrics, rows, node_ids, spans)
        _advance_watermarks(connection, cleaned.frame, as_of)
    return Ingested(len(raw), cleaned.rejected, Counter(rows["time_window"].astype(str)), changed)


def _advance_watermarks(connection: Connection, readings: pd.DataFrame, as_of: datetime) -> None:
    """Moves each node's watermark to its latest reading, never back."""
    latest = readings.groupby("node_id", observed=True)["timestamp"].max()
    if latest.empty:
        return
    statement = insert(ingestion_watermarks).values(
        [
            {"node_id": node_id, "last_reading": instant.to_pydatetime(), "updated_at": as_of}
            for node_id, instant in latest.items()
        ]
    )
    kept, new = ingestion_watermarks.c, statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[kept.node_id],
            set_={"last_reading": func.greatest(kept.last_reading, new.last_reading), "updated_at": new.updated_at},
        )
    )
