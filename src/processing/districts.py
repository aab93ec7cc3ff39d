"""`python -m src.processing.districts import districts.csv`: what the utility knows about its districts."""

from __future__ import annotations

import sys
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, func
from sqlalchemy.dialects.postgresql import insert

from src.db import generation, tables
from src.processing.imports.files import Empty, Identifier, Text, run_import

Amount = Annotated[float | None, Field(gt=0, allow_inf_nan=False), Empty]


class District(BaseModel):
    """One line of the file: columns by name in any order, all but district_id optional, empty means unknown.

    Kilometres of mains and of private pipe, service connections, mean pressure in metres of head; legitimate use at
    night in litres per connection and hour, and the exponent of leakage against pressure.
    """

    model_config = ConfigDict(extra="forbid")

    district_id: Identifier
    district_name: Text = None
    mains_km: Amount = None
    connections: Annotated[int | None, Field(gt=0), Empty] = None
    private_pipe_km: Annotated[float | None, Field(ge=0, allow_inf_nan=False), Empty] = None
    mean_pressure_metres: Amount = None
    night_use_litres: Annotated[float | None, Field(ge=0, le=100), Empty] = None
    leakage_exponent: Annotated[float | None, Field(ge=0.5, le=2.5), Empty] = None


def import_districts(connection: Connection, districts: list[District]) -> None:
    """Adds the districts or changes what the file states of them; what it leaves empty stays as it is."""
    for district in districts:
        stated = district.model_dump(exclude_none=True)
        statement = insert(tables.districts).values(stated)
        changed = {name: statement.excluded[name] for name in stated} | {"updated_at": func.now()}
        connection.execute(statement.on_conflict_do_update(index_elements=["district_id"], set_=changed))
    generation.advance(connection)


def main(arguments: list[str] | None = None) -> int:
    """Imports a file as a whole or, if anything is wrong with it, not at all; the exit code."""
    return run_import(arguments, "districts", __doc__, District, "district_id", import_districts)


if __name__ == "__main__":
    sys.exit(main())
