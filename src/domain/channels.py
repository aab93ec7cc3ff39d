"""What is known of the channels of nodes: the unit they report in, the values that are possible, how they count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from src.domain.readings import LEAST_SCORE, MEASUREMENTS, VALID_RANGE
from src.domain.units import conversion

Range = tuple[float | None, float | None]
# What a volume may be: the amount since the previous reading, or a register's reading (cumulative index).
INCREMENT, COUNTER = "increment", "counter"
# As far back as a meter counts that counts both ways: volumes have no limit of their own.
_BACK = {"flow_rate": -VALID_RANGE["flow_rate"][1], "volume": -1e9}


@dataclass(frozen=True)
class Conventions:
    """What holds for every node for which nothing else is stated.

    Attributes:
        units: measurement -> unit in which the warehouse has it; not named: the product's.
        ranges: measurement -> least and largest possible value, in the product's units; None: `VALID_RANGE`.
        least_score: readings that the collector gives a lower score are not taken in (0: all are).
        volume_is: `INCREMENT` or `COUNTER`.
    """

    units: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)
    least_score: float = LEAST_SCORE
    volume_is: str = INCREMENT


DEFAULTS = Conventions()


def channels_of(
    node_ids: Sequence[str], stated: Mapping[str, Mapping[str, Any]], conventions: Conventions
) -> pd.DataFrame | None:
    """What `readings.clean` must know of these nodes besides their readings; None: nothing.

    Args:
        stated: node_id -> the metadata in which people state `units` and `ranges` of a node, which win over the
            conventions: {"units": {"flow_rate": "m3/h"}, "ranges": {"pressure": {"low": 0, "high": 40}}, "volume_is":
            "counter"}; beside them what was found out, {"found": {"is_two_way": True, "is_counter": True}}, which holds
            where nothing is stated.

    Returns:
        Index node_id; of each measurement of which anything is known {measurement}_unit (None: the product's),
        {measurement}_low and {measurement}_high in the product's unit (NaN: `VALID_RANGE`); volume_counter (bool) where
        any volume is a register's reading.

    Raises:
        ValueError: with a sentence that names the node and what is wrong with its statement.
    """
    columns: dict[str, list[Any]] = {}
    for name in MEASUREMENTS:
        of_nodes = [_channel(node_id, name, stated.get(node_id, {}), conventions) for node_id in node_ids]
        for place, column in enumerate(("unit", "low", "high")):
            if any(channel[place] is not None for channel in of_nodes):
                columns[f"{name}_{column}"] = [channel[place] for channel in of_nodes]
    counters = [_is_counter(stated.get(node_id, {}), conventions) for node_id in node_ids]
    if any(counters):
        columns["volume_counter"] = counters
    if not columns:
        return None
    kinds = {column: "object" if column.endswith("_unit") else "float64" for column in columns}
    kinds |= {"volume_counter": "bool"} if "volume_counter" in columns else {}
    return pd.DataFrame(columns, index=pd.Index(list(node_ids), name="node_id")).astype(kinds)


def unusable(
    node_ids: Sequence[str], stated: Mapping[str, Mapping[str, Any]], conventions: Conventions
) -> dict[str, str]:
    """The nodes whose statements `channels_of` refuses, with its reason for each."""
    problems = {}
    for node_id in node_ids:
        try:
            for name in MEASUREMENTS:
                _channel(node_id, name, stated.get(node_id, {}), conventions)
        except ValueError as error:
            problems[node_id] = str(error)
    return problems


def described(channels: pd.DataFrame | None, node_ids: Sequence[str]) -> list[str]:
    """A text for each node that differs where its readings are taken for something else; empty: the defaults."""
    if channels is None:
        return [""] * len(node_ids)
    texts = []
    for row in channels.reindex(list(node_ids)).to_dict("records"):
        parts = []
        for name in MEASUREMENTS:
            unit, low, high = (row.get(f"{name}_{column}") for column in ("unit", "low", "high"))
            edges = "" if pd.isna(low) and pd.isna(high) else f" {_edge(low)}..{_edge(high)}"
            if edges or isinstance(unit, str):
                parts.append(f"{name} {unit if isinstance(unit, str) else ''}{edges}".replace("  ", " "))
        if row.get("volume_counter") is True:
            parts.append("volume counter")
        texts.append(", ".join(parts))
    return texts


def _found(stated: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = stated.get("found") or {}
    return found


def _is_counter(stated: Mapping[str, Any], conventions: Conventions) -> bool:
    volume_is = stated.get("volume_is")
    if volume_is in (INCREMENT, COUNTER):
        return bool(volume_is == COUNTER)
    return conventions.volume_is == COUNTER or bool(_found(stated).get("is_counter"))


def _edge(value: Any) -> str:
    return "" if pd.isna(value) else f"{value:.15g}"


def _channel(
    node_id: str, measurement: str, stated: Mapping[str, Any], conventions: Conventions
) -> tuple[str | None, float | None, float | None]:
    """Unit, least and largest value of one channel; None where the default holds."""
    # Metadata are the utility's: what has another form there is something else.
    units, ranges = (found if isinstance(found := stated.get(what), Mapping) else {} for what in ("units", "ranges"))
    try:
        unit = units.get(measurement)
        unit = conventions.units.get(measurement) if unit is None else str(unit)
        if unit is not None and conversion(measurement, unit).changes_nothing:
            unit = None
        edges = ranges.get(measurement) or {}
        usual_low, usual_high = conventions.ranges.get(measurement, (None, None))
        low = usual_low if edges.get("low") is None else float(edges["low"])
        high = usual_high if edges.get("high") is None else float(edges["high"])
        if low is None and _found(stated).get("is_two_way"):
            low = _BACK.get(measurement)
        if any(edge is not None and not np.isfinite(edge) for edge in (low, high)):
            raise ValueError("a limit is no number")
    except (AttributeError, OverflowError, TypeError, ValueError) as error:
        raise ValueError(f"what is stated of {measurement} of node {node_id} cannot be used: {error}") from None
    return unit, low, high
