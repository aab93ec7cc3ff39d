"""Requests about models."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from src.api.schemas.common import Row, storable
from src.vocabulary import ModelType

Text = Annotated[str, AfterValidator(storable)]


class ModelRemark(BaseModel):
    """Why it is requested: stored with the decision."""

    model_config = ConfigDict(extra="forbid")

    note: Text | None = Field(None, max_length=2000, examples=["The shadow has seen the new inlet"])


class TrainingRequest(ModelRemark):
    model_type: ModelType
    scope: Text | None = Field(
        None, min_length=1, max_length=300, description="the pool of nodes to train; null: all", examples=["inlet"]
    )


class RequestTaken(Row):
    request_id: UUID


class ModelRequest(Row):
    request_id: UUID
    action: Literal["train", "promote", "roll_back"]
    model_type: ModelType
    scope: str | None = Field(description="the pool of nodes; null: all")
    model_id: UUID | None
    requested_at: datetime
    requested_by: str = Field(description="a person, or an API key's name")
    note: str | None
    status: Literal["queued", "running", "done", "refused", "failed"]
    decided_at: datetime | None
    job_id: UUID | None = Field(description="the training that was started for it")
    outcome: str | None = Field(description="what came of it, or why it was refused, in words")
