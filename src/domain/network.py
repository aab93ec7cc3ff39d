"""The whole network over a span of time: total flow, mean pressure, volume."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class NetworkMetrics:
    """Flow L/s, pressure bar, volume m³; None where nothing was measured. `flow_basis` says whose flow was added up,
    `reason` why channels were left out, and with it why a figure may be missing."""

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
    `flow_basis` says so. What tanks report as pressure is their level.

    Args:
        per_node: one row per node that reported in the span: role, feeding_district_id (of an inlet that another
            district feeds, else null), flow_rate (its mean over the time vouched for, L/s), pressure (likewise, bar),
            volume (m³); NaN where it measured none; flow_left_out and pressure_left_out: whether the channel measures
            nothing, repeats another or is in a unit that does not fit, and so enters nothing.
    """
    role = per_node["role"]
    flow_left_out, pressure_left_out = (per_node[f"{name}_left_out"].astype(bool) for name in ("flow", "pressure"))
    pressure = per_node["pressure"].where((role != "storage") & ~pressure_left_out)
    left_out = {
        name: int((mask & per_node[column].notna()).sum())
        for name, column, mask in (("flow", "flow_rate", flow_left_out), ("pressure", "pressure", pressure_left_out))
    }
    per_node = per_node.assign(
        flow_rate=per_node["flow_rate"].where(~flow_left_out), volume=per_node["volume"].where(~flow_left_out)
    )
    brings = (role == "inlet") & per_node["feeding_district_id"].isna()
    # Where inlets are known and silent, nothing else says what came in.
    by_inlets = bool(brings.any())
    counted = per_node[brings | (role == "outlet")] if by_inlets else per_node
    sign = np.where(by_inlets & (counted["role"] == "outlet"), -1.0, 1.0)
    return NetworkMetrics(
        active_nodes=len(per_node),
        flow_basis="inlets" if by_inlets else "all_nodes",
        total_flow=_or_none((counted["flow_rate"] * sign).sum(min_count=1)),
        avg_pressure=_or_none(pressure.mean()),
        total_volume=_or_none((counted["volume"] * sign).sum(min_count=1)),
        reason=_reason(left_out),
    )


def _reason(left_out: Mapping[str, int]) -> str | None:
    """Which channels were left out."""
    parts = [f"{name} of {count} node{'s' if count > 1 else ''}" for name, count in left_out.items() if count]
    if not parts:
        return None
    return f"Left out: {' and '.join(parts)}, not connected, a copy or in a unit that does not fit (see their channels)"


def _or_none(value: float) -> float | None:
    return None if pd.isna(value) else float(value)
