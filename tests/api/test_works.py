"""The calendar of works through the API: stated, listed, taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from src.db.engines import create_database_engine
from src.db.roles import API, apply_roles
from src.quickstart import engines
from src.settings import Settings
from tests.api.conftest import NOW, ODD
from tests.processing.test_roles import may
from tests.system import eventually, process

PATH = "/api/v1/works"


def at(hours: float) -> str:
    return (NOW + timedelta(hours=hours)).isoformat().replace("+00:00", "Z")


@pytest.fixture
def writer(api: httpx.Client, key_of: Callable[..., str], database_of_api: Engine) -> Iterator[httpx.Client]:
    """Somebody who may write; a district that nobody has described, and no works but theirs."""
    with database_of_api.begin() as connection:
        connection.execute(text("UPDATE water_infrastructure.nodes SET district_id = 'hill' WHERE node_id = 'n2'"))
    with httpx.Client(base_url=api.base_url, headers={"X-API-Key": key_of(name="Anna", scope="write")}) as client:
        yield client
    with database_of_api.begin() as connection:
        connection.execute(text("TRUNCATE water_infrastructure.works, water_infrastructure.anomalies"))


def stated(client: httpx.Client, **values: Any) -> dict[str, Any]:
    answer = client.post(PATH, json=values)
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_a_work_is_stated_listed_at_once_and_taken_back_by_whom_the_key_names(
    api: httpx.Client, writer: httpx.Client, database_of_api: Engine
):
    values = {"kind": "works", "node_id": "n1", "district_id": "hill", "begin": at(1), "end": at(3), "note": "flushing"}
    work = stated(writer, **values)
    assert {name: work[name] for name in values} == values
    assert (work["created_by"], work["created_at"]) == ("Anna", at(0))
    assert writer.get(PATH).json() == [work]
    # Whoever only reads sees it, though answers are cached.
    eventually(lambda: api.get(PATH).json() == [work], seconds=5)
    gone = writer.delete(f"{PATH}/{work['work_id']}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert writer.get(PATH).json() == []
    again = writer.delete(f"{PATH}/{work['work_id']}")
    assert (again.status_code, again.json()["detail"]) == (404, f"There is no work '{work['work_id']}'")
    with database_of_api.connect() as connection:
        row = connection.execute(text("SELECT * FROM water_infrastructure.works")).one()
    assert (row.deleted_by, row.deleted_at, row.attached_at) == ("Anna", NOW, None)
    assert row.changed_at > row.created_at


def test_works_are_listed_by_place_and_span_in_pages(writer: httpx.Client):
    exchange = stated(writer, kind="meter_exchange", node_id=ODD, begin=at(-48))
    closure = stated(writer, kind="closure", district_id="hill", begin=at(-3), end=at(2))
    valve = stated(writer, kind="network_change", node_id="n1", district_id="hill", begin="2023-05-09T12:00:00+02:00")

    def listed(**filters: str) -> list[str]:
        return [work["work_id"] for work in writer.get(PATH, params=filters).json()]

    everything = [work["work_id"] for work in (valve, closure, exchange)]
    assert listed() == everything
    assert listed(node_id=ODD) == [exchange["work_id"]]
    assert listed(district_id="hill") == everything[:2]
    # A work is in every span that it touches; an instant in that which holds it.
    assert listed(start_time=at(0), end_time=at(1)) == [closure["work_id"]]
    assert listed(start_time=at(2)) == [valve["work_id"]]
    assert listed(end_time=at(-48)) == []
    assert listed(start_time=at(-48), end_time=at(-47)) == [exchange["work_id"]]
    shown, url = [], f"{PATH}?limit=2"
    while url:
        answer = writer.get(url)
        shown += [work["work_id"] for work in answer.json()]
        url = answer.links["next"]["url"] if "next" in answer.links else None
    assert shown == everything
    assert writer.get(PATH, params={"start_time": at(1), "end_time": at(1)}).status_code == 422


@pytest.mark.parametrize(
    ("changed", "field", "message"),
    [
        ({"node_id": "nowhere"}, "node_id", "there is no node 'nowhere'"),
        ({"district_id": "nowhere"}, "district_id", "there is no district 'nowhere'"),
        ({"node_id": None}, "body", "node_id or district_id must say where"),
        ({"end": None}, "body", "end must say until when, of closure"),
        ({"end": at(0)}, "body", "end must be later than begin"),
        ({"end": "2199-01-01T00:00:00Z"}, "body", "a work lasts 366 days at most"),
        ({"begin": 1683000000}, "begin", "must be an instant such as 2023-03-01T00:00:00Z"),
        ({"begin": "2023-05-01T08:00:00"}, "begin", "timezone"),
        ({"begin": "1023-05-01T08:00:00Z"}, "begin", "must lie between 1970 and 2200"),
        ({"kind": "party"}, "kind", "Input should be 'works'"),
        ({"note": "x" * 301}, "note", "at most 300"),
        ({"note": "\x00"}, "note", "NUL"),
        ({"created_by": "Bruno"}, "created_by", "not permitted"),
    ],
)
def test_what_is_wrong_with_a_work_is_explained_and_nothing_stated(
    writer: httpx.Client, database_of_api: Engine, changed: dict[str, Any], field: str, message: str
):
    values = {"kind": "closure", "node_id": "n1", "begin": at(0), "end": at(2)} | changed
    answer = writer.post(PATH, json=values)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    [error] = answer.json()["errors"]
    assert (error["field"], error["in"]) == (field, "body")
    assert message in error["message"]
    with database_of_api.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM water_infrastructure.works")) == 0


def test_only_who_may_write_states_works_and_only_works_that_are_there_are_taken_back(
    api: httpx.Client, writer: httpx.Client
):
    values = {"kind": "meter_exchange", "node_id": "n1", "begin": at(0)}
    assert api.post(PATH, json=values).status_code == 403
    assert api.delete(f"{PATH}/{uuid4()}").status_code == 403
    assert writer.delete(f"{PATH}/{uuid4()}").status_code == 404
    assert writer.delete(f"{PATH}/7").status_code == 422


def test_the_role_of_the_api_states_works_and_takes_them_back_and_no_more(
    served: Settings, database_of_api: Engine, writer: httpx.Client
):
    with database_of_api.begin() as connection:
        apply_roles(connection, served.model_copy(update={"postgres_api_password": SecretStr("secret")}))
    port = engines.free_port()
    with (
        process("src.api.main", settings=served, postgres_user=API, api_port=port),
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=writer.headers) as client,
    ):

        def work() -> dict[str, Any] | None:
            try:
                return stated(client, kind="meter_exchange", node_id="n1", begin=at(0))
            except httpx.TransportError:
                return None

        made = eventually(work, seconds=30)
        assert client.delete(f"{PATH}/{made['work_id']}").status_code == 204
    engine = create_database_engine(served.model_copy(update={"postgres_user": API}))
    for statement in (
        "DELETE FROM water_infrastructure.works",
        "UPDATE water_infrastructure.works SET note = 'x'",
        "UPDATE water_infrastructure.works SET attached_at = now()",
        "INSERT INTO water_infrastructure.works (kind, node_id, begin, created_by, deleted_at) "
        "VALUES ('network_change', 'n1', now(), 'x', now())",
    ):
        assert not may(engine, f"SET TRANSACTION READ WRITE; {statement}")
    engine.dispose()


def test_what_a_work_explains_is_shown_with_it_and_counts_nowhere_as_open(
    api: httpx.Client, writer: httpx.Client, database_of_api: Engine
):
    work = stated(writer, kind="closure", district_id="hill", begin=at(0), end=at(1))
    by = {"work_id": work["work_id"], "kind": "closure", "note": None, "severity": "critical"}
    with database_of_api.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO water_infrastructure.anomalies (timestamp, detected_at, node_id, district_id, "
                "anomaly_type, severity, detection_method, metadata) VALUES (:now, :now, 'n2', 'hill', 'low_pressure', "
                "'info', 'limits', jsonb_build_object('explanation', 'x', 'explained_by', jsonb_build_object("
                "'work_id', :work_id, 'kind', 'closure', 'note', null, 'severity', 'critical')))"
            ),
            {"now": NOW, "work_id": work["work_id"]},
        )
    stated(writer, kind="network_change", node_id="n1", begin=at(0))  # A new generation.
    [event] = writer.get("/api/v1/anomalies?district_id=hill").json()
    assert event["explained_by"] == event["metadata"]["explained_by"] == by
    assert writer.get("/api/v1/incidents").json() == []
    assert writer.get("/api/v1/dashboard/summary").json()["recent_anomalies"] == []
    assert writer.get("/api/v1/districts/hill").json()["open_anomalies"] == 0


def test_a_node_that_is_out_of_service_is_shown_as_such(writer: httpx.Client, database_of_api: Engine):
    update = "UPDATE water_infrastructure.nodes SET out_of_service_since = {}, out_of_service_reason = {}"
    with database_of_api.begin() as connection:
        connection.execute(text(update.format("'2023-05-02T00:00Z'", "'silent'") + " WHERE node_id = 'n1'"))
    stated(writer, kind="network_change", node_id="n1", begin=at(0))
    shown = {node["node_id"]: node for node in writer.get("/api/v1/nodes").json()}
    assert shown["n1"]["out_of_service_since"] == "2023-05-02T00:00:00Z"
    assert (shown["n1"]["out_of_service_reason"], shown["n2"]["out_of_service_since"]) == ("silent", None)
    with database_of_api.begin() as connection:
        connection.execute(text(update.format("NULL", "NULL")))
