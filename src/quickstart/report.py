"""What the quickstart shows of its result, as the API tells it."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

import orjson
from rich.table import Table


def ask(url: str, key: str = "") -> Any | None:
    """The JSON at a URL of the API; None where it does not answer well."""
    request = urllib.request.Request(url, headers={"X-API-Key": key} if key else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return orjson.loads(answer.read())
    except (urllib.error.URLError, OSError):
        return None


def table_of_nodes(url: str, key: str) -> Table:
    """Every node's latest complete hour, and the network's last day."""
    summary = ask(f"{url}/api/v1/dashboard/summary", key) or {"nodes": [], "network": None}
    network = summary["network"] or {}
    basis = "inlets" if network.get("flow_basis") == "inlets" else "all nodes"
    title = f"Last complete hour; over 24 h {_shown(network.get('total_volume'), 0)} m³ by {basis}"
    table = Table(title=title, title_justify="left")
    for heading in ("node", "hour ending (UTC)", "flow L/s", "pressure bar", "complete %"):
        table.add_column(heading, justify="left" if heading in ("node", "hour ending (UTC)") else "right")
    for node in summary["nodes"]:
        table.add_row(
            node["node_name"],
            (node["timestamp"] or "")[:16].replace("T", " "),
            _shown(node["flow_rate"], 2),
            _shown(node["pressure"], 2),
            _shown(node["data_completeness"], 0),
        )
    return table


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
