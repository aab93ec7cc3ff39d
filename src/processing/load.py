"""`python -m src.processing.load FILES --mapping M`: readings out of files into the warehouse."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from src import collect_as_usual
from src.domain.readings import MEASUREMENTS
from src.domain.tables.table import Refusal
from src.domain.units import UNITS, conversion
from src.observability import configure_logging
from src.processing.imports.gathering import Gathered, gather
from src.processing.warehouse.client import WarehouseError, connect, sentences
from src.processing.warehouse.loading import Loading
from src.settings import Settings, load_settings


def main(arguments: list[str] | None = None) -> int:
    """Loads all files or, if anything is wrong with one of them, none; the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m src.processing.load",
        description="Writes readings out of files (CSV, Excel or Parquet, also packed with gzip; a row per reading or "
        "a column per point) into the table of BIGQUERY_TABLE, which is made if it is not there. What the files are "
        "taken for is shown and asked about first, and kept as a mapping that can be edited. Figures are stored in the "
        "units of UNIT_FLOW_RATE and its likes. Nothing is doubled where a file, or a reading, is loaded again: a "
        "reading of the same node and instant is changed to what its file says. If anything fails, nothing is stored.",
        epilog="Files that loggers leave day by day: keep the mapping of the first, and give it with --yes. A file may "
        "hold 500 MB unpacked. The mapping is kept in the current folder.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--mapping", type=Path, help="how columns become readings, as an earlier run has kept it")
    parser.add_argument("--yes", action="store_true", help="do not ask whether it is right")
    parser.add_argument("--dry-run", action="store_true", help="show what would be loaded, and load nothing")
    options = parser.parse_args(arguments)
    settings = load_settings(with_warehouse=not options.dry_run)
    configure_logging(settings)
    collect_as_usual()
    console = Console(stderr=True)
    zone = ZoneInfo(settings.utility_timezone)
    try:
        with tempfile.TemporaryDirectory() as spool:
            gathered = gather(
                options.files, options.mapping, options.yes or options.dry_run, console, zone, Path(), Path(spool)
            )
            if options.dry_run:
                sys.stdout.write(f"{gathered.readings} readings would be loaded.\n")
                return 0
            changed = _load(settings, gathered, console)
    except Refusal as refusal:
        sys.stderr.write(f"{refusal}\nNothing was loaded.\n")
        return 1
    except WarehouseError as error:
        sys.stderr.write(f"{error}\nNothing was loaded.\n")
        return 1
    sys.stdout.write(f"{gathered.readings} readings loaded, {changed} of them new or changed.\n")
    if gathered.lost:
        sys.stdout.write(f"{gathered.lost} cells and lines were not understood; they are named above.\n")
    for counter in _counters(gathered):
        sys.stdout.write(f"{counter} is a register: set volume_is to counter in its node's metadata, or VOLUME_IS.\n")
    return 0


def _load(settings: Settings, gathered: Gathered, console: Console) -> int:
    """Loads what was gathered, with its progress shown; how many readings were added or changed."""
    for part in gathered.parts:
        _in_stored_units(settings, part)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("Connecting", total=None)
        with sentences(settings):
            loading = Loading(connect(settings), settings)
        return loading.load(
            gathered.parts, settings.running_clock.now(), lambda step: progress.update(task, description=step)
        )


def _in_stored_units(settings: Settings, part: Path) -> None:
    """Brings the figures of a part into the units in which the warehouse holds them."""
    frame = pd.read_parquet(part)
    for measurement in MEASUREMENTS:
        unit = getattr(settings, f"unit_{measurement}")
        if unit != UNITS[measurement]:
            factor = conversion(measurement, unit)
            frame[measurement] = frame[measurement] * factor.denominator / factor.numerator + factor.zero
    frame.to_parquet(part, index=False)


def _counters(gathered: Gathered) -> list[str]:
    channels = [channel for section in gathered.sections for channel in section.channels]
    return [channel.place for channel in channels if channel.volume_is == "counter"]


if __name__ == "__main__":
    sys.exit(main())
