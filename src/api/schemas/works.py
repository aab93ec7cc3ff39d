"""The calendar of works: what the utility plans or does on its network."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from src.api.schemas.common import NodeName, Row, in_our_time, iso_text, storable
from src.vocabulary import WorkKind
from src.work_spans import problem_of_span

_KINDS = (
    "works: repairs, flushing, tests; meter_exchange: a meter was replaced or recalibrated; closure: a planned closure "
    "or supply cut; network_change: a boundary valve, a new schedule of set-points, a connection"
)


def _text_of_instant(value: object) -> object:
    # A bare number would pass for seconds since 1970.
    if not isinstance(value, str):
        raise ValueError("must be an instant such as 2023-03-01T00:00:00Z")
    return iso_text(value)


Instant = Annotated[
    AwareDatetime,
    BeforeValidator(_text_of_instant),
    AfterValidator(in_our_time),
    Field(description="ISO 8601 with an offset", examples=["2023-03-01T08:00:00Z"]),
]
Place = Annotated[str, AfterValidator(storable), Field(min_length=1, max_length=300)]


class Work(Row):
    work_id: UUID
    kind: WorkKind = Field(description=_KINDS)
    node_id: NodeName | None
    district_id: str | None
    begin: datetime
    end: datetime | None = Field(description="null: an instant")
    note: str | None
    created_at: datetime
    created_by: str = Field(description="a person, an API key's name, or the file that stated it")


class StatedWork(BaseModel):
    """What is planned or was done, and where: at a node, in a district, or at a node for its district.

    Events that it explains are information from the next cycle on and raise no alarm, also those of the last 90 days.
    """

    model_config = ConfigDict(extra="forbid")

    kind: WorkKind = Field(description=_KINDS)
    node_id: Place | None = Field(None, examples=["node-santanna"])
    district_id: Place | None = None
    begin: Instant
    end: Instant | None = Field(None, description="needed for works and closure; null: an instant")
    note: Annotated[str, AfterValidator(storable)] | None = Field(
        None, max_length=300, examples=["Flushing of via Roma"]
    )

    @model_validator(mode="after")
    def _is_somewhere_and_some_time(self) -> StatedWork:
        if self.node_id is None and self.district_id is None:
            raise ValueError("node_id or district_id must say where")
        if problem := problem_of_span(self.kind, self.begin, self.end):
            raise ValueError(problem)
        return self
