"""The metric kernel beside a bare pandas groupby, and a whole cycle from the warehouse to committed rows."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from zoneinfo import ZoneInfo

import orjson
import pandas as pd

from benchmarks.system import START, readings, system
from src.domain.days import day_start
from src.domain.metrics import window_metrics
from src.domain.readings import clean

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
        job = orjson.loads(process.stdout.read().splitlines()[-1])
        took = time.perf_counter() - begun
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert job["status"] == "completed", job
    assert job["readings"] == NODES * READINGS, job
    worked = sum(job["seconds"].values())
    for stage, spent in job["seconds"].items():
        print(f"{stage:34}{100 * spent / worked:>11.0f} %")
    print(f"{'end to end, with start of service':34}{took:>10.1f} s for {job['readings']:,} readings, {job['windows']}")
    print(f"{'peak memory of the service':34}{usage.ru_maxrss / 1024:>10.0f} MB")
    return took, usage.ru_maxrss / 1024


if __name__ == "__main__":
    ratio = kernel()
    took, peak = end_to_end()
    result = {"kernel_ratio": round(ratio, 2), "end_to_end_seconds": round(took, 1), "peak_rss_mb": round(peak)}
    print(orjson.dumps(result).decode())
