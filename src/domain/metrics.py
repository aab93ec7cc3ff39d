"""Window metrics: 5min from readings, 1hour and 1day merged exactly from the 5min rows.

Everything is computed over all nodes at once. What a window says depends only on the readings of its local day and of
the day before, never on how many were read together, so that any chunking and any re-run gives the same bits.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.domain.cadence import cadence_by_day
from src.domain.days import day_starts, epoch_microseconds

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
# Columns of one window size, all of one length.
Arrays = dict[str, npt.NDArray[Any]]

SECOND = 1_000_000
FIVE_MINUTES, HOUR = 300 * SECOND, 3600 * SECOND
TIME_WINDOWS = ("5min", "1hour", "1day")
# Local days before the first wanted window that must be read with it.
LEAD_DAYS = 1

# Measurement -> the stem of its columns, in the order of the table.
_MEASURED = {"flow_rate": "flow", "pressure": "pressure", "temperature": "temperature"}

# A reading vouches for the flow since the one before it, up to this many cadences and this long; after a longer gap
# nobody knows what flowed, and it vouches for one cadence.
GAP_CADENCES = 3
GAP_SECONDS = 23 * 3600

COLUMNS = [
    "node_id", "time_window", "window_start", "window_end",
    "avg_flow_rate", "min_flow_rate", "max_flow_rate", "flow_variance", "total_volume",
    "avg_pressure", "min_pressure", "max_pressure", "pressure_variance",
    "avg_temperature", "min_temperature", "max_temperature", "temperature_variance",
    "max_flow_change", "max_flow_spike", "max_pressure_change", "max_pressure_spike",
    "max_temperature_change", "max_temperature_spike",
    "reading_count", "flow_count", "pressure_count", "temperature_count",
    "cadence_seconds", "data_completeness",
]  # fmt: skip


def window_metrics(readings: pd.DataFrame, start: datetime, zone: ZoneInfo) -> pd.DataFrame:
    """All three window sizes of all nodes from clean readings.

    Args:
        readings: `CleanReadings.frame`, holding every reading of each local day from `LEAD_DAYS` before `start` on.
        start: the beginning of a local day; windows that end before or at it are context and not returned.
        zone: the utility's time zone; 1day windows are its local days of 23, 24 or 25 hours.

    Returns:
        Columns `COLUMNS`, one row per window with at least one reading: flow L/s, pressure bar, temperature °C,
        total_volume m³, variances as sample variances (n - 1; NaN for a single value), data_completeness in % of the
        readings that the node's own cadence promises (NaN where it is unknown); window_end is exclusive.

        Of hours and days also max_*_change, the largest step between a reading and the one before it, and
        max_*_spike, the largest step that the very next reading took back (0: none; NaN: no readings that follow each
        other within `GAP_CADENCES`).
    """
    if readings.empty:
        instants = dict.fromkeys(("window_start", "window_end"), "datetime64[us, UTC]")
        counts = {name: "int64" for name in COLUMNS if name.endswith("_count")}
        kinds: dict[str, Any] = dict.fromkeys(COLUMNS, "float64") | counts | instants
        kinds |= {"node_id": "category", "time_window": pd.CategoricalDtype(pd.Index(TIME_WINDOWS))}
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in kinds.items()})
    nodes = readings["node_id"].astype("category")
    node: Integers = nodes.cat.codes.to_numpy().astype(np.int64)
    instant = readings["timestamp"].to_numpy(dtype="datetime64[us]").astype(np.int64)
    starts = epoch_microseconds(
        day_starts(readings["timestamp"].min().to_pydatetime(), readings["timestamp"].max().to_pydatetime(), zone)
    )
    day = (np.searchsorted(starts, instant, side="right") - 1).astype(np.int64)
    node_day = node * (len(starts) + 1) + day

    elapsed = _seconds_since_previous(node, instant)
    elapsed[instant - elapsed * SECOND < starts[np.maximum(day - 1, 0)]] = np.nan
    days, cadences = cadence_by_day(node_day, elapsed)
    cadence = cadences[np.searchsorted(days, node_day)]

    # A reading and the two before it: are they one uninterrupted piece of the same signal?
    follows = elapsed <= np.minimum(GAP_CADENCES * cadence, GAP_SECONDS)
    second_before = np.concatenate([instant[:2], instant[:-2]])[: len(instant)]
    in_sight = second_before >= starts[np.maximum(day - 1, 0)]
    follows_two = follows & np.concatenate([[False], follows[:-1]]) & in_sight

    five = _five_minute(readings, node, instant, day, cadence)
    for measurement, stem in _MEASURED.items():
        values = readings[measurement].to_numpy(dtype="float64")
        five |= _steps(stem, values, follows, follows_two, five["first_reading"])
    hours = _rolled_up(five, five["window_start"] // HOUR)
    hours["window_start"] = hours["window_start"] // HOUR * HOUR
    hours["window_end"] = hours["window_start"] + HOUR
    daily = _rolled_up(five, five["day"])
    daily["window_start"], daily["window_end"] = starts[daily["day"]], starts[daily["day"] + 1]

    first = epoch_microseconds([start])[0]
    parts = []
    for name, part in zip(TIME_WINDOWS, (five, hours, daily), strict=True):
        kept = part["window_end"] > first
        parts.append({column: values[kept] for column, values in part.items() if column != "first_reading"})
        if name == "5min":
            # Five minutes hold too few readings for steps to mean much, and are many rows.
            count = int(kept.sum())
            parts[-1] |= {column: np.full(count, np.nan) for column in part if column.endswith(("change", "spike"))}
        parts[-1]["time_window"] = np.full(int(kept.sum()), TIME_WINDOWS.index(name), dtype=np.int8)
    merged = {column: np.concatenate([part[column] for part in parts]) for column in parts[0]}
    return _as_frame(merged, nodes.cat.categories)


def _seconds_since_previous(node: Integers, instant: Integers) -> Floats:
    """Seconds since the previous row of the same node; NaN for each node's first."""
    seconds = np.full(len(node), np.nan)
    same = node[1:] == node[:-1]
    seconds[1:][same] = (instant[1:] - instant[:-1])[same] / SECOND
    return seconds


def _volumes(readings: pd.DataFrame, node: Integers, instant: Integers, cadence: Floats) -> Floats:
    """m³ each reading accounts for: its own volume, else its flow over the time since the previous such reading."""
    volume = readings["volume"].to_numpy(dtype="float64").copy()
    flow = readings["flow_rate"].to_numpy(dtype="float64")
    accounting = ~(np.isnan(volume) & np.isnan(flow))
    elapsed = np.full(len(volume), np.nan)
    elapsed[accounting] = _seconds_since_previous(node[accounting], instant[accounting])
    known = elapsed <= np.minimum(GAP_CADENCES * cadence, GAP_SECONDS)
    integrated = flow * np.where(known, elapsed, cadence) / 1000
    return np.where(np.isnan(volume), integrated, volume)


def _five_minute(readings: pd.DataFrame, node: Integers, instant: Integers, day: Integers, cadence: Floats) -> Arrays:
    window = instant // FIVE_MINUTES
    starts = _group_starts(node, window)
    sizes = np.diff(np.append(starts, len(node)))
    result: Arrays = {
        "node": node[starts],
        "day": day[starts],
        "window_start": window[starts] * FIVE_MINUTES,
        "window_end": (window[starts] + 1) * FIVE_MINUTES,
        "cadence_seconds": cadence[starts],
        "first_reading": starts,
        "reading_count": sizes,
        "total_volume": _sum_of_known(_volumes(readings, node, instant, cadence), starts),
    }
    for measurement, stem in _MEASURED.items():
        values = readings[measurement].to_numpy(dtype="float64")
        present = ~np.isnan(values)
        zeroed = np.where(present, values, 0.0)
        count = np.add.reduceat(present.astype(np.int64), starts)
        with np.errstate(invalid="ignore"):
            mean = np.add.reduceat(zeroed, starts) / np.where(count, count, np.nan)
        deviation = np.where(present, values - np.repeat(mean, sizes), 0.0)
        result |= _statistics(
            measurement, stem, count, mean, np.add.reduceat(deviation * deviation, starts),
            np.fmin.reduceat(values, starts), np.fmax.reduceat(values, starts),
        )  # fmt: skip
    return result


def _rolled_up(rows: Arrays, key: Integers) -> Arrays:
    """Rows of one node with one `key` merged into one, as if computed from all their readings at once.

    Means and sums of squared deviations are merged as in Chan, Golub, LeVeque (1979), all parts in one pass around the
    merged mean, which loses no digits to cancellation.
    """
    starts = _group_starts(rows["node"], key)
    sizes = np.diff(np.append(starts, len(key)))
    result: Arrays = {name: rows[name][starts] for name in ("node", "day", "window_start", "cadence_seconds")}
    result["window_end"] = result["window_start"]
    result["reading_count"] = np.add.reduceat(rows["reading_count"], starts)
    result["total_volume"] = _sum_of_known(rows["total_volume"].astype(np.float64), starts)
    for measurement, stem in _MEASURED.items():
        counts = rows[f"{stem}_count"].astype(np.int64)
        means = np.where(counts, rows[f"avg_{measurement}"], 0.0)
        within = np.where(counts > 1, rows[f"{stem}_variance"] * (counts - 1), 0.0)
        count = np.add.reduceat(counts, starts)
        with np.errstate(invalid="ignore"):
            mean = np.add.reduceat(counts * means, starts) / np.where(count, count, np.nan)
        between = np.where(counts, counts * (means - np.repeat(mean, sizes)) ** 2, 0.0)
        result |= _statistics(
            measurement, stem, count, mean, np.add.reduceat(within + between, starts),
            np.fmin.reduceat(rows[f"min_{measurement}"], starts), np.fmax.reduceat(rows[f"max_{measurement}"], starts),
        )  # fmt: skip
        for kind in ("change", "spike"):
            result[f"max_{stem}_{kind}"] = np.fmax.reduceat(rows[f"max_{stem}_{kind}"], starts)
    return result


def _steps(
    stem: str, values: Floats, follows: npt.NDArray[np.bool_], follows_two: npt.NDArray[np.bool_], starts: Integers
) -> Arrays:
    """The largest step between readings that follow each other, and the largest taken back at once, per group."""
    step = np.full(len(values), np.nan)
    step[1:] = values[1:] - values[:-1]
    step[~follows] = np.nan
    before = np.concatenate([[np.nan], step[:-1]])
    taken_back = np.where(step * before < 0, np.minimum(np.abs(step), np.abs(before)), 0.0)
    taken_back[~follows_two | np.isnan(step) | np.isnan(before)] = np.nan
    return {
        f"max_{stem}_change": np.fmax.reduceat(np.abs(step), starts),
        f"max_{stem}_spike": np.fmax.reduceat(taken_back, starts),
    }


def _group_starts(node: npt.NDArray[Any], key: npt.NDArray[Any]) -> Integers:
    return np.flatnonzero(np.concatenate([[True], (node[1:] != node[:-1]) | (key[1:] != key[:-1])]))


def _sum_of_known(values: Floats, starts: Integers) -> Floats:
    """Sums per group over what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    sums = np.add.reduceat(np.where(known, values, 0.0), starts)
    return np.where(np.add.reduceat(known.astype(np.int64), starts) > 0, sums, np.nan)


def _statistics(
    measurement: str, stem: str, count: Integers, mean: Floats, squares: Floats, low: Floats, high: Floats
) -> Arrays:
    return {
        f"{stem}_count": count,
        f"avg_{measurement}": mean,
        f"min_{measurement}": low,
        f"max_{measurement}": high,
        f"{stem}_variance": np.where(count > 1, squares / np.maximum(count - 1, 1), np.nan),
    }


def _as_frame(columns: Arrays, node_ids: pd.Index) -> pd.DataFrame:
    seconds = (columns["window_end"] - columns["window_start"]) / SECOND
    promised = np.maximum(seconds / columns["cadence_seconds"], 1.0)
    columns["data_completeness"] = np.minimum(100.0, 100.0 * columns["reading_count"] / promised)
    for edge in ("window_start", "window_end"):
        columns[edge] = columns[edge].astype("datetime64[us]")
    frame = pd.DataFrame({name: columns[name] for name in COLUMNS if name in columns})
    frame["node_id"] = pd.Categorical.from_codes(columns["node"], node_ids)
    frame["time_window"] = pd.Categorical.from_codes(columns["time_window"], pd.Index(TIME_WINDOWS))
    for edge in ("window_start", "window_end"):
        frame[edge] = frame[edge].dt.tz_localize("UTC")
    return frame[COLUMNS]
