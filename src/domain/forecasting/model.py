"""The forecaster of a pool of nodes: its boosters, intervals and what it watches for drift, and how it is stored.

What it learns from is chosen by `sampling`; its intervals and its validation come from the last weeks, forecast by
boosters that had not seen them.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd

from src.domain.forecasting.boosting import MOST_EXAMPLES, ORIGIN_HOURS, Boosters, boosted, rounds, training_examples
from src.domain.forecasting.drift import BLOCK_DAYS, PREDICTED, Drift, Watch, drift_of, watched, watches_of
from src.domain.forecasting.features import FEATURES, LEAST_WEEKS, LEVEL_DAYS, TARGETS, Examples, View, joined
from src.domain.forecasting.intervals import Intervals, intervals_of
from src.domain.forecasting.series import HOURS, WEEK, History, Numbers, last_year_of

# The last days of what is known, on which a first round of boosters is validated before all is learned from.
VALIDATION_DAYS = 42
# A model is replaced within weeks; after so many days it no longer knows what last year was.
REMEMBERED_DAYS = 120
# A model that was not shown at least so many examples would have learned nothing.
FEWEST_EXAMPLES = 5_000
LEARNED, USUAL = "learned", "usual"


_NONE = Intervals(np.empty((0, 0)), np.empty((0, 0)), np.empty(0))


class NotEnoughHistory(ValueError):
    """There is too little to learn from; the message says how much there is."""


@dataclass(frozen=True)
class Forecaster:
    """What was learned of the nodes of one pool."""

    nodes: list[str]
    boosters: Boosters
    intervals: Intervals
    watches: Mapping[str, Watch]
    # What the history need not hold: last year, for the days from `remembered_from` on, as `History.last_year`.
    last_year: Numbers
    remembered_from: date

    def forecast(self, history: History, day: int, hour: int) -> pd.DataFrame:
        """Forecasts of the 168 hours from an hour on, which need not be known.

        Args:
            history: of any nodes, those of the pool among them; `LOOK_BACK_DAYS` before the day are looked at.
            day, hour: the origin on the local clock of the history (`History.place`).

        Returns:
            Index: number of the row; columns node_id, ahead (hours after the origin, 0 to 167, of the local clock),
            flow, lower, upper (L/s), method: `LEARNED`, or `USUAL` for nodes that the model does not know or that
            have less than three weeks of history, and that are forecast by their usual flow. Hours of which nothing
            is known are missing.
        """
        examples = self._renumbered(View(self._reminded(history), hour).examples(day), history.nodes)
        flow, method = self.flow_of(examples)
        lower, upper = self.intervals.around(examples, flow)
        rows = pd.DataFrame(
            {
                "node_id": np.repeat(np.array(history.nodes, dtype=object), TARGETS),
                "ahead": examples.ahead,
                "flow": flow,
                "lower": lower,
                "upper": upper,
                "method": method,
            }
        )
        return rows[np.isfinite(flow)].reset_index(drop=True)

    def flow_of(self, examples: Examples) -> tuple[Numbers, npt.NDArray[np.object_]]:
        """Forecast flow (L/s, NaN where nothing is known) and its method."""
        flow = examples.usual.copy()
        method = np.full(len(flow), USUAL, dtype=object)
        learned = np.isfinite(flow) & np.isfinite(examples.scale) & (examples.node < len(self.nodes))
        learned &= np.isfinite(examples.values[:, FEATURES.index(f"same_kind_{LEAST_WEEKS}")])
        if learned.any():
            usable = examples.only(learned)
            odd = self.boosters.odd(usable)
            flow[learned] = np.where(np.isnan(odd), usable.usual, np.maximum(usable.usual + odd * usable.scale, 0.0))
            method[learned] = np.where(np.isnan(odd), USUAL, LEARNED)
        return flow, method

    def drift(self, history: History) -> Drift:
        """How far the last days of a history are from what was learned from."""
        days, reminded = history.flow.shape[1], self._reminded(history)
        recent = [
            self._renumbered(view.examples(day, 1), history.nodes)
            for view in (View(reminded, hour) for hour in ORIGIN_HOURS)
            for day in range(days - BLOCK_DAYS - 1, days - 1)
        ]
        examples = joined(recent)
        flow, method = self.flow_of(examples)
        flow[method != LEARNED] = np.nan
        return drift_of(self.watches, watched(examples, flow, history.first_day))

    def _reminded(self, history: History) -> History:
        """The history with last year as it was when the model was trained; a history of some weeks lacks it."""
        last_year = history.last_year.copy()
        offset = (self.remembered_from - history.first_day).days
        first, last = max(offset, 0), min(offset + self.last_year.shape[1], last_year.shape[1])
        if first < last:
            for number, node in enumerate(history.nodes):
                if node in self.nodes:
                    remembered = self.last_year[self.nodes.index(node), first - offset : last - offset]
                    measured = last_year[number, first:last]
                    last_year[number, first:last] = np.where(np.isfinite(measured), measured, remembered)
        return replace(history, last_year=last_year)

    def _renumbered(self, examples: Examples, nodes: Sequence[str]) -> Examples:
        """Examples that number the nodes as the model does; those it does not know come after its own."""
        place = {node: n for n, node in enumerate(self.nodes)}
        numbers = np.array([place.get(node, len(self.nodes)) for node in nodes])[examples.node]
        values = examples.values.copy()
        values[:, FEATURES.index("node")] = np.where(numbers < len(self.nodes), numbers, np.nan)
        return Examples(
            values, examples.usual, examples.scale, examples.target, numbers, examples.origin, examples.ahead
        )

    def to_bytes(self) -> bytes:
        """The forecaster as a zip of JSON and of the boosters' own format: nothing in it can run code."""
        metadata = {
            "features": list(FEATURES),
            "nodes": self.nodes,
            "intervals": {name: getattr(self.intervals, name).tolist() for name in ("lower", "upper", "width")},
            "watches": {name: watch.plain() for name, watch in self.watches.items()},
            "remembered_from": self.remembered_from.isoformat(),
        }
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            # With a fixed date, equal models are equal bytes.
            archive.writestr(zipfile.ZipInfo("model.json"), orjson.dumps(metadata))
            last_year = io.BytesIO()
            np.save(last_year, self.last_year.astype(np.float32), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo("last-year.npy"), last_year.getvalue())
            for name, booster in self.boosters.files().items():
                archive.writestr(zipfile.ZipInfo(name), booster)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, artefact: bytes) -> Forecaster:
        """What `to_bytes` made.

        Raises:
            ValueError: if the bytes are no forecaster, or one made of other features.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(artefact)) as archive:
                metadata: Mapping[str, Any] = orjson.loads(archive.read("model.json"))
                last_year = np.load(io.BytesIO(archive.read("last-year.npy")), allow_pickle=False)
                raw = {name: archive.read(name) for name in archive.namelist() if name.endswith(".ubj")}
        except (zipfile.BadZipFile, KeyError, orjson.JSONDecodeError) as error:
            raise ValueError(f"the bytes are no forecaster: {error}") from None
        if metadata["features"] != list(FEATURES):
            raise ValueError("the forecaster was made of other features than this version knows: train a new one")
        intervals = {name: np.array(figures) for name, figures in metadata["intervals"].items()}
        watches = {name: Watch.of(plain) for name, plain in metadata["watches"].items()}
        return cls(
            list(metadata["nodes"]),
            Boosters.of(raw),
            Intervals(**intervals),
            watches,
            last_year.astype(np.float64),
            date.fromisoformat(metadata["remembered_from"]),
        )


@dataclass(frozen=True)
class Trained:
    """A forecaster, and how it was trained.

    `validation` compares the first round with measured flow of the days it had not seen: `mae`, `usual_mae` (the usual
    flow as the forecast), L/s, `coverage` of the intervals there, `hours` compared; all NaN where there were none.
    """

    forecaster: Forecaster
    examples: int
    validation: dict[str, float]


def train(
    history: History, progress: Callable[[float], None] = lambda share: None, most: int = MOST_EXAMPLES
) -> Trained:
    """Learns from all hours of the history.

    Args:
        progress: called again and again with the share of the boosting that is done, which takes nearly all the time.
        most: examples of a horizon to learn from, about.

    Raises:
        NotEnoughHistory: if there are not enough days.
    """
    examples, until = _examples(history, most)
    if len(examples.target) < FEWEST_EXAMPLES:
        raise NotEnoughHistory(
            f"{len(examples.target)} forecasts can be learned from in {history.flow.shape[1]} days of "
            f"{len(history.nodes)} nodes, {FEWEST_EXAMPLES} are needed"
        )
    # Of a short history no more than a third is held back.
    checked_from = until - min(VALIDATION_DAYS, history.flow.shape[1] // 3) * HOURS
    seen = examples.origin + examples.ahead < checked_from
    whole = (int(seen.sum()) + len(examples.target)) * rounds()
    done = 0

    def report(more: int) -> None:
        nonlocal done
        done += more
        progress(done / whole)

    first = _forecaster(history, boosted(examples.only(seen), report), _NONE, {})
    checked = examples.only(examples.origin >= checked_from)
    flow, _ = first.flow_of(checked)
    intervals, validation = _checked(checked, flow, len(history.nodes))
    watches = watches_of(_watched(examples, checked, flow, history))
    forecaster = _forecaster(history, boosted(examples, report), intervals, watches)
    return Trained(forecaster, len(examples.target), validation)


def seasonal(history: History) -> Trained:
    """What forecasts the usual flow, with intervals from how far off that was: for where there is too little to learn.

    Raises:
        NotEnoughHistory: if no node has `LEAST_WEEKS`.
    """
    examples, _ = _examples(history)
    examples = examples.only(np.isfinite(examples.values[:, FEATURES.index(f"same_kind_{LEAST_WEEKS - 1}")]))
    if not len(examples.target):
        raise NotEnoughHistory(f"no node has {LEAST_WEEKS} weeks of flow in {history.flow.shape[1]} days")
    intervals, validation = _checked(examples, examples.usual, len(history.nodes))
    return Trained(_forecaster(history, Boosters({}), intervals, {}), len(examples.target), validation)


def _forecaster(history: History, boosters: Boosters, intervals: Intervals, watches: Mapping[str, Watch]) -> Forecaster:
    """A forecaster that remembers last year for as long as it may be in use."""
    days = history.flow.shape[1]
    # From the first days whose drift is measured before others are known; the last day is often known in part.
    begin = max(days - BLOCK_DAYS - 2, 0)
    last_year = last_year_of(history.flow, days + REMEMBERED_DAYS)[:, begin:]
    first = history.first_day + timedelta(days=begin)
    # As it will be once it was stored.
    rounded = last_year.astype(np.float32).astype(np.float64)
    return Forecaster(history.nodes, boosters, intervals, watches, rounded, first)


def _examples(history: History, most: int = MOST_EXAMPLES) -> tuple[Examples, int]:
    """Examples of all days whose recent weeks show a level, and the hour after the last known one."""
    longer = history.reaching_back(LEVEL_DAYS)
    until = longer.flow.shape[1] * HOURS
    return training_examples(longer, until, most), until


def _checked(examples: Examples, flow: Numbers, nodes: int) -> tuple[Intervals, dict[str, float]]:
    """Intervals from forecasts of what was not learned from, and how well they and the forecasts did."""
    # Every other week shows how wide intervals must be; the weeks between show whether they then hold.
    week = (examples.origin // (WEEK * HOURS)) % 2 == 0
    trial = intervals_of(examples.only(week), (examples.target - flow)[week], nodes)
    return intervals_of(examples, examples.target - flow, nodes), _validation(examples.only(~week), flow[~week], trial)


def _watched(examples: Examples, checked: Examples, flow: Numbers, history: History) -> dict[str, Numbers]:
    """What was learned from; of forecasts those that had not seen their targets, as others would look too sure."""
    first_day = history.first_day - timedelta(days=LEVEL_DAYS)
    seen = watched(examples, np.full(len(examples.target), np.nan), first_day)
    near = checked.ahead < HOURS
    return seen | {PREDICTED: watched(checked.only(near), flow[near], first_day)[PREDICTED]}


def _validation(examples: Examples, flow: Numbers, intervals: Intervals) -> dict[str, float]:
    known = np.isfinite(examples.target) & np.isfinite(flow)
    if not known.any():
        return {"mae": np.nan, "usual_mae": np.nan, "coverage": np.nan, "hours": 0}
    lower, upper = intervals.around(examples, flow)
    inside = (examples.target >= lower) & (examples.target <= upper)
    return {
        "mae": float(np.abs(examples.target - flow)[known].mean()),
        "usual_mae": float(np.abs(examples.target - examples.usual)[known].mean()),
        "coverage": float(inside[known].mean()),
        "hours": int(known.sum()),
    }
