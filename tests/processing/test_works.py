"""What works explain: attached to events, not raised; the level after them is the next one's."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import numpy as np
import pytest

from src.domain.anomalies.detection import Circumstances
from src.domain.anomalies.events import Finding
from src.domain.anomalies.limits import limits_of
from src.domain.anomalies.signals import INFLOW, LOSS, Signals
from src.domain.anomalies.stored import usable_hours
from src.domain.anomalies.watch import Watch, habits_of_week, weeks
from src.domain.anomalies.works import LEVEL_CHANGED, Calendar, Work, explained
from src.vocabulary import AnomalyType, WorkKind
from tests.signals import (
    DAY,
    HOUR,
    MONDAY,
    NOTHING_SET_ASIDE,
    ROME,
    WEEK,
    DocumentedEvidence,
    raised,
    signal,
    types,
    watch,
)

AT = MONDAY + 4 * WEEK + 2 * DAY + 10 * HOUR
ID = UUID(int=7)


def work(kind: WorkKind, node: str | None = "inlet", district: str | None = None, hours: float | None = None) -> Work:
    """A work that begins at `AT`."""
    return Work(ID, kind, node, district, AT, None if hours is None else AT + hours * HOUR, "via Roma")


def finding(kind: AnomalyType, node: str = "inlet", measurement: str | None = "flow_rate", after: float = 0) -> Finding:
    begin = AT + after * HOUR
    why = {"explanation": "so it was", "settled": None}
    return Finding(node, kind, measurement, "pattern", begin, begin + HOUR, None, "critical", 1.0, 2.0, why)


def calendar(*works: Work) -> Calendar:
    """Works in district d with an inlet, which is a meter, and a sensor; other is elsewhere."""
    return Calendar(works, {"inlet": "d", "first": "d", "sensor": "d", "other": "e", "alone": None},
                    {"inlet": frozenset({"d"})})  # fmt: skip


@pytest.mark.parametrize(
    ("stated", "found", "is_explained"),
    [
        (work("works", hours=4), finding("burst"), True),
        (work("works", hours=4), finding("burst", "first"), False),
        (work("works", hours=4), finding("out_of_range"), False),
        (work("works", hours=4), finding("unfit_limits"), False),
        (work("works", None, "d", hours=4), finding("low_pressure", "sensor", "pressure"), True),
        (work("works", None, "d", hours=4), finding("low_pressure", "other", "pressure"), False),
        (work("works", None, "d", hours=4), finding("low_pressure", "alone", "pressure"), False),
        # Two hours before, six after.
        (work("works", hours=4), finding("burst", after=-2), True),
        (work("works", hours=4), finding("burst", after=-2.1), False),
        (work("works", hours=4), finding("burst", after=10), True),
        (work("works", hours=4), finding("burst", after=10.1), False),
        (work("meter_exchange"), finding("out_of_range", after=-24), True),
        (work("meter_exchange"), finding("jump", after=24.1), False),
        # A meter is in its district's balance, and in no pressure of it.
        (work("meter_exchange"), finding("burst", "first", LOSS), True),
        (work("meter_exchange"), finding("burst", "first", INFLOW), True),
        (work("meter_exchange"), finding("burst", "other", LOSS), False),
        (work("meter_exchange", "sensor"), finding("burst", "first", LOSS), False),
        (work("meter_exchange"), finding("low_pressure", "sensor", "pressure"), False),
        (work("meter_exchange", "inlet", "d"), finding("low_pressure", "sensor", "pressure"), False),
        (work("meter_exchange", None, "d"), finding("low_pressure", "sensor", "pressure"), False),
        (work("meter_exchange", None, "d"), finding("unusual_flow", "first"), True),
        (work("closure", None, "d", hours=9), finding("silent", "sensor", None), True),
        (work("closure", None, "d", hours=9), finding("burst", "inlet"), False),
        (work("closure", None, "d", hours=9), finding("high_pressure", "sensor", "pressure"), False),
        (work("network_change", None, "d"), finding("high_pressure", "sensor", "pressure", 6), True),
        (work("network_change", None, "d"), finding("high_pressure", "sensor", "pressure", 6.1), False),
        (work("network_change", None, "d"), finding("flat_line", "sensor", "pressure"), False),
        (work("network_change", None, "d"), finding("collection_outage", "*", None), False),
    ],
)
def test_a_work_explains_what_it_can_where_and_when_it_was(stated: Work, found: Finding, is_explained: bool):
    assert (calendar(stated).explanation_of(found) is not None) is is_explained


def test_of_several_works_the_nearest_explains_and_no_work_nothing():
    far = replace(work("works", hours=4), work_id=UUID(int=1), begin=AT - 2 * HOUR)
    assert calendar(far, work("works", hours=4)).explanation_of(finding("burst")).work_id == ID
    assert Calendar().explanation_of(finding("burst")) is None


@pytest.mark.parametrize("kind", ["burst", "low_pressure"])
def test_what_was_explained_and_is_no_more_is_as_it_was(kind: AnomalyType):
    found = finding(kind)
    attached = explained(found, replace(work("network_change"), note="valve 7; explained by Anna"))
    assert attached.severity == "info"
    assert attached.why["explained_by"] == {
        "work_id": str(ID), "kind": "network_change", "note": "valve 7; explained by Anna", "severity": "critical",
    }  # fmt: skip
    assert attached.why["explanation"].startswith("so it was; explained by network change of 2023-")
    assert attached.end == (found.detected if kind == "burst" else None)
    assert explained(attached, work("network_change")) == explained(found, work("network_change"))
    assert explained(attached, None) == found


def judged(
    signals: Signals,
    works: Calendar,
    until=None,
    start=None,
    step: timedelta | None = None,
    watched: Watch | None = None,
) -> Watch:
    """The events of the hours, judged week by week or step by step, with works."""
    listed = signals.listed
    watched = watched or Watch([], dict(zip(listed["node_id"], listed["district_id"], strict=True)))
    limits = [limits_of(m, role, {}) for m, role in zip(listed["measurement"], listed["role"], strict=True)]
    circumstances = Circumstances(limits, NOTHING_SET_ASIDE, works=works)
    first, end = start or MONDAY, until or signals.hours[-1].to_pydatetime() + HOUR
    now = first if step else end
    while now <= end:
        known = signals.between(MONDAY, now)
        for monday, begin, over in weeks(max(MONDAY, now - DAY) if step else first, now, ROME):
            habits = habits_of_week(known, monday, watched.stored, ROME, "IT")
            watched.judge(known, habits, circumstances, ROME, "IT", (begin, over))
        now += step or DAY * 999
    for event in watched.stored:
        DocumentedEvidence.model_validate(event.finding.why)
    return watched


def changed_level(extra: float = 0.0) -> Signals:
    """From `AT` on 25 L/s more; three days later, for two days, `extra` on top."""
    higher = raised(signal(weeks=8), AT, MONDAY + 8 * WEEK, 25.0)
    return raised(higher, AT + 3 * DAY, AT + 5 * DAY, extra) if extra else higher


def test_a_leak_that_an_exchange_explains_is_over_at_once_and_the_next_is_measured_from_the_new_level():
    works = calendar(work("meter_exchange"))
    assert [event.finding.severity for event in judged(changed_level(), Calendar(), AT + 2 * DAY).stored] == [
        "critical"
    ]
    quiet = judged(changed_level(), works)
    assert [event.finding.anomaly_type for event in quiet.stored][:1] == ["burst"]
    assert all(event.finding.why.get("explained_by", {}).get("work_id") == str(ID) for event in quiet.stored)
    leak = quiet.stored[0]
    assert (leak.finding.severity, leak.finding.why["closed_because"]) == ("info", LEVEL_CHANGED)
    assert leak.finding.end == leak.resolved_at == leak.finding.detected
    # Smaller than the change itself, and found all the same.
    burst = judged(changed_level(12.0), works, AT + 7 * DAY)
    raised_ones = [e.finding for e in burst.stored if "explained_by" not in e.finding.why]
    assert [event.anomaly_type for event in raised_ones] == ["burst"]
    assert abs(raised_ones[0].begin - (AT + 3 * DAY)) <= 6 * HOUR
    assert abs(raised_ones[0].end - (AT + 5 * DAY)) <= 8 * HOUR
    assert raised_ones[0].why["size"] == pytest.approx(12, rel=0.3)


def test_with_works_too_it_is_the_same_whether_hours_are_judged_at_once_or_again_and_again():
    works, signals, until = calendar(work("network_change")), changed_level(12.0), AT + 6 * DAY

    def events_of(watched: Watch) -> list[tuple]:
        return sorted(
            (e.finding.anomaly_type, e.finding.begin, e.finding.end, e.finding.severity, e.resolved_at)
            for e in watched.stored
            if e.finding.why.get("closed_because", LEVEL_CHANGED) == LEVEL_CHANGED
        )

    before = judged(signals, works, AT - DAY)
    step_by_step = judged(signals, works, until, AT - DAY + HOUR, 7 * HOUR, replace(before, stored=[*before.stored]))
    assert events_of(step_by_step) == events_of(judged(signals, works, until - 5 * HOUR))
    again = list(step_by_step.stored)
    step_by_step.touched.clear()
    judged(signals, works, until - 5 * HOUR, until - DAY, watched=step_by_step)
    assert step_by_step.stored == again
    assert not step_by_step.touched


def test_a_work_that_is_stated_later_explains_what_was_raised_and_one_that_is_deleted_no_more():
    works = calendar(work("meter_exchange"))
    signals = changed_level()
    watched = judged(signals, Calendar(), AT + 2 * DAY)
    raised_one = watched.stored[0]
    watched.explain(works, AT + 2 * DAY)
    assert watched.stored[0].finding.severity == "info"
    assert watched.stored[0].resolved_at == raised_one.finding.detected
    watched = judged(signals, works, AT + 3 * DAY, AT + 2 * DAY, watched=watched)
    assert "burst" not in [e.finding.anomaly_type for e in watched.stored if e.resolved_at is None]
    watched.explain(Calendar(), AT + 3 * DAY)
    assert watched.stored[0] == raised_one
    judged(signals, Calendar(), AT + 4 * DAY, AT + 3 * DAY, watched=watched)
    assert watched.stored[0].resolved_at is None
    assert watched.stored[0].finding.severity == "critical"


def test_what_a_person_has_resolved_gets_its_explanation_and_stays_resolved():
    watched = judged(changed_level(), Calendar(), AT + 2 * DAY)
    watched.stored[0] = replace(watched.stored[0], resolved_by="anna", resolved_at=AT + DAY)
    watched.explain(calendar(work("meter_exchange")), AT + 2 * DAY)
    event = watched.stored[0]
    assert (event.resolved_at, event.finding.end, event.finding.severity) == (AT + DAY, None, "info")


@pytest.mark.parametrize(("kind", "hours", "is_learned"), [("meter_exchange", None, True), ("works", 4, False)])
def test_the_hours_of_a_new_level_are_learned_from_and_those_of_works_are_not(kind, hours, is_learned):
    signals = changed_level()
    watched = judged(signals, calendar(work(kind, hours=hours)), AT + 2 * DAY)
    row = int(signals.hours.searchsorted(watched.stored[0].finding.begin))
    assert bool(usable_hours(signals, watched.stored)[row + 1, 0]) is is_learned


def test_without_works_nothing_is_other_than_before():
    signals = changed_level(12.0)
    assert types(judged(signals, Calendar(), AT + 6 * DAY)) == types(watch(signals, AT + 6 * DAY))
    assert np.isfinite(signals.mean).all()
