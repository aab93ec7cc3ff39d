"""How far meters err, at 95 %, as a share of what they measure; and what an error of a tank's level makes of volumes.

A meter's error is taken to be of its installation and its wear: the same today as tomorrow, so that it does not average
out over days, and another one for each meter, so that it does over meters.

What a class allows is what is demanded of new meters: ISO 4064-1 (2014, OIML R 49-1) allows class 1 an error of 1 %
in the upper zone of flow and of 3 % in the lower one, class 2 of 2 % and 5 %. Customers' meters spend much of their
time in the lower zone, so that zone's error is taken. District meters are full-bore electromagnetic or ultrasonic ones
as a rule, which keep 2 % in the field (AWWA M36, 4th edition, on production and zone meters). Mechanical meters of ten
years and more measure too little, and worse with age (Arregui and others, 2006, "Integrated Water Meter Management"): a
tenth is a round figure for one that nobody has tested.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

# By the role of a node, or by its meter's class where that is stated.
METER_ERRORS: Mapping[str, float] = {
    "inlet": 0.02,
    "outlet": 0.02,
    "consumption": 0.05,
    "electromagnetic": 0.02,
    "ultrasonic": 0.02,
    "iso_4064_class_1": 0.03,
    "iso_4064_class_2": 0.05,
    "old_mechanical": 0.1,
}


def meter_error(role: str, meter_class: str | None, percent: float, errors: Mapping[str, float]) -> float:
    """The error of one meter at 95 %, as a share of what it measures: what is stated of it, or what its class has, or
    its role.

    Args:
        meter_class: NaN or null where none is stated, as `percent`, %.
        errors: of roles and classes, where they differ from `METER_ERRORS`.
    """
    if np.isfinite(percent):
        return percent / 100
    known = {**METER_ERRORS, **errors}
    return known.get(str(meter_class), known.get(role, 0.0))


def storage_error(area: pd.Series, level_error: float) -> pd.Series:
    """The error at 95 % of what tanks took up between two readings of a level, each of which errs by itself, m³.

    Args:
        area: m² of each tank's surface; NaN where there is no tank.
        level_error: of a reading of the level at 95 %, m.
    """
    return area * (level_error * math.sqrt(2))
