"""All detectors over one span of hours: what they find, and what explains what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import pandas as pd

from src.domain.anomalies import household, leak_events, leaks, limits, pattern, sensor_faults
from src.domain.anomalies.events import CRITICAL, INFO, WARNING, Finding, overlap
from src.domain.anomalies.habits import SHORT_HOURS, Habits
from src.domain.anomalies.leaks import Leak
from src.domain.anomalies.levels import from_new_levels, leaks_beside_works
from src.domain.anomalies.limits import Limits
from src.domain.anomalies.recurrence import comes_and_goes, is_back
from src.domain.anomalies.shift import LEAD_HOURS, level_of
from src.domain.anomalies.signals import HOUR, INFLOW, LOSS, Flags, Floats, Integers, Signals
from src.domain.anomalies.together import Detector, beside_others, unusual_together, worth_an_event
from src.domain.anomalies.whereabouts import Places, sensors_of
from src.domain.anomalies.works import Calendar
from src.domain.service_life import Lives, in_service

# A flow whose hours usually lie so far from what is expected, as a share of its mean, switches or turns round: its
# steps are no sign of a leak.
UNRULY = 0.6
# Of one that is expected to be below this share of its mean in most hours of the week there is no inflow to speak of.
IDLE = 0.05
# What explains a deviation from the pattern, so that it is not reported twice.
_EXPLAINS = (
    *leaks.LEAKS, "flat_line", "spikes", "jump", "negative_flow", "out_of_range", "clock_jump",
)  # fmt: skip
# A pressure this many spreads below the expected one, on average over a burst's first hours, confirms it.
CONFIRMING_SPREADS, CONFIRMING_HOURS = 1.5, 6


@dataclass(frozen=True)
class Circumstances:
    """What detectors need to know beside the figures.

    `limits` per signal; `rejections`: readings set aside (node_id, quarter_start, reason, readings); `detectors`: what
    is known of districts' signals together, at most one active detector per district. Where the signals are only a part
    of the network: `outage` by hour, when most of it sent nothing, `of_network`, findings that concern all of it, and
    `unexplained`, as of `Habits.unexplained`, with peers that are not among the signals. `places` of nodes, if known;
    `unread`: nodes whose latest readings could not be taken in, with the last reading that was;
    `works`: what the utility does on its network; `lives`: when nodes were out of service, when nothing is found of
    them.
    """

    limits: list[Limits]
    rejections: pd.DataFrame
    detectors: Sequence[Detector] = ()
    outage: Flags | None = None
    of_network: Sequence[Finding] = ()
    unexplained: Floats | None = None
    places: Places = field(default_factory=dict)
    unread: Mapping[str, datetime] = field(default_factory=dict)
    works: Calendar = Calendar()
    lives: Lives = field(default_factory=dict)


@dataclass(frozen=True)
class Detected:
    """`findings`, which become events; and what each multivariate detector finds, by its model, active or not."""

    findings: list[Finding]
    alarms: dict[str, list[Finding]]


def references(signals: Signals, habits: Habits) -> Floats:
    """The mean inflow (L/s) by which a step of each signal is judged as a leak; NaN where a step is no sign of one.

    Leaks of a district show in what its meters do not account for; where customers have no meters, or while that is not
    known, in its inflow: that of all inlets where there are several, else that of its one. A flow meter in no known
    role is taken for an inlet, unless it switches or turns round, as pumps and interconnections do.
    """
    listed = signals.listed
    measurement, district = listed["measurement"], listed["district_id"]
    is_inlet = (measurement == "flow_rate") & ~listed["role"].isin(["consumption", "outlet", "storage"])
    mean = pd.Series(habits.mean, listed.index)
    of_district = mean[is_inlet & (listed["role"] == "inlet")].groupby(district).sum()
    inflow = district.map(of_district).astype("float64")
    is_known = pd.Series(habits.is_known, listed.index)
    by_inflow = set(district[(measurement == INFLOW) & is_known].dropna())
    reference = pd.Series(np.nan, listed.index)
    reference[measurement == LOSS] = inflow
    reference[measurement == INFLOW] = inflow
    alone = is_inlet & ~district.isin(by_inflow)
    reference[alone] = inflow.where((listed["role"] == "inlet") & (inflow > 0), mean)
    # So does one that mostly stands still, as a pump or a household does.
    with np.errstate(invalid="ignore"):
        is_idle = (np.abs(habits.expected) <= IDLE * np.abs(habits.mean)[:, None]).mean(axis=1) > 0.5
    is_unruly = pd.Series((habits.unrest > UNRULY) | is_idle, listed.index) & (measurement != LOSS)
    reference = reference.mask(is_unruly)
    return np.asarray(reference.where(reference > 0), dtype=np.float64)


def detect(
    signals: Signals,
    cells: Integers,
    habits: Habits,
    circumstances: Circumstances,
    judged_from: datetime,
    known_leaks: list[Leak],
) -> Detected:
    """What is going on in the hours to judge, or was in those before them.

    Args:
        signals: the hours to judge, and `shift.LEAD_HOURS` before them.
        cells: the cell of the week of each hour.
        habits: of the same signals.
        known_leaks: those found before `judged_from`.
    """
    if not len(signals.hours) or not len(signals.listed):
        return Detected(list(circumstances.of_network), {detector.model_id: [] for detector in circumstances.detectors})
    spread = habits.spread[:, cells % 24].T
    unexplained = circumstances.unexplained
    deviation = (habits.unexplained(signals.mean, cells) if unexplained is None else unexplained) * spread
    watched, unfit = limits.fitted(circumstances.limits, habits)
    since = signals.hours[min(LEAD_HOURS, len(signals.hours) - 1)].to_pydatetime()
    specific: list[Finding] = [
        *circumstances.of_network,
        *limits.beyond_limits(signals, watched),
        *limits.unfit_limits(signals, habits, circumstances.limits, unfit, since),
        *sensor_faults.flat_lines(signals, habits),
        *sensor_faults.silences(signals, habits, circumstances.outage, circumstances.unread),
        *sensor_faults.spikes_and_jumps(signals, habits),
        *sensor_faults.rejected(signals, circumstances.rejections),
        *household.continuous_flow(signals, habits),
    ]
    faulty = _with_balances(_covered(signals, specific), signals)
    sound = np.where(faulty, np.nan, deviation)
    # What comes and goes at its hour, as irrigation does, is no step.
    is_use = habits.comes_back(signals.mean - habits.expected[:, cells].T, cells) | is_back(sound, spread)
    lasting = np.where(is_use, np.nan, sound)
    lasting = _while_loss_is_unknown(lasting, signals, habits, known_leaks)
    reference = references(signals, habits)
    seen = leak_events.LeakContext(signals, cells, habits, lasting, reference)
    found, levels = leaks_beside_works(seen, judged_from, known_leaks, circumstances.works)
    specific += found
    deviation, sound = (from_new_levels(values, signals, levels) for values in (deviation, sound))
    # Nor does it move the level that other hours are compared with; calm hours weigh most in it.
    calm = np.minimum((np.median(habits.spread, axis=1) / spread) ** 2, 1.0)
    level = level_of(np.where(comes_and_goes(sound, spread), np.nan, sound), calm)
    off_pattern = list(pattern.off_pattern(signals, cells, habits, deviation, level))
    specific = [f for f in specific if not _is_edge(f, off_pattern) and repeated_use(f, off_pattern) is None]
    unusual = [finding for finding in off_pattern if explanation_of(finding, specific) is None]
    scaled = sound / spread
    findings = [_confirmed(finding, signals, scaled) for finding in specific] + unusual
    findings = [_placed(finding, signals, scaled, circumstances.places) for finding in findings]
    known = np.where(habits.is_known, scaled, np.nan)
    alarms: dict[str, list[Finding]] = {}
    for detector in circumstances.detectors:
        raised = unusual_together(signals, known, detector)
        alarms[detector.model_id] = list(beside_others(raised, detector.district_id, findings, known_leaks, signals))
    active = [detector.model_id for detector in circumstances.detectors if detector.is_active]
    findings += [alarm for model in active for alarm in worth_an_event(alarms[model])]
    return Detected(in_service(findings, circumstances.lives), alarms)


def _covered(signals: Signals, findings: Iterable[Finding]) -> Flags:
    """Hours in which a signal's sensor was at fault."""
    covered = np.zeros(signals.mean.shape, dtype=bool)
    columns: dict[tuple[str, str | None], list[int]] = defaultdict(list)
    pairs = zip(signals.listed["node_id"], signals.listed["measurement"], strict=True)
    for column, (node_id, measurement) in enumerate(pairs):
        columns[node_id, measurement].append(column)
        columns[node_id, None].append(column)
    for finding in findings:
        if finding.method != "sensor_faults" or finding.anomaly_type in ("jump", "transient"):
            continue
        for begin, end in finding.episodes or ((finding.begin, finding.end),):
            first = int(signals.hours.searchsorted(pd.Timestamp(begin)))
            last = len(signals.hours) if end is None else int(signals.hours.searchsorted(pd.Timestamp(end)))
            covered[first : max(last, first + 1), columns[finding.node_id, finding.measurement]] = True
    return covered


def _with_balances(faulty: Flags, signals: Signals) -> Flags:
    """The same, with the signals of districts' balances while one of the meters that they are made of is at fault."""
    listed = signals.listed
    measures = listed["measurement"] == "flow_rate"
    covered = faulty.copy()
    for balance, roles in ((LOSS, ["inlet", "outlet", "consumption"]), (INFLOW, ["inlet", "outlet"])):
        for column in np.flatnonzero(listed["measurement"] == balance):
            same = listed["district_id"] == listed["district_id"].iloc[column]
            meters = np.flatnonzero(same & measures & listed["role"].isin(roles))
            covered[:, column] |= faulty[:, meters].any(axis=1)
    return covered


def _while_loss_is_unknown(deviation: Floats, signals: Signals, habits: Habits, known_leaks: Sequence[Leak]) -> Floats:
    """The same, without a district's inflow in the hours in which its loss is known, which shows leaks sooner; in the
    others less the leaks that were found in the loss."""
    listed = signals.listed
    is_inlet = (listed["measurement"] == "flow_rate") & (listed["role"] == "inlet")
    of_inflow = is_inlet | (listed["measurement"] == INFLOW)
    rest = deviation.copy()
    for column in np.flatnonzero((listed["measurement"] == LOSS) & habits.is_known):
        inflow = np.flatnonzero(of_inflow & (listed["district_id"] == listed["district_id"].iloc[column]))
        for leak in known_leaks:
            if (leak.node_id, leak.measurement) == (listed["node_id"].iloc[column], LOSS):
                first = int(signals.hours.searchsorted(pd.Timestamp(leak.begin)))
                end = len(rest) if leak.end is None else int(signals.hours.searchsorted(pd.Timestamp(leak.end)))
                rest[first:end, inflow] -= leak.size
        rest[np.ix_(np.isfinite(deviation[:, column]), inflow)] = np.nan
    return rest


def explanation_of(finding: Finding, others: Iterable[Finding]) -> Finding | None:
    """The finding of the same signal that explains an unusual one better."""
    if finding.method != "pattern":
        return None
    candidates = (
        other
        for other in others
        if other.anomaly_type in _EXPLAINS
        and other.node_id == finding.node_id
        and other.measurement in (finding.measurement, None, LOSS, INFLOW)
        and overlap(finding.begin, finding.end, other.begin, other.end)
    )
    return next(candidates, None)


def repeated_use(finding: Finding, others: Iterable[Finding]) -> Finding | None:
    """What a short leak turned out to be the first time of: a use that comes back, and is over by itself each time."""
    if finding.anomaly_type not in leaks.LEAKS or finding.end is None:
        return None
    if finding.end - finding.begin > SHORT_HOURS * HOUR:
        return None
    same = (
        other
        for other in others
        if other.method == "pattern"
        and len(other.episodes) > 1
        and (other.node_id, other.measurement) == (finding.node_id, finding.measurement)
        and overlap(finding.begin, finding.end, other.begin, other.end)
    )
    return next(same, None)


def _is_edge(finding: Finding, off_pattern: Iterable[Finding]) -> bool:
    """Whether jumps that come back are the begin and the end of hours that come back: a schedule that changed."""
    return (
        finding.anomaly_type == "jump"
        and len(finding.episodes) > 1
        and any(
            len(other.episodes) > 1
            and (other.node_id, other.measurement) == (finding.node_id, finding.measurement)
            and overlap(finding.begin, finding.end, other.begin, other.end)
            for other in off_pattern
        )
    )


def _placed(finding: Finding, signals: Signals, scaled: Floats, places: Places) -> Finding:
    """A leak with the sensors that show it."""
    if finding.anomaly_type not in leaks.LEAKS:
        return finding
    return replace(finding, why=finding.why | {"sensors": sensors_of(finding, signals, scaled, places)})


def _confirmed(finding: Finding, signals: Signals, scaled: Floats) -> Finding:
    """A burst whose district's pressure fell with it mentions that, and is one step more severe."""
    if finding.anomaly_type != leaks.BURST:
        return finding
    listed = signals.listed
    district = listed.loc[listed["node_id"] == finding.node_id, "district_id"].iloc[0]
    if pd.isna(district):
        return finding
    sensors = np.flatnonzero(
        (listed["district_id"] == district) & (listed["measurement"] == "pressure") & (listed["role"] != "storage")
    )
    first = int(signals.hours.searchsorted(pd.Timestamp(finding.begin)))
    hours = scaled[first : first + CONFIRMING_HOURS, sensors]
    if not np.isfinite(hours).any():
        return finding
    fallen = [float(np.nanmean(column)) if np.isfinite(column).any() else 0.0 for column in hours.T]
    steepest = int(np.argmin(fallen))
    if fallen[steepest] > -CONFIRMING_SPREADS:
        return finding
    why = finding.why | {
        "confirmed_by_pressure": {
            "node_id": str(listed.iloc[sensors[steepest]]["node_id"]), "spreads_below_expected": -fallen[steepest]
        }
    }  # fmt: skip
    return replace(finding, severity={INFO: WARNING}.get(finding.severity, CRITICAL), why=why)
