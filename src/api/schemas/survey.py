"""The survey: what nodes and channels are taken for, and what is lacking for what is concluded."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from src.api.schemas.common import NodeName, Row
from src.vocabulary import Role

Sentences = Annotated[
    list[str],
    Field(description="a sentence each, with figures and, after a colon, the next step; empty: nothing lacks"),
]


class BelievedDistrict(Row):
    value: str = Field(description="district_id")
    why: str


class ChannelUse(Row):
    """One measurement of a node."""

    measurement: Literal["flow_rate", "pressure", "temperature", "volume"]
    taken_for: str = Field(description="what it is taken for, in words", examples=["the level of a tank"])
    unit: str = Field(description="in which its figures are taken to come", examples=["L/s"])
    why: list[str] = Field(description="the evidence, a sentence each")


class NodeLacking(Row):
    balance: Sentences
    forecast: Sentences
    detector: Sentences


class SurveyedNode(Row):
    node_id: NodeName
    node_name: str
    district_id: str | None = Field(description="as stated")
    district_believed: BelievedDistrict | None = Field(
        description="where none is stated, the one that its name or its place speaks for"
    )
    role: Role | None = Field(description="as stated")
    role_believed: Role | None = Field(
        description="where none is stated, the one that its readings or its type speak for; null where nothing does"
    )
    why: list[str] = Field(description="why that role is believed, or why none is")
    channels: list[ChannelUse]
    first_reading: datetime | None = Field(description="the first stored hour with readings")
    last_reading: datetime | None
    cadence_seconds: float | None = Field(description="between its readings on most days, s")
    days: int = Field(description="stored local days with readings")
    lacking: NodeLacking


class DistrictLacking(NodeLacking):
    recommendation: Sentences


class DistrictHas(Row):
    balance: bool = Field(description="the loss of the last balanced day is known")
    forecast: bool = Field(description="all of its inlets are forecast")
    detector: Literal["active", "shadow", "none"]
    recommendation: Literal["recommended", "refused", "none"]


class SurveyedDistrict(Row):
    district_id: str
    district_name: str | None
    nodes: int = Field(description="active ones")
    lacking: DistrictLacking
    has: DistrictHas


class Survey(Row):
    surveyed_at: datetime | None = Field(description="null: there was no survey yet")
    nodes: list[SurveyedNode] = Field(description="by node_id, a page of them")
    districts: list[SurveyedDistrict] = Field(description="by district_id, a page of them")
