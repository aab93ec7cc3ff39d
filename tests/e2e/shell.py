"""What a person at the machine does: commands typed in a copy of the project, one test at a time."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO

# Open as long as the process lives: a lock goes with its file.
_locked: list[IO[str]] = []


def typed(
    command: str, folder: Path, environment: Mapping[str, str], seconds: float, expect: int | None
) -> subprocess.CompletedProcess[str]:
    """A command as a person types it in a folder.

    Args:
        expect: the exit code without which the check fails; None: any.
    """
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=os.environ | dict(environment),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if expect is not None and done.returncode != expect:
        output = (done.stdout[-800:] + done.stderr[-2500:]).strip()
        raise AssertionError(f"`{command}` ended with {done.returncode}: {output}")
    return done


def lock(path: Path) -> bool:
    """Locks a file until this process ends, however it ends; False where another test holds it."""
    file = path.open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return False
    _locked.append(file)
    return True
