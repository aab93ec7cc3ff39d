"""How signals move with their peers: the habits that detectors use, learned from all profiles together.

What other districts do in the same hour (weather, holidays) is taken out by a ridge regression on the deviations of the
most alike signals; never on meters of the same district, where a leak would explain itself away, except on customers'
meters, whose use is no leak. What remains is described by its spread in each hour of the day and by an autoregressive
model, so that an hour that is as odd as the one before it counts as no news (prewhitening; Box, Jenkins, Reinsel, "Time
Series Analysis").
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from src.domain.anomalies.habits import (
    CLIP,
    ENOUGH_HISTORY,
    FIGURES,
    ORDER,
    PEERS,
    RIDGE,
    Habits,
    habits_from,
    surprises_of,
)
from src.domain.anomalies.profile import Profile, least_spread, median, profile_of, quiet, spread_by_hour
from src.domain.anomalies.signals import Flags, Floats, Integers, Signals

WEEK_HOURS = 7 * 24
# Peers are more alike than the most alike of as many would be by chance, by so many standard deviations; hours that
# follow each other are alike, so that so many of them count as one (Bartlett's formula for memories of a few hours).
ALIKE_DEVIATIONS, HOURS_ALIKE = 1.0, 2.5


class Relatives:
    """How signals move with their peers, learned from the profile of all of them, for some of them at a time."""

    def __init__(self, profile: Profile, cells: Integers, sampled_from: int | None = None) -> None:
        """
        Args:
            cells: the cell of the week of each hour.
            sampled_from: where the profile holds some districts only, the place from which on it holds a sample of the
                whole network: of other districts, only that explains anything.
        """
        self._profile, self._hour = profile, cells % 24
        swing = profile.swing[:, self._hour].T
        scaled = np.clip(without_lasting(profile.deviation) / swing, -CLIP, CLIP)
        self._peers, self._weights = _peers(scaled, profile.listed, sampled_from)

    def habits(self, columns: Integers) -> Habits:
        """The habits of some of the signals; `peers` are places among all of them."""
        profile, hour = self._profile, self._hour
        peers, weights = self._peers[columns], self._weights[columns]
        deviation, swing = profile.deviation[:, columns], profile.swing[columns][:, hour].T
        explained = np.zeros_like(deviation)
        for rank in np.flatnonzero(weights.any(axis=0)):
            explained += self._scaled(peers[:, rank]) * weights[:, rank]
        unexplained = np.asarray(deviation - swing * explained)
        spread = np.maximum(
            spread_by_hour(unexplained, hour), least_spread(profile.mean[columns], profile.step[columns])
        )
        scaled = unexplained / spread[:, hour].T
        # Hours in which a signal always stands still, as while supply is shut, show nothing of its noise.
        still = (profile.swing[columns] <= least_spread(profile.mean[columns], profile.step[columns])) & (
            profile.step[columns] == 0
        )[:, None]
        lively = np.where(still.all(axis=1)[:, None] | ~still, 1.0, np.nan)
        memory, surprise = _autoregression(np.clip(scaled, -CLIP, CLIP) * lively[:, hour].T)
        figures = {name: getattr(profile, name)[columns] for name in FIGURES}
        tail = quiet(np.nanquantile, np.abs(scaled), 0.998)
        return Habits(
            **figures, peers=peers, weights=weights, spread=spread, memory=memory, surprise=surprise, tail=tail
        )

    def _scaled(self, columns: Integers) -> Floats:
        """Deviations in swings, clipped; an absent one is none."""
        profile = self._profile
        scaled = profile.deviation[:, columns] / profile.swing[columns][:, self._hour].T
        return np.asarray(np.nan_to_num(np.clip(scaled, -CLIP, CLIP)))


def without_lasting(deviation: Floats) -> Floats:
    """Deviations (hours × signals) less the median of their week: what two signals have in common from day to day is
    weather or a holiday; that both have moved for good is chance, and must not explain either."""
    moved = deviation.copy()
    for end in range(len(deviation), 0, -WEEK_HOURS):
        rows = slice(max(end - WEEK_HOURS, 0), end)
        moved[rows] -= np.nan_to_num(median(deviation[rows]))
    return moved


def learn(signals: Signals, cells: Integers, is_usable: Flags) -> Habits:
    """Habits of all signals at once from their hours, `FULL_HISTORY` of them at best; as of `profile_of`."""
    if not len(cells):
        return habits_from([None] * len(signals.listed), [str(n) for n in range(len(signals.listed))])
    relatives = Relatives(profile_of(signals, cells, is_usable), cells)
    return relatives.habits(np.arange(len(signals.listed)))


def _peers(scaled: Floats, listed: pd.DataFrame, sampled_from: int | None) -> tuple[Integers, Floats]:
    """The most alike peers of each signal and their ridge weights; none where fewer than 14 days are shared."""
    count = scaled.shape[1]
    first_sampled = count if sampled_from is None else sampled_from
    peers, weights = np.zeros((count, PEERS), dtype=np.int64), np.zeros((count, PEERS))
    for _, group in listed.groupby("measurement"):
        columns = group.index.to_numpy()
        present = np.isfinite(scaled[:, columns])
        if not (present.sum(axis=0) >= ENOUGH_HISTORY).any():
            continue
        zeroed = np.where(present, scaled[:, columns], 0.0)
        shared = present.T.astype(np.float64) @ present.astype(np.float64)
        products = zeroed.T @ zeroed
        district, role = (group[name].to_numpy() for name in ("district_id", "role"))
        # Districts that pass water on to each other share what leaks.
        supply = group["supply"].fillna(group["district_id"]).to_numpy() if "supply" in group else district
        is_sampled = columns >= first_sampled
        for n in np.flatnonzero((present.sum(axis=0) >= ENOUGH_HISTORY) & ~is_sampled):
            elsewhere = (supply != supply[n]) & pd.notna(district) & pd.notna(district[n])
            of_customers = (role == "consumption") & (role[n] != "consumption")
            if sampled_from is None:
                may_explain = elsewhere | of_customers
            else:
                # The same whatever districts stand beside this one here.
                may_explain = np.where(is_sampled, elsewhere, of_customers & (district == district[n]))
            allowed = np.flatnonzero(may_explain & (shared[n] >= ENOUGH_HISTORY))
            alike = np.abs(products[n, allowed]) / np.sqrt(
                np.maximum(np.diag(products)[allowed] * products[n, n], 1e-9)
            )
            # Of signals that have nothing in common, some are alike by chance; what they explained would be noise.
            deviations = np.sqrt(2 * np.log(max(len(allowed), 2))) + ALIKE_DEVIATIONS
            by_chance = deviations * np.sqrt(HOURS_ALIKE / np.maximum(shared[n, allowed], 1.0))
            alike = np.where(alike > by_chance, alike, -1.0)
            chosen = allowed[np.argsort(-alike, kind="stable")[:PEERS]][: int((alike > 0).sum())]
            if len(chosen):
                gram = products[np.ix_(chosen, chosen)] + RIDGE * shared[n, n] * np.eye(len(chosen))
                peers[columns[n], : len(chosen)] = columns[chosen]
                weights[columns[n], : len(chosen)] = np.linalg.solve(gram, products[n, chosen])
    return peers, weights


def _autoregression(scaled: Floats) -> tuple[Floats, Floats]:
    """Yule-Walker coefficients (n × ORDER) from what is present, and the robust spread of what they leave."""
    count = scaled.shape[1]
    present = np.isfinite(scaled)
    zeroed = np.where(present, scaled - median(scaled), 0.0)
    length = len(scaled)
    covariance = np.zeros((count, ORDER + 1))
    for lag in range(min(ORDER + 1, length)):
        both = (present[: length - lag] & present[lag:]).sum(axis=0)
        covariance[:, lag] = (zeroed[: length - lag] * zeroed[lag:]).sum(axis=0) / np.maximum(both, 1)
    lags = np.abs(np.subtract.outer(np.arange(ORDER), np.arange(ORDER)))
    # A little white noise keeps the equations solvable where a signal hardly moves.
    ridge = (0.01 * covariance[:, 0] + 1e-9)[:, None, None] * np.eye(ORDER)
    memory: Floats = np.linalg.solve(covariance[:, lags] + ridge, covariance[:, 1:, None])[:, :, 0].astype(np.float64)
    surprises = surprises_of(scaled, memory)
    spread = 1.4826 * median(np.abs(surprises - median(surprises)))
    return memory, np.maximum(spread, 0.05)
