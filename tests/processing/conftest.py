from __future__ import annotations

from pathlib import Path

import pytest

from tests.operator import Machine, machine_in


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Its scripts find an engine that notes what it is asked."""
    return machine_in(tmp_path)
