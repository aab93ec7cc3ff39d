"""What was checked and what came of it, a line each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Report:
    """Counts checks; one that fails does not stop the next."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed: list[str] = []

    @contextmanager
    def check(self, name: str) -> Iterator[None]:
        """The block either ends, or says by an exception what is wrong."""
        begun = time.monotonic()
        try:
            yield
        except Exception as error:
            self.failed.append(name)
            print(f"FAILED  {name}\n        {type(error).__name__}: {str(error)[:2000]}", flush=True)
        else:
            self.passed += 1
            print(f"ok      {name} ({time.monotonic() - begun:.1f} s)", flush=True)


def eventually(condition, seconds: float, what: str):
    """What the condition gives when it first holds, exceptions counting as not yet."""
    deadline = time.monotonic() + seconds
    problem: object = None
    while time.monotonic() < deadline:
        try:
            if found := condition():
                return found
        except Exception as error:
            problem = error
        time.sleep(0.5)
    raise AssertionError(f"{what} did not come to be within {seconds} s ({problem})")
