"""The sample of a large network: chosen, learned once a week and stored, and its hours read once per job and process.

In a network of one share there is none: every node is compared with every other.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pandas as pd
from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert

from src.db.tables import sampled_habits
from src.domain.anomalies.profile import Profile, known_profile, profile_of
from src.domain.anomalies.sample import Sample, SampleMemory, arranged
from src.domain.anomalies.signals import MEASURED, Signals, cells_of
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
        FROM water_infrastructure.nodes WHERE is_active AND out_of_service_since IS NULL
    ) AS ranked ORDER BY place, md5(district_id) LIMIT :size
    """
)


def sample_of_week(runtime: Runtime, monday: datetime, as_of: datetime) -> Sample:
    """The sample of the week that begins on a Monday, learned from the weeks before where nobody has yet.

    Args:
        as_of: the instant the job stands for, with which what this process remembers is told apart.
    """
    with runtime.sampling:
        remembered = _memory(runtime, as_of)
        if (sample := remembered.samples.get(monday)) is None:
            sample = patiently(runtime, lambda: _stored(runtime, monday, as_of), "sample of the network")
        if sample is None:
            patiently(runtime, lambda: _learn(runtime, monday, as_of), "sample of the network")
            sample = patiently(runtime, lambda: _stored(runtime, monday, as_of), "sample of the network")
        if sample is None:
            raise LookupError("no node is active any more")
        remembered.samples[monday] = sample
        return sample


def signals_of_sample(runtime: Runtime, sample: Sample, as_of: datetime, start: datetime, end: datetime) -> Signals:
    """The hours of the sample's signals in [start, end), in the order of `sample.listed`: means and cadence.

    Args:
        as_of: as of `sample_of_week`.
    """
    with runtime.sampling:
        hours = _memory(runtime, as_of).hours
        if (start, end) not in hours:
            # One week is looked at at a time, and the weeks before it where it is learned.
            for span in list(hours)[:-1]:
                del hours[span]
            hours[start, end] = patiently(runtime, lambda: _read(runtime, sample, start, end), "sample of the network")
        return hours[start, end]


def history_of_sample(runtime: Runtime, sample: Sample, monday: datetime, as_of: datetime) -> Signals:
    """The hours of the sample's signals from which habits of a week are learned."""
    return signals_of_sample(runtime, sample, as_of, monday - HISTORY, monday)


def profile_of_sample(runtime: Runtime, sample: Sample, monday: datetime, as_of: datetime) -> Profile:
    """The profile of the sample's signals in the weeks before."""
    history = history_of_sample(runtime, sample, monday, as_of)
    cells = cells_of(history.hours, runtime.zone, runtime.settings.utility_country)
    return known_profile(history, cells, np.ones(history.mean.shape, dtype=bool), sample.habits)


def _memory(runtime: Runtime, as_of: datetime) -> SampleMemory:
    if runtime.sample_memory.instant != as_of:
        runtime.sample_memory = SampleMemory(as_of)
    return runtime.sample_memory


def _read(runtime: Runtime, sample: Sample, start: datetime, end: datetime) -> Signals:
    nodes = sample.nodes
    with runtime.database.begin() as connection:
        return arranged(hourly_signals(connection, nodes, nodes.index, start, end, end, balanced=False), sample)


def _stored(runtime: Runtime, monday: datetime, as_of: datetime) -> Sample | None:
    # What a clock that ran ahead has learned is not known: it had not seen the weeks before.
    now = max(as_of, runtime.clock.now())
    columns = sampled_habits.c
    query = select(sampled_habits).where(columns.valid_from == monday, columns.learned_at <= now)
    with runtime.database.connect() as connection:
        rows = connection.execute(query).all()
    if not rows:
        return None
    # Whatever the database sorts by, every process has the same order.
    rows = sorted(rows, key=lambda row: (row.node_id, row.measurement))
    listed = pd.DataFrame(rows)[["node_id", "measurement", "district_id", "role"]]
    return Sample(listed, [row.habits for row in rows])


def _learn(runtime: Runtime, monday: datetime, as_of: datetime) -> None:
    """What is usual is learned from every hour: which of them lie under events may still be under judgement, and a few
    bad days do not move a median."""
    with runtime.database.begin() as connection:
        chosen = connection.execute(_SAMPLE, {"size": SIZE}).all()
        nodes = pd.DataFrame(chosen, columns=["node_id", "district_id", "role"]).set_index("node_id").sort_index()
        history = hourly_signals(connection, nodes, nodes.index, monday - HISTORY, monday, monday, balanced=False)
        cells = cells_of(history.hours, runtime.zone, runtime.settings.utility_country)
        profile = profile_of(history, cells, np.ones(history.mean.shape, dtype=bool))
        pairs = zip(history.listed["node_id"], history.listed["measurement"], strict=True)
        described = dict(zip(pairs, profile.described(), strict=True))
        # Also of what has not measured anything yet: whether it reports matters for the network.
        rows = [
            {
                "valid_from": monday,
                "learned_at": as_of,
                "node_id": node.node_id,
                "measurement": measurement,
                "district_id": node.district_id,
                "role": node.role,
                "habits": described.get((node.node_id, measurement), {}),
            }
            for node in chosen
            for measurement in MEASURED
        ]
        if rows:
            # Two that learn at once have learned the same.
            statement = insert(sampled_habits)
            new = {name: statement.excluded[name] for name in ("learned_at", "district_id", "role", "habits")}
            keys = list(sampled_habits.primary_key)
            connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=new), rows)
