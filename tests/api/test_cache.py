"""Cached answers: unchanged ones cost a 304, changed ones are seen at once, and Redis may go away."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import httpx
import pytest
import redis
from sqlalchemy import Engine, text

from src.api.cache import AnswerCache
from src.api.database import create_cache
from src.processing.jobs.announcement import announce
from src.processing.jobs.runtime import create_runtime
from src.quickstart import engines
from src.settings import Settings
from tests.system import eventually, process

HISTORY = "/api/v1/nodes/n1/history"


def test_an_unchanged_answer_costs_a_304(api: httpx.Client):
    first = api.get(HISTORY)
    assert first.headers["cache-control"] == "private, no-cache"
    again = api.get(HISTORY, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert api.get(HISTORY, headers={"If-None-Match": '"other"'}).status_code == 200
    assert api.get(HISTORY, headers={"Accept": "text/csv"}).headers["etag"] != first.headers["etag"]


def test_new_rows_are_seen_when_the_generation_moves_and_not_before(
    api: httpx.Client, served: Settings, database_of_api: Engine, cache: redis.Redis
):
    runtime = create_runtime(served)
    announce(runtime)
    time.sleep(0.5)
    row = "UPDATE water_infrastructure.nodes SET location_name = :name WHERE node_id = 'n1'"

    def shown() -> str | None:
        return api.get("/api/v1/nodes").json()[0]["location_name"]

    before = shown()
    with database_of_api.begin() as connection:
        connection.execute(text(row), {"name": "Via Roma"})
    assert shown() == before
    assert cache.keys("abbanoa:answer:*")
    with database_of_api.begin() as connection:
        connection.execute(text("UPDATE water_infrastructure.data_generation SET generation = generation + 1"))
    announce(runtime)
    eventually(lambda: shown() == "Via Roma", seconds=5)
    runtime.database.dispose()


def test_redis_has_what_was_requested_twice(api: httpx.Client, served: Settings, cache: redis.Redis):
    runtime = create_runtime(served)
    announce(runtime)
    runtime.database.dispose()
    time.sleep(0.5)

    def in_redis() -> set[bytes]:
        return set(cache.scan_iter("abbanoa:answer:*"))

    before = in_redis()
    first = api.get(HISTORY, params={"limit": 123})
    time.sleep(0.2)
    assert in_redis() == before
    assert api.get(HISTORY, params={"limit": 123}).content == first.content
    (name,) = eventually(lambda: in_redis() - before, seconds=5)
    assert cache.get(name).endswith(first.content)


def test_many_who_ask_for_the_same_at_once_cost_one_computation():
    computed = 0

    async def slow(scope, receive, send) -> None:
        nonlocal computed
        computed += 1
        await asyncio.sleep(0.05)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b"[]"})

    async def ask_all() -> list[httpx.Response]:
        transport = httpx.ASGITransport(AnswerCache(slow, Settings(), create_cache(Settings())))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            return await asyncio.gather(*(client.get(HISTORY) for _ in range(20)))

    assert {answer.text for answer in asyncio.run(ask_all())} == {"[]"}
    assert computed == 1


def test_without_redis_rows_come_from_the_database_and_the_status_says_degraded(served: Settings, tmp_path):
    with engines.redis(tmp_path / "own") as address:
        port = engines.free_port()
        with process("src.api.main", settings=served, **address, api_port=port, api_auth="off"):
            client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
            eventually(lambda: ready(client), seconds=30)
            with redis.Redis(host="127.0.0.1", port=int(address["redis_port"])) as server:
                server.set("abbanoa:generation", 1)
                time.sleep(0.5)
                etag = client.get(HISTORY).headers["etag"]
                server.shutdown(nosave=True)
            eventually(lambda: client.get("/api/v1/status").json()["redis_status"]["connected"] is False, seconds=10)
            answer = client.get(HISTORY)
            assert (answer.status_code, answer.headers["etag"]) == (200, etag)
            status = client.get("/api/v1/status").json()
            assert "Redis does not answer" in status["reasons"]


def test_where_nobody_needs_a_key_a_page_of_another_origin_still_changes_nothing(served: Settings):
    port = engines.free_port()
    path = "/api/v1/anomalies/00000000-0000-0000-0000-000000000000/acknowledge"
    with process("src.api.main", settings=served, api_port=port, api_auth="off"):
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        eventually(lambda: ready(client), seconds=30)
        for headers, status in (
            ({"Origin": "https://evil.example.org"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Origin": f"http://127.0.0.1:{port}"}, 404),
            ({}, 404),
        ):
            assert (headers, client.post(path, headers=headers).status_code) == (headers, status)
        assert client.get("/api/v1/nodes", headers={"Origin": "https://evil.example.org"}).status_code == 200


def test_without_its_database_it_is_healthy_not_ready_and_says_503(served: Settings):
    port = engines.free_port()
    with process(
        "src.api.main", settings=served, postgres_host="127.0.0.1", postgres_port=1, api_port=port, api_auth="off"
    ):
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10)
        eventually(lambda: healthy(client), seconds=30)
        for path in ("/ready", "/api/v1/nodes?limit=3", "/api/v1/status"):
            answer = client.get(path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert answer.headers["content-type"] == "application/problem+json"


def ready(client: httpx.Client) -> bool:
    return answers(client, "/ready")


def healthy(client: httpx.Client) -> bool:
    return answers(client, "/health")


def answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("module", ["pandas", "sklearn", "sqlalchemy", "src.processing"])
def test_the_api_process_does_not_import(module: str):
    code = f"import sys, src.api.main; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
