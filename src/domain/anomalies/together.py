"""Findings of the multivariate detector: when the signals of a district move together as they never did.

What another detector reports already is not reported a second time: not while a leak of the district is known, and not
for a single signal that has an event of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from src.domain.anomalies.events import INFO, WARNING, Finding, overlap, runs, span_of
from src.domain.anomalies.leaks import LEAKS, Leak
from src.domain.anomalies.multivariate import LEAST_HOURS, QUIET_HOURS, Relations
from src.domain.anomalies.relating import relations
from src.domain.anomalies.signals import HOUR, INFLOW, LOSS, Flags, Floats, Integers, Signals
from src.domain.anomalies.works import is_explained
from src.domain.lifecycle import RECORD_DAYS, Record
from src.vocabulary import AnomalyType, DetectionMethod

TOGETHER: AnomalyType = "unusual_together"
METHOD: DetectionMethod = "multivariate"
# With fewer of a district's signals measured, it is not known how they move.
ENOUGH_MEASURED = 0.5
# The share of the distance that must come from more inflow and less pressure to look like a leak; that a single signal
# must have to be what it is all about; and that is worth naming.
_LEAK_SHARE, _ALONE_SHARE, _NAMED_SHARE = 0.5, 0.6, 0.1
# An alarm so near to another event is not alone.
_BESIDE = timedelta(days=1)
_NAMES = {"flow_rate": "flow", LOSS: "water loss", INFLOW: "inflow"}


@dataclass(frozen=True)
class Detector:
    """The relations of a district's signals as one model knows them; only an active one's findings become events."""

    model_id: str
    district_id: str
    relations: Relations
    is_active: bool


def keys_of(signals: Signals) -> list[str]:
    """What signals are called in habits and relations."""
    listed = signals.listed
    return [f"{measurement} {node}" for node, measurement in zip(listed["node_id"], listed["measurement"], strict=True)]


def unusual_together(signals: Signals, scaled: Floats, detector: Detector) -> list[Finding]:
    """When a district's signals were further from what they usually do together than the false-alarm budget allows.

    Args:
        scaled: hours × signals, what habits do not explain, in spreads; NaN where a sensor is at fault.
    """
    relations = detector.relations
    places = {key: n for n, key in enumerate(keys_of(signals))}
    columns = [places.get(key) for key in relations.keys]
    if not any(column is not None for column in columns):
        return []
    nothing = np.full(len(scaled), np.nan)
    deviations = np.column_stack([nothing if column is None else scaled[:, column] for column in columns])
    distance, parts, off = relations.judged(deviations)
    known = np.isfinite(deviations).mean(axis=1) >= ENOUGH_MEASURED
    odd = (distance > 1) & known
    found = list(runs(odd[:, None], known[:, None], QUIET_HOURS, LEAST_HOURS))
    if not found:
        return []
    described = [None if column is None else signals.listed.iloc[column] for column in columns]
    anchor = _anchor(signals, detector.district_id)
    findings = []
    for run in found:
        begin, detected, end = span_of(run, signals.hours)
        why = _why(parts[run.certain], off[run.certain], described)
        why["distance"] = float(distance[run.first : run.last + 1][odd[run.first : run.last + 1]].max())
        severity = WARNING if why["looks_like"] else INFO
        findings.append(Finding(anchor, TOGETHER, None, METHOD, begin, detected, end, severity, None, None, why))
    return findings


def _anchor(signals: Signals, district_id: str) -> str:
    """The node that stands for a district: its first inlet, else its first node; always the same, whatever happens."""
    of_district = signals.listed[signals.listed["district_id"] == district_id]
    inlets = of_district[of_district["role"] == "inlet"]
    return str((inlets if len(inlets) else of_district)["node_id"].min())


def _why(parts: Floats, off: Floats, described: Sequence[Any]) -> dict[str, Any]:
    share = np.maximum(parts, 0.0) / np.maximum(parts, 0.0).sum()
    contributions: list[dict[str, Any]] = [
        {
            "node_id": str(described[n]["node_id"]),
            "measurement": str(described[n]["measurement"]),
            "share": float(share[n]),
            "spreads": float(off[n]),
        }
        for n in np.argsort(-share, kind="stable")
        if described[n] is not None and share[n] >= _NAMED_SHARE
    ]
    leaking = sum(
        float(share[n])
        for n, signal in enumerate(described)
        if signal is not None and off[n] * _sign_of_leak(signal["measurement"], signal["role"]) > 0
    )
    looks_like = "leak" if leaking >= _LEAK_SHARE else None
    named = ", ".join(
        f"{_NAMES.get(one['measurement'], one['measurement'])} of {one['node_id']} {abs(one['spreads']):.1f} spreads "
        f"{'above' if one['spreads'] > 0 else 'below'} ({100 * one['share']:.0f} %)"
        for one in contributions
    )
    return {
        "explanation": "the district's signals move together as they did not in the weeks before"
        + (f": {named}" if named else "")
        + ("; as a leak would move them" if looks_like else ""),
        "contributions": contributions,
        "looks_like": looks_like,
    }


def _sign_of_leak(measurement: str, role: str | None) -> int:
    """Which way a leak moves a signal: inflow up, pressure down; a tank's level and customers' use either way."""
    if measurement in (LOSS, INFLOW) or (measurement == "flow_rate" and role == "inlet"):
        return 1
    return -1 if measurement == "pressure" and role != "storage" else 0


def beside_others(
    alarms: Iterable[Finding], district_id: str, others: Sequence[Finding], leaks: Iterable[Leak], signals: Signals
) -> Iterator[Finding]:
    """A district's alarms beside what other detectors found: `why` names the other event in `is_told_by`.

    An alarm after which a leak was found ends there: from then on the leak is reported.

    Args:
        others: what other detectors found, leaks among it.
        leaks: of all districts, those that were found before.
    """
    listed = signals.listed
    members = set(listed.loc[listed["district_id"] == district_id, "node_id"])
    found_now = (other for other in others if other.anomaly_type in LEAKS)
    known: list[Leak | Finding] = [*leaks, *found_now]
    of_leaks = [(leak.begin, leak.detected, leak.end) for leak in known if leak.node_id in members]
    for alarm in alarms:
        over = [detected for begin, detected, end in of_leaks if overlap(alarm.begin, alarm.end, begin, end)]
        if any(detected <= alarm.detected for detected in over):
            yield replace(alarm, why=alarm.why | {"is_told_by": "a leak that was found before"})
        elif _is_of_one(alarm, others):
            yield replace(alarm, why=alarm.why | {"is_told_by": "an event of the signal it is about"})
        elif over:
            yield replace(
                alarm, end=min(over), why=alarm.why | {"found_later": "the leak that is reported from then on"}
            )
        else:
            yield alarm


def worth_an_event(alarms: Iterable[Finding]) -> list[Finding]:
    """Those alarms that no other event reports."""
    return [alarm for alarm in alarms if "is_told_by" not in alarm.why]


def _is_of_one(finding: Finding, others: Sequence[Finding]) -> bool:
    """Whether it is all about one signal, of which there is an event already."""
    contributions = finding.why["contributions"]
    if not contributions or contributions[0]["share"] < _ALONE_SHARE:
        return False
    first = contributions[0]
    return any(
        other.node_id == first["node_id"]
        and other.measurement in (first["measurement"], None)
        and overlap(finding.begin, finding.end, other.begin, other.end)
        for other in others
    )


def relations_of_district(
    history: Signals, scaled: Floats, is_usable: Flags, cells: Integers, district_id: str
) -> Relations | None:
    """Learns how a district's signals move together; None where too little is known of them.

    Args:
        history: the weeks before, from which the habits were learned, too.
        scaled: hours × signals, what habits do not explain, in spreads; NaN where no habits are known.
        is_usable: hours × signals; False where an event lies over the hour.
        cells: the cell of the week of each hour.
    """
    columns = np.flatnonzero(history.listed["district_id"] == district_id)
    return relations(keys_of(history.of(columns)), scaled[:, columns], is_usable[:, columns], cells)


def record_of(alarms: Iterable[Finding], events: Sequence[Finding], watched_since: datetime, now: datetime) -> Record:
    """What a district's detectors have found in the last `RECORD_DAYS`.

    Args:
        alarms: of all versions; those that overlap are one.
        events: of the district, by whatever detector; withdrawn ones count for nothing.
        heard_since: when the first version began to watch.
    """
    start = max(watched_since, now - timedelta(days=RECORD_DAYS))
    others = [event for event in events if event.anomaly_type != TOGETHER and event.end != event.begin]
    recent = [alarm for alarm in alarms if alarm.detected > start]
    distinct: list[Finding] = []
    for alarm in sorted(recent, key=lambda alarm: alarm.begin):
        if not distinct or not overlap(distinct[-1].begin, distinct[-1].end, alarm.begin, alarm.end):
            distinct.append(alarm)
    leaks = [e for e in others if e.anomaly_type in LEAKS and e.detected > start and not is_explained(e)]
    # For one that was found later, the alarm ends when it was.
    before = [[a for a in recent if a.detected < leak.detected and _touch(a, leak)] for leak in leaks]
    gained = [
        (leak.detected - min(a.detected for a in preceding)) / HOUR
        for leak, preceding in zip(leaks, before, strict=True)
        if preceding
    ]
    # Of a young one it is not known yet: a leak that it is about may be found later.
    old = (alarm for alarm in distinct if alarm.detected <= now - _BESIDE)
    alone = [alarm for alarm in old if not any(_touch(alarm, other, _BESIDE) for other in others)]
    return Record(
        days=(now - start) / timedelta(days=1),
        leaks=len(leaks),
        seen=sum(any(_touch(alarm, leak) for alarm in recent) for leak in leaks),
        earlier=len(gained),
        hours_earlier=float(np.median(gained)) if gained else float("nan"),
        alarms=len(distinct),
        alone=len(alone),
    )


def _touch(alarm: Finding, other: Finding, beside: timedelta = timedelta(0)) -> bool:
    end = None if alarm.end is None else alarm.end + beside
    return overlap(alarm.begin - beside, end, other.begin, other.end)
