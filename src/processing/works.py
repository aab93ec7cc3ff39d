"""`python -m src.processing.works import works.csv`: what the utility plans or does on its network."""

from __future__ import annotations

import sys
from typing import Annotated, Any
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, model_validator
from sqlalchemy import Connection, func, or_, select
from sqlalchemy.dialects.postgresql import insert

from src.db import generation, tables
from src.processing.imports.files import DistrictName, Empty, Identifier, Refused, Text, run_import
from src.processing.imports.instants import LocalInstant
from src.vocabulary import WorkKind
from src.work_spans import problem_of_span

# Who has stated the works of a file.
BY_FILE = "works.csv"
_NAMESPACE = UUID("6f1b4f0e-6c0f-5d0a-9a55-6a6f2b1f7c11")
_STATED = ("kind", "node_id", "district_id", "begin", "end", "note")


class Work(BaseModel):
    """One line of the file: columns by name in any order, empty means unknown.

    Times are local times of the utility, or have an offset; end is needed for works and closure, and empty where the
    work is an instant. A node_id, a district_id or both name the place; a meter's exchange names the meter. Without a
    work_id, a line with the same kind, place and begin is the same work, whatever else it states.
    """

    model_config = ConfigDict(extra="forbid")

    work_id: Annotated[UUID | None, Empty] = None
    kind: WorkKind
    node_id: Annotated[Identifier | None, Empty] = None
    district_id: DistrictName = None
    begin: LocalInstant
    end: LocalInstant = None
    note: Text = None

    @model_validator(mode="after")
    def _is_somewhere_and_some_time(self) -> Work:
        if self.node_id is None and self.district_id is None:
            raise ValueError("node_id or district_id must say where")
        if self.begin is None:
            raise ValueError("begin must say when")
        if problem := problem_of_span(self.kind, self.begin, self.end):
            raise ValueError(problem)
        return self

    @property
    def identity(self) -> UUID:
        """By which the work is known: given, or the same whenever the same is stated."""
        if self.work_id is not None:
            return self.work_id
        begin = self.begin.isoformat() if self.begin else ""
        return uuid5(_NAMESPACE, "\n".join((self.kind, self.node_id or "", self.district_id or "", begin)))


def import_works(connection: Connection, works: list[Work]) -> None:
    """Adds the works or changes those that the file states differently; one that was deleted is there again.

    Raises:
        Refused: naming the nodes and districts that do not exist.
    """
    if problems := _unknown_places(connection, works):
        raise Refused(problems)
    columns = tables.works.c
    for work in works:
        values = work.model_dump(include=set(_STATED))
        statement = insert(tables.works).values({"work_id": work.identity, "created_by": BY_FILE} | values)
        new = statement.excluded
        is_other = or_(
            columns.deleted_at.is_not(None), *(columns[name].is_distinct_from(new[name]) for name in _STATED)
        )
        changed: dict[str, Any] = {name: new[name] for name in _STATED}
        changed |= {"deleted_at": None, "deleted_by": None, "changed_at": func.clock_timestamp()}
        connection.execute(
            statement.on_conflict_do_update(index_elements=[columns.work_id], set_=changed, where=is_other)
        )
    generation.advance(connection)


def _unknown_places(connection: Connection, works: list[Work]) -> list[tuple[int, str]]:
    """A sentence for each node and district that a work names and nobody knows."""
    nodes, districts = tables.nodes.c, tables.districts.c
    named = {work.node_id for work in works if work.node_id is not None}
    known_nodes = set(connection.scalars(select(nodes.node_id).where(nodes.node_id.in_(named))))
    # A district is one that nodes are in, or that somebody has described.
    known = set(connection.scalars(select(nodes.district_id).distinct()))
    known |= set(connection.scalars(select(districts.district_id)))
    problems = []
    for place, work in enumerate(works):
        if work.node_id is not None and work.node_id not in known_nodes:
            problems.append((place, f"node_id: there is no node '{work.node_id}'"))
        if work.district_id is not None and work.district_id not in known:
            problems.append((place, f"district_id: there is no district '{work.district_id}'"))
    return problems


def main(arguments: list[str] | None = None) -> int:
    """Imports a file as a whole or, if anything is wrong with it, not at all; the exit code."""
    return run_import(arguments, "works", __doc__, Work, "identity", import_works)


if __name__ == "__main__":
    sys.exit(main())
