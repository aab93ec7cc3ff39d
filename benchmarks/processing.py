"""The metric kernel beside a bare pandas groupby, and a whole cycle from the warehouse to committed rows.

With TEST_TIMESCALE_URL on that server, and beside what its own continuous aggregates do with the same readings.
"""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pandas as pd
from sqlalchemy import text

from benchmarks.system import START, database_on, peak_mb, readings, system
from src.db.engines import create_database_engine
from src.domain.days import day_start
from src.domain.metrics import window_metrics
from src.domain.readings import clean
from src.settings import Settings

NODES, READINGS = 1000, 1000
ROUNDS = 3
ROME = ZoneInfo("Europe/Rome")


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def bare_groupby(frame: pd.DataFrame) -> list[pd.DataFrame]:
    """What a user of pandas would write for the same three window sizes and the same statistics."""
    measured = ["flow_rate", "pressure", "temperature"]
    return [
        frame.groupby(["node_id", frame["timestamp"].dt.floor(size)], observed=True)[measured].agg(
            ["count", "mean", "var", "min", "max"]
        )
        for size in ("5min", "1h", "1D")
    ]


def kernel() -> float:
    """Speed of the kernel as a multiple of the groupby's."""
    raw = readings(NODES, READINGS).assign(volume=float("nan"))
    raw["timestamp"] = raw["timestamp"].astype("datetime64[us, UTC]")
    raw["ingestion_timestamp"] = raw["timestamp"]
    as_of = START + timedelta(days=30)
    cleaned = clean(raw, as_of).frame
    first = day_start(START, ROME)
    ours, bare = [], []
    for _ in range(ROUNDS):
        ours.append(seconds(lambda: window_metrics(cleaned, first, ROME)))
        bare.append(seconds(lambda: bare_groupby(cleaned)))
    cleaning = seconds(lambda: clean(raw, as_of))
    total = len(cleaned)
    print(f"{'metric kernel':34}{total / statistics.median(ours):>12,.0f} readings/s")
    print(f"{'bare pandas groupby':34}{total / statistics.median(bare):>12,.0f} readings/s")
    print(f"{'cleaning':34}{total / cleaning:>12,.0f} readings/s")
    return statistics.median(bare) / statistics.median(ours)


def end_to_end() -> tuple[float, float]:
    """Seconds from the start of the work to the last committed row, and the service's peak memory in MB."""
    clock = f"frozen:{(START + timedelta(days=4)).isoformat()}"
    with system(readings(NODES, READINGS), clock=clock) as environment:
        process = subprocess.Popen(
            [sys.executable, "-m", "src.processing.service.main", "--once"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        begun = time.perf_counter()
        assert process.stdout is not None
        peak = 0.0
        # Of the service alone: what the system counts of a child includes its parent's memory at its birth.
        while process.poll() is None:
            peak = max(peak, peak_mb(process.pid))
            time.sleep(0.02)
        took = time.perf_counter() - begun
        job = orjson.loads(process.stdout.read().splitlines()[-1])
    assert job["status"] == "completed", job
    assert job["readings"] == NODES * READINGS, job
    worked = sum(job["seconds"].values())
    for stage, spent in job["seconds"].items():
        print(f"{stage:34}{100 * spent / worked:>11.0f} % {spent:>8.1f} s")
    print(f"{'end to end, with start of service':34}{took:>10.1f} s for {job['readings']:,} readings, {job['windows']}")
    print(f"{'peak memory of the service':34}{peak:>10.0f} MB")
    return took, peak


def continuous_aggregates(url: str) -> float:
    """Seconds that a user of TimescaleDB would need: COPY of the same readings into a hypertable, and a continuous
    aggregate of the same statistics for each of the three window sizes."""
    frame = readings(NODES, READINGS)
    lines = io.StringIO(frame.to_csv(index=False, header=False))
    statistics_of = ", ".join(
        f"{function}({name}) AS {name}_{function}"
        for name in ("flow_rate", "pressure", "temperature")
        for function in ("count", "avg", "var_samp", "min", "max")
    )
    with database_on(url) as address:
        settings = Settings(**address)  # type: ignore[arg-type]
        engine = create_database_engine(settings)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:

            def run(statement: str) -> None:
                connection.execute(text(statement))

            run("CREATE EXTENSION IF NOT EXISTS timescaledb")
            run(
                "CREATE TABLE readings (timestamp timestamptz NOT NULL, node_id text NOT NULL, "
                "flow_rate float8, pressure float8, temperature float8)"
            )
            run("SELECT create_hypertable('readings', 'timestamp')")
            for size in ("5 minutes", "1 hour", "1 day"):
                run(
                    f"CREATE MATERIALIZED VIEW windows_{size.replace(' ', '_')} WITH (timescaledb.continuous) AS "  # noqa: S608 - our own text
                    f"SELECT node_id, time_bucket('{size}', timestamp) AS bucket, {statistics_of} "
                    "FROM readings GROUP BY 1, 2 WITH NO DATA"
                )
            begun = time.perf_counter()
            driver: Any = connection.connection.driver_connection
            with driver.cursor() as cursor:
                cursor.copy_expert("COPY readings FROM STDIN (FORMAT csv)", lines)
            copied = time.perf_counter() - begun
            for size in ("5_minutes", "1_hour", "1_day"):
                run(f"CALL refresh_continuous_aggregate('windows_{size}', NULL, NULL)")
            took = time.perf_counter() - begun
        engine.dispose()
    print(f"{'continuous aggregates':34}{took:>10.1f} s, of them {copied:.1f} s for the copy")
    return took


if __name__ == "__main__":
    ratio = kernel()
    took, peak = end_to_end()
    result = {"kernel_ratio": round(ratio, 2), "end_to_end_seconds": round(took, 1), "peak_rss_mb": round(peak)}
    if on_timescale := os.environ.get("TEST_TIMESCALE_URL"):
        result["timescale_ratio"] = round(took / continuous_aggregates(on_timescale), 2)
    print(orjson.dumps(result).decode())
