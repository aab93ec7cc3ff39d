"""Series for charts: one axis, gaps that show, thinning that is stated, and what was forecast and expected."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, insert

from src.api.axis import axis
from src.api.database import fetch_together
from src.api.schemas.series import Series
from src.api.thinning import gaps_of, thinned
from src.db import tables
from src.settings import Settings
from tests.api.conftest import NOW, ODD
from tests.system import START

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture(scope="module")
def filled(api: httpx.Client, database_of_api: Engine) -> httpx.Client:
    """Beside what a cycle has written: two forecasts of n1, and what was expected of two of its hours."""
    model = UUID(int=5)
    forecasts = [
        {
            "model_id": model, "node_id": "n1", "prediction_timestamp": made, "target_timestamp": made + ahead * HOUR,
            "prediction_horizon_hours": ahead + 1, "predicted_flow_rate": flow, "flow_rate_lower": flow - 1,
            "flow_rate_upper": flow + 1
        }
        for made, flow in ((NOW - 4 * HOUR, 10.0), (NOW - 2 * HOUR, 20.0))
        for ahead in range(8)
    ]  # fmt: skip
    expected = [
        {"node_id": "n1", "measurement": "flow_rate", "window_start": NOW - back * HOUR, "expected": 5.0 + back}
        | {"lower": 4.0, "upper": 9.0}
        for back in (1, 2)
    ]
    set_aside = ((1, "pressure_too_high"), (1, "flow_rate_placeholder"), (2, "conflicting"), (200, "conflicting"))
    rejected = [
        {"node_id": "n1", "quarter_start": NOW - n * HOUR, "reason": reason, "readings": n, "lowest": 3.0, "highest": 4}
        for n, reason in set_aside
    ]
    event = {
        "timestamp": NOW - 3 * HOUR, "end": NOW - HOUR, "node_id": "n1", "anomaly_type": "burst",
        "severity": "critical", "detection_method": "level_shift", "measurement_type": "flow_rate",
        "metadata": {"explanation": "why"}
    }  # fmt: skip
    with database_of_api.begin() as connection:
        connection.execute(
            insert(tables.ml_models),
            {"model_id": model, "model_name": "m", "model_type": "flow_prediction", "version": "v1", "status": "active"}
            | {"is_active": True, "activated_at": NOW},
        )
        connection.execute(insert(tables.ml_predictions_cache), forecasts)
        connection.execute(insert(tables.expected_values), expected)
        connection.execute(insert(tables.rejected_readings), rejected)
        connection.execute(insert(tables.anomalies), event)
    return api


def series_of(api: httpx.Client, **parameters: Any) -> dict[str, Any]:
    answer = api.get("/api/v1/series", params=parameters)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    Series.model_validate(found)
    return found


def line(found: dict[str, Any], kind: str, node_id: str = "n1") -> dict[str, Any]:
    (only,) = [line for line in found["series"] if (line["kind"], line["node_id"]) == (kind, node_id)]
    return dict(only)


def test_history_stands_on_an_axis_of_every_window_of_the_span(filled: httpx.Client):
    found = series_of(
        filled, node_id=["n1", ODD], start_time=(START - DAY).isoformat(), end_time=(START + DAY).isoformat()
    )
    assert found["timestamps"] == [int((START - DAY).timestamp()) + 3600 * hour for hour in range(48)]
    assert found["thinning"]["method"] == "none"
    for node_id in ("n1", ODD):
        history = line(found, "history", node_id)
        assert history["values"][:24] == [None] * 24
        assert None not in history["values"][24:]
        span = {"start_time": START.isoformat(), "end_time": (START + DAY).isoformat()}
        rows = filled.get(f"/api/v1/nodes/{quote(node_id, safe='')}/history", params=span).json()
        assert history["values"][24:] == [row["avg_flow_rate"] for row in rows]
        assert history["maximum"][24:] == [row["max_flow_rate"] for row in rows]


def test_of_each_hour_the_last_forecast_made_before_it_is_shown(filled: httpx.Client):
    span = {"start_time": (NOW - 5 * HOUR).isoformat(), "end_time": (NOW + 7 * HOUR).isoformat()}
    found = line(series_of(filled, node_id="n1", **span), "forecast")
    assert found["values"] == [None, 10, 10, 20, 20, 20, 20, 20, 20, 20, 20, None]
    assert (found["lower"][1], found["upper"][4], found["model_version"]) == (9, 21, "v1")
    assert found["made_at"] == (NOW - 2 * HOUR).isoformat().replace("+00:00", "Z")
    nothing = line(series_of(filled, node_id="n2", **span), "forecast", "n2")
    assert set(nothing["values"]) == {None}
    assert nothing["reason"]


def test_what_was_expected_is_shown_or_why_it_is_not(filled: httpx.Client):
    span = {"start_time": (NOW - 3 * HOUR).isoformat(), "end_time": NOW.isoformat()}
    found = line(series_of(filled, node_id="n1", **span), "expected")
    assert (found["values"], found["reason"]) == ([None, 7, 6], None)
    assert "two weeks" in line(series_of(filled, node_id="n2", **span), "expected", "n2")["reason"]


def test_other_windows_and_measurements_have_history_alone(filled: httpx.Client):
    found = series_of(filled, node_id="n1", measurement=["pressure", "volume"], time_window="1day")
    assert [(line["kind"], line["unit"]) for line in found["series"]] == [("history", "bar"), ("history", "m³")]
    # Days of the utility begin at its midnight.
    assert {datetime.fromtimestamp(at, UTC).hour for at in found["timestamps"]} == {22}
    assert any(value is not None for value in found["series"][1]["values"])


def test_events_of_the_span_come_with_it(filled: httpx.Client):
    (event,) = series_of(filled, node_id="n1", include="history")["events"]
    assert (event["node_id"], event["explanation"]) == ("n1", "why")
    before = series_of(filled, node_id="n1", include="history", end_time=(NOW - 2 * DAY).isoformat())
    assert before["events"] == []


def test_a_long_span_is_thinned_and_says_so(filled: httpx.Client):
    found = series_of(filled, node_id="n1", time_window="5min", points=200)
    assert found["thinning"]["method"] == "lttb"
    assert found["thinning"]["windows"] == 7 * 288
    assert 150 <= found["thinning"]["points"] == len(found["timestamps"]) <= 200


@pytest.mark.parametrize(
    ("parameters", "status", "says"),
    [
        ({"node_id": "nobody"}, 404, "no node 'nobody'"),
        ({}, 422, "node_id"),
        ({"node_id": "n1", "include": "history,weather"}, 422, "include"),
        ({"node_id": "n1", "points": 99}, 422, "points"),
        ({"node_id": [f"n{n}" for n in range(21)]}, 422, "node_id"),
        ({"node_id": "n1", "time_window": "5min", "start_time": "2019-01-01T00:00:00Z"}, 422, "shorter span"),
        ({"node_id": "n1", "points": [100, 200]}, 422, "more than once"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_a_sentence(
    filled: httpx.Client, parameters: dict[str, Any], status: int, says: str
):
    answer = filled.get("/api/v1/series", params=parameters)
    assert answer.status_code == status
    assert says in answer.text


class Pool:
    """Of connections without an end; the query `fails` does, any other takes long."""

    def __init__(self) -> None:
        self.running, self.most, self.given_up = 0, 0, 0

    async def fetch(self, query: str, *arguments: object) -> list[str]:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0.01 if query in ("fails", "quick") else 60)
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        finally:
            self.running -= 1
        if query == "fails":
            raise ConnectionError
        return [f"{query} {arguments}"]


def test_a_request_leaves_connections_to_others_and_runs_nothing_that_nobody_waits_for():
    pool: Any = Pool()
    found = asyncio.run(fetch_together(pool, {n: ("quick", n) for n in range(9)}))
    assert found == {n: [f"quick ({n},)"] for n in range(9)}
    assert 1 < pool.most < Settings().api_pool_size / 2

    async def failed() -> None:
        with pytest.raises(ConnectionError):
            await fetch_together(pool, {n: ("fails" if n == 1 else "slow",) for n in range(9)})
        await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(failed(), 10))
    assert pool.running == 0
    # Those that had begun; perhaps the next, too.
    assert pool.given_up in (3, 4)


def test_a_caller_that_goes_ends_its_queries():
    pool: Any = Pool()

    async def left() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(fetch_together(pool, {n: ("slow",) for n in range(3)}), 0.05)

    asyncio.run(left())
    assert (pool.running, pool.given_up) == (0, 3)


def test_rejected_readings_come_newest_first_in_pages_with_their_unit(filled: httpx.Client):
    first = filled.get("/api/v1/nodes/n1/rejected", params={"limit": 2})
    rest = filled.get(first.links["next"]["url"])
    rows = first.json() + rest.json()
    assert [(row["reason"], row["unit"], row["readings"]) for row in rows] == [
        ("pressure_too_high", "bar", 1), ("flow_rate_placeholder", None, 1), ("conflicting", None, 2)
    ]  # fmt: skip
    assert "next" not in rest.links
    assert filled.get("/api/v1/nodes/nobody/rejected").status_code == 404


values = st.lists(st.one_of(st.just(np.nan), st.floats(-1e6, 1e6)), min_size=1, max_size=400)


@given(st.lists(values, min_size=1, max_size=4), st.integers(100, 300))
def test_thinning_keeps_order_ends_and_the_edges_of_gaps(drawn: list[list[float]], points: int):
    windows = max(map(len, drawn))
    lines = [np.array(line + [np.nan] * (windows - len(line))) for line in drawn]
    found = thinned(lines, windows, points)
    places = found.places.tolist()
    assert places == sorted(set(places))
    assert (places[0], places[-1]) == (0, windows - 1)
    assert len(places) <= max(points, 1)
    if windows <= points:
        assert len(places) == windows
    elif "do not show" not in found.statement:
        for line in lines:
            assert {edge for gap in gaps_of(line) for edge in gap} <= set(places)


def test_the_axis_of_days_has_the_days_on_which_clocks_change():
    days = axis(datetime(2023, 3, 24, tzinfo=UTC), datetime(2023, 3, 29, tzinfo=UTC), "1day", "Europe/Rome")
    assert np.diff(days).tolist() == [86_400, 82_800, 86_400, 86_400]
