"""Series for charts, on one time axis."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from src.api.schemas.common import NodeName, Row
from src.vocabulary import AnomalyType, Severity, TimeWindow

Measurement = Literal["flow_rate", "pressure", "temperature", "volume"]
_SHARE = "share of each window, 0..1; null where nothing is known of it"
Line = Annotated[
    list[float | None], Field(description="in `unit`, a value for each of `timestamps`; null where there is none")
]


class Thinning(Row):
    method: Literal["none", "lttb"] = Field(
        description="lttb: largest triangle three buckets (Steinarsson, 2013) picks windows; none: all are shown"
    )
    windows: int = Field(description="of the span")
    points: int = Field(description="of them shown, as many as `timestamps`")
    statement: str


class _Line(Row):
    node_id: NodeName
    node_name: str
    district_id: str | None
    measurement: Measurement
    unit: Literal["L/s", "bar", "°C", "m³"]
    values: Line


class HistoryLine(_Line):
    """What was measured: means of windows; of volume, their sums."""

    kind: Literal["history"]
    minimum: Line | None = Field(None, description="the least reading of each window; absent of volume")
    maximum: Line | None = None
    coverage: list[float | None] = Field(description=f"what readings vouch for, {_SHARE}")
    estimated: list[float | None] | None = Field(
        None, description=f"of flow and volume: what of the volume was spread over windows by time, {_SHARE}"
    )
    quality: list[float | None] = Field(description="quality score, 0..1")


class ForecastLine(_Line):
    """Of past hours the last forecast made before each, of coming ones the latest; with 90 % intervals."""

    kind: Literal["forecast"]
    lower: Line
    upper: Line
    model_id: UUID | None = Field(description="of the latest of these forecasts")
    model_version: str | None
    made_at: datetime | None
    reason: str | None = Field(description="why there is no forecast at all")


class ExpectedLine(_Line):
    """What detection expected of each hour when it judged it: the usual flow of that hour of the week, as it was known
    then, and the usual swing around it."""

    kind: Literal["expected"]
    lower: Line
    upper: Line
    reason: str | None = Field(description="why nothing was expected at all")


class SeriesEvent(Row):
    anomaly_id: UUID
    incident_id: UUID | None
    node_id: NodeName
    anomaly_type: AnomalyType
    severity: Severity
    measurement_type: Literal["flow_rate", "pressure", "temperature", "loss", "inflow"] | None
    timestamp: datetime = Field(description="when it began")
    end: datetime | None = Field(description="null while it goes on")
    resolved_at: datetime | None
    explanation: str | None


class Series(Row):
    time_window: TimeWindow
    start_time: datetime
    end_time: datetime
    window_seconds: int = Field(description="length of a window, s; a local day may have an hour more or less")
    thinning: Thinning
    timestamps: list[int] = Field(
        description="when each window begins, seconds since 1970-01-01T00:00:00Z, ascending: the axis of every series",
        examples=[[1683590400, 1683594000]],
    )
    series: list[Annotated[HistoryLine | ForecastLine | ExpectedLine, Field(discriminator="kind")]]
    events: list[SeriesEvent] = Field(description="of these nodes, the 500 that began last in or before the span")
