"""An operator's machine, whose engine is a stand-in: the scripts in a copy of the project, and their calls to it.
The real engine is used by ./scripts/test_stack.sh."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Fit for a secret.
GOOD = "r9x-Kq2!mV7-zT4.wB"
# Names of folders and files, as people and accidents give them.
HOSTILE = ("nas daily", 'it\'s "here"', "a\nb", "-rf", "$(touch hacked)", "*", "trailing\n")
SAVED = "rdb_bgsave_in_progress:0\nrdb_last_save_time:{}\nrdb_last_bgsave_status:{}\n"


@dataclass
class Machine:
    """A copy of the project's scripts, in a folder with a space in its name, and an engine that notes its questions."""

    folder: Path
    fake: Path

    def run(self, command: list[str], expect: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        (self.fake / "persistence").write_text(SAVED.format(1, "ok"))
        if not (self.fake / "keeps-failing").exists():
            (self.fake / "persistence-then").write_text(SAVED.format(2, "ok"))
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=os.environ | {"FAKE": str(self.fake), "PATH": f"{self.fake}:{os.environ['PATH']}"} | environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        assert expect is None or done.returncode == expect, done.stderr + done.stdout
        return done

    def answers(self, name: str, text: str = "") -> None:
        (self.fake / name).write_text(text)

    def calls(self) -> list[str]:
        file = self.fake / "asked"
        return file.read_text().splitlines() if file.exists() else []

    def settings(self, text: str) -> None:
        (self.folder / ".env.processing").write_text(text)

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True).stdout.strip()


def machine_in(folder: Path) -> Machine:
    project, fake = folder / "the project", folder / "fake"
    fake.mkdir()
    for name in ("scripts", "containers", "nginx", "alerts"):
        shutil.copytree(ROOT / name, project / name)
    shutil.copy(ROOT / "docker-compose.processing.yml", project)
    (fake / "docker").symlink_to(ROOT / "tests/fake_docker.sh")
    # One is waited for a second, so that Redis' clock moves on.
    (fake / "sleep").write_text("#!/bin/sh\n")
    (fake / "sleep").chmod(0o755)
    return Machine(project, fake)


def old_backup(folder: Path, name: str, **more: str) -> Path:
    """A backup as earlier versions wrote them, and with `about` as this one does."""
    made = folder / name
    made.mkdir(parents=True)
    for file, content in ({"database.dump": "old"} | more).items():
        (made / file).write_text(content)
    sums = subprocess.run("sha256sum -- *", shell=True, cwd=made, capture_output=True, text=True, check=True).stdout
    (made / "SHA256SUMS").write_text(sums)
    return made


def instants(count: int) -> list[str]:
    return [f"{datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=day):%Y-%m-%dT%H%M%SZ}" for day in range(count)]
