"""Dealing with events through the API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import httpx
import pytest
from sqlalchemy import Engine, text

from tests.api.conftest import NOW
from tests.system import eventually

Z = NOW.isoformat().replace("+00:00", "Z")


@pytest.fixture
def event(database_of_api: Engine) -> Iterator[UUID]:
    """An open event of node n1."""
    with database_of_api.begin() as connection:
        event = connection.execute(
            text(
                "INSERT INTO water_infrastructure.anomalies (timestamp, detected_at, node_id, anomaly_type, severity, "
                "detection_method, metadata) VALUES (:now, :now, 'n1', 'burst', 'warning', 'level_shift', "
                """'{"explanation": "a lasting step"}') RETURNING anomaly_id"""
            ),
            {"now": NOW},
        ).scalar_one()
    yield event
    with database_of_api.begin() as connection:
        connection.execute(text("TRUNCATE water_infrastructure.anomalies"))


@pytest.fixture
def writer(api: httpx.Client, key_of: Callable[..., str]) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.base_url, headers={"X-API-Key": key_of(name="Anna", scope="write")}) as client:
        yield client


def test_an_event_is_acknowledged_then_resolved_by_whom_the_key_names(
    api: httpx.Client, writer: httpx.Client, event: UUID
):
    path = f"/api/v1/anomalies/{event}"
    seen = writer.post(f"{path}/acknowledge", json={"note": "crew sent"})
    assert seen.status_code == 200
    assert seen.headers["cache-control"] == "no-store"
    row = seen.json()
    assert (row["acknowledged_by"], row["acknowledged_at"], row["note"]) == ("Anna", Z, "crew sent")
    assert (row["resolved_at"], row["node_name"], row["metadata"]) == (None, "n1", {"explanation": "a lasting step"})
    # Whoever lists events sees it, though answers are cached.
    eventually(lambda: api.get("/api/v1/anomalies").json() == [row], seconds=5)
    over = writer.post(f"{path}/resolve", json={"is_confirmed": True}).json()
    assert (over["resolved_by"], over["resolved_at"], over["is_confirmed"]) == ("Anna", Z, True)
    assert (over["note"], over["end"]) == ("crew sent", None)
    eventually(lambda: api.get("/api/v1/anomalies").json() == [], seconds=5)
    assert api.get("/api/v1/anomalies?status=resolved").json() == [over]


def test_an_event_is_resolved_once_and_acknowledged_by_the_first(
    api: httpx.Client, writer: httpx.Client, event: UUID, key_of: Callable[..., str]
):
    path = f"/api/v1/anomalies/{event}"
    assert writer.post(f"{path}/resolve").json()["acknowledged_by"] == "Anna"
    again = writer.post(f"{path}/resolve")
    assert (again.status_code, again.json()["detail"]) == (409, f"The event '{event}' is resolved already")
    other = {"X-API-Key": key_of(name="Bruno", scope="write")}
    assert api.post(f"{path}/acknowledge", headers=other).json()["acknowledged_by"] == "Anna"


def test_what_is_noted_later_stands_below_what_was_noted_before(writer: httpx.Client, event: UUID):
    path = f"/api/v1/anomalies/{event}"
    assert writer.post(f"{path}/acknowledge", json={}).json()["note"] is None
    for _ in range(2):
        # Sent twice, it stands there once.
        seen = writer.post(f"{path}/acknowledge", json={"note": "crew sent, 50% sure"})
    assert seen.json()["note"] == "crew sent, 50% sure"
    assert writer.post(f"{path}/acknowledge", json={"note": ""}).json()["note"] == "crew sent, 50% sure"
    over = writer.post(f"{path}/resolve", json={"note": "a joint, closed"}).json()
    assert over["note"] == "crew sent, 50% sure\na joint, closed"


def test_only_events_that_are_there_are_dealt_with_and_only_as_documented(writer: httpx.Client, event: UUID):
    nobody = uuid4()
    missing = writer.post(f"/api/v1/anomalies/{nobody}/acknowledge")
    assert (missing.status_code, missing.json()["detail"]) == (404, f"There is no event '{nobody}'")
    assert writer.post("/api/v1/anomalies/7/resolve").status_code == 422
    unknown = writer.post(f"/api/v1/anomalies/{event}/resolve", json={"confirmed": True})
    assert (unknown.status_code, unknown.json()["errors"][0]["field"]) == (422, "confirmed")
    long = writer.post(f"/api/v1/anomalies/{event}/acknowledge", json={"note": "x" * 2001})
    assert long.status_code == 422
