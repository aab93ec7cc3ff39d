"""The sample of a large network to which its districts are compared: what all share in an hour is no news of one.

Two hundred nodes stand for the network. What is usual of them is learned once a week and stored; their hours are read
once per job in each process. So no district reads another's readings, and what it is told does not depend on which
districts stand beside it. In a network of one share every node is compared with every other instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import numpy as np
import pandas as pd
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from src.db.tables import sampled_habits
from src.domain.anomalies.events import Finding
from src.domain.anomalies.habits import Profile, habits_from, known_profile, profile_of
from src.domain.anomalies.sensor_faults import EVERY_NODE, outages, silences
from src.domain.anomalies.signals import MEASURED, Flags, Floats, Signals, cells_of
from src.domain.anomalies.watch import HISTORY
from src.processing.conclusions.hours import hourly_signals
from src.processing.jobs.patience import patiently
from src.processing.jobs.runtime import Runtime

SIZE = 200
# The main inlets of as many districts as there are, then their second nodes, and so on; nodes of no district are as if
# of one.
_SAMPLE = text(
    """
    SELECT node_id, district_id, role FROM (
        SELECT node_id, district_id, role, row_number() OVER (
            PARTITION BY district_id ORDER BY role IS DISTINCT FROM 'inlet', md5(node_id)
        ) AS place
        FROM water_infrastructure.nodes WHERE is_active
    ) AS ranked ORDER BY place, md5(district_id) LIMIT :size
    """
)
PREFIX = "network "


@dataclass(frozen=True)
class Sample:
    """What is usual of the sample's signals in one week.

    Attributes:
        listed: node_id, measurement, district_id, role of each signal.
        described: what is usual of each, as `Habits.described` says it.
    """

    listed: pd.DataFrame
    described: list[dict[str, Any]]

    @property
    def keys(self) -> list[str]:
        """What its signals are called where a district's habits name their peers."""
        pairs = zip(self.listed["measurement"], self.listed["node_id"], strict=True)
        return [f"{PREFIX}{measurement} {node}" for measurement, node in pairs]

    @property
    def nodes(self) -> pd.DataFrame:
        """Index node_id; columns district_id, role."""
        nodes = self.listed.drop_duplicates("node_id").set_index("node_id")
        return nodes[["district_id", "role"]].sort_index()


def sample_of_week(runtime: Runtime, monday: datetime, until: datetime) -> Sample:
    """The sample of the week that begins on a Monday, learned from the weeks before where nobody has yet.

    Args:
        until: the instant the job stands for, with which what this process remembers of the sample is told apart.
    """
    with runtime.sampling:
        remembered = runtime.samples_of(until)
        if (monday,) not in remembered:
            found = patiently(runtime, lambda: _stored(runtime, monday, until), "sample of the network")
            if found is None:
                found = patiently(runtime, lambda: _learned(runtime, monday, until), "sample of the network")
            remembered[monday,] = found
        return cast(Sample, remembered[monday,])


def signals_of_sample(runtime: Runtime, sample: Sample, until: datetime, start: datetime, end: datetime) -> Signals:
    """The hours of the sample's signals in [start, end), in the order of `sample.listed`: means and cadence.

    Args:
        until: as of `sample_of_week`.
    """
    with runtime.sampling:
        remembered = runtime.samples_of(until)
        if (start, end) not in remembered:
            with runtime.database.begin() as connection:
                nodes = sample.nodes
                found = hourly_signals(connection, nodes, nodes.index, start, end, end, balanced=False)
            # One week is looked at at a time, and the weeks before it where it is learned.
            for key in [key for key in remembered if len(key) == 2][:-1]:
                del remembered[key]
            remembered[start, end] = _in_order(found, sample.listed)
        return cast(Signals, remembered[start, end])


def history_of_sample(runtime: Runtime, sample: Sample, monday: datetime, until: datetime) -> Signals:
    """The hours of the sample's signals from which habits of a week are learned."""
    return signals_of_sample(runtime, sample, until, monday - HISTORY, monday)


def profile_of_sample(runtime: Runtime, sample: Sample, monday: datetime, until: datetime) -> Profile:
    """The profile of the sample's signals in the weeks before."""
    history = history_of_sample(runtime, sample, monday, until)
    cells = cells_of(history.hours, runtime.zone, runtime.settings.utility_country)
    habits = habits_from(sample.described, sample.keys)
    return known_profile(history, cells, np.ones(history.mean.shape, dtype=bool), habits)


def outage_of_sample(signals: Signals) -> Flags:
    """Hours in which most of the sample sent nothing, for which the network stands."""
    node = pd.Categorical(signals.listed["node_id"])
    reporting = np.zeros((len(signals.hours), len(node.categories)), dtype=bool)
    for column, owner in enumerate(node.codes):
        reporting[:, owner] |= np.isfinite(signals.mean[:, column])
    return outages(reporting[:, reporting.any(axis=0)])


def outages_found(signals: Signals, sample: Sample) -> list[Finding]:
    """Findings that concern the whole network: when most of the sample sent nothing."""
    there = np.flatnonzero(np.isfinite(signals.mean).any(axis=0))
    habits = habits_from(sample.described, sample.keys).of(there)
    return [finding for finding in silences(signals.of(there), habits) if finding.node_id == EVERY_NODE]


def _stored(runtime: Runtime, monday: datetime, until: datetime) -> Sample | None:
    # What a clock that ran ahead has learned is not known: it had not seen the weeks before.
    now = max(until, runtime.clock.now())
    with runtime.database.connect() as connection:
        own = sampled_habits.c
        query = select(own.node_id, own.measurement, own.district_id, own.role, own.habits)
        rows = connection.execute(query.where(own.valid_from == monday, own.learned_at <= now)).all()
        # Whatever the database sorts by, every process has the same order.
        rows = sorted(rows, key=lambda row: (row.node_id, row.measurement))
    if not rows:
        return None
    listed = pd.DataFrame(rows)[["node_id", "measurement", "district_id", "role"]]
    return Sample(listed, [row.habits for row in rows])


def _learned(runtime: Runtime, monday: datetime, until: datetime) -> Sample:
    """What is usual is learned from every hour: which of them lie under events may still be under judgement, and a few
    bad days do not move a median."""
    with runtime.database.begin() as connection:
        nodes = pd.DataFrame(connection.execute(_SAMPLE, {"size": SIZE}).mappings().all())
        nodes = nodes.set_index("node_id").sort_index()
        history = hourly_signals(connection, nodes, list(nodes.index), monday - HISTORY, monday, monday, balanced=False)
        cells = cells_of(history.hours, runtime.zone, runtime.settings.utility_country)
        usable = np.ones(history.mean.shape, dtype=bool)
        described: dict[Any, dict[str, Any]] = dict(
            zip(_pairs(history.listed), _described(profile_of(history, cells, usable)), strict=True)
        )
        # Also of what has not measured anything yet: whether it reports says something of the network.
        rows = [
            {
                "valid_from": monday,
                "learned_at": until,
                "node_id": node_id,
                "measurement": measurement,
                "district_id": _plain(node.district_id),
            }
            | {"role": _plain(node.role), "habits": described.get((node_id, measurement), {})}
            for node_id, node in nodes.iterrows()
            for measurement in MEASURED
        ]
        if rows:
            # Two that learn at once have learned the same.
            statement = insert(sampled_habits)
            new = {name: statement.excluded[name] for name in ("learned_at", "district_id", "role", "habits")}
            connection.execute(
                statement.on_conflict_do_update(index_elements=list(sampled_habits.primary_key), set_=new), rows
            )
    return _stored(runtime, monday, until) or Sample(history.listed[:0], [])


def _described(profile: Profile) -> list[dict[str, Any]]:
    """One JSON-like description per signal; what is not known is left out."""
    found = []
    for n in range(len(profile.listed)):
        one: dict[str, Any] = {}
        for name in ("history", "mean", "expected", "swing", "silent_hours"):
            values = getattr(profile, name)[n]
            if np.isfinite(values).all():
                one[name] = values.tolist() if np.ndim(values) else float(values)
        found.append(one)
    return found


def _in_order(signals: Signals, listed: pd.DataFrame) -> Signals:
    """The signals as listed; those of which nothing was measured have NaN."""
    places = {(n, m): p for p, (n, m) in enumerate(_pairs(signals.listed))}
    columns = [places.get(pair) for pair in _pairs(listed)]
    nothing = np.full(len(signals.hours), np.nan)

    def ordered(values: Floats) -> Floats:
        columned = [nothing if column is None else values[:, column] for column in columns]
        return np.column_stack(columned) if columned else np.empty((len(signals.hours), 0))

    unknown = np.broadcast_to(np.nan, (len(signals.hours), len(columns)))
    return Signals(
        signals.hours, listed, ordered(signals.mean), unknown, unknown, unknown, unknown, ordered(signals.cadence)
    )


def _pairs(listed: pd.DataFrame) -> Sequence[tuple[str, str]]:
    return list(zip(listed["node_id"], listed["measurement"], strict=True))


def _plain(value: Any) -> Any:
    return None if pd.isna(value) else value
