from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from src.processing.jobs import patience
from src.processing.jobs.runtime import Runtime, create_runtime
from src.settings import Settings
from tests.operator import Machine, machine_in


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Its scripts find an engine that notes how it is called."""
    return machine_in(tmp_path)


@pytest.fixture
def runtime(stack: Settings) -> Iterator[Runtime]:
    made = create_runtime(stack)
    yield made
    made.database.dispose()
    made.redis.close()


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What meets a passing failure of the database is tried again as often as ever, and at once."""
    monkeypatch.setattr(patience, "PAUSES", (0.01,) * len(patience.PAUSES))
