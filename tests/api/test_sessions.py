"""Sessions: renewed by use, ended by time, never evicted to make room for answers; and pages of other origins."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import redis

from src.api.database import create_cache
from src.api.sessions import MOST_OF_A_KEY, Session, Sessions
from src.credentials import digest_of
from src.quickstart import engines
from src.settings import Settings
from tests.api.test_access import NODES, asking, healthy
from tests.system import eventually, process

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_a_session_is_renewed_by_use_up_to_its_longest_time(redis_address: dict[str, str]):
    async def story() -> list[bool]:
        sessions = Sessions(create_cache(Settings(**redis_address)))
        token, _ = await sessions.open("k1", "read", HOUR, 24 * HOUR, "here", "test", NOW)
        digest, seen = digest_of(token.text), []

        async def used(after: timedelta) -> bool:
            return await sessions.of_token(token.text, digest, NOW + after) is not None

        for minutes in range(0, 24 * 60, 50):
            seen.append(await used(timedelta(minutes=minutes)))
        seen.append(not await used(24 * HOUR))
        other, _ = await sessions.open("k1", "read", HOUR, 24 * HOUR, "here", "test", NOW)
        token, digest = other, digest_of(other.text)
        seen.append(await used(timedelta(minutes=1)))
        # A minute's use is not worth a write; an hour later it has ended.
        seen.append(not await used(timedelta(minutes=61)))
        return seen

    assert all(asyncio.run(story()))


def test_what_has_ended_is_swept_away_and_no_key_has_sessions_without_end(redis_address: dict[str, str]):
    settings = Settings(**redis_address)

    async def story() -> list[Session]:
        sessions = Sessions(create_cache(settings))
        for number in range(MOST_OF_A_KEY + 5):
            await sessions.open("k2", "read", HOUR, HOUR, "here", "test", NOW + number * timedelta(seconds=1))
        found = await sessions.of_key("k2", NOW + timedelta(minutes=30))
        await sessions.open("k3", "read", HOUR, HOUR, "here", "test", NOW + 3 * HOUR)
        return found

    found = asyncio.run(story())
    assert len(found) == MOST_OF_A_KEY
    assert found[0].created_at == NOW.timestamp() + MOST_OF_A_KEY + 4
    with redis.Redis(host=settings.redis_host, port=settings.redis_port) as cache:
        assert cache.scard("abbanoa:sessions:k2") == 0
        assert all(cache.get(f"abbanoa:session:{session.session_id}") is None for session in found)


def test_an_ended_session_is_not_brought_back_by_a_use_at_the_same_time(redis_address: dict[str, str]):
    async def story() -> bool:
        sessions = Sessions(create_cache(Settings(**redis_address)))
        token, session = await sessions.open("k4", "read", HOUR, 24 * HOUR, "here", "test", NOW)
        assert await sessions.end(token.identifier, None, NOW)
        await sessions._renewed(session, NOW + HOUR / 2)
        return await sessions.of_token(token.text, digest_of(token.text), NOW + HOUR / 2) is None

    assert asyncio.run(story())


def test_answers_without_end_evict_no_session(
    tmp_path_factory: pytest.TempPathFactory, served: Settings, key_of: Callable[..., str]
):
    with engines.redis(tmp_path_factory.mktemp("small-redis")) as address:
        port = engines.free_port()
        with (
            redis.Redis(host=address["redis_host"], port=int(address["redis_port"])) as cache,
            process("src.api.main", settings=served, api_port=port, redis_port=int(address["redis_port"])),
            httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10, headers={"X-API-Key": key_of()}) as client,
        ):
            eventually(lambda: healthy(client), seconds=30)
            cache.set("abbanoa:generation", 1)
            tokens = [client.post("/api/v1/session").json()["token"] for _ in range(20)]
            cache.config_set("maxmemory", cache.info("memory")["used_memory"] + 2_000_000)
            eventually(lambda: client.get(NODES).status_code == 200, seconds=5)
            for number in range(150):
                path = f"/api/v1/nodes/n1/history?time_window=5min&limit={1000 + number}"
                # What is requested twice goes to Redis.
                assert [client.get(path).status_code for _ in range(2)] == [200, 200]
            assert cache.info("stats")["evicted_keys"] > 0
            for token in tokens:
                assert asking(client, Authorization=f"Bearer {token}").get(NODES).status_code == 200


def test_a_session_for_a_screen_on_the_wall_lasts_for_months(api: httpx.Client, key_of: Callable[..., str]):
    opened = asking(api, key_of(scope="write")).post("/api/v1/session", json={"is_display": True}).json()
    assert opened["scope"] == "read"
    lasts = datetime.fromisoformat(opened["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89) < lasts <= timedelta(days=90)


def test_pages_of_named_origins_may_ask_and_others_may_not(served: Settings, key_of: Callable[..., str]):
    port, origin = engines.free_port(), "https://dashboard.example.org"
    settings = {"api_port": port, "api_cors_origins": f"{origin}, http://localhost:5173"}
    with process("src.api.main", settings=served, **settings):
        client = httpx.Client(base_url=f"http://127.0.0.1:{port}")
        eventually(lambda: healthy(client), seconds=30)
        preflight = {"Origin": origin, "Access-Control-Request-Method": "POST"}
        preflight["Access-Control-Request-Headers"] = "x-api-key"
        allowed = client.options("/api/v1/session", headers=preflight)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == origin
        assert allowed.headers["access-control-allow-credentials"] == "true"
        strange = client.options("/api/v1/session", headers=preflight | {"Origin": "https://evil.example.org"})
        assert "access-control-allow-origin" not in strange.headers
        answer = client.get(NODES, headers={"Origin": origin, "X-API-Key": key_of()})
        assert answer.headers["access-control-allow-origin"] == origin
        assert "ETag" in answer.headers["access-control-expose-headers"]
        # Also a refusal can be read by the page.
        assert client.get(NODES, headers={"Origin": origin}).headers["access-control-allow-origin"] == origin


def test_an_origin_that_is_none_is_refused_at_the_start():
    with pytest.raises(ValueError, match="is no origin"):
        Settings(api_cors_origins="*")
