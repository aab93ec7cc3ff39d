"""Files of the utility's own knowledge, CSV with a header: taken whole or, with every problem named, not at all."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar
from zoneinfo import ZoneInfo

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


class Refused(Exception):
    """Rows that the database knows to be wrong; nothing of them is stored.

    Attributes:
        problems: the row's place among those given, and a sentence.
    """

    def __init__(self, problems: Sequence[tuple[int, str]]) -> None:
        super().__init__(problems)
        self.problems = problems


def read_rows(path: Path, model: type[Row], key: str, zone: ZoneInfo) -> tuple[list[Row], list[int], list[str]]:
    """The file's rows, unique by their key, the line of each, and a sentence for everything that is wrong, by line.

    Args:
        key: the attribute of the model by which rows are told apart.
        zone: of local times.
    """
    found: dict[str, Row] = {}
    lines: list[int] = []
    problems: list[str] = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restkey="", strict=True)
        unknown = sorted(set(reader.fieldnames or []) - set(model.model_fields))
        needed = (name for name, field in model.model_fields.items() if field.is_required())
        missing = [name for name in needed if name not in (reader.fieldnames or [])]
        if missing or unknown:
            wrong = f"unknown column {', '.join(unknown)}" if unknown else f"no column {', '.join(missing)}"
            return [], [], [f"line 1: {wrong}; the columns are {', '.join(model.model_fields)}"]
        for fields in reader:
            try:
                given = {name: text for name, text in fields.items() if text is not None}
                row = model.model_validate(given, context={"zone": zone})
            except ValidationError as error:
                for problem in error.errors(include_url=False, include_input=False):
                    # What is wrong with a row as a whole has no column.
                    column = (str(problem["loc"][0]) or "more fields than columns") + ": " if problem["loc"] else ""
                    message = problem["msg"].removeprefix("Value error, ")
                    problems.append(f"line {reader.line_num}: {column}{message}")
                continue
            name = str(getattr(row, key))
            if name in found:
                what = f"{key}: {name}" if key in model.model_fields else "it"
                problems.append(f"line {reader.line_num}: {what} stands in the file twice")
                continue
            found[name] = row
            lines.append(reader.line_num)
    return list(found.values()), lines, problems


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
        store: writes the rows; what it returns is printed once they are committed. It may raise `Refused`.
    """
    parser = argparse.ArgumentParser(prog=f"python -m src.processing.{noun}", description=description)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    importing = commands.add_parser("import", help=f"add or change {noun}", description=model.__doc__)
    importing.add_argument("file", type=Path, help=f"CSV with a header: {', '.join(model.model_fields)}")
    options = parser.parse_args(arguments)
    settings = load_settings()
    configure_logging(settings)
    try:
        rows, lines, problems = read_rows(options.file, model, key, ZoneInfo(settings.utility_timezone))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        rows, lines, problems = [], [], [f"{options.file}: {error}"]
    if problems:
        return _refused(problems)
    database = create_database_engine(settings)
    if problem := wait_for_schema(database, seconds=10):
        sys.stderr.write(problem + "\n")
        return 1
    try:
        with database.begin() as connection:
            remark = store(connection, rows)
    except Refused as refused:
        return _refused([f"line {lines[place]}: {sentence}" for place, sentence in refused.problems])
    sys.stdout.write(f"{len(rows)} {noun} imported.\n" + (f"{remark}\n" if remark else ""))
    return 0


def _refused(problems: Sequence[str]) -> int:
    sys.stderr.write("\n".join([*problems, "Nothing was imported."]) + "\n")
    return 1
