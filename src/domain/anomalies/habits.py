"""What is normal for each signal, learned from the weeks before: by hour of the week, by its peers, by its own noise.

Expected values are medians by kind of day and hour, so that a few bad days do not matter. What other districts do in
the same hour (weather, holidays) is taken out by a ridge regression on the deviations of the most alike signals; never
on meters of the same district, where a leak would explain itself away, except on customers' meters, whose use is no
leak. What remains is described by its spread in each hour of the day and by an autoregressive model, so that an hour
that is as odd as the one before it counts as no news (prewhitening; Box, Jenkins, Reinsel, "Time Series Analysis").
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from src.domain.anomalies.signals import CELLS, Flags, Floats, Integers, Signals

# Hours of history: with fewer than two weeks' (an eighth of which may be missing) nothing is judged by habit ("still
# learning"); more than eight weeks are not looked at.
ENOUGH_HISTORY, FULL_HISTORY = 14 * 21, 56 * 24
# The memory of the autoregressive model: a day and two hours.
ORDER = 26
# Peers of a signal at most, and how strongly their weights are held back.
PEERS, RIDGE = 12, 0.1
# What happened so often within the history is a habit, not a fault.
USUAL_TIMES = 3
# What is over within so many hours comes and goes.
SHORT_HOURS = 12
# What happened on so many days, the first and the last of which lie so far apart, is ordinary operation.
USUAL_DAYS, USUAL_SPAN = 5, 10
# Spreads of a signal beyond which a deviation says no more.
CLIP = 5.0
# A spread is never taken for smaller than this share of the mean: meters are no better. Nor, where a sensor shows so
# few different values, than the standard deviation of what is rounded to its steps.
_LEAST_SPREAD = 0.003
FEW_VALUES, _ROUNDING = 40, 12**-0.5


@dataclass(frozen=True)
class Habits:
    """Habits of signals, in their order (first axis); in the signals' own units unless said otherwise.

    `history` hours of data it was learned from; `mean`; `expected` by cell of the week (n × 72); `swing` by local hour
    (n × 24), the spread around it; `peers` (n × PEERS), the places of the most alike signals, and their `weights`, from
    their swings to one's own (0 where there are fewer); `spread` by local hour (n × 24) of what peers do not explain;
    `memory` of the autoregressive model (n × ORDER) and `surprise`, the spread of what it does not foresee, in spreads;
    `tail`, the largest usual deviation (99.8 %) in spreads; `flat_hours`, the
    longest usual run without any change; `silent_hours`, the longest gap that happened `USUAL_TIMES` times; `change`
    and `spike`, the largest usual ones; `usual_low` and `usual_high`, what hourly means went beyond on `USUAL_DAYS`
    days that lie `USUAL_SPAN` days apart, whatever was told of them; `unrest`, how far all but 2 % of hours lie from
    what was expected, as a share of the mean; `step`, in which the sensor's readings go up and down (0: too fine to
    tell); `recurs` by local hour (n × 24), how often it was far above what is expected then, for a short time (0: fewer
    than `USUAL_TIMES`). Spreads are robust standard deviations.
    """

    history: Floats
    mean: Floats
    expected: Floats
    swing: Floats
    peers: Integers
    weights: Floats
    spread: Floats
    memory: Floats
    surprise: Floats
    tail: Floats
    flat_hours: Floats
    silent_hours: Floats
    change: Floats
    spike: Floats
    usual_low: Floats
    usual_high: Floats
    unrest: Floats
    step: Floats
    recurs: Floats

    @property
    def is_known(self) -> Flags:
        """Which signals have enough history to be judged."""
        return self.history >= ENOUGH_HISTORY

    def comes_back(self, deviation: Floats, cells: Integers) -> Flags:
        """Hours × signals that rise as far above what is expected as they have done at that hour again and again."""
        hour = cells % 24
        with np.errstate(invalid="ignore"):
            return np.asarray((deviation > CLIP * self.swing[:, hour].T) & (self.recurs[:, hour].T > 0))

    def unexplained(self, values: Floats, cells: Integers) -> Floats:
        """What neither the hour of the week nor the peers explain: hours × signals, in spreads, unclipped."""
        deviation = values - self.expected[:, cells].T
        hour = cells % 24
        own = without_peers(deviation, self.swing[:, hour].T, self.peers, self.weights)
        return np.asarray(own / self.spread[:, hour].T)

    def of(self, columns: Integers | Flags) -> Habits:
        """Those of some signals, which then have no peers."""
        own = {field.name: getattr(self, field.name)[columns] for field in fields(self)}
        own["weights"] = np.zeros_like(own["weights"])
        return Habits(**own)

    def described(self, keys: list[str]) -> list[dict[str, Any]]:
        """One JSON-like description per signal; `keys` names the signals that `peers` are places among."""
        told = []
        for n in range(len(self.history)):
            own: dict[str, Any] = {}
            for field in fields(self):
                values = getattr(self, field.name)[n]
                if field.name == "peers":
                    own["peers"] = {keys[p]: float(w) for p, w in zip(values, self.weights[n], strict=True) if w}
                elif field.name == "weights":
                    continue
                elif np.isfinite(values).all():
                    own[field.name] = _plain(values)
            told.append(own)
        return told


def _plain(values: Any) -> Any:
    """Figures of one signal as JSON holds them."""
    return values.tolist() if np.ndim(values) else float(values)


_SHAPES = {"expected": CELLS, "swing": 24, "spread": 24, "recurs": 24, "memory": ORDER, "weights": PEERS}


def habits_from(told: Sequence[Mapping[str, Any] | None], keys: list[str]) -> Habits:
    """The inverse of `Habits.described`; None for a signal of which nothing is known, which then has no history."""
    count = len(keys)
    place = {key: n for n, key in enumerate(keys)}
    arrays = {
        field.name: np.full((count, _SHAPES[field.name]) if field.name in _SHAPES else count, np.nan)
        for field in fields(Habits)
        if field.name != "peers"
    }
    arrays["history"] = np.zeros(count)
    arrays["weights"][:] = 0.0
    peers = np.zeros((count, PEERS), dtype=np.int64)
    for n, own in enumerate(told):
        for name, value in (own or {}).items():
            if name == "peers":
                known = [(place[peer], weight) for peer, weight in value.items() if peer in place]
                for rank, (peer, weight) in enumerate(known):
                    peers[n, rank], arrays["weights"][n, rank] = peer, weight
            else:
                arrays[name][n] = value
    return Habits(**arrays, peers=peers)


@dataclass(frozen=True)
class Profile:
    """What is usual of signals, each by itself: as in `Habits`, and `deviation`, hours × signals, of what was learned
    from (NaN elsewhere) from what was expected."""

    listed: pd.DataFrame
    deviation: Floats
    history: Floats
    mean: Floats
    expected: Floats
    swing: Floats
    flat_hours: Floats
    silent_hours: Floats
    change: Floats
    spike: Floats
    usual_low: Floats
    usual_high: Floats
    unrest: Floats
    step: Floats
    recurs: Floats

    def described(self) -> list[dict[str, Any]]:
        """One JSON-like description per signal, as of `Habits.described`: what is not known is left out."""
        figures = {
            field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("listed", "deviation")
        }
        return [
            {name: _plain(values[n]) for name, values in figures.items() if np.isfinite(values[n]).all()}
            for n in range(len(self.listed))
        ]


def profile_of(signals: Signals, cells: Integers, is_usable: Flags) -> Profile:
    """What is usual of each signal by itself, from `FULL_HISTORY` hours of it at best; parts of the signals may follow
    each other, see `joined`.

    Args:
        cells: the cell of the week of each hour.
        is_usable: hours × signals; False where an event lies over the hour, which must not become a habit.
    """
    usable = np.where(is_usable, signals.mean, np.nan)
    mean = _quiet(np.nanmean, usable)
    expected = _by_cell(usable, cells)
    deviation = usable - expected[:, cells].T
    step = _step(signals)
    swing = np.maximum(_spread_by_hour(deviation, cells % 24), _least(mean, step))
    return Profile(
        listed=signals.listed,
        deviation=deviation,
        history=np.isfinite(usable).sum(axis=0).astype(np.float64),
        mean=mean,
        expected=expected,
        swing=swing,
        flat_hours=longest_run(is_flat(signals) & is_usable),
        silent_hours=_usual_gap(np.isfinite(signals.mean)),
        change=_quiet(np.nanquantile, np.where(is_usable, signals.change, np.nan), 0.998),
        spike=_quiet(np.nanquantile, np.where(is_usable, signals.spike, np.nan), 0.998),
        usual_low=_usual_extreme(signals.mean, lowest=True),
        usual_high=_usual_extreme(signals.mean, lowest=False),
        unrest=_unrest(deviation, mean),
        step=step,
        recurs=_recurs(deviation / swing[:, cells % 24].T, cells % 24),
    )


def known_profile(signals: Signals, cells: Integers, is_usable: Flags, habits: Habits) -> Profile:
    """The profile, as of `profile_of`, of signals whose habits were learned before: only deviations are computed."""
    usable = np.where(is_usable, signals.mean, np.nan)
    names = (
        "history", "mean", "expected", "swing", "flat_hours", "silent_hours", "change", "spike",
        "usual_low", "usual_high", "unrest", "step", "recurs",
    )  # fmt: skip
    figures = {name: getattr(habits, name) for name in names}
    return Profile(listed=signals.listed, deviation=usable - habits.expected[:, cells].T, **figures)


def joined(profiles: Sequence[Profile]) -> Profile:
    """The profiles of parts of the signals, in this order, as one."""
    figures = {
        field.name: np.concatenate(
            [getattr(part, field.name) for part in profiles], axis=1 if field.name == "deviation" else 0
        )
        for field in fields(Profile)
        if field.name != "listed"
    }
    return Profile(listed=pd.concat([part.listed for part in profiles], ignore_index=True), **figures)


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
        scaled = np.clip(profile.deviation / swing, -CLIP, CLIP)
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
        spread = np.maximum(_spread_by_hour(unexplained, hour), _least(profile.mean[columns], profile.step[columns]))
        scaled = unexplained / spread[:, hour].T
        memory, surprise = _autoregression(np.clip(scaled, -CLIP, CLIP))
        return Habits(
            history=profile.history[columns],
            mean=profile.mean[columns],
            expected=profile.expected[columns],
            swing=profile.swing[columns],
            peers=peers,
            weights=weights,
            spread=spread,
            memory=memory,
            surprise=surprise,
            tail=_quiet(np.nanquantile, np.abs(scaled), 0.998),
            flat_hours=profile.flat_hours[columns],
            silent_hours=profile.silent_hours[columns],
            change=profile.change[columns],
            spike=profile.spike[columns],
            usual_low=profile.usual_low[columns],
            usual_high=profile.usual_high[columns],
            unrest=profile.unrest[columns],
            step=profile.step[columns],
            recurs=profile.recurs[columns],
        )

    def _scaled(self, columns: Integers) -> Floats:
        """Deviations in swings, clipped; an absent one is none."""
        profile = self._profile
        scaled = profile.deviation[:, columns] / profile.swing[columns][:, self._hour].T
        return np.asarray(np.nan_to_num(np.clip(scaled, -CLIP, CLIP)))


def learn(signals: Signals, cells: Integers, is_usable: Flags) -> Habits:
    """Habits of all signals at once from their hours, `FULL_HISTORY` of them at best; as of `profile_of`."""
    if not len(cells):
        return habits_from([None] * len(signals.listed), [str(n) for n in range(len(signals.listed))])
    relatives = Relatives(profile_of(signals, cells, is_usable), cells)
    return relatives.habits(np.arange(len(signals.listed)))


def _least(mean: Floats, step: Floats) -> Floats:
    """The least spread of each signal, as a column: what a meter cannot tell apart."""
    coarse = _ROUNDING * np.nan_to_num(step)
    return np.asarray(np.maximum(np.maximum(np.abs(mean) * _LEAST_SPREAD, coarse), 1e-6)[:, None])


def _recurs(scaled: Floats, hour: Integers) -> Floats:
    """Of each local hour (n × 24) how many swings above `CLIP` lay over it that were over within `SHORT_HOURS`; 0 where
    fewer than `USUAL_TIMES` did."""
    times = np.zeros((scaled.shape[1], 24))
    with np.errstate(invalid="ignore"):
        is_far = scaled > CLIP
    for column in np.flatnonzero(is_far.any(axis=0)):
        edges = np.flatnonzero(np.diff(is_far[:, column], prepend=False, append=False))
        for first, end in zip(edges[::2], edges[1::2], strict=True):
            if end - first <= SHORT_HOURS:
                times[column, hour[first:end]] += 1
    return np.where(times >= USUAL_TIMES, times, 0.0)


def _step(signals: Signals) -> Floats:
    """The step in which a sensor's readings go up and down, where few of them differ; else 0."""
    steps = np.zeros(signals.mean.shape[1])
    for column in range(len(steps)):
        seen = np.unique(np.concatenate([signals.low[:, column], signals.high[:, column]]))
        seen = seen[np.isfinite(seen)]
        if 2 <= len(seen) <= FEW_VALUES:
            steps[column] = np.diff(seen).min()
    return steps


def without_peers(deviation: Floats, swing: Floats, peers: Integers, weights: Floats) -> Floats:
    """Deviations less the share of them that the peers' own deviations explain; an absent peer explains nothing."""
    scaled = np.nan_to_num(np.clip(deviation / swing, -CLIP, CLIP))
    explained = np.zeros_like(scaled)
    for rank in np.flatnonzero(weights.any(axis=0)):
        explained += scaled[:, peers[:, rank]] * weights[:, rank]
    return np.asarray(deviation - swing * explained)


def is_flat(signals: Signals) -> Flags:
    """Hours in which nothing changed, neither within them nor since the hour before."""
    within = signals.low == signals.high
    return np.asarray(within & (signals.mean == _shifted(signals.mean)))


def longest_run(flags: Flags) -> Floats:
    """The longest run of True in each column."""
    run, longest = np.zeros(flags.shape[1]), np.zeros(flags.shape[1])
    for row in flags:
        run = np.where(row, run + 1, 0.0)
        np.maximum(longest, run, out=longest)
    return longest


def _usual_gap(present: Flags) -> Floats:
    """The longest gap that was seen at least `USUAL_TIMES` times, between two presences."""
    usual = np.zeros(present.shape[1])
    for column in np.flatnonzero(~present.all(axis=0)):
        there = np.flatnonzero(present[:, column])
        gaps = np.sort(np.diff(there) - 1)
        if len(gaps) >= USUAL_TIMES:
            usual[column] = gaps[-USUAL_TIMES]
    return usual


def _usual_extreme(mean: Floats, *, lowest: bool) -> Floats:
    """The lowest (or highest) hourly mean of a day that at least `USUAL_DAYS` days reached, which lie `USUAL_SPAN` days
    apart or more; NaN where there are no such days."""
    days = len(mean) // 24
    signed = mean[: days * 24] if lowest else -mean[: days * 24]
    extremes = _quiet_of_days(np.nanmin, signed.reshape(days, 24, mean.shape[1]))
    usual = np.full(mean.shape[1], np.nan)
    order = np.argsort(extremes, axis=0, kind="stable")
    for column in range(mean.shape[1]):
        first = last = -1
        for count, day in enumerate(order[:, column], start=1):
            if np.isnan(extremes[day, column]):
                break
            first, last = (min(first, day), max(last, day)) if count > 1 else (day, day)
            if count >= USUAL_DAYS and last - first >= USUAL_SPAN:
                usual[column] = extremes[day, column]
                break
    return usual if lowest else -usual


def _quiet_of_days(statistic: Callable[..., Any], values: Floats) -> Floats:
    """A statistic per day and column of days × hours × columns; NaN without a warning where all is missing."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(statistic(values, axis=1), dtype=np.float64)


def _unrest(deviation: Floats, mean: Floats) -> Floats:
    """How far all but 2 % of hours lie from what was expected, as a share of the mean."""
    far = _quiet(np.nanquantile, np.abs(deviation), 0.98)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(far / np.abs(mean))


def _shifted(values: Floats) -> Floats:
    return np.concatenate([np.full((1, values.shape[1]), np.nan), values[:-1]])


def _quiet(statistic: Callable[..., Any], values: Floats, *arguments: float) -> Floats:
    """A statistic per column; NaN without a warning where a column is empty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(statistic(values, *arguments, axis=0), dtype=np.float64)


def _by_cell(values: Floats, cells: Integers) -> Floats:
    """Medians by cell of the week; where a cell has seen fewer than three days, those of its hour on any day."""
    by_cell = np.full((values.shape[1], CELLS), np.nan)
    for hour in range(24):
        of_hour = cells % 24 == hour
        any_day = _quiet(np.nanmedian, values[of_hour])
        for kind in range(CELLS // 24):
            own = values[cells == kind * 24 + hour]
            enough = np.isfinite(own).sum(axis=0) >= 3
            by_cell[:, kind * 24 + hour] = np.where(enough, _quiet(np.nanmedian, own), any_day)
    return by_cell


def _spread_by_hour(deviation: Floats, hour: Integers) -> Floats:
    """Robust standard deviations (1.4826 × MAD) by local hour, each smoothed with its neighbours."""
    spread = np.full((deviation.shape[1], 24), np.nan)
    for h in range(24):
        own = deviation[hour == h]
        spread[:, h] = 1.4826 * _quiet(np.nanmedian, np.abs(own - _quiet(np.nanmedian, own)))
    overall = _quiet(np.nanmedian, spread.T)[:, None]
    spread = np.where(np.isfinite(spread), spread, overall)
    return np.asarray((np.roll(spread, 1, axis=1) + 2 * spread + np.roll(spread, -1, axis=1)) / 4)


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
            alike = np.abs(products[n, allowed]) / np.sqrt(np.maximum(np.diag(products)[allowed], 1e-9))
            chosen = allowed[np.argsort(-alike, kind="stable")[:PEERS]]
            if len(chosen):
                gram = products[np.ix_(chosen, chosen)] + RIDGE * shared[n, n] * np.eye(len(chosen))
                peers[columns[n], : len(chosen)] = columns[chosen]
                weights[columns[n], : len(chosen)] = np.linalg.solve(gram, products[n, chosen])
    return peers, weights


def _autoregression(scaled: Floats) -> tuple[Floats, Floats]:
    """Yule-Walker coefficients (n × ORDER) from what is present, and the robust spread of what they leave."""
    count = scaled.shape[1]
    present = np.isfinite(scaled)
    zeroed = np.where(present, scaled - _quiet(np.nanmedian, scaled), 0.0)
    length = len(scaled)
    covariance = np.empty((count, ORDER + 1))
    for lag in range(ORDER + 1):
        both = (present[: length - lag] & present[lag:]).sum(axis=0)
        covariance[:, lag] = (zeroed[: length - lag] * zeroed[lag:]).sum(axis=0) / np.maximum(both, 1)
    lags = np.abs(np.subtract.outer(np.arange(ORDER), np.arange(ORDER)))
    # A little white noise keeps the equations solvable where a signal hardly moves.
    ridge = (0.01 * covariance[:, 0] + 1e-9)[:, None, None] * np.eye(ORDER)
    memory: Floats = np.linalg.solve(covariance[:, lags] + ridge, covariance[:, 1:, None])[:, :, 0].astype(np.float64)
    surprises = surprises_of(scaled, memory)
    spread = 1.4826 * _quiet(np.nanmedian, np.abs(surprises - _quiet(np.nanmedian, surprises)))
    return memory, np.maximum(spread, 0.05)


def surprises_of(scaled: Floats, memory: Floats) -> Floats:
    """What the hours before do not foresee; an hour that is missing foresees what is usual."""
    known = np.nan_to_num(scaled)
    foreseen = np.zeros_like(known)
    for lag in range(1, memory.shape[1] + 1):
        foreseen[lag:] += memory[:, lag - 1] * known[:-lag]
    return np.asarray(scaled - foreseen)
