"""What the API answers over HTTP."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import Engine, text, update

from src.db.tables import node_channels, nodes, recommendations
from tests.api.conftest import NOW, ODD
from tests.system import metrics


def z(instant) -> str:
    return instant.isoformat().replace("+00:00", "Z")


def test_nodes_page_by_their_link_until_all_are_listed_once(api: httpx.Client):
    seen, url = [], "/api/v1/nodes?limit=2"
    while url:
        answer = api.get(url)
        seen += [node["node_id"] for node in answer.json()]
        url = answer.links["next"]["url"] if "next" in answer.links else None
    assert seen == sorted(["n1", "n2", ODD, "silent"])
    first = api.get("/api/v1/nodes").json()[0]
    assert first["last_reading"] == z(NOW - timedelta(minutes=15))


@pytest.mark.parametrize("time_window", ["5min", "1hour", "1day"])
def test_the_latest_window_shown_has_ended(api: httpx.Client, database_of_api: Engine, time_window: str):
    row = api.get(f"/api/v1/nodes/{quote(ODD, safe='')}/metrics", params={"time_window": time_window}).json()
    stored = metrics(database_of_api)
    stored = stored[(stored["node_id"] == ODD) & (stored["time_window"] == time_window)]
    last = stored[stored["window_end"] <= NOW].iloc[-1]
    assert row["timestamp"] == z(last["window_end"])
    assert row["flow_rate"] == last["avg_flow_rate"]
    assert row["efficiency"] is None
    assert row["anomaly_count"] == last["anomaly_count"]
    assert row["quality_score"] == last["quality_score"]


def test_history_is_what_is_stored_page_by_page_and_as_csv(api: httpx.Client, database_of_api: Engine):
    stored = metrics(database_of_api).query("node_id == 'n1' and time_window == '1hour'")
    stored = stored[stored["window_start"] >= NOW - timedelta(days=7)]
    rows, url = [], "/api/v1/nodes/n1/history?limit=50"
    while url:
        answer = api.get(url)
        rows += answer.json()
        url = answer.links["next"]["url"] if "next" in answer.links else None
    assert len(rows) == 168
    assert [row["avg_flow_rate"] for row in rows] == stored["avg_flow_rate"].tolist()
    assert [row["window_start"] for row in rows] == [z(instant) for instant in stored["window_start"]]
    table = list(csv.DictReader(io.StringIO(api.get("/api/v1/nodes/n1/history", headers={"Accept": "text/csv"}).text)))
    assert [float(row["total_volume"]) for row in table] == stored["total_volume"].tolist()
    span = {"start_time": "2023-05-02T00:00:00+02:00", "end_time": "2023-05-03T00:00:00+02:00"}
    assert len(api.get("/api/v1/nodes/n1/history", params=span).json()) == 24


def test_the_channels_of_a_node_come_with_their_evidence_and_what_people_state(
    api: httpx.Client, database_of_api: Engine
):
    dead = {"hours": 672, "is_counted": False, "is_connected": False, "evidence": ["0 in every reading"]}
    pressure = (node_channels.c.node_id == "n2") & (node_channels.c.measurement == "pressure")
    stated = {"connected": {"pressure": False}, "units": {"flow_rate": "m3/h"}}
    with database_of_api.begin() as connection:
        connection.execute(update(node_channels).where(pressure).values(dead))
        connection.execute(update(nodes).where(nodes.c.node_id == "n2").values(metadata=stated))
    channels = {channel["measurement"]: channel for channel in api.get("/api/v1/nodes/n2/channels").json()}
    assert channels["flow_rate"]["stated"] == {"unit": "m3/h"}
    channel = channels["pressure"]
    assert (channel["is_connected"], channel["is_counted"]) == (False, False)
    assert (channel["evidence"], channel["stated"]) == (["0 in every reading"], {"connected": False})
    assert channel["unit_questioned"] is False
    assert api.get("/api/v1/nodes/silent/channels").json() == []
    assert api.get("/api/v1/nodes/nobody/channels").status_code == 404


def test_what_was_not_computed_is_empty_and_what_is_not_there_is_404(api: httpx.Client):
    for path in ("/api/v1/network/efficiency", "/api/v1/predictions/n1", "/api/v1/anomalies"):
        assert api.get(path).json() == []
    for path, detail in {
        "/api/v1/quality/silent": "has not been checked yet",
        "/api/v1/quality/nobody": "no node 'nobody'",
        "/api/v1/nodes/nobody/metrics": "no node 'nobody'",
        "/api/v1/nodes/nobody/history": "no node 'nobody'",
        "/api/v1/nodes/silent/metrics": "no complete 1hour window yet",
        "/api/v1/predictions/nobody": "no node 'nobody'",
        "/nowhere": "Not Found",
    }.items():
        answer = api.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
        assert detail in answer.json()["detail"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/nodes?limit=0", "/api/v1/nodes?active=perhaps", "/api/v1/nodes?cursor=%C3%A9",
        "/api/v1/nodes/n1/metrics?time_window=2hours", "/api/v1/nodes/n1/history?start_time=yesterday",
        "/api/v1/nodes/n1/history?start_time=2023-05-01T00:00:00", "/api/v1/nodes/a%00b/history",
        "/api/v1/nodes/n1/history?start_time=2023-05-02T00:00:00Z&end_time=2023-05-01T00:00:00Z",
        "/api/v1/network/metrics?time_range=1y", "/api/v1/predictions/n1?horizon_hours=169",
        "/api/v1/anomalies?hours=0", "/api/v1/anomalies?severity=bad", "/api/v1/anomalies?cursor=AAAA",
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named(api: httpx.Client, path: str):
    answer = api.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    problem = answer.json()
    assert problem["errors"][0]["field"] in problem["detail"]


def test_the_network_and_the_dashboard_add_up(api: httpx.Client, database_of_api: Engine):
    stored = metrics(database_of_api).query("time_window == '5min'")
    day = stored[stored["window_start"] >= NOW - timedelta(days=1)]
    network = api.get("/api/v1/network/metrics").json()
    assert network["total_volume"] == pytest.approx(day["total_volume"].sum(), rel=1e-12)
    assert (network["active_nodes"], network["total_nodes"], network["flow_basis"]) == (3, 3, "all_nodes")
    summary = api.get("/api/v1/dashboard/summary").json()
    assert summary["network"] == network
    assert [node["node_id"] for node in summary["nodes"]] == sorted(["n1", "n2", ODD, "silent"])
    assert summary["last_update"] == z(NOW)


def test_events_are_listed_newest_first_and_open_ones_by_default(api: httpx.Client, database_of_api: Engine, cache):
    insert = text(
        "INSERT INTO water_infrastructure.anomalies (timestamp, node_id, anomaly_type, severity, detection_method, "
        "resolved_at) VALUES (:at, 'n1', 'burst', :severity, 'night_flow', :resolved)"
    )
    with database_of_api.begin() as connection:
        for hours in range(1, 31):
            at = NOW - timedelta(hours=hours)
            resolved = at + timedelta(minutes=30) if hours % 3 == 0 else None
            severity = "critical" if hours == 2 else "info"
            connection.execute(insert, {"at": at, "severity": severity, "resolved": resolved})
        connection.execute(text("UPDATE water_infrastructure.data_generation SET generation = generation + 1"))
        cache.incr("abbanoa:generation")
    try:
        counts = {
            status: len(api.get("/api/v1/anomalies", params={"status": status, "limit": 999}).json())
            for status in ("open", "resolved", "all")
        }
        assert counts == {"open": 20, "resolved": 8, "all": 28}
        seen, url = [], "/api/v1/anomalies?status=all&limit=7&hours=24"
        while url:
            answer = api.get(url)
            seen += [event["timestamp"] for event in answer.json()]
            url = answer.links["next"]["url"] if "next" in answer.links else None
        assert len(seen) == 28
        assert seen == sorted(seen, reverse=True)
        assert len(api.get("/api/v1/anomalies?severity=critical&limit=998").json()) == 1
    finally:
        with database_of_api.begin() as connection:
            connection.execute(text("TRUNCATE water_infrastructure.anomalies"))
        cache.incr("abbanoa:generation")


def test_the_status_tells_what_is_wrong(api: httpx.Client):
    status = api.get("/api/v1/status").json()
    assert status["status"] == "degraded"
    assert status["reasons"] == ["no processing replica is alive"]
    assert status["processing_service"]["status"] == "completed"
    assert status["data_freshness"] == {
        "latest_data": z(NOW - timedelta(minutes=15)), "nodes_reporting": 3, "lag_seconds": 900.0
    }  # fmt: skip
    assert status["redis_status"]["connected"]


def test_a_parameter_given_twice_is_refused_rather_than_ignored(api: httpx.Client):
    answer = api.get("/api/v1/anomalies?severity=critical&severity=warning")
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"field": "severity", "in": "query", "message": "is given more than once"}]


def test_models_are_listed_with_what_was_decided_of_them_and_how_they_did(api: httpx.Client, database_of_api: Engine):
    with database_of_api.begin() as connection:
        model_id = connection.execute(
            text(
                "INSERT INTO water_infrastructure.ml_models (model_name, model_type, scope, version, status, "
                "is_active, created_at, activated_at, validation_metrics) VALUES ('flow of inlets', 'flow_prediction', "
                """'inlet', '20230501.1', 'active', true, :now, :now, '{"mae": 0.5}') RETURNING model_id"""
            ),
            {"now": NOW},
        ).scalar_one()
        connection.execute(
            text(
                "INSERT INTO water_infrastructure.model_decisions (model_id, decided_at, decision, decided_by, reason) "
                "VALUES (:id, :now, 'promoted', 'Anna', 'it is better')"
            ),
            {"id": model_id, "now": NOW},
        )
        connection.execute(
            text(
                "INSERT INTO water_infrastructure.model_performance (model_id, evaluation_timestamp, "
                "evaluation_window, predictions_count, mae) VALUES (:id, :now, '24h', 72, 0.6)"
            ),
            {"id": model_id, "now": NOW},
        )
    try:
        (listed,) = api.get("/api/v1/models?status=active&limit=77").json()
        assert (listed["model_id"], listed["scope"], listed["is_active"]) == (str(model_id), "inlet", True)
        assert listed["latest_performance"]["mae"] == 0.6
        detail = api.get(f"/api/v1/models/{model_id}").json()
        assert [d["reason"] for d in detail["decisions"]] == ["it is better"]
        assert [p["predictions_count"] for p in detail["performance"]] == [72]
        assert api.get("/api/v1/models/00000000-0000-0000-0000-000000000000").status_code == 404
        assert api.get("/api/v1/models?status=odd").status_code == 422
    finally:
        with database_of_api.begin() as connection:
            connection.execute(text("TRUNCATE water_infrastructure.ml_models CASCADE"))
            connection.execute(text("TRUNCATE water_infrastructure.model_performance"))


def test_recommendations_are_shown_with_their_intervals_and_refusals_with_their_reason(
    api: httpx.Client, database_of_api: Engine
):
    schedule = [{"from": "00:00", "to": "05:00", "set_point": 3.4, "present_set_point": 4.4}]
    figures = {"saving_volume": 80.0, "saving_volume_lower": 60.0, "saving_volume_upper": 100.0}
    with database_of_api.begin() as connection:
        for row in (
            {"district_id": "hill", "outcome": "recommended", "reason": "exponent 1", "schedule": schedule} | figures,
            {"district_id": "dale", "outcome": "refused", "reason": "too little to know"},
        ):
            connection.execute(recommendations.insert().values(row | {"computed_at": NOW}))
    (hill,) = api.get("/api/v1/recommendations?outcome=recommended&district_id=hill").json()
    assert (hill["district_id"], hill["schedule"]) == ("hill", schedule)
    assert {name: hill[name] for name in figures} == figures
    (dale,) = api.get("/api/v1/recommendations?district_id=dale").json()
    assert (dale["outcome"], dale["reason"], dale["saving_volume"]) == ("refused", "too little to know", None)
