"""Requests are read once, and in one way: identities, formats, parameters, methods."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from urllib.parse import quote

import httpx
import pytest
from sqlalchemy import Engine, text

from src.api.headers import cookies, prefers_csv
from src.api.identity import SECURE_SESSION_COOKIE, SESSION_COOKIE
from tests.api.conftest import ODD
from tests.api.test_access import NODES, asking

KeyOf = Callable[..., str]
SITE = "https://water.example.org"


def with_headers(api: httpx.Client, *headers: tuple[str, str], method: str = "GET", path: str = NODES):
    """The answer to a request with exactly these headers, repeated ones included."""
    return httpx.request(
        method,
        api.base_url.join(path),
        headers=[(name, value.encode("latin-1")) for name, value in headers],
        timeout=10,
    )


@pytest.fixture
def session(api: httpx.Client, key_of: KeyOf) -> Callable[..., str]:
    def opened(scope: str = "read", **body: object) -> str:
        answer = asking(api, key_of(scope=scope)).post("/api/v1/session", json=body)
        assert answer.status_code == 201
        token: str = answer.json()["token"]
        return token

    return opened


def measured(api: httpx.Client) -> list[str]:
    return api.get("/metrics").text.splitlines()


def test_whatever_is_requested_the_measures_stay_as_many(api: httpx.Client):
    def ask(number: int) -> None:
        anonymous = asking(api)
        for path in (f"/{number}", f"/api/v1/nodes/node-{number}/history", f"/api/v1/models/{number}"):
            anonymous.get(path)
            api.get(path)
            api.request("PATCH", path)

    ask(0)
    measured(api)
    before = len(measured(api))
    for number in range(1, 30):
        ask(number)
    assert len(measured(api)) == before
    assert not any("node-7" in line for line in measured(api))


@pytest.mark.parametrize("path", ["/health", "/ready", NODES, "/api/v1/status", "/api/v1/nodes/nobody/metrics", "/no"])
def test_head_says_what_get_would_without_its_body(api: httpx.Client, path: str):
    head, get = api.head(path), api.get(path)
    assert (head.status_code, head.content) == (get.status_code, b"")
    for name in ("content-type", "content-length", "etag"):
        if path not in ("/health", "/ready", "/api/v1/status") or name == "content-type":
            assert head.headers.get(name) == get.headers.get(name)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", NODES, "GET, HEAD"),
        ("PUT", "/api/v1/session", "DELETE, GET, HEAD, POST"),
        ("GET", "/api/v1/anomalies/00000000-0000-0000-0000-000000000000/resolve", "POST"),
    ],
)
def test_a_method_that_a_path_lacks_is_answered_with_those_it_has(
    api: httpx.Client, key_of: KeyOf, method: str, path: str, allowed: str
):
    answer = asking(api, key_of(scope="write")).request(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


def test_two_accept_headers_are_one_list_for_the_cache_and_the_route(api: httpx.Client):
    path, key = "/api/v1/nodes/n1/history?limit=7", ("X-API-Key", api.headers["X-API-Key"])
    for first, second in itertools.product(("text/csv", "application/json", "*/*"), repeat=2):
        answer = with_headers(api, key, ("Accept", first), ("Accept", second), path=path)
        as_csv = "text/csv" in (first, second)
        assert answer.headers["content-type"].startswith("text/csv" if as_csv else "application/json")
        assert with_headers(api, key, ("Accept", "application/json"), path=path).json()
        assert with_headers(api, key, ("Accept", "text/csv"), path=path).text.startswith("window_start,")


@pytest.mark.parametrize(
    ("accept", "is_csv"),
    [
        ("", False),
        ("*/*", False),
        ("text/csv", True),
        ("application/json, text/csv", True),
        ("application/json, text/csv;q=0.5", False),
        ("text/csv;q=0", False),
        ("TEXT/CSV; header=present", True),
        ("text/csv;q=wrong", False),
    ],
)
def test_weights_of_formats_are_heeded(accept: str, is_csv: bool):
    assert prefers_csv({"headers": [(b"accept", accept.encode())]}) is is_csv


def test_over_tls_only_a_cookie_that_no_other_host_can_set_is_a_session(api: httpx.Client, session: Callable[..., str]):
    token, secure = session(), ("X-Forwarded-Proto", "https")
    assert with_headers(api, secure, ("Cookie", f"{SECURE_SESSION_COOKIE}={token}")).status_code == 200
    assert with_headers(api, secure, ("Cookie", f"{SESSION_COOKIE}={token}")).status_code == 401
    opened = asking(api, api.headers["X-API-Key"], **dict([secure])).post("/api/v1/session")
    cookie = opened.headers["set-cookie"]
    assert cookie.startswith(f"{SECURE_SESSION_COOKIE}=")
    assert "Secure" in cookie
    assert "Path=/" in cookie
    assert "domain" not in cookie.lower()


@pytest.mark.parametrize("odd", ['prefs={"a":1}', "a b=c", "=", ";;", 'q="unclosed', "ü=ö", "a=b=c"])
def test_cookies_of_others_log_nobody_out(api: httpx.Client, session: Callable[..., str], odd: str):
    token = session()
    for line in (f"{odd}; {SESSION_COOKIE}={token}", f"{SESSION_COOKIE}={token}; {odd}"):
        assert with_headers(api, ("Cookie", line)).status_code == 200
    assert cookies({"headers": [(b"cookie", f"{odd}; a1=2".encode("latin-1"))]}, "a1") == ["2"]


def test_a_page_of_another_origin_cannot_act_with_a_session(api: httpx.Client, session: Callable[..., str]):
    cookie = ("Cookie", f"{SESSION_COOKIE}={session(scope='write')}")
    path = "/api/v1/anomalies/00000000-0000-0000-0000-000000000000/acknowledge"
    origin = str(api.base_url).rstrip("/")
    for headers, status in (
        ([("Origin", "https://evil.example.org")], 403),
        ([("Origin", "null")], 403),
        ([("Origin", origin.replace("127.0.0.1", "sibling.127.0.0.1"))], 403),
        ([("Sec-Fetch-Site", "same-site")], 403),
        ([("Sec-Fetch-Site", "cross-site")], 403),
        ([("Origin", origin), ("Origin", "https://evil.example.org")], 403),
        ([("Origin", origin)], 404),
        ([("Sec-Fetch-Site", "same-origin")], 404),
        # No browser.
        ([], 404),
    ):
        answer = with_headers(api, cookie, *headers, method="POST", path=path)
        assert (headers, answer.status_code) == (headers, status)


@pytest.mark.parametrize("name", ["Sant’Anna", "DMA 1", ODD, "Überlauf/1?x=2#3", "a\\b<c>", "../..", "a\tb\nc"])
def test_pages_of_nodes_with_any_name_lead_on(api: httpx.Client, database_of_api: Engine, name: str):
    with database_of_api.begin() as connection:
        statement = (
            "INSERT INTO water_infrastructure.nodes (node_id, node_name) VALUES (:name, 'x') ON CONFLICT DO NOTHING"
        )
        connection.execute(text(statement), {"name": name})
        window = """
            INSERT INTO water_infrastructure.computed_metrics
                (node_id, time_window, window_start, window_end, computed_at, computation_version, reading_count,
                flow_count, pressure_count, temperature_count, cadence_seconds, data_completeness)
            SELECT :name, '1hour', start, start + interval '1 h', start, '1', 1, 0, 0, 0, 3600, 100
            FROM generate_series(timestamptz '2023-05-05', timestamptz '2023-05-05 03:00Z', interval '1 h') AS start
            ON CONFLICT DO NOTHING
        """
        connection.execute(text(window), {"name": name})
    span = "start_time=2023-05-05T00:00:00Z&end_time=2023-05-05T03:00:00Z"
    url, seen = f"/api/v1/nodes/{quote(name, safe='')}/history?limit=1&{span}", []
    while url:
        answer = api.get(url)
        assert answer.status_code == 200
        seen += [row["window_start"] for row in answer.json()]
        link = answer.headers.get("link", "")
        assert " " not in link.partition(">")[0]
        url = link.partition(">")[0].lstrip("<")
    assert len(seen) == len(set(seen)) == 3
    with database_of_api.begin() as connection:
        if name != ODD:
            for table in ("computed_metrics", "nodes"):
                statement = f"DELETE FROM water_infrastructure.{table} WHERE node_id = :name"  # noqa: S608
                connection.execute(text(statement), {"name": name})


def test_a_note_that_cannot_be_stored_is_refused(api: httpx.Client, key_of: KeyOf):
    client = asking(api, key_of(scope="write"))
    path = "/api/v1/anomalies/00000000-0000-0000-0000-000000000000/acknowledge"
    answer = client.post(path, json={"note": "a\x00b"})
    assert answer.status_code == 422
    assert "NUL" in answer.json()["detail"]
    assert client.post(path, content=b'{"note": "\\ud800"}').status_code == 422


@pytest.mark.parametrize("path", [NODES, "/api/v1/anomalies", "/api/v1/status", "/api/v1/nodes/n1/history", "/metrics"])
def test_a_parameter_that_is_not_known_is_refused(api: httpx.Client, path: str):
    answer = api.get(path, params={"n": "1"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "n"
    assert api.get("/health", params={"n": "1"}).status_code == 200


@pytest.fixture
def broken_table(database_of_api: Engine) -> Iterator[None]:
    rename = "ALTER TABLE water_infrastructure.nodes RENAME COLUMN {} TO {}"
    with database_of_api.begin() as connection:
        connection.execute(text(rename.format("location_name", "broken")))
    yield
    with database_of_api.begin() as connection:
        connection.execute(text(rename.format("broken", "location_name")))


@pytest.mark.usefixtures("broken_table")
def test_what_should_not_happen_says_so_under_its_request_id(api: httpx.Client):
    answer = api.get(f"{NODES}?limit=999", headers={"X-Request-ID": "r42"})
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == "r42"
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_documentation_needs_no_file_from_elsewhere(api: httpx.Client, path: str):
    page = asking(api).get(path).text
    wanted = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert wanted
    for url in wanted:
        assert url.startswith("/docs-files/")
        assert asking(api).get(url).status_code == 200
    assert "//" not in re.sub(r"<!--.*?-->", "", page, flags=re.DOTALL).replace("://validator", "")
