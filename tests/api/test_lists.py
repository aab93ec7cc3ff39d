"""Lists: every one of them pages, newest first where time is the order, and stays small however much there is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import redis
from sqlalchemy import Engine, text

from src.api.pages import MOST_BYTES
from src.quickstart import engines
from src.settings import Settings
from tests.api.conftest import NOW
from tests.api.test_access import asking, healthy
from tests.system import eventually, process, run

SCHEMA = "water_infrastructure"
LISTS = {
    "/api/v1/nodes": "node_id",
    "/api/v1/districts": "district_id",
    "/api/v1/anomalies?status=all": "anomaly_id",
    "/api/v1/incidents?status=all": "incident_id",
    "/api/v1/works": "work_id",
    "/api/v1/alerts?state=all": "alert_id",
    "/api/v1/jobs": "job_id",
    "/api/v1/models": "model_id",
    "/api/v1/recommendations": "district_id",
    "/api/v1/network/efficiency?start_time=2022-01-01T00:00:00Z": "window_start",
}
# 400 rows of each, of 20 kB of JSON where a row has any: eight megabytes a list.
LARGE = "jsonb_build_object('text', repeat(md5(n::text), 600))"
GROWN = f"""
    INSERT INTO {SCHEMA}.nodes (node_id, node_name, district_id, metadata)
        SELECT 'grown ' || n, 'x', 'd' || n, {LARGE} FROM generate_series(1, 400) AS n;
    INSERT INTO {SCHEMA}.anomalies (timestamp, node_id, anomaly_type, severity, detection_method, district_id, metadata)
        SELECT timestamptz '{NOW}' - n * interval '1 min', 'grown ' || n, 'burst', 'info', 'x', 'd' || n, {LARGE}
        FROM generate_series(1, 400) AS n;
    INSERT INTO {SCHEMA}.works (kind, district_id, begin, note, created_by)
        SELECT 'network_change', 'd' || n, timestamptz '{NOW}' - n * interval '1 min', repeat(md5(n::text), 600), 'x'
        FROM generate_series(1, 400) AS n;
    INSERT INTO {SCHEMA}.alerts (rule, subject, severity, state, summary, details, since, fired_at)
        SELECT 'r', n::text, 'info', 'firing', 's', {LARGE}, timestamptz '{NOW}' - n * interval '1 min', '{NOW}'
        FROM generate_series(1, 400) AS n;
    INSERT INTO {SCHEMA}.processing_jobs (job_type, job_name, status, scheduled_for, created_at, triggered_by,
            result_summary)
        SELECT 'grown', 'x', 'completed', timestamptz '{NOW}' - n * interval '1 min',
            timestamptz '{NOW}' - n * interval '1 min', 'x', {LARGE} FROM generate_series(1, 400) AS n;
    INSERT INTO {SCHEMA}.ml_models (model_name, model_type, scope, version, status, created_at, metrics)
        SELECT 'grown', 'flow_prediction', 's', n::text, 'retired', '{NOW}', {LARGE}
        FROM generate_series(1, 400) AS n;
    INSERT INTO {SCHEMA}.recommendations (district_id, computed_at, outcome, reason, schedule)
        SELECT 'd' || n, '{NOW}', 'refused', 'x', jsonb_build_array({LARGE}) FROM generate_series(1, 400) AS n;
    INSERT INTO {SCHEMA}.network_efficiency (time_window, window_start, window_end, computation_timestamp, zone_metrics)
        SELECT '1hour', timestamptz '{NOW}' - n * interval '1 h', timestamptz '{NOW}' - (n - 1) * interval '1 h',
            '{NOW}', jsonb_build_object('d1', jsonb_build_object('input', n), 'd2', {LARGE})
        FROM generate_series(1, 400) AS n;
"""  # noqa: S608 - names of our own


@pytest.fixture(scope="module")
def grown(api: httpx.Client, database_of_api: Engine, served: Settings) -> Iterator[httpx.Client]:
    with database_of_api.begin() as connection:
        connection.execute(text(GROWN))
    with redis.Redis(host=served.redis_host, port=served.redis_port) as cache:
        cache.incr("abbanoa:generation")
    yield api
    with database_of_api.begin() as connection:
        for name in ("anomalies", "works", "alerts", "ml_models", "recommendations", "network_efficiency"):
            connection.execute(text(f"TRUNCATE {SCHEMA}.{name} CASCADE"))
        connection.execute(text("DELETE FROM water_infrastructure.nodes WHERE node_id LIKE 'grown %'"))
        connection.execute(text("DELETE FROM water_infrastructure.processing_jobs WHERE job_type = 'grown'"))


@pytest.mark.parametrize("path", LISTS)
def test_a_list_of_any_length_is_shown_whole_in_pages_of_bounded_size(grown: httpx.Client, path: str):
    shown: list[dict[str, Any]] = []
    url: str | None = f"{path}{'&' if '?' in path else '?'}limit=1000"
    while url:
        answer = grown.get(url)
        assert answer.status_code == 200, answer.text
        assert len(answer.content) < 2 * MOST_BYTES
        shown += answer.json()
        url = answer.links["next"]["url"] if "next" in answer.links else None
    identifiers = [row[LISTS[path]] for row in shown]
    assert len(identifiers) == len(set(identifiers)) >= 400
    if "timestamp" in shown[0]:
        assert [row["timestamp"] for row in shown] == sorted((row["timestamp"] for row in shown), reverse=True)


@pytest.mark.parametrize("path", LISTS)
def test_a_limit_is_respected_and_leads_on(grown: httpx.Client, path: str):
    answer = grown.get(f"{path}{'&' if '?' in path else '?'}limit=3")
    assert len(answer.json()) == 3
    following = grown.get(answer.links["next"]["url"]).json()
    assert {row[LISTS[path]] for row in answer.json()}.isdisjoint(row[LISTS[path]] for row in following)
    assert grown.get(f"{path}{'&' if '?' in path else '?'}cursor=AAAA").status_code in (200, 422)


def test_balances_are_shown_newest_first_and_of_one_district_where_one_is_named(grown: httpx.Client):
    path = "/api/v1/network/efficiency?start_time=2022-01-01T00:00:00Z&limit=5&district_id=d1"
    rows = grown.get(path).json()
    instants = [row["window_start"] for row in rows]
    assert instants == sorted(instants, reverse=True)
    assert instants[0] == (NOW - timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert [row["zone_metrics"] for row in rows] == [{"d1": {"input": n}} for n in range(1, 6)]


def test_balances_of_a_month_and_a_year_are_those_that_end_in_the_span(grown: httpx.Client, database_of_api: Engine):
    insert = text(
        "INSERT INTO water_infrastructure.network_efficiency (time_window, window_start, window_end, "
        "computation_timestamp, zone_metrics, indicators) SELECT '30day', at - interval '30 days', at, at, "
        """jsonb_build_object('d1', '{"known_days": 29}'::jsonb), '{"m1a": 4.5}' """
        "FROM generate_series(CAST(:now AS timestamptz) - interval '9 days', :now, interval '1 day') AS at"
    )
    with database_of_api.begin() as connection:
        connection.execute(insert, {"now": NOW})
    path = "/api/v1/network/efficiency?time_window=30day"
    (latest,) = grown.get(path).json()
    assert latest["window_end"] == NOW.isoformat().replace("+00:00", "Z")
    assert latest["indicators"] == {"m1a": 4.5}
    span = {"start_time": (NOW - timedelta(days=4)).isoformat(), "end_time": NOW.isoformat(), "limit": 3}
    answer = grown.get(path, params=span | {"time_window": "30day"})
    following = grown.get(answer.links["next"]["url"]).json()
    ends = [row["window_end"] for row in answer.json() + following]
    assert ends == [(NOW - timedelta(days=n)).isoformat().replace("+00:00", "Z") for n in range(4)]
    assert {row["time_window"] for row in grown.get("/api/v1/districts/d1").json()["balances"]} == {"1hour"}
    (balance,) = grown.get("/api/v1/districts/d1?time_window=30day").json()["balances"]
    assert (balance["window_end"], balance["balance"]) == (ends[0], {"known_days": 29})
    assert grown.get("/api/v1/districts/d1?time_window=365day").json()["balances"] == []


def test_events_are_found_by_district_incident_and_their_own_id(grown: httpx.Client):
    (event,) = grown.get("/api/v1/anomalies?status=all&district_id=d7").json()
    assert event["node_id"] == "grown 7"
    assert grown.get(f"/api/v1/anomalies/{event['anomaly_id']}").json() == event
    assert grown.get(f"/api/v1/anomalies/{uuid4()}").status_code == 404
    (incident,) = grown.get("/api/v1/incidents?district_id=d7").json()
    assert (incident["events"], incident["nodes"], incident["anomaly_types"]) == (1, ["grown 7"], ["burst"])
    assert grown.get("/api/v1/anomalies?district_id=nowhere").json() == []


def test_a_node_and_a_district_are_described_each(grown: httpx.Client):
    node = grown.get("/api/v1/nodes/grown 7").json()
    assert (node["node_id"], node["district_id"], list(node["metadata"])) == ("grown 7", "d7", ["text"])
    district = grown.get("/api/v1/districts/d1").json()
    assert (district["nodes"], district["roles"], district["open_anomalies"]) == (1, {"unknown": 1}, 1)
    assert district["balances"][0]["balance"] == {"input": 1}
    assert grown.get("/api/v1/districts/nowhere").status_code == 404
    assert grown.get("/api/v1/nodes/nowhere").status_code == 404


@pytest.fixture
def events(database_of_api: Engine, served: Settings) -> Iterator[Callable[..., UUID]]:
    """Makes events of n1 by keyword."""
    insert = text(
        f"INSERT INTO {SCHEMA}.anomalies (timestamp, node_id, anomaly_type, severity, detection_method, resolved_at) "  # noqa: S608
        "VALUES (:timestamp, 'n1', 'burst', :severity, 'x', :resolved_at) RETURNING anomaly_id"
    )

    def made(severity: str, hours: float, resolved: bool = False) -> UUID:
        at = NOW - timedelta(hours=hours)
        values = {"timestamp": at, "severity": severity, "resolved_at": at if resolved else None}
        with database_of_api.begin() as connection:
            found: UUID = connection.execute(insert, values).scalar_one()
            # Ahead of what other tests have published.
            further = (
                "UPDATE water_infrastructure.data_generation SET generation = generation + 1000 RETURNING generation"
            )
            generation = connection.execute(text(further)).scalar_one()
        with redis.Redis(host=served.redis_host, port=served.redis_port) as cache:
            cache.set("abbanoa:generation", generation)
        return found

    with database_of_api.begin() as connection:
        connection.execute(text(f"TRUNCATE {SCHEMA}.anomalies"))
    yield made
    with database_of_api.begin() as connection:
        connection.execute(text(f"TRUNCATE {SCHEMA}.anomalies"))


def test_the_landing_page_shows_what_is_open_first_and_the_worst_at_the_top(api: httpx.Client, events: Any):
    critical, info = events("critical", 20), events("info", 19)
    for number in range(25):
        events("info", number / 10, resolved=True)

    def shown() -> list[str]:
        return [event["anomaly_id"] for event in api.get("/api/v1/dashboard/summary").json()["recent_anomalies"]]

    eventually(lambda: len(shown()) == 20, seconds=10)
    assert shown()[:2] == [str(critical), str(info)]


def test_whoever_wrote_reads_what_was_written_on_every_replica(
    served: Settings, key_of: Callable[..., str], events: Any
):
    ports = engines.free_port(), engines.free_port()
    with (
        process("src.api.main", settings=served, api_port=ports[0]),
        process("src.api.main", settings=served, api_port=ports[1]),
    ):
        replicas = [
            httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": key_of(scope="write")})
            for port in ports
        ]
        for replica in replicas:
            eventually(lambda: healthy(replica), seconds=30)  # noqa: B023
        for number in range(10):
            event = events("info", 1)
            writer, reader = replicas[number % 2], replicas[(number + 1) % 2]
            for replica in replicas:
                assert str(event) in replica.get("/api/v1/anomalies").text
            assert writer.post(f"/api/v1/anomalies/{event}/resolve").status_code == 200
            assert str(event) not in reader.get("/api/v1/anomalies").text
            assert str(event) not in writer.get("/api/v1/anomalies").text


def test_events_are_acknowledged_under_the_name_of_the_person_a_key_was_made_for(
    api: httpx.Client, served: Settings, events: Any
):

    made = run(
        "src.db.api_keys", "create", "desk", "--scope", "write", "--person", "Maria Rossi", "--quiet", settings=served
    )
    answer = asking(api, made.stdout.strip()).post(f"/api/v1/anomalies/{events('info', 1)}/acknowledge")
    assert answer.json()["acknowledged_by"] == "Maria Rossi"
