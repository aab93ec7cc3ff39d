"""The Italian regulator's classes of water losses: its table is data, `loss_classes.toml`, with its year and source."""

from __future__ import annotations

import tomllib
from bisect import bisect_right
from pathlib import Path

from src.vocabulary import LossClass

_TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
# Of the table by which losses are classified.
YEAR: int = _TABLE["year"]
_CLASSES: tuple[LossClass, ...] = ("A", "B", "C", "D", "E")


def loss_class(m1a: float, m1b: float) -> LossClass:
    """The class of a year's water losses, the worse of both indicators'.

    Args:
        m1a: m³ lost per km of mains and day.
        m1b: % of the input.
    """
    return _CLASSES[max(bisect_right(_TABLE["from"]["m1a"], m1a), bisect_right(_TABLE["from"]["m1b"], m1b))]
