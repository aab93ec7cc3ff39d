"""What callers see through Nginx: every endpoint, who may ask, TLS, caching, certificates."""

from __future__ import annotations

import contextlib
import socket
import ssl

import httpx

from tests.access import ASTRAY, Matrix, everybody, routes
from tests.e2e.report import Report, eventually
from tests.e2e.stack import HTTP, HTTPS, Stack, apis


def endpoints(stack: Stack, report: Report) -> None:
    with stack.client("admin") as client:
        for path in (
            "/health", "/ready", "/docs", "/openapi.json", "/metrics", "/api/v1/nodes",
            "/api/v1/nodes/inlet-river/metrics", "/api/v1/nodes/inlet-river/history",
            "/api/v1/network/metrics", "/api/v1/network/efficiency", "/api/v1/predictions/inlet-river",
            "/api/v1/anomalies", "/api/v1/status", "/api/v1/dashboard/summary", "/api/v1/jobs", "/api/v1/keys",
            "/api/v1/session",
        ):  # fmt: skip
            with report.check(f"GET {path}"):
                answer = client.get(path)
                assert answer.status_code == 200, answer.text
                assert answer.content
        with report.check("GET /api/v1/quality/inlet-river says honestly that there is nothing yet"):
            answer = client.get("/api/v1/quality/inlet-river")
            assert answer.status_code in (200, 404)
            assert answer.status_code == 200 or "yet" in answer.json()["detail"]
        with report.check("the litres add up: an hour's volume is its mean flow times 3600 s"):
            hour = client.get("/api/v1/nodes/inlet-river/history").json()[-2]
            assert abs(hour["total_volume"] - hour["avg_flow_rate"] * 3.6) < 0.01 * hour["total_volume"] + 0.01
        with report.check("an unknown node is 404, a bad parameter 422, as problems"):
            for path, status in (("/api/v1/nodes/nobody/metrics", 404), ("/api/v1/anomalies?hours=x", 422)):
                answer = client.get(path)
                assert answer.status_code == status
                assert answer.headers["content-type"] == "application/problem+json"


def access(stack: Stack, report: Report) -> None:
    path = "/api/v1/nodes"
    with stack.client() as reader, stack.client(None) as nobody:
        with report.check("nobody gets an answer that is for others, by whichever way of asking"):
            matrix = Matrix(nobody, everybody(nobody, stack.key, stack.sql), node_id="inlet-river")
            wrong = [complaint for route in (*sorted(routes()), *ASTRAY) for complaint in matrix.wrong(route)]
            assert not wrong, "\n".join(wrong[:20])
        with report.check("a revoked key is refused within three seconds, cached answers included"):
            key = stack.key("read")
            headers = {"X-API-Key": key}
            assert nobody.get(path, headers=headers).status_code == 200
            stack.run(f"./scripts/create_api_key.sh --revoke {key.split('_')[1]}")
            eventually(lambda: nobody.get(path, headers=headers).status_code == 401, 4, "the refusal")
        with report.check("a session: opened with a key, Secure and HttpOnly, ended"):
            opened = reader.post("/api/v1/session")
            assert opened.status_code == 201, opened.text
            cookie = opened.headers["set-cookie"]
            assert "Secure" in cookie
            assert "HttpOnly" in cookie
            reader.cookies.clear()
            browser = {"Cookie": cookie.split(";")[0]}
            assert nobody.get(path, headers=browser).status_code == 200
            assert nobody.delete("/api/v1/session", headers=browser).status_code == 204
            eventually(lambda: nobody.get(path, headers=browser).status_code == 401, 4, "the end of the session")
        with report.check("rate limits are told"):
            answer = reader.get(f"{path}?limit=7")
            assert int(answer.headers["ratelimit-limit"]) == 100_000
            assert 0 < int(answer.headers["ratelimit-remaining"]) < 100_000


def at_the_edge(stack: Stack, report: Report) -> None:
    path = "/api/v1/nodes/inlet-river/history"
    with stack.client() as client:
        with report.check("HTTP leads to HTTPS"):
            answer = httpx.get(HTTP + path)
            assert (answer.status_code, answer.headers["location"]) == (308, HTTPS + path)
        with report.check("TLS 1.2 at least, and a certificate that names this host"):
            old = stack.trust()
            old.minimum_version = ssl.TLSVersion.TLSv1
            with contextlib.suppress(ValueError):
                old.maximum_version = ssl.TLSVersion.TLSv1_1
            try:
                with (
                    socket.create_connection(("localhost", 8443)) as plain,
                    old.wrap_socket(plain, server_hostname="localhost"),
                ):
                    raise AssertionError("TLS 1.1 was accepted")
            except (ssl.SSLError, ConnectionError):
                pass
        with report.check("answers are compressed, and carry what browsers should know"):
            answer = client.get(path, headers={"Accept-Encoding": "gzip"})
            assert answer.headers["content-encoding"] == "gzip"
            for header in ("strict-transport-security", "x-content-type-options", "content-security-policy"):
                assert header in answer.headers
            assert "server" not in answer.headers or answer.headers["server"] == "nginx"
        with report.check("an unchanged answer costs a 304, compressed or not"):
            for encoding in ("gzip", "identity"):
                etag = client.get(path, headers={"Accept-Encoding": encoding}).headers["etag"]
                again = client.get(path, headers={"Accept-Encoding": encoding, "If-None-Match": etag})
                assert again.status_code == 304, (encoding, etag)
        with report.check("CSV and JSON of one path are kept apart"):
            kinds = [client.get(path, headers={"Accept": kind}).headers["content-type"] for kind in ("text/csv", "*/*")]
            assert kinds[0].startswith("text/csv")
            assert kinds[1] == "application/json"
        with report.check("each answer says how many requests are left, also to the same question within a second"):
            left = [int(client.get(f"{path}?limit=3").headers["ratelimit-remaining"]) for _ in range(5)]
            assert len(set(left)) > 1, left
        with report.check("one request id goes through to the API and back"):
            answer = client.get("/api/v1/nodes", headers={"X-Request-ID": "control-room-7", "X-API-Key": "wrong"})
            assert answer.headers["x-request-id"] == "control-room-7"
            logs = "".join(stack.run(f"docker logs --tail 50 {name} 2>&1").stdout for name in apis(stack))
            assert "control-room-7" in logs
        with report.check("a request that is too large is refused as a problem"):
            answer = client.post("/api/v1/session", content=b"x" * 100_000)
            assert answer.status_code == 413
            assert answer.headers["content-type"] == "application/problem+json"


def dashboard(stack: Stack, report: Report) -> None:
    with stack.client(None) as nobody:
        with report.check("the dashboard: one page for every address, open to all, with a policy of its own"):
            for path in ("/dashboard", "/dashboard/nodes/inlet-river", "/dashboard/survey"):
                answer = nobody.get(path)
                assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, "text/html")
                policies = answer.headers.get_list("content-security-policy")
                assert len(policies) == 1, policies
                assert "script-src 'self'" in policies[0]
                assert "unsafe" not in policies[0]
        with report.check("the dashboard's files: compressed, and 304 while they are the same"):
            for name in ("js/main.js", "vendor/uPlot.iife.min.js", "vendor/uPlot.min.css"):
                answer = nobody.get(f"/dashboard/files/{name}", headers={"Accept-Encoding": "gzip"})
                assert answer.status_code == 200, (name, answer.status_code)
                assert answer.headers["content-encoding"] == "gzip", name
                again = {"Accept-Encoding": "gzip", "If-None-Match": answer.headers["etag"]}
                assert nobody.get(f"/dashboard/files/{name}", headers=again).status_code == 304, name
        with report.check("the dashboard's figures are for those with a key"):
            for path in ("/api/v1/dashboard/overview", "/api/v1/series?node_id=inlet-river", "/api/v1/survey"):
                assert nobody.get(path).status_code == 401, path
                with stack.client() as reader:
                    answer = reader.get(path)
                    assert answer.status_code == 200, (path, answer.text)


def certificates(stack: Stack, report: Report) -> None:
    with report.check("a mounted certificate takes the place of the self-signed one"):
        folder = stack.folder / "nginx" / "certificates"
        before = stack.trust()
        stack.run(
            f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj /CN=utility "
            f"-addext subjectAltName=DNS:localhost -keyout {folder}/privkey.pem -out {folder}/fullchain.pem"
        )
        stack.compose("up -d --no-build setup")
        eventually(lambda: stack.state(stack.containers("setup")[0]) == "exited", 30, "the end of the setup")
        stack.run("docker restart abbanoa-nginx")
        given = ssl.create_default_context(cafile=str(folder / "fullchain.pem"))
        eventually(lambda: httpx.get(f"{HTTPS}/health", verify=given).status_code == 200, 30, "the given certificate")
        try:
            httpx.get(f"{HTTPS}/health", verify=before)
        except httpx.ConnectError:
            return
        raise AssertionError("the old certificate is still shown")
