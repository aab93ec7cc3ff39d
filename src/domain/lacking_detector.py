"""What a node or a district lacks for a detector that sees a district's signals together (see `anomalies.relating`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from src.domain.anomalies.habits import ENOUGH_HISTORY
from src.domain.anomalies.relating import ENOUGH_HOURS, ENOUGH_MEASURED, FEWEST_SIGNALS
from src.domain.anomalies.signals import HOUR, MEASURED
from src.domain.anomalies.watch import HISTORY, monday_of
from src.domain.lacking import NODE_FILE, District, Today, out_of_service, short
from src.domain.lifecycle import FEWEST_LEAKS, SHADOW_FOR
from src.domain.roles import Node


def known_since(nodes: Sequence[Node]) -> datetime | None:
    """Since when anything of a district is known, by which a detector could learn; None: nothing is.

    Signals of which nothing is usual yet do not count, where there are others.
    """
    learned = [
        node
        for node in nodes
        if any(
            name in MEASURED and channel.is_measured and channel.hours >= ENOUGH_HISTORY
            for name, channel in node.channels.items()
        )
    ]
    return min((node.first_reading for node in learned or nodes if node.first_reading is not None), default=None)


def for_detector(node: Node, begun: datetime | None, today: Today) -> Iterator[str]:
    """What a node lacks to be one of the signals of its district's detector.

    Args:
        begun: since when anything of its district is known.
    """
    if not node.district_id:
        yield f"it is in no district, and detectors are of districts: state its district {NODE_FILE}"
        return
    if out := list(out_of_service(node)):
        yield from out
        return
    channels = {name: channel for name, channel in node.channels.items() if name in MEASURED}
    if not any(channel.days for channel in channels.values()):
        yield "nothing is recorded of it: look for what keeps its readings away"
        return
    span = _span(begun, today)
    for name, channel in channels.items():
        if not channel.days:
            continue
        if not channel.is_counted:
            yield f"its {name} is left out (see its channels): state its unit or whether it is connected {NODE_FILE}"
        elif missing := short(channel.hours, max(ENOUGH_HISTORY, ENOUGH_MEASURED * span)):
            yield (
                f"its {name} has {missing[0]} of {missing[1]} hours that are needed before this week to know what is "
                "usual: it is looked at again every Monday"
            )


def detector_of(district: District, nodes: Sequence[Node], begun: datetime | None, today: Today) -> Iterator[str]:
    """What a district lacks for a detector whose alarms are events.

    Args:
        nodes: the active ones of the district.
        begun: since when anything of it is known.
    """
    if district.detector == "active":
        return
    if district.detector == "shadow" and district.shadow_since is not None:
        yield (
            f"its detector has been in shadow since {district.shadow_since:%Y-%m-%d}, and its alarms are no events yet"
            f": it becomes active after {SHADOW_FOR / HOUR:.0f} h once it was before others with a leak or saw half of "
            f"{FEWEST_LEAKS} or more, without too many alarms that nothing else speaks for"
        )
        return
    span = _span(begun, today)
    ready = [
        f"{name} of {node.node_id}"
        for node in nodes
        for name, channel in node.channels.items()
        if name in MEASURED
        and channel.is_measured
        and not short(channel.hours, max(ENOUGH_HISTORY, ENOUGH_MEASURED * span))
    ]
    measured = sum(n.channels[name].is_measured for n in nodes for name in MEASURED if name in n.channels)
    if missing := short(measured, FEWEST_SIGNALS):
        yield (
            f"{missing[0]} of {missing[1]} signals that a detector compares are measured in it: connect another meter "
            "or pressure sensor of the district"
        )
    if missing := short(span / 24, ENOUGH_HOURS / 24):
        due = None if begun is None else _first_monday(begun, today.zone)
        when = f"it is learned on Monday {due:%Y-%m-%d}" if due else "it is learned on the first Monday after them"
        yield f"{missing[0]} of {missing[1]} days are known before this week: {when}"
    elif measured >= FEWEST_SIGNALS and (few := short(len(ready), FEWEST_SIGNALS)):
        yield (
            f"{few[0]} of {few[1]} signals were measured for {100 * ENOUGH_MEASURED:.0f} % of the hours before this "
            "week: see what its nodes lack"
        )
    elif measured >= FEWEST_SIGNALS:
        due_on = monday_of(today.monday + timedelta(days=7, hours=12), today.zone).astimezone(today.zone)
        yield (
            "enough is measured, and none could be learned of the weeks before this one, of which hours under events "
            f"teach nothing: the next is learned on Monday {due_on:%Y-%m-%d}"
        )


def _span(begun: datetime | None, today: Today) -> float:
    """The hours that a detector would have been learned from on the last Monday."""
    if begun is None:
        return 0.0
    return max((today.monday - max(begun, today.monday - HISTORY)) / HOUR, 0.0)


def _first_monday(begun: datetime, zone: ZoneInfo) -> datetime:
    """The first Monday before which enough days lie."""
    enough = begun + ENOUGH_HOURS * HOUR
    monday = monday_of(enough, zone)
    following = monday if monday >= enough else monday_of(monday + timedelta(days=7, hours=12), zone)
    return following.astimezone(zone)
