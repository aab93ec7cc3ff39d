"""How files of others are read: by a mapping, or as they are understood; and what is taken of each table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd

from src.domain.readings import MEASUREMENTS
from src.domain.tables.mapping import Section
from src.domain.tables.table import Problem, Refusal, Table
from src.domain.tables.taking import section_for, take
from src.domain.tables.understanding import Understanding, only_dates, understand
from src.processing.imports.mappings import read_mapping
from src.processing.imports.opening import open_tables


@dataclass
class Portion:
    """What was taken of one table: its frame is as of `taking.Taken`, its `values` are of the section's channels."""

    source: str
    section: Section
    frame: pd.DataFrame
    problems: list[Problem]
    values: list[int]


@dataclass
class Plan:
    """By which sections files are read, and what of them is an assumption."""

    sections: list[Section]
    assumptions: list[str] = field(default_factory=list)
    # Of each section the measurements whose unit is assumed.
    units_assumed: list[dict[str, str]] = field(default_factory=list)
    # The tables of a file that is the only one, which need not be read again.
    opened: list[Table] = field(default_factory=list)


def plan_of(files: Sequence[Path], mapping: Path | None, zone: ZoneInfo, step: Callable[[str], None]) -> Plan:
    """How the files are read: by the mapping, or as they are understood, those with the same headings together.

    Args:
        zone: the utility's, of times without a zone of their own.
        step: called with the name of each file before it is read.

    Raises:
        Refusal: with a sentence for each file that cannot be understood.
    """
    seen: set[Path] = set()
    for path in files:
        if path.resolve() in seen:
            raise Refusal(f"{path} is given twice. Name it once")
        seen.add(path.resolve())
    if mapping is not None:
        return Plan(read_mapping(mapping).tables)
    groups: dict[tuple[str, ...], list[Table]] = {}
    refused: list[Refusal] = []
    opened: list[Table] = []
    for path in files:
        step(path.name)
        try:
            tables = open_tables(path)
            opened = tables if len(files) == 1 else []
            for table in tables:
                group = groups.setdefault(tuple(table.labels), [])
                # Of many files only the longest stays in memory as a whole.
                if group and len(group[0]) < len(table):
                    group[0], table = table, group[0]
                group.append(only_dates(table) if group else table)
        except Refusal as refusal:
            refused.append(refusal)
    plan = Plan([], opened=opened)
    for group in groups.values():
        try:
            found: Understanding = understand(group, zone)
        except Refusal as refusal:
            refused.append(refusal)
            continue
        if len(groups) > 1:
            found.section.files = [table.source.replace("[", "[[]") for table in group]
        plan.sections.append(found.section)
        plan.assumptions += found.assumptions
        plan.units_assumed.append(found.units_assumed)
    if refused:
        drafts = [refusal.draft for refusal in refused if refusal.draft is not None]
        raise Refusal("\n".join(str(refusal) for refusal in refused), drafts or None)
    return plan


def portions(files: Sequence[Path], plan: Plan) -> Iterator[Portion]:
    """What is taken of each table in the files, one after the other.

    Raises:
        Refusal: at the first table of which nothing can be taken.
    """
    for path in files:
        for table in plan.opened or open_tables(path):
            section = section_for(table, plan.sections)
            taken = take(table, section)
            yield Portion(table.source, section, taken.frame, taken.problems, taken.values)


def together(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One row per node and instant of all frames: of each measurement the value of the last that has one."""
    joined = pd.concat(frames, ignore_index=True)
    if len(frames) == 1:
        return joined
    keys = ["node_id", "timestamp"]
    # last() takes the last value that is none.
    merged = joined.groupby(keys, sort=True, as_index=False)[["district_id", *MEASUREMENTS]].last()
    return merged[list(joined.columns)]
