"""Settings: validated, and silent about secrets. (That they are documented: test_settings_files.py.)"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from src.clock import FrozenClock, LiveClock, TickingClock, clock_from
from src.settings import Settings, load_settings


def test_a_secret_is_never_shown():
    settings = Settings(postgres_password="hunter2", redis_password="hunter3")
    assert "hunter" not in f"{settings} {settings!r} {settings.model_dump()}"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("CHECK_INTERVAL_MINUTES", "soon", "CHECK_INTERVAL_MINUTES is wrong: .*integer"),
        ("CLOCK", "late", "CLOCK is wrong: expected live, frozen"),
        ("UTILITY_TIMEZONE", "Rome", "UTILITY_TIMEZONE is wrong: expected an IANA time zone"),
    ],
)
def test_a_wrong_one_is_named_in_one_line(
    name: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as ended:
        load_settings()
    assert ended.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert re.search(sentence, lines[0])


def test_clocks_tell_the_time_they_were_set_to():
    start = datetime(2023, 4, 1, tzinfo=UTC)
    assert isinstance(clock_from("live"), LiveClock)
    frozen = clock_from("frozen:2023-04-01T00:00:00Z")
    assert frozen == FrozenClock(start)
    assert frozen.real_seconds_until(start + timedelta(seconds=1)) is None
    ticking = clock_from(f"ticking:2023-04-01T00:00:00Z@{datetime.now(UTC).isoformat()}*60")
    assert isinstance(ticking, TickingClock)
    assert start <= ticking.now() < start + timedelta(hours=1)
    assert ticking.real_seconds_until(ticking.now() + timedelta(minutes=1)) == pytest.approx(1, abs=0.1)
    for wrong in ("frozen:2023-04-01", "ticking:", "tomorrow"):
        with pytest.raises(ValueError, match="offset|expected"):
            clock_from(wrong)
