"""How readings are portioned: what a slice of a chunk may hold, however they are spread over nodes and days."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.domain.days import day_start
from src.domain.vouching import LAG_DAYS, LEAD_DAYS
from src.processing.jobs import chunks
from src.processing.warehouse.news import NodeNews
from src.processing.warehouse.reader import TooManyReadings
from tests.system import START

ROME = ZoneInfo("Europe/Rome")
DAYS, MOST = 40, 1000
FIRST = day_start(START, ROME)
# Readings per day of a node: a row an hour to one every 15 seconds would be 24 to 5 760; here, at most 3 600.
DENSITIES = st.integers(0, DAYS).flatmap(
    lambda change: st.tuples(st.just(change), *[st.sampled_from([0, 1, 10, 24, 96, 400, 900, 3600])] * 2)
)


def test_nodes_that_begin_on_different_days_are_not_read_together():
    late = NodeNews("late", FIRST + timedelta(hours=3), 40)
    others = [NodeNews(f"n{k}", FIRST + timedelta(days=30, hours=k % 20), 3) for k in range(100)]
    planned = chunks.plan([late, *others], FIRST + timedelta(days=31), MOST, ROME)
    assert [(len(c.node_ids), c.read_start) for c in planned] == [
        (1, FIRST + timedelta(hours=3)), (100, FIRST + timedelta(days=30))
    ]  # fmt: skip


def test_nodes_of_one_district_share_chunks_and_a_chunk_knows_its_districts():
    news = [NodeNews(f"n{k}", FIRST, 500, districts=("south" if k % 2 else "north",)) for k in range(4)]
    planned = chunks.plan(news, FIRST + timedelta(days=1), MOST, ROME)
    assert [(c.node_ids, c.districts) for c in planned] == [(["n0", "n2"], ["north"]), (["n1", "n3"], ["south"])]
    unknown = chunks.plan([*news[:1], NodeNews("x", FIRST, 1)], FIRST + timedelta(days=1), MOST, ROME)
    assert [c.districts for c in unknown] == [None]


@pytest.mark.parametrize("days", [1, 2, 3, 7])
def test_after_a_slice_that_had_to_be_shorter_the_next_is_at_most_twice_as_long(days: int):
    end = day_start(FIRST, ROME, DAYS)
    chunk = SimpleNamespace(
        read_start=FIRST, read_end=end, resume_from=FIRST, expected_readings=1, result_summary={"days": days}
    )
    assert chunks.slice_end(chunk, MOST, ROME) == day_start(FIRST, ROME, 2 * days)
    chunk.result_summary = {}
    assert chunks.slice_end(chunk, MOST, ROME) == end


@given(
    spread=st.lists(st.tuples(DENSITIES, st.integers(0, DAYS - 1)), min_size=1, max_size=12),
    wrong=st.sampled_from([0.01, 0.5, 1, 3]),
)
def test_no_slice_of_any_plan_reads_more_than_twice_its_limit_but_one_day_of_one_node(
    spread: list[tuple[tuple[int, int, int], int]], wrong: float
):
    end = day_start(FIRST, ROME, DAYS)
    days = np.array([[before] * change + [after] * (DAYS - change) for (change, before, after), _ in spread])
    beginnings = [begin for _, begin in spread]

    def rows(node_ids: Sequence[str], first: datetime, until: datetime) -> int:
        begin, stop = (round((instant - FIRST) / timedelta(days=1)) for instant in (first, until))
        return sum(int(days[int(node)][max(begin - LEAD_DAYS, 0) : stop + LAG_DAYS].sum()) for node in node_ids)

    # What is expected may be wrong by much: rows go on arriving, and a view may return anything.
    news = [
        NodeNews(str(k), begun, round(wrong * rows([str(k)], begun, end)))
        for k, begin in enumerate(beginnings)
        for begun in [day_start(FIRST, ROME, begin)]
    ]
    written: dict[str, list[tuple[datetime, datetime]]] = {}
    for chunk in chunks.plan(news, end, MOST, ROME):
        resume_from, summary = day_start(chunk.read_start, ROME), {}
        while resume_from < end:

            def read(node_ids: Sequence[str], until: datetime, most: int | None, start: datetime = resume_from) -> int:
                found = rows(node_ids, start, until)
                if most is not None and found > most:
                    raise TooManyReadings
                return found

            row = SimpleNamespace(**vars(chunk) | {"resume_from": resume_from, "result_summary": summary})
            planned = chunks.slice_end(row, MOST, ROME)  # type: ignore[arg-type]
            parts = []

            def noted(node_ids: Sequence[str], until: datetime, most: int | None) -> tuple[list[str], int]:
                return list(node_ids), read(node_ids, until, most)

            for until, (node_ids, found) in chunks.portions(noted, chunk.node_ids, resume_from, planned, MOST, ROME):
                one_day = until <= day_start(resume_from, ROME, 1)
                assert found <= 2 * MOST or (len(node_ids) == 1 and one_day)
                parts.append(until)
                for node_id in node_ids:
                    written.setdefault(node_id, []).append((resume_from, until))
            assert len(set(parts)) == 1
            summary = {"days": chunks.days_between(resume_from, parts[0])}
            resume_from = parts[0]
    for k, begin in enumerate(beginnings):
        spans = written[str(k)]
        assert spans[0][0] == day_start(FIRST, ROME, begin)
        assert [stop for _, stop in spans] == [start for start, _ in spans[1:]] + [end]
