"""Habits as rows of `node_habits`: read for a week, and learned where there are none yet.

They are learned some nodes at a time and stored as they are learned, so that a large network needs no more memory than
a part of it, and a process that ends in the middle has not learned in vain.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

import numpy as np
import orjson
import pandas as pd
from sqlalchemy import Connection
from sqlalchemy.dialects.postgresql import insert

from src.db.bulk_read import read_rows
from src.db.tables import node_habits
from src.domain.anomalies.habits import Habits, habits_from
from src.domain.anomalies.profile import Profile, joined, known_profile, profile_of
from src.domain.anomalies.relatives import Relatives
from src.domain.anomalies.sample import PREFIX, Sample
from src.domain.anomalies.signals import Flags, Floats, Integers, Signals, cells_of
from src.domain.anomalies.stored import Stored, usable_hours
from src.domain.anomalies.together import keys_of
from src.domain.anomalies.watch import HISTORY
from src.processing.conclusions.events import stored_events
from src.processing.conclusions.hours import hourly_signals
from src.processing.conclusions.sample import history_of_sample, profile_of_sample
from src.processing.jobs.patience import patiently
from src.processing.jobs.runtime import Runtime
from src.processing.modelling.detectors import WEEK, learn_detectors

# So many nodes' history is held at once, and so many signals' habits are stored in one transaction.
PART = 200
# What a clock that ran ahead has learned is not known: it had not seen the weeks before.
_HABITS = """
    SELECT measurement || ' ' || node_id, habits - 'learned_at' FROM water_infrastructure.node_habits
    WHERE valid_from = %(monday)s AND node_id = ANY(%(nodes)s)
        AND coalesce(CAST(habits ->> 'learned_at' AS timestamptz) <= %(now)s, true)
"""
# By the name of a signal ("flow_rate n1"), what is known of it.
Described = dict[str, Mapping[str, Any]]


def habits_of_week(connection: Connection, monday: datetime, now: datetime, node_ids: Collection[str]) -> Described:
    """The habits stored for a week of these nodes; nothing for a signal that is not learned yet."""
    bound = {"monday": monday, "now": now, "nodes": sorted(node_ids)}
    rows = read_rows(connection, _HABITS, bound, {"key": "text", "habits": "text"})
    return {key: orjson.loads(habits) for key, habits in zip(rows["key"], rows["habits"], strict=True)}


def rests_on_others(habits: Mapping[str, Any], node_ids: Collection[str], sample: Sample | None) -> bool:
    """Whether habits were learned when the network was divided otherwise: they name peers that are not at hand now.

    Args:
        node_ids: the active nodes of the share.
    """
    return any(
        sample is None if peer.startswith(PREFIX) else peer.split(" ", 1)[1] not in node_ids
        for peer in habits.get("peers", {})
    )


def learn_week(
    runtime: Runtime,
    network: pd.DataFrame,
    monday: datetime,
    missing: Sequence[str],
    country: str,
    as_of: datetime,
    sample: Sample | None,
) -> None:
    """Learns and stores the habits of signals in the week that begins on `monday`, from the weeks before it.

    Detectors of districts are learned with them, in the week that `as_of` lies in; those of weeks long past would never
    be in use.

    Args:
        network: whole districts, as of `hours.active_nodes`.
        missing: the signals of which nothing is stored for the week.
        sample: what other districts are like, where the network is only some of them.
    """
    with runtime.database.connect() as connection:
        described = habits_of_week(connection, monday, max(as_of, runtime.clock.now()), network.index)
        stored = stored_events(connection, monday - HISTORY, monday, network.index)
    parts: list[_Part] = []
    for first in range(0, len(network), PART):
        nodes = list(network.index[first : first + PART])
        parts.append(_part(runtime, network, nodes, monday, stored, described, set(missing), country))
    profiles = [part.profile for part in parts]
    count = sum(len(profile.listed) for profile in profiles)
    if sample is not None:
        profiles.append(profile_of_sample(runtime, sample, monday, as_of))
    profile = joined(profiles)
    hours = pd.date_range(monday - HISTORY, monday, freq="h", inclusive="left", tz="UTC")
    cells = cells_of(hours, runtime.zone, country)
    names = [f"{m} {n}" for n, m in zip(profile.listed["node_id"], profile.listed["measurement"], strict=True)]
    if sample is not None:
        names[count:] = sample.keys
    places = {name: place for place, name in enumerate(names)}
    relatives = Relatives(profile, cells, None if sample is None else count)
    groups = [list(missing[first : first + PART]) for first in range(0, len(missing), PART)]
    for group in groups:
        columns = np.array([places[key] for key in group if key in places], dtype=np.int64)
        learned = relatives.habits(columns).described(names) if len(columns) else []
        found = dict(zip([names[column] for column in columns], learned, strict=True))
        described.update({key: found.get(key, {}) for key in group})
        rows = [_row(key, monday, described[key], as_of) for key in group]
        detectors: Callable[[Connection], None] | None = None
        # With the last of the signals, so that a week whose habits are all there has its detectors.
        if group is groups[-1] and as_of - monday <= WEEK:
            habits = habits_from([described.get(name, {}) for name in names[:count]], names[:count])
            mean, usable = (np.concatenate([getattr(p, f) for p in parts], axis=1) for f in ("mean", "usable"))
            history = Signals(hours, profile.listed[:count], mean, *[np.broadcast_to(np.nan, mean.shape)] * 5)
            others = None if sample is None else history_of_sample(runtime, sample, monday, as_of)
            scaled = unexplained(history, described, habits, cells, sample, others)
            detectors = partial(
                learn_detectors,
                history=history,
                scaled=np.where(habits.is_known, scaled, np.nan),
                is_usable=usable,
                cells=cells,
                monday=monday,
                now=as_of,
            )
        patiently(runtime, partial(_store, runtime, rows, detectors), "habits of a week")


def unexplained(
    signals: Signals,
    described: Mapping[str, Mapping[str, Any] | None],
    habits: Habits,
    cells: Integers,
    sample: Sample | None,
    others: Signals | None,
) -> Floats:
    """What neither the hour of the week nor peers explain, as of `Habits.unexplained`; of other districts only the
    sample explains anything, where there is one.

    Args:
        described: what is known of the signals, by name, and `habits` the same.
        others: the sample's signals in the same hours.
    """
    if sample is None or others is None:
        return habits.unexplained(signals.mean, cells)
    keys, names = keys_of(signals), sample.keys
    used = {peer for key in keys for peer in (described.get(key) or {}).get("peers", {})}
    columns = np.array([place for place, name in enumerate(names) if name in used], dtype=np.int64)
    known = [described.get(key) for key in keys] + [sample.described[column] for column in columns]
    both = habits_from(known, keys + [names[column] for column in columns])
    return both.unexplained(np.concatenate([signals.mean, others.mean[:, columns]], axis=1), cells)[:, : len(keys)]


def _store(runtime: Runtime, rows: Sequence[Mapping[str, Any]], detectors: Callable[[Connection], None] | None) -> None:
    with runtime.database.begin() as connection:
        statement = insert(node_habits)
        new = {name: statement.excluded[name] for name in ("history_days", "habits")}
        # Two that learn at once have learned the same.
        connection.execute(
            statement.on_conflict_do_update(index_elements=list(node_habits.primary_key), set_=new), rows
        )
        if detectors is not None:
            detectors(connection)


class _Part:
    """Some nodes' signals in the weeks before: their profile, their means, and which hours may be learned from."""

    def __init__(self, profile: Profile, mean: Floats, usable: Flags) -> None:
        self.profile, self.mean, self.usable = profile, mean, usable


def _part(
    runtime: Runtime,
    network: pd.DataFrame,
    nodes: Sequence[str],
    monday: datetime,
    stored: Sequence[Stored],
    described: Described,
    missing: set[str],
    country: str,
) -> _Part:
    start = monday - HISTORY
    is_new = any(key.split(" ", 1)[1] in nodes for key in missing)
    with runtime.database.begin() as connection:
        # Of signals whose habits are known, others' habits need no more than their means.
        history = hourly_signals(connection, network, nodes, start, monday, start if is_new else monday)
    usable = usable_hours(history, stored)
    cells = cells_of(history.hours, runtime.zone, country)
    keys = keys_of(history)
    if not is_new and all(key in described for key in keys):
        habits = habits_from([described[key] for key in keys], keys)
        return _Part(known_profile(history, cells, usable, habits), history.mean, usable)
    return _Part(profile_of(history, cells, usable), history.mean, usable)


def _row(key: str, monday: datetime, habits: Mapping[str, Any], as_of: datetime) -> dict[str, Any]:
    measurement, node_id = key.split(" ", 1)
    return {
        "node_id": node_id,
        "measurement": measurement,
        "valid_from": monday,
        "history_days": habits.get("history", 0.0) / 24,
        "habits": dict(habits) | {"learned_at": as_of.astimezone(UTC).isoformat()},
    }
