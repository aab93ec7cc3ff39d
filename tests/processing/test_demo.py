"""The demo's network lives in the present: its readings come once each, in the order in which they arrive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from src.quickstart import demo, simulation


@pytest.fixture(scope="module")
def simulated() -> pd.DataFrame:
    return simulation.simulate()[0]


@pytest.mark.parametrize("now", [datetime(2026, 11, 25, 3, tzinfo=UTC), datetime(2031, 1, 6, tzinfo=UTC)])
def test_the_present_is_in_the_fourth_week_at_the_same_hour_of_the_week(now: datetime):
    moved = simulation.START + demo.offset_at(now)
    assert timedelta(weeks=3) <= now - moved < timedelta(weeks=4)
    assert moved.weekday() == simulation.START.weekday()
    assert moved.time() == simulation.START.time()


def test_every_reading_arrives_once_however_often_one_looks(simulated: pd.DataFrame):
    offset = timedelta(weeks=100)
    begin = simulation.START + offset
    looks = [begin, begin + timedelta(days=20), begin + timedelta(days=20, minutes=7), begin + timedelta(days=40)]
    parts = [demo.between(simulated, offset, since, until) for since, until in zip(looks, looks[1:], strict=False)]
    whole = demo.between(simulated, offset, looks[0], looks[-1])
    key = ["node_id", "timestamp"]
    together = pd.concat(parts).sort_values(key, ignore_index=True)
    pd.testing.assert_frame_equal(together, whole.sort_values(key, ignore_index=True))
    assert not whole.duplicated(key).any()
    assert (whole["ingestion_timestamp"] - whole["timestamp"]).between(pd.Timedelta(0), pd.Timedelta(minutes=5)).all()


def test_after_the_fourth_week_it_comes_again(simulated: pd.DataFrame):
    end = simulation.START + timedelta(days=simulation.DAYS)
    fourth = demo.between(simulated, timedelta(0), end - timedelta(days=6), end - timedelta(days=5))
    sixth = demo.between(simulated, timedelta(0), end + timedelta(days=8), end + timedelta(days=9))
    assert list(sixth["flow_rate"].dropna()) == list(fourth["flow_rate"].dropna())
