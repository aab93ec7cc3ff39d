"""What the values of settings can be, and what is known of a setting besides its type, default and bounds."""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from src.clock import clock_from


class Readers(Enum):
    """Whose containers a setting is passed to. It stands on a section, and on the fields that differ from theirs."""

    BOTH = "both"
    PROCESSING = "processing"
    API = "api"
    MIGRATION = "migration"


class Mark(Enum):
    """What the example and the compose files do with a setting that is not like the others."""

    # Stands in the example without #: most installations need it.
    TO_FILL_IN = "to fill in"
    # A compose file gives it a value by hand, or a secret's file. Of secrets this goes without saying.
    SET_IN_CONTAINERS = "set in containers"
    # Passed on with its default where it is not set, as Compose itself or another container uses it.
    DEFAULT_IN_CONTAINERS = "default in containers"


def _known_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError("expected an IANA time zone such as Europe/Rome") from None
    return name


def _known_clock(text: str) -> str:
    clock_from(text)
    return text


def _known_origins(text: str) -> str:
    for origin in filter(None, (part.strip() for part in text.split(","))):
        if not re.fullmatch(r"https?://[A-Za-z0-9.\-\[\]:]+", origin):
            raise ValueError(f"'{origin}' is no origin: write it like https://dashboard.example.org")
    return text


TimeZoneName = Annotated[str, AfterValidator(_known_zone)]
ClockText = Annotated[str, AfterValidator(_known_clock)]
Origins = Annotated[str, AfterValidator(_known_origins)]
# What may stand in a table or column name of the warehouse: names cannot be bound as parameters,
# so nothing else ever reaches a query.
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,299}$")]
# As a share of what is measured.
MeterError = Annotated[float, Field(gt=0, le=0.5, allow_inf_nan=False)]


class ValidRange(BaseModel):
    """The least and the largest value that a measurement can have, in the product's unit; None: the usual one."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    low: float | None = None
    high: float | None = None

    @model_validator(mode="after")
    def _has_room(self) -> ValidRange:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low {self.low:g} must be less than high {self.high:g}")
        return self
