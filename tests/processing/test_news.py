"""Which nodes have news, found by a real query engine."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from google.cloud import bigquery

from src.domain.readings import EARLIEST
from src.domain.vouching import LAG_DAYS
from src.processing.warehouse import counts
from src.processing.warehouse.client import connect, run_query
from src.processing.warehouse.marks import Watermark, portions
from src.processing.warehouse.news import find_news
from src.settings import Settings
from tests.processing.test_warehouse import NODES, START, warehouse

__all__ = ["warehouse"]

AS_OF = START + timedelta(hours=24)


def news_of(settings: Settings, marks: dict[str, Watermark]) -> dict[str, object]:
    return {n.node_id: n for n in find_news(connect(settings), settings, marks, AS_OF, EARLIEST).nodes}


def test_nodes_never_seen_are_read_from_their_first_reading(warehouse: Settings):
    news = find_news(connect(warehouse), warehouse, {}, AS_OF, EARLIEST)
    assert {(n.node_id, n.read_from, n.readings) for n in news.nodes} == {(node, START, 25) for node in NODES}
    assert set(news.unknown) == set(NODES)
    assert news.rejected == Counter(timestamp_in_future=23 * len(NODES))


def test_a_node_with_nothing_new_is_left_alone_and_one_with_news_is_read_from_the_row_before_it(warehouse: Settings):
    marks = {node: Watermark(AS_OF, START, 25) for node in NODES}
    assert news_of(warehouse, marks) == {}
    settings = warehouse.model_copy(update={"late_arrival_hours": 2})
    behind = marks | {"n1": Watermark(AS_OF - timedelta(hours=1), START, 25)}
    assert {n: v.read_from for n, v in news_of(settings, behind).items()} == {"n1": AS_OF - timedelta(hours=1)}


def test_where_a_row_is_not_stamped_reading_begins_before_the_watermark(warehouse: Settings):
    settings = warehouse.model_copy(update={"late_arrival_hours": 2})
    known = AS_OF - timedelta(hours=4)
    marks = {node: Watermark(known, known, 1) for node in NODES}
    stamped = find_news(connect(settings), settings, marks, AS_OF, EARLIEST).nodes
    assert {node.read_from for node in stamped} == {known}
    view = bigquery.Table("demo.water_infrastructure.readings_unstamped")
    view.view_query = (
        "SELECT * REPLACE (CAST(NULL AS TIMESTAMP) AS ingestion_timestamp) "
        "FROM `demo.water_infrastructure.sensor_readings_ml`"
    )
    connect(settings).queries.create_table(view, timeout=30)
    unstamped = settings.model_copy(update={"bigquery_table": "readings_unstamped"})
    found = find_news(connect(unstamped), unstamped, marks, AS_OF, EARLIEST).nodes
    assert {node.read_from for node in found} == {known - timedelta(hours=2)}


def test_a_row_that_arrived_late_is_found_however_far_back_within_the_lookback(warehouse: Settings):
    marks = {node: Watermark(AS_OF, START - timedelta(hours=node == "n1"), 25) for node in NODES}
    settings = warehouse.model_copy(update={"late_arrival_hours": 0})
    # And as far before it as it may affect.
    before = timedelta(days=LAG_DAYS + 1)
    assert {n: v.read_from for n, v in news_of(settings, marks).items()} == {"n1": START - before}


def test_a_node_silent_for_longer_than_the_lookback_is_read_from_where_it_stopped(warehouse: Settings):
    settings = warehouse.model_copy(update={"late_arrival_lookback_days": 1})
    # The others' watermarks lie so late that the lookback no longer reaches this one's.
    marks = {node: Watermark(AS_OF + timedelta(days=3), START, 0) for node in NODES}
    marks["n1"] = Watermark(START + timedelta(hours=5), START, 0)
    later = AS_OF + timedelta(days=3)
    assert find_news(connect(settings), settings, marks, later, EARLIEST).nodes == []
    marks = {"n1": Watermark(START - timedelta(days=40), START), "gone": Watermark(AS_OF, START)}
    assert news_of(settings, marks)["n1"].read_from == START


def test_what_is_beyond_retention_is_not_read(warehouse: Settings):
    keep_from = START + timedelta(hours=10)
    news = find_news(connect(warehouse), warehouse, {}, AS_OF, keep_from)
    assert {(n.read_from, n.readings) for n in news.nodes} == {(keep_from, 15)}


def test_a_node_whose_first_load_was_interrupted_is_read_again_as_far_as_the_lookback(warehouse: Settings):
    marks = {node: Watermark(AS_OF, None if node == "n1" else START, 25) for node in NODES}
    settings = warehouse.model_copy(update={"late_arrival_lookback_days": 1})
    found = news_of(settings, marks)
    assert {n: v.read_from for n, v in found.items()} == {"n1": AS_OF - timedelta(days=1)}
    assert found["n1"].readings == 25


def test_a_node_of_which_more_rows_arrived_recently_than_were_counted_is_read_from_the_earliest_of_them(
    warehouse: Settings,
):
    marks = {node: Watermark(AS_OF, START, 24 if node == "n1" else 25) for node in NODES}
    settings = warehouse.model_copy(update={"late_arrival_hours": 0})
    found = news_of(settings, marks)
    assert {n: v.read_from for n, v in found.items()} == {"n1": START - timedelta(days=LAG_DAYS + 1)}
    assert (found["n1"].latest_arrival, found["n1"].recent_rows) == (START, 25)


def test_rows_out_of_sight_are_no_news_and_are_reported(warehouse: Settings):
    marks = {node: Watermark(AS_OF, START, 30 if node == "n1" else 25) for node in NODES}
    news = find_news(connect(warehouse), warehouse, marks, AS_OF, EARLIEST)
    assert (news.nodes, news.fewer) == ([], {"n1": 25})


def test_a_margin_that_is_changed_loses_nothing_and_reads_each_node_at_most_once_more(warehouse: Settings):
    marks = {node: Watermark(AS_OF, START + timedelta(minutes=90), 0) for node in NODES}
    assert news_of(warehouse, marks) == {}
    wider = warehouse.model_copy(update={"late_arrival_margin_minutes": 120})
    found = find_news(connect(wider), wider, marks, AS_OF, EARLIEST).nodes
    counted = {n.node_id: Watermark(AS_OF, n.latest_arrival, n.recent_rows) for n in found}
    assert set(counted) == set(NODES)
    assert news_of(wider, counted) == {}


def test_100_000_watermarks_fit_into_one_request():
    at = AS_OF.replace(microsecond=123_456)
    marks = {f"node-{number:015d}": Watermark(at, at, 240) for number in range(100_000)}
    (portion,) = portions(marks)
    config = bigquery.QueryJobConfig(
        query_parameters=[bigquery.ArrayQueryParameter("marks", "STRING", portion.entries)]
    )
    assert len(json.dumps(config.to_api_repr())) < 8_000_000


def test_watermarks_that_no_request_holds_are_sent_in_several_that_find_the_same(
    warehouse: Settings, monkeypatch: pytest.MonkeyPatch
):
    marks = {node: Watermark(AS_OF - timedelta(hours=1), START, 24) for node in [*NODES[1:], "gone", "ñ"]}
    at_once = find_news(connect(warehouse), warehouse, marks, AS_OF, EARLIEST)
    monkeypatch.setattr("src.processing.warehouse.marks.MOST_BYTES", 80)
    assert len(list(portions(marks))) == len(marks)
    in_parts = find_news(connect(warehouse), warehouse, marks, AS_OF, EARLIEST)
    assert set(at_once.unknown) == {"n1"}
    assert replace(in_parts, bytes_read=0) == replace(at_once, bytes_read=0)
    assert {n.node_id for n in at_once.nodes} == set(NODES)


def test_a_first_start_looks_at_the_table_once_and_a_new_node_later_on_is_looked_up(
    warehouse: Settings, monkeypatch: pytest.MonkeyPatch
):
    queries: list[str] = []

    def counted(*arguments: Any) -> Any:
        queries.append(arguments[2])
        return run_query(*arguments)

    monkeypatch.setattr(counts, "run_query", counted)
    assert len(news_of(warehouse, {})) == len(NODES)
    assert len(queries) == 1
    settings = warehouse.model_copy(update={"late_arrival_lookback_days": 1})
    marks = {node: Watermark(AS_OF, START, 25) for node in NODES[1:]}
    assert {n: v.read_from for n, v in news_of(settings, marks).items()} == {"n1": START}
    assert len(queries) == 3
