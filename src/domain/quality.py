"""How far a node's data can be trusted: complete, valid, consistent. Every score is a share of readings or hours.

Overall is the mean of the three, weighted 50 : 30 : 20, over those that are known: a gap hides water, an impossible
value is at least known to be wrong, and what contradicts a node's habits may still be true.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.domain.readings import MEASUREMENTS, ROWS_SET_ASIDE, measurement_of

Floats = npt.NDArray[np.float64]

WEIGHTS = {"completeness": 0.5, "validity": 0.3, "consistency": 0.2}
# Volume and integrated flow of an hour may differ by this share.
VOLUME_TOLERANCE = 0.10
# Events in whose hours a node contradicts itself, its pattern or its neighbours.
CONTRADICTING = (
    "flat_line", "spikes", "jump", "clock_jump", "negative_flow", "out_of_range", "unusual_flow", "unusual_pressure",
    "unusual_temperature",
)  # fmt: skip
_OUTLIERS = ("spikes", "jump", "unusual_flow", "unusual_pressure", "unusual_temperature")
_HOUR = pd.Timedelta(hours=1)
# Valid values of a window, by measurement.
_COUNTS = {"flow_rate": "flow_count", "pressure": "pressure_count", "temperature": "temperature_count"}
# What may be wrong with a channel as a whole.
NOT_CONNECTED, COPY, QUESTIONED = "not_connected", "repeats_another", "unit_questioned"
# So much more of the time is missing of one measurement than of others before it is a matter of its own.
_NOTICED = 0.05
# What stands for a measurement where a whole row was set aside.
ROW = "row"


def window_quality(windows: pd.DataFrame, rejections: pd.DataFrame) -> pd.Series[float]:
    """The share of each window's promised readings that came and were not set aside (0..1; NaN: cadence unknown).

    Args:
        windows: what `metrics.window_metrics` returns.
        rejections: what `readings.clean` set aside: node_id, timestamp, reason, is_lost.
    """
    complete: pd.Series[float] = windows["data_completeness"].astype("float64") / 100
    placed = rejections.dropna(subset=["node_id", "timestamp"])
    placed = placed[_lowers_validity(placed["reason"])]
    came_none = windows["reading_count"] == 0
    if placed.empty or windows.empty:
        return complete.where(~came_none, np.nan)
    # A row whose every value was set aside came once, for however many reasons it went.
    came_once = placed["is_lost"] & ~placed.duplicated(["node_id", "timestamp", "is_lost"])
    placed = placed.assign(node_id=placed["node_id"].astype(str), is_lost=came_once).sort_values("timestamp")
    set_aside = {name: np.zeros(len(windows)) for name in (*MEASUREMENTS, ROW)}
    lost = np.zeros(len(windows))
    nodes = windows["node_id"].astype(str).to_numpy()
    for size in windows["time_window"].cat.categories:
        at = np.flatnonzero(windows["time_window"] == size)
        starts = windows["window_start"].iloc[at].reset_index(drop=True)
        order = starts.sort_values(kind="stable").index
        of_size = pd.DataFrame({"node_id": nodes[at], "window_start": starts, "row": at}).loc[order]
        found = pd.merge_asof(
            placed, of_size, left_on="timestamp", right_on="window_start", by="node_id", direction="backward"
        ).dropna(subset=["row"])
        row = found["row"].astype("int64").to_numpy()
        inside = found["timestamp"].to_numpy() < windows["window_end"].iloc[row].to_numpy()
        found, row = found[inside], row[inside]
        for reason, of_reason in found.groupby("reason").indices.items():
            np.add.at(set_aside[measurement_of(str(reason)) or ROW], row[of_reason], 1)
        np.add.at(lost, row[found["is_lost"].to_numpy()], 1)
    counts = {name: windows[column].to_numpy(dtype="float64") for name, column in _COUNTS.items()}
    valid = _validity(windows["reading_count"].to_numpy(dtype="float64"), counts, set_aside)
    # What was lost had come: it lowers the score as invalid, not as missing besides.
    seconds = (windows["window_end"] - windows["window_start"]).dt.total_seconds()
    promised = (seconds / windows["cadence_seconds"]).clip(lower=1)
    # A window that other readings vouch for held none to judge.
    return ((complete + lost / promised).clip(upper=1) * valid).where(~came_none, np.nan)


def _lowers_validity(reasons: pd.Series[str]) -> pd.Series[bool]:
    """Whether the sensor is to blame: it is not for a row delivered twice, or filled in for it, or yet to come."""
    lowering = [r for r in reasons.unique() if r in ROWS_SET_ASIDE or measurement_of(r) is not None]
    return reasons.isin(lowering)


def _validity(readings: Floats, counts: Mapping[str, Floats], set_aside: Mapping[str, Floats]) -> Floats:
    """The share of values that were not set aside, as a mean over the measurements that there are; NaN: nothing came.

    A measurement has lost its own values set aside, and one with every row that was set aside as a whole: a bad
    pressure does not make the flow beside it invalid.

    Args:
        readings: rows with at least one valid value.
        counts: valid values by measurement; volumes are not counted, and are in every row where nothing else is.
        set_aside: values by measurement; under `ROW` whole rows.
    """
    others = np.sum([np.nan_to_num(count) for count in counts.values()], axis=0)
    values = dict(counts) | {"volume": np.where(others > 0, 0, readings)}
    with_volume = (others > 0) & (set_aside["volume"] > 0)
    values["volume"] = np.where(with_volume, np.maximum(readings - set_aside["volume"], 0), values["volume"])
    shares, there = np.zeros_like(readings), np.zeros_like(readings)
    for name, count in values.items():
        valid = np.nan_to_num(count)
        is_measured = valid + set_aside[name] > 0
        came = valid + set_aside[name] + set_aside[ROW]
        shares += np.where(is_measured, valid / np.maximum(came, 1), 0)
        there += is_measured
    nothing = np.where(set_aside[ROW] > 0, 0.0, np.nan)
    return np.asarray(np.where(there > 0, shares / np.maximum(there, 1), nothing))


def node_quality(
    nodes: pd.DataFrame,
    hours: pd.DataFrame,
    rejections: pd.DataFrame,
    events: pd.DataFrame,
    channels: pd.DataFrame,
    span: tuple[datetime, datetime],
) -> pd.DataFrame:
    """Scores of nodes over a span of whole hours.

    A node is as complete as its measurements are on average, so that a flow that fell silent beside a pressure that
    reports is missed. Of a channel that measures nothing, or repeats another, no value is valid.

    Args:
        nodes: index node_id; cadence_seconds, the last one known (NaN: the node never reported enough).
        hours: 1hour windows of the span: node_id, window_start, reading_count, cadence_seconds, data_completeness (%),
            flow_coverage, pressure_coverage, temperature_coverage (0..1; NaN where it was not known yet),
            avg_flow_rate (L/s), flow_count, pressure_count, temperature_count, total_volume (m³).
        rejections: of the span: node_id, quarter_start, reason, readings.
        events: that overlap the span: node_id, anomaly_type, severity, begin, end (NaT: goes on).
        channels: what is known of channels: node_id, measurement, is_counted, fault (`NOT_CONNECTED`, `COPY`,
            `QUESTIONED`; None: none, or what people have stated).

    Returns:
        Index node_id; completeness_score, validity_score, consistency_score, overall_quality_score (0..1; NaN where
        nothing is known), missing_data_points (NaN: cadence unknown), invalid_values (values and whole rows set
        aside, but what was delivered twice or filled in), outliers_detected and
        quality_issues: a list of type, severity, count, first and last instant.
    """
    start, end = (pd.Timestamp(edge) for edge in span)
    length = (end - start) / _HOUR
    of_channels = _coverage_by_measurement(nodes.index, hours, channels, length)
    # An hour without a reading of its own, which others vouch for, reported nothing.
    hours = hours[hours["reading_count"] > 0]
    checked = hours.assign(mismatch=_volume_mismatch(hours))
    by_node = checked.groupby("node_id", observed=True)
    scores = pd.DataFrame(index=nodes.index)
    present = by_node["reading_count"].sum().reindex(nodes.index, fill_value=0).astype("float64")
    cadence = by_node["cadence_seconds"].median().reindex(nodes.index).fillna(nodes["cadence_seconds"])
    promised = length * 3600 / cadence
    promised_now = (3600 / checked["cadence_seconds"]).groupby(checked["node_id"], observed=True).sum()
    reported = by_node.size().reindex(nodes.index, fill_value=0)
    # Hours that reported promise by their own cadence, the others by the usual one.
    silent = (length - reported).clip(lower=0) * 3600 / cadence
    promised = (promised_now.reindex(nodes.index).fillna(0) + silent).where(cadence.notna(), np.nan)
    scores["completeness_score"] = (present / promised.clip(lower=1)).clip(upper=1).where(promised.notna(), 0.0)
    scores.loc[(present > 0) & promised.isna(), "completeness_score"] = np.nan
    # No measurement is there more than its node.
    of_rows = scores["completeness_score"].to_numpy(dtype="float64")
    lowest = of_channels.clip(upper=of_rows, axis=0).mean(axis=1)
    scores["completeness_score"] = scores["completeness_score"].where(lowest.isna() | np.isnan(of_rows), lowest)
    invalid = rejections[_lowers_validity(rejections["reason"])]
    of_what = pd.Series([measurement_of(reason) or ROW for reason in invalid["reason"]], invalid.index, dtype="object")
    set_aside = {
        name: invalid[of_what == name].groupby("node_id")["readings"].sum().reindex(nodes.index, fill_value=0.0)
        for name in (*MEASUREMENTS, ROW)
    }
    rejected = sum(set_aside.values(), pd.Series(0.0, nodes.index))
    counts = {name: by_node[column].sum().reindex(nodes.index, fill_value=0) for name, column in _COUNTS.items()}
    useless = channels[channels["fault"].isin([NOT_CONNECTED, COPY])]
    worthless = {
        name: count.where(count.index.isin(useless.loc[useless["measurement"] == name, "node_id"]), 0)
        for name, count in counts.items()
    }
    scores["validity_score"] = _validity(
        np.asarray(present, dtype=np.float64),
        {name: np.asarray(count - worthless[name], dtype=np.float64) for name, count in counts.items()},
        {name: np.asarray(count + worthless.get(name, 0), dtype=np.float64) for name, count in set_aside.items()},
    )
    marked = _contradictions(checked, events, start, end)
    wrong = (marked["contradicts"] | marked["mismatch"]).groupby(marked["node_id"], observed=True).mean()
    scores["consistency_score"] = (1 - wrong.astype("float64")).reindex(nodes.index)
    parts = scores[[f"{name}_score" for name in WEIGHTS]]
    weights = np.array(list(WEIGHTS.values())) * parts.notna().to_numpy()
    total = weights.sum(axis=1)
    overall = (parts.fillna(0).to_numpy() * weights).sum(axis=1) / np.where(total > 0, total, np.nan)
    scores["overall_quality_score"] = overall
    scores["missing_data_points"] = (promised - present).clip(lower=0).round()
    scores["invalid_values"] = rejected
    scores["outliers_detected"] = (
        marked["is_outlier"].groupby(marked["node_id"], observed=True).sum().reindex(nodes.index, fill_value=0)
    )
    issues = _issues(nodes, checked, rejections, events, channels, of_channels, scores, (start, end))
    scores["quality_issues"] = pd.Series([issues.get(str(node_id), []) for node_id in nodes.index], nodes.index)
    return scores


def _coverage_by_measurement(
    node_ids: pd.Index, hours: pd.DataFrame, channels: pd.DataFrame, length: float
) -> pd.DataFrame:
    """The share of the span that is vouched for of each measurement that a node has (NaN: it has none): columns of
    `_COUNTS`."""
    by_node = hours.groupby("node_id", observed=True)
    expected = channels[channels["is_counted"].astype(bool)]
    unwanted = channels[~channels["is_counted"].astype(bool)]
    found = pd.DataFrame(index=node_ids, columns=list(_COUNTS), dtype="float64")
    for name, column in _COUNTS.items():
        coverage = by_node[column.replace("count", "coverage")].sum(min_count=1).reindex(node_ids)
        is_there = by_node[column].sum().reindex(node_ids, fill_value=0) > 0
        is_there |= node_ids.isin(expected.loc[expected["measurement"] == name, "node_id"])
        is_there &= ~node_ids.isin(unwanted.loc[unwanted["measurement"] == name, "node_id"])
        found[name] = (coverage / length).where(is_there)
    return found


def _volume_mismatch(hours: pd.DataFrame) -> pd.Series:
    """Whether an hour's volume is not what its flow amounts to."""
    known = hours["flow_coverage"].fillna(hours["data_completeness"].fillna(100) / 100)
    measured = hours["avg_flow_rate"] * 3.6 * known
    difference = (hours["total_volume"] - measured).abs()
    larger = pd.concat([measured.abs(), hours["total_volume"].abs()], axis=1).max(axis=1)
    # Less than 10 L an hour is a meter's last digit.
    return (difference > VOLUME_TOLERANCE * larger) & (difference > 0.01) & (hours["flow_count"] > 0)


def _contradictions(hours: pd.DataFrame, events: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Marks hours that lie under an event in which the node contradicts itself, and those under an outlier."""
    marked = hours[["node_id", "mismatch"]].assign(contradicts=False, is_outlier=False)
    relevant = events[events["anomaly_type"].isin(CONTRADICTING)]
    spans = pd.DataFrame(
        {
            "node_id": relevant["node_id"].astype(str),
            "begin": relevant["begin"].where(relevant["begin"] > start, start),
            "over": relevant["end"].fillna(end),
            "is_outlier": relevant["anomaly_type"].isin(_OUTLIERS),
        }
    )
    of_nodes = hours["node_id"].astype(str)
    pairs = spans.merge(
        pd.DataFrame({"node_id": of_nodes, "hour": hours["window_start"], "row": np.arange(len(hours))})
    )
    under = pairs[(pairs["hour"] < pairs["over"]) & (pairs["hour"] + _HOUR > pairs["begin"])]
    for name, rows in (("contradicts", under["row"]), ("is_outlier", under.loc[under["is_outlier"], "row"])):
        flags = np.zeros(len(hours), dtype=bool)
        flags[rows.to_numpy()] = True
        marked[name] = flags
    return marked


def _issues(
    nodes: pd.DataFrame,
    hours: pd.DataFrame,
    rejections: pd.DataFrame,
    events: pd.DataFrame,
    channels: pd.DataFrame,
    coverage: pd.DataFrame,
    scores: pd.DataFrame,
    span: tuple[pd.Timestamp, pd.Timestamp],
) -> dict[str, list[dict[str, Any]]]:
    """What lowers the scores, by node: the type, how bad, how often, from when to when."""
    issues: dict[str, list[dict[str, Any]]] = {}

    def add(node_id: object, kind: str, severity: str, count: float, first: pd.Timestamp, last: pd.Timestamp) -> None:
        issue = {"type": kind, "severity": severity, "count": int(count), "first": _text(first), "last": _text(last)}
        issues.setdefault(str(node_id), []).append(issue)

    start, end = span
    complete: dict[Any, float] = scores["completeness_score"].to_dict()
    valid: dict[Any, float] = scores["validity_score"].to_dict()
    missing: dict[Any, float] = scores["missing_data_points"].to_dict()
    for node_id, count in missing.items():
        if count > 0:
            add(node_id, "missing_readings", _severity(1 - complete[node_id]), count, start, end)
    for node_id in nodes.index[nodes["cadence_seconds"].isna() & (scores["completeness_score"] == 0)]:
        add(node_id, "no_readings", "critical", 1, start, end)
    # A measurement that is missing where others of its node came.
    missed = coverage.rsub(coverage.max(axis=1), axis=0)
    for name in coverage.columns:
        for node_id, share in missed.loc[missed[name] > _NOTICED, name].items():
            add(node_id, f"{name}_missing", _severity(share), share * (end - start) / _HOUR, start, end)
    listed = channels[channels["fault"].notna() & channels["node_id"].isin(nodes.index)]
    for node_id, name, fault in zip(listed["node_id"], listed["measurement"], listed["fault"], strict=True):
        add(node_id, f"{name}_{fault}", "warning", 1, start, end)
    quarter = pd.Timedelta(minutes=15)
    group: Any
    for (node_id, reason), group in rejections[rejections["node_id"].isin(nodes.index)].groupby(["node_id", "reason"]):
        first, last = group["quarter_start"].min(), group["quarter_start"].max() + quarter
        add(node_id, str(reason), _severity(1 - valid[node_id]), group["readings"].sum(), first, min(last, end))
    for node_id, kind, severity, begin, over in zip(
        events["node_id"], events["anomaly_type"], events["severity"], events["begin"], events["end"].fillna(end),
        strict=True,
    ):  # fmt: skip
        if kind in CONTRADICTING or kind == "silent":
            add(node_id, kind, severity, 1, max(begin, start), min(over, end))
    for node_id, group in hours[hours["mismatch"]].groupby("node_id", observed=True):
        first, last = group["window_start"].min(), group["window_start"].max() + _HOUR
        share = len(group) * _HOUR / (end - start)
        add(node_id, "volume_against_flow", _severity(share), len(group), first, last)
    return issues


def _severity(share: float) -> str:
    return "critical" if share > 0.5 else "warning" if share > 0.1 else "info"


def _text(instant: pd.Timestamp) -> str:
    return instant.isoformat().replace("+00:00", "Z")
