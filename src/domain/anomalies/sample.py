"""The sample of a large network to which its districts are compared: what all share in an hour is no news of one.

Some hundred nodes stand for the network, so that no district needs another's readings, and what is found in it does not
depend on which districts stand beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from src.domain.anomalies.events import Finding
from src.domain.anomalies.habits import Habits, habits_from
from src.domain.anomalies.sensor_faults import EVERY_NODE, NONE_UNREAD, outages, silences
from src.domain.anomalies.signals import Flags, Floats, Signals

# Before the names of its signals, where habits of other signals name their peers.
PREFIX = "network "


@dataclass(frozen=True)
class Sample:
    """What is usual of the sample's signals in one week.

    Attributes:
        listed: node_id, measurement, district_id, role of each signal, also of those that have measured nothing yet.
        described: what is usual of each, as `Profile.described` returns it.
    """

    listed: pd.DataFrame
    described: list[dict[str, Any]]

    @property
    def keys(self) -> list[str]:
        """What its signals are called where habits of other signals name their peers."""
        pairs = zip(self.listed["measurement"], self.listed["node_id"], strict=True)
        return [f"{PREFIX}{measurement} {node}" for measurement, node in pairs]

    @property
    def habits(self) -> Habits:
        return habits_from(self.described, self.keys)

    @property
    def nodes(self) -> pd.DataFrame:
        """Index node_id; columns district_id, role."""
        nodes = self.listed.drop_duplicates("node_id").set_index("node_id")
        return nodes[["district_id", "role"]].sort_index()


@dataclass
class SampleMemory:
    """What a process remembers while it works for the job of one instant: samples by Monday, hours by their span."""

    instant: datetime | None = None
    samples: dict[datetime, Sample] = field(default_factory=dict)
    hours: dict[tuple[datetime, datetime], Signals] = field(default_factory=dict)


def arranged(signals: Signals, sample: Sample) -> Signals:
    """Means and cadence of signals in the order of a sample's; NaN where nothing was measured."""
    places = {
        pair: n for n, pair in enumerate(zip(signals.listed["node_id"], signals.listed["measurement"], strict=True))
    }
    columns = [places.get(pair) for pair in zip(sample.listed["node_id"], sample.listed["measurement"], strict=True)]
    nothing = np.full(len(signals.hours), np.nan)

    def ordered(values: Floats) -> Floats:
        return np.column_stack([nothing if column is None else values[:, column] for column in columns])

    mean, cadence = ordered(signals.mean), ordered(signals.cadence)
    unknown = np.broadcast_to(np.nan, mean.shape)
    return Signals(signals.hours, sample.listed, mean, unknown, unknown, unknown, unknown, cadence)


def outage_of_sample(signals: Signals) -> Flags:
    """Hours in which most of the sample sent nothing, for which the network stands."""
    node = pd.Categorical(signals.listed["node_id"])
    reporting = np.zeros((len(signals.hours), len(node.categories)), dtype=bool)
    for column, owner in enumerate(node.codes):
        reporting[:, owner] |= np.isfinite(signals.mean[:, column])
    return outages(reporting[:, reporting.any(axis=0)])


def outages_found(signals: Signals, sample: Sample, unread: Mapping[str, datetime] = NONE_UNREAD) -> list[Finding]:
    """Findings that concern the whole network: when most of the sample sent nothing.

    Args:
        unread: as of `silences`.
    """
    measured = np.flatnonzero(np.isfinite(signals.mean).any(axis=0))
    found = silences(signals.of(measured), sample.habits.of(measured), unread=unread)
    return [finding for finding in found if finding.node_id == EVERY_NODE]
