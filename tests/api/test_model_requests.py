"""Requests about models over the API: by admins only, written down once, and listed with what became of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import httpx
import pytest
from sqlalchemy import Engine, insert

from src.api.schemas.requests import ModelRequest
from src.db import tables
from src.db.roles import API, _rights

MODEL = UUID(int=3)


@pytest.fixture(scope="module")
def admin(api: httpx.Client, key_of: Callable[..., str], database_of_api: Engine):
    with database_of_api.begin() as connection:
        connection.execute(
            insert(tables.ml_models),
            {"model_id": MODEL, "model_name": "m", "model_type": "flow_prediction", "version": "1", "scope": "inlet"}
            | {"status": "shadow"},
        )
    headers = {"X-API-Key": key_of("Anna", scope="admin")}
    with httpx.Client(base_url=api.base_url, timeout=10, headers=headers) as client:
        yield client


def test_a_request_is_queued_in_the_name_of_the_key_and_the_same_twice_is_one(admin: httpx.Client):
    first = admin.post(f"/api/v1/models/{MODEL}/promote", json={"note": "it knows the new inlet"})
    again = admin.post(f"/api/v1/models/{MODEL}/promote")
    training = admin.post("/api/v1/models/train", json={"model_type": "flow_prediction", "scope": "inlet"})
    assert (first.status_code, again.status_code, training.status_code) == (202, 202, 202)
    assert first.json() == again.json()
    rows = admin.get("/api/v1/models/requests").json()
    requests = [ModelRequest.model_validate(row) for row in rows]
    assert {(row.action, row.scope, row.status, row.requested_by) for row in requests} == {
        ("train", "inlet", "queued", "Anna"), ("promote", "inlet", "queued", "Anna")
    }  # fmt: skip
    assert {row.note for row in requests} == {None, "it knows the new inlet"}


def test_of_requests_at_the_same_moment_that_ask_the_same_one_is_written(admin: httpx.Client):
    body = {"model_type": "flow_prediction", "scope": "at once"}
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: admin.post("/api/v1/models/train", json=body), range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["request_id"] for answer in answers}) == 1


def test_requests_come_in_pages(admin: httpx.Client):
    first = admin.get("/api/v1/models/requests", params={"limit": 1})
    rest = admin.get(first.links["next"]["url"])
    assert len({row["request_id"] for row in first.json() + rest.json()}) == 2


def test_who_may_write_but_is_no_admin_asks_nothing_of_models(api: httpx.Client, key_of: Callable[..., str]):
    answer = api.post(
        "/api/v1/models/train", headers={"X-API-Key": key_of(scope="write")}, json={"model_type": "flow_prediction"}
    )
    assert answer.status_code == 403
    assert answer.json()["detail"] == "This needs the scope admin; the key has write"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (f"/api/v1/models/{UUID(int=4)}/promote", {}, 404),
        (f"/api/v1/models/{UUID(int=4)}/roll_back", {}, 404),
        ("/api/v1/models/train", {"model_type": "weather"}, 422),
        ("/api/v1/models/train", {}, 422),
        (f"/api/v1/models/{MODEL}/promote", {"note": "a", "because": "b"}, 422),
    ],
)
def test_what_cannot_be_requested_is_refused_at_once(admin: httpx.Client, path: str, body: dict[str, str], status: int):
    assert admin.post(path, json=body).status_code == status


def test_the_role_of_the_api_may_ask_and_not_decide():
    about = [right for right in _rights(API) if "model_requests" in right]
    assert [right.split(" ON ")[0] for right in about] == [
        "GRANT INSERT (action, model_type, scope, model_id, requested_at, requested_by, note)"
    ]
