"""Raw sensor readings made clean: in one unit each; what is impossible is set aside and counted by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.domain.names import problem_of_name
from src.domain.placeholders import is_placeholder
from src.domain.units import conversion, converted

MEASUREMENTS = ("flow_rate", "pressure", "temperature", "volume")
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)

# What is possible. Flow L/s, in the direction in which a meter counts. Pressure bar: mains are built for 10 or 16, in
# hilly towns for 25 (PN 25), and bear no more for long. Temperature °C, of water or of a sensor in an open chamber.
# Volume m³ has no upper limit of its own: it grows with the time since the previous reading.
VALID_RANGE = {
    "flow_rate": (0.0, 10_000.0),
    "pressure": (0.0, 25.0),
    "temperature": (-30.0, 60.0),
    "volume": (0.0, np.inf),
}
# Readings whose score in the warehouse is lower are set aside.
LEAST_SCORE = 0.5
# Rows set aside as a whole, of which the sensor is the cause; other reasons name the measurement that was set aside.
ROWS_SET_ASIDE = ("conflicting", "no_valid_measurement", "low_quality_score")


def measurement_of(reason: str) -> str | None:
    """The measurement whose value a reason sets aside; None where the reason concerns a row."""
    return next((name for name in MEASUREMENTS if reason.startswith(f"{name}_")), None)


@dataclass(frozen=True)
class CleanReadings:
    """Readings in order of (node_id, timestamp), one per instant, and why others were set aside.

    `frame` has the columns node_id, timestamp (datetime64[us, UTC]), flow_rate L/s, pressure bar, temperature °C,
    volume m³ since the previous reading (float64, NaN where missing or rejected); `rejections` a row per row or value
    set aside: node_id, timestamp, reason, whether with it nothing is left of that reading (is_lost), and the value
    (in the product's unit, a placeholder as it came; NaN where a row was set aside).
    """

    frame: pd.DataFrame
    rejections: pd.DataFrame

    @property
    def rejected(self) -> Counter[str]:
        """How many were set aside for what reason."""
        return Counter({str(reason): count for reason, count in self.rejections["reason"].value_counts().items()})


def clean(
    raw: pd.DataFrame,
    as_of: datetime,
    counted_from: datetime | None = None,
    channels: pd.DataFrame | None = None,
    least_score: float = LEAST_SCORE,
) -> CleanReadings:
    """Brings values into the product's units, and sets impossible rows and values aside.

    Rows go where node_id is empty or no name of a node, the timestamp is missing, before 2000 or after `as_of`, where
    another row for the same node and instant arrived later (`conflicting` where the two disagree, else `duplicate`),
    where the collector filled them in (`interpolated`) or trusts them less than `least_score` (`low_quality_score`), or
    where they hold no value (`no_valid_measurement`). Values go where they stand for no measurement (`placeholder`),
    are infinite or outside the range of their channel; a missing value is no rejection. Each is counted once: a row
    whose values are all set aside is no reason of its own.

    What is set aside depends on the reading and its channel alone, never on what else is read with it.

    Args:
        raw: any order, any index; columns node_id, timestamp, the measurements and ingestion_timestamp; is_interpolated
            (bool) and data_quality_score (0..1, NaN: not known) where the warehouse has them.
        as_of: the instant the cycle stands for; later readings wait for their time to come.
        counted_from: earlier rows are context that another span counts; None counts all.
        channels: what is known of channels, as of `channels.channels_of`: index node_id, any of {measurement}_unit
            (None: the product's) and {measurement}_low, {measurement}_high in the product's unit (NaN: `VALID_RANGE`).
            A low below zero is a meter that measures both ways. Nodes that are not in it have the defaults.
        least_score: readings with a lower score are set aside; 0 keeps all.
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
    frame = _without(frame, row_checks, rejected)
    frame = _one_per_instant(frame, rejected)
    # The latest row of an instant counts: what the collector took back does not come to life again.
    collected: tuple[tuple[str, str, Callable[[pd.DataFrame], pd.Series[bool]]], ...] = (
        ("interpolated", "is_interpolated", lambda f: f["is_interpolated"]),
        ("low_quality_score", "data_quality_score", lambda f: f["data_quality_score"] < least_score),
    )
    checks = tuple((reason, bad) for reason, column, bad in collected if column in frame)
    frame = _without(frame, checks, rejected, is_lost=True)

    columns: dict[str, object] = {"node_id": frame["node_id"], "timestamp": frame["timestamp"]}
    any_valid, any_given = np.zeros(len(frame), dtype=bool), np.zeros(len(frame), dtype=bool)
    set_aside: list[tuple[str, npt.NDArray[np.intp], npt.NDArray[np.float64]]] = []
    node = frame["node_id"].cat.codes.to_numpy()
    for name in MEASUREMENTS:
        figures = frame[name].to_numpy(dtype="float64", na_value=np.nan)
        channel = _Channel(name, channels, frame["node_id"].cat.categories, node)
        values = channel.converted(figures)
        outside = (values < channel.low) | (values > channel.high) | np.isinf(values)
        placeholder = channel.without_registers(is_placeholder(figures, outside))
        given = ~np.isnan(figures)
        any_given |= given
        if placeholder is not None or outside.any():
            unfit = outside if placeholder is None else outside | placeholder
            for reason, rows in channel.reasons(values, np.flatnonzero(unfit), placeholder):
                set_aside.append((reason, rows, (figures if reason.endswith("placeholder") else values)[rows]))
            values, given = np.where(unfit, np.nan, values), given & ~unfit
        columns[name] = values
        any_valid |= given
    for reason, rows, what in set_aside:
        rejected.add(reason, frame.iloc[rows], ~any_valid[rows], what)
    cleaned = pd.DataFrame(columns)
    if not any_valid.all():
        if not any_given.all():
            rejected.add("no_valid_measurement", frame[~any_given], is_lost=True)
        cleaned = cleaned[any_valid]
    return CleanReadings(cleaned.reset_index(drop=True), rejected.listed())


def _without(
    frame: pd.DataFrame,
    checks: tuple[tuple[str, Callable[[pd.DataFrame], pd.Series[bool]]], ...],
    rejected: _Rejections,
    *,
    is_lost: bool = False,
) -> pd.DataFrame:
    """The rows that no check finds bad; the others are counted under the first reason that finds them."""
    for reason, bad in checks:
        mask = bad(frame).to_numpy(dtype=bool)
        if mask.any():
            rejected.add(reason, frame[mask], is_lost=is_lost)
            frame = frame[~mask]
    return frame


class _Channel:
    """One measurement of many rows: its units and range, the same for all or those of each row's node."""

    def __init__(
        self, name: str, channels: pd.DataFrame | None, nodes: pd.Index, node: npt.NDArray[np.integer[Any]]
    ) -> None:
        self._name, self._nodes, self._node = name, nodes, node
        self._known = channels if channels is None else channels.reindex(nodes)
        low, high = VALID_RANGE[name]
        self.low: float | npt.NDArray[np.float64] = self._edge("low", low)
        self.high: float | npt.NDArray[np.float64] = self._edge("high", high)

    def _edge(self, edge: str, default: float) -> float | npt.NDArray[np.float64]:
        column = f"{self._name}_{edge}"
        if self._known is None or column not in self._known:
            return default
        of_node = self._known[column].fillna(default).to_numpy(dtype="float64")
        return np.asarray(of_node[self._node])

    def converted(self, figures: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        column = f"{self._name}_unit"
        if self._known is None or column not in self._known:
            return figures
        conversions = [conversion(self._name, unit) if isinstance(unit, str) else None for unit in self._known[column]]
        return converted(figures, conversions, self._node)

    def without_registers(self, placeholder: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_] | None:
        """A register passes by every figure, also by those that otherwise stand for nothing."""
        if placeholder is None or self._name != "volume" or self._known is None or "volume_counter" not in self._known:
            return placeholder
        is_register = self._known["volume_counter"].fillna(False).to_numpy(dtype=bool)
        return np.asarray(placeholder & ~is_register[self._node])

    def reasons(
        self, values: npt.NDArray[np.float64], rows: npt.NDArray[np.intp], placeholder: npt.NDArray[np.bool_] | None
    ) -> list[tuple[str, npt.NDArray[np.intp]]]:
        """Why the values of these rows are unfit, and which rows for what reason."""
        low = self.low if isinstance(self.low, float) else self.low[rows]
        bad = values[rows]
        stands_for_nothing = np.zeros(len(rows), dtype=bool) if placeholder is None else placeholder[rows]
        is_low = np.isfinite(bad) & (bad < low) & ~stands_for_nothing
        negative = is_low & (np.asarray(low) == 0)
        infinite = np.isinf(bad) & ~stands_for_nothing
        found = {
            "placeholder": stands_for_nothing,
            "infinite": infinite,
            "negative": negative,
            "too_low": is_low & ~negative,
            "too_high": ~(stands_for_nothing | infinite | is_low),
        }
        return [(f"{self._name}_{reason}", rows[mask]) for reason, mask in found.items() if mask.any()]


class _Rejections:
    """What was set aside for what reason, of that which is to be counted."""

    def __init__(self, counted_from: datetime | None) -> None:
        self._counted_from = counted_from
        self._parts: list[pd.DataFrame] = []

    def add(
        self,
        reason: str,
        rows: pd.DataFrame,
        is_lost: bool | npt.NDArray[np.bool_] = False,
        values: float | npt.NDArray[np.float64] = np.nan,
    ) -> None:
        """Lists rows set aside; one without a timestamp belongs to every span.

        Args:
            is_lost: whether nothing else is left of the reading, of all rows or of each.
            values: what was set aside of each; NaN: the whole row.
        """
        listed = rows[["node_id", "timestamp"]].assign(reason=reason, is_lost=is_lost, value=values)
        if self._counted_from is not None:
            listed = listed[~(listed["timestamp"] < pd.Timestamp(self._counted_from))]
        self._parts.append(listed)

    def listed(self) -> pd.DataFrame:
        if not self._parts:
            nothing = {"node_id": [], "timestamp": pd.DatetimeIndex([], tz="UTC"), "reason": []}
            return pd.DataFrame(nothing | {"is_lost": pd.Series(dtype=bool), "value": pd.Series(dtype="float64")})
        return pd.concat(self._parts, ignore_index=True)


def _one_per_instant(frame: pd.DataFrame, rejected: _Rejections) -> pd.DataFrame:
    """The frame sorted by node and instant; of rows for one instant the one with the latest arrival stays.

    Where even the arrivals tie, what was measured goes before what was filled in, and then the values decide, so that
    the order in which rows were read never matters.
    """
    node = frame["node_id"].cat.codes.to_numpy()
    instant = frame["timestamp"].to_numpy(dtype="datetime64[us]")
    order = np.lexsort((instant, node))
    frame, node, instant = frame.iloc[order], node[order], instant[order]
    same_as_next = np.append((node[1:] == node[:-1]) & (instant[1:] == instant[:-1]), False)
    repeated = same_as_next | np.roll(same_as_next, 1)
    if not repeated.any():
        return frame
    contested = frame[repeated]
    filled_in = contested["is_interpolated"] if "is_interpolated" in frame else pd.Series(False, contested.index)
    scores = contested["data_quality_score"] if "data_quality_score" in frame else pd.Series(np.nan, contested.index)
    ranked = contested.assign(_measured=~filled_in.to_numpy(dtype=bool), _score=scores.to_numpy(dtype="float64"))
    ranked = ranked.sort_values(
        ["node_id", "timestamp", "ingestion_timestamp", "_measured", *MEASUREMENTS, "_score"],
        na_position="first",
        kind="stable",
    )
    losers = ranked.duplicated(["node_id", "timestamp"], keep="last")
    agreeing = ranked.duplicated(["node_id", "timestamp", *MEASUREMENTS], keep="last")
    # What was filled in until the reading came does not contradict it.
    rejected.add("interpolated", ranked[losers & ~agreeing & ~ranked["_measured"]])
    rejected.add("duplicate", ranked[losers & agreeing])
    rejected.add("conflicting", ranked[losers & ~agreeing & ranked["_measured"]])
    left = ranked[~losers].drop(columns=["_measured", "_score"])
    return pd.concat([frame[~repeated], left]).sort_values(["node_id", "timestamp"], kind="stable")
