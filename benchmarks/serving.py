"""Requests a second of one API worker beside a bare Starlette hello, by wrk, in turns."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import orjson
from sqlalchemy import text

from benchmarks.system import START, process, readings, system
from src.db.engines import create_database_engine
from src.settings import Settings

ROUNDS, SECONDS, CONNECTIONS = 3, 4, 16
API, HELLO = 18_500, 18_501
DAYS = 8
HISTORY = f"http://127.0.0.1:{API}/api/v1/nodes/node-0001/history"
# Every request asks for 168 hours from another microsecond on, which no cache has seen.
UNCACHED = """
local n = %d
request = function()
  n = n + 1
  local second = string.format("%%09.6f", n / 1000000)
  return wrk.format("GET", "/api/v1/nodes/node-0001/history?start_time=2023-05-01T22:59:" .. second
    .. "Z&end_time=2023-05-08T22:59:" .. second .. "Z")
end
"""


@dataclass
class Load:
    """One kind of request, and its results, round by round."""

    name: str
    url: str
    headers: list[str] = field(default_factory=list)
    script: str = ""
    rates: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)

    def run(self, number: int) -> None:
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "--latency", self.url]
        with tempfile.TemporaryDirectory() as folder:
            for header in self.headers:
                command += ["-H", header]
            if self.script:
                script = Path(folder) / "load.lua"
                script.write_text(self.script % (number * 1_000_000))
                command += ["-s", str(script)]
            output = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS + 30, check=True).stdout
        assert "Non-2xx" not in output or "304" in self.name, output
        self.rates.append(float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1]))  # type: ignore[index]
        value, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", output).groups()  # type: ignore[union-attr]
        self.p99.append(float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit])


def wait_for(url: str, headers: dict[str, str] | None = None) -> bytes:
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=5) as answer:
                return bytes(answer.read())
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _settle(environment: dict[str, str]) -> None:
    """What autovacuum does within minutes of a load, at once."""
    engine = create_database_engine(Settings(**{name.lower(): value for name, value in environment.items()}))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM (ANALYZE) water_infrastructure.computed_metrics"))
    engine.dispose()


def main() -> None:
    clock = f"frozen:{(START + timedelta(days=DAYS)).isoformat()}"
    # Meters of flow alone, as most are: a week of hours is then 45 KB.
    frame = readings(20, DAYS * 288).drop(columns=["pressure", "temperature"])
    unlimited = dict.fromkeys(("api_requests_per_minute_and_key", "api_requests_per_minute_and_address"), "1000000000")
    with system(frame, clock=clock, api_port=str(API), **unlimited) as environment:
        once = [sys.executable, "-m", "src.processing.service.main", "--once"]
        subprocess.run(once, env=environment, check=True, capture_output=True, timeout=120)
        make_key = [sys.executable, "-m", "src.db.api_keys", "create", "benchmark", "--quiet"]
        key = subprocess.run(make_key, env=environment, check=True, capture_output=True, text=True).stdout.strip()
        _settle(environment)
        as_caller = {"X-API-Key": key}
        with process(["-m", "src.api.main"], environment), process(["-m", "benchmarks.hello", str(HELLO)], environment):
            wait_for(f"http://127.0.0.1:{HELLO}/")
            body = wait_for(HISTORY, as_caller)
            rows = len(orjson.loads(body))
            with urllib.request.urlopen(urllib.request.Request(HISTORY, headers=as_caller), timeout=5) as answer:
                etag = answer.headers["ETag"]
            print(f"history: {rows} rows, {len(body) / 1000:.0f} KB; {CONNECTIONS} connections, one worker each")
            loads = [
                Load("hello", f"http://127.0.0.1:{HELLO}/"),
                Load("cached", HISTORY, headers=[f"X-API-Key: {key}"]),
                Load("304", HISTORY, headers=[f"X-API-Key: {key}", f"If-None-Match: {etag}"]),
                Load("uncached", HISTORY, headers=[f"X-API-Key: {key}"], script=UNCACHED),
            ]
            for number in range(ROUNDS):
                for load in loads:
                    load.run(number)
    hello = statistics.median(loads[0].rates)
    for load in loads:
        rate = statistics.median(load.rates)
        print(
            f"{load.name:10}{rate:>10,.0f} requests/s  {rate / hello:>6.2f}  p99 {statistics.median(load.p99):.1f} ms"
        )
    ratio = {load.name: round(statistics.median(load.rates) / hello, 3) for load in loads}
    names = {"cached_ratio": "cached", "uncached_ratio": "uncached", "not_modified_ratio": "304"}
    print(orjson.dumps({name: ratio[load] for name, load in names.items()}).decode())


if __name__ == "__main__":
    main()
