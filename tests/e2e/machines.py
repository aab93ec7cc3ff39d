"""Machines on one machine: a Docker engine each, with network, mounts, processes and a name of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

PREFIX = "abbanoa-swarm-test"
# On disk, for images take gigabytes.
FOLDERS = Path("/var/tmp")
# Of the range that is set aside for trials of networks (RFC 2544): a link to here for each, and one between the two.
HERE = "198.18.83.{}/30"
REGISTRY = "198.18.83.9:5000"
REGISTRY_SETTINGS = """
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "{address}"}}
log: {{level: warn}}
"""
# What is mounted in there ends with the last process in there.
ENGINE = """
hostname "$1" && mount -t tmpfs tmpfs /run && ip link set lo up || exit 1
dockerd --data-root "$2/data" --exec-root /run/docker --pidfile /run/docker.pid --host "unix://$2/engine.sock" \
    --cgroup-parent "/$3" --no-new-privileges --insecure-registry "$4" &
engine=$!
trap 'kill "$engine"' TERM
wait "$engine"
wait "$engine"
"""


@dataclass
class Machine:
    """An engine in `folder`; `address` is where the other reaches it, `outside` where this process does."""

    name: str
    folder: Path
    address: str
    outside: str
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def space(self) -> str:
        return f"{PREFIX}-{self.name}"

    @property
    def environment(self) -> dict[str, str]:
        return {"DOCKER_HOST": f"unix://{self.folder}/engine.sock"}

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        spaces = ["--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with (self.folder / "engine.log").open("ab") as log:
            self.process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.space}", "unshare", *spaces, "sh", "-c", ENGINE]
                + ["sh", self.name, str(self.folder), PREFIX, REGISTRY],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while subprocess.run(["docker", "info"], env=os.environ | self.environment, capture_output=True).returncode:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the engine of {self.name} does not start: {self.log()}")
            time.sleep(0.5)

    def serve_registry(self) -> subprocess.Popen[bytes]:
        """A registry of images that both machines reach; it is ended with the network space."""
        settings = self.folder / "registry.yml"
        settings.write_text(REGISTRY_SETTINGS.format(folder=self.folder / "registry", address=REGISTRY))
        with (self.folder / "registry.log").open("ab") as log:
            return subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.space}", "docker-registry", "serve", str(settings)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def log(self) -> str:
        return (self.folder / "engine.log").read_text()[-2000:]

    def docker(self, *arguments: str, seconds: float = 120) -> str:
        done = subprocess.run(
            ["docker", *arguments],
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, f"docker {' '.join(arguments)} on {self.name}: {done.stderr[-800:]}"
        return done.stdout.strip()

    def take(self, images: list[str]) -> None:
        """Carries images over from the engine that this process talks to otherwise."""
        saved = subprocess.Popen(["docker", "save", *images], stdout=subprocess.PIPE)
        subprocess.run(
            ["docker", "load", "-q"], env=os.environ | self.environment, stdin=saved.stdout, check=True, timeout=600,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        assert saved.wait(60) == 0

    def containers(self, service: str) -> list[str]:
        """Ids of those of a service that run here."""
        return self.docker("ps", "-q", "-f", f"label=com.docker.swarm.service.name={service}").split()

    def stop(self, *, at_once: bool = False) -> None:
        """Ends the engine and all that runs on it; at once, as a power cut does."""
        if self.process is None or self.process.poll() is not None:
            return
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL if at_once else signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            # Its first process ends with it, and with that every other.
            self.process.kill()
            self.process.wait(30)


def _ip(*arguments: str, check: bool = True) -> str:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=check).stdout


def link_of(machine: Machine) -> str:
    """The end that lies here; a link's name has fifteen characters at most."""
    return f"abbanoa-{machine.name}"


def join(one: Machine, two: Machine) -> None:
    """Network spaces for both, with a link from each to here and one between them."""
    for number, machine in enumerate((one, two)):
        here = link_of(machine)
        _ip("netns", "add", machine.space)
        _ip("link", "add", here, "type", "veth", "peer", "name", "outside", "netns", machine.space)
        _ip("addr", "add", HERE.format(4 * number + 1), "dev", here)
        _ip("link", "set", here, "up")
        _ip("-n", machine.space, "addr", "add", HERE.format(4 * number + 2), "dev", "outside")
        _ip("-n", machine.space, "link", "set", "outside", "up")
    _ip("-n", one.space, "link", "add", "between", "type", "veth", "peer", "name", "between", "netns", two.space)
    for machine in (one, two):
        _ip("-n", machine.space, "addr", "add", f"{machine.address}/30", "dev", "between")
        _ip("-n", machine.space, "link", "set", "between", "up")


def pair(folder: Path) -> tuple[Machine, Machine]:
    """Two that are not there yet."""
    return (
        Machine("one", folder / "one", "198.18.83.9", "198.18.83.2"),
        Machine("two", folder / "two", "198.18.83.10", "198.18.83.6"),
    )


def remove(machines: tuple[Machine, ...]) -> None:
    """Everything that was made for them, also what a test that was killed has left under these names."""
    for machine in machines:
        machine.stop()
        for pid in _ip("netns", "pids", machine.space, check=False).split():
            os.kill(int(pid), signal.SIGKILL)
        if machine.space in _ip("netns", "list"):
            _ip("netns", "delete", machine.space)
        _ip("link", "delete", link_of(machine), check=False)
    time.sleep(1)
    for left in FOLDERS.glob(f"{PREFIX}-*"):
        shutil.rmtree(left, ignore_errors=True)
    for group in Path("/sys/fs/cgroup").glob(f"**/{PREFIX}"):
        for path in (*sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True), group):
            # The engine removes its own when it ends.
            with contextlib.suppress(FileNotFoundError):
                path.rmdir()
