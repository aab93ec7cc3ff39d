"""The containers, as an operator has them: commands in a copy of the project, and real clients from outside."""

from __future__ import annotations

import itertools
import json
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Self

import httpx

from tests.e2e.shell import typed

HTTPS, HTTP, API = "https://localhost:8443", "http://localhost:8080", "http://localhost:8000"
POSTGRES, REDIS = "abbanoa-postgres-processing", "abbanoa-redis-processing"
SCHEMA = "water_infrastructure"
# Secrets that the test gives: one by a file, with what Redis and shells give a meaning to, and two by the settings.
REDIS_PASSWORD = 'r3dis-k7"Q!x\\n9f \\x41$Lm2-Zw'
SMTP_PASSWORD, WEBHOOK = "m4il-Tq9-vK2-hY7-bN", "https://hooks.invalid/w3b-hook-Rk7-Pq2"
SERVICES = ("postgres", "redis", "processing", "api", "api-replica", "nginx")
CYCLES = (
    "SELECT count(*) FROM water_infrastructure.processing_jobs WHERE status = 'completed' "
    "AND (result_summary ->> 'readings')::int {}"
)


@dataclass
class Stack:
    """A copy of the project in `folder`, whose compose file is run under `project`."""

    folder: Path
    project: str
    keys: dict[str, str] = field(default_factory=dict)
    # What happened to which tick -> the log lines about it, by container.
    ticks: dict[str, set[str]] = field(default_factory=dict)
    # When the database was taken back to an earlier state: ticks since then are claimed again, and rightly.
    restores: list[tuple[str, str]] = field(default_factory=list)

    def run(
        self, command: str, seconds: float = 300, expect: int | None = 0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """A command as a person types it."""
        return typed(command, self.folder, environment, seconds, expect)

    def compose(self, arguments: str, seconds: float = 300) -> str:
        return self.run(f"docker-compose -f docker-compose.processing.yml {arguments}", seconds).stdout

    def containers(self, service: str) -> list[str]:
        names = self.run(
            f"docker ps -a --filter label=com.docker.compose.project={self.project} "
            f"--filter label=com.docker.compose.oneoff=False "
            f"--filter label=com.docker.compose.service={service} --format '{{{{.Names}}}}'"
        ).stdout.split()
        return sorted(names)

    def state(self, container: str) -> str:
        form = "{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}}{{end}} {{.State.Running}}"
        status, running = self.run(f"docker inspect -f '{form}' {container}").stdout.split()
        return status if running == "true" or status == "exited" else "stopped"

    def healthy(self, service: str, count: int | None = None) -> bool:
        states = [self.state(name) for name in self.containers(service)]
        return bool(states) and set(states) == {"healthy"} and count in (None, len(states))

    def sql(self, statement: str) -> str:
        done = subprocess.run(
            ["docker", "exec", "-i", POSTGRES, "psql", "-XqAt", "-U", "abbanoa_user", "-d", "abbanoa_processing"],
            input=statement,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def rows(self) -> dict[str, list[str]]:
        """Every row of every table, as text, in order."""
        tables = self.sql(f"SELECT tablename FROM pg_tables WHERE schemaname = '{SCHEMA}' ORDER BY 1").split()
        return {
            table: self.sql(f"SELECT t::text FROM {SCHEMA}.{table} t ORDER BY t::text").split("\n") for table in tables
        }

    def note_ticks(self) -> None:
        """Keeps what the processing replicas have logged of ticks: a container's log goes with it."""
        for name in self.containers("processing"):
            container = self.run(f"docker inspect -f '{{{{.Id}}}}' {name}").stdout.strip()
            for line in self.run(f"docker logs {name} 2>&1").stdout.splitlines():
                entry = json.loads(line) if line.startswith("{") else {}
                if entry.get("event") == "tick claimed":
                    self.ticks.setdefault(f"tick claimed {entry['as_of']}", set()).add(container + line)
                elif entry.get("event") == "job ended" and entry.get("job_type") == "processing_cycle":
                    self.ticks.setdefault(f"job ended {entry['scheduled_for']}", set()).add(container + line)

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Inside the block the database is taken back."""
        begun = datetime.now(UTC).isoformat()
        yield
        self.restores.append((begun, datetime.now(UTC).isoformat()))

    def doubled(self) -> set[str]:
        """What happened to a tick more than once, without a restore between."""

        def instants(lines: set[str]) -> list[str]:
            return sorted(json.loads(line[line.index("{") :])["timestamp"] for line in lines)

        return {
            tick
            for tick, lines in self.ticks.items()
            for first, second in itertools.pairwise(instants(lines))
            if not any(first <= end and second >= begun for begun, end in self.restores)
        }

    def crash(self, container: str) -> None:
        """Ends its first process as the kernel would, which the engine takes for a crash."""
        pid = self.run(f"docker inspect -f '{{{{.State.Pid}}}}' {container}").stdout.strip()
        assert int(pid) > 1
        self.run(f"kill -9 {pid}")

    def monitor(self) -> tuple[int, dict]:
        done = self.run("./scripts/monitor_processing.sh --json", 60, expect=None)
        return done.returncode, json.loads(done.stdout)

    def key(self, scope: str, expires: str = "90d") -> str:
        made = self.run(f"./scripts/create_api_key.sh test-{scope} --scope {scope} --expires {expires}").stdout.strip()
        assert re.fullmatch(r"abk_[0-9a-f]{12}_[0-9a-f]{64}", made), made
        return made

    def trust(self) -> ssl.SSLContext:
        """The certificate that Nginx made for itself, and no other."""
        pem = self.run("docker exec abbanoa-nginx cat /run/secrets/fullchain.pem").stdout
        return ssl.create_default_context(cadata=pem)

    def client(self, scope: str | None = "read", **more) -> httpx.Client:
        headers = {"X-API-Key": self.keys[scope]} if scope else {}
        return httpx.Client(base_url=HTTPS, headers=headers, timeout=15, **({"verify": self.trust()} | more))


class Callers:
    """Threads that ask until the block is left; each runs what is given until `stopping` is set."""

    def __init__(self, *calls: Callable[[], None]) -> None:
        self.stopping = threading.Event()
        self._threads = [threading.Thread(target=call) for call in calls]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join()


class Load(Callers):
    """Callers who ask through Nginx all the time, and what went wrong for them."""

    PATHS = (
        "/api/v1/nodes?limit={number}",
        "/api/v1/nodes/inlet-river/metrics",
        "/api/v1/nodes/inlet-river/history?limit={number}",
        "/api/v1/nodes/customers-north/history?time_window=5min&limit={number}",
        "/api/v1/network/metrics?time_range=24h",
        "/api/v1/dashboard/summary",
        "/api/v1/status",
        "/health",
    )

    def __init__(self, stack: Stack, callers: int = 6) -> None:
        super().__init__(*(partial(self._ask, number) for number in range(callers)))
        self._stack = stack
        self._trust = stack.trust()
        self.requests = self.sent_again = 0
        self.failures: list[str] = []

    def _get(self, client: httpx.Client, path: str) -> httpx.Response:
        """As every browser: where the server closed an idle connection just then, the request is sent again."""
        try:
            return client.get(path)
        except httpx.RemoteProtocolError:
            self.sent_again += 1
            return client.get(path)

    def _ask(self, number: int) -> None:
        with self._stack.client(verify=self._trust) as client:
            turn = number
            while not self.stopping.is_set():
                # Another question each time, which no cache has seen.
                path = self.PATHS[turn % len(self.PATHS)].format(number=100 + turn % 900)
                turn += 1
                begun = time.strftime("%H:%M:%S")
                try:
                    answer = self._get(client, path)
                    if answer.status_code != 200:
                        self.failures.append(f"{begun} {path}: {answer.status_code} {answer.text[:200]}")
                except httpx.HTTPError as error:
                    self.failures.append(f"{begun} {path}: {type(error).__name__} {error}")
                self.requests += 1
                # Shows a gap of a tenth of a second; asking more often would slow what is tested.
                self.stopping.wait(0.2)


def apis(stack: Stack) -> list[str]:
    return stack.containers("api") + stack.containers("api-replica")
