"""What is lost where nobody meters it, and what losses are compared by.

Losses at night after Farley and Trow (2003, "Losses in Water Distribution Networks"). Volumes are m³, flows L/s,
pressures bar.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import pandas as pd

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
    # A night of throttled or failed pressure says nothing of the day's leakage.
    ratio = (inflow["pressure"] / latest["pressure"].where(latest["pressure"] > 0)).clip(1 / _MOST_RATIO, _MOST_RATIO)
    factor = ratio**exponent
    return latest["excess"] * 3.6 * factor.fillna(1.0)


def indicators(loss_per_day: float, loss_percentage: float, district: District | None) -> dict[str, float | str | None]:
    """Indicators of loss of a district's day; null where its metadata do not allow one.

    Args:
        loss_per_day: m³; NaN where unknown.
        loss_percentage: of the input; NaN where unknown.
        district: what the utility knows of it: mains_km, connections, private_pipe_km, mean_pressure_metres.

    Returns:
        non_revenue_water_percentage; m1a (m³ per km of mains and day), m1b (%) and m1_class (A to E), the Italian
        regulator's macro-indicator of water losses (ARERA 917/2017/R/idr, annex A); infrastructure_leakage_index.
    """
    known = district is not None and not np.isnan(loss_per_day)
    mains = district.mains_km if district is not None and known else None
    m1a = loss_per_day / mains if mains else None
    m1b = None if np.isnan(loss_percentage) else loss_percentage
    index = None
    if district is not None and mains and district.connections and district.mean_pressure_metres:
        index = infrastructure_leakage_index(
            loss_per_day, mains, district.connections, district.private_pipe_km or 0.0, district.mean_pressure_metres
        )
    return {
        "non_revenue_water_percentage": m1b,
        "m1a": m1a,
        "m1b": m1b,
        "m1_class": None if m1a is None or m1b is None else loss_class(m1a, m1b),
        "infrastructure_leakage_index": index,
    }


def loss_class(m1a: float, m1b: float) -> str:
    """The class of water losses, the worse of both indicators' (ARERA 917/2017/R/idr, annex A, article 6)."""
    by_length = np.searchsorted([15, 25, 40, 60], m1a, side="right")
    by_share = np.searchsorted([25, 35, 45, 55], m1b, side="right")
    return "ABCDE"[max(int(by_length), int(by_share))]


def infrastructure_leakage_index(
    real_losses: float, mains_km: float, connections: float, private_pipe_km: float, pressure_metres: float
) -> float:
    """Current real losses over the unavoidable ones: (18 Lm + 0.8 Nc + 25 Lp) P litres a day.

    Source: Lambert et al., 1999, "A review of performance indicators for real losses from water supply systems".

    Args:
        real_losses: m³ a day.
        mains_km, private_pipe_km: Lm, and Lp between street and customer meter.
        connections: Nc.
        pressure_metres: P, mean head while under pressure.
    """
    unavoidable = (18 * mains_km + 0.8 * connections + 25 * private_pipe_km) * pressure_metres / 1000
    return real_losses / unavoidable
