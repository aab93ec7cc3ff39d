"""Sensor faults: what no water does. Every yardstick is the sensor's own habit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from types import MappingProxyType

import numpy as np
import pandas as pd

from src.domain.anomalies.events import BACK_WITHIN, INFO, WARNING, Finding, Run, episodes_of, runs, span_of
from src.domain.anomalies.habits import ZERO_IS_USUAL, Habits
from src.domain.anomalies.profile import is_flat
from src.domain.anomalies.signals import INFLOW, LOSS, Flags, Floats, Signals
from src.vocabulary import AnomalyType, Severity

# A flat line: longer than so many times the longest usual one; at least so many hours, and so many while learning.
# Signals that are usually flat for days are not judged.
FLAT_TIMES, FLAT_HOURS, FLAT_HOURS_UNKNOWN, FLAT_HOURS_AT_MOST = 2.0, 4, 24, 3 * 24
# A silence: longer than the usual ones, by so many hours; at least so many of the node's own intervals.
SILENT_HOURS, SILENT_CADENCES = 2, 3
# An outage of collection: so many nodes, and this share of those that report, silent in the same hours.
OUTAGE_NODES, OUTAGE_SHARE = 3, 0.5
# What stands for a node where an event concerns all of them.
EVERY_NODE = "*"
NONE_UNREAD: Mapping[str, datetime] = MappingProxyType({})
# A spike or a jump: so many times the largest usual one, and so many spreads of the hour.
SPIKE_TIMES, CHANGE_TIMES, SPREADS, SPIKE_TIMES_MEAN = 3.0, 4.0, 8.0, 2.0
# Spikes or steps for so many hours are no accident.
_LASTING_HOURS = 4
# Where so many sensors of a district swing in the same hour, it is the water.
TRANSIENT_SENSORS = 3
# Rejected readings are a fault where they are this share of an hour's.
REJECTED_SHARE = 0.25
_QUIET_HOURS = {"flat_line": 6, "silent": 1, "spikes": 6, "jump": 6, "negative_flow": 3, "out_of_range": 3}
# Placeholders are none: with them a device states that it has measured nothing, and data quality names it.
_REASONS: dict[AnomalyType, tuple[str, ...]] = {
    "negative_flow": ("flow_rate_negative",),
    "out_of_range": (
        "flow_rate_too_low", "flow_rate_too_high", "flow_rate_infinite",
        "pressure_negative", "pressure_too_low", "pressure_too_high", "pressure_infinite",
        "temperature_negative", "temperature_too_low", "temperature_too_high", "temperature_infinite",
        "volume_negative", "volume_too_low", "volume_too_high", "volume_infinite",
    ),
    "clock_jump": ("conflicting",),
}  # fmt: skip


def flat_lines(signals: Signals, habits: Habits) -> Iterator[Finding]:
    """Sensors that show the same value for much longer than they ever do."""
    flat = is_flat(signals)
    length = _running_length(flat)
    usual = np.where(habits.is_known, habits.flat_hours, np.nan)
    needed = np.where(np.isnan(usual), FLAT_HOURS_UNKNOWN, np.maximum(FLAT_HOURS, FLAT_TIMES * usual + 2))
    needed = np.where(needed > FLAT_HOURS_AT_MOST, np.inf, needed)
    flags = _from_begin(length, needed)
    # A sensor that never moved since its first reading may be like that.
    flags &= habits.is_known | np.logical_or.accumulate(_moved(signals), axis=0)
    # Where nothing flows now and then, as at a household, a holiday is no fault; what feeds a district stands still no
    # longer than it ever does.
    may_rest = (np.nan_to_num(habits.zeros) >= ZERO_IS_USUAL) & (signals.listed["role"] != "inlet").to_numpy()
    flags &= ~((signals.mean == 0) & may_rest)
    for run in runs(flags, np.isfinite(signals.mean) & ~flat, _QUIET_HOURS["flat_line"], back_within=BACK_WITHIN):
        stuck = float(signals.mean[run.last, run.column])
        certain = min(run.first + int(np.ceil(needed[run.column])) - 1, run.last)
        is_dry = stuck == 0 and signals.listed["measurement"].iloc[run.column] == "flow_rate"
        why: dict[str, object] = {
            "explanation": "nothing has flowed for much longer than ever: supply failed, or the meter stands still"
            if is_dry
            else "the value has not changed for much longer than it ever does",
            "hours": int(length[run.last, run.column]),
            "longest_usual_hours": None if np.isnan(usual[run.column]) else float(usual[run.column]),
            "times": run.times,
        }
        # It was stuck from the hour before on: that one's value is the first that did not change.
        episodes = tuple((max(first - 1, 0), last) for first, last in run.episodes)
        whole = Run(run.column, max(run.first - 1, 0), run.last, certain, run.is_over, episodes)
        yield _finding(signals, whole, "flat_line", WARNING, stuck, why)


def _moved(signals: Signals) -> Flags:
    """Hours in which the value changed, within them or since an hour before."""
    previous = pd.DataFrame(signals.mean).ffill().shift().to_numpy()
    with np.errstate(invalid="ignore"):
        return np.asarray((signals.low < signals.high) | (np.abs(signals.mean - previous) > 0))


def silences(
    signals: Signals, habits: Habits, outage: Flags | None = None, unread: Mapping[str, datetime] = NONE_UNREAD
) -> Iterator[Finding]:
    """Nodes, or single measurements of nodes that report, from which nothing has come for longer than usual.

    Args:
        outage: by hour, when most of the network sent nothing, where the signals are a part of the network only: that
            is an event of the whole network, and not found here. Without it, the signals are all there are.
        unread: nodes whose latest readings are there and could not be taken in, with the last reading that was:
            whether they have been silent since then is not known.
    """
    measured = np.flatnonzero(~signals.listed["measurement"].isin([LOSS, INFLOW]))
    signals, habits = signals.of(measured), habits.of(measured)
    present = np.isfinite(signals.mean)
    node = signals.listed["node_id"].to_numpy()
    names, of_node = np.unique(node, return_inverse=True)
    reporting = np.zeros((len(present), len(names)), dtype=bool)
    for column, owner in enumerate(of_node):
        reporting[:, owner] |= present[:, column]
    for node_id, last_reading in unread.items():
        since = int(signals.hours.searchsorted(pd.Timestamp(last_reading), side="right"))
        reporting[since:, names == node_id] = True
        present[since:, node == node_id] = True
    cadence = np.zeros(present.shape[1])
    known = np.isfinite(signals.cadence)
    if len(present):
        last = len(present) - 1 - np.argmax(known[::-1], axis=0)
        cadence = np.nan_to_num(signals.cadence[last, np.arange(present.shape[1])]) / 3600
    usual = np.where(habits.is_known, habits.silent_hours, 0.0)
    needed = np.maximum(np.maximum(SILENT_HOURS, SILENT_CADENCES * cadence), usual + SILENT_HOURS)
    needed_of_node = np.zeros(len(names))
    np.maximum.at(needed_of_node, of_node, needed)
    of_the_network = outage is None
    outage = outages(reporting) if outage is None else outage
    for run in _gaps(~outage[:, None], np.array([np.median(needed_of_node)])) if of_the_network else ():
        begin, detected, end = span_of(run, signals.hours)
        absent = ~reporting[run.first : run.last + 1].any(axis=0)
        whole: dict[str, object] = {
            "explanation": "most nodes sent nothing at the same time: look at what collects from them",
            "hours": run.last - run.first + 1,
            "nodes": [str(name) for name in names[absent]],
        }
        yield Finding(
            EVERY_NODE, "collection_outage", None, "sensor_faults", begin, detected, end, WARNING, None, None, whole
        )
    reporting |= outage[:, None]

    def why_of(run: Run, explanation: str, tolerated: Floats) -> dict[str, object]:
        hours = run.last - run.first + 1
        return {"explanation": explanation, "hours": hours, "tolerated_hours": float(tolerated[run.column])}

    for run in _gaps(reporting, needed_of_node):
        begin, detected, end = span_of(run, signals.hours)
        why = why_of(run, "no readings", needed_of_node)
        node_id = str(names[run.column])
        yield Finding(node_id, "silent", None, "sensor_faults", begin, detected, end, WARNING, None, None, why)
    for run in _gaps(present | outage[:, None] | ~reporting[:, of_node], needed):
        yield _finding(signals, run, "silent", WARNING, None, why_of(run, "the node reports, but not this", needed))


def outages(reporting: Flags) -> Flags:
    """Hours in which at least half of the nodes that reported within the last week, and no less than three, did not.

    Args:
        reporting: hours × nodes.
    """
    seen = pd.DataFrame(reporting).rolling(7 * 24, min_periods=1).max().to_numpy() > 0
    absent = (seen & ~reporting).sum(axis=1)
    return np.asarray((absent >= OUTAGE_NODES) & (absent >= OUTAGE_SHARE * seen.sum(axis=1)))


def spikes_and_jumps(signals: Signals, habits: Habits) -> Iterator[Finding]:
    """Steps that no water makes: those taken back at once, and those that stay."""
    spread = np.median(habits.spread, axis=1)
    with np.errstate(invalid="ignore"):
        too_spiky = signals.spike > np.maximum(SPIKE_TIMES * habits.spike, SPREADS * spread)
        too_fast = signals.change > np.maximum(CHANGE_TIMES * habits.change, SPREADS * spread)
        # While its habits are not known, a spike must be twice the mean.
        usual = np.abs(np.where(np.isfinite(signals.mean), signals.mean, 0.0)).sum(axis=0)
        usual /= np.maximum(np.isfinite(signals.mean).sum(axis=0), 1)
        too_spiky = np.where(habits.is_known, too_spiky, signals.spike > SPIKE_TIMES_MEAN * usual)
    shared = _shared(too_spiky, signals)
    yield from _transients(shared, signals, habits)
    too_spiky &= ~shared
    # An hour with a spike has its step explained; so has the one into which it fell back.
    near = too_spiky | np.concatenate([too_spiky[1:], too_spiky[:1] & False]) if len(too_spiky) else too_spiky
    too_fast &= habits.is_known & ~near
    steps: tuple[tuple[AnomalyType, Flags, Floats, Floats], ...] = (
        ("spikes", too_spiky, signals.spike, habits.spike),
        ("jump", too_fast, signals.change, habits.change),
    )
    for kind, flags, step, step_usual in steps:
        for run in runs(flags, np.isfinite(signals.mean), _QUIET_HOURS[kind], back_within=BACK_WITHIN):
            rows = slice(run.first, run.last + 1)
            largest = float(np.nanmax(np.where(flags[rows, run.column], step[rows, run.column], np.nan)))
            why: dict[str, object] = {
                "explanation": "single readings far from those before and after"
                if kind == "spikes"
                else "a step between two readings larger than any usual one",
                "largest_step": largest,
                "largest_usual_step": float(step_usual[run.column]) if habits.is_known[run.column] else None,
                "hours": int(flags[rows, run.column].sum()),
                "times": run.times,
            }
            worst = run.first + int(np.nanargmax(step[rows, run.column]))
            high, low = signals.high[worst, run.column], signals.low[worst, run.column]
            mean = usual[run.column]
            actual = float(high if abs(high - mean) >= abs(low - mean) else low)
            yield _finding(
                signals, run, kind, WARNING if max(run.lengths) >= _LASTING_HOURS else INFO, actual, why, float(mean)
            )


def _shared(flags: Flags, signals: Signals) -> Flags:
    """Flags that at least `TRANSIENT_SENSORS` sensors of one district and measurement show in the same hour."""
    shared = np.zeros_like(flags)
    for _, group in signals.listed.groupby(["district_id", "measurement"]):
        columns = group.index.to_numpy()
        together = flags[:, columns].sum(axis=1) >= TRANSIENT_SENSORS
        shared[:, columns] = flags[:, columns] & together[:, None]
    return shared


def _transients(shared: Flags, signals: Signals, habits: Habits) -> Iterator[Finding]:
    """What many sensors of a district show at once is no fault of theirs but water: one event, under the worst."""
    for (_, measurement), group in signals.listed.groupby(["district_id", "measurement"]):
        columns = group.index.to_numpy()
        any_of: Flags = np.logical_or.reduce(shared[:, columns], axis=1).reshape(-1, 1)
        measured: Flags = np.logical_or.reduce(np.isfinite(signals.mean[:, columns]), axis=1).reshape(-1, 1)
        for run in runs(any_of, measured, _QUIET_HOURS["spikes"]):
            rows = slice(run.first, run.last + 1)
            steps = np.where(shared[rows][:, columns], signals.spike[rows][:, columns], 0.0)
            worst = int(columns[np.argmax(steps.max(axis=0) / np.nan_to_num(habits.spike[columns], nan=np.inf))])
            concerned = columns[shared[rows][:, columns].any(axis=0)]
            why: dict[str, object] = {
                "explanation": f"a sudden swing of {measurement} at {len(concerned)} sensors of the district at once",
                "nodes": [str(node_id) for node_id in signals.listed["node_id"].iloc[concerned]],
                "largest_step": float(steps.max()),
                "largest_usual_step": float(habits.spike[worst]),
            }
            placed = Run(worst, run.first, run.last, run.certain, run.is_over)
            actual = float(np.nanmax(signals.high[rows, worst]))
            yield _finding(signals, placed, "transient", INFO, actual, why, float(habits.mean[worst]))


def rejected(signals: Signals, rejections: pd.DataFrame) -> Iterator[Finding]:
    """Impossible values and readings that contradict each other, where they are many.

    Args:
        rejections: node_id, quarter_start, reason, readings: what was set aside.
    """
    if rejections.empty:
        return
    hour = rejections["quarter_start"].dt.floor("h")
    names = pd.Index(signals.listed["node_id"].unique()).union(rejections["node_id"].unique())
    place = {name: n for n, name in enumerate(names)}
    cadence = np.full((len(signals.hours), len(names)), np.nan)
    for column, node_id in enumerate(signals.listed["node_id"]):
        cadence[:, place[node_id]] = np.fmin(cadence[:, place[node_id]], signals.cadence[:, column])
    # What an hour promised: readings by the last known cadence, at least one.
    promised = np.maximum(3600 / pd.DataFrame(cadence).ffill().bfill().fillna(3600).to_numpy(), 1.0)
    is_known = np.isfinite(cadence)
    for kind, reasons in _REASONS.items():
        of_kind = rejections[rejections["reason"].isin(reasons)]
        count = np.zeros((len(signals.hours), len(names)))
        row = signals.hours.get_indexer(pd.DatetimeIndex(hour[of_kind.index]))
        inside = row >= 0
        np.add.at(
            count,
            (row[inside], of_kind["node_id"].map(place).to_numpy(dtype="int64")[inside]),
            of_kind["readings"].to_numpy(dtype="float64")[inside],
        )
        flags = count >= np.maximum(REJECTED_SHARE * promised, 1.0)
        for run in runs(flags, is_known, _QUIET_HOURS.get(kind, 3), back_within=BACK_WITHIN):
            rows = slice(run.first, run.last + 1)
            begin, detected, end = span_of(run, signals.hours)
            set_aside = int(count[rows, run.column].sum())
            why = {"explanation": _EXPLAINED[kind], "readings_set_aside": set_aside, "times": run.times}
            measurement = "flow_rate" if kind == "negative_flow" else None
            node_id = str(names[run.column])
            yield Finding(
                node_id, kind, measurement, "sensor_faults", begin, detected, end, WARNING, None, None, why,
                episodes_of(run, signals.hours),
            )  # fmt: skip


_EXPLAINED = {
    "negative_flow": "the meter reports negative flow, which was set aside",
    "out_of_range": "values that are physically impossible, which were set aside",
    "clock_jump": "several different readings for the same instants: the sensor's clock was set back",
}


def _running_length(flags: Flags) -> Floats:
    """The length so far of the run of True that each row belongs to; zero outside."""
    row = np.arange(1, len(flags) + 1)[:, None]
    last_outside = np.maximum.accumulate(np.where(flags, 0, row), axis=0)
    return np.where(flags, row - last_outside, 0).astype(np.float64)


def _from_begin(length: Floats, needed: Floats) -> Flags:
    """Every row of the runs that reach the needed length."""
    inside = length > 0
    ends = inside & ~np.concatenate([inside[1:], np.zeros((1, length.shape[1]), dtype=bool)])[: len(inside)]
    row = np.arange(len(length))[:, None]
    end = np.minimum.accumulate(np.where(ends, row, len(length))[::-1], axis=0)[::-1]
    whole = np.take_along_axis(length, np.minimum(end, len(length) - 1), axis=0)
    return np.asarray(inside & (whole >= needed))


def _gaps(present: Flags, needed: Floats) -> Iterator[Run]:
    """Gaps of at least the needed hours after a first presence."""
    seen = np.logical_or.accumulate(present, axis=0)
    length = _running_length(~present & seen)
    flags = _from_begin(length, needed)
    for run in runs(flags, present, 1):
        certain = min(run.first + int(np.ceil(needed[run.column])) - 1, run.last)
        yield Run(run.column, run.first, run.last, certain, run.is_over)


def _finding(
    signals: Signals,
    run: Run,
    kind: AnomalyType,
    severity: Severity,
    actual: float | None,
    why: dict[str, object],
    expected: float | None = None,
) -> Finding:
    begin, detected, end = span_of(run, signals.hours)
    signal = signals.listed.iloc[run.column]
    node_id, measurement = signal["node_id"], signal["measurement"]
    return Finding(
        node_id, kind, measurement, "sensor_faults", begin, detected, end, severity, actual, expected, why,
        episodes_of(run, signals.hours),
    )  # fmt: skip
