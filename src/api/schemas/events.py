"""Events, what people record about them, and alerts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from src.api.schemas.common import Details, NodeName, Percent, Row, Volume, storable
from src.vocabulary import AnomalyType, DetectionMethod, Severity, WorkKind


class Limits(Row):
    """Alert and emergency limits, in the measurement's unit; absent: no such limit."""

    low: float | None = None
    high: float | None = None
    emergency_low: float | None = None
    emergency_high: float | None = None


class Contribution(Row):
    node_id: NodeName
    measurement: str
    share: float = Field(description="of the deviation, 0..1")
    spreads: float = Field(description="usual spreads above (below: negative) what is expected")


class FallenPressure(Row):
    node_id: NodeName
    spreads_below_expected: float


class UsualBand(Row):
    """What hourly means lie between but for single days, in the measurement's unit."""

    low: float | None
    high: float | None


class Sensor(Row):
    """A sensor of the district that moved when an event began."""

    node_id: NodeName
    measurement: str
    spreads: float = Field(description="by which its mean moved, in usual spreads")
    distance_m: float | None = Field(description="from the first of them, in metres; null where a place is not known")


class Kinds(Row):
    """How probable each kind of rise is, 0..1; together 1."""

    leak: float = Field(description="the same flow by night and by day")
    demand_growth: float = Field(description="the same share of usual use, growing")
    meter: float = Field(description="the same share at once: a meter that counts more, or new customers")
    moved: float = Field(0.0, description="as much less came in at another district")


class ExplainedBy(Row):
    """The work that explains an event."""

    work_id: UUID
    kind: WorkKind
    note: str | None
    severity: Severity = Field(description="what the event's would be without it")


class Evidence(Details):
    """Why it is an event, and the figures that it rests on. Flows are in L/s."""

    explanation: str | None = Field(None, description="in words")
    hours: float | None = Field(None, description="how long so far, or how many hours show it")
    explained_by: ExplainedBy | None = Field(None, description="the work that explains it: attached, and not raised")
    closed_because: str | None = Field(None, description="why it was closed without having ended")
    judged_until: datetime | None = Field(None, description="up to when, where later hours are still to be judged")
    nodes: list[NodeName] | None = Field(None, description="of an event that concerns several")
    times: int | None = Field(None, description="how often it was there: it comes back within 26 hours, or at its hour")
    episodes: list[tuple[datetime, datetime | None]] | None = Field(
        None, description="when it was there, each from and until; null where it was all the while"
    )
    # Limits and pattern.
    limits: Limits | None = None
    usual: UsualBand | None = Field(None, description="what is usual at a point whose limits do not fit")
    do_not_fit: list[str] | None = Field(None, description="the limits that its ordinary operation crosses")
    hours_beyond: int | None = None
    worst_hour: datetime | None = None
    spreads: float | None = Field(None, description="of the worst hour, in usual spreads of that hour of the week")
    usual_spreads: float | None = Field(None, description="the largest in the weeks that habits are learned from")
    history_days: float | None = Field(None, description="of habits")
    # Leaks.
    size: float | None = Field(None, description="L/s, when it was found")
    size_now: float | None = Field(None, description="L/s")
    share_percent: Percent = None
    level_before: float | None = Field(None, description="L/s above what habits let expect")
    lost_m3_so_far: Volume = None
    lost_m3_margin: Volume = Field(None, description="of what was lost so far, at 95 %")
    kinds: Kinds | None = Field(None, description="what it is, from its shape; null while that tells nothing")
    given_up_by: NodeName | None = Field(
        None, description="where as much less came in, or was counted, from the same hours on"
    )
    night_flow_before: float | None = Field(None, description="mean from 02:00 to 04:00 of the week before, L/s")
    night_flow: float | None = Field(None, description="mean from 02:00 to 04:00 of the last night, L/s")
    night_flow_after: float | None = Field(None, description="the same from its end until that was certain, L/s")
    came_back_after: datetime | None = Field(
        None, description="when a leak of the same inflow was over less than two weeks before: its repair did not hold"
    )
    settled: datetime | None = Field(None, description="when it became certain that it is over")
    sensors: list[Sensor] | None = Field(None, description="of the district, the one that shows it most clearly first")
    confirmed_by_pressure: FallenPressure | None = Field(None, description="the node whose pressure fell most with it")
    # Signals that move together.
    contributions: list[Contribution] | None = None
    looks_like: Literal["leak"] | None = None
    distance: float | None = Field(None, description="from what is usual, in limits")
    found_later: str | None = Field(None, description="what was found after it and is shown in its place")
    # Sensor faults.
    tolerated_hours: float | None = None
    longest_usual_hours: float | None = None
    largest_step: float | None = Field(None, description="between readings, in the measurement's unit")
    largest_usual_step: float | None = None
    readings_set_aside: int | None = None


class Anomaly(Row):
    anomaly_id: UUID
    timestamp: datetime = Field(description="when it began")
    end: datetime | None = Field(description="null while it goes on")
    node_id: NodeName
    node_name: str | None
    anomaly_type: AnomalyType
    severity: Severity
    measurement_type: Literal["flow_rate", "pressure", "temperature", "loss", "inflow"] | None = Field(
        description="null where it concerns the whole node"
    )
    actual_value: float | None
    expected_value: float | None
    deviation_percentage: Percent
    detection_method: DetectionMethod
    resolved_at: datetime | None = Field(description="when it ended by itself, or somebody said that it is over")
    resolved_by: str | None = Field(description="who said so; null where it ended by itself")
    is_confirmed: bool | None = Field(description="whether it was found to be real; null where nobody said")
    detected_at: datetime = Field(description="when it was first certain")
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    note: str | None = Field(description="what was noted when it was acknowledged and resolved, a line each")
    district_id: str | None
    district_name: str | None = Field(description="null where nobody has named it")
    explained_by: ExplainedBy | None = Field(
        description="the work that explains it; such an event is no more than information, and counts nowhere as open"
    )
    incident_id: UUID | None = Field(description="shared by events of one district that belong together")
    metadata: Evidence


class Incident(Row):
    incident_id: UUID
    district_id: str | None
    district_name: str | None = Field(description="null where nobody has named it")
    timestamp: datetime = Field(description="when its first event began")
    end: datetime | None = Field(description="null while any of its events goes on")
    resolved_at: datetime | None = Field(description="null while any of its events is open")
    severity: Severity = Field(description="of its worst event")
    events: int
    open_events: int
    nodes: list[str]
    anomaly_types: list[AnomalyType]
    is_acknowledged: bool = Field(description="whether every event of it is")
    explanation: str | None = Field(description="of its worst event")


class Remark(BaseModel):
    """What somebody has to say about an event."""

    model_config = ConfigDict(extra="forbid")

    note: Annotated[str, AfterValidator(storable)] | None = Field(
        None, max_length=2000, examples=["Crew sent to via Roma"]
    )


class Verdict(Remark):
    """How an event was dealt with."""

    is_confirmed: bool | None = Field(None, strict=True, description="true: it was real; false: a false alarm")


class Alert(Row):
    alert_id: UUID
    rule: str = Field(examples=["readings are stale"])
    subject: str = Field(description="what tells it from other alerts of its rule", examples=["network"])
    severity: Severity
    state: Literal["firing", "resolved"]
    summary: str
    details: dict[str, Any]
    since: datetime = Field(description="when its condition was first seen")
    fired_at: datetime
    notified_at: datetime | None = Field(description="when it was last put in line for its receivers")
    resolved_at: datetime | None
    undelivered: int = Field(description="messages about it that a receiver has not taken yet")
