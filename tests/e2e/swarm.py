"""The stack on two machines, as an operator has it: commands on the manager, and callers from outside."""

from __future__ import annotations

import ssl
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx

from tests.e2e.machines import REGISTRY, Machine
from tests.e2e.shell import typed
from tests.e2e.stack import Callers

STACK = "abbanoa"


@dataclass
class Swarm:
    """A copy of the project in `folder` on the machine `one`, which is the manager and has the databases."""

    folder: Path
    one: Machine
    two: Machine
    key: str = ""
    # How the images come to the machines, as a flag of the script.
    images: str = ""
    measured: dict[str, object] = field(default_factory=dict)

    def run(self, command: str, seconds: float = 700, expect: int | None = 0) -> subprocess.CompletedProcess[str]:
        """A command as a person types it on the manager."""
        return typed(command, self.folder, self.one.environment, seconds, expect)

    def deploy(self, expect: int = 0) -> subprocess.CompletedProcess[str]:
        return self.run(f"./scripts/swarm.sh deploy --demo {self.images}", expect=expect)

    def use_loaded_images(self) -> None:
        """From now on without the registry."""
        self.images = "--loaded"
        file = self.folder / ".env.processing"
        file.write_text(file.read_text().replace(f"{REGISTRY}/abbanoa-", "abbanoa-stack-test-"))

    def sql(self, statement: str) -> str:
        psql = ("psql", "-XqAt", "-U", "abbanoa_user", "-d", "abbanoa_processing", "-c", statement)
        return self.one.docker("exec", self.one.containers(f"{STACK}_postgres")[0], *psql)

    def logs(self, service: str, lines: str = "all") -> str:
        return self.run(f"docker service logs --tail {lines} {STACK}_{service} 2>&1", 60).stdout

    def on(self, service: str) -> list[int]:
        """How many containers of a service run on each machine."""
        return [len(machine.containers(f"{STACK}_{service}")) for machine in (self.one, self.two)]

    def on_one(self, service: str) -> int:
        return len(self.one.containers(f"{STACK}_{service}"))

    def trust(self) -> ssl.SSLContext:
        """The certificate that was made for Nginx, and no other."""
        nginx = self.one.containers(f"{STACK}_nginx")[0]
        return ssl.create_default_context(cadata=self.one.docker("exec", nginx, "cat", "/run/secrets/fullchain.pem"))

    def client(self, machine: Machine, key: str | None = None, trust: ssl.SSLContext | None = None) -> httpx.Client:
        key = self.key if key is None else key
        headers = {"X-API-Key": key} if key else {}
        base = f"https://{machine.outside}:8443"
        return httpx.Client(base_url=base, headers=headers, timeout=15, verify=trust or self.trust())

    def status_of(self, client: httpx.Client, path: str) -> int:
        # The certificate names localhost.
        return client.get(path, extensions={"sni_hostname": "localhost"}).status_code


class Load(Callers):
    """Callers who ask through the Nginx of each of the machines all the time, and what went wrong for them."""

    PATHS = ("/api/v1/nodes?limit={}", "/api/v1/nodes/inlet-river/history?limit={}", "/api/v1/status", "/health")

    def __init__(self, swarm: Swarm, *entrances: Machine, callers: int = 3) -> None:
        self._swarm, self._trust = swarm, swarm.trust()
        super().__init__(*(partial(self._ask, machine, number) for machine in entrances for number in range(callers)))
        self.requests = 0
        self.failures: list[str] = []
        self.slowest = 0.0

    def _ask(self, machine: Machine, turn: int) -> None:
        with self._swarm.client(machine, trust=self._trust) as client:
            while not self.stopping.is_set():
                path = self.PATHS[turn % len(self.PATHS)].format(100 + turn % 900)
                turn += 1
                begun, clock = time.strftime("%H:%M:%S"), time.monotonic()
                try:
                    status = self._swarm.status_of(client, path)
                    if status != 200:
                        self.failures.append(f"{begun} {machine.name} {path}: {status}")
                except httpx.HTTPError as error:
                    self.failures.append(f"{begun} {machine.name} {path}: {type(error).__name__} {error}")
                self.requests += 1
                self.slowest = max(self.slowest, time.monotonic() - clock)
                self.stopping.wait(0.1)

    def figures(self) -> dict[str, object]:
        return {"requests": self.requests, "failed": len(self.failures), "slowest_seconds": round(self.slowest, 2)}

    def problems(self) -> str:
        return f"{dict(Counter(failure.split()[0] for failure in self.failures))}\n" + "\n".join(self.failures[:8])
