"""What the quickstart shows of its result, as the API and the jobs' rows have it."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, func, select

from src.db import tables
from src.db.tables import processing_jobs
from src.domain.metrics import TIME_WINDOWS


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


def print_urls(console: Console, url: str, key: str) -> None:
    """Where to look, and with which key."""
    console.print(f"API            {url}/api/v1/dashboard/summary", highlight=False, soft_wrap=True)
    console.print(f"Documentation  {url}/docs", highlight=False, soft_wrap=True)
    console.print(f"API key        {key}", highlight=False, soft_wrap=True)
    console.print(f"Try            curl -H 'X-API-Key: {key}' {url}/api/v1/status", highlight=False, soft_wrap=True)


def job_ids(database: Engine) -> set[Any]:
    """The jobs there are."""
    with database.connect() as connection:
        return set(connection.execute(select(processing_jobs.c.job_id)).scalars())


def result(database: Engine, known: set[Any]) -> dict[str, Any]:
    """What the jobs of this start did: all but the `known` ones."""
    with database.connect() as connection:
        jobs = [job for job in connection.execute(select(processing_jobs)) if job.job_id not in known]
        nodes = connection.scalar(select(func.count()).select_from(tables.nodes))
    windows = {size: sum(job.result_summary.get("windows", {}).get(size, 0) for job in jobs) for size in TIME_WINDOWS}
    readings = sum(job.result_summary.get("readings", 0) for job in jobs)
    return {"nodes": nodes, "readings_ingested": readings, "windows": windows, "jobs": len(jobs)}


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
