"""A quarter of an hour of strangers and of users, as many as the limits allow: memory stays where it is."""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Self

import httpx

from tests.e2e.report import Report
from tests.e2e.stack import HTTPS, Callers, Stack

# Of memory that is a container's alone, between the first and the last quarter.
TOLERANCE = 0.05
# Before it is measured, caches hold what they may and every connection has seen every table.
WARM_UP_SECONDS = 1200
MEASURES_AT_MOST = 200_000
_EVERY_SECONDS = 10
_CALLERS, _STRANGERS = 6, 3


class Traffic(Callers):
    """Callers with keys and without, each as fast as it is answered; `statuses` counts what came of it."""

    def __init__(self, stack: Stack) -> None:
        users = [partial(self._use, number) for number in range(_CALLERS)]
        strangers = [partial(self._try, number) for number in range(_STRANGERS)]
        super().__init__(*users, *strangers)
        self._trust = stack.trust()
        self._keys = list(stack.keys.values())
        self._nodes: list[str] = []
        self.statuses: Counter[tuple[str, int]] = Counter()

    def __enter__(self) -> Self:
        with self._client() as client:
            nodes = client.get("/api/v1/nodes", headers={"X-API-Key": self._keys[0]}).json()
        self._nodes = [node["node_id"] for node in nodes]
        return super().__enter__()

    def _client(self) -> httpx.Client:
        return httpx.Client(base_url=HTTPS, verify=self._trust, timeout=30)

    def _use(self, number: int) -> None:
        """What a dashboard, a script and an operator ask for, each question with another parameter now and then."""
        chance = random.Random(number)
        headers = {"X-API-Key": self._keys[number % len(self._keys)]}
        with self._client() as client:
            for turn in itertools.count(1):
                if self.stopping.is_set():
                    return
                node = chance.choice(self._nodes)
                path = chance.choice(
                    (
                        "/api/v1/dashboard/summary",
                        f"/api/v1/nodes?limit={chance.randint(1, 1000)}",
                        f"/api/v1/nodes/{node}",
                        f"/api/v1/nodes/{node}/metrics",
                        f"/api/v1/nodes/{node}/history?limit={chance.randint(1, 5000)}",
                        f"/api/v1/predictions/{node}",
                        f"/api/v1/quality/{node}",
                        "/api/v1/network/metrics",
                        f"/api/v1/network/efficiency?limit={chance.randint(1, 1000)}",
                        "/api/v1/districts",
                        f"/api/v1/anomalies?status=all&hours={chance.randint(1, 8000)}",
                        f"/api/v1/incidents?status=all&hours={chance.randint(1, 8000)}",
                        f"/api/v1/jobs?limit={chance.randint(1, 1000)}",
                        "/api/v1/models",
                        "/api/v1/status",
                    )
                )
                self._ask(client, "with a key", path, headers | chance.choice(({}, {"Accept": "text/csv"})))
                if turn % 200 == 0:
                    self._session(client, headers)

    def _session(self, client: httpx.Client, headers: dict[str, str]) -> None:
        opened = client.post("/api/v1/session", headers=headers)
        client.cookies.clear()
        self.statuses["a session opened", opened.status_code] += 1
        if opened.status_code == 201:
            token = {"Authorization": f"Bearer {opened.json()['token']}"}
            self._ask(client, "with a session", "/api/v1/nodes", token)
            # A client that was refused for its haste ends its session a little later.
            while (ended := client.delete("/api/v1/session", headers=token)).status_code == 429:
                self.stopping.wait(0.5)
            self.statuses["a session ended", ended.status_code] += 1

    def _try(self, number: int) -> None:
        """What whoever finds the port may ask for: other paths, methods, identities and formats each time."""
        chance = random.Random(1000 + number)
        with self._client() as client:
            while not self.stopping.is_set():
                word = f"{chance.getrandbits(64):x}"
                path = chance.choice(
                    ("/health", "/", f"/{word}", f"/api/v1/nodes/{word}/history?{word}=1", f"/api/v1/models/{word}")
                )
                headers = chance.choice(
                    (
                        {},
                        {"X-API-Key": word},
                        {"X-API-Key": f"abk_{word[:12]:0>12}_{word:0>64}"},
                        {"Authorization": f"Bearer {word}"},
                        {"Cookie": f"__Host-abbanoa_session={word}; {word}={{}}"},
                        {"X-Request-ID": word, "User-Agent": word, "Origin": f"https://{word}.example.org"},
                    )
                )
                method = chance.choice(("GET", "GET", "GET", "HEAD", "POST", "PATCH", word[:8].upper()))
                self._ask(client, "without a key", path, headers, method)

    def _ask(self, client: httpx.Client, who: str, path: str, headers: dict[str, str], method: str = "GET") -> None:
        try:
            answer = client.request(method, path, headers=headers)
        except httpx.HTTPError:
            self.statuses[who, 0] += 1
            return
        self.statuses[who, answer.status_code] += 1
        if answer.status_code == 429:
            # After a 429 even an impatient caller pauses a little.
            self.stopping.wait(0.05)


def memory_mb(stack: Stack) -> dict[str, float]:
    """Memory that each container holds for itself alone: neither files nor what several processes share."""
    listed = stack.run(f"docker ps -q --filter label=com.docker.compose.project={stack.project}").stdout.split()
    found = {}
    for container in listed:
        name = stack.run(f"docker inspect -f '{{{{.Name}}}}' {container}").stdout.strip().lstrip("/")
        pids = stack.run(f"docker top {container} -o pid").stdout.split()[1:]
        found[name] = sum(_private_kb(pid) for pid in pids) / 1024
    return found


def _private_kb(pid: str) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")), 0)


def soak(stack: Stack, report: Report, result: dict[str, object], minutes: float) -> None:
    """Mixed load for so many minutes, at the limits that the settings have by themselves."""
    samples: list[dict[str, float]] = []
    with Traffic(stack) as traffic:
        time.sleep(WARM_UP_SECONDS)
        traffic.statuses.clear()
        until = time.monotonic() + 60 * minutes
        while time.monotonic() < until:
            samples.append(memory_mb(stack))
            time.sleep(_EVERY_SECONDS)
        statuses = Counter(traffic.statuses)
    quarter = max(len(samples) // 4, 1)
    first, last = samples[:quarter], samples[-quarter:]
    grown = {}
    for name in sorted(samples[0]):
        before, after = (statistics.fmean(sample[name] for sample in part) for part in (first, last))
        grown[name] = {
            "first_mb": round(before, 1),
            "last_mb": round(after, 1),
            "ratio": round(after / before, 3),
            "each_minute_mb": [round(sample[name], 1) for sample in samples[:: 60 // _EVERY_SECONDS]],
        }
        with report.check(f"memory of {name} stays where it is ({before:.1f} MB, {after:.1f} MB)"):
            assert after <= (1 + TOLERANCE) * before
    result["memory"] = grown
    result["statuses"] = {f"{who}: {status}": count for (who, status), count in sorted(statuses.items())}
    with report.check("nobody who was answered saw an error of ours"):
        failed = {key: count for key, count in statuses.items() if key[1] == 0 or key[1] >= 500}
        assert not failed, failed
    with stack.client("admin") as client:
        measures = len(client.get("/metrics").content)
        result["measures_bytes"] = measures
        with report.check(f"the API's measures stay small ({measures} bytes)"):
            assert measures < MEASURES_AT_MOST
