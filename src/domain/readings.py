"""Raw sensor readings made clean: what is impossible is set aside and counted by reason, nothing is lost silently."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from src.domain.names import problem_of_name

MEASUREMENTS = ("flow_rate", "pressure", "temperature", "volume")
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)

# Physical limits: flow L/s and pressure bar as the warehouse documents them; temperature °C of water or of a sensor
# in an open chamber. Volume has no upper limit of its own: it grows with the time since the previous reading.
VALID_RANGE = {
    "flow_rate": (0.0, 10_000.0),
    "pressure": (0.0, 10.0),
    "temperature": (-30.0, 60.0),
    "volume": (0.0, np.inf),
}


@dataclass(frozen=True)
class CleanReadings:
    """Readings in order of (node_id, timestamp), one per instant, and why others were set aside.

    `frame` has the columns node_id, timestamp (datetime64[us, UTC]), flow_rate L/s, pressure bar, temperature °C,
    volume m³ since the previous reading (float64, NaN where missing or rejected); `rejections` a row per row or value
    set aside: node_id, timestamp, reason.
    """

    frame: pd.DataFrame
    rejections: pd.DataFrame

    @property
    def rejected(self) -> Counter[str]:
        """How many were set aside for what reason."""
        return Counter({str(reason): count for reason, count in self.rejections["reason"].value_counts().items()})


def clean(raw: pd.DataFrame, as_of: datetime, counted_from: datetime | None = None) -> CleanReadings:
    """Sets impossible rows and values aside.

    Rows go where node_id is empty or no name of a node, the timestamp is missing, before 2000 or after `as_of`, where
    another row for the same node and instant arrived later (`conflicting` where the two disagree, else `duplicate`),
    or no valid measurement remains. Values go where they are infinite or outside `VALID_RANGE`; a missing value is no
    rejection.

    Args:
        raw: any order, any index; columns node_id, timestamp, the measurements and ingestion_timestamp.
        as_of: the instant the cycle stands for; later readings wait for their time to come.
        counted_from: earlier rows are context that another span counts; None counts all.
    """
    rejected = _Rejections(counted_from)
    # Categories sort and compare as integers: a million names cost what a thousand do.
    frame = raw.assign(node_id=raw["node_id"].astype("category"))
    row_checks: tuple[tuple[str, Callable[[pd.DataFrame], pd.Series[bool]]], ...] = (
        ("empty_node_id", lambda f: f["node_id"].map(str.strip, na_action="ignore").isin(["", np.nan])),
        ("invalid_node_id", lambda f: f["node_id"].map(problem_of_name, na_action="ignore").notna()),
        ("missing_timestamp", lambda f: f["timestamp"].isna()),
        ("timestamp_before_2000", lambda f: f["timestamp"] < EARLIEST),
        ("timestamp_in_future", lambda f: f["timestamp"] > as_of),
    )
    for reason, bad in row_checks:
        mask = bad(frame).to_numpy(dtype=bool)
        if mask.any():
            rejected.add(reason, frame[mask])
            frame = frame[~mask]

    frame = _one_per_instant(frame, rejected)

    columns: dict[str, object] = {"node_id": frame["node_id"], "timestamp": frame["timestamp"]}
    any_valid = np.zeros(len(frame), dtype=bool)
    for name in MEASUREMENTS:
        values = frame[name].to_numpy(dtype="float64", na_value=np.nan)
        low, high = VALID_RANGE[name]
        present = ~np.isnan(values)
        for reason, mask in (
            ("infinite", np.isinf(values)),
            ("negative" if low == 0 else "too_low", np.isfinite(values) & (values < low)),
            ("too_high", np.isfinite(values) & (values > high)),
        ):
            if mask.any():
                rejected.add(f"{name}_{reason}", frame[mask])
                present &= ~mask
        columns[name] = np.where(present, values, np.nan)
        any_valid |= present
    cleaned = pd.DataFrame(columns)
    if not any_valid.all():
        rejected.add("no_valid_measurement", frame[~any_valid])
        cleaned = cleaned[any_valid]
    return CleanReadings(cleaned.reset_index(drop=True), rejected.listed())


class _Rejections:
    """What was set aside for what reason, of that which is to be counted."""

    def __init__(self, counted_from: datetime | None) -> None:
        self._counted_from = counted_from
        self._parts: list[pd.DataFrame] = []

    def add(self, reason: str, rows: pd.DataFrame) -> None:
        """Lists rows set aside; one without a timestamp belongs to every span."""
        if self._counted_from is not None:
            rows = rows[~(rows["timestamp"] < pd.Timestamp(self._counted_from))]
        self._parts.append(rows[["node_id", "timestamp"]].assign(reason=reason))

    def listed(self) -> pd.DataFrame:
        if not self._parts:
            return pd.DataFrame({"node_id": [], "timestamp": pd.DatetimeIndex([], tz="UTC"), "reason": []})
        return pd.concat(self._parts, ignore_index=True)


def _one_per_instant(frame: pd.DataFrame, rejected: _Rejections) -> pd.DataFrame:
    """The frame sorted by node and instant; of rows for one instant the one with the latest arrival stays.

    Where even the arrivals tie, the values decide, so that the order in which rows were read never matters.
    """
    node = frame["node_id"].cat.codes.to_numpy()
    instant = frame["timestamp"].to_numpy(dtype="datetime64[us]")
    order = np.lexsort((instant, node))
    frame, node, instant = frame.iloc[order], node[order], instant[order]
    same_as_next = np.append((node[1:] == node[:-1]) & (instant[1:] == instant[:-1]), False)
    repeated = same_as_next | np.roll(same_as_next, 1)
    if not repeated.any():
        return frame
    contested = frame[repeated].sort_values(
        ["node_id", "timestamp", "ingestion_timestamp", *MEASUREMENTS], na_position="first", kind="stable"
    )
    losers = contested.duplicated(["node_id", "timestamp"], keep="last")
    agreeing = contested.duplicated(["node_id", "timestamp", *MEASUREMENTS], keep="last")
    rejected.add("duplicate", contested[losers & agreeing])
    rejected.add("conflicting", contested[losers & ~agreeing])
    return pd.concat([frame[~repeated], contested[~losers]]).sort_values(["node_id", "timestamp"], kind="stable")
