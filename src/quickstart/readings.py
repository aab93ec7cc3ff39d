"""One's own readings as the data set of the quickstart."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import orjson
import pandas as pd
from rich.console import Console

from src.processing.imports.gathering import Gathered, gather
from src.processing.imports.plans import together
from src.processing.nodes import Node
from src.quickstart.datasets import Dataset


def dataset_of(
    files: Sequence[Path],
    mapping: Path | None,
    assume_yes: bool,
    console: Console,
    zone: ZoneInfo,
    keep_in: Path,
) -> Dataset:
    """The readings in these files, once somebody has found right what they are taken for.

    Of the nodes only what the files hold is known: names and districts, and which volumes are registers.

    Args:
        zone: the utility's.
        keep_in: the folder in which the mapping is stored.

    Raises:
        Refusal: with a sentence, where nothing was taken.
    """
    with tempfile.TemporaryDirectory() as spool:
        gathered = gather(files, mapping, assume_yes, console, zone, keep_in, Path(spool))
        readings = together([pd.read_parquet(part) for part in gathered.parts])
    counters = _counters(gathered, readings)
    nodes = []
    for node_id, district in readings.groupby("node_id")["district_id"].last().items():
        metadata = {"metadata": orjson.dumps({"volume_is": "counter"}).decode()} if node_id in counters else {}
        known = {} if pd.isna(district) else {"district_id": district}
        nodes.append(Node.model_validate({"node_id": node_id, "node_name": node_id} | known | metadata))
    return Dataset(readings, nodes, gathered.last + _step(readings))


def folder_of(files: Sequence[Path], mapping: Path | None) -> str:
    """The name of the folder for these files as they are now, read by this mapping."""
    digest = hashlib.sha256(mapping.read_bytes() if mapping is not None and mapping.is_file() else b"")
    for path in files:
        state = path.stat() if path.exists() else None
        digest.update(repr((str(path.resolve()), state and (state.st_size, state.st_mtime_ns))).encode())
    return f"readings-{digest.hexdigest()[:12]}"


def _step(readings: pd.DataFrame) -> timedelta:
    """The usual time from a reading to the next, at most an hour: when the last one has been answered for."""
    instants = readings.sort_values(["node_id", "timestamp"])
    steps = instants.groupby("node_id")["timestamp"].diff().dropna()
    usual = timedelta(seconds=float(steps.dt.total_seconds().median()) if len(steps) else 1.0)
    return min(max(usual, timedelta(seconds=1)), timedelta(hours=1))


def _counters(gathered: Gathered, readings: pd.DataFrame) -> set[str]:
    """The nodes whose volume is a register."""
    found: set[str] = set()
    for section in gathered.sections:
        for channel in section.channels:
            if channel.volume_is == "counter":
                node = channel.node or section.node
                found |= set(readings["node_id"]) if node is None else {node}
    return found
