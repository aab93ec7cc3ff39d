"""Placeholder values: figures that a device writes where it has measured nothing.

A placeholder is recognised by its figure alone, as the device wrote it before any conversion, so that it is the same
whatever else was read with it. A figure that a measurement might also have counts only where it is impossible.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

_MIN, _MAX = float(np.finfo(np.float32).min), float(np.finfo(np.float32).max)

# Loggers and control systems write rows of nines; registers overflow at the ends of their 16 or 32 bits, also where
# they hold tenths; formats fill with their largest numbers.
PLACEHOLDERS = (
    -9999.0, -99999.0, -999999.0, -9999999.0, 9999.0, 99999.0, 999999.0, 9999999.0, -9999.9, 9999.9, -99999.9, 99999.9,
    32767.0, -32768.0, -32767.0, 65535.0, 3276.7, -3276.8, 6553.5, 2147483647.0, -2147483648.0, 4294967295.0,
    _MAX, _MIN, float(np.finfo(np.float64).max), float(np.finfo(np.float64).min), 9.969209968386869e36,
    1e20, -1e20, 1e30, -1e30,
)  # fmt: skip
# These may be measured: a pressure of 999 kPa, a flow of 327.67 m³/h.
PLACEHOLDERS_IF_IMPOSSIBLE = (
    -999.0, 999.0, -999.9, 999.9, -99.99, 99.99, -999.99, 999.99, -8888.0, 8888.0, -7777.0, 7777.0, -6999.0, 6999.0,
    -7999.0, 7999.0, 327.67, -327.68, 655.35,
)  # fmt: skip
# As a device with 32 bits has them.
_ALWAYS, _IF_IMPOSSIBLE = (
    np.unique([wide for figure in listed for wide in (figure, float(np.float32(np.clip(figure, _MIN, _MAX))))])
    for listed in (PLACEHOLDERS, PLACEHOLDERS_IF_IMPOSSIBLE)
)
ALWAYS = tuple(float(figure) for figure in _ALWAYS)
# No figure of the first list is nearer to zero.
_LEAST = 3276.0


def is_placeholder(figures: Floats, impossible: Flags) -> Flags | None:
    """Which figures stand for no measurement; None where none does.

    Args:
        figures: of one measurement, in the unit in which the device reports.
        impossible: those that are beyond what the measurement can be, once converted.
    """
    suspicious = np.flatnonzero(impossible | (np.abs(figures) >= _LEAST))
    if not len(suspicious):
        return None
    candidates, beyond = figures[suspicious], impossible[suspicious]
    found = np.isin(candidates, _ALWAYS) | (beyond & np.isin(candidates, _IF_IMPOSSIBLE))
    if not found.any():
        return None
    result = np.zeros(len(figures), dtype=np.bool_)
    result[suspicious[found]] = True
    return result
