"""Balances of the last so many local days, put together from those of the days.

What is not known of a few days is taken to have been as on the others, and counted as estimated; where more than a
tenth of them is not known, the figure is null.

Margins: a meter errs alike day by day, so what meters make of the days' margins is added up as it is (JCGM 100:2008,
5.2.2, note 1: correlated quantities). What was estimated errs each day by itself, and is added up in squares. Days that
are missing follow each other as a rule, and then differ alike from the mean of the others: their common deviation is
taken to spread as the known days do around their mean, which itself is known from these only. Volumes are m³.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.domain.efficiency import MARGIN, METERED, NIGHT_FLOW, impossible
from src.vocabulary import BalanceMethod

# The shorter of the windows; at least this share of the days of any must be known.
MONTH, LEAST_KNOWN = 30, 0.9
# Figures are added up exactly, in multiples of 2 ** -20: a window's sum is the same wherever adding began, so that
# equal rows are not written again.
_QUANTA = 2.0**20
_MIXED: BalanceMethod = "mixed"

Numbers = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


def rolling_balances(daily: pd.DataFrame, edges: pd.DatetimeIndex, days: int, apparent_share: float) -> pd.DataFrame:
    """The balance of each district over the `days` days that end at each of `edges[days:]`.

    Args:
        daily: as `efficiency.water_balance` has it for days, with largest_meters (of `efficiency.largest_meters`),
            active_nodes and total_nodes; days may be missing, and figures of before they were computed.
        edges: the starts of local days that follow each other, and the end of the last.
        apparent_share: of the losses of metered districts, that is apparent (see `losses`).

    Returns:
        A row per district_id and window_start with window_end, the figures of `efficiency.BALANCE`, known_days,
        real_loss_volume (m³), apparent_loss_share (null where districts differ), active_nodes and total_nodes of the
        last day.
    """
    found = [
        _of_district(of_district.set_index("window_start").reindex(edges[:-1]), edges, days, apparent_share).assign(
            district_id=district_id
        )
        for district_id, of_district in daily.groupby("district_id")
    ]
    return pd.concat(found, ignore_index=True)


def _of_district(daily: pd.DataFrame, edges: pd.DatetimeIndex, days: int, apparent_share: float) -> pd.DataFrame:
    length = ((edges[1:] - edges[:-1]) / pd.Timedelta(days=1)).to_numpy()
    volumes = {name: daily[f"{name}_volume"].to_numpy("float64") for name in ("input", "output", "loss")}
    balanced = _Known(np.isfinite(volumes["loss"]), length, days)
    found = pd.DataFrame({"window_start": edges[:-days], "window_end": edges[days:], "known_days": balanced.count})
    for name, values in volumes.items():
        margin, of_meters = (
            daily[f"{name}_margin"].to_numpy("float64"),
            daily[f"{name}_meter_margin"].to_numpy("float64"),
        )
        known_days = _Known(np.isfinite(values), length, days)
        # A loss is a difference: where it is known, both its sides cover the days on which both are known.
        for figure, paired, alone in (
            ("volume", balanced.total(values), known_days.total(values)),
            ("margin", balanced.margin(values, margin, of_meters), known_days.margin(values, margin, of_meters)),
        ):
            found[f"{name}_{figure}"] = np.where(balanced.is_enough, paired, alone)
    found["efficiency_percentage"] = (
        100 * found["output_volume"] / found["input_volume"].where(found["input_volume"] > 0)
    )
    coverage = daily["coverage"].to_numpy("float64")
    found["coverage"] = _sums(np.nan_to_num(coverage) * length, days) / _sums(length, days)
    either = _Known(np.isfinite(volumes["input"]) | np.isfinite(volumes["output"]), length, days)
    estimated = (_estimated(daily, volumes, of, days) for of in (balanced, either))
    is_known = found[["input_volume", "output_volume"]].notna().any(axis=1)
    found["estimated_share"] = pd.Series(np.where(balanced.is_enough, *estimated)).where(is_known)
    found["metered_volume"] = either.total(daily["metered_volume"].fillna(0.0).to_numpy("float64"))
    found["method"] = pd.Series(_methods(daily["method"], days), dtype=object)
    is_metered = (daily["method"] == METERED).to_numpy()
    real = volumes["loss"] * np.where(is_metered, 1 - apparent_share, 1.0)
    found["real_loss_volume"] = balanced.total(real)
    shares = {METERED: apparent_share, NIGHT_FLOW: 0.0}
    found["apparent_loss_share"] = [shares.get(method, np.nan) for method in found["method"]]
    found["reason"] = pd.Series(_reasons(daily, balanced, found, days), dtype=object)
    for name in ("active_nodes", "total_nodes"):
        found[name] = daily[name].to_numpy("float64")[days - 1 :]
    return found


class _Known:
    """The days of each window on which something is known: what it was over the whole window, and how sure that is."""

    def __init__(self, mask: Mask, length: Numbers, days: int) -> None:
        self.mask, self._days = mask, days
        self.count = _sums(mask.astype("float64"), days)
        time, self.needed = _sums(length * mask, days), math.ceil(LEAST_KNOWN * days)
        self.is_enough = self.count >= self.needed
        with np.errstate(divide="ignore"):
            self.scale = np.where(self.is_enough, _sums(length, days) / time, np.nan)

    def total(self, values: Numbers) -> Numbers:
        """Of the whole window; NaN where too little is known."""
        return self._sum(values) * self.scale

    def margin(self, values: Numbers, margin: Numbers, of_meters: Numbers) -> Numbers:
        """Of that total, at 95 %; NaN where that of a day is not known."""
        # Older rows do not state the meters' part of a margin: then all of it is taken to be theirs.
        of_meters = np.where(np.isfinite(of_meters), of_meters, margin)
        systematic = self._sum(of_meters)
        by_itself = self._sum(np.maximum(margin**2 - of_meters**2, 0.0))
        missing = self._days - self.count
        with np.errstate(divide="ignore", invalid="ignore"):
            squares = self._sum(values**2) - self._sum(values) ** 2 / self.count
            variance = np.maximum(squares, 0.0) / (self.count - 1)
            spread = missing**2 * variance * (1 + 1 / self.count)
        found = np.sqrt((systematic**2 + by_itself) * self.scale**2 + MARGIN**2 * spread)
        lacking = self._sum((~np.isfinite(margin)).astype("float64"))
        return np.where(lacking > 0, np.nan, found)

    def _sum(self, values: Numbers) -> Numbers:
        return _sums(np.where(self.mask & np.isfinite(values), values, 0.0), self._days)


def _sums(values: Numbers, days: int) -> Numbers:
    """Of each `days` values that follow each other, by sums from the first on."""
    exact = np.rint(values.astype(np.longdouble) * _QUANTA)
    sums = np.concatenate([[np.longdouble(0)], np.cumsum(exact)])
    found: Numbers = ((sums[days:] - sums[:-days]) / _QUANTA).astype("float64")
    return found


def _estimated(daily: pd.DataFrame, volumes: dict[str, Numbers], known: _Known, days: int) -> Numbers:
    """The share of the water that was estimated: on known days their estimated share, of missing ones all."""
    share = daily["estimated_share"].to_numpy("float64")
    has_share = known.mask & np.isfinite(share)
    water = np.where(has_share, np.nan_to_num(volumes["input"]) + np.nan_to_num(volumes["output"]), 0.0)
    water = np.maximum(water, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        of_known = _sums(water * np.nan_to_num(share), days) / _sums(water, days)
    missing = 1 - 1 / known.scale
    found: Numbers = np.nan_to_num(of_known) * (1 - missing) + missing
    return found


def _methods(methods: pd.Series, days: int) -> list[BalanceMethod | None]:
    metered, by_night = (
        _sums((methods == name).to_numpy().astype("float64"), days) > 0 for name in (METERED, NIGHT_FLOW)
    )
    names: dict[tuple[bool, bool], BalanceMethod | None] = {
        (True, True): _MIXED, (True, False): METERED, (False, True): NIGHT_FLOW, (False, False): None,
    }  # fmt: skip
    return [names[bool(one), bool(other)] for one, other in zip(metered, by_night, strict=True)]


def _reasons(daily: pd.DataFrame, balanced: _Known, found: pd.DataFrame, days: int) -> list[str | None]:
    """Why a window has no loss, or one that cannot be."""
    reasons = daily["reason"].to_numpy(dtype=object)
    has_reason = ~balanced.mask & daily["reason"].notna().to_numpy()
    latest = np.maximum.accumulate(np.where(has_reason, np.arange(len(has_reason)), -1))[days - 1 :]
    is_impossible = (found["loss_volume"] < -found["loss_margin"].fillna(0.0)).to_numpy()
    sentences: list[str | None] = []
    for first in range(len(found)):
        sentence = None
        if not balanced.is_enough[first]:
            sentence = f"{balanced.count[first]:.0f} of {days} days are balanced, {balanced.needed} are needed"
            if latest[first] >= first:
                sentence += f"; of the last of the others: {reasons[latest[first]]}"
        elif is_impossible[first]:
            of_days = daily["largest_meters"].iloc[first : first + days].dropna()
            often = Counter(tuple(names) for names in of_days).most_common(1)
            sentence = impossible(often[0][0] if often else ())
        sentences.append(sentence)
    return sentences
