"""`python -m src.processing.nodes import nodes.csv`: what the utility knows about its nodes, validated line by line."""

from __future__ import annotations

import argparse
import csv
import sys
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Json, ValidationError
from sqlalchemy import Connection, func
from sqlalchemy.dialects.postgresql import insert

from src.db import generation, tables
from src.db.engines import create_database_engine
from src.db.migrate import wait_for_schema
from src.observability import configure_logging
from src.settings import load_settings

_Empty = BeforeValidator(lambda text: None if text is None or not text.strip() else text.strip())
Text = Annotated[str | None, Field(max_length=300), _Empty]


class Node(BaseModel):
    """One line of the file: columns by name in any order, all but node_id optional, empty means unknown.

    Roles name a node's part in the water balance of its district; metadata is a JSON object.
    """

    model_config = ConfigDict(extra="forbid")

    node_id: Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00]*\S[^\x00]*$")]
    node_name: Text = None
    node_type: Text = None
    district_id: Text = None
    role: Annotated[Literal["inlet", "outlet", "consumption", "storage", "monitoring"] | None, _Empty] = None
    location_name: Text = None
    latitude: Annotated[float | None, Field(ge=-90, le=90), _Empty] = None
    longitude: Annotated[float | None, Field(ge=-180, le=180), _Empty] = None
    installation_date: Annotated[date | None, _Empty] = None
    is_active: Annotated[bool | None, _Empty] = None
    metadata: Annotated[Json[dict[str, Any]] | None, _Empty] = None


def read_nodes(path: Path) -> tuple[list[Node], list[str]]:
    """The file's nodes, and a sentence for everything that is wrong with it, by line."""
    found: dict[str, Node] = {}
    problems: list[str] = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restkey="", strict=True)
        unknown = sorted(set(reader.fieldnames or []) - set(Node.model_fields))
        if "node_id" not in (reader.fieldnames or []) or unknown:
            wrong = f"unknown column {', '.join(unknown)}" if unknown else "no column node_id"
            return [], [f"line 1: {wrong}; the columns are {', '.join(Node.model_fields)}"]
        for row in reader:
            try:
                node = Node.model_validate({name: text for name, text in row.items() if text is not None})
            except ValidationError as error:
                for problem in error.errors(include_url=False, include_input=False):
                    column = str(problem["loc"][0]) or "more fields than columns"
                    problems.append(f"line {reader.line_num}: {column}: {problem['msg']}")
                continue
            if node.node_id in found:
                problems.append(f"line {reader.line_num}: node_id: {node.node_id} stands in the file twice")
            found[node.node_id] = node
    return list(found.values()), problems


def import_nodes(connection: Connection, nodes: list[Node]) -> None:
    """Adds the nodes or changes what the file says of them; what it leaves empty stays as it is."""
    stored = tables.nodes.c
    for node in nodes:
        says = node.model_dump(exclude_none=True)
        statement = insert(tables.nodes).values({"node_name": node.node_id} | says)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=[stored.node_id],
                set_={name: statement.excluded[name] for name in says} | {"updated_at": func.now()},
            )
        )
    generation.advance(connection)


def main(arguments: list[str] | None = None) -> int:
    """Imports a file as a whole or, if anything is wrong with it, not at all; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m src.processing.nodes", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    importing = commands.add_parser("import", help="add or change nodes", description=Node.__doc__)
    importing.add_argument("file", type=Path, help=f"CSV with a header: {', '.join(Node.model_fields)}")
    options = parser.parse_args(arguments)
    settings = load_settings()
    configure_logging(settings)
    try:
        nodes, problems = read_nodes(options.file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        nodes, problems = [], [f"{options.file}: {error}"]
    if problems:
        sys.stderr.write("\n".join([*problems, "Nothing was imported."]) + "\n")
        return 1
    database = create_database_engine(settings)
    if problem := wait_for_schema(database, seconds=10):
        sys.stderr.write(problem + "\n")
        return 1
    with database.begin() as connection:
        import_nodes(connection, nodes)
    sys.stdout.write(f"{len(nodes)} nodes imported.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
