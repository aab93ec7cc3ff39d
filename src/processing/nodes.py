"""`python -m src.processing.nodes import nodes.csv`: what the utility knows about its nodes, validated line by line."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    Json,
    ValidationError,
    field_validator,
    model_validator,
)
from sqlalchemy import Connection, case, func, update
from sqlalchemy.dialects.postgresql import insert

from src.db import generation, tables
from src.domain.names import problem_of_text
from src.domain.readings import VALID_RANGE
from src.domain.service_life import BY_HAND
from src.domain.units import conversion
from src.processing.imports.files import DistrictName, Empty, Identifier, Text, run_import
from src.processing.imports.instants import LocalInstant
from src.processing.ingest.outdated import find_outdated
from src.processing.warehouse.channels import conventions_of
from src.setting_values import ValidRange
from src.settings import load_settings
from src.vocabulary import MeterClass, Role


def _storable(metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    """Metadata that the database can hold: no text in them, at any depth, has a NUL or half a character."""
    rest: list[Any] = [metadata]
    while rest:
        value = rest.pop()
        if isinstance(value, str) and (problem := problem_of_text(value)):
            raise ValueError(problem)
        if isinstance(value, dict):
            rest += [*value, *value.values()]
        elif isinstance(value, list):
            rest += value
    return metadata


class _Limits(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    low: float | None = None
    high: float | None = None
    emergency_low: float | None = None
    emergency_high: float | None = None


Measurement = Literal["flow_rate", "pressure", "temperature", "volume"]


class _Metadata(BaseModel):
    """What the service reads of a node's metadata; whatever else is in them is the utility's."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    limits: dict[Literal["flow_rate", "pressure", "temperature"], _Limits] | None = None
    units: dict[Measurement, str] | None = None
    ranges: dict[Measurement, ValidRange] | None = None
    connected: dict[Measurement, bool] | None = None
    volume_is: Literal["increment", "counter"] | None = None
    tank_area_m2: float | None = Field(None, gt=0)
    feeding_district_id: str | None = None
    meter_class: MeterClass | None = None
    meter_error_percent: float | None = Field(None, gt=0, le=50)

    @field_validator("units")
    @classmethod
    def _convertible(cls, units: dict[Measurement, str] | None) -> dict[Measurement, str] | None:
        for measurement, unit in (units or {}).items():
            conversion(measurement, unit)
        return units

    @field_validator("ranges")
    @classmethod
    def _with_room(cls, ranges: dict[Measurement, ValidRange] | None) -> dict[Measurement, ValidRange] | None:
        for measurement, edges in (ranges or {}).items():
            usual_low, usual_high = VALID_RANGE[measurement]
            low, high = (
                usual if edge is None else edge for edge, usual in ((edges.low, usual_low), (edges.high, usual_high))
            )
            if low >= high:
                raise ValueError(f"{measurement}: nothing lies between {low:g} and {high:g}; name low and high")
        return ranges


def _meant(metadata: dict[str, Any] | None) -> dict[str, Any] | None:
    """Metadata in which what the service reads is what it takes it for: a limit in a text would limit nothing."""
    try:
        _Metadata.model_validate(metadata or {})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"] if part != "[key]")
        raise ValueError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from None
    return metadata


class Node(BaseModel):
    """One line of the file: columns by name in any order, all but node_id optional, empty means unknown.

    Roles name a node's part in the water balance of its district; metadata is a JSON object, in which a tank has its
    tank_area_m2, an inlet that another district feeds that one's feeding_district_id, a meter its meter_class or
    meter_error_percent, and any node its limits, the units in which it reports, the ranges of what is possible, which
    measurements are connected, and whether its volume is an increment or a counter. out_of_service true takes a node
    out by hand, since out_of_service_since (else since now); false puts it back.
    """

    model_config = ConfigDict(extra="forbid")

    node_id: Identifier
    node_name: Text = None
    node_type: Text = None
    district_id: DistrictName = None
    role: Annotated[Role | None, Empty] = None
    location_name: Text = None
    latitude: Annotated[float | None, Field(ge=-90, le=90), Empty] = None
    longitude: Annotated[float | None, Field(ge=-180, le=180), Empty] = None
    installation_date: Annotated[date | None, Empty] = None
    is_active: Annotated[bool | None, Empty] = None
    out_of_service: Annotated[bool | None, Empty] = None
    out_of_service_since: LocalInstant = None
    metadata: Annotated[Json[dict[str, Any]] | None, AfterValidator(_storable), AfterValidator(_meant), Empty] = None

    @model_validator(mode="after")
    def _is_out_where_it_says_since_when(self) -> Node:
        if self.out_of_service_since is not None and self.out_of_service is not True:
            raise ValueError("out_of_service_since is of a node that is out of service: set out_of_service to true")
        return self


def import_nodes(connection: Connection, nodes: list[Node], now: datetime | None = None) -> None:
    """Adds the nodes or changes what the file states of them; what it leaves empty stays as it is.

    Args:
        now: by the service's clock: since then those are out of service for which the file gives no instant.
    """
    stored = tables.nodes.c
    # In one order, the one in which those that write windows lock nodes.
    for node in sorted(nodes, key=lambda node: node.node_id):
        stated = node.model_dump(exclude_none=True, exclude={"out_of_service", "out_of_service_since"})
        service = _service(node, now or datetime.now(UTC))
        statement = insert(tables.nodes).values({"node_name": node.node_id} | stated | service)
        changed: dict[str, Any] = {name: statement.excluded[name] for name in (*stated, *service)}
        if node.out_of_service and node.out_of_service_since is None:
            # Where it is stated again, the node is out of service since the first statement.
            is_by_hand = stored.out_of_service_reason == BY_HAND
            since = case((is_by_hand, stored.out_of_service_since), else_=changed["out_of_service_since"])
            changed["out_of_service_since"] = since
        connection.execute(
            statement.on_conflict_do_update(index_elements=[stored.node_id], set_=changed | {"updated_at": func.now()})
        )
    # What is stated now counts from the next cycle on; how a meter was found to count stays.
    channels = tables.node_channels.c
    connection.execute(
        update(tables.node_channels)
        .where(channels.node_id.in_([node.node_id for node in nodes if node.metadata is not None]))
        .values(valid_from=None)
    )
    generation.advance(connection)


def _service(node: Node, now: datetime) -> dict[str, Any]:
    """What the file states of a node's service, as it is stored; empty where it states nothing."""
    if node.out_of_service is None:
        return {}
    if not node.out_of_service:
        return {"out_of_service_since": None, "out_of_service_reason": None}
    return {"out_of_service_since": node.out_of_service_since or now, "out_of_service_reason": BY_HAND}


def _imported(connection: Connection, nodes: list[Node]) -> str | None:
    """Imports the nodes; a sentence where windows of theirs are stored that were computed by other units or ranges."""
    settings = load_settings()
    import_nodes(connection, nodes, settings.running_clock.now())
    outdated = find_outdated(
        connection,
        conventions_of(settings),
        settings.running_clock.now(),
        settings.retention_metrics_days,
        ZoneInfo(settings.utility_timezone),
        [node.node_id for node in nodes],
    )
    return None if outdated is None else outdated.sentence()


def main(arguments: list[str] | None = None) -> int:
    """Imports a file as a whole or, if anything is wrong with it, not at all; the exit code."""
    return run_import(arguments, "nodes", __doc__, Node, "node_id", _imported)


if __name__ == "__main__":
    sys.exit(main())
