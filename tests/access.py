"""Who may ask what, by whichever way of asking: the documented rules as a table, and an API held against them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

import httpx
from fastapi.routing import iter_route_contexts

from src.api.identity import session_cookie
from src.api.main import create_app
from src.settings import Settings

SCOPES = ("read", "write", "admin")
# The least scope that may ask; None: everybody. Not taken from the product: a new route needs a line here.
LEAST: dict[str, str | None] = {
    "GET /health": None,
    "GET /ready": None,
    "GET /docs": None,
    "GET /redoc": None,
    "GET /openapi.json": None,
    "GET /docs-files/{path}": None,
    "GET /dashboard": None,
    "GET /dashboard/settings.json": None,
    "GET /dashboard/files/{name}": None,
    "GET /dashboard/{page}": None,
    "GET /metrics": "read",
    "GET /api/v1/status": "read",
    "GET /api/v1/jobs": "read",
    "GET /api/v1/dashboard/summary": "read",
    "GET /api/v1/dashboard/overview": "read",
    "GET /api/v1/series": "read",
    "GET /api/v1/nodes": "read",
    "GET /api/v1/nodes/{node_id}": "read",
    "GET /api/v1/nodes/{node_id}/metrics": "read",
    "GET /api/v1/nodes/{node_id}/history": "read",
    "GET /api/v1/nodes/{node_id}/channels": "read",
    "GET /api/v1/nodes/{node_id}/rejected": "read",
    "GET /api/v1/districts": "read",
    "GET /api/v1/districts/{district_id}": "read",
    "GET /api/v1/network/metrics": "read",
    "GET /api/v1/network/efficiency": "read",
    "GET /api/v1/predictions/{node_id}": "read",
    "GET /api/v1/quality/{node_id}": "read",
    "GET /api/v1/anomalies": "read",
    "GET /api/v1/anomalies/{anomaly_id}": "read",
    "POST /api/v1/anomalies/{anomaly_id}/acknowledge": "write",
    "POST /api/v1/anomalies/{anomaly_id}/resolve": "write",
    "GET /api/v1/works": "read",
    "POST /api/v1/works": "write",
    "DELETE /api/v1/works/{work_id}": "write",
    "GET /api/v1/incidents": "read",
    "GET /api/v1/alerts": "read",
    "GET /api/v1/models": "read",
    "GET /api/v1/models/{model_id}": "read",
    "GET /api/v1/models/requests": "read",
    "POST /api/v1/models/train": "admin",
    "POST /api/v1/models/{model_id}/promote": "admin",
    "POST /api/v1/models/{model_id}/roll_back": "admin",
    "GET /api/v1/recommendations": "read",
    "GET /api/v1/survey": "read",
    "POST /api/v1/session": "read",
    "GET /api/v1/session": "read",
    "DELETE /api/v1/session": "read",
    "DELETE /api/v1/session/{session_id}": "read",
    "GET /api/v1/keys": "admin",
}
# No routes: what is not there, a method that is not, and ways around the gate or the cache.
ASTRAY: dict[str, str | None] = {
    "GET /api/v1/nowhere": "read",
    "POST /api/v1/nowhere": "write",
    "PUT /api/v1/nodes": "write",
    "GET /api/v1/%6beys": "admin",
    "GET /docs-files/%2e%2e/api/v1/keys": None,
    "GET /dashboard/%2e%2e/api/v1/keys": None,
}
# Query parameters that a route requires.
QUERIES = {"GET /api/v1/series": "?node_id={node_id}"}
NOTHING = "00000000-0000-0000-0000-000000000000"
IDENTIFIERS = dict.fromkeys(("anomaly_id", "model_id", "session_id", "district_id", "node_id", "work_id"), NOTHING)


def routes() -> set[str]:
    """Every route of the API, documented or not, as `METHOD /path/{of}/it`; HEAD goes with GET."""
    found = set()
    for route in iter_route_contexts(create_app(Settings()).routes):
        # Mounted files have no methods.
        found |= {f"{method} {route.path_format}" for method in (route.methods or {"GET"}) - {"HEAD"}}
    return found


@dataclass
class Caller:
    """Somebody with a credential.

    Attributes:
        scope: what it may; None where it is, or is no longer, good for nothing.
        key: that its sessions are of.
        opened_again: makes another of a session, which requests of its own may end.
    """

    name: str
    credential: str
    scope: str | None = None
    key: str = ""
    opened_again: Callable[[], str] | None = None


def opened(client: httpx.Client, key: str, **body: bool) -> str:
    """The token of a new session, which the client does not keep."""
    answer = client.post("/api/v1/session", headers={"X-API-Key": key}, json=body)
    client.cookies.clear()
    token: str = answer.json()["token"]
    return token


def everybody(client: httpx.Client, key_of: Callable[[str], str], sql: Callable[[str], object]) -> dict[str, Caller]:
    """Callers by name: every scope by key, by session and by display; and credentials that were good, and used.

    Args:
        client: of the API, without a credential of its own.
        key_of: makes a key with a scope.
        sql: executes a statement as the owner of the database.
    """
    found = [Caller("nobody", ""), Caller("forged", f"abk_{'0' * 12}_{'0' * 64}"), Caller("nonsense", "x")]
    for scope in SCOPES:
        key = key_of(scope)
        found.append(Caller(scope, key, scope, key))
        for kind, least, body in (("session", scope, {}), ("display", "read", {"is_display": True})):
            again = partial(opened, client, key, **body)
            found.append(Caller(f"{scope} {kind}", again(), least, key, again))
    revoked, expired, valid = key_of("admin"), key_of("admin"), key_of("admin")
    gone = [
        *(Caller(name, key) for name, key in (("revoked", revoked), ("expired", expired))),
        *(Caller(f"{name} session", opened(client, key)) for name, key in (("revoked", revoked), ("expired", expired))),
        Caller("ended session", opened(client, valid)),
    ]
    for caller in gone:
        assert client.get("/api/v1/keys", headers={"Authorization": f"Bearer {caller.credential}"}).status_code == 200
    update = "UPDATE water_infrastructure.api_keys SET {} = now() WHERE key_id = '{}'"
    sql(update.format("revoked_at", revoked.split("_")[1]))
    sql(update.format("expires_at", expired.split("_")[1]))
    ended = client.delete("/api/v1/session", headers={"Authorization": f"Bearer {gone[-1].credential}"})
    assert ended.status_code == 204
    # Every replica may go on believing them for two seconds.
    time.sleep(2.5)
    return {caller.name: caller for caller in (*found, *gone)}


class Matrix:
    """Sends requests to an API as every caller, in every way, and knows what each should be answered."""

    def __init__(self, client: httpx.Client, callers: dict[str, Caller], **identifiers: str) -> None:
        self._client, self._callers = client, callers
        self._identifiers = IDENTIFIERS | {"path": "favicon.png", "name": "js/main.js", "page": "nodes"} | identifiers
        self._ways = {
            "X-API-Key": "{}",
            "Authorization": "Bearer {}",
            "Cookie": session_cookie(client.base_url.scheme) + "={}",
        }

    def as_admin(self, route: str) -> httpx.Response:
        admin = self._callers["admin"]
        answer = self._ask(*self._at(route), [("X-API-Key", admin.credential)])
        self._tidied(answer, admin)
        return answer

    def wrong(self, route: str) -> list[str]:
        """What was answered otherwise than the rules say, a sentence each.

        The admin asks first, so that whatever can be cached is; then everybody, beside another credential and alone.
        """
        method, path = self._at(route)
        by_admin = self.as_admin(route)
        # A write without a body is refused with 422.
        assert by_admin.status_code in (200, 201, 404, 405, 422), (
            f"{route}: {by_admin.status_code} {by_admin.text[:300]}"
        )
        questions: list[tuple[str, dict[str, str]]] = [(method, {})]
        if method == "GET":
            etag = by_admin.headers.get("etag", '"none"')
            questions += [("GET", {"If-None-Match": value}) for value in ("*", etag, f'"other", W/{etag}')]
            questions += [("HEAD", {})]
        alone = [[], *([(way, caller)] for way in self._ways for caller in self._callers.values())]
        found = []
        for presented, (verb, condition) in itertools.chain(
            itertools.product(self._pairs(), questions[:1]), itertools.product(alone, questions)
        ):
            who = _whose(presented)
            for headers in self._spelled(presented):
                answer = self._ask(verb, path, [*headers, *condition.items()])
                if answer.status_code == 400 and [way for way, _ in headers] == ["Authorization", "Authorization"]:
                    # A server in front of the API refuses what HTTP does not allow.
                    continue
                if complaint := self._complaint(route, who, by_admin.status_code, answer, bool(condition)):
                    names = " and ".join(f"{caller.name} by {way}" for way, caller in presented)
                    found.append(f"{verb} {path} {condition or ''} of {names}: {complaint}")
                self._tidied(answer, who)
        return found

    def _at(self, route: str) -> tuple[str, str]:
        """The method and the path; requests that change something name what is not there."""
        method, _, path = route.partition(" ")
        identifiers = self._identifiers if method == "GET" else IDENTIFIERS
        template = path + QUERIES.get(route, "")
        return method, template.format(**{name: quote(identifier, safe="") for name, identifier in identifiers.items()})

    def _pairs(self) -> Iterator[list[tuple[str, Caller]]]:
        """Two credentials at once, in either order and in every two ways: one of them the admin's."""
        admin = self._callers["admin"]
        for other in ("nobody", "nonsense", "read session", "revoked", "admin"):
            for first, second in itertools.product(self._ways, repeat=2):
                yield [(first, admin), (second, self._callers[other])]
                yield [(first, self._callers[other]), (second, admin)]

    def _spelled(self, presented: list[tuple[str, Caller]]) -> Iterator[list[tuple[str, str]]]:
        """The headers that present credentials; two cookies as two headers, and as one."""
        headers = [(way, self._ways[way].format(caller.credential).strip()) for way, caller in presented]
        yield headers
        if [way for way, _ in presented] == ["Cookie", "Cookie"]:
            yield [("Cookie", "; ".join(value for _, value in headers))]

    def _ask(self, method: str, path: str, headers: list[tuple[str, str]]) -> httpx.Response:
        answer = self._client.request(method, path, headers=headers)
        # Only what is presented is sent.
        self._client.cookies.clear()
        return answer

    def _complaint(
        self, route: str, who: Caller | None, expected: int, answer: httpx.Response, is_conditional: bool
    ) -> str | None:
        """What is wrong with an answer; None where it is right."""
        least, scope = (LEAST | ASTRAY)[route], who.scope if who else None
        if least is not None and (scope is None or SCOPES.index(scope) < SCOPES.index(least)):
            return _unlike_a_refusal(answer, 401 if scope is None else 403, least)
        if who is not None and route in ("POST /api/v1/session", "DELETE /api/v1/session"):
            # Sessions are opened with keys, and end themselves.
            by_key, by_session = (201, 401) if route.startswith("POST") else (404, 204)
            right = {by_session if who.opened_again else by_key}
        else:
            right = {expected, 304} if is_conditional else {expected}
        if answer.status_code not in right:
            return f"{answer.status_code}, not {right}"
        if who is not None and route == "GET /api/v1/session" and answer.content:
            of_key = {c.credential.split("_")[1] for c in self._callers.values() if c.opened_again and c.key == who.key}
            if of_key != {row["session_id"] for row in answer.json()}:
                return "other sessions than those of its key"
        return None

    def _tidied(self, answer: httpx.Response, who: Caller | None) -> None:
        """Opens again what a request has ended, and ends what it has opened."""
        if answer.status_code == 204 and who is not None and who.opened_again is not None:
            who.credential = who.opened_again()
        elif answer.status_code == 201:
            self._client.delete("/api/v1/session", headers={"Authorization": f"Bearer {answer.json()['token']}"})


def _whose(presented: list[tuple[str, Caller]]) -> Caller | None:
    """Whose request it is: what a script sends counts before what a browser adds; two credentials are nobody's."""
    sent = [(way, caller) for way, caller in presented if caller.credential]
    counted = [caller for way, caller in sent if way != "Cookie"] or [caller for _, caller in sent]
    return counted[0] if len({caller.credential for caller in counted}) == 1 else None


def _unlike_a_refusal(answer: httpx.Response, status: int, least: str) -> str | None:
    if answer.status_code != status:
        return f"{answer.status_code}, not {status}"
    if answer.headers["content-type"] != "application/problem+json" or "etag" in answer.headers:
        return f"{status} with {dict(answer.headers)}"
    if status == 401 and not answer.headers["www-authenticate"].startswith("Bearer"):
        return "401 without its challenge"
    if answer.content:
        problem = answer.json()
        if set(problem) != {"type", "title", "status", "detail"}:
            return f"{status} that tells {set(problem)}"
        if status == 403 and not problem["detail"].startswith(f"This needs the scope {least}; "):
            return f"403 that says {problem['detail']!r}"
    return None
