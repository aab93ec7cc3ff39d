"""One span of some nodes: read, clean, compute, write. Nothing else happens here."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from sqlalchemy import Connection, case, delete, func, insert, select
from sqlalchemy.dialects.postgresql import insert as insert_or_update

from src.db.tables import computed_metrics, ingestion_watermarks, nodes, rejected_readings
from src.db.upsert import replace_metrics
from src.domain.channels import DEFAULTS, Conventions, channels_of, described
from src.domain.counting import increments
from src.domain.days import day_start
from src.domain.metrics import TIME_WINDOWS, window_metrics
from src.domain.quality import window_quality
from src.domain.readings import EARLIEST, MEASUREMENTS, clean
from src.domain.vouching import LAG_DAYS, LEAD_DAYS
from src.processing.ingest.counting import with_counting
from src.processing.warehouse.channels import stated_channels
from src.processing.warehouse.reader import Reader

# Changes whenever the same readings would give other numbers.
COMPUTATION_VERSION = "3"
# The smallest step between instants: "up to and including" as an exclusive end.
INSTANT = timedelta(microseconds=1)


@dataclass
class Ingested:
    """What a span held: rows read, why some were set aside, windows per size, rows changed, seconds per stage.

    `touched` has the first hour (ISO 8601) of each node of which something else is known now.
    """

    readings: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    windows: Counter[str] = field(default_factory=Counter)
    rows_changed: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    touched: dict[str, str] = field(default_factory=dict)
    # What the warehouse processed for it.
    bytes_read: int = 0

    def as_summary(self) -> dict[str, Any]:
        """For a result_summary; `from_summary` reads it."""
        return {name: dict(value) if isinstance(value, dict) else value for name, value in vars(self).items()}

    @classmethod
    def from_summary(cls, summary: Mapping[str, Any]) -> Ingested:
        return cls(
            summary.get("readings", 0),
            Counter(summary.get("rejected", {})),
            Counter(summary.get("windows", {})),
            summary.get("rows_changed", 0),
            dict(summary.get("seconds", {})),
            dict(summary.get("touched", {})),
            summary.get("bytes_read", 0),
        )

    def __add__(self, other: Ingested) -> Ingested:
        return Ingested(
            self.readings + other.readings,
            self.rejected + other.rejected,
            self.windows + other.windows,
            self.rows_changed + other.rows_changed,
            {
                stage: self.seconds.get(stage, 0.0) + other.seconds.get(stage, 0.0)
                for stage in self.seconds | other.seconds
            },
            # Instants of one zone and form sort as they follow each other.
            other.touched | {node: min(at, other.touched.get(node, at)) for node, at in self.touched.items()},
            self.bytes_read + other.bytes_read,
        )


@dataclass(frozen=True)
class Span:
    """Readings of some nodes between two instants, read once, to be written together or in parts.

    The windows they make up are those of the local days from `first` on up to `end`; the readings begin some days
    before, and go on for some days after.
    """

    node_ids: list[str]
    raw: pd.DataFrame
    first: datetime
    end: datetime
    open_ended: bool
    as_of: datetime
    zone: ZoneInfo
    # What the warehouse processed for it.
    bytes_read: int
    # What the readings are taken for, and what people state besides of nodes.
    conventions: Conventions
    stated: Mapping[str, Mapping[str, Any]]

    def of(self, node_ids: Sequence[str]) -> Span:
        """The part that some of its nodes are."""
        return replace(self, node_ids=list(node_ids), raw=self.raw[self.raw["node_id"].isin(node_ids)])


def read_span(
    connection: Connection,
    reader: Reader,
    node_ids: Sequence[str],
    start: datetime,
    end: datetime,
    as_of: datetime,
    zone: ZoneInfo,
    *,
    now: datetime,
    conventions: Conventions = DEFAULTS,
    districts: Sequence[str] | None = None,
    most_readings: int | None = None,
) -> Span:
    """Reads what `write_span` needs; the nodes' rows are held until the caller's transaction ends.

    Args:
        end: exclusive; the beginning of a local day, or later than `as_of`, where what is known ends.
        as_of: the instant the job stands for. Where a later one has already been taken in, that one counts: a slow
            job never takes rows back.
        now: what a clock that ran ahead of it has taken in does not count.
        conventions: units and ranges of nodes of which nothing is stated.
        districts: as of `Reader.read`.
        most_readings: as of `Reader.read`.

    Raises:
        TooManyReadings: if there are more than `most_readings`.
        WarehouseError: if the readings cannot be had.
    """
    first = day_start(start, zone)
    open_ended = end > as_of
    # Whoever writes windows of a node holds its row from before the reading on: no older reading overwrites a newer.
    connection.execute(
        select(nodes.c.node_id)
        .where(nodes.c.node_id.in_(node_ids))
        .order_by(nodes.c.node_id)
        .with_for_update(key_share=True)
    )
    mark = ingestion_watermarks.c
    taken_in = select(func.max(mark.updated_at)).where(mark.node_id.in_(node_ids), mark.updated_at <= max(now, as_of))
    known_until = connection.scalar(taken_in) or as_of
    if known_until > as_of:
        # What came in since the job was planned may lie in a district that was not known then.
        as_of, districts = known_until, None
    if open_ended:
        end = as_of + INSTANT
    lead = day_start(first, zone, -LEAD_DAYS)
    # Readings after the end may show what flowed before it; those not known as of the job's instant do not count.
    lag = end if open_ended else min(day_start(end, zone, LAG_DAYS), as_of + INSTANT)
    read = reader.read(node_ids, lead, max(lag, end), districts=districts, most_readings=most_readings)
    stated = stated_channels(connection, node_ids)
    return Span(list(node_ids), read.frame, first, end, open_ended, as_of, zone, read.bytes_read, conventions, stated)


def write_span(connection: Connection, span: Span, *, moves_watermarks: bool = True) -> Ingested:
    """Makes the stored windows of the span's nodes, on its local days, match the readings.

    Windows and watermarks are written in the caller's transaction. Repeating it changes nothing. `computation_version`
    says how a window was computed, and under which units and ranges where these are not the product's.

    Args:
        moves_watermarks: False where the span does not begin at the watermarks: the readings in between would then
            count as read.
    """
    stages = _Stages()
    first, end = span.first, span.end
    stated = with_counting(connection, span.raw, span.stated, span.as_of)
    channels = channels_of(span.node_ids, stated, span.conventions)
    cleaned = clean(span.raw, span.as_of, first, channels, span.conventions.least_score)
    cleaned = replace(cleaned, frame=_with_increments(cleaned.frame, channels, span.zone))
    rejections = cleaned.rejections[~(cleaned.rejections["timestamp"] >= pd.Timestamp(end))]
    stages.ended("clean")
    rows = window_metrics(cleaned.frame, first, span.zone)
    # The last reading may vouch for windows that have not begun.
    wanted = (rows["reading_count"] > 0) | (rows["window_start"] < pd.Timestamp(span.as_of))
    if not span.open_ended:
        # The hour across local midnight, where the zone's offset is no whole hour, is the next span's.
        wanted &= rows["window_end"] <= pd.Timestamp(end)
    if not wanted.all():
        rows = rows[wanted]
    rows = rows.assign(quality_score=window_quality(rows, rejections))
    rows = rows.assign(computed_at=pd.Timestamp(span.as_of), computation_version=COMPUTATION_VERSION)
    if channels is not None:
        versions = dict(zip(span.node_ids, versions_of(span.node_ids, channels), strict=True))
        rows["computation_version"] = rows["node_id"].astype(str).map(versions)
    stages.ended("compute")
    first_hour = first.replace(minute=0, second=0, microsecond=0)
    spans = {name: (first_hour if name == "1hour" else first, end, span.open_ended) for name in TIME_WINDOWS}
    replaced = replace_metrics(connection, computed_metrics, rows, span.node_ids, spans)
    touched = dict(replaced.first_hours)
    for node_id, hour in _replace_rejections(connection, rejections, span.node_ids, first, end).items():
        touched[node_id] = min(hour, touched.get(node_id, hour))
    if moves_watermarks:
        until = pd.Timestamp(end)
        taken_in, valid = (frame[~(frame["timestamp"] >= until)] for frame in (span.raw, cleaned.frame))
        _advance_watermarks(connection, taken_in, valid, span.as_of)
    stages.ended("write")
    return Ingested(
        int(span.raw["timestamp"].between(pd.Timestamp(first), pd.Timestamp(end), inclusive="left").sum()),
        Counter({str(reason): count for reason, count in rejections["reason"].value_counts().items()}),
        Counter({str(name): int(count) for name, count in rows["time_window"].value_counts().items() if count}),
        replaced.rows,
        stages.seconds,
        {node_id: hour.astimezone(UTC).isoformat() for node_id, hour in touched.items()},
    )


def _with_increments(frame: pd.DataFrame, channels: pd.DataFrame | None, zone: ZoneInfo) -> pd.DataFrame:
    """Readings in which volumes that are registers' readings are what flowed since the previous one; is_register says
    where one was read."""
    if channels is None or "volume_counter" not in channels:
        return frame
    row = np.flatnonzero(frame["node_id"].isin(channels.index[channels["volume_counter"]]))
    if not len(row):
        return frame
    raw = frame.iloc[row]
    amounts = increments(
        raw["node_id"].cat.codes.to_numpy().astype(np.int64),
        raw["timestamp"].to_numpy(dtype="datetime64[us]").astype(np.int64),
        raw["timestamp"].dt.tz_convert(zone).dt.tz_localize(None).to_numpy().astype("datetime64[D]").astype(np.int64),
        raw["volume"].to_numpy(dtype="float64"),
    )
    volume = frame["volume"].to_numpy(dtype="float64", copy=True)
    is_register = np.zeros(len(frame), dtype=bool)
    is_register[row] = raw["volume"].notna()
    volume[row] = amounts
    return frame.assign(volume=volume, is_register=is_register)


def versions_of(node_ids: Sequence[str], channels: pd.DataFrame | None) -> list[str]:
    """How windows of these nodes are computed, as text: another text, other numbers."""
    return [f"{COMPUTATION_VERSION} {text}".strip() for text in described(channels, node_ids)]


class _Stages:
    """Seconds spent since the previous stage ended, by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def ended(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] = now - self._since
        self._since = now


def _replace_rejections(
    connection: Connection, rejections: pd.DataFrame, node_ids: Sequence[str], first: datetime, end: datetime
) -> dict[str, datetime]:
    """Makes the stored counts of readings set aside within [first, end) equal these; the first hour of each node whose
    counts were different."""
    column = rejected_readings.c
    within = (column.node_id.in_(node_ids), column.quarter_start >= first, column.quarter_start < end)
    stored = {
        (found.node_id, found.quarter_start, found.reason): (found.readings, found.lowest, found.highest)
        for found in connection.execute(select(rejected_readings).where(*within))
    }
    # What belongs to no node or no time is counted in the job.
    placed = rejections[rejections["node_id"].isin(node_ids) & rejections["timestamp"].ge(pd.Timestamp(first))]
    quarters = placed.assign(quarter_start=placed["timestamp"].dt.floor("15min"), node_id=placed["node_id"].astype(str))
    counts = quarters.groupby(["node_id", "quarter_start", "reason"])["value"].agg(["size", "min", "max"])
    counted: dict[tuple[str, datetime, str], tuple[int, float | None, float | None]] = {
        (row["node_id"], row["quarter_start"].to_pydatetime(), row["reason"]): (
            int(row["size"]),
            float(row["min"]) if np.isfinite(row["min"]) else None,
            float(row["max"]) if np.isfinite(row["max"]) else None,
        )
        for row in counts.reset_index().to_dict("records")
    }
    different = {key for key in stored.keys() | counted.keys() if stored.get(key) != counted.get(key)}
    touched: dict[str, datetime] = {}
    for node_id, quarter, _ in different:
        hour = quarter.replace(minute=0)
        touched[node_id] = min(hour, touched.get(node_id, hour))
    if different:
        connection.execute(delete(rejected_readings).where(*within, column.node_id.in_(sorted(touched))))
        rows = [
            {
                "node_id": node_id,
                "quarter_start": quarter,
                "reason": reason,
                "readings": readings,
                "lowest": lowest,
                "highest": highest,
            }
            for (node_id, quarter, reason), (readings, lowest, highest) in counted.items()
            if node_id in touched
        ]
        if rows:
            connection.execute(insert(rejected_readings), rows)
    return touched


def _advance_watermarks(connection: Connection, raw: pd.DataFrame, readings: pd.DataFrame, as_of: datetime) -> None:
    """Moves each node's watermark to its latest row and its latest valid reading, never back."""
    placed = raw[raw["timestamp"].between(pd.Timestamp(EARLIEST), pd.Timestamp(as_of))]
    last_row = placed.groupby("node_id", observed=True)["timestamp"].max()
    if last_row.empty:
        return
    last_reading = readings.groupby("node_id", observed=True)["timestamp"].max().to_dict()
    last_of_each: dict[Any, pd.Timestamp] = {}
    for name in MEASUREMENTS:
        measured = readings[readings[name].notna()].groupby("node_id", observed=True)["timestamp"].max()
        for node_id, instant in measured.items():
            last_of_each[node_id] = min(instant, last_of_each.get(node_id, instant))
    statement = insert_or_update(ingestion_watermarks).values(
        [
            {
                "node_id": node_id,
                "last_row": instant,
                "last_reading": last_reading.get(node_id),
                "last_of_each": last_of_each.get(node_id),
                "updated_at": as_of,
            }
            for node_id, instant in last_row.items()
        ]
    )
    stored, new = ingestion_watermarks.c, statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[stored.node_id],
            set_={
                "last_row": func.greatest(stored.last_row, new.last_row),
                "last_reading": func.greatest(stored.last_reading, new.last_reading),
                "last_of_each": case((new.last_row >= stored.last_row, new.last_of_each), else_=stored.last_of_each),
                "updated_at": new.updated_at,
            },
        )
    )
