"""The command line of the quickstart."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from src.quickstart.datasets import DATASETS


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a command line; a wrong one ends the process with its usage."""
    parser = argparse.ArgumentParser(
        prog="./scripts/quickstart.sh",
        description="Starts PostgreSQL, Redis and a BigQuery stand-in from their wheels, loads sample data, processes "
        "it and serves the API on 127.0.0.1:${API_PORT:-8000} until Ctrl-C. A page of another origin may ask it if "
        "API_CORS_ORIGINS names that.",
    )
    parser.add_argument(
        "--dataset",
        choices=DATASETS,
        default="bwdf",
        help="bwdf: inflows of ten real district metered areas; network: a simulated network with known leaks and "
        "sensor faults (default: %(default)s)",
    )
    parser.add_argument(
        "--readings",
        nargs="+",
        type=Path,
        default=[],
        metavar="FILE",
        help="your own readings in place of sample data: CSV, Excel or Parquet, also packed (gz), a row per reading or "
        "a column per point; shown and asked about before they are taken",
    )
    parser.add_argument(
        "--mapping", type=Path, help="how the columns of --readings are to be read, as an earlier start has kept it"
    )
    parser.add_argument("--yes", action="store_true", help="take what was understood of --readings without asking")
    parser.add_argument(
        "--once", action="store_true", help="exit when the data are processed and the first models are trained"
    )
    parser.add_argument("--no-models", action="store_true", help="train no models; later ones the service trains")
    parser.add_argument(
        "--data", type=Path, default=Path(".quickstart"), help="where the data stay between starts (%(default)s)"
    )
    options = parser.parse_args(arguments)
    if not options.readings and (options.mapping or options.yes):
        parser.error("--mapping and --yes are of --readings, which names no file")
    return options
