"""Ninety days of models' lives in minutes: the real service replays three real districts, and things go wrong.

It is ended and started again all the time; on day 20 a sabotaged candidate stands in shadow; from day 40 on the
districts use much more; on day 60 somebody promotes a bad model by hand.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import Engine, text

from benchmarks.system import system
from src.db.engines import create_database_engine
from src.db.tables import SCHEMA
from src.domain.forecasting.boosting import boosted, training_examples
from src.domain.forecasting.model import Forecaster
from src.domain.forecasting.series import HOURS, history_of, public_holidays
from src.processing.modelling import registry
from src.quickstart.datasets import bwdf
from src.settings import Settings

BEGIN = datetime(2022, 3, 28, tzinfo=UTC)
DISTRICTS = ("dma-2", "dma-4", "dma-8")
SABOTAGE_DAY, DRIFT_DAY, BAD_PROMOTION_DAY = 20, 40, 60
GROWTH = 1.5
SERVICE = "src.processing.service.main"
ROME = ZoneInfo("Europe/Rome")
console = Console(width=120)


class Replay:
    """The service over a span of simulated time, ended and started again or left alone."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self._environment, self._log = dict(environment), log
        values = {name.lower(): value for name, value in environment.items() if name.lower() in Settings.model_fields}
        self.settings = Settings(**values)  # type: ignore[arg-type]
        self.database: Engine = create_database_engine(self.settings)
        self.restarts = 0
        self._random = random.Random(1)

    def to(self, reached: datetime, until: datetime, progress: Progress, restarting: bool) -> None:
        """Replays up to an instant; with restarts, the service gets a signal to end every few seconds."""
        task = progress.add_task(f"to {until:%Y-%m-%d}", total=(until - reached).total_seconds())
        patience = 1.0
        while True:
            begun = reached
            with self._log.open("ab") as log:
                service = subprocess.Popen(
                    [sys.executable, "-m", SERVICE, "--until", until.isoformat()],
                    env=self._environment | {"CLOCK": f"stepped:{reached.isoformat()}"},
                    stdout=log,
                    stderr=log,
                )
                ends = time.monotonic() + patience * self._random.uniform(15, 60)
                while service.poll() is None:
                    time.sleep(0.5)
                    progress.update(task, completed=(self.reached(begun) - begun).total_seconds())
                    if restarting and time.monotonic() > ends:
                        service.terminate()
                        service.wait(60)
                        self.restarts += 1
            if service.returncode == 0:
                progress.remove_task(task)
                return
            if service.returncode != 1 or not restarting:
                raise SystemExit(f"the service ended with {service.returncode}: see {self._log}")
            reached = self.reached(begun)
            # A training that is ended begins anew; it must soon be given the time it takes.
            patience = 1.0 if reached > begun else 4 * patience
            progress.update(task, total=(until - reached).total_seconds())

    def reached(self, at_least: datetime) -> datetime:
        """The latest instant of which something was begun."""
        with self.database.connect() as connection:
            query = text(
                f"SELECT max(scheduled_for) FROM {SCHEMA}.processing_jobs WHERE triggered_by = 'scheduler'"  # noqa: S608
            )
            return max(connection.scalar(query) or at_least, at_least)

    def table(self, name: str) -> pd.DataFrame:
        with self.database.connect() as connection:
            return pd.read_sql_table(name, connection, SCHEMA)

    def left(self) -> dict[str, pd.DataFrame]:
        """What a replay left, without what differs by nature: random ids and real instants."""
        models = self.table("ml_models").set_index("model_id")
        name = models["scope"] + " " + models["version"]
        decisions = self.table("model_decisions").assign(model=lambda rows: rows["model_id"].map(name))
        decisions["decided_by"] = decisions["decided_by"].str.split().str[0]
        forecasts = self.table("ml_predictions_cache").assign(model=lambda rows: rows["model_id"].map(name))
        metrics = self.table("computed_metrics").drop(columns="computed_at")
        keys = ["model", "node_id", "prediction_timestamp", "target_timestamp"]
        return {
            "models": models[["version", "status", "model_hash"]].sort_values("version").reset_index(drop=True),
            "decisions": decisions[["model", "decided_at", "decision", "reason"]]
            .sort_values(["decided_at", "model", "decision"])
            .reset_index(drop=True),
            "forecasts": forecasts.drop(columns=["model_id", "features_used"]).sort_values(keys, ignore_index=True),
            "metrics": metrics.sort_values(["node_id", "time_window", "window_start"], ignore_index=True),
        }

    def emptied(self) -> None:
        with self.database.begin() as connection:
            for name in ("nodes", "computed_metrics", "ingestion_watermarks", "processing_jobs", "ml_models",
                         "ml_predictions_cache", "model_performance", "network_metrics", "network_efficiency",
                         "anomalies", "node_habits", "data_quality_metrics", "rejected_readings"):  # fmt: skip
                connection.execute(text(f"TRUNCATE {SCHEMA}.{name} CASCADE"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="./scripts/bench.sh lifecycle", description=__doc__)
    parser.add_argument("--compared-days", type=int, default=10, help="days replayed twice, with and without restarts")
    options = parser.parse_args()
    readings = bwdf().readings
    end = BEGIN + timedelta(days=90)
    readings = readings[readings["node_id"].isin(DISTRICTS) & (readings["timestamp"] < pd.Timestamp(end))]
    grown = readings["timestamp"] >= pd.Timestamp(BEGIN + timedelta(days=DRIFT_DAY))
    readings = readings.assign(flow_rate=readings["flow_rate"].where(~grown, GROWTH * readings["flow_rate"]))
    retention = {f"retention_{what}_days": "200" for what in ("jobs", "predictions", "metrics")}
    begun = time.perf_counter()
    log = Path(tempfile.mkdtemp(prefix="lifecycle-")) / "service.log"
    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with system(readings, check_interval_minutes="360", **retention) as environment:
        with Progress(*columns, console=console, transient=True) as progress:
            replay = Replay(environment, log)
            first = BEGIN + timedelta(days=options.compared_days)
            replay.to(BEGIN, first, progress, restarting=False)
            undisturbed = replay.left()
            replay.emptied()
            replay.to(BEGIN, first, progress, restarting=True)
            disturbed = replay.left()
            same = {name: disturbed[name].equals(rows) for name, rows in undisturbed.items()}
            console.print(f"{options.compared_days} days with {replay.restarts} restarts left the same: {same}")
            replay.to(first, BEGIN + timedelta(days=SABOTAGE_DAY), progress, restarting=True)
            sabotaged = _sabotaged(replay, readings, BEGIN + timedelta(days=SABOTAGE_DAY))
            replay.to(replay.reached(first), BEGIN + timedelta(days=BAD_PROMOTION_DAY), progress, restarting=True)
            promoted_at = BEGIN + timedelta(days=BAD_PROMOTION_DAY)
            bad = _sabotaged(replay, readings, promoted_at)
            _promote(environment, bad, promoted_at)
            replay.to(promoted_at, end, progress, restarting=True)
        _report(replay, same, sabotaged, bad, promoted_at, time.perf_counter() - begun)


def _sabotaged(replay: Replay, readings: pd.DataFrame, now: datetime) -> UUID:
    """A candidate in shadow that has learned the opposite of what is true."""
    with replay.database.begin() as connection:
        active = next(model for model in registry.in_use(connection, registry.FLOW, now) if model.is_active)
        forecaster = Forecaster.from_bytes(registry.artefact_of(connection, active.model_id))
        known = readings[readings["timestamp"] < pd.Timestamp(now)]
        flow = known.pivot(index="timestamp", columns="node_id", values="flow_rate").asfreq("h").iloc[-120 * HOURS :]
        festive = public_holidays("IT", flow.index[0].date(), now.date() + timedelta(days=10))
        history = history_of(flow[forecaster.nodes], None, festive, ROME)
        examples = training_examples(history, history.flow.shape[1] * HOURS)
        wrong = replace(examples, target=3 * examples.usual - 2 * examples.target)
        artefact = replace(forecaster, boosters=boosted(wrong)).to_bytes()
        metadata = {"validation_metrics": active.validation_metrics, "training_samples": len(wrong.target)}
        model_id = registry.add(connection, registry.FLOW, active.scope, artefact, now, now, metadata)
        registry.send_to_shadow(connection, model_id, now, "saboteur", "made to be wrong")
    return model_id


def _promote(environment: Mapping[str, str], model_id: UUID, now: datetime) -> None:
    command = [sys.executable, "-m", "src.processing.models", "promote", str(model_id), "--reason", "looked good to me"]
    clock = {"CLOCK": f"frozen:{now.isoformat()}"}
    subprocess.run(command, env=dict(environment) | clock, check=True, stdout=subprocess.DEVNULL)


def _report(
    replay: Replay, same: Mapping[str, bool], sabotaged: UUID, bad: UUID, promoted_at: datetime, seconds: float
) -> None:
    models = replay.table("ml_models").set_index("model_id")
    decisions = replay.table("model_decisions").sort_values("decision_id")
    jobs = replay.table("processing_jobs").query("job_type == 'model_training'").sort_values("scheduled_for")
    table = Table("when", "model", "decision", "why", title="What was decided")
    for row in decisions.itertuples():
        table.add_row(f"{row.decided_at:%m-%d %H:%M}", models["version"][row.model_id], row.decision, row.reason)
    console.print(table)
    drift = BEGIN + timedelta(days=DRIFT_DAY)
    weekly = jobs[jobs["triggered_by"] == "scheduler"]
    triggered = jobs[(jobs["triggered_by"] != "scheduler") & (jobs["scheduled_for"] >= drift)]
    of_bad = decisions[(decisions["model_id"] == bad) & (decisions["decision"] == "rolled_back")]
    result = {
        "days": 90,
        "minutes": round(seconds / 60, 1),
        "restarts": replay.restarts,
        "same_with_restarts": dict(same),
        "weekly_trainings": len(weekly),
        "failed_trainings": int((jobs["status"] != "completed").sum()),
        "drift_triggered_after_hours": _hours(triggered["scheduled_for"].min() - drift) if len(triggered) else None,
        "drift_reason": triggered["triggered_by"].iloc[0] if len(triggered) else None,
        "sabotaged_promoted": bool(
            ((decisions["model_id"] == sabotaged) & (decisions["decision"] == "promoted")).any()
        ),
        "rolled_back_after_hours": _hours(of_bad["decided_at"].iloc[0] - promoted_at) if len(of_bad) else None,
        "promotions": int((decisions["decision"] == "promoted").sum()),
    }
    print(orjson.dumps(result).decode())


def _hours(span: timedelta) -> float:
    return round(span / timedelta(hours=1), 1)


if __name__ == "__main__":
    main()
