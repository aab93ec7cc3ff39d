"""What all answers are made of: figures with their units, names, rows."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Flow = Annotated[float | None, Field(description="L/s", examples=[8.42])]
Pressure = Annotated[float | None, Field(description="bar", examples=[3.6])]
Temperature = Annotated[float | None, Field(description="°C", examples=[14.2])]
Volume = Annotated[float | None, Field(description="m³", examples=[30.3])]
Percent = Annotated[float | None, Field(description="%", examples=[98.5])]
Score = Annotated[float | None, Field(description="0..1", examples=[0.97])]
Count = Annotated[int | None, Field(description="null where nothing was counted", examples=[0])]
NodeName = Annotated[str, Field(examples=["node-santanna"])]


class Row(BaseModel):
    """An answer, or a part of one, that has exactly these fields."""

    model_config = ConfigDict(extra="forbid")


class Details(BaseModel):
    """Figures that depend on what the row is about: those that do not apply are absent, and there may be others."""

    model_config = ConfigDict(extra="allow")


def storable(text: str) -> str:
    """The text, if the database can hold it.

    Raises:
        ValueError: saying why it cannot.
    """
    if "\x00" in text:
        raise ValueError("must not contain the character NUL")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must be valid UTF-8") from None
    return text


def iso_text(value: object) -> object:
    """The value, if it is no text, or one of an instant.

    Raises:
        ValueError: saying how to write it.
    """
    # A bare number would pass for seconds since 1970.
    if isinstance(value, str) and not re.match(r"\d{4}-\d{2}-\d{2}[Tt ]", value):
        raise ValueError("must be an instant such as 2023-03-01T00:00:00Z")
    return value


def in_our_time(instant: datetime) -> datetime:
    """The instant in UTC.

    Raises:
        ValueError: if it lies in no time that readings are of.
    """
    if not 1970 <= instant.year <= 2200:
        raise ValueError("must lie between 1970 and 2200")
    return instant.astimezone(UTC)
