"""The forecaster: gradient boosting over all nodes of a pool at once, its intervals, and how it is kept as bytes.

It forecasts how far flow will be from its usual value, in shares of the node's recent mean flow, minimising absolute
errors. Several boosters of different seeds and depths are averaged. What it learns from is chosen by `sampling`; its
intervals and its validation come from the last weeks, forecast by boosters that had not seen them.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pandas as pd
import xgboost

from src.domain.forecasting.features import (
    CATEGORIES,
    FEATURES,
    LEVEL_DAYS,
    TARGETS,
    Examples,
    View,
    joined,
)
from src.domain.forecasting.intervals import Intervals, intervals_of
from src.domain.forecasting.sampling import chosen
from src.domain.forecasting.series import HOURS, WEEK, History, Numbers

# Origins lie at these hours of the local day, in turn, so that a forecast may begin at any hour.
ORIGIN_HOURS = (0, 6, 12, 18)
# The last days of what is known, on which a first round of boosters is validated before all is learned from.
VALIDATION_DAYS = 42
# So many examples fill the memory a training may take; where there are more, a part of all of them is taken.
MOST_EXAMPLES = 1_000_000
# A model that was not shown at least so many examples would have learned nothing.
FEWEST_EXAMPLES = 5_000
# A training beside the cycles of its replica takes no more of the machine.
THREADS = 2
LEARNED, USUAL = "learned", "usual"
_KINDS = ["c" if name in CATEGORIES else "float" for name in FEATURES]
_COMMON = {
    "objective": "reg:absoluteerror",
    "tree_method": "hist",
    "max_cat_to_onehot": 4,
    "subsample": 0.7,
    "colsample_bynode": 0.5,
    "min_child_weight": 100,
    "verbosity": 0,
    "nthread": THREADS,
}
MEMBERS: tuple[dict[str, Any], ...] = (
    {"rounds": 350, "learning_rate": 0.05, "max_depth": 7, "seed": 1},
    {"rounds": 350, "learning_rate": 0.05, "max_depth": 7, "seed": 2},
)


class NotEnoughHistory(ValueError):
    """There is too little to learn from; the message says how much there is."""


@dataclass(frozen=True)
class Forecaster:
    """What was learned of the nodes of one pool."""

    nodes: list[str]
    boosters: list[xgboost.Booster]
    intervals: Intervals

    def forecast(self, history: History, day: int, hour: int) -> pd.DataFrame:
        """Forecasts of the 168 hours from an hour on, which need not be known.

        Args:
            history: of any nodes, those of the pool among them; `LOOK_BACK_DAYS` before the day are looked at.
            day, hour: the origin on the local clock of the history (`History.place`).

        Returns:
            Index: number of the row; columns node_id, ahead (hours after the origin, 0 to 167, of the local clock),
            flow, lower, upper (L/s), method: `LEARNED`, or `USUAL` for nodes that the model does not know or that
            have less than three weeks of history, and that are forecast by their usual flow. Hours of which nothing
            can be said are not there.
        """
        examples = self._renumbered(View(history, hour).examples(day), history.nodes)
        flow, method = self.flow_of(examples)
        lower, upper = self.intervals.around(examples, flow)
        told = pd.DataFrame(
            {
                "node_id": np.repeat(np.array(history.nodes, dtype=object), TARGETS),
                "ahead": examples.ahead,
                "flow": flow,
                "lower": lower,
                "upper": upper,
                "method": method,
            }
        )
        return told[np.isfinite(flow)].reset_index(drop=True)

    def flow_of(self, examples: Examples) -> tuple[Numbers, npt.NDArray[np.object_]]:
        """Forecast flow (L/s, NaN where nothing is known) and its method."""
        flow = examples.usual.copy()
        method = np.full(len(flow), USUAL, dtype=object)
        learned = np.isfinite(flow) & np.isfinite(examples.scale) & (examples.node < len(self.nodes))
        # Three weeks: of which the same kind of day was seen three times.
        learned &= np.isfinite(examples.values[:, FEATURES.index("same_kind_3")])
        if learned.any() and self.boosters:
            own = examples.only(learned)
            odd = predicted(self.boosters, own.values)
            flow[learned] = np.maximum(own.usual + odd * own.scale, 0.0)
            method[learned] = LEARNED
        return flow, method

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
        said = {
            "features": list(FEATURES),
            "nodes": self.nodes,
            "intervals": {name: getattr(self.intervals, name).tolist() for name in ("lower", "upper", "width")},
            "boosters": len(self.boosters),
        }
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            # With a fixed date, equal models are equal bytes.
            archive.writestr(zipfile.ZipInfo("model.json"), orjson.dumps(said))
            for number, booster in enumerate(self.boosters):
                archive.writestr(zipfile.ZipInfo(f"booster-{number}.ubj"), bytes(booster.save_raw("ubj")))
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, artefact: bytes) -> Forecaster:
        """What `to_bytes` made.

        Raises:
            ValueError: if the bytes are no forecaster, or one made of other features.
        """
        try:
            with zipfile.ZipFile(io.BytesIO(artefact)) as archive:
                said: Mapping[str, Any] = orjson.loads(archive.read("model.json"))
                raw = [archive.read(f"booster-{number}.ubj") for number in range(said["boosters"])]
        except (zipfile.BadZipFile, KeyError, orjson.JSONDecodeError) as error:
            raise ValueError(f"the bytes are no forecaster: {error}") from None
        if said["features"] != list(FEATURES):
            raise ValueError("the forecaster was made of other features than this version knows: train a new one")
        boosters = [xgboost.Booster(model_file=bytearray(own)) for own in raw]
        kept = {name: np.array(figures) for name, figures in said["intervals"].items()}
        return cls(list(said["nodes"]), boosters, Intervals(**kept))


@dataclass(frozen=True)
class Trained:
    """A forecaster, and what is to be said of how it came to be.

    `validation` compares the first round with measured flow of the days it had not seen: `mae`, `usual_mae` (the usual
    flow as the forecast), L/s, `coverage` of the intervals there, `hours` compared; all NaN where there were none.
    """

    forecaster: Forecaster
    examples: int
    validation: dict[str, float]


def train(history: History) -> Trained:
    """Learns from all hours of the history.

    Raises:
        NotEnoughHistory: if there are not enough days.
    """
    days = history.flow.shape[1]
    until = days * HOURS
    examples = training_examples(history, until) if days > LEVEL_DAYS else None
    if examples is None or len(examples.target) < FEWEST_EXAMPLES:
        raise NotEnoughHistory(
            f"{0 if examples is None else len(examples.target)} forecasts can be learned from in {days} days of "
            f"{len(history.nodes)} nodes, {FEWEST_EXAMPLES} are needed; the first {LEVEL_DAYS} days only lead to them"
        )
    unseen = examples.origin >= until - VALIDATION_DAYS * HOURS
    seen = examples.origin + examples.ahead < until - VALIDATION_DAYS * HOURS
    none = Intervals(np.empty((0, 0)), np.empty((0, 0)), np.empty(0))
    first = Forecaster(history.nodes, boosted(examples.only(seen)) if seen.any() else [], none)
    checked = examples.only(unseen)
    flow, _ = first.flow_of(checked)
    # Every other week tells how wide intervals must be; the weeks between tell whether they then hold.
    week = (checked.origin // (WEEK * HOURS)) % 2 == 0
    trial = intervals_of(checked.only(week), (checked.target - flow)[week], len(history.nodes))
    intervals = intervals_of(checked, checked.target - flow, len(history.nodes))
    validation = _validation(checked.only(~week), flow[~week], trial)
    return Trained(Forecaster(history.nodes, boosted(examples), intervals), len(examples.target), validation)


def training_examples(history: History, until: int) -> Examples:
    """The examples to learn from, origins at a different hour every day, no more than `MOST_EXAMPLES`.

    The history must be longer than `LEVEL_DAYS`.
    """
    first_hour = int(pd.Timestamp(history.first_day).timestamp()) // 3600
    days = range(LEVEL_DAYS, until // HOURS)
    part = min(1.0, MOST_EXAMPLES / (len(days) * TARGETS * len(history.nodes)))
    parts = []
    for number, hour in enumerate(ORIGIN_HOURS):
        view = View(history, hour)
        for day in days[number :: len(ORIGIN_HOURS)]:
            made = view.examples(day)
            parts.append(made.only(chosen(made, history.nodes, first_hour, until, part)))
    return joined(parts)


def boosted(examples: Examples) -> list[xgboost.Booster]:
    """One booster per member of the ensemble."""
    odd = (examples.target - examples.usual) / examples.scale
    matrix = xgboost.QuantileDMatrix(
        examples.values,
        odd,
        feature_names=list(FEATURES),
        feature_types=_KINDS,
        enable_categorical=True,
        nthread=THREADS,
    )
    return [
        xgboost.train(
            _COMMON | {name: value for name, value in member.items() if name != "rounds"},
            matrix,
            member["rounds"],
        )
        for member in MEMBERS
    ]


def predicted(boosters: Sequence[xgboost.Booster], values: npt.NDArray[np.float32]) -> Numbers:
    """The mean of what the boosters say, in shares of a node's recent mean flow."""
    matrix = xgboost.DMatrix(values, feature_names=list(FEATURES), feature_types=_KINDS, enable_categorical=True)
    return np.asarray(np.mean([booster.predict(matrix) for booster in boosters], axis=0), dtype=np.float64)


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
