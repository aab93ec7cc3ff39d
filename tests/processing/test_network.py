"""Spans of time covered by windows as long as they fit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from src.processing.conclusions.network import TIME_RANGES, tiles

ZONES = ("Europe/Rome", "UTC", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "America/St_Johns")
YEAR = 365 * 288


@given(st.sampled_from(ZONES), st.sampled_from(sorted(TIME_RANGES)), st.integers(0, YEAR))
def test_every_instant_of_a_range_lies_in_one_window_and_days_and_hours_are_whole(zone: str, name: str, fifths: int):
    length, finest = TIME_RANGES[name]
    end = datetime(2023, 1, 1, tzinfo=UTC) + timedelta(minutes=5 * fifths)
    if finest == "1hour":
        end = end.replace(minute=0)
    covered = sorted(tiles(end - length, end, finest, ZoneInfo(zone)), key=lambda tile: tile[1])
    assert (covered[0][1], covered[-1][2]) == (end - length, end)
    assert all(one[2] == following[1] for one, following in zip(covered, covered[1:], strict=False))
    for window, first, last in covered:
        assert first < last
        for edge in (first, last):
            assert window != "1hour" or edge.minute == 0
            assert window != "1day" or edge.astimezone(ZoneInfo(zone)).time() == datetime.min.time()


def test_a_month_is_read_as_days_and_a_few_hours():
    end = datetime(2023, 6, 15, 9, tzinfo=UTC)
    found = tiles(end - timedelta(days=30), end, "1hour", ZoneInfo("Europe/Rome"))
    hours = sum((last - first) / timedelta(hours=1) for window, first, last in found if window == "1hour")
    assert hours == 24
    assert sum((last - first) / timedelta(days=1) for window, first, last in found if window == "1day") == 29
