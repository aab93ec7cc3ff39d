"""What is lost where nobody meters it, and what losses are compared by.

Losses at night after Farley and Trow (2003, "Losses in Water Distribution Networks"). Volumes are m³, flows L/s,
pressures bar.

What of water losses is apparent (metered too little, taken without leave, mistaken in the books) and what is real
nobody meters. AWWA M36 builds apparent losses up from meter tests and accounts; where a utility has none of these, a
fifth of the losses of metered districts is taken, as South Africa's BENCHLEAK does (McKenzie and others, 2002, WRC
TT 159/01): a convention, and a setting. What leaks at night is real, all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd

from src.domain.loss_classes import YEAR, loss_class

# IWA's default for legitimate household use at night, L per connection and hour, where a district has none of its own.
NIGHT_USE_LITRES = 1.8
# Pressures by day and by night differ by no more than this factor in networks in which leakage follows pressure.
_MOST_RATIO = 2.0


class District(Protocol):
    """What the utility knows of a district; null where it knows nothing."""

    mains_km: float | None
    connections: int | None
    private_pipe_km: float | None
    mean_pressure_metres: float | None


def night_flow_loss(
    inflow: pd.DataFrame, connections: float, use_per_connection: float, exponent: float = 1.0
) -> pd.Series:
    """What a district without customer meters loses, hour by hour: the night's flow that nobody uses, all day long.

    Leakage follows pressure: L / L_night = (P / P_night) ** exponent (FAVAD; May, 1994). The night is 02:00 to 04:00 of
    the utility's day; an hour takes the latest night that had ended by its own end.

    Args:
        inflow: index hours (window_start, aware, utility's zone), columns flow (net inflow, L/s) and pressure (bar, NaN
            where unknown: then leakage is taken as constant).
        connections: service connections of the district.
        use_per_connection: legitimate use at night, L per connection and hour.
        exponent: N1; about 1 for mixed pipe materials.

    Returns:
        m³ per hour, aligned with `inflow`; NaN where no night is known.
    """
    hours = pd.DatetimeIndex(inflow.index)
    at_night = inflow[(hours.hour >= 2) & (hours.hour < 4)].assign(last=lambda rows: rows.index)
    of_day = at_night.groupby(pd.DatetimeIndex(at_night.index).normalize())
    nights = of_day.agg({"flow": "mean", "pressure": "mean", "last": "max"}).dropna(subset=["flow"]).set_index("last")
    excess = (nights["flow"] - connections * use_per_connection / 3600).clip(lower=0)
    latest = pd.DataFrame({"excess": excess, "pressure": nights["pressure"]})
    latest = latest.reindex(latest.index.union(hours)).ffill().reindex(hours)
    # A night of throttled or failed pressure does not show the day's leakage.
    ratio = (inflow["pressure"] / latest["pressure"].where(latest["pressure"] > 0)).clip(1 / _MOST_RATIO, _MOST_RATIO)
    factor = ratio**exponent
    return latest["excess"] * 3.6 * factor.fillna(1.0)


@dataclass(frozen=True)
class Pipes:
    """What losses are measured by; null where it is not known.

    Attributes:
        mains_km: km of mains.
        unavoidable_losses: real losses that would be left, m³ a day.
    """

    mains_km: float | None = None
    unavoidable_losses: float | None = None


def pipes_of(district: District | None) -> Pipes:
    """The pipes of a district of which the utility knows something."""
    if district is None:
        return Pipes()
    unavoidable = None
    if district.mains_km and district.connections and district.mean_pressure_metres:
        unavoidable = unavoidable_losses(
            district.mains_km, district.connections, district.private_pipe_km or 0.0, district.mean_pressure_metres
        )
    return Pipes(district.mains_km, unavoidable)


def pipes_together(districts: Sequence[Pipes]) -> Pipes:
    """The pipes of a network that is these districts; null where one's are not known."""
    mains = [pipes.mains_km for pipes in districts if pipes.mains_km is not None]
    unavoidable = [pipes.unavoidable_losses for pipes in districts if pipes.unavoidable_losses is not None]
    return Pipes(
        sum(mains) if len(mains) == len(districts) else None,
        sum(unavoidable) if len(unavoidable) == len(districts) else None,
    )


def indicators(
    loss_per_day: float, real_loss_per_day: float, loss_percentage: float, pipes: Pipes, *, with_class: bool
) -> dict[str, float | str | None]:
    """Indicators of the losses of a month or a year; null where they are not known.

    Args:
        loss_per_day: water losses, m³ a day; NaN where unknown.
        real_loss_per_day: what of them leaks, m³ a day; NaN where unknown.
        loss_percentage: of the input; NaN where unknown.
        with_class: only a year's losses are in a class.

    Returns:
        non_revenue_water_percentage; m1a (m³ per km of mains and day), m1b (%), m1_class (A to E) and m1_class_year (of
        the table): the Italian regulator's macro-indicator of water losses (ARERA 917/2017/R/idr, annex A);
        infrastructure_leakage_index: real losses over the unavoidable ones.
    """
    m1a = loss_per_day / pipes.mains_km if pipes.mains_km and np.isfinite(loss_per_day) else None
    m1b = loss_percentage if np.isfinite(loss_percentage) else None
    classed = loss_class(m1a, m1b) if with_class and m1a is not None and m1b is not None else None
    unavoidable = pipes.unavoidable_losses
    return {
        "non_revenue_water_percentage": m1b,
        "m1a": m1a,
        "m1b": m1b,
        "m1_class": classed,
        "m1_class_year": None if classed is None else YEAR,
        "infrastructure_leakage_index": real_loss_per_day / unavoidable
        if unavoidable and np.isfinite(real_loss_per_day)
        else None,
    }


def unavoidable_losses(mains_km: float, connections: float, private_pipe_km: float, pressure_metres: float) -> float:
    """The real losses that are left where all is done against them: (18 Lm + 0.8 Nc + 25 Lp) P litres a day; m³ a day.

    Source: Lambert et al., 1999, "A review of performance indicators for real losses from water supply systems".

    Args:
        mains_km, private_pipe_km: Lm, and Lp between street and customer meter.
        connections: Nc.
        pressure_metres: P, mean head while under pressure.
    """
    return (18 * mains_km + 0.8 * connections + 25 * private_pipe_km) * pressure_metres / 1000
