"""What the channels of nodes are, judged by their readings: connected, a copy of another, in a unit that does not fit.

A channel is one measurement of one node. What is judged here is judged from several weeks of hours, so that an odd day
changes nothing, and every judgement comes with its evidence in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.domain.anomalies.signals import Floats, Signals

Flags = npt.NDArray[np.bool_]

# Fewer hours prove nothing about a channel; standing still at another figure than zero does after two weeks.
LEAST_HOURS, _LONG = 48, 14 * 24
# Of two measurements that are the same in every hour, the later one here is the copy: a meter is there for its flow.
_ORDER = ("flow_rate", "pressure", "temperature")
# Figures agree to this share where one is the other, and hours' means where one is a multiple of the other: readings
# are rounded to their last digit.
_SAME, _PROPORTIONAL = 1e-9, 0.005
# A channel that stands as still as this cannot be compared with a multiple of another.
_LEAST_SPREAD = 0.05
# Mains bear 16 bar where they are not made for more. In one that carries so much pressure hardly moves: half of it and
# a swing like that of a street's pressure is another unit.
_MOST_BAR, _HIGH_BAR, _STEADY = 16.0, 8.0, 0.25
# Water in pipes is never so warm for weeks.
_MOST_CELSIUS = 35.0
# Where so many values of a channel were beyond what is possible, not the values are wrong but what they are taken for.
_MOST_BEYOND = 0.2
# What a pressure in a street usually is; a unit that brings values near it is the likely one.
_USUAL_BAR = 4.0
_BAR = {"m": 0.0980665, "psi": 0.0689476, "kPa": 0.01, "mbar": 0.001}
_STEPS = tuple(multiple * 10.0**power for power in range(2, -4, -1) for multiple in (5.0, 2.5, 2.0, 1.0))
# Readings that keep their pace by this ratio of the long to the short distances between them are periodic. Where nine
# of ten differ by so much from the one before, that they differ is why they came.
_PERIODIC, _DAILY_SECONDS, _LEAST_CHANGE = 1.5, 20 * 3600.0, 0.02
_WINDOW_SECONDS = 300.0


@dataclass(frozen=True)
class Facts:
    """What a channel is.

    Attributes:
        hours: how many of its hours were looked at; of fewer than `LEAST_HOURS` nothing more is known.
        is_connected: whether anything is measured; None: that is not known.
        copy_of: the measurement whose figures it repeats.
        unit_questioned: its figures are hardly in the unit for which they are taken.
        likely_unit: the one that would fit.
        resolution: the step in which its figures come, in its unit; None: finer than a thousandth.
        reporting: "periodic", "on_change", "daily" or "irregular".
        placeholders: figures that came where nothing was measured.
        evidence: what the above rests on, in sentences.
    """

    hours: int
    is_connected: bool | None = None
    copy_of: str | None = None
    unit_questioned: bool = False
    likely_unit: str | None = None
    resolution: float | None = None
    reporting: str | None = None
    placeholders: tuple[float, ...] = ()
    evidence: tuple[str, ...] = ()

    @property
    def is_counted(self) -> bool:
        """Whether it may enter averages, limits and quality: what is not known to be wrong does."""
        return self.is_connected is not False and self.copy_of is None and not self.unit_questioned


@dataclass(frozen=True)
class SetAside:
    """Values of a channel that were set aside for one reason: how many readings, the lowest and the highest."""

    readings: float
    lowest: float
    highest: float


@dataclass
class _Judging:
    """A channel's facts as they are found."""

    known: Flags
    found: dict[str, Any] = field(default_factory=dict)
    evidence: list[str] = field(default_factory=list)

    def add(self, sentence: str, **facts: Any) -> None:
        self.evidence.append(sentence)
        self.found |= facts


def way_of_reporting(short: float, usual: float, long: float, change: float | None) -> str:
    """How a channel reports.

    Args:
        short, usual, long: seconds between the five-minute windows with readings: the first decile, the median and the
            last decile.
        change: the first decile of the difference to the reading before, as a share of the larger of both.
    """
    if usual >= _DAILY_SECONDS:
        return "daily"
    # Windows of five minutes are all that is known of an instant.
    if long <= _PERIODIC * short or long - short <= 2 * _WINDOW_SECONDS:
        return "periodic"
    return "on_change" if change is not None and change >= _LEAST_CHANGE else "irregular"


def facts_of(
    signals: Signals, set_aside: pd.DataFrame, reporting: Mapping[tuple[str, str], str]
) -> dict[tuple[str, str], Facts]:
    """The facts of each channel, by node and measurement.

    Args:
        signals: the weeks to judge by, of whole nodes: means, lows and highs of hours, and their cadence.
        reporting: how channels report, as of `way_of_reporting`, by node and measurement.
        set_aside: values of these weeks that were set aside, a row per node and reason: node_id, measurement, reason
            (as of `readings.clean`), readings, lowest, highest (in the product's unit; of a placeholder as it came).
    """
    beyond: dict[tuple[str, str], SetAside] = {}
    placeholders: dict[tuple[str, str], SetAside] = {}
    for row in set_aside.to_dict("records"):
        found = SetAside(*(float(row[name]) for name in ("readings", "lowest", "highest")))
        of_kind = placeholders if str(row["reason"]).endswith("placeholder") else beyond
        of_kind[str(row["node_id"]), str(row["measurement"])] = found
    columns: dict[str, dict[str, int]] = {}
    for column, (node_id, measurement) in enumerate(
        zip(signals.listed["node_id"], signals.listed["measurement"], strict=True)
    ):
        if measurement in _ORDER:
            columns.setdefault(str(node_id), {})[str(measurement)] = column
    for node_id, measurement in [*beyond, *placeholders]:
        if measurement in _ORDER:
            columns.setdefault(str(node_id), {}).setdefault(str(measurement), -1)
    facts: dict[tuple[str, str], Facts] = {}
    for node_id, of_node in columns.items():
        channels = {
            name: _Judging(np.isfinite(signals.mean[:, c]) if c >= 0 else np.zeros(len(signals.hours), bool))
            for name, c in of_node.items()
        }
        measured = {name: column for name, column in of_node.items() if column >= 0}
        _judge_movement(signals, measured, channels)
        _judge_copies(signals, measured, channels)
        for name, channel in channels.items():
            column = of_node[name]
            if column >= 0:
                channel.found["resolution"] = _resolution(signals, column, channel.known)
                channel.found["reporting"] = reporting.get((node_id, name))
            _judge_unit(signals, column, name, channel, beyond.get((node_id, name)))
            if stood := placeholders.get((node_id, name)):
                figures = tuple(sorted({edge for edge in (stood.lowest, stood.highest) if np.isfinite(edge)}))
                named = " and ".join(f"{figure:.10g}" for figure in figures) or "a figure"
                channel.add(f"{named} stood {stood.readings:.0f} times for no measurement", placeholders=figures)
            facts[node_id, name] = Facts(int(channel.known.sum()), **channel.found, evidence=tuple(channel.evidence))
    return facts


def _judge_movement(signals: Signals, columns: Mapping[str, int], channels: Mapping[str, _Judging]) -> None:
    """A channel that stood at nothing, or at one figure for weeks, while others of its node moved is not connected, and
    neither is a pressure that stood at nothing."""
    low = {name: float(np.nanmin(signals.low[:, column])) for name, column in columns.items()}
    high = {name: float(np.nanmax(signals.high[:, column])) for name, column in columns.items()}
    moved = [name for name in columns if high[name] > low[name]]
    for name in columns:
        channel, hours = channels[name], int(channels[name].known.sum())
        if hours < LEAST_HOURS:
            continue
        if name in moved:
            channel.found["is_connected"] = True
            continue
        others = [other for other in moved if (channels[other].known & channel.known).sum() >= LEAST_HOURS]
        stood = f"{low[name]:.10g} in every reading of {hours} hours"
        # A meter may count evenly, and a slow sensor keep its figure for some days.
        is_telling = low[name] == 0 or (name != "flow_rate" and hours >= _LONG)
        if others and is_telling:
            channel.add(f"{stood}, while {' and '.join(others)} moved", is_connected=False)
        elif name == "pressure" and low[name] == 0:
            # Even an empty pipe's sensor trembles in its last digit.
            channel.add(f"{stood}: no sensor stands so still", is_connected=False)
        elif not moved and len(columns) > 1 and all(value == 0 for value in low.values()):
            channel.add(f"{stood}, like everything else of this node: it is not in service", is_connected=False)


def _judge_copies(signals: Signals, columns: Mapping[str, int], channels: Mapping[str, _Judging]) -> None:
    present = [name for name in _ORDER if name in columns]
    for place, name in enumerate(present):
        for other in present[:place]:
            both = channels[name].known & channels[other].known
            if both.sum() < max(LEAST_HOURS, 0.9 * channels[name].known.sum()):
                continue
            one, two = (signals.mean[both, columns[which]] for which in (name, other))
            spread = np.nanmax(two) - np.nanmin(two)
            if spread <= _LEAST_SPREAD * np.abs(two).mean():
                continue
            edges = [
                (figures[both, columns[name]], figures[both, columns[other]]) for figures in (signals.low, signals.high)
            ]
            if all(np.allclose(a, b, rtol=_SAME, atol=0, equal_nan=True) for a, b in [(one, two), *edges]):
                channels[name].add(f"the same figure as {other} in every one of {int(both.sum())} hours", copy_of=other)
                break
            running = np.abs(two) > 0.1 * np.abs(two).max()
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = one[running] / two[running]
            factor = float(np.median(ratio)) if running.sum() >= LEAST_HOURS else 0.0
            # Where one stands still, so does the other.
            alike = np.abs(one - factor * two).max() <= _PROPORTIONAL * np.abs(one).max()
            if factor > 0 and alike and np.ptp(two[running]) > _LEAST_SPREAD * np.abs(two).mean():
                channels[name].add(
                    f"{factor:.3g} times {other} in every one of {int(both.sum())} hours: this is another scale of "
                    f"{other}, or computed from it, and no measurement of {name}",
                    unit_questioned=True,
                )
                break


def _resolution(signals: Signals, column: int, known: Flags) -> float | None:
    """The step in which a channel's figures come; None: finer than a thousandth, or it never moved."""
    figures = np.concatenate([signals.low[known, column], signals.high[known, column]])
    figures = figures[np.isfinite(figures)]
    if np.ptp(figures) > 0:
        for step in _STEPS:
            multiples = figures / step
            if np.abs(multiples - np.round(multiples)).max() < 1e-6:
                return step
    return None


def _judge_unit(signals: Signals, column: int, name: str, channel: _Judging, beyond: SetAside | None) -> None:
    """Whether the figures can be in the unit for which they are taken."""
    if channel.found.get("copy_of") or channel.found.get("is_connected") is False:
        return
    level: Floats = signals.mean[channel.known, column] if column >= 0 else np.empty(0)
    running = level[level > 0.05 * level.max()] if len(level) else level
    typical = float(np.median(running)) if len(running) else np.nan
    if beyond is not None:
        cadence = np.nanmedian(signals.cadence[channel.known, column]) if len(level) else np.nan
        values = len(level) * 3600 / cadence if np.isfinite(cadence) else 0.0
        share = beyond.readings / (beyond.readings + values)
        if share > _MOST_BEYOND and beyond.readings >= LEAST_HOURS:
            typical = float(np.sqrt(beyond.lowest * beyond.highest)) if beyond.lowest > 0 else typical
            channel.add(
                f"{beyond.readings:.0f} values from {beyond.lowest:.4g} to {beyond.highest:.4g} are beyond what is "
                f"possible, {100 * share:.0f} % of all",
                unit_questioned=True,
            )
    if len(running) >= LEAST_HOURS and not channel.found.get("unit_questioned"):
        low, high = np.percentile(running, [5, 95])
        swing = (high - low) / typical
        if name == "pressure" and (typical > _MOST_BAR or (typical > _HIGH_BAR and swing > _STEADY)):
            channel.add(
                f"{low:.3g} to {high:.3g} in nine of ten hours, {typical:.3g} in the middle: too much, or too much in "
                "motion, for bar",
                unit_questioned=True,
            )
        elif name == "temperature" and typical > _MOST_CELSIUS:
            channel.add(f"{typical:.3g} in the middle of its hours: too warm for °C", unit_questioned=True)
    if channel.found.get("unit_questioned") and np.isfinite(typical):
        if name == "pressure":
            unit = min(_BAR, key=lambda unit: abs(np.log(typical * _BAR[unit] / _USUAL_BAR)))
            channel.add(f"in {unit} it would be {typical * _BAR[unit]:.2g} bar", likely_unit=unit)
        elif name == "temperature" and 0 <= (typical - 32) / 1.8 <= _MOST_CELSIUS:
            channel.add(f"in °F it would be {(typical - 32) / 1.8:.3g} °C", likely_unit="°F")
