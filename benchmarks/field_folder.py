"""The cases of a folder beside the project: a utility's month, and a maker of nodes with one habit each."""

from __future__ import annotations

import runpy
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd

from benchmarks.field_readings import Meter, Wrong, by_hour

MONTH, MAKER = "utility-month.csv.gz", "field_cases.py"
_MONTH_WRONG: dict[str, dict[str, Wrong]] = {
    "node-a": {"flow_rate": "dead", "pressure": "dead"},
    **{f"node-{letter}": {"pressure": "unit"} for letter in "bcde"},
    **{f"node-{letter}": {"pressure": "dead", "temperature": "copy of flow_rate"} for letter in "fg"},
}
# Points that stood still for days, all with zeros, some would call dead; and these pressures, which are no bar, are in
# truth the flow times a number of their own (10/9, 40/9, 7/4): who calls them copies is right as well.
_MONTH_OPEN = {
    "node-d": frozenset({"pressure"}),
    **dict.fromkeys(("node-b", "node-c", "node-e"), frozenset({"flow_rate", "pressure"})),
}
_MADE_WRONG: dict[str, dict[str, Wrong]] = {
    "15-dead-channel": {"pressure": "dead"},
    "16-mirrored": {"temperature": "copy of flow_rate"},
    "20-metres-head": {"pressure": "unit"},
}


def month(folder: Path, end: datetime) -> list[Meter]:
    """A utility's month, moved by whole weeks to where it ends within a week before `end`."""
    readings = pd.read_csv(folder / MONTH, parse_dates=["timestamp"])
    weeks = (pd.Timestamp(end) - readings["timestamp"].max()) // pd.Timedelta(weeks=1)
    readings["timestamp"] += pd.Timedelta(weeks=weeks)
    return [
        Meter(of_node, wrong=_MONTH_WRONG[str(name)], open=_MONTH_OPEN.get(str(name), frozenset()))
        for name, of_node in readings.groupby("node_id")
    ]


def made(folder: Path, seed: int) -> list[Meter]:
    """Sixteen weeks of the maker's nodes."""
    readings, roles, minutes = _make(folder, seed)
    whole, _, _ = _make(folder, seed, _NothingLost)
    hours = {
        "02-on-change": by_hour(pd.DatetimeIndex(minutes["timestamp"]), minutes["flow_rate"].to_numpy(), 1),
        "08-catch-up": _spread(readings[readings["node_id"] == "08-catch-up"]),
    }
    sparse = whole[whole["node_id"] == "17-sparse"]
    hours["17-sparse"] = by_hour(pd.DatetimeIndex(sparse["timestamp"]), sparse["flow_rate"].to_numpy(), 15)
    habits: dict[str, Any] = {"02-on-change": "on change", "08-catch-up": "catch-up", "17-sparse": "sparse"}
    return [
        Meter(of_node, roles.get(name), habits.get(name), hours.get(name, pd.Series()), _MADE_WRONG.get(name, {}))
        for name, of_node in ((str(node_id), rows) for node_id, rows in readings.groupby("node_id"))
    ]


def made_readings(folder: Path, seed: int) -> pd.DataFrame:
    """The maker's readings alone."""
    return _make(folder, seed)[0]


class _NothingLost(np.random.Generator):
    """The same numbers but for those that decide what is lost: what flowed while nobody reported is in no file."""

    def random(self, *arguments: Any, **named: Any) -> Any:
        return np.ones_like(super().random(*arguments, **named))


def _make(
    folder: Path, seed: int, generator: type[np.random.Generator] = np.random.Generator
) -> tuple[pd.DataFrame, dict[str, Any], pd.DataFrame]:
    """The maker's readings, the roles by node, and the flow behind 02-on-change, minute by minute."""
    maker = runpy.run_path(str(folder / MAKER))
    random = generator(np.random.PCG64(seed))
    with tempfile.TemporaryDirectory() as name, patch("numpy.random.default_rng", lambda _: random):
        out = Path(name)
        maker["make"](out, seed)
        nodes = pd.read_csv(out / "nodes.csv")
        roles = dict(zip(nodes["node_id"], nodes["role"], strict=True))
        return pd.read_parquet(out / "readings.parquet"), roles, pd.read_parquet(out / "truth.parquet")


def _spread(counted: pd.DataFrame) -> pd.Series:
    """m³ by hour, where each volume was counted evenly since the quarter of an hour of the reading before."""
    ordered = counted.sort_values("timestamp")
    instants = pd.DatetimeIndex(ordered["timestamp"])
    rates = ordered["volume"].to_numpy()[1:] / (np.diff(instants.to_numpy()) / np.timedelta64(15, "m"))
    grid = pd.date_range(instants[0], instants[-1], freq="15min")
    each = pd.Series(rates, instants[1:]).reindex(grid[1:]).bfill()
    # A volume stands at the end of its quarter.
    hours: pd.Series = each.shift(freq="-15min").resample("h").sum()
    return hours
