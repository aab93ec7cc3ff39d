"""How leakage follows pressure in a district.

Leakage follows pressure as L = C * P ** N1 (the FAVAD concept; May, "Pressure Dependent Leakage", World Water and
Environmental Engineering, 1994; Lambert, "What do we know about pressure:leakage relationships", IWA, 2001). N1 is
about 0.5 for holes in rigid pipes and 1.5 for cracks that open. Pressures are bar, flows L/s, volumes m³.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import special

Numbers = npt.NDArray[np.float64]
# Fewer nights do not separate leakage from use.
FEWEST_NIGHTS = 21
# A wider interval, as a share of the exponent, does not determine a saving, which is about proportional to it.
WIDEST_INTERVAL = 1.2
CONFIDENCE = 0.95
# What holes and cracks in pipes can do; an interval wholly outside is something else than leakage.
POSSIBLE_EXPONENT = (0.3, 2.5)
# How far the true legitimate night use may be from the one that is assumed, where it is not metered.
USE_UNCERTAINTY = 0.3
# So far a district's mean pressure may be from that of one node, or of few that differ.
MOST_PRESSURE_ERROR = 0.2
_OUTLYING = 4.0


# Why nothing can be recommended for a district, whatever its nights were.
NO_PRESSURE_WITHIN = "no node within the district tells its pressure"
NO_NIGHT_USE = (
    "neither customer meters nor the number of connections are known, so that night use cannot be told from leakage"
)


def several_inlets(inlets: Sequence[str]) -> str:
    """Why a district that is fed by these inlets has no recommendation."""
    return (
        f"{len(inlets)} inlets feed the district ({', '.join(inlets)}): what each set-point does cannot be told apart"
    )


def no_set_point(inlet: str) -> str:
    """Why a district has no recommendation whose inlet reports no pressure."""
    return f"the inlet {inlet} tells no pressure: its set-point is not known"


class NotKnown(ValueError):
    """What the history does not show, with the reason."""


@dataclass(frozen=True)
class Relation:
    """Leakage against pressure: `exponent` (N1) within `lower` to `upper` (95 %), learned from so many nights.

    `leakage` (L/s) and `pressure` (bar, mean of the district) are those of the last nights; the true leakage lies
    within `least_leakage` to `most_leakage`, as legitimate use is not known exactly.
    """

    exponent: float
    lower: float
    upper: float
    nights: int
    leakage: float
    least_leakage: float
    most_leakage: float
    pressure: float


def leakage_relation(nights: pd.DataFrame, use_is_metered: bool, pressure_error: float) -> Relation:
    """Fits N1 to nights at which the set-point of the inlet differed.

    The pressure within a district falls where more flows, which would hide what leakage does of pressure; the set-point
    does not, and serves as the instrument (two-stage least squares). Leakage also drifts from night to night as leaks
    come and are repaired: errors are those of an autoregression of order one, over gaps too. Nights on which something
    else happened are left out by their residual.

    Args:
        nights: index days in order (local, without zone), columns inflow, use (legitimate, L/s), pressure (mean of the
            district, bar), set_point (pressure at the inlet, bar); NaN where unknown.
        use_is_metered: else the true use may differ by `USE_UNCERTAINTY`, and the interval allows for it.
        pressure_error: as `mean_pressure` returns it: the exponent is about as uncertain as the mean pressure is.

    Raises:
        NotKnown: where nights are too few or too alike, or where they do not look like leakage.
    """
    known = nights[(nights[["pressure", "set_point"]] > 0).all(axis=1)].dropna()
    if len(known) < FEWEST_NIGHTS:
        raise NotKnown(f"{len(known)} nights have flow and pressure, {FEWEST_NIGHTS} are needed")
    variation = float(np.subtract(*known["set_point"].quantile([0.95, 0.05]))) / float(known["set_point"].median())
    varied = f"the set-point at night varied by {variation:.1%}"
    factors = (1.0,) if use_is_metered else (1.0, 1 - USE_UNCERTAINTY, 1 + USE_UNCERTAINTY)
    fitted = [_exponent(known, known["inflow"] - factor * known["use"], varied) for factor in factors]
    exponent = fitted[0][0]
    reaches = [float(np.hypot(reach, pressure_error * value)) for value, reach in fitted]
    lower = min(value - reach for (value, _), reach in zip(fitted, reaches, strict=True))
    upper = max(value + reach for (value, _), reach in zip(fitted, reaches, strict=True))
    if not upper - lower <= WIDEST_INTERVAL * exponent:
        raise NotKnown(f"{varied}, too little to know: the exponent would lie between {lower:.2f} and {upper:.2f}")
    if upper < POSSIBLE_EXPONENT[0] or lower > POSSIBLE_EXPONENT[1]:
        raise NotKnown(
            f"an exponent between {lower:.2f} and {upper:.2f} is not that of leakage: something else follows pressure"
        )
    last = known.iloc[-FEWEST_NIGHTS:]
    leakage = [float((last["inflow"] - factor * last["use"]).median()) for factor in factors]
    return Relation(
        exponent, lower, upper, len(known), leakage[0], min(leakage), max(leakage), float(last["pressure"].median())
    )


def _exponent(nights: pd.DataFrame, leakage: pd.Series, varied: str) -> tuple[float, float]:
    """The exponent and how far its interval reaches, for one idea of legitimate use."""
    leaking = (leakage > 0).to_numpy()
    if leaking.mean() < 0.9:
        raise NotKnown("the night's flow is hardly more than legitimate use: there is no leakage to be known")
    day = pd.DatetimeIndex(nights.index).as_unit("s").asi8[leaking] / 86400
    flow, pressure, instrument = (
        np.log(series.to_numpy(dtype=np.float64)[leaking])
        for series in (leakage, nights["pressure"], nights["set_point"])
    )
    if instrument.std() < 1e-6:
        raise NotKnown(f"{varied}, too little to know")
    used, memory = np.ones(len(day), dtype=bool), 0.0
    for _ in range(20):
        fit = _instrumented(day[used], flow[used], pressure[used], instrument[used], memory)
        residual = flow - fit.constant - fit.exponent * pressure
        before = memory
        memory = _memory(day[used], residual[used])
        innovation = _innovations(day, residual, memory)
        spread = 1.4826 * float(np.median(np.abs(innovation - np.median(innovation)))) + 1e-12
        still = np.abs(innovation - np.median(innovation)) <= _OUTLYING * spread
        if (still == used).all() and abs(memory - before) < 1e-3:
            break
        if still.sum() < FEWEST_NIGHTS // 2:
            break
        used = still
    fit = _instrumented(day[used], flow[used], pressure[used], instrument[used], memory)
    reach = float(special.stdtrit(max(int(used.sum()) - 3, 1), (1 + CONFIDENCE) / 2)) * fit.error
    return fit.exponent, float(reach)


@dataclass(frozen=True)
class _Fit:
    constant: float
    exponent: float
    error: float


def _instrumented(day: Numbers, flow: Numbers, pressure: Numbers, instrument: Numbers, memory: float) -> _Fit:
    """Two-stage least squares of flow on a constant and pressure, whitened by the autoregression."""
    one = _whitened(day, np.ones(len(day)), memory)
    regressors = np.column_stack([one, _whitened(day, pressure, memory)])
    means = np.column_stack([one, _whitened(day, instrument, memory)])
    target = _whitened(day, flow, memory)
    cross = means.T @ regressors
    if abs(np.linalg.det(cross)) < 1e-12:
        raise NotKnown("the pressure in the district does not follow the set-point of its inlet")
    inverse = np.linalg.inv(cross)
    constant, exponent = inverse @ (means.T @ target)
    residual = target - regressors @ np.array([constant, exponent])
    variance = residual @ residual / max(len(day) - 3, 1)
    covariance = variance * inverse @ (means.T @ means) @ inverse.T
    return _Fit(float(constant), float(exponent), float(np.sqrt(covariance[1, 1])))


def _whitened(day: Numbers, values: Numbers, memory: float) -> Numbers:
    """Values whose errors are independent and alike, if they remember a share `memory` from one day to the next."""
    carried = memory ** np.diff(day)
    whitened = values.copy()
    whitened[1:] = (values[1:] - carried * values[:-1]) / np.sqrt(1 - carried**2)
    return whitened


def _innovations(day: Numbers, residual: Numbers, memory: float) -> Numbers:
    return np.asarray(_whitened(day, residual, memory) * np.sqrt(1 - memory**2))


def _memory(day: Numbers, residual: Numbers) -> float:
    """The autoregression of residuals from one night to the next; few nights make it look smaller than it is."""
    following = np.diff(day) == 1
    earlier, later = residual[:-1][following], residual[1:][following]
    if len(later) < 5 or not (earlier @ earlier) > 0:
        return 0.0
    found = float(earlier @ later / (earlier @ earlier))
    return float(np.clip(found + (1 + 3 * found) / len(later), 0.0, 0.97))


def mean_pressure(pressures: pd.DataFrame) -> tuple[pd.Series, float]:
    """The district's mean pressure from some of its nodes, of which some are missing at times.

    Args:
        pressures: a column per node, bar, NaN where unknown.

    Returns:
        Aligned by index, the mean of all nodes, the missing ones taken to differ from their own median as the others
        do; and how far (a share of it, 95 %) the mean of all of the district may be from that of these nodes.
    """
    usual: Any = pressures.median()
    mean = float(usual.mean())
    error, count = MOST_PRESSURE_ERROR, len(usual)
    if count > 1:
        reach = special.stdtrit(count - 1, (1 + CONFIDENCE) / 2) * float(usual.std()) / np.sqrt(count) / mean
        error = min(error, float(reach))
    return (pressures - usual).mean(axis=1) + mean, error
