"""`python -m src.processing.survey`: what every node is taken for and why, and what is lacking, as last surveyed."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text
from sqlalchemy import Connection, Engine, RowMapping, select

from src.db import tables
from src.db.engines import create_database_engine
from src.db.migrate import wait_for_schema
from src.domain.names import listed
from src.observability import configure_logging
from src.settings import load_settings

# What `python -m src.processing.nodes` and `districts` read back; whoever is out of service stays so.
NODE_COLUMNS = (
    "node_id", "node_name", "node_type", "district_id", "role", "location_name", "latitude", "longitude",
    "installation_date", "is_active", "metadata",
)  # fmt: skip
DISTRICT_COLUMNS = (
    "district_id", "district_name", "mains_km", "connections", "private_pipe_km", "mean_pressure_metres",
    "night_use_litres", "leakage_exponent",
)  # fmt: skip
NOT_YET = "Nothing is surveyed yet: the next processing cycle does it."
_PURPOSES = ("balance", "forecast", "detector", "recommendation")


def surveyed_nodes(connection: Connection) -> Sequence[RowMapping]:
    """The surveyed nodes with what people state of them, by node_id."""
    found, node = tables.node_survey, tables.nodes
    columns = [column for column in found.c if column.name != "node_id"]
    query = select(*(node.c[name] for name in NODE_COLUMNS), *columns).join(found, found.c.node_id == node.c.node_id)
    return connection.execute(query.order_by(node.c.node_id)).mappings().all()


def surveyed_districts(connection: Connection) -> Sequence[RowMapping]:
    """The surveyed districts with what people state of them, by district_id."""
    found, district = tables.district_survey, tables.districts
    stated = [district.c[name] for name in DISTRICT_COLUMNS if name != "district_id"]
    query = select(*found.c, *stated).outerjoin(district, district.c.district_id == found.c.district_id)
    return connection.execute(query.order_by(found.c.district_id)).mappings().all()


def print_survey(console: Console, engine: Engine) -> bool:
    """Prints the last survey as tables, and what is lacking as sentences; whether there was one."""
    with engine.connect() as connection:
        nodes, districts = surveyed_nodes(connection), surveyed_districts(connection)
    if not nodes:
        console.print(NOT_YET, markup=False)
        return False
    title = f"Survey of {nodes[0]['surveyed_at']:%Y-%m-%d %H:%M} UTC; * believed, not stated"
    shown = _table(title, ("Node", "District", "Role", "Taken for", "Days", "Every"))
    for node in nodes:
        channels = ", ".join(f"{channel['taken_for']} ({channel['unit']})" for channel in node["channels"])
        place, pace = node["district_believed"], node["cadence_seconds"]
        district, role = node["district_id"], node["role"]
        shown.add_row(
            _plain(node["node_id"]),
            _plain(district or (f"{place['value']} *" if place else "-")),
            _plain(role or (f"{node['role_believed']} *" if node["role_believed"] else "-")),
            _plain(channels or "nothing is recorded"),
            str(node["days"]),
            "-" if pace is None else f"{pace / 60:.3g} min",
        )
    console.print(shown)
    if districts:
        shown = _table("Districts", ("District", "Nodes", *(purpose.capitalize() for purpose in _PURPOSES)))
        for district in districts:
            has = (district["has"].get(purpose) for purpose in _PURPOSES)
            states = ("yes" if state is True else "no" if state is False else str(state) for state in has)
            shown.add_row(_plain(district["district_id"]), str(district["nodes"]), *states)
        console.print(shown)
    for line in _sentences(nodes, districts):
        console.print(line, soft_wrap=True)
    return True


def _table(title: str, columns: Iterable[str]) -> Table:
    shown = Table(title=title, title_justify="left")
    for column in columns:
        shown.add_column(column, justify="right" if column in ("Days", "Nodes", "Every") else "left")
    return shown


def _sentences(nodes: Sequence[RowMapping], districts: Sequence[RowMapping]) -> Iterable[Text]:
    """What is lacking and what was not believed, each sentence once with those it is about."""
    lines: dict[tuple[str, str], list[str]] = {}
    for district in districts:
        for purpose in _PURPOSES:
            for sentence in district["lacking"][purpose]:
                lines.setdefault((purpose, sentence), []).append(f"district {district['district_id']}")
    for node in nodes:
        for purpose, sentences in node["lacking"].items():
            for sentence in sentences:
                lines.setdefault((purpose, sentence), []).append(node["node_id"])
        if node["role"] is None:
            for sentence in node["why"]:
                lines.setdefault((f"role {node['role_believed'] or 'unknown'}", sentence), []).append(node["node_id"])
    for (purpose, sentence), names in lines.items():
        yield _plain(f"- {purpose}: {listed(names)}: {sentence}")


def _plain(name: str) -> Text:
    """A text without markup and without what would move a terminal's cursor."""
    return Text("".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name))


def write_files(engine: Engine, folder: Path) -> str:
    """Writes nodes.csv and districts.csv with what people state and, where they state nothing, with what is believed.

    Returns:
        A sentence about what was written, and how much of it is a belief.

    Raises:
        FileExistsError: if one of the files is there, which somebody may have edited.
    """
    with engine.connect() as connection:
        nodes, districts = surveyed_nodes(connection), surveyed_districts(connection)
    paths = [folder / "nodes.csv", folder / "districts.csv"]
    for path in paths:
        if path.exists():
            raise FileExistsError(f"{path} is there already: name another folder, or move it away")
    folder.mkdir(parents=True, exist_ok=True)
    believed = [_with_beliefs(node) for node in nodes]
    _write(paths[0], NODE_COLUMNS, believed)
    _write(paths[1], DISTRICT_COLUMNS, districts)
    roles = sum(node["role"] is None and row["role"] is not None for node, row in zip(nodes, believed, strict=True))
    places = sum(
        node["district_id"] is None and row["district_id"] is not None
        for node, row in zip(nodes, believed, strict=True)
    )
    return (
        f"{len(nodes)} nodes are in {paths[0]}, {len(districts)} districts in {paths[1]}. {roles} roles and {places} "
        "districts of nodes are believed, not stated (marked * above): check them before you import the files."
    )


def _with_beliefs(node: RowMapping) -> dict[str, Any]:
    place = node["district_believed"]
    return dict(node) | {
        "role": node["role"] or node["role_believed"],
        "district_id": node["district_id"] or (place["value"] if place else None),
    }


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[Any, Any]]) -> None:
    with path.open("x", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([_field(row[column], is_key=column == columns[0]) for column in columns] for row in rows)


def _field(value: Any, *, is_key: bool) -> str:
    """As the import reads it; empty where nothing is stated, which it leaves as it is."""
    if value is None or value == {}:
        return ""
    if isinstance(value, dict):
        return orjson.dumps(value).decode()
    text = str(value)
    # The import takes blanks around a text for none of it; that name stays as it is.
    return text if is_key or text == text.strip() else ""


def main(arguments: list[str] | None = None) -> int:
    """Prints the last survey, and writes what it believes where that is wanted; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m src.processing.survey",
        description="Prints what every node and channel is taken for and why, and what nodes and districts lack for a "
        "balance, a forecast, a detector and a recommendation, as of the last processing cycle that surveyed them.",
    )
    parser.add_argument(
        "--write",
        type=Path,
        metavar="DIR",
        help="also write nodes.csv and districts.csv there, with what is believed where nothing is stated: to be "
        "checked, edited, and imported with `python -m src.processing.nodes import` and `... districts import`",
    )
    options = parser.parse_args(arguments)
    settings = load_settings()
    configure_logging(settings)
    database = create_database_engine(settings)
    if problem := wait_for_schema(database, seconds=10):
        sys.stderr.write(problem + "\n")
        return 1
    console = Console()
    if not print_survey(console, database):
        return 1
    if options.write is not None:
        try:
            console.print(_plain(write_files(database, options.write)), soft_wrap=True)
        except OSError as error:
            sys.stderr.write(f"{error}\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
