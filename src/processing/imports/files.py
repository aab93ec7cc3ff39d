"""Files of the utility's own knowledge, CSV with a header: taken whole or, with every problem named, not at all."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError
from sqlalchemy import Connection

from src.db.engines import create_database_engine
from src.db.migrate import wait_for_schema
from src.domain.names import problem_of_name, problem_of_text
from src.observability import configure_logging
from src.settings import load_settings

Row = TypeVar("Row", bound=BaseModel)
# An empty field means unknown.
Empty = BeforeValidator(lambda text: None if text is None or not str(text).strip() else str(text).strip())


def _storable(text: str | None) -> str | None:
    if text is not None and (problem := problem_of_text(text)):
        raise ValueError(problem)
    return text


def _name(text: str) -> str:
    if problem := problem_of_name(text):
        raise ValueError(problem)
    return text


Text = Annotated[str | None, Field(max_length=300), AfterValidator(_storable), Empty]
Identifier = Annotated[str, AfterValidator(_name)]
DistrictName = Annotated[str | None, AfterValidator(lambda text: None if text is None else _name(text)), Empty]


def read_rows(path: Path, model: type[Row], key: str) -> tuple[list[Row], list[str]]:
    """The file's rows, unique by their key, and a sentence for everything that is wrong with it, by line."""
    found: dict[str, Row] = {}
    problems: list[str] = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restkey="", strict=True)
        unknown = sorted(set(reader.fieldnames or []) - set(model.model_fields))
        if key not in (reader.fieldnames or []) or unknown:
            wrong = f"unknown column {', '.join(unknown)}" if unknown else f"no column {key}"
            return [], [f"line 1: {wrong}; the columns are {', '.join(model.model_fields)}"]
        for fields in reader:
            try:
                row = model.model_validate({name: text for name, text in fields.items() if text is not None})
            except ValidationError as error:
                for problem in error.errors(include_url=False, include_input=False):
                    column = str(problem["loc"][0]) or "more fields than columns"
                    message = problem["msg"].removeprefix("Value error, ")
                    problems.append(f"line {reader.line_num}: {column}: {message}")
                continue
            name = getattr(row, key)
            if name in found:
                problems.append(f"line {reader.line_num}: {key}: {name} stands in the file twice")
            found[name] = row
    return list(found.values()), problems


def run_import(
    arguments: list[str] | None,
    noun: str,
    description: str | None,
    model: type[Row],
    key: str,
    store: Callable[[Connection, list[Row]], str | None],
) -> int:
    """The command `python -m src.processing.<noun> import FILE`; the exit code.

    Args:
        store: writes the rows; what it returns is printed once they are committed.
    """
    parser = argparse.ArgumentParser(prog=f"python -m src.processing.{noun}", description=description)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    importing = commands.add_parser("import", help=f"add or change {noun}", description=model.__doc__)
    importing.add_argument("file", type=Path, help=f"CSV with a header: {', '.join(model.model_fields)}")
    options = parser.parse_args(arguments)
    settings = load_settings()
    configure_logging(settings)
    try:
        rows, problems = read_rows(options.file, model, key)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        rows, problems = [], [f"{options.file}: {error}"]
    if problems:
        sys.stderr.write("\n".join([*problems, "Nothing was imported."]) + "\n")
        return 1
    database = create_database_engine(settings)
    if problem := wait_for_schema(database, seconds=10):
        sys.stderr.write(problem + "\n")
        return 1
    with database.begin() as connection:
        remark = store(connection, rows)
    sys.stdout.write(f"{len(rows)} {noun} imported.\n" + (f"{remark}\n" if remark else ""))
    return 0
