"""A bad fortnight in minutes: real service processes on an injected clock, while everything around them fails.

A sensor sends impossible values for 45 days; a loader stamps rows before it commits them; a row comes 30 days late; a
new node brings two years of past; models are trained and habits learned; two years are read again; the database has no
space; an id holds a NUL; replicas are killed while they plan, ingest and conclude; PostgreSQL starts again; Redis is
emptied; the warehouse is away for a tick. The same readings are processed undisturbed as well, and what both left is
compared. With TEST_TIMESCALE_URL the database is on that server.

The clock is stepped: every tick comes once the one before has ended, so that no cycle is skipped because this machine
is slow. Time that passes in reality (an outage, a rescue) takes no simulated time. Of several replicas the first at an
instant claims what is due, and all work on it.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.system import Engines, comparable_rows, peak_mb
from src.clock import SteppedClock
from src.db.engines import create_database_engine
from src.db.migrate import migrate
from src.db.tables import SCHEMA
from src.observability import configure_logging
from src.processing.alerts.review import run_alerts
from src.processing.jobs import records as jobs
from src.processing.jobs.runtime import create_runtime
from src.quickstart import engines
from src.quickstart.datasets import Dataset, append, load
from src.settings import Settings

# A Wednesday; the first Sunday trains, the first Monday learns habits.
BEGIN = datetime(2023, 5, 3, tzinfo=UTC)
DAY = timedelta(days=1)
PEAK_LIMIT_MB = 1500
# Longer than a replica may be silent; the clock stands meanwhile, since the cycle it strikes has not ended.
OUTAGE_SECONDS = 12
POLL_SECONDS = 0.01
SETTINGS = {
    "check_interval_minutes": 120,
    "replica_timeout_seconds": 5,
    "bigquery_timeout_seconds": 10,
    "retention_metrics_days": 800,
    "retention_jobs_days": 60,
    "clock": f"stepped:{BEGIN.isoformat()}",
}
console = Console(width=120)


@dataclass(frozen=True)
class Scenario:
    """Readings, and when which of them can be seen in the warehouse."""

    begin: datetime
    end: datetime
    first: pd.DataFrame
    # Instant from which on rows can be seen -> the rows; the same with and without faults.
    later: Mapping[datetime, pd.DataFrame]
    # Rows that no database can hold, from an instant on; without faults there are none.
    unfit: tuple[datetime, pd.DataFrame]
    # Rows stamped hours before they can be seen; without faults they are there from the beginning.
    stamped_early: tuple[datetime, pd.DataFrame]

    def boundaries(self) -> list[datetime]:
        return sorted({*self.later, self.unfit[0], self.stamped_early[0], self.end})


def readings_of(days: int, seed: int) -> Scenario:
    """Fifteen nodes of three cadences over some weeks before the begin and the days after it."""
    random_of = np.random.default_rng(seed)

    def at(share: float) -> datetime:
        return BEGIN + timedelta(hours=round(24 * days * share))

    def node(node_id: str, minutes: int, before: float, district: str) -> pd.DataFrame:
        instants = pd.date_range(BEGIN - before * DAY, BEGIN + days * DAY, freq=pd.Timedelta(minutes=minutes))
        hours = instants.hour.to_numpy() + instants.minute.to_numpy() / 60
        flow = 10 + 5 * np.sin((hours - 9) * np.pi / 12) + random_of.normal(0, 0.5, len(instants))
        pressure = 4 - 0.3 * np.sin((hours - 9) * np.pi / 12) + random_of.normal(0, 0.05, len(instants))
        rows = {"timestamp": instants, "node_id": node_id, "district_id": district, "flow_rate": flow}
        return pd.DataFrame(rows | {"pressure": pressure, "ingestion_timestamp": instants + pd.Timedelta(minutes=2)})

    cadences = [60] * 7 + [15] * 3 + [5] * 2
    frames = [node(f"node-{n:02d}", minutes, 21, f"dma-{n % 3}") for n, minutes in enumerate(cadences)]
    impossible = node("impossible", 15, 45 - days, "dma-0").assign(flow_rate=-99.0, pressure=400.0)
    past = node("long-past", 60, 730, "dma-1")
    newcomer = node("newcomer", 60, 730, "dma-2")
    nul = node("nul\x00node", 60, 1, "dma-0")
    arrived, nul_at, late_at, early_at = at(0.35), at(0.2), at(0.6), at(0.45)
    # Pressure only: two years of flow would be learned from, which takes longer than all the rest.
    past["flow_rate"] = newcomer["flow_rate"] = np.nan
    stamps = newcomer["ingestion_timestamp"]
    newcomer["ingestion_timestamp"] = stamps.where(stamps > pd.Timestamp(arrived), pd.Timestamp(arrived))
    # The loader stamps six hours of two nodes, and commits them when four more hours of others have been read.
    held = frames[0]["timestamp"].between(early_at - timedelta(hours=10), early_at - timedelta(hours=4))
    late = (
        frames[1]
        .iloc[[0]]
        .assign(
            timestamp=pd.Timestamp(late_at - 30 * DAY + timedelta(hours=1)), ingestion_timestamp=pd.Timestamp(late_at)
        )
    )
    everything = pd.concat([frames[0][~held], *frames[1:], impossible, past], ignore_index=True)
    return Scenario(
        BEGIN,
        BEGIN + days * DAY,
        everything,
        {arrived: newcomer, late_at: late},
        (nul_at, nul),
        (early_at, frames[0][held]),
    )


@dataclass
class Fault:
    """Something that goes wrong once, at the first opportunity from an instant on."""

    name: str
    at: datetime
    # Whether now is the opportunity (of a job's row), and what is done.
    when: Callable[[Any], bool]
    strike: Callable[[], None]


@dataclass
class Fortnight:
    """The services over the whole span, with faults or without."""

    parts: Engines
    scenario: Scenario
    replicas: int
    log: Path
    seed: int
    faults: list[Fault] = field(default_factory=list)
    struck: list[str] = field(default_factory=list)
    peak: float = 0.0
    reached: datetime = BEGIN
    reviewed: datetime = BEGIN - DAY
    alerts_refused: int = 0

    def __post_init__(self) -> None:
        self.settings = self.parts.settings
        self.database: Engine = create_database_engine(self.settings)
        self.runtime = create_runtime(self.settings)
        self._services: list[subprocess.Popen[bytes]] = []
        self._backfill: subprocess.Popen[bytes] | None = None
        self._random = random.Random(self.seed)
        # What is to be repaired, once something holds of the newest cycle.
        self._repair: tuple[Callable[[Any], bool], Callable[[], None]] | None = None

    def live(self, progress: Progress, disturbed: bool) -> None:
        """Lives through the scenario."""
        early_at, early = self.scenario.stamped_early
        first = self.scenario.first if disturbed else pd.concat([self.scenario.first, early], ignore_index=True)
        load(self.settings, Dataset(first, [], BEGIN))
        migrate(self.database, self.settings)
        if disturbed:
            self.faults = self._bad_luck()
        task = progress.add_task("", total=(self.scenario.end - BEGIN).total_seconds())
        try:
            for boundary in self.scenario.boundaries():
                self._to(boundary, progress, task)
                if boundary in self.scenario.later:
                    append(self.settings, self.scenario.later[boundary])
                if disturbed and boundary == early_at:
                    append(self.settings, early)
                if disturbed and boundary == self.scenario.unfit[0]:
                    append(self.settings, self.scenario.unfit[1])
            if self._backfill:
                self._backfill.wait(300)
        finally:
            for process in [*self._services, *([self._backfill] if self._backfill else [])]:
                engines.end(process)
            progress.remove_task(task)

    def _to(self, until: datetime, progress: Progress, task: Any) -> None:
        self._services = [self._start(until) for _ in range(self.replicas)]
        quiet_since, looked = time.monotonic(), 0.0
        while any(service.poll() != 0 for service in self._services):
            for number, service in enumerate(self._services):
                if service.poll() not in (None, 0):
                    self._services[number] = self._start(until)
            with suppress(SQLAlchemyError):
                if self._look():
                    quiet_since = time.monotonic()
            if time.monotonic() - looked > 0.5:
                looked = time.monotonic()
                self.peak = max([self.peak, *map(peak_mb, self._pids())])
                what = f"{self.replicas} replica(s), {self.reached:%m-%d %H:%M}, {len(self.struck)} faults"
                progress.update(task, completed=(self.reached - BEGIN).total_seconds(), description=what)
            if time.monotonic() - quiet_since > 600:
                raise SystemExit(f"nothing has been begun for ten minutes at {self.reached}: see {self.log}")
            time.sleep(POLL_SECONDS)
        if self._repair:
            self._repair[1]()
            self._repair = None

    def _start(self, until: datetime) -> subprocess.Popen[bytes]:
        return self._process("src.processing.service.main", "--until", until.isoformat())

    def _process(self, module: str, *arguments: str, kind: str = "stepped") -> subprocess.Popen[bytes]:
        given = self.settings.model_dump(exclude_unset=True, exclude={"clock", "postgres_password", "redis_password"})
        environment = {name.upper(): str(value) for name, value in given.items()}
        environment |= {"CLOCK": f"{kind}:{self.reached.isoformat()}", "LOG_FORMAT": "json"}
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", module, *arguments]
            return subprocess.Popen(command, env=dict(os.environ) | environment, stdout=log, stderr=log)

    def _pids(self) -> list[int]:
        backfill = [self._backfill] if self._backfill else []
        return [process.pid for process in self._services + backfill if process.poll() is None]

    def _look(self) -> bool:
        """Strikes where there is an opportunity; whether a later instant has been reached."""
        newest = text(
            f"SELECT scheduled_for, status, total_items, processed_items + failed_items AS ended "  # noqa: S608
            f"FROM {SCHEMA}.processing_jobs WHERE job_type = :cycle ORDER BY scheduled_for DESC LIMIT 1"
        )
        with self.database.connect() as connection:
            job = connection.execute(newest, {"cycle": jobs.CYCLE}).first()
        if job is None:
            return False
        later = bool(job.scheduled_for > self.reached)
        self.reached = max(self.reached, job.scheduled_for)
        if self._repair:
            is_due, repair = self._repair
            if is_due(job):
                self._repair = None
                repair()
        elif self.faults and self.reached >= self.faults[0].at and self.faults[0].when(job):
            fault = self.faults.pop(0)
            self.struck.append(f"{fault.name} at {self.reached:%m-%d %H:%M}")
            fault.strike()
        if job.status in ("completed", "failed") and job.scheduled_for > self.reviewed:
            self.reviewed = job.scheduled_for
            self._review_alerts()
        return later

    def _review_alerts(self) -> None:
        # A replay leaves alerts out; here they are reviewed once a tick, as of that tick, when its cycle has ended:
        # before, the latest success is a whole interval old, and every tick would count as late.
        assert isinstance(self.runtime.clock, SteppedClock)
        self.runtime.clock.move_to(self.reached)
        try:
            run_alerts(self.runtime, self.reached)
        except SQLAlchemyError:
            self.alerts_refused += 1

    def _bad_luck(self) -> list[Fault]:
        def at(share: float) -> datetime:
            return BEGIN + share * (self.scenario.end - BEGIN)

        def planning(job: Any) -> bool:
            return bool(job.status == "running" and not job.total_items)

        def ingesting(job: Any) -> bool:
            return bool(job.status == "running" and job.ended < job.total_items)

        def concluding(job: Any) -> bool:
            return bool(job.status == "running" and job.total_items and job.ended == job.total_items)

        def ended(job: Any) -> bool:
            return bool(job.status in ("completed", "failed"))

        phases = {"planning": planning, "ingesting": ingesting, "concluding": concluding}
        kills = [
            Fault(f"kill -9 while {phase}", at(start + 0.02 * number), when, self._kill)
            for start in (0.05, 0.7)
            for number, (phase, when) in enumerate(phases.items())
        ]
        others = [
            Fault("Redis emptied while ingesting", at(0.15), ingesting, self.parts.flush_redis),
            Fault("PostgreSQL started again while ingesting", at(0.25), ingesting, self._restart_postgres),
            Fault("no space in the database", at(0.3), ingesting, self._no_space),
            Fault("two years read again beside the cycles", at(0.4), ended, self._read_again),
            Fault("the warehouse away", at(0.5), ended, self._no_warehouse),
            Fault("PostgreSQL started again while concluding", at(0.8), concluding, self._restart_postgres),
        ]
        return sorted(kills + others, key=lambda fault: fault.at)

    def _kill(self) -> None:
        running = [service for service in self._services if service.poll() is None]
        if running:
            victim = self._random.choice(running)
            self.peak = max(self.peak, peak_mb(victim.pid))
            victim.kill()
            victim.wait()

    def _restart_postgres(self) -> None:
        self.database.dispose()
        self.runtime.database.dispose()
        self.parts.restart_postgres()

    def _no_space(self) -> None:
        """Every write is refused as on a full disk, and the administrator makes room."""
        repaired_at = time.monotonic() + OUTAGE_SECONDS
        self._repair = lambda job: time.monotonic() >= repaired_at, self._make_space
        tables = [name for name in _tables(self.database) if name != "alembic_version"]
        with self.database.begin() as connection:
            connection.execute(
                text(
                    f"CREATE FUNCTION {SCHEMA}.no_space() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                    "RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$"
                )
            )
        for name in tables:
            with self.database.begin() as connection:
                connection.execute(
                    text(
                        f"CREATE TRIGGER no_space BEFORE INSERT OR UPDATE ON {SCHEMA}.{name} FOR EACH STATEMENT "
                        f"EXECUTE FUNCTION {SCHEMA}.no_space()"
                    )
                )

    def _make_space(self) -> None:
        with self.database.begin() as connection:
            connection.execute(text(f"DROP FUNCTION IF EXISTS {SCHEMA}.no_space() CASCADE"))

    def _no_warehouse(self) -> None:
        """Until a cycle has failed for it."""
        self.parts.stop_warehouse()
        self._repair = lambda job: bool(job.status == "failed"), self._bring_warehouse_back

    def _bring_warehouse_back(self) -> None:
        # It takes seconds to start, in which a replay would go through many ticks: services stand still meanwhile.
        services = [service for service in self._services if service.poll() is None]
        for service in services:
            service.send_signal(signal.SIGSTOP)
        self.parts.start_warehouse()
        for service in services:
            service.send_signal(signal.SIGCONT)

    def _read_again(self) -> None:
        span = [f"{self.reached - 730 * DAY:%Y-%m-%d}", "--end", f"{self.reached:%Y-%m-%d}"]
        arguments = ["--start", *span, "--nodes", "long-past"]
        self._backfill = self._process("src.processing.backfill", *arguments, kind="frozen")

    def table(self, name: str) -> pd.DataFrame:
        with self.database.connect() as connection:
            return pd.read_sql_table(name, connection, SCHEMA)

    def close(self) -> None:
        self.database.dispose()
        self.runtime.database.dispose()
        self.runtime.redis.close()


def _tables(database: Engine) -> list[str]:
    with database.connect() as connection:
        query = text("SELECT tablename FROM pg_tables WHERE schemaname = :schema")
        return list(connection.execute(query, {"schema": SCHEMA}).scalars())


def _figures(fortnight: Fortnight, seconds: float, undisturbed: Mapping[str, set[str]]) -> dict[str, Any]:
    cycles = fortnight.table("processing_jobs").query("job_type == @jobs.CYCLE and triggered_by == 'scheduler'")
    interval = timedelta(minutes=fortnight.settings.check_interval_minutes)
    due = list(pd.date_range(BEGIN, fortnight.scenario.end, freq=interval))
    completed = cycles.query("status == 'completed'")["scheduled_for"].sort_values()
    # A cycle that failed may be made up for before the next tick.
    done = sorted(set(completed.dt.floor(interval)) & set(due))
    gaps = completed.diff().dropna()
    left = comparable_rows(fortnight.database)
    other_events = sorted(
        (undisturbed["anomalies"] - left["anomalies"]) | (left["anomalies"] - undisturbed["anomalies"])
    )
    different = {name: max(len(rows - left[name]), len(left[name] - rows)) for name, rows in undisturbed.items()}
    alerts = fortnight.table("alerts")
    return {
        "minutes": round(seconds / 60, 1),
        "cycles_due": len(due),
        "cycles_completed": len(done),
        "cycles_missing": [f"{tick:%m-%d %H:%M}" for tick in sorted(set(due) - set(done))],
        "incomplete": sorted(set(cycles["error_message"].dropna().str[:200])),
        "longest_gap_minutes": round(max(gaps, default=timedelta()) / timedelta(minutes=1)),
        "peak_rss_mb": round(fortnight.peak),
        "rows_different": sum(count for name, count in different.items() if name != "anomalies"),
        "different": different,
        "events_different": other_events[:10],
        "alerts": alerts["rule"].value_counts().to_dict(),
        "alerts_raised": len(alerts),
        "alerts_over": int(alerts["resolved_at"].notna().sum()),
        "faults": len(fortnight.struck),
        "faults_without_opportunity": [fault.name for fault in fortnight.faults],
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="./scripts/bench.sh endurance", description=__doc__.partition("\n")[0])
    parser.add_argument("--replicas", type=int, choices=(1, 3), help="default: both, one after the other")
    parser.add_argument("--days", type=int, default=14, help="length of the fortnight")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    readings = readings_of(options.days, options.seed)
    # On SIGTERM it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # Alerts are logged where they are reviewed: here.
    configure_logging(Settings(log_level="ERROR"))
    log = Path(tempfile.mkdtemp(prefix="endurance-")) / "services.log"
    console.print(f"The services' own words: {log}")

    def lived(replicas: int, undisturbed: Mapping[str, set[str]] | None) -> dict[str, Any]:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
            folder.chmod(0o755)
            fortnight = Fortnight(Engines(folder, stack, **SETTINGS), readings, replicas, log, options.seed)
            stack.callback(fortnight.close)
            columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
            begun = time.perf_counter()
            with Progress(*columns, console=console, transient=True) as progress:
                fortnight.live(progress, disturbed=undisturbed is not None)
            if undisturbed is None:
                return comparable_rows(fortnight.database)
            return _figures(fortnight, time.perf_counter() - begun, undisturbed)

    undisturbed = lived(1, None)
    chosen = [options.replicas] if options.replicas else [1, 3]
    results = {f"replicas_{replicas}": lived(replicas, undisturbed) for replicas in chosen}
    shown = Table("figure", *results, title=f"{options.days} bad days")
    for name in next(iter(results.values())):
        shown.add_row(name, *(str(figures[name]) for figures in results.values()))
    console.print(shown)
    every = list(results.values())
    worst: dict[str, Any] = {
        name: max(figures[name] for figures in every)
        for name in ("cycles_due", "longest_gap_minutes", "peak_rss_mb", "rows_different", "alerts_raised")
    }
    worst |= {name: min(figures[name] for figures in every) for name in ("cycles_completed", "alerts_over")}
    print(orjson.dumps(worst | results).decode())
    missed = worst["rows_different"] or worst["peak_rss_mb"] >= PEAK_LIMIT_MB
    return int(bool(missed or any(figures["cycles_missing"] for figures in every)))


if __name__ == "__main__":
    sys.exit(main())
