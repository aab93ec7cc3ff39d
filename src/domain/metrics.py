"""Window metrics: 5min from readings; 1hour and 1day merged exactly from the 5min rows, their volume and coverage from
the time that readings vouch for.

Everything is computed over all nodes at once. A window's figures depend only on the readings of the local days around
it (see `vouching`), never on how many were read together, so that any chunking and any re-run gives the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.domain.cadence import GAP_CADENCES, GAP_SECONDS
from src.domain.days import day_starts, epoch_microseconds
from src.domain.spreading import Vouched, coverage, over_windows
from src.domain.vouching import SECOND, Rows, Spans, accounting, sampled

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
# Columns of one window size, all of one length.
Arrays = dict[str, npt.NDArray[Any]]
Booleans = npt.NDArray[np.bool_]

FIVE_MINUTES, HOUR = 300 * SECOND, 3600 * SECOND
TIME_WINDOWS = ("5min", "1hour", "1day")
# Measurement -> the stem of its columns, in the order of the table.
_MEASURED = {"flow_rate": "flow", "pressure": "pressure", "temperature": "temperature"}
_STEPS = ("change", "spike")

COLUMNS = [
    "node_id", "time_window", "window_start", "window_end",
    "avg_flow_rate", "min_flow_rate", "max_flow_rate", "flow_variance", "total_volume",
    "avg_pressure", "min_pressure", "max_pressure", "pressure_variance",
    "avg_temperature", "min_temperature", "max_temperature", "temperature_variance",
    "max_flow_change", "max_flow_spike", "max_pressure_change", "max_pressure_spike",
    "max_temperature_change", "max_temperature_spike",
    "reading_count", "flow_count", "pressure_count", "temperature_count",
    "cadence_seconds", "data_completeness",
    "flow_coverage", "pressure_coverage", "temperature_coverage", "estimated_volume",
]  # fmt: skip


def window_metrics(readings: pd.DataFrame, start: datetime, zone: ZoneInfo) -> pd.DataFrame:
    """All three window sizes of all nodes from clean readings.

    Args:
        readings: `CleanReadings.frame`, holding every reading of each local day from `vouching.LEAD_DAYS` before
            `start` on, up to `vouching.LAG_DAYS` after the last wanted window; with is_register where volumes are what
            a register has grown by.
        start: the beginning of a local day; windows that end before or at it are context and not returned.
        zone: the utility's time zone; 1day windows are its local days of 23, 24 or 25 hours.

    Returns:
        Columns `COLUMNS`, a row per 5min window with at least one reading, and per hour and day with a reading or with
        time that one vouches for: flow L/s, pressure bar, temperature °C, total_volume m³, variances as sample
        variances (n - 1; NaN for a single value), data_completeness in % of the readings that the node's own cadence
        promises (NaN where it is unknown), *_coverage the share of the window that readings of the measurement vouch
        for (0..1), estimated_volume how much of total_volume was spread over windows by time; window_end is exclusive.

        Means are of readings, or weighted by time where a sensor reports irregularly (see `cadence.Pace`). A node that
        only counts volume has the flow that its volumes amount to. What a 5min window's readings account for is its
        volume, even where their cadence is longer.

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
    rows = Rows(node, instant, day, starts)

    # A reading and the two before it: are they one uninterrupted piece of the same signal?
    follows = rows.elapsed <= np.minimum(GAP_CADENCES * rows.pace.cadence, GAP_SECONDS)
    second_before = np.concatenate([instant[:2], instant[:-2]])[: len(instant)]
    in_sight = second_before >= starts[np.maximum(day - 1, 0)]
    follows_two = follows & np.concatenate([[False], follows[:-1]]) & in_sight

    values = {name: readings[name].to_numpy(dtype="float64") for name in (*_MEASURED, "volume")}
    is_register = readings["is_register"].to_numpy(dtype=bool) if "is_register" in readings else None
    spans = {"flow": accounting(rows, values["flow_rate"], values["volume"], is_register)}
    spans |= {_MEASURED[name]: sampled(rows, values[name]) for name in ("pressure", "temperature")}
    values["flow_rate"] = _with_flow_of_volume(rows, values["flow_rate"], values["volume"], spans["flow"])

    five = _five_minute(rows, values, spans)
    for measurement, stem in _MEASURED.items():
        five |= _steps(stem, values[measurement], follows, follows_two, five["first_reading"])
    edges = np.arange(starts[0] // HOUR * HOUR, starts[-1] + HOUR, HOUR)
    hours = _rolled_up(five, (five["window_start"] - edges[0]) // HOUR)
    hours = _with_vouched(hours, over_windows(spans, edges), rows, edges)
    daily = _with_vouched(_rolled_up(five, five["day"]), over_windows(spans, starts), rows, starts)

    # Five minutes hold too few readings for steps to mean much, and are many rows.
    five |= {column: np.broadcast_to(np.nan, len(five["node"])) for column in five if column.endswith(_STEPS)}
    first = epoch_microseconds([start])[0]
    return _as_frame(_one_below_the_other((five, hours, daily), first), nodes.cat.categories)


def _one_below_the_other(parts: Sequence[Arrays], first: int) -> Arrays:
    """The columns of all window sizes, without the windows that end before or at `first`."""
    wanted = [part["window_end"] > first for part in parts]
    ends = np.cumsum([np.count_nonzero(mask) for mask in wanted])
    merged: Arrays = {}
    for column in parts[-1]:
        merged[column] = np.empty(ends[-1], parts[-1][column].dtype)
        for part, mask, end, count in zip(parts, wanted, ends, np.diff(ends, prepend=0), strict=True):
            into = merged[column][end - count : end]
            into[:] = part[column] if count == len(mask) else part[column][mask]
    merged["time_window"] = np.repeat(np.arange(len(parts), dtype=np.int8), np.diff(ends, prepend=0))
    return merged


def _with_flow_of_volume(rows: Rows, flow: Floats, volume: Floats, spans: Spans) -> Floats:
    """Flow, of local days on which a node only counts volume the flow that its volumes amount to."""
    if np.isnan(volume).all():
        return flow
    group = rows.node * (len(rows.starts) + 1) + rows.day
    measured = np.unique(group[~np.isnan(flow)])
    only_counts = ~np.isin(group, measured) & ~np.isnan(volume)
    rate = np.full(len(flow), np.nan)
    rate[spans.reading] = spans.value
    return np.where(only_counts, rate, flow)


def _five_minute(rows: Rows, values: Mapping[str, Floats], spans: Mapping[str, Spans]) -> Arrays:
    node, instant = rows.node, rows.instant
    window = instant // FIVE_MINUTES
    starts = _group_starts(node, window)
    sizes = np.diff(np.append(starts, len(node)))
    amounts = np.full(len(node), np.nan)
    accounting = spans["flow"]
    # A volume that was counted for longer than usual is that of one cadence here.
    seconds = (accounting.end - accounting.begin) / SECOND
    share = np.where(accounting.stretched, np.fmin(rows.pace.cadence[accounting.reading] / seconds, 1.0), 1.0)
    amounts[accounting.reading] = accounting.amount * share
    result: Arrays = {
        "node": node[starts],
        "day": rows.day[starts],
        "window_start": window[starts] * FIVE_MINUTES,
        "window_end": (window[starts] + 1) * FIVE_MINUTES,
        "cadence_seconds": rows.pace.cadence[starts],
        "first_reading": starts,
        "reading_count": sizes,
        "total_volume": _sum_of_known(amounts, starts),
        "estimated_volume": np.where(np.isnan(amounts[starts]), np.nan, 0.0),
    }
    for stem, covered in coverage(spans, result["node"], result["window_start"], FIVE_MINUTES).items():
        result[f"{stem}_coverage"] = covered
    for measurement, stem in _MEASURED.items():
        measured = values[measurement]
        present = ~np.isnan(measured)
        zeroed = np.where(present, measured, 0.0)
        count = _per_group(np.add, present.astype(np.int64), starts)
        with np.errstate(invalid="ignore"):
            mean = _per_group(np.add, zeroed, starts) / np.where(count, count, np.nan)
        deviation = np.where(present, measured - np.repeat(mean, sizes), 0.0)
        result |= _statistics(
            measurement, stem, count, mean, _per_group(np.add, deviation * deviation, starts),
            _per_group(np.fmin, measured, starts), _per_group(np.fmax, measured, starts),
        )  # fmt: skip
    return result


def _rolled_up(rows: Arrays, key: Integers) -> Arrays:
    """Rows of one node with one `key` merged into one, as if computed from all their readings at once.

    Means and sums of squared deviations are merged as in Chan, Golub, LeVeque (1979), all parts in one pass around the
    merged mean, which loses no digits to cancellation.
    """
    starts = _group_starts(rows["node"], key)
    sizes = np.diff(np.append(starts, len(key)))
    result: Arrays = {name: rows[name][starts] for name in ("node", "cadence_seconds")}
    result["window"] = key[starts]
    result["reading_count"] = _per_group(np.add, rows["reading_count"], starts)
    for measurement, stem in _MEASURED.items():
        counts = rows[f"{stem}_count"]
        means = np.where(counts, rows[f"avg_{measurement}"], 0.0)
        within = np.where(counts > 1, rows[f"{stem}_variance"] * (counts - 1), 0.0)
        count = _per_group(np.add, counts, starts)
        with np.errstate(invalid="ignore"):
            mean = _per_group(np.add, counts * means, starts) / np.where(count, count, np.nan)
        between = np.where(counts, counts * (means - np.repeat(mean, sizes)) ** 2, 0.0)
        result |= _statistics(
            measurement, stem, count, mean, _per_group(np.add, within + between, starts),
            _per_group(np.fmin, rows[f"min_{measurement}"], starts),
            _per_group(np.fmax, rows[f"max_{measurement}"], starts),
        )  # fmt: skip
        for kind in _STEPS:
            result[f"max_{stem}_{kind}"] = _per_group(np.fmax, rows[f"max_{stem}_{kind}"], starts)
    return result


def _with_vouched(result: Arrays, vouched: Mapping[str, Vouched], rows: Rows, edges: Integers) -> Arrays:
    """Windows with the volume, the coverage and, of irregular sensors, the means that time gives them; those that only
    an earlier or later reading vouches for are added."""
    key = result.pop("node") * len(edges) + result.pop("window")
    keys = {stem: found.node * len(edges) + found.window for stem, found in vouched.items()}
    every = np.unique(np.concatenate([key, *keys.values()]))
    if len(every) > len(key):
        at = np.searchsorted(every, key)
        added = np.ones(len(every), dtype=bool)
        added[at] = False
        for name, known in result.items():
            empty = np.nan if known.dtype.kind == "f" else 0
            result[name] = np.full(len(every), empty, known.dtype)
            result[name][at] = known
        for stem, found in vouched.items():
            at = np.searchsorted(every, keys[stem])
            unknown = added[at] & np.isnan(result["cadence_seconds"][at])
            result["cadence_seconds"][at[unknown]] = rows.pace.cadence[found.reading[unknown]]
    window = every % len(edges)
    result |= {"node": every // len(edges), "window_start": edges[window], "window_end": edges[window + 1]}
    seconds = (result["window_end"] - result["window_start"]) / SECOND
    for measurement, stem in _MEASURED.items():
        found, at = vouched[stem], np.searchsorted(every, keys[stem])
        result[f"{stem}_coverage"] = np.zeros(len(every))
        result[f"{stem}_coverage"][at] = found.seconds / seconds[at]
        by_time = ~np.isnan(found.mean)
        for statistic, values in (("avg", found.mean), ("min", found.low), ("max", found.high)):
            # Where an hour is one reading, its statistics are the very columns of the five minutes.
            of_readings = result[f"{statistic}_{measurement}"]
            result[f"{statistic}_{measurement}"] = np.array(of_readings)
            result[f"{statistic}_{measurement}"][at[by_time]] = values[by_time]
    for name in ("total_volume", "estimated_volume"):
        result[name] = np.full(len(every), np.nan)
    at = np.searchsorted(every, keys["flow"])
    result["total_volume"][at], result["estimated_volume"][at] = vouched["flow"].amount, vouched["flow"].estimated
    if len(every) == len(key):
        return result
    # Days after a node's last reading have no windows yet, even where other nodes have reported them.
    last = rows.day[np.searchsorted(rows.node, result["node"], side="right") - 1]
    is_reported = (result["reading_count"] > 0) | (result["window_start"] < rows.starts[last + 1])
    return {name: values[is_reported] for name, values in result.items()}


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
        f"max_{stem}_change": _per_group(np.fmax, np.abs(step), starts),
        f"max_{stem}_spike": _per_group(np.fmax, taken_back, starts),
    }


def _per_group(reduction: np.ufunc, values: npt.NDArray[Any], starts: Integers) -> npt.NDArray[Any]:
    """The values of each group reduced to one; as they are where each group is one value, as at a usual cadence."""
    reduced: npt.NDArray[Any] = values if len(starts) == len(values) else reduction.reduceat(values, starts)
    return reduced


def _group_starts(node: npt.NDArray[Any], key: npt.NDArray[Any]) -> Integers:
    return np.flatnonzero(np.concatenate([[True], (node[1:] != node[:-1]) | (key[1:] != key[:-1])]))


def _sum_of_known(values: Floats, starts: Integers) -> Floats:
    """Sums per group over what is known; NaN where nothing is."""
    known = ~np.isnan(values)
    sums = _per_group(np.add, np.where(known, values, 0.0), starts)
    return np.where(_per_group(np.add, known.astype(np.int64), starts) > 0, sums, np.nan)


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
    named: dict[str, Any] = {
        "node_id": pd.Categorical.from_codes(columns["node"], node_ids),
        "time_window": pd.Categorical.from_codes(columns["time_window"], pd.Index(TIME_WINDOWS)),
    }
    for edge in ("window_start", "window_end"):
        named[edge] = pd.DatetimeIndex(columns[edge].astype("datetime64[us]"), tz="UTC")
    # As they are: gathered in one block they would all be copied.
    return pd.DataFrame({name: named.get(name, columns.get(name)) for name in COLUMNS}, copy=False)
