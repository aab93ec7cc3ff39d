"""Which nodes have news, asked of a real query engine."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from src.processing.warehouse.client import connect
from src.processing.warehouse.news import Watermark, find_news
from src.settings import Settings
from tests.processing.test_warehouse import NODES, START, warehouse

__all__ = ["warehouse"]

AS_OF = START + timedelta(hours=24)


def news_of(settings: Settings, marks: dict[str, Watermark]) -> dict[str, object]:
    return {n.node_id: n for n in find_news(connect(settings), settings, marks, AS_OF)[0]}


def test_nodes_never_seen_are_read_from_their_first_reading(warehouse: Settings):
    news, rejected = find_news(connect(warehouse), warehouse, {}, AS_OF)
    assert {(n.node_id, n.read_from, n.readings) for n in news} == {(node, START, 25) for node in NODES}
    assert rejected == Counter(timestamp_in_future=23 * len(NODES))


def test_a_node_with_nothing_new_is_left_alone_and_one_with_news_is_read_from_before_its_watermark(warehouse: Settings):
    marks = {node: Watermark(AS_OF, START) for node in NODES}
    assert news_of(warehouse, marks) == {}
    settings = warehouse.model_copy(update={"late_arrival_hours": 2})
    behind = marks | {"n1": Watermark(AS_OF - timedelta(hours=1), START)}
    assert {n: v.read_from for n, v in news_of(settings, behind).items()} == {"n1": AS_OF - timedelta(hours=3)}


def test_a_row_that_arrived_late_is_found_however_far_back_within_the_lookback(warehouse: Settings):
    marks = {node: Watermark(AS_OF, START - timedelta(minutes=1) if node == "n1" else START) for node in NODES}
    settings = warehouse.model_copy(update={"late_arrival_hours": 0})
    assert {n: v.read_from for n, v in news_of(settings, marks).items()} == {"n1": START}
