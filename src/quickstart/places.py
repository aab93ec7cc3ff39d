"""Where the points of a simulated network would lie: EPANET's coordinates, laid over a plain of Sardinia."""

from __future__ import annotations

import math
from collections.abc import Iterable

# EPANET's x and y, in whatever unit the network was drawn.
Place = tuple[float, float]
_SOUTH, _WEST = 39.45, 8.70
_KM_PER_UNIT, _KM_PER_DEGREE = 0.3, 111.2


def on_the_map(places: Iterable[Place]) -> tuple[float, float]:
    """Latitude and longitude, in degrees, of the middle of these places, of which there is at least one."""
    listed = list(places)
    x, y = (sum(place[axis] for place in listed) / len(listed) for axis in (0, 1))
    east = _KM_PER_DEGREE * math.cos(math.radians(_SOUTH))
    return round(_SOUTH + y * _KM_PER_UNIT / _KM_PER_DEGREE, 6), round(_WEST + x * _KM_PER_UNIT / east, 6)
