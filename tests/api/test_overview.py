"""The dashboard's overview: what must be known now, of stored rows, in one call."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import redis
from sqlalchemy import Engine, insert, text

from src.api import queries_overview
from src.api.schemas.overview import Overview
from src.db import generation, tables
from tests.api.conftest import NOW
from tests.system import eventually

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# When the utility's day of NOW, 02:00 in Rome, began.
MIDNIGHT = NOW - 2 * HOUR
MODEL = UUID(int=7)


def _node(name: str, **more: Any) -> dict[str, Any]:
    return {
        "node_id": name, "node_name": name.title(), "district_id": "west", "latitude": 40.1234567, "longitude": 9,
        "role": None, "metadata": {}, "out_of_service_since": None, "out_of_service_reason": None
    } | more  # fmt: skip


def _hour(name: str, pressure: float | None, back: int = 0) -> dict[str, Any]:
    counts = dict.fromkeys(("reading_count", "flow_count", "pressure_count", "temperature_count"), 1)
    return counts | {
        "node_id": name,
        "time_window": "1hour",
        "window_start": NOW - (back + 1) * HOUR,
        "window_end": NOW - back * HOUR,
        "avg_pressure": pressure,
        "quality_score": 0.5,
        "computed_at": NOW,
        "computation_version": "1",
    }


def _event(name: str, severity: str, **more: Any) -> dict[str, Any]:
    return {
        "timestamp": NOW - 3 * HOUR, "node_id": name, "district_id": "west", "anomaly_type": "burst",
        "severity": severity, "detection_method": "level_shift", "metadata": {}, "incident_id": None
    } | more  # fmt: skip


@pytest.fixture(scope="module")
def shown(api: httpx.Client, database_of_api: Engine) -> dict[str, Any]:
    """The overview of a district in which something of every kind goes on."""
    reported = ("low", "fine", "strict", "tank", "dead", "leaking", "in")
    nodes = [
        _node("low", role="monitoring"),
        _node("fine", latitude=41.0),
        _node("strict", metadata={"limits": {"pressure": {"low": 4.0}}}),
        _node("tank", role="storage"),
        _node("dead"),
        _node("mute"),
        _node("away", out_of_service_since=NOW, out_of_service_reason="by hand"),
        _node("leaking", location_name="Via Roma"),
        _node("in", role="inlet", latitude=None),
    ]
    hours = [
        _hour("low", 1.5), _hour("low", 3.0, back=1), _hour("fine", 3.0), _hour("strict", 3.5), _hour("tank", 0.4),
        _hour("dead", 0.0), _hour("away", 0.5), _hour("leaking", 2.5), _hour("fine", 1.0, back=5),
    ]  # fmt: skip
    incident = UUID(int=99)
    events = [
        _event("leaking", "critical", incident_id=incident, metadata={"lost_m3_so_far": 12.5, "explanation": "burst"}),
        _event("low", "warning", incident_id=incident, anomaly_type="low_pressure"),
        _event("fine", "info", acknowledged_at=NOW),
        _event("fine", "critical", metadata={"explained_by": {"kind": "works"}}),
        _event("fine", "critical", resolved_at=NOW, end=NOW),
    ]
    balances = [
        {
            "time_window": window, "window_start": end - timedelta(days=days), "window_end": end,
            "computation_timestamp": NOW, "total_input_volume": volume, "total_loss_volume": volume / 4,
            "loss_margin": 1.0, "efficiency_percentage": 75.0, "method": "metered", "coverage": 0.9
        }
        for window, days, end, volume in (
            ("1day", 1, MIDNIGHT, 100.0), ("1day", 1, MIDNIGHT - DAY, 90.0), ("1day", 1, MIDNIGHT + DAY, 1.0),
            ("30day", 30, MIDNIGHT, 3000.0), ("30day", 30, MIDNIGHT - DAY, 2.0),
        )
    ]  # fmt: skip
    of_district = [
        {
            "district_id": "west",
            "time_window": window,
            "window_start": NOW - length,
            "window_end": NOW,
            "balance": stored,
        }
        for window, length, stored in (
            ("1hour", HOUR, {"input_volume": 36.0}),
            ("30day", 30 * DAY, {"input_volume": 200.0, "loss_volume": 50.0, "efficiency_percentage": 75.0}),
        )
    ]
    model = {
        "model_id": MODEL, "model_name": "m", "model_type": "flow_prediction", "version": "v1", "status": "active",
        "is_active": True, "activated_at": NOW - 9 * DAY, "scope": "inlet"
    }  # fmt: skip
    forecasts = [
        {
            "model_id": MODEL, "node_id": "in", "prediction_timestamp": made, "target_timestamp": made + ahead * HOUR,
            "prediction_horizon_hours": ahead + 1, "predicted_flow_rate": flow, "flow_rate_lower": flow - 1,
            "flow_rate_upper": flow + 1
        }
        for made, flow in ((MIDNIGHT - HOUR, 10.0), (MIDNIGHT - 2 * HOUR, 99.0), (NOW, 20.0))
        for ahead in range(168)
    ]  # fmt: skip
    with database_of_api.begin() as connection:
        for table in (tables.nodes, tables.anomalies, tables.network_efficiency):
            connection.execute(table.delete())
        for table, rows in (
            (tables.nodes, [{"location_name": None} | row for row in nodes]),
            (tables.computed_metrics, hours),
            (tables.network_efficiency, balances),
            (tables.district_balances, of_district),
            (tables.ml_models, [model]),
            (tables.ml_predictions_cache, forecasts),
            (
                tables.ingestion_watermarks,
                [{"node_id": n, "last_reading": NOW - HOUR, "last_row": NOW, "updated_at": NOW} for n in reported],
            ),
            (tables.node_channels, [{"node_id": "dead", "measurement": "pressure", "is_counted": False}]),
        ):
            connection.execute(insert(table), rows)
        for event in events:
            connection.execute(insert(tables.anomalies), event)
    answer = api.get("/api/v1/dashboard/overview")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    Overview.model_validate(found)
    return found


def test_open_incidents_come_first_by_severity_with_the_water_they_lost(shown: dict[str, Any]):
    assert shown["open_incidents"] == 2
    assert shown["open_by_severity"] == {"critical": 1, "warning": 0, "info": 1}
    worst, other = shown["incidents"]
    assert (worst["severity"], worst["events"], worst["water_lost_m3"]) == ("critical", 2, 12.5)
    assert (worst["place"], worst["explanation"], worst["nodes"]) == ("Via Roma", "burst", ["leaking", "low"])
    assert (other["place"], other["water_lost_m3"], other["is_acknowledged"]) == ("Fine", None, True)


def test_pressure_is_below_the_least_of_service_or_of_the_nodes_own_limits(shown: dict[str, Any]):
    below = [(row["node_id"], row["pressure"], row["minimum"]) for row in shown["pressure_below"]]
    # Neither a tank's level nor a channel that measures nothing nor a node out of service.
    assert below == [("low", 1.5, 2.0), ("strict", 3.5, 4.0)]
    assert shown["pressure_below_count"] == 2


def test_the_plan_has_a_state_for_each_active_node_with_coordinates(shown: dict[str, Any]):
    plan = shown["plan"]
    assert dict(zip(plan["node_id"], plan["state"], strict=True)) == {
        "low": "low_pressure", "fine": "ok", "strict": "low_pressure", "tank": "ok", "dead": "ok", "mute": "silent",
        "away": "out_of_service", "leaking": "critical",
    }  # fmt: skip
    assert {shown["districts"][place]["district_id"] for place in plan["district"]} == {"west"}
    assert dict(zip(plan["node_id"], plan["latitude"], strict=True))["low"] == 40.12346


def test_a_district_has_its_inflow_its_losses_and_its_least_pressure(shown: dict[str, Any]):
    (west,) = shown["districts"]
    assert (west["nodes"], west["open_anomalies"], west["severity"]) == (9, 3, "critical")
    assert (west["flow"], west["loss_share"], west["efficiency_percentage"]) == (10.0, 0.25, 75.0)
    assert (west["pressure_min"], west["quality"], west["reason"]) == (1.5, 0.5, None)


def test_input_and_loss_are_of_windows_that_have_ended(shown: dict[str, Any]):
    assert shown["input"]["total_volume"] == 100.0
    assert [day["total_input_volume"] for day in shown["loss_days"]] == [90.0, 100.0]
    assert (shown["loss"]["window"], shown["loss"]["total_loss_volume"]) == ("30day", 750.0)


def test_todays_volume_is_that_of_the_forecast_made_last_before_the_day(shown: dict[str, Any]):
    forecast = shown["forecast"]
    assert forecast["today_volume"] == pytest.approx(24 * 10 * 3.6)
    assert (forecast["lower"], forecast["upper"]) == pytest.approx((24 * 9 * 3.6, 24 * 11 * 3.6))
    assert forecast["coming_volume"] == pytest.approx(22 * 20 * 3.6)
    assert (forecast["nodes"], forecast["model_version"], forecast["reason"]) == (1, "v1", None)


def test_a_day_that_is_not_forecast_as_a_whole_has_no_volume_but_a_reason(
    shown: dict[str, Any], api: httpx.Client, database_of_api: Engine, cache: redis.Redis
):
    forecasts = tables.ml_predictions_cache
    with database_of_api.begin() as connection:
        connection.execute(forecasts.delete().where(forecasts.c.prediction_timestamp < MIDNIGHT))
        generation.advance(connection)
        generation.publish(connection, cache)

    def changed() -> dict[str, Any] | None:
        now: dict[str, Any] = api.get("/api/v1/dashboard/overview").json()["forecast"]
        return None if now == shown["forecast"] else now

    found = eventually(changed, seconds=30)
    assert (found["today_volume"], found["lower"]) == (None, None)
    assert found["reason"] == "the whole of today is forecast for 0 of 1 inlets"
    assert found["coming_volume"] == pytest.approx(22 * 20 * 3.6)


def test_volumes_are_of_all_inlets_that_may_let_water_pass_or_of_none(shown: dict[str, Any], database_of_api: Engine):
    columns = tables.nodes.c
    query = re.sub(r"\$(\d)", r"(:p\1)", queries_overview.TODAY)
    bound = {"p1": NOW, "p2": MIDNIGHT, "p3": MIDNIGHT + DAY}

    def coming() -> tuple[int, float | None]:
        with database_of_api.connect() as connection:
            row = connection.execute(text(query), bound).one()
        return row.inlets, row.coming_volume

    with database_of_api.begin() as connection:
        state = {"out_of_service_since": NOW, "out_of_service_reason": "silent"}
        connection.execute(insert(tables.nodes), _node("second", role="inlet") | state)
    assert coming() == (2, None)
    with database_of_api.begin() as connection:
        out = tables.nodes.update().where(columns.node_id == "second").values(out_of_service_reason="by hand")
        connection.execute(out)
    assert coming() == (1, pytest.approx(22 * 20 * 3.6))
    with database_of_api.begin() as connection:
        connection.execute(tables.nodes.delete().where(columns.node_id == "second"))


def test_freshness_counts_who_reports_and_who_is_silent(shown: dict[str, Any]):
    found = shown["freshness"]
    assert (found["nodes_active"], found["nodes_reporting"], found["nodes_silent"]) == (9, 7, 1)


def test_an_unchanged_overview_costs_a_304(shown: dict[str, Any], api: httpx.Client):
    first = api.get("/api/v1/dashboard/overview")
    again = api.get("/api/v1/dashboard/overview", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
