"""Anomalies of the hours that a job has touched: rows in, `domain.anomalies`, events out.

The hours are judged in order, in parts that lie within one week, each in a transaction of its own: whoever else judges
waits for a part at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
from sqlalchemy import Connection, text

from src.db.bulk_read import read_rows
from src.domain.anomalies.detection import Circumstances
from src.domain.anomalies.expected import expected_of
from src.domain.anomalies.habits import habits_from
from src.domain.anomalies.limits import limits_of
from src.domain.anomalies.sample import Sample, outage_of_sample, outages_found
from src.domain.anomalies.signals import Signals, cells_of
from src.domain.anomalies.stored import Stored
from src.domain.anomalies.together import keys_of
from src.domain.anomalies.watch import HISTORY, LEAD, Watch, weeks
from src.domain.anomalies.whereabouts import Places
from src.processing.conclusions.counts import changed_spans, count_events
from src.processing.conclusions.events import as_written, stored_events, write_events
from src.processing.conclusions.expected import write_expected
from src.processing.conclusions.extent import Extent, Progress
from src.processing.conclusions.habits import habits_of_week, learn_week, rests_on_others, unexplained
from src.processing.conclusions.hours import active_nodes, floor_hour, hourly_signals
from src.processing.conclusions.sample import sample_of_week, signals_of_sample
from src.processing.conclusions.service_life import lives_of
from src.processing.conclusions.share import Share
from src.processing.conclusions.works import any_to_attach, attach_works, calendar_of, districts_of
from src.processing.jobs.patience import patiently
from src.processing.jobs.runtime import Runtime
from src.processing.modelling.detectors import detectors_of_week, keep_alarms

# Two jobs that judge the same districts at the same time would both find what is new.
_JUDGING = 72652002
# So long before a week every figure is looked at; before that, means suffice.
_RECENT = timedelta(days=3)
_JUDGED = text(
    """
    SELECT max(scheduled_for) FROM water_infrastructure.processing_jobs
    WHERE job_type = 'processing_cycle' AND status = 'completed' AND NOT result_summary ? 'skipped'
        AND scheduled_for <= :now
        AND NOT coalesce(result_summary -> 'not_concluded', '{}') ? 'anomalies'
    """
)
# The nodes whose readings the last cycle could not take in.
_UNREAD = text(
    """
    SELECT node_id, last_reading FROM water_infrastructure.job_chunks AS chunk,
        jsonb_object_keys(chunk.result_summary -> 'failures') AS failed (node_id)
        JOIN water_infrastructure.ingestion_watermarks USING (node_id)
    WHERE last_reading IS NOT NULL AND chunk.job_id = (
        SELECT job_id FROM water_infrastructure.processing_jobs
        WHERE job_type = 'processing_cycle' AND NOT result_summary ? 'skipped' AND scheduled_for <= :as_of
        ORDER BY scheduled_for DESC LIMIT 1
    )
    """
)
_REJECTED = """
    SELECT node_id, quarter_start, reason, readings FROM water_infrastructure.rejected_readings
    WHERE node_id = ANY(%(nodes)s) AND quarter_start >= %(start)s AND quarter_start < %(end)s
"""


@dataclass(frozen=True)
class Part:
    """Hours of one week to judge."""

    monday: datetime
    first: datetime
    end: datetime


@dataclass(frozen=True)
class Judged:
    """How many events of a part are new or changed, and from when on windows lie under other events than before."""

    events: int
    counted_from: datetime | None


class _NotLearned(Exception):
    """Habits of these signals are missing."""

    def __init__(self, keys: list[str]) -> None:
        super().__init__(keys)
        self.keys = keys


def judge_anomalies(runtime: Runtime, share: Share, extent: Extent, as_of: datetime) -> Iterator[Progress]:
    """Judges the hours of a share of the network again, up to `as_of` or to where a later cycle has judged; after each
    part, to where all is judged and how many events are new or changed. Repeating it changes nothing.

    An event that lasts is followed to the end of the extent before it is shown as open. Works that were stated or
    deleted since are attached first, to whatever they explain.
    """
    with runtime.database.connect() as connection:
        network = active_nodes(connection, share.node_ids)
        # A job of a clock that ran ahead is not about the present.
        judged_until = connection.scalar(_JUDGED, {"now": runtime.clock.now()})
        have_works_changed = any_to_attach(connection)
        until = floor_hour(max(filter(None, [as_of, judged_until])))
    if network.empty and not share.is_first:
        return

    def attached() -> tuple[int, datetime | None]:
        with runtime.database.begin() as connection:
            share.hold(connection, _JUDGING)
            concerned = share.node_ids, share.districts
            return attach_works(connection, network, *concerned, as_of, with_others=share.is_first)

    if have_works_changed:
        explained, explained_from = patiently(runtime, attached, "works that explain events")
        yield Progress(extent.first, explained, explained_from)
    parts = [Part(*week) for week in weeks(min(floor_hour(extent.first), until), until, runtime.zone)]
    for number, part in enumerate(parts):
        is_last = number == len(parts) - 1
        sample = None if share.is_whole else sample_of_week(runtime, part.monday, as_of)
        # Read before anything is held.
        others = None if sample is None else signals_of_sample(runtime, sample, as_of, part.monday - LEAD, part.end)

        def judged(
            part: Part = part,
            is_last: bool = is_last,
            sample: Sample | None = sample,
            others: Signals | None = others,
        ) -> Judged:
            with runtime.database.begin() as connection:
                return _judge_part(runtime, connection, network, part, as_of, is_last, share, sample, others)

        try:
            changed = patiently(runtime, judged, "anomalies of a week")
        except _NotLearned as unlearned:
            country = runtime.settings.utility_country
            learn_week(runtime, network, part.monday, unlearned.keys, country, as_of, sample)
            changed = patiently(runtime, judged, "anomalies of a week")
        yield Progress(part.end, changed.events, changed.counted_from)


def _judge_part(
    runtime: Runtime,
    connection: Connection,
    network: pd.DataFrame,
    part: Part,
    as_of: datetime,
    is_last: bool,
    share: Share,
    sample: Sample | None,
    others: Signals | None,
) -> Judged:
    """Judges a part and writes its events, and what was expected of its hours.

    Raises:
        _NotLearned: if habits of the week are missing; nothing was written.
    """
    share.hold(connection, _JUDGING)
    zone, country = runtime.zone, runtime.settings.utility_country
    start, end = part.monday - LEAD, part.end
    now = max(as_of, runtime.clock.now())
    described = habits_of_week(connection, part.monday, now, network.index)
    signals = hourly_signals(connection, network, network.index, start, end, part.monday - _RECENT)
    keys = keys_of(signals)
    known = {key for key, habits in described.items() if not rests_on_others(habits, network.index, sample)}
    if missing := [key for key in keys if key not in known]:
        raise _NotLearned(missing)
    habits = habits_from([described.get(key) for key in keys], keys)
    metadata: Any = network["metadata"].to_dict()
    columns = (signals.listed[name] for name in ("node_id", "measurement", "role"))
    limits = [limits_of(measured, role, metadata[node] or {}) for node, measured, role in zip(*columns, strict=True)]
    rejections = read_rows(
        connection,
        _REJECTED,
        {"start": part.monday - _RECENT, "end": end, "nodes": list(network.index)},
        {"node_id": "text", "quarter_start": "instant", "reason": "text", "readings": "integer"},
    )
    detectors = detectors_of_week(connection, part.monday, as_of, set(network["district_id"].dropna()))
    unread = {row.node_id: row.last_reading for row in connection.execute(_UNREAD, {"as_of": as_of})}
    circumstances = Circumstances(limits, rejections, detectors, places=_places(network), unread=unread)
    cells = cells_of(signals.hours, zone, country)
    if sample is not None and others is not None:
        circumstances = replace(
            circumstances,
            outage=outage_of_sample(others),
            of_network=outages_found(others, sample, unread) if share.is_first else (),
            unexplained=unexplained(signals, described, habits, cells, sample, others),
        )
    watch = _watch(connection, network, part, is_last, share)
    circumstances = replace(
        circumstances,
        works=calendar_of(connection, network, share.districts, watch.stored, start),
        lives=lives_of(connection, network, signals, end, runtime.settings.out_of_service_after_days),
    )
    before = {event.anomaly_id: as_written(event, event.judged_until) for event in watch.stored}
    alarms = watch.judge(signals, habits, circumstances, zone, country, (part.first, end))
    expected = expected_of(signals, cells, habits, int(signals.hours.searchsorted(pd.Timestamp(part.first))))
    write_expected(connection, expected, network.index, part.first, end)
    keep_alarms(connection, alarms, part.monday)
    if is_last:
        active = {detector.district_id for detector in detectors if detector.is_active}
        watch.close_unwatched(active, end)
    judged_until = None if is_last else end
    changed = [as_written(event, judged_until) for event in watch.stored if event.anomaly_id in watch.touched]
    write_events(connection, changed)
    by_id = {event.anomaly_id: event for event in changed}
    after = [by_id.get(event.anomaly_id) or before[event.anomaly_id] for event in watch.stored]
    # The windows of the running hour lie under what is open, too, up to one that begins with the last reading.
    last = max(as_of + timedelta(microseconds=1), end) if is_last else end
    counted = count_events(connection, changed_spans(before, after, part.first, last))
    return Judged(len(changed), counted)


def _places(network: pd.DataFrame) -> Places:
    known = network.dropna(subset=["latitude", "longitude"])
    return {str(node): (float(lat), float(lon)) for node, lat, lon in known[["latitude", "longitude"]].itertuples()}


def _watch(connection: Connection, network: pd.DataFrame, part: Part, is_last: bool, share: Share) -> Watch:
    # Nothing begins after the last hour of all; what does is found, too, and ended.
    since, until = part.first - HISTORY - timedelta(days=7), None if is_last else part.end
    stored = stored_events(connection, since, until, share.node_ids, with_others=share.is_first)
    watch = Watch(stored, districts_of(network))
    # Events that were not judged to their end are written again, whatever these hours show.
    watch.touched |= {event.anomaly_id for event in stored if _goes_on(event, part)}
    return watch


def _goes_on(event: Stored, part: Part) -> bool:
    return event.judged_until is not None and event.judged_until >= part.first
