"""Keys and sessions, rate limits, and the record of their use; who may ask what is in test_every_route.py."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from src.api.database import create_cache
from src.api.limits import WINDOW_SECONDS, RateLimiter
from src.quickstart import engines
from src.settings import Settings
from tests.system import eventually, process, run

NODES = "/api/v1/nodes"
KeyOf = Callable[..., str]


def asking(api: httpx.Client, key: str | None = None, **headers: str) -> httpx.Client:
    """A client of the same API with another credential."""
    return httpx.Client(base_url=api.base_url, timeout=10, headers=({"X-API-Key": key} if key else {}) | headers)


def test_a_key_that_is_wrong_expired_or_revoked_is_refused_with_the_reason(
    api: httpx.Client, key_of: KeyOf, database_of_api: Engine, served: Settings
):
    good, expired = key_of(), key_of(lasts=timedelta(seconds=-1))
    forged = good[:-1] + ("0" if good[-1] != "0" else "1")
    for key, reason in ((forged, "not known"), ("nonsense", "not known"), (expired, "expired")):
        answer = asking(api, key).get(NODES)
        assert answer.status_code == 401
        assert reason in answer.json()["detail"]
    assert "more than one" in asking(api, good, Authorization=f"Bearer {expired}").get(NODES).json()["detail"]
    assert "is needed" in asking(api, Authorization="Basic eDp5").get(NODES).json()["detail"]
    client = asking(api, good)
    assert client.get(NODES).status_code == 200
    assert run("src.db.api_keys", "revoke", good.split("_")[1], settings=served).returncode == 0
    eventually(lambda: client.get(NODES).status_code == 401, seconds=4)
    assert "revoked" in client.get(NODES).json()["detail"]


def test_each_of_many_who_wait_for_the_same_error_gets_its_own_headers(api: httpx.Client):
    async def ask() -> list[httpx.Response]:
        headers = {"X-API-Key": api.headers["X-API-Key"]}
        async with httpx.AsyncClient(base_url=str(api.base_url), headers=headers) as client:
            requests = (
                client.get("/api/v1/nodes/nobody/metrics", headers={"X-Request-ID": f"r{n}"}) for n in range(20)
            )
            return await asyncio.gather(*requests)

    ids = [answer.headers.get_list("x-request-id") for answer in asyncio.run(ask())]
    assert ids == [[f"r{n}"] for n in range(20)]


def test_only_digests_of_keys_are_stored(key_of: KeyOf, database_of_api: Engine):
    key = key_of()
    with database_of_api.connect() as connection:
        rows = connection.execute(text("SELECT api_keys::text FROM water_infrastructure.api_keys")).scalars().all()
    assert any(key.split("_")[1] in row for row in rows)
    assert not any(key.split("_")[2] in row for row in rows)


def test_the_command_makes_lists_and_revokes_keys(api: httpx.Client, served: Settings):
    made = run("src.db.api_keys", "create", "dashboard", "--expires", "90d", settings=served)
    key = made.stdout.strip()
    assert re.fullmatch(r"abk_[0-9a-f]{12}_[0-9a-f]{64}", key)
    assert asking(api, key).get(NODES).status_code == 200
    key_id = key.split("_")[1]
    listed = run("src.db.api_keys", "list", settings=served).stdout
    line = next(line for line in listed.splitlines() if line.startswith(key_id))
    assert "good" in line
    assert "dashboard" in line
    assert key.split("_")[2] not in listed
    assert run("src.db.api_keys", "revoke", "nobody", settings=served).returncode == 1
    assert run("src.db.api_keys", "create", "x", "--expires", "soon", settings=served).returncode == 2


def test_the_use_of_a_key_is_recorded(api: httpx.Client, key_of: KeyOf):
    key, admin = key_of(name="watched"), asking(api, key_of(scope="admin"))
    client = asking(api, key)
    for _ in range(3):
        client.get(NODES)
    client.post("/api/v1/nowhere")

    def used() -> bool:
        row = next(row for row in admin.get("/api/v1/keys").json() if row["key_id"] == key.split("_")[1])
        return (row["requests"], row["refused"]) == (3, 1) and row["last_used_at"] is not None

    eventually(used, seconds=15)


def test_a_session_stands_in_for_its_key_until_it_is_ended(api: httpx.Client, key_of: KeyOf, cache: redis.Redis):
    key = key_of()
    opened = asking(api, key).post("/api/v1/session")
    assert opened.status_code == 201
    token, cookie = opened.json()["token"], opened.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert key not in opened.text
    browser = asking(api, Cookie=cookie.split(";")[0])
    assert browser.get(NODES).status_code == 200
    assert asking(api, Authorization=f"Bearer {token}").get(NODES).status_code == 200
    listed = browser.get("/api/v1/session").json()
    assert [(row["session_id"], row["is_current"]) for row in listed] == [(opened.json()["session_id"], True)]
    stored = b" ".join(cache.get(name) for name in cache.keys("abbanoa:session:*"))
    assert token.split("_")[2].encode() not in stored
    # What has a time to live may be evicted to make room for answers.
    assert cache.ttl(f"abbanoa:session:{opened.json()['session_id']}") == -1
    assert browser.post("/api/v1/session").status_code == 401
    assert browser.delete("/api/v1/session").status_code == 204
    assert browser.get(NODES).status_code == 401
    assert asking(api, key).get("/api/v1/session").json() == []


def test_sessions_end_with_their_key_and_belong_to_it(api: httpx.Client, key_of: KeyOf, served: Settings):
    key, other, admin = key_of(), key_of(), key_of(scope="admin")
    first, second = (asking(api, key).post("/api/v1/session").json() for _ in range(2))
    path = f"/api/v1/session/{first['session_id']}"
    assert asking(api, other).delete(path).status_code == 404
    assert asking(api, admin).delete(path).status_code == 204
    holder = asking(api, Authorization=f"Bearer {second['token']}")
    assert holder.get(NODES).status_code == 200
    run("src.db.api_keys", "revoke", key.split("_")[1], settings=served)
    eventually(lambda: holder.get(NODES).status_code == 401, seconds=4)


def test_a_caller_over_its_limit_waits_whichever_replica_it_asks(served: Settings, key_of: KeyOf):
    key, ports = key_of(), (engines.free_port(), engines.free_port())
    limit = {"api_requests_per_minute_and_key": 20, "api_requests_per_minute_and_address": 0}
    with (
        process("src.api.main", settings=served, api_port=ports[0], **limit),
        process("src.api.main", settings=served, api_port=ports[1], **limit),
    ):
        clients = [httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"X-API-Key": key}) for port in ports]
        for client in clients:
            eventually(lambda client=client: healthy(client), seconds=30)
        # Where a minute ended in between, the window before still counts in part.
        statuses = []
        for number in range(30):
            statuses.append(clients[number % 2].get(NODES))
            time.sleep(0.3)
        refused = [answer for answer in statuses if answer.status_code == 429]
        assert 6 <= len(refused) <= 14
        assert statuses[0].headers["ratelimit-limit"] == "20"
        assert int(statuses[0].headers["ratelimit-remaining"]) == 19
        assert 1 <= int(refused[0].headers["retry-after"]) <= 120
        assert refused[0].headers["ratelimit-remaining"] == "0"
        assert clients[0].get("/health").status_code == 200


def test_an_address_without_a_key_is_limited_too(served: Settings):
    port = engines.free_port()
    with process("src.api.main", settings=served, api_port=port, api_requests_per_minute_and_address=5):
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}")
        eventually(lambda: healthy(client), seconds=30)
        found = [client.get(NODES).status_code for _ in range(7)]
        assert set(found) == {401, 429}
        # The proxy that is trusted speaks for another address.
        assert client.get(NODES, headers={"X-Forwarded-For": "203.0.113.7"}).status_code == 401


@settings(max_examples=200)
@given(
    gaps=st.lists(st.floats(0, 30), min_size=1, max_size=200),
    limit=st.integers(1, 20),
)
def test_no_minute_of_the_clock_admits_more_than_the_limit_and_who_waits_gets_in(gaps: list[float], limit: int):
    limiter = RateLimiter(create_cache(Settings()))
    now, admitted = 1_000_000.0, []
    for gap in gaps:
        now += gap
        standing = limiter.admit("caller", limit, now)
        if standing.admitted:
            admitted.append(now)
        else:
            before = limiter.admit("caller", limit, now)
            assert not before.admitted
            after = limiter.admit("caller", limit, now + standing.retry_after + 0.001)
            assert after.admitted
            now += standing.retry_after + 0.001
            admitted.append(now)
    by_minute: dict[int, int] = {}
    for instant in admitted:
        by_minute[int(instant // WINDOW_SECONDS)] = by_minute.get(int(instant // WINDOW_SECONDS), 0) + 1
    assert max(by_minute.values()) <= limit


def test_replicas_add_up_their_counts_and_count_alone_without_redis(redis_address: dict[str, str]):
    here = Settings(redis_host=redis_address["redis_host"], redis_port=redis_address["redis_port"])

    async def ask() -> tuple[int, int]:
        first, second = RateLimiter(create_cache(here)), RateLimiter(create_cache(here))
        now = 2_000_000.0
        for _ in range(3):
            first.admit("caller", 10, now)
            second.admit("caller", 10, now)
        for limiter in (first, second, first):
            await limiter.share(now)
            limiter.admit("caller", 10, now)
        together = first.admit("caller", 10, now).remaining
        alone = RateLimiter(create_cache(Settings(redis_port=1)))
        alone.admit("caller", 10, now)
        with pytest.raises(redis.RedisError):
            await alone.share(now)
        return together, alone.admit("caller", 10, now).remaining

    together, alone = asyncio.run(ask())
    # Of ten, the six at first, the two after, and this one; the other's third is not yet known.
    assert (together, alone) == (1, 8)


def healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False
