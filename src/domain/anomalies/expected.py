"""What is expected of each hour of a flow before anything is known of it: the usual flow of that hour of the week."""

from __future__ import annotations

import numpy as np
import pandas as pd

from src.domain.anomalies.habits import Habits
from src.domain.anomalies.signals import Integers, Signals

MEASUREMENT = "flow_rate"
# Spreads around the usual flow within which 95 % of hours lie where they are normally distributed.
BAND_SPREADS = 1.96


def expected_of(signals: Signals, cells: Integers, habits: Habits, first: int) -> pd.DataFrame:
    """The usual flow of each hour and signal, and the usual swing around it; whether or not something was measured.

    Peers and the recent level, by which detectors find what is unusual, are left out: they know the hour itself.

    Args:
        cells: the cell of the week of each hour.
        habits: of the same signals.
        first: the place of the first hour wanted.

    Returns:
        node_id, measurement, window_start (UTC), expected, lower and upper (L/s), of signals with enough history; lower
        is not below zero where the usual flow never is.
    """
    columns = np.flatnonzero((signals.listed["measurement"] == MEASUREMENT).to_numpy() & habits.is_known)
    hours = signals.hours[first:]
    expected = habits.expected[np.ix_(columns, cells[first:])]
    swing = BAND_SPREADS * habits.swing[np.ix_(columns, cells[first:] % 24)]
    lower = expected - swing
    runs_one_way = (np.nan_to_num(habits.expected[columns]) >= 0).all(axis=1)
    lower[runs_one_way] = np.maximum(lower[runs_one_way], 0.0)
    rows = pd.DataFrame(
        {
            "node_id": np.repeat(signals.listed["node_id"].to_numpy(dtype=object)[columns], len(hours)),
            "measurement": MEASUREMENT,
            "window_start": np.tile(hours, len(columns)),
            "expected": expected.ravel(),
            "lower": lower.ravel(),
            "upper": (expected + swing).ravel(),
        }
    )
    rows["window_start"] = pd.to_datetime(rows["window_start"], utc=True)
    return rows.dropna(ignore_index=True)
