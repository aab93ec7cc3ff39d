"""Series thinned to what a screen can show, with where nothing was measured left in.

Largest triangle three buckets (Steinarsson, 2013, "Downsampling time series for visual representation") picks the
windows that keep the look of each line; all lines then share the windows that any of them needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from tsdownsample import LTTBDownsampler

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
_LTTB = LTTBDownsampler()  # type: ignore[no-untyped-call]
# The algorithm needs a first, a last and one between.
_LEAST = 3


@dataclass(frozen=True)
class Thinned:
    """Which windows are selected, in order, and how they were picked, in words."""

    places: Places
    method: Literal["none", "lttb"]
    statement: str


def thinned(lines: Sequence[Floats], windows: int, points: int) -> Thinned:
    """Picks about as many windows as are wanted, never more where each line gets three of them.

    The first and the last window are selected, and of each gap in a line its edges with the values beside them; where
    gaps are too many for half of the points, those of the longest.

    Args:
        lines: values of one axis each, NaN where there is none.
        windows: on the axis.
        points: wanted.
    """
    if windows <= points:
        return Thinned(np.arange(windows), "none", "every window of the span is shown")
    gaps = [gap for line in lines for gap in gaps_of(line)]
    edges, shown = _edges(gaps, windows, points // 2)
    each = max(_LEAST, (points - len(edges)) // max(len(lines), 1))
    picked = [edges, *(_picked(line, each) for line in lines)]
    if not lines:
        picked.append(np.linspace(0, windows - 1, points).astype(np.int64))
    places = np.unique(np.concatenate(picked))
    statement = (
        f"{len(places)} of {windows} windows, picked by largest triangle three buckets (LTTB) so that each line keeps "
        "its look; what lies between them is not shown"
    )
    if shown < len(gaps):
        statement += f"; the {len(gaps) - shown} shortest of {len(gaps)} gaps do not show"
    return Thinned(places, "lttb", statement)


def gaps_of(line: Floats) -> list[tuple[int, int]]:
    """The first and the last place of each run without a value."""
    missing = np.concatenate([[False], np.isnan(line), [False]])
    turns = np.flatnonzero(missing[1:] != missing[:-1])
    return [(int(first), int(end) - 1) for first, end in turns.reshape(-1, 2)]


def _edges(gaps: list[tuple[int, int]], windows: int, most: int) -> tuple[Places, int]:
    """The ends of the axis and places at the edges of gaps, the longest first; of how many gaps."""
    found = {0, windows - 1}
    for shown, (first, last) in enumerate(sorted(gaps, key=lambda gap: gap[0] - gap[1])):
        more = {max(first - 1, 0), first, last, min(last + 1, windows - 1)}
        if len(found | more) > most:
            return np.array(sorted(found), dtype=np.int64), shown
        found |= more
    return np.array(sorted(found), dtype=np.int64), len(gaps)


def _picked(line: Floats, count: int) -> Places:
    known = np.flatnonzero(np.isfinite(line))
    if len(known) <= count:
        return known
    places = _LTTB.downsample(known, np.ascontiguousarray(line[known]), n_out=count)
    return known[np.asarray(places, dtype=np.int64)]
