"""What the quickstart shows of its result, as the API and the jobs' rows have it."""

from __future__ import annotations

import urllib.error
import urllib.request
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection, Engine, Select, func, select

from src.db import tables
from src.db.tables import ml_models, ml_predictions_cache, model_decisions, processing_jobs
from src.domain.metrics import TIME_WINDOWS
from src.processing.jobs.records import TRAINING
from src.processing.modelling.registry import ACTIVE, ANOMALIES, DESCRIBED, FLOW, PRESSURE, SHADOW

_KINDS = {FLOW: "Forecast", ANOMALIES: "Detector", PRESSURE: "Leakage"}
_MOST_REFUSED = 2
_district = tables.recommendations.c.district_id


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
    console.print(f"Dashboard      {url}/dashboard", highlight=False, soft_wrap=True)
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
        of_status = select(ml_models.c.status, func.count()).group_by(ml_models.c.status)
        models = {status: count for status, count in connection.execute(of_status)}
        predictions = connection.scalar(select(func.count()).select_from(_latest_forecasts().subquery()))
    windows = {size: sum(job.result_summary.get("windows", {}).get(size, 0) for job in jobs) for size in TIME_WINDOWS}
    readings = sum(job.result_summary.get("readings", 0) for job in jobs)
    return {
        "nodes": nodes,
        "readings_ingested": readings,
        "windows": windows,
        "jobs": len(jobs),
        "models": {status: models.get(status, 0) for status in (ACTIVE, SHADOW)},
        "predictions": predictions,
    }


def print_models(console: Console, database: Engine) -> None:
    """What became of each model of this utility, and what is recommended; nothing where there is neither."""
    with database.connect() as connection:
        models = connection.execute(select(*DESCRIBED).order_by(ml_models.c.model_type, ml_models.c.scope)).all()
        reasons = {model.model_id: _reason(connection, model.model_id) for model in models}
        pools = connection.scalar(
            select(processing_jobs.c.result_summary["pools"])
            .where(processing_jobs.c.job_type == TRAINING)
            .order_by(processing_jobs.c.created_at.desc())
            .limit(1)
        )
        recommended = connection.execute(select(tables.recommendations).order_by(_district)).all()
    for model in models:
        line = f"{_KINDS[model.model_type]:15}{model.scope}: {model.status}; {reasons[model.model_id]}"
        if (coverage := model.validation_metrics.get("coverage")) is not None:
            hours = model.validation_metrics["hours"]
            line += f"; {coverage:.0%} of {hours:,.0f} hours that it had not seen lay in its band"
        _line(console, line)
    for pool in pools or []:
        if "model_id" not in pool:
            why = "; ".join(filter(None, [pool.get("not_trained"), *set(pool.get("failures", {}).values())]))
            _line(console, f"{_KINDS[FLOW]:15}{pool.get('scope', '')}: not trained; {why}")
    refused = [row for row in recommended if row.outcome != "recommended"]
    for row in recommended:
        if row.outcome == "recommended":
            saving = f"{row.saving_volume:,.0f} m³ a day ({row.saving_volume_lower:,.0f} to "
            saving += f"{row.saving_volume_upper:,.0f}) of {row.leakage_volume:,.0f} m³ that leak"
            _line(console, f"Set-points     {row.district_id}: would save {saving}; {row.reason}")
    for row in refused[:_MOST_REFUSED]:
        _line(console, f"Set-points     {row.district_id}: none recommended: {row.reason}")
    if len(refused) > _MOST_REFUSED:
        _line(
            console,
            f"               and {len(refused) - _MOST_REFUSED} more districts without; /api/v1/recommendations",
        )


def _line(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


def _reason(connection: Connection, model_id: Any) -> str:
    """Why a model is what it is: its last decision."""
    decided = model_decisions.c
    last = select(decided.reason).where(decided.model_id == model_id).order_by(decided.decided_at.desc())
    # Decisions of one instant: the training comes first.
    return str(connection.scalar(last.order_by(decided.decision == "trained").limit(1)) or "")


def _latest_forecasts() -> Select[Any]:
    """The rows of the latest forecasts by active models."""
    forecast = ml_predictions_cache.c
    latest = (
        select(forecast.model_id, func.max(forecast.prediction_timestamp).label("made_at"))
        .join(ml_models, ml_models.c.model_id == forecast.model_id)
        .where(ml_models.c.is_active)
        .group_by(forecast.model_id)
        .subquery()
    )
    return select(forecast.node_id, forecast.target_timestamp).join(
        latest, (latest.c.model_id == forecast.model_id) & (latest.c.made_at == forecast.prediction_timestamp)
    )


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
