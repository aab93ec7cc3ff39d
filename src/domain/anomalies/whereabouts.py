"""Where an event of a district shows: its sensors, ranked by how clearly they moved with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from src.domain.anomalies.events import Finding
from src.domain.anomalies.signals import INFLOW, LOSS, Floats, Signals

# Degrees of latitude and longitude of nodes whose place is known.
Places = Mapping[str, tuple[float, float]]
# So many hours from an event's begin on show where it is, and so many before it what was there already.
HOURS, HOURS_BEFORE = 48, 72
# A sensor moved with the event if the mean of its hours moved by so many usual spreads; so many are named.
LEAST_SPREADS, MOST_SENSORS = 1.0, 5
_EARTH_RADIUS = 6_371_000.0


def sensors_of(finding: Finding, signals: Signals, scaled: Floats, places: Places) -> list[dict[str, Any]]:
    """The sensors of the event's district that moved most when it began, the clearest first.

    Args:
        scaled: hours × signals, what habits do not explain, in usual spreads; NaN where a sensor is at fault.

    Returns:
        node_id, measurement, `spreads` by which its mean moved, and `distance_m` from the first of them (None where
        a place is not known).
    """
    listed = signals.listed
    of_node = listed.loc[listed["node_id"] == finding.node_id, "district_id"]
    if of_node.empty or pd.isna(of_node.iloc[0]):
        return []
    is_sensor = (listed["measurement"] == "pressure") & (listed["role"] != "storage")
    is_sensor |= (listed["measurement"] == "flow_rate") & (listed["role"] == "monitoring")
    is_sensor &= (listed["district_id"] == of_node.iloc[0]) & ~listed["measurement"].isin([LOSS, INFLOW])
    columns = np.flatnonzero(is_sensor)
    first = int(signals.hours.searchsorted(pd.Timestamp(finding.begin)))
    ended = len(scaled) if finding.end is None else int(signals.hours.searchsorted(pd.Timestamp(finding.end)))
    since, before = (
        scaled[first : min(first + HOURS, max(ended, first + 1))],
        scaled[max(first - HOURS_BEFORE, 0) : first],
    )
    moved: list[tuple[float, int]] = []
    for column in columns:
        now, then = since[:, column], before[:, column]
        if np.isfinite(now).any() and np.isfinite(then).any():
            spreads = float(np.nanmean(now) - np.nanmean(then))
            if abs(spreads) >= LEAST_SPREADS:
                moved.append((spreads, int(column)))
    moved.sort(key=lambda pair: -abs(pair[0]))
    sensors = [
        {
            "node_id": str(listed["node_id"].iloc[column]),
            "measurement": str(listed["measurement"].iloc[column]),
            "spreads": spreads,
        }
        for spreads, column in moved[:MOST_SENSORS]
    ]
    origin = places.get(str(sensors[0]["node_id"])) if sensors else None
    for sensor in sensors:
        place = places.get(str(sensor["node_id"]))
        sensor["distance_m"] = None if origin is None or place is None else distance(origin, place)
    return sensors


def distance(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Metres between two places (latitude, longitude in degrees), along a great circle (the haversine formula)."""
    (lat, lon), (lat2, lon2) = np.radians(one), np.radians(other)
    half = np.sin((lat2 - lat) / 2) ** 2 + np.cos(lat) * np.cos(lat2) * np.sin((lon2 - lon) / 2) ** 2
    return float(2 * _EARTH_RADIUS * np.arcsin(np.sqrt(half)))
