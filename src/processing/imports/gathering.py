"""Files of others from their names to readings that somebody has found right; until then nothing is handed on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from src.domain.tables.mapping import Section
from src.domain.tables.table import Refusal
from src.domain.tables.taking import is_loss
from src.processing.imports import dialogue
from src.processing.imports.mappings import write_mapping
from src.processing.imports.plans import Plan, plan_of, portions


@dataclass(frozen=True)
class Gathered:
    """What was found right.

    Attributes:
        parts: Parquet files, one for each table, with the columns of `taking.Taken.frame` and source_file.
        first, last: the earliest and the latest instant (aware, UTC).
        lost: how many cells and rows were not understood.
    """

    parts: list[Path]
    sections: list[Section]
    first: datetime
    last: datetime
    readings: int
    lost: int


def gather(
    files: Sequence[Path],
    mapping: Path | None,
    assume_yes: bool,
    console: Console,
    zone: ZoneInfo,
    keep_in: Path,
    spool: Path,
) -> Gathered:
    """Reads the files, shows what they are taken for, stores the mapping and asks whether it is right.

    Args:
        mapping: by which they are read; None: they are understood.
        assume_yes: not to ask.
        keep_in: the folder in which the mapping is stored.
        spool: an empty folder for the parts.

    Raises:
        Refusal: where a file cannot be read as a whole, or it was not found right; nothing was handed on.
    """
    name = files[0].name.split(".")[0]
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console) as progress:
        task = progress.add_task("Reading", total=None)
        try:
            plan = plan_of(files, mapping, zone, lambda file: progress.update(task, description=f"Reading {file}"))
        except Refusal as refusal:
            if isinstance(refusal.draft, list):
                outcome = _saved(keep_in, name, refusal.draft)
                raise Refusal(f"{refusal}\nWhat was understood so far {outcome}: correct it there.") from None
            raise
    gathered = _read(files, plan, console, zone, spool)
    if mapping is None:
        console.print(f"How they are read {_saved(keep_in, name, plan.sections)}", highlight=False, soft_wrap=True)
    dialogue.refuse_without_terminal(assume_yes)
    if not assume_yes:
        if any(plan.units_assumed) and dialogue.ask_units(console, plan):
            gathered = _read(files, plan, console, zone, spool)
            console.print(f"How they are read {_saved(keep_in, name, plan.sections)}", highlight=False, soft_wrap=True)
        if not dialogue.agreed(console):
            raise Refusal("Nothing was taken. Edit the mapping and give it by --mapping")
    return gathered


def _saved(folder: Path, name: str, sections: Sequence[Section]) -> str:
    """Stores a mapping; a clause that says where, or why not."""
    try:
        return f"is kept as a mapping in {write_mapping(folder, name, sections)}"
    except OSError as error:
        return f"cannot be kept as a mapping in {folder} ({error.strerror})"


def _read(files: Sequence[Path], plan: Plan, console: Console, zone: ZoneInfo, spool: Path) -> Gathered:
    parts: list[Path] = []
    spans: list[tuple[datetime, datetime]] = []
    readings = lost = 0
    for number, portion in enumerate(portions(files, plan)):
        dialogue.show(console, portion, zone)
        part = spool / f"{number:05d}.parquet"
        portion.frame.assign(source_file=portion.source).to_parquet(part, index=False)
        parts.append(part)
        at = portion.frame["timestamp"]
        spans.append((at.min().to_pydatetime(), at.max().to_pydatetime()))
        readings += len(portion.frame)
        lost += sum(problem.count for problem in portion.problems if is_loss(problem))
    dialogue.show_assumptions(console, plan.assumptions)
    return Gathered(parts, plan.sections, min(a for a, _ in spans), max(b for _, b in spans), readings, lost)
