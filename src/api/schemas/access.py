"""Sessions and keys."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from src.api.schemas.common import Count, Row


class SessionRequest(BaseModel):
    """What kind of session is wanted."""

    model_config = ConfigDict(extra="forbid")

    is_display: bool = Field(
        False, strict=True, description="for a screen on the wall: it may only read, and lasts DISPLAY_SESSION_DAYS"
    )


class NewSession(Row):
    session_id: str
    token: str = Field(description="shown once; also set as an HttpOnly cookie")
    expires_at: datetime = Field(description="unless it is used before")
    ends_at: datetime = Field(description="however much it is used")
    scope: Literal["read", "write", "admin"]


class Session(Row):
    session_id: str
    key_name: str = Field(description="of the key that it was opened with")
    scope: Literal["read", "write", "admin"]
    created_at: datetime
    expires_at: datetime = Field(description="unless it is used before")
    ends_at: datetime = Field(description="however much it is used")
    address: str = Field(description="from where it was opened")
    user_agent: str
    is_current: bool = Field(description="whether it makes this request")


class ApiKey(Row):
    key_id: str
    key_name: str
    person: str | None = Field(description="who holds it, where it was made for one person")
    scope: Literal["read", "write", "admin"]
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    requests: Count
    refused: Count
