"""How the columns of a table become readings: what was understood of it, and can be edited and used again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from src.domain.names import problem_of_name
from src.domain.tables.clocks import zone_of
from src.domain.units import conversion

Measurement = Literal["flow_rate", "pressure", "temperature", "volume"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


class Instant(_Strict):
    """The columns that hold the instant; several are date and time."""

    columns: list[str] = Field(min_length=1)
    # Of day, month and year, where the column does not show it.
    order: Literal["day first", "month first", "year first"] | None = None
    # Of times without an offset.
    zone: str

    @model_validator(mode="after")
    def _is_a_zone(self) -> Instant:
        zone_of(self.zone)
        return self


class Channel(_Strict):
    """One column of values (or, where a column names the parameter, the rows with this text in it)."""

    column: str | None = None
    parameter: str | None = None
    # Absent where a column names the node.
    node: str | None = None
    measurement: Measurement
    unit: str
    volume_is: Literal["increment", "counter"] | None = None

    @model_validator(mode="after")
    def _is_possible(self) -> Channel:
        if (self.column is None) == (self.parameter is None):
            raise ValueError("either column or parameter names where the values stand")
        if self.node is not None and (problem := problem_of_name(self.node)):
            raise ValueError(f"node {problem}")
        conversion(self.measurement, self.unit)
        if self.volume_is is not None and self.measurement != "volume":
            raise ValueError("volume_is is of a volume")
        return self

    @property
    def place(self) -> str:
        """Where its values stand, for a person."""
        return self.column if self.column is not None else f"{self.parameter}"


class Skipped(_Strict):
    """A column (or parameter) that is not taken, and why."""

    column: str
    reason: str


class Section(_Strict):
    """The mapping of all tables with the same headings."""

    # Names of files, with * for anything; of sheets where there are several.
    files: list[str] = Field(default_factory=lambda: ["*"])
    instant: Instant
    node_column: str | None = None
    # Of all rows, where neither a column nor a channel names it.
    node: str | None = None
    district_column: str | None = None
    district: str | None = None
    # Where each row names what it is a value of.
    parameter_column: str | None = None
    value_column: str | None = None
    decimal: Literal[",", "."] | None = None
    channels: list[Channel] = Field(min_length=1)
    skipped: list[Skipped] = []
    # Figures that stand for no value, in addition to the usual ones.
    no_value: list[float] = []

    @model_validator(mode="after")
    def _is_complete(self) -> Section:
        if (self.parameter_column is None) != (self.value_column is None):
            raise ValueError("parameter_column and value_column belong together")
        for channel in self.channels:
            if (channel.parameter is not None) != (self.parameter_column is not None):
                raise ValueError("channels name a column each, or a parameter each where there is a parameter_column")
            if self.node_column is None and self.node is None and channel.node is None:
                raise ValueError(f"no node: neither node_column, nor node, nor the channel {channel.place} names one")
        if self.node is not None and (problem := problem_of_name(self.node)):
            raise ValueError(f"node {problem}")
        if (pair := two_alike(self.channels)) is not None:
            first, second = pair
            raise ValueError(f"'{first.place}' and '{second.place}' are both {first.measurement} of the same node")
        return self

    def needed(self) -> list[str]:
        """The columns that a table must have."""
        named = [
            *self.instant.columns,
            self.node_column,
            self.district_column,
            self.parameter_column,
            self.value_column,
        ]
        return list(dict.fromkeys(name for name in [*named, *(channel.column for channel in self.channels)] if name))


def two_alike(channels: Sequence[Channel]) -> tuple[Channel, Channel] | None:
    """The first two channels that are one measurement of one node; None where there are none."""
    found: dict[tuple[str | None, str], Channel] = {}
    for channel in channels:
        other = found.setdefault((channel.node, channel.measurement), channel)
        if other is not channel:
            return other, channel
    return None


class Mapping(_Strict):
    """A mapping file."""

    tables: list[Section] = Field(min_length=1)
