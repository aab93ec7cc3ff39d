"""Meters as utilities have them, made by keyword, with what truly flowed and what is wrong with their channels.

What flowed is added up sample by sample from the flow behind the readings, by nothing that the service uses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from src.vocabulary import Role

# Six weeks and a day that begin with a Monday of the utility's.
BEGIN, DAYS = datetime(2025, 5, 11, 22, tzinfo=UTC), 43
ZONE = "Europe/Rome"
MEASURED = ("flow_rate", "pressure", "temperature", "volume")
INLET_FLOW, USED_A_DAY = 10.0, 700.0
Floats = npt.NDArray[np.float64]
Wrong = Literal["dead", "copy of flow_rate", "unit"]
Habit = Literal["on change", "sparse", "catch-up", "lost 10", "lost 30"]


@dataclass(frozen=True)
class Meter:
    """What came in of one meter, beside the truth.

    Attributes:
        readings: timestamp (aware), node_id, district_id and what is measured, as a collector writes them.
        role: its part in the balance of its district; None: not stated.
        habit: what its volumes are an example of; None: they are not looked at.
        hours: m³ that truly flowed, by hour (UTC); empty: nobody knows.
        wrong: by measurement, what is to be found out about a channel.
        open: measurements for which any judgement may pass: a person who looked at them would not be sure.
    """

    readings: pd.DataFrame
    role: Role | None = None
    habit: Habit | None = None
    hours: pd.Series = field(default_factory=pd.Series)
    wrong: dict[str, Wrong] = field(default_factory=dict)
    open: frozenset[str] = frozenset()

    @property
    def node_id(self) -> str:
        return str(self.readings["node_id"].iloc[0])

    @property
    def district_id(self) -> str:
        return str(self.readings["district_id"].iloc[0])

    @property
    def measured(self) -> set[str]:
        """The channels in which anything ever came."""
        return {name for name in MEASURED if name in self.readings and self.readings[name].notna().any()}


def generated_meters() -> Iterator[Meter]:
    """The cases that need no folder."""
    yield on_change("own-change-12", share=0.12, silent_hours=6, seed=11)
    yield on_change("own-change-05", share=0.05, silent_hours=12, seed=12)
    yield sparse("own-sparse-50", lost=0.5, minutes=15, seed=21)
    yield sparse("own-sparse-70", lost=0.7, minutes=15, seed=22)
    yield sparse("own-sparse-70-fine", lost=0.7, minutes=5, seed=23)
    yield catching_up("own-catch-up-night", away_hours=7.5, has_flow=True, seed=31)
    yield catching_up("own-catch-up-day", away_hours=26, has_flow=True, seed=32)
    yield catching_up("own-catch-up-counter", away_hours=7.5, has_flow=False, seed=33)
    yield from broken_channels()
    for percent in (10, 30):
        for counts in (False, True):
            for swing in (False, True):
                kind = f"{'counted' if counts else 'sampled'}-{'swing' if swing else 'steady'}"
                seed = percent + 2 * counts + swing
                yield from district(f"own-lost-{percent}-{kind}", percent, counts=counts, swing=swing, seed=seed)


def on_change(name: str, *, share: float, silent_hours: float, seed: int) -> Meter:
    """A sensor that reports its flow, which it takes each minute, where it moved by this share, or after hours."""
    instants, random = _instants(1), np.random.default_rng(seed)
    # The water of a quarter of an hour, and what single minutes do around it.
    flow = np.repeat(demand(_instants(15), random), 15) * np.exp(random.normal(0, 0.004, len(instants)))
    reported = [0]
    for minute, value in enumerate(flow):
        last = flow[reported[-1]]
        if abs(value - last) > share * last or minute - reported[-1] >= 60 * silent_hours:
            reported.append(minute)
    readings = _readings(name, instants[reported], {"flow_rate": flow[reported]})
    return Meter(readings, "inlet", "on change", by_hour(instants, flow, 1))


def sparse(name: str, *, lost: float, minutes: int, seed: int) -> Meter:
    """A regular sensor of whose readings a share is lost, at random."""
    instants, random = _instants(minutes), np.random.default_rng(seed)
    flow = demand(instants, random)
    readings = _readings(name, instants, {"flow_rate": flow, "pressure": _pressure(flow, random)})
    return Meter(_without(readings, lost, random), "inlet", "sparse", by_hour(instants, flow, minutes))


def catching_up(name: str, *, away_hours: float, has_flow: bool, seed: int) -> Meter:
    """A logger that is away every fifth day, and sends afterwards in one volume what flowed meanwhile."""
    instants, random = _instants(15), np.random.default_rng(seed)
    flow = demand(instants, random)
    counted = _counted(flow, 15)
    steps, stays = round(away_hours * 4), np.ones(len(instants), dtype=bool)
    for first in range(12 * 96, len(instants) - steps - 1, 5 * 96):
        counted[first + steps] = counted[first : first + steps + 1].sum()
        stays[first : first + steps] = False
    measured = {"flow_rate": flow, "volume": counted} if has_flow else {"volume": counted}
    return Meter(_readings(name, instants, measured)[stays], "inlet", "catch-up", by_hour(instants, flow, 15))


def district(name: str, percent: int, *, counts: bool, swing: bool, seed: int) -> list[Meter]:
    """An inlet that lost so many percent of its readings, of 864 m³ a day, and customers who use 700 of them."""
    instants, random = _instants(15), np.random.default_rng(seed)
    hour = instants.tz_convert(ZONE).hour.to_numpy()
    flow = INLET_FLOW * (1 + 0.5 * swing * np.sin((hour - 9) / 24 * 2 * np.pi))
    measured = {"flow_rate": flow, "pressure": _pressure(flow, random)}
    if counts:
        measured["volume"] = _counted(flow, 15)
    inlet = _without(_readings(f"{name}-in", instants, measured, name), percent / 100, random)
    used = np.full(len(instants), USED_A_DAY / 86.4)
    customers = _readings(f"{name}-out", instants, {"flow_rate": used}, name)
    habit: Habit = "lost 10" if percent == 10 else "lost 30"
    return [
        Meter(inlet, "inlet", habit, by_hour(instants, flow, 15)),
        Meter(customers, "consumption", hours=by_hour(instants, used, 15)),
    ]


def broken_channels() -> Iterator[Meter]:
    """Channels that are not connected, are copies or have another scale; and some that are as they should be."""
    instants = _instants(15)
    nothing = np.zeros(len(instants))

    def meter(name: str, wrong: dict[str, Wrong], *, until: int | None = None, **changed: Floats) -> Meter:
        """Flow, pressure and temperature of a usual point, but for what is changed."""
        random = np.random.default_rng([41, *name.encode()])
        flow = changed.get("flow_rate", demand(instants, random))
        bar, warm = _pressure(demand(instants, random), random), 14 + _wandering(len(instants), 0.4, random)
        channels = {"flow_rate": flow, "pressure": bar, "temperature": warm} | changed
        for measurement, what in wrong.items():
            if what == "copy of flow_rate":
                channels[measurement] = flow
        readings = _readings(f"own-{name}", instants, channels)
        return Meter(readings if until is None else readings[:until], wrong=wrong)

    random = np.random.default_rng(42)
    bar = _pressure(demand(instants, random), random)
    running = np.arange(len(instants)) // 14 % 2 == 0
    night = np.isin(instants.tz_convert(ZONE).hour, [22, 23, 0, 1, 2, 3, 4])
    yield meter("dead-pressure", {"pressure": "dead"}, pressure=nothing)
    yield meter("dead-temperature", {"temperature": "dead"}, temperature=nothing)
    ended: dict[str, Wrong] = dict.fromkeys(("flow_rate", "pressure"), "dead")
    yield meter("dead-and-gone", ended, until=4 * 96, flow_rate=nothing, pressure=nothing)
    yield meter("copied-temperature", {"temperature": "copy of flow_rate"})
    yield meter("copied-pressure", {"pressure": "copy of flow_rate"})
    yield meter("metres", {"pressure": "unit"}, pressure=bar * 10.197)
    yield meter("psi", {"pressure": "unit"}, pressure=bar * 14.504)
    yield meter("kilopascal", {"pressure": "unit"}, pressure=bar * 100)
    yield meter("usual", {})
    yield meter("pump", {}, flow_rate=30.0 * running, pressure=3 + 2.5 * running + random.normal(0, 0.03, len(bar)))
    yield meter(
        "shut-at-night", {},
        flow_rate=np.where(night, 0, demand(instants, random)), pressure=np.where(night, 0.05, bar),
    )  # fmt: skip


def demand(instants: pd.DatetimeIndex, random: np.random.Generator) -> Floats:
    """A district's flow (L/s) with its mornings, evenings and weekends, and what nobody can foresee."""
    local = instants.tz_convert(ZONE)
    hour = np.asarray(local.hour + local.minute / 60)
    usual = 0.35 + 0.25 * ((hour > 9) & (hour < 22))
    for peak, width, height in ((7.5, 1.8, 0.5), (13, 2.2, 0.45), (20, 2.3, 0.5)):
        usual = usual + height * np.exp(-(((hour - peak) / width) ** 2))
    usual = usual * np.where(np.asarray(local.dayofweek) >= 5, 1.08, 1.0)
    return np.asarray(INLET_FLOW * usual * np.exp(_wandering(len(instants), 0.046, random)))


def by_hour(instants: pd.DatetimeIndex, flow: Floats, minutes: int) -> pd.Series:
    """m³ of each hour, where each flow (L/s) lasts so many minutes from its instant on."""
    return pd.Series(flow * (minutes * 60 / 1000), index=instants).resample("h").sum()


def _counted(flow: Floats, minutes: int) -> Floats:
    """m³ that a meter has counted when it reports: what flowed since the report before."""
    return np.asarray(np.concatenate([flow[:1], flow[:-1]]) * (minutes * 60 / 1000))


def _pressure(flow: Floats, random: np.random.Generator) -> Floats:
    """bar: the less, the more flows."""
    return np.asarray(4.2 - 0.05 * flow + random.normal(0, 0.02, len(flow)))


def _wandering(count: int, spread: float, random: np.random.Generator) -> Floats:
    """Noise around 0 with a memory of some ten samples."""
    begun = 50
    steps = pd.Series(random.normal(0, spread, begun + count)).ewm(alpha=0.1, adjust=False).mean().to_numpy()
    # Such a mean spreads less than what it is made of.
    return np.asarray(steps[begun:] * np.sqrt(1.9 / 0.1))


def _instants(minutes: int) -> pd.DatetimeIndex:
    step = timedelta(minutes=minutes)
    return pd.date_range(BEGIN, periods=round(timedelta(days=DAYS) / step), freq=step)


def _readings(
    name: str, instants: pd.DatetimeIndex, measured: dict[str, Floats], district_id: str = ""
) -> pd.DataFrame:
    return pd.DataFrame({"timestamp": instants, "node_id": name, "district_id": district_id or name, **measured})


def _without(readings: pd.DataFrame, share: float, random: np.random.Generator) -> pd.DataFrame:
    """The readings without a share of them, at random."""
    return readings[random.random(len(readings)) >= share]
