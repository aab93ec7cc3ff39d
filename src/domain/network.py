"""The whole network over a span of time: total flow, mean pressure, volume."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from src.domain.names import listed

# From this share of the time on, what was measured is all there was.
_ALL_THE_TIME = 0.995


@dataclass(frozen=True)
class NetworkMetrics:
    """Flow L/s, pressure bar, volume m³; None where that is not known. `flow_basis` says whose flow was added up,
    `reason` what is missing in the figures, and why one is None."""

    active_nodes: int
    flow_basis: str
    total_flow: float | None
    avg_pressure: float | None
    total_volume: float | None
    reason: str | None


def network_metrics(per_node: pd.DataFrame) -> NetworkMetrics:
    """What the network takes in: the sum over its inlets, less what leaves by outlets.

    An inlet through which one district feeds another moves water within the network. Water that passes an inlet meter
    passes district and customer meters again, so all meters are added up only where the metadata name no inlet, and
    `flow_basis` says so. What tanks report as pressure is their level. Where an inlet or outlet measured nothing, what
    came in is unknown; where one was measured part of the time, the volume is what was measured, and the reason says so
    (a balance estimates the rest, see `efficiency`).

    Args:
        per_node: one row per node that reported in the span, and per inlet and outlet: node_id, role, district_id,
            feeding_district_id (of an inlet that another district feeds, else null), is_active, has_reported,
            flow_measured (the share of the span's whole hours in which its flow was measured; NaN without such hours),
            flow_rate (its mean over the time vouched for, L/s), pressure (likewise, bar), volume (m³); NaN where it
            measured none; flow_left_out and pressure_left_out: whether the channel measures nothing, repeats another or
            is in a unit that does not fit, and so enters nothing.
    """
    role = per_node["role"]
    flow_left_out, pressure_left_out = (per_node[f"{name}_left_out"].astype(bool) for name in ("flow", "pressure"))
    # One of several inlets may be shut, and stands at nothing for weeks.
    of_several = (role == "outlet") | ((role == "inlet") & per_node["district_id"].duplicated(keep=False))
    flow_left_out &= ~(of_several & (per_node["flow_rate"] == 0))
    pressure = per_node["pressure"].where((role != "storage") & ~pressure_left_out)
    left_out = {
        name: int((mask & per_node[column].notna()).sum())
        for name, column, mask in (("flow", "flow_rate", flow_left_out), ("pressure", "pressure", pressure_left_out))
    }
    flow, volume = (per_node[name].where(~flow_left_out) for name in ("flow_rate", "volume"))
    per_node = per_node.assign(flow_rate=flow, volume=volume)
    brings = (role == "inlet") & per_node["feeding_district_id"].isna()
    by_inlets = bool(brings.any())
    counted = per_node[brings | (role == "outlet")] if by_inlets else per_node
    sign = np.where(by_inlets & (counted["role"] == "outlet"), -1.0, 1.0)
    totals, unknown = {}, {}
    for name in ("flow_rate", "volume"):
        unknown[name] = list(counted.loc[counted[name].isna() & counted["is_active"] & by_inlets, "node_id"])
        totals[name] = np.nan if unknown[name] else (counted[name] * sign).sum(min_count=1)
    measured = float(counted.loc[counted["volume"].notna(), "flow_measured"].mean())
    reasons = [*_unknown(**unknown), None if unknown["volume"] else _partly(measured), _left_out(left_out)]
    return NetworkMetrics(
        active_nodes=int(per_node["has_reported"].sum()),
        flow_basis="inlets" if by_inlets else "all_nodes",
        total_flow=_or_none(totals["flow_rate"]),
        avg_pressure=_or_none(pressure.mean()),
        total_volume=_or_none(totals["volume"]),
        reason="; ".join(filter(None, reasons)) or None,
    )


def _unknown(flow_rate: list[str], volume: list[str]) -> Iterator[str]:
    """Which inlets and outlets measured nothing."""
    if volume:
        yield f"what came in is unknown: nothing was measured at {listed(volume)}"
    if rest := [node_id for node_id in flow_rate if node_id not in volume]:
        yield f"total_flow is unknown: of {listed(rest)} only the volume was measured"


def _partly(measured: float) -> str | None:
    """How much of the time was measured, where that is not all of it."""
    if not measured < _ALL_THE_TIME:
        return None
    return f"flow was measured {100 * measured:.0f} % of the time, and total_volume is what was measured"


def _left_out(counts: Mapping[str, int]) -> str | None:
    """Which channels were left out."""
    parts = [f"{name} of {count} node{'s' if count > 1 else ''}" for name, count in counts.items() if count]
    if not parts:
        return None
    return f"left out: {' and '.join(parts)}, not connected, a copy or in a unit that does not fit (see their channels)"


def _or_none(value: float) -> float | None:
    return None if pd.isna(value) else float(value)
