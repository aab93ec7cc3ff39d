"""A large utility's cycles: hourly flow and pressure of so many nodes in districts of fifty, after eight weeks.

The weeks before are written by one statement per district from a template; what the service itself does is measured:
the first tick of a week learns habits, those after it are steady. With TEST_TIMESCALE_URL the database is on that
server. What is polled meanwhile: the longest transaction of any service, and the longest gap between two heartbeats.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import orjson
import pandas as pd
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, text

from benchmarks.system import database_of, peak_mb, system
from src.db.bulk_write import copy_rows
from src.db.tables import computed_metrics
from src.domain.days import day_start
from src.domain.metrics import window_metrics
from src.domain.readings import clean
from src.processing.jobs import records as jobs
from src.quickstart import engines

ROME = ZoneInfo("Europe/Rome")
# A Wednesday; habits of the week are learned in the eight weeks before its Monday. At none of the steady ticks the
# service has more to do than its cycle, but for the hourly look at its models.
NOW = datetime(2023, 6, 28, 13, tzinfo=UTC)
WEEKS, DISTRICT = 8, 50
STEADY_TICKS = 2
# Services are started so long before a tick: it finds them as it finds them every half hour, with everything imported.
LEAD = timedelta(seconds=30)
MOST_SECONDS = 1800
# How long each call of a warehouse nearby and of one far away waits.
NEAR_MS, FAR_MS = 20, 500
# The database's clock is far ahead of the readings': policies that go by it would delete them while they are read.
STANDING = {"check_interval_minutes": "60", "clock": f"frozen:{NOW.isoformat()}"}
console = Console(width=120)


def district(ahead: int) -> pd.DataFrame:
    """Hourly readings of one district of fifty nodes, up to so many hours after `NOW`: its inlet and customers."""
    random = np.random.default_rng(1)
    instants = pd.date_range(NOW - timedelta(days=7 * WEEKS + 4), NOW + timedelta(hours=ahead), freq="h")
    swing = np.sin((instants.hour.to_numpy() - 9) * np.pi / 12)
    frames = []
    for n in range(DISTRICT):
        use = (1 + 0.4 * swing) * random.uniform(0.5, 1.5) + random.normal(0, 0.05, len(instants))
        flow = use * (60 if n == 0 else 1)
        pressure = 4 - 0.3 * swing + random.normal(0, 0.05, len(instants))
        frames.append(pd.DataFrame({"timestamp": instants, "node": n, "flow_rate": flow, "pressure": pressure}))
    return pd.concat(frames, ignore_index=True)


def of_network(template: pd.DataFrame, nodes: int) -> pd.DataFrame:
    """The template's readings once per district, each district with a level of its own."""
    parts = []
    for number in range(nodes // DISTRICT):
        level = 0.5 + (number * 37 % 100) / 100
        part = template.assign(flow_rate=template["flow_rate"] * level, district_id=f"dma-{number:04d}")
        part["node_id"] = f"dma-{number:04d}-" + template["node"].map("{:02d}".format)
        parts.append(part.drop(columns="node"))
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(ingestion_timestamp=frame["timestamp"])


def make_history(database: Engine, template: pd.DataFrame, nodes: int) -> None:
    """Nodes, watermarks and the windows of the weeks before, as the service would have written them."""
    past = template[template["timestamp"] < pd.Timestamp(NOW)]
    raw = past.assign(node_id=past["node"].map("{:02d}".format), temperature=np.nan, volume=np.nan).drop(columns="node")
    raw["timestamp"] = raw["timestamp"].astype("datetime64[us, UTC]")
    raw["ingestion_timestamp"] = raw["timestamp"]
    first = day_start(NOW - timedelta(days=7 * WEEKS + 3), ROME)
    rows = window_metrics(clean(raw, NOW).frame, first, ROME)
    # Of the finest windows only the last days are ever looked at again.
    rows = rows[(rows["time_window"] != "5min") | (rows["window_start"] >= pd.Timestamp(NOW - timedelta(days=3)))]
    rows = rows.assign(quality_score=1.0, computed_at=pd.Timestamp(NOW), computation_version="2")
    flows = ("avg_flow_rate", "min_flow_rate", "max_flow_rate", "total_volume", "max_flow_change", "max_flow_spike")
    columns = ", ".join(
        "district || '-' || node_id" if name == "node_id" else f"{name} * level" if name in flows else name
        for name in rows.columns
    )
    with database.begin() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE template (LIKE water_infrastructure.computed_metrics)"))
        copy_rows(connection, computed_metrics, rows, into="template")
        connection.execute(
            text(
                "INSERT INTO water_infrastructure.nodes (node_id, node_name, district_id, role) "
                "SELECT id, id, left(id, 8), "
                "CASE WHEN id LIKE '%-00' THEN 'inlet' ELSE 'consumption' END FROM (SELECT format('dma-%s-%s', "
                "lpad(d::text, 4, '0'), lpad(n::text, 2, '0')) AS id FROM generate_series(0, :districts - 1) AS d, "
                "generate_series(0, :size - 1) AS n) AS made"
            ),
            {"districts": nodes // DISTRICT, "size": DISTRICT},
        )
        last = NOW - timedelta(hours=1)
        connection.execute(
            text(
                "INSERT INTO water_infrastructure.ingestion_watermarks (node_id, last_row, last_reading, last_arrival, "
                "recent_rows, updated_at) SELECT node_id, :last, :last, :arrival, 1, :last "
                "FROM water_infrastructure.nodes"
            ),
            {"last": last, "arrival": last},
        )
    for number in range(nodes // DISTRICT):
        with database.begin() as connection:
            if number == 0:
                connection.execute(text("CREATE TABLE IF NOT EXISTS public.template AS SELECT * FROM template"))
            connection.execute(
                text(
                    # Names of our own columns.
                    f"INSERT INTO water_infrastructure.computed_metrics ({', '.join(rows.columns)}) SELECT {columns} "  # noqa: S608
                    "FROM public.template, (SELECT CAST(:district AS text) AS district, "
                    "CAST(:level AS float8) AS level) AS of"
                ),
                {"district": f"dma-{number:04d}", "level": 0.5 + (number * 37 % 100) / 100},
            )
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("DROP TABLE public.template"))
        connection.execute(text("ANALYZE water_infrastructure.computed_metrics"))


@dataclass
class Watched:
    """What was seen of services while they worked, by polling."""

    longest_transaction: float = 0.0
    longest_gap: float = 0.0
    statement: str = ""
    _stopping: threading.Event = field(default_factory=threading.Event)

    def watch(self, database: Engine) -> None:
        with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            while not self._stopping.wait(0.2):
                row = connection.execute(
                    text(
                        "SELECT extract(epoch FROM clock_timestamp() - xact_start) AS lasted, query "
                        "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
                        "AND backend_type = 'client backend' AND xact_start IS NOT NULL ORDER BY xact_start LIMIT 1"
                    )
                ).one_or_none()
                if row is not None and row.lasted > self.longest_transaction:
                    self.longest_transaction, self.statement = float(row.lasted), " ".join(row.query.split())[:100]
                gap = connection.scalar(
                    text(
                        "SELECT extract(epoch FROM clock_timestamp() - min(heartbeat_at)) "
                        "FROM water_infrastructure.processing_replicas"
                    )
                )
                self.longest_gap = max(self.longest_gap, float(gap or 0.0))

    def stop(self) -> None:
        self._stopping.set()


@contextmanager
def watched(database: Engine) -> Iterator[Watched]:
    found = Watched()
    thread = threading.Thread(target=found.watch, args=(database,))
    thread.start()
    try:
        yield found
    finally:
        found.stop()
        thread.join()


def train_elsewhere(database: Engine) -> None:
    """Makes the service believe that models are being trained: it would begin to, once, where there are none yet."""
    jobs.claim(database, jobs.TRAINING, "A training of other replicas", NOW, NOW, "benchmark")
    with database.begin() as connection:
        connection.execute(
            text(
                "UPDATE water_infrastructure.processing_jobs SET heartbeat_at = now() + interval '1 day' "
                "WHERE job_type = :training"
            ),
            {"training": jobs.TRAINING},
        )


def cycle(
    environment: dict[str, str], database: Engine, count: int, at: datetime, *, first: bool
) -> tuple[float, float]:
    """One cycle, shared by so many replicas: seconds from its claim to its end, and the peak memory (MB) of one.

    Args:
        first: nothing was processed before, and a service begins as soon as it is there; else it waits for the tick.
    """
    waiting = f"ticking:{(at - LEAD).isoformat()}@{datetime.now(UTC).isoformat()}"
    clock = {"CLOCK": f"frozen:{at.isoformat()}" if first else waiting}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "src.processing.service.main"],
            env=environment | clock, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        for _ in range(count)
    ]  # fmt: skip
    peak, claimed = 0.0, 0.0
    query = text(
        "SELECT (SELECT status FROM water_infrastructure.processing_jobs "
        "WHERE job_type = 'processing_cycle' AND scheduled_for = :at) AS status, "
        "(SELECT count(*) FROM water_infrastructure.processing_replicas) AS replicas"
    )
    deadline = time.perf_counter() + MOST_SECONDS
    try:
        while True:
            assert all(process.poll() is None for process in started), "a service has ended"
            assert time.perf_counter() < deadline, f"the tick of {at:%H:%M} was not worked off within {MOST_SECONDS} s"
            with database.connect() as connection:
                row = connection.execute(query, {"at": at}).one()
            if row.status is not None and not claimed:
                claimed = time.perf_counter()
                assert first or row.replicas == count, f"{row.replicas} of {count} replicas were there for the tick"
            peak = max([peak, *(peak_mb(process.pid) for process in started)])
            if row.status in ("completed", "failed"):
                return time.perf_counter() - claimed, peak
            time.sleep(0.05)
    finally:
        for process in started:
            engines.end(process)


def cycles(database: Engine) -> pd.DataFrame:
    query = (
        "SELECT scheduled_for, status, error_message, duration_seconds, result_summary -> 'seconds' AS seconds, "
        "result_summary AS summary "
        "FROM water_infrastructure.processing_jobs WHERE job_type = 'processing_cycle' ORDER BY scheduled_for"
    )
    found = pd.read_sql(text(query), database)
    skipped = found["summary"].map(lambda summary: "skipped" in (summary or {}))
    unsound = found[(found["status"] != "completed") | found["error_message"].notna() | skipped]
    assert unsound.empty, unsound.to_dict("records")
    return found


class Slow:
    """A port that hands on to another, and holds what is sent up so many milliseconds: a warehouse far away."""

    def __init__(self, target: int, milliseconds: int) -> None:
        self.port = engines.free_port()
        self._target, self._seconds = target, milliseconds / 1000
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        self._loop.run_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        await asyncio.gather(
            self._hand_on(reader, there_writer, self._seconds), self._hand_on(there_reader, writer, 0.0)
        )

    async def _hand_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, seconds: float) -> None:
        """Hands on what comes, so many seconds after it came: what follows does not wait for longer."""
        on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while (entry := await on_the_way.get())[1]:
                await asyncio.sleep(entry[0] - self._loop.time())
                sink.write(entry[1])
                await sink.drain()

        delivering = asyncio.create_task(deliver())
        try:
            while received := await source.read(65536):
                on_the_way.put_nowait((self._loop.time() + seconds, received))
            on_the_way.put_nowait((0.0, b""))
            await delivering
        except ConnectionError:
            delivering.cancel()
        finally:
            sink.close()


def steady(nodes: int, replicas: int = 1, waiting_ms: int = 0, **settings: str) -> dict[str, object]:
    """Cycles of a network of this size: the first of its week, then steady ones.

    Args:
        waiting_ms: how long each call of the warehouse waits.
    """
    template = district(ahead=STEADY_TICKS + 2)
    recent = template[template["timestamp"] >= pd.Timestamp(NOW - timedelta(days=4))]
    settings = STANDING | {"late_arrival_lookback_days": "3"} | settings
    with system(of_network(recent, nodes), **settings) as environment:
        database = database_of(environment)
        begun = time.perf_counter()
        make_history(database, template, nodes)
        train_elsewhere(database)
        console.print(f"{nodes} nodes: history made in {time.perf_counter() - begun:.0f} s")
        if waiting_ms:
            rest = int(environment["BIGQUERY_REST_ENDPOINT"].rsplit(":", 1)[1])
            storage = int(environment["BIGQUERY_STORAGE_ENDPOINT"].rsplit(":", 1)[1])
            environment["BIGQUERY_REST_ENDPOINT"] = f"http://127.0.0.1:{Slow(rest, waiting_ms).port}"
            environment["BIGQUERY_STORAGE_ENDPOINT"] = f"127.0.0.1:{Slow(storage, waiting_ms).port}"
        with watched(database) as seen:
            first, first_peak = cycle(environment, database, replicas, NOW, first=True)
            measured = [
                cycle(environment, database, replicas, NOW + timedelta(hours=hours), first=False)
                for hours in range(1, STEADY_TICKS + 1)
            ]
        tick, peak = float(np.mean([took for took, _ in measured])), max(peak for _, peak in measured)
        every = cycles(database)
        steady_ticks = every[every["scheduled_for"] > pd.Timestamp(NOW)]
        stages = pd.DataFrame(list(steady_ticks["seconds"])).mean()
        table = Table(title=f"{nodes} nodes, {replicas} replica(s), a warehouse that waits {waiting_ms} ms per call")
        for name in ("figure", "value"):
            table.add_column(name)
        figures = {
            "first cycle of a week (learns), s": first,
            "steady cycle, s": tick,
            "peak memory when learning / steady, MB": f"{first_peak:.0f} / {peak:.0f}",
            "longest transaction, s": f"{seen.longest_transaction:.1f}  {seen.statement}",
            "longest gap between heartbeats, s": seen.longest_gap,
        } | {f"  {name}, s (of all threads)": spent for name, spent in stages.items()}
        for name, value in figures.items():
            table.add_row(name, value if isinstance(value, str) else f"{value:.1f}")
        console.print(table)
        for summary in steady_ticks["summary"]:
            console.print({k: v for k, v in summary.items() if k not in ("seconds", "failures")})
        database.dispose()
    return {
        "first": first, "tick": tick, "peak": max(first_peak, peak),
        "transaction": seen.longest_transaction, "gap": seen.longest_gap,
    }  # fmt: skip


def first_load(nodes: int) -> dict[str, float]:
    """Everything from the warehouse to the conclusions, of a network that nobody has read before."""
    template = district(ahead=0)
    whole = template[template["timestamp"] >= pd.Timestamp(NOW - timedelta(days=7 * WEEKS))]
    with system(of_network(whole, nodes), **STANDING) as environment:
        database = database_of(environment)
        with watched(database) as seen:
            took, peak = cycle(environment, database, 1, NOW, first=True)
        stages = cycles(database)["seconds"].iloc[0]
        console.print(f"first load of {nodes} nodes: {took:.0f} s, {peak:.0f} MB, by stage {stages}")
        console.print(f"longest transaction {seen.longest_transaction:.1f} s ({seen.statement})")
        database.dispose()
    return {"seconds": took, "peak": peak, "transaction": seen.longest_transaction, "gap": seen.longest_gap}


def main() -> None:
    parser = argparse.ArgumentParser("./scripts/bench.sh scale", description=__doc__)
    parser.add_argument("--nodes", type=int, nargs="*", default=[1000, 5000, 20000], help="sizes of steady cycles")
    parser.add_argument("--first-load", type=int, default=5000, metavar="NODES", help="0: none")
    parser.add_argument("--no-replicas", action="store_true", help="do not compare three replicas with one")
    options = parser.parse_args()
    found = {nodes: steady(nodes) for nodes in options.nodes}
    result: dict[str, object] = {"tick_seconds": {str(n): round(one["tick"], 1) for n, one in found.items()}}  # type: ignore[call-overload]
    every = list(found.values())
    if options.first_load:
        loaded = first_load(options.first_load)
        every.append(dict(loaded))
        result["first_load_seconds"] = round(loaded["seconds"], 1)
    if not options.no_replicas:
        for key, waiting_ms in (("replicas_3_speedup_near", NEAR_MS), ("replicas_3_speedup", FAR_MS)):
            # Chunks of some fifty nodes, so that there is something to share.
            one, three = (steady(1000, replicas, waiting_ms, chunk_readings="2000") for replicas in (1, 3))
            result[key] = round(one["tick"] / three["tick"], 2)  # type: ignore[operator]
    for key, name in (
        ("peak", "peak_rss_mb"),
        ("transaction", "longest_transaction_seconds"),
        ("gap", "longest_heartbeat_gap_seconds"),
    ):  # fmt: skip
        result[name] = round(max(float(one[key]) for one in every), 1)  # type: ignore[arg-type]
    print(orjson.dumps(result).decode())


if __name__ == "__main__":
    main()
