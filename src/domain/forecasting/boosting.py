"""Gradient boosting of how far flow will be from its usual value, in shares of the node's recent mean flow.

Near hours follow the last ones, far ones follow calendar and weather: each horizon has boosters of its own. Absolute
errors are minimised, and several boosters of different seeds averaged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.domain.forecasting.features import CATEGORIES, FEATURES, LEVEL_DAYS, TARGETS, Examples, View, joined
from src.domain.forecasting.sampling import chosen, share_of
from src.domain.forecasting.series import HOURS, WEEK, History, Numbers

# Imported where it is used: what trains and forecasts nothing need not wait two seconds for it.
if TYPE_CHECKING:
    import xgboost

# Origins lie at these hours of the local day, so that a forecast may begin at any hour.
ORIGIN_HOURS = (0, 6, 12, 18)
# So many examples of a horizon fill the memory a training may take; of more, a part of all is taken.
MOST_EXAMPLES = 500_000
# A training beside the cycles of its replica takes no more of the machine.
THREADS = 2
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
# Called with the number of examples that were gone through once since the last call.
Progress = Callable[[int], None]
MEMBERS: tuple[dict[str, Any], ...] = (
    {"rounds": 350, "learning_rate": 0.05, "max_depth": 7, "seed": 1},
    {"rounds": 350, "learning_rate": 0.05, "max_depth": 7, "seed": 2},
)


@dataclass(frozen=True)
class Horizon:
    """Targets `begin` to `end` hours ahead, learned from origins at every hour of `ORIGIN_HOURS`, or in turn at one."""

    name: str
    begin: int
    end: int
    in_turn: bool

    def of(self, ahead: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Which targets are of this horizon."""
        return np.asarray((ahead >= self.begin) & (ahead < self.end))


HORIZONS = (Horizon("near", 0, HOURS, in_turn=False), Horizon("far", HOURS, TARGETS, in_turn=True))


@dataclass(frozen=True)
class Boosters:
    """The boosters of each horizon by its name; of one that had nothing to learn from, none."""

    by_horizon: Mapping[str, Sequence[xgboost.Booster]]

    def odd(self, examples: Examples) -> Numbers:
        """How far flow will be from its usual value, in shares of the recent mean flow; NaN without a booster."""
        import xgboost

        predicted = np.full(len(examples.ahead), np.nan)
        for horizon in HORIZONS:
            in_horizon, boosters = horizon.of(examples.ahead), self.by_horizon.get(horizon.name, ())
            if in_horizon.any() and boosters:
                values = examples.values[in_horizon]
                matrix = xgboost.DMatrix(
                    values, feature_names=list(FEATURES), feature_types=_KINDS, enable_categorical=True
                )
                predicted[in_horizon] = np.mean([booster.predict(matrix) for booster in boosters], axis=0)
        return predicted

    def files(self) -> dict[str, bytes]:
        """Every booster in the library's own format, by a name that `of` understands."""
        return {
            f"{name}-{number}.ubj": bytes(booster.save_raw("ubj"))
            for name, boosters in sorted(self.by_horizon.items())
            for number, booster in enumerate(boosters)
        }

    @classmethod
    def of(cls, files: Mapping[str, bytes]) -> Boosters:
        """What `files` made."""
        import xgboost

        found: dict[str, list[xgboost.Booster]] = {}
        for name in sorted(files):
            found.setdefault(name.rpartition("-")[0], []).append(xgboost.Booster(model_file=bytearray(files[name])))
        return cls(found)


def rounds() -> int:
    """How often `boosted` goes through each example."""
    return sum(int(member["rounds"]) for member in MEMBERS)


def boosted(examples: Examples, progress: Progress = lambda examples: None) -> Boosters:
    """Boosters of every horizon of which there are examples."""
    by_horizon = {}
    for horizon in HORIZONS:
        of_horizon = examples.only(horizon.of(examples.ahead))
        if len(of_horizon.ahead):
            by_horizon[horizon.name] = _boosted(of_horizon, progress)
    return Boosters(by_horizon)


def training_examples(history: History, until: int, most: int = MOST_EXAMPLES) -> Examples:
    """The examples to learn from of a history that is longer than `LEVEL_DAYS`.

    Args:
        until: nothing at or after this hour of the history is learned from.
        most: so many examples of a horizon, about; of more, a part of all is taken.
    """
    first_hour = int(pd.Timestamp(history.first_day).timestamp()) // 3600
    days = range(LEVEL_DAYS, until // HOURS)
    # Of the far targets all but one hour's origins are left out.
    part = {horizon.name: _part(horizon, history, days, until, most) for horizon in HORIZONS}
    parts = []
    for number, hour in enumerate(ORIGIN_HOURS):
        view = View(history, hour)
        for day in days:
            in_turn = day % len(ORIGIN_HOURS) == number
            made = view.examples(day, WEEK if in_turn else 1)
            for horizon in HORIZONS:
                if in_turn or not horizon.in_turn:
                    examples = made.only(horizon.of(made.ahead))
                    parts.append(examples.only(chosen(examples, history.nodes, first_hour, until, part[horizon.name])))
    return joined(parts)


def _part(horizon: Horizon, history: History, days: range, until: int, most: int) -> float:
    """The share of a horizon's examples that fits into `most`."""
    origins = 1 if horizon.in_turn else len(ORIGIN_HOURS)
    age = until / HOURS - np.array(days, dtype=np.float64)
    expected = float(share_of(age).sum()) * origins * (horizon.end - horizon.begin) * len(history.nodes)
    return min(1.0, most / expected)


def _boosted(examples: Examples, progress: Progress) -> list[xgboost.Booster]:
    import xgboost

    class Watched(xgboost.callback.TrainingCallback):
        """Reports each round of a booster."""

        def after_iteration(self, model: xgboost.Booster, epoch: int, evals_log: Any) -> bool:
            progress(len(odd))
            return False

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
            callbacks=[Watched()],
        )
        for member in MEMBERS
    ]
