"""The whole network over a span of time: total flow, mean pressure, volume."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class NetworkMetrics:
    """Flow L/s, pressure bar, volume m³; None where nothing was measured. `flow_basis` says whose flow was added up."""

    active_nodes: int
    flow_basis: str
    total_flow: float | None
    avg_pressure: float | None
    total_volume: float | None


def network_metrics(per_node: pd.DataFrame) -> NetworkMetrics:
    """Sums over the nodes that bring water into the network; where none is known as such, over all that measure flow.

    Water that passes an inlet meter passes district and customer meters again, so all meters are added up only where
    the metadata name no inlet, and `flow_basis` says so.

    Args:
        per_node: one row per node that reported in the span: role, flow_rate (its mean over what it reported, L/s),
            pressure (likewise, bar), volume (m³); NaN where it measured none.
    """
    inlets = per_node[per_node["role"] == "inlet"]
    basis, counted = ("inlets", inlets) if inlets["flow_rate"].notna().any() else ("all_nodes", per_node)
    return NetworkMetrics(
        active_nodes=len(per_node),
        flow_basis=basis,
        total_flow=_or_none(counted["flow_rate"].sum(min_count=1)),
        avg_pressure=_or_none(per_node["pressure"].mean()),
        total_volume=_or_none(counted["volume"].sum(min_count=1)),
    )


def _or_none(value: float) -> float | None:
    return None if pd.isna(value) else float(value)
