"""The life of an installation, from a start that goes wrong to a restore on an empty server."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import ssl
import subprocess
import termios
import time
import tomllib
from collections import Counter
from pathlib import Path

import httpx
import psycopg2
import redis

from tests.e2e.report import Report, eventually
from tests.e2e.stack import HTTP, HTTPS, POSTGRES, REDIS, Load, Stack

FROM_FILE = "r3dis-k7Q!x-9fLm2-Zw"
SERVICES = ("postgres", "redis", "processing", "api", "api-replica", "nginx")
STATIC = (
    "/api/v1/nodes",
    "/api/v1/nodes/inlet-river/metrics?time_window=1day",
    "/api/v1/nodes/inlet-river/history?start_time=2020-01-01T00:00:00Z&end_time=2030-01-01T00:00:00Z",
    "/api/v1/network/metrics",
    "/api/v1/jobs?limit=500",
)


def refused_starts(stack: Stack, report: Report, settings: str) -> None:
    """What a new user gets wrong: each ends with one sentence, the next step, and no container."""
    script = "./scripts/start_processing_services.sh"
    example = (stack.folder / ".env.processing.example").read_text()
    given = example.replace("BIGQUERY_PROJECT_ID=", "BIGQUERY_PROJECT_ID=my-own-project") + settings

    def refuses(name: str, sentence: str, env: str | None, flags: str = "", **environment: str) -> None:
        with report.check(f"start refuses: {name}"):
            file = stack.folder / ".env.processing"
            file.unlink(missing_ok=True)
            if env is not None:
                file.write_text(env)
            done = stack.run(f"{script} {flags}", 60, expect=1, **environment)
            lines = [line for line in done.stderr.splitlines() if not line.startswith("Note:")]
            assert re.search(sentence, lines[0]), done.stderr
            assert [line.split(":")[0] for line in lines] == ["Error", "Next"], done.stderr
            assert done.stdout == ""
            assert not stack.containers("postgres")

    bare = stack.folder / "bare-path"
    bare.mkdir()
    for tool in ("bash", "dirname", "cat", "id", "sed", "tail", "basename", "env"):
        (bare / tool).symlink_to(stack.run(f"command -v {tool}").stdout.strip())
    refuses("no engine", "Docker is not installed", given, PATH=str(bare))
    refuses("an engine that is away", "engine does not answer", given, DOCKER_HOST="unix:///nowhere.sock")
    refuses("no settings", "There is no .env.processing", None)
    refuses("no project", "BIGQUERY_PROJECT_ID is not set", example)
    refuses("a demo beside a project", "BIGQUERY_PROJECT_ID is my-own-project", given, "--demo")
    wrong = given + "GOOGLE_APPLICATION_CREDENTIALS=/nowhere/key.json\n"
    refuses("credentials that are not there", "/nowhere/key.json, which is no file", wrong)
    odd = given + f"GOOGLE_APPLICATION_CREDENTIALS={stack.folder}/README.md\n"
    refuses("credentials that are none", "is not a Google credentials file", odd)
    for secret in ("changeme", "short", "aaaaaaaaaaaaaaaaaaaaaaa", "my-abbanoa-database"):
        refuses(
            f"the weak secret {secret}", "POSTGRES_PASSWORD (has|contains)", given + f"POSTGRES_PASSWORD={secret}\n"
        )
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 6380))
        taken.listen()
        refuses("a taken port", "Port 6380 is taken", example + settings, "--demo")


def start(stack: Stack, report: Report) -> float:
    """The first start; seconds from the command to everything healthy, images being there."""
    stack.compose("build --parallel processing api bigquery", 600)
    stack.compose("--profile demo build", 300)
    with report.check("a weak secret is refused also where nobody used the start script"):
        done = stack.run("docker-compose run --rm setup", 60, expect=1, REDIS_PASSWORD="changeme")
        assert "REDIS_PASSWORD contains a word" in done.stdout + done.stderr
    # One secret comes from a file, the others are made.
    (stack.folder / "secrets" / "redis_password").write_text(FROM_FILE + "\n")
    begun = time.monotonic()
    done = stack.run("./scripts/start_processing_services.sh --demo --no-build", 300)
    seconds = time.monotonic() - begun
    with report.check("start says where everything is, and that nobody may ask yet"):
        for part in (f"{HTTPS}/docs", "docker exec -it abbanoa-postgres-processing psql", "create_api_key.sh"):
            assert part in done.stdout, done.stdout
    with report.check("keys are made for each scope, and listed without themselves"):
        stack.keys = {scope: stack.key(scope) for scope in ("read", "write", "admin")}
        listed = stack.run("./scripts/create_api_key.sh --list").stdout
        assert all(key.split("_")[1] in listed and key.split("_")[2] not in listed for key in stack.keys.values())
    with report.check("the demo's network is taken in, from the stand-in for BigQuery"):
        eventually(lambda: int(stack.sql(CYCLES.format("> 0"))) > 0, 150, "a cycle with readings")
        with stack.client() as client:
            nodes = client.get("/api/v1/nodes").json()
            assert len(nodes) == 18
            assert all(node["district_id"] == "net3" for node in nodes)
    return seconds


CYCLES = (
    "SELECT count(*) FROM water_infrastructure.processing_jobs WHERE status = 'completed' "
    "AND (result_summary ->> 'readings')::int {}"
)


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
    with stack.client() as reader, stack.client(None) as nobody, stack.client("admin") as admin:
        with report.check("what one caller's key got from the cache, nobody gets without one"):
            for _ in range(3):
                assert reader.get(path).status_code == 200
                assert nobody.get(path).status_code == 401
                assert nobody.get(path, headers={"X-API-Key": stack.keys["read"][:-1] + "x"}).status_code == 401
            assert reader.get("/api/v1/keys").status_code == 403
            assert admin.get("/api/v1/keys").status_code == 200
            assert reader.get("/api/v1/keys").status_code == 403
        with report.check("a revoked key is refused within three seconds, cached answers included"):
            key = stack.key("read")
            asked = {"X-API-Key": key}
            assert nobody.get(path, headers=asked).status_code == 200
            stack.run(f"./scripts/create_api_key.sh --revoke {key.split('_')[1]}")
            eventually(lambda: nobody.get(path, headers=asked).status_code == 401, 4, "the refusal")
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
        with report.check("the same question within a second is answered by Nginx"):
            for _ in range(5):
                client.get(f"{path}?limit=3")
            log = stack.run("docker logs --tail 20 abbanoa-nginx").stdout
            found = [json.loads(line)["cache"] for line in log.splitlines() if "limit=3" in line or path in line]
            assert "HIT" in found, found
        with report.check("one request id goes through to the API and back"):
            answer = client.get("/api/v1/nodes", headers={"X-Request-ID": "control-room-7", "X-API-Key": "wrong"})
            assert answer.headers["x-request-id"] == "control-room-7"
            logs = "".join(stack.run(f"docker logs --tail 50 {name} 2>&1").stdout for name in apis(stack))
            assert "control-room-7" in logs
        with report.check("a request that is too large is refused as a problem"):
            answer = client.post("/api/v1/session", content=b"x" * 100_000)
            assert answer.status_code == 413
            assert answer.headers["content-type"] == "application/problem+json"


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


def apis(stack: Stack) -> list[str]:
    return stack.containers("api") + stack.containers("api-replica")


def hardening(stack: Stack, report: Report) -> None:
    password = stack.run(f"docker exec {POSTGRES} cat /run/secrets/postgres_password").stdout
    owner = {"host": "localhost", "port": 5433, "user": "abbanoa_user", "dbname": "abbanoa_processing"}
    with report.check("PostgreSQL: encrypted and with the password, or not at all"):
        psycopg2.connect(**owner, password=password, sslmode="require").close()
        for wrong in ({"password": password, "sslmode": "disable"}, {"password": "x" * 20, "sslmode": "require"}):
            try:
                psycopg2.connect(**owner, **wrong)
            except psycopg2.OperationalError:
                continue
            raise AssertionError(f"let in with sslmode {wrong['sslmode']}")
    with report.check("each service has a role of its own, and the API's cannot write"):
        api = stack.run("docker exec abbanoa-api cat /run/secrets/postgres_api_password").stdout
        connection = psycopg2.connect(**owner | {"user": "abbanoa_api"}, password=api, sslmode="require")
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ WRITE")
            try:
                cursor.execute("DELETE FROM water_infrastructure.nodes")
            except psycopg2.errors.InsufficientPrivilege:
                pass
            else:
                raise AssertionError("the API may delete nodes")
        connection.close()
        used = stack.sql("SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name LIKE 'abbanoa-%'")
        assert set(used.split()) == {"abbanoa_api", "abbanoa_processing"}, used
    with report.check("Redis: not without its password; nothing but answers is ever evicted"):
        try:
            redis.Redis(port=6380).ping()
        except redis.AuthenticationError:
            pass
        else:
            raise AssertionError("let in without a password")
        assert redis.Redis(port=6380, password=FROM_FILE).ping()
        stack.run(f"docker exec {REDIS} redis-cli save")
        policy = stack.run(f"docker exec {REDIS} redis-cli config get maxmemory-policy").stdout
        assert "volatile-lru" in policy
    with report.check("the knobs of the servers are turned by settings"):
        assert stack.sql("SHOW max_connections") == "77"
        assert "\n103809024" in stack.run(f"docker exec {REDIS} redis-cli config get maxmemory").stdout
    with report.check("databases and the API's own port are open to this machine only"):
        for name, port in ((POSTGRES, "5432/tcp"), (REDIS, "6379/tcp"), ("abbanoa-api", "8000/tcp")):
            bound = json.loads(stack.run(f"docker inspect -f '{{{{json .NetworkSettings.Ports}}}}' {name}").stdout)
            assert {entry["HostIp"] for entry in bound[port]} == {"127.0.0.1"}
    with report.check("containers: read-only, without privileges, not root, bounded in memory and logs"):
        for service in SERVICES:
            name = stack.containers(service)[0]
            host = json.loads(stack.run(f"docker inspect -f '{{{{json .HostConfig}}}}' {name}").stdout)
            assert host["ReadonlyRootfs"], name
            assert host["CapDrop"] == ["ALL"], name
            assert host["Memory"] > 0, name
            assert host["LogConfig"]["Config"]["max-size"], name
            main = stack.run(f"docker top {name} -eo pid,uid,args").stdout.splitlines()[1:]
            assert all(line.split()[1] != "0" for line in main if "docker-init" not in line), (name, main)
    with report.check("images: no compiler, no pip, labels; the API's without pandas"):
        for service in ("processing", "api"):
            name = stack.containers(service)[0]
            assert stack.run(f"docker exec {name} sh -c 'command -v gcc cc make pip'", expect=None).stdout == ""
            assert (
                stack.run(f"docker inspect -f '{{{{json .Config.Labels}}}}' {name}").stdout.count("org.opencontainers")
                >= 4
            )
        assert stack.run("docker exec abbanoa-api python3 -c 'import pandas'", expect=1)
    with report.check("no secret stands in a container's environment or log"):
        for service in SERVICES:
            for name in stack.containers(service):
                told = stack.run(f"docker inspect {name}; docker logs {name} 2>&1").stdout
                assert password not in told, name
                assert not any(key in told for key in stack.keys.values()), name


def under_load(stack: Stack, report: Report, result: dict[str, object]) -> None:
    """Three processing replicas, three of the API, one of them killed, an update: and nobody notices."""
    with Load(stack) as load:
        with report.check("processing and API scale to three"):
            stack.compose("--profile demo up -d --no-build --scale processing=3 --scale api-replica=2")
            eventually(
                lambda: stack.healthy("processing", 3) and stack.healthy("api-replica", 2), 90, "three healthy of each"
            )
        with report.check("docker logs abbanoa-api works while the API is scaled"):
            assert "startup complete" in stack.run("docker logs abbanoa-api 2>&1").stdout
        with report.check("all three replicas of the API are asked"):

            def asked() -> set[str]:
                lines = stack.run("docker logs --tail 400 abbanoa-nginx").stdout.splitlines()
                told = [json.loads(line)["upstream"] for line in lines if '"upstream"' in line]
                return {address for entry in told for address in entry.split(", ") if address}

            eventually(lambda: len(asked()) >= 3, 30, "answers of three replicas")
        with report.check("a killed replica of the API comes back, and nobody notices"):
            stack.crash(stack.containers("api-replica")[0])
            time.sleep(5)
            eventually(lambda: stack.healthy("api-replica", 2), 60, "its return")
        with report.check("chunks of one tick are worked off by several replicas"):
            since = stack.sql("SELECT now()")
            query = (
                "SELECT coalesce(max(replicas), 0) FROM (SELECT count(DISTINCT replica) AS replicas "
                "FROM water_infrastructure.job_chunks JOIN water_infrastructure.processing_jobs USING (job_id) "
                f"WHERE job_chunks.status = 'completed' AND created_at > '{since}' GROUP BY job_id) AS of_job"
            )
            eventually(lambda: int(stack.sql(query)) >= 2, 150, "two replicas at work")
            stack.note_ticks()
        with report.check("update.sh replaces everything while requests are answered"):
            stack.run("git commit -q --allow-empty -m 'a new version'")
            before = {name: stack.run(f"docker inspect -f '{{{{.Id}}}}' {name}").stdout for name in apis(stack)}
            stack.run("./scripts/update.sh", 400)
            after = {name: stack.run(f"docker inspect -f '{{{{.Id}}}}' {name}").stdout for name in apis(stack)}
            assert len(after) == 3
            assert not set(before.values()) & set(after.values())
            revision = stack.run("git rev-parse --short HEAD").stdout.strip()
            assert revision in stack.run("docker inspect abbanoa-api").stdout
        stack.note_ticks()
    result["requests"], result["requests_failed"] = load.requests, len(load.failures)
    with report.check(f"no request failed ({load.requests} were made)"):
        assert load.requests > 500
        at = Counter(failure.split()[0] for failure in load.failures)
        assert not load.failures, f"{dict(at)}\n" + "\n".join(load.failures[:5])


def ticks(stack: Stack, report: Report, result: dict[str, object]) -> None:
    """What the logs of all replicas, and the database, say of the whole run."""
    stack.note_ticks()
    jobs = stack.sql(
        "SELECT count(DISTINCT scheduled_for), count(*) FROM water_infrastructure.processing_jobs "
        "WHERE job_type = 'processing_cycle'"
    )
    distinct, every = (int(part) for part in jobs.split("|"))
    doubled = {told for told, lines in stack.ticks.items() if len(lines) > 1}
    result["ticks"], result["ticks_doubled"] = distinct, len(doubled) + every - distinct
    with report.check(f"no tick was claimed or ended twice ({distinct} ticks)"):
        assert result["ticks_doubled"] == 0, doubled
        assert len({told for told in stack.ticks if told.startswith("tick claimed")}) >= 5


def crashes(stack: Stack, report: Report) -> int:
    """Each container killed in turn: it comes back by itself, and so do the answers. The cycles completed by then."""
    for service in ("processing", "api", "api-replica", "redis", "nginx", "postgres", "bigquery"):
        with report.check(f"{service} is killed and comes back"):
            name = stack.containers(service)[0]
            started = stack.run(f"docker inspect -f '{{{{.State.StartedAt}}}}' {name}").stdout
            stack.crash(name)
            eventually(
                lambda name=name, started=started: (
                    stack.run(f"docker inspect -f '{{{{.State.StartedAt}}}}' {name}").stdout != started
                    and stack.healthy(stack_service(stack, name))
                ),
                90,
                f"{name} healthy again",
            )
            with stack.client() as client:
                eventually(lambda: client.get("/api/v1/status").status_code == 200, 30, "an answer")
    stack.note_ticks()
    return int(stack.sql(CYCLES.format(">= 0")))


def stack_service(stack: Stack, name: str) -> str:
    form = '{{index .Config.Labels "com.docker.compose.service"}}'
    return stack.run(f"docker inspect -f '{form}' {name}").stdout.strip()


def monitoring(stack: Stack, report: Report, cycles: int) -> None:
    with report.check("after all the crashes processing goes on"):
        eventually(lambda: int(stack.sql(CYCLES.format(">= 0"))) > cycles, 150, "another cycle")
    with report.check("monitor: a healthy system is 0, and says so truly"):

        def well() -> dict | None:
            code, told = stack.monitor()
            return told if (code, told["status"], told["reasons"]) == (0, "healthy", []) else None

        told = eventually(well, 90, "a healthy system")
        states = {row["name"]: row["state"] for row in told["services"]}
        assert states["abbanoa-api"] == "healthy"
        assert told["data"]["nodes"] == int(stack.sql("SELECT count(*) FROM water_infrastructure.nodes"))
        assert told["jobs"][0]["job_type"] == "processing_cycle"
        assert told["processing_replicas"] == len(stack.containers("processing"))
        text = stack.run("./scripts/monitor_processing.sh").stdout
        assert "Status: healthy" in text
    with report.check("monitor --watch goes on until it is ended"):
        watch = subprocess.Popen(
            ["./scripts/monitor_processing.sh", "--json", "--watch", "1"],
            cwd=stack.folder,
            stdout=subprocess.PIPE,
            text=True,
        )
        lines = [watch.stdout.readline() for _ in range(2)]
        watch.send_signal(signal.SIGTERM)
        assert watch.wait(30) == 0
        assert all(json.loads(line)["status"] == "healthy" for line in lines)
    with report.check("monitor: without Redis it is 1, degraded, and the API still answers"):
        stack.run(f"docker stop -t 5 {REDIS}")
        with stack.client() as client:
            assert client.get("/api/v1/nodes?limit=2").status_code == 200
            eventually(lambda: client.get("/api/v1/status").json()["status"] == "degraded", 10, "a degraded status")
        code, told = stack.monitor()
        assert (code, told["status"], told["redis"]["connected"]) == (1, "degraded", False)
        assert "Redis does not answer" in told["reasons"]
        stack.run(f"docker start {REDIS}")
    with report.check("without the API Nginx says 503 as a problem, and the monitor 2"):
        stack.compose("stop -t 5 api api-replica")
        with stack.client() as client:
            answer = client.get("/api/v1/nodes?limit=4")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "5"
        code, told = stack.monitor()
        assert (code, told["status"], told["api"], told["database"]) == (2, "down", False, True)
    with report.check("monitor: a dead system is 2, and every container's state is told"):
        stack.compose("--profile demo stop -t 5")
        code, told = stack.monitor()
        assert (code, told["status"], told["api"], told["database"]) == (2, "down", False, False)
        assert {"PostgreSQL does not answer", "no replica of the API answers"} <= set(told["reasons"])
        stack.compose("--profile demo up -d --no-build")
        eventually(lambda: all(stack.healthy(service) for service in SERVICES), 120, "everything healthy")


def observability(stack: Stack, report: Report) -> None:
    with report.check("Prometheus finds every replica, and loads its rules"):
        stack.compose("--profile observability up -d --no-build --no-deps prometheus")

        def targets() -> bool:
            told = httpx.get("http://localhost:9090/api/v1/targets").json()["data"]["activeTargets"]
            up = Counter(target["labels"]["job"] for target in told if target["health"] == "up")
            wanted = {"processing": len(stack.containers("processing")), "api": len(apis(stack))}
            return dict(up) == wanted

        eventually(targets, 60, "every target up")
        rules = httpx.get("http://localhost:9090/api/v1/rules").json()["data"]["groups"]
        assert sum(len(group["rules"]) for group in rules) >= 10
        query = {"query": "max(abbanoa_processing_replicas)"}
        found = httpx.get("http://localhost:9090/api/v1/query", params=query).json()["data"]["result"]
        assert float(found[0]["value"][1]) >= 1
        stack.compose("--profile observability rm -sf prometheus")


def disaster(stack: Stack, report: Report, result: dict[str, object]) -> None:
    """Backup, everything lost, restore on an empty server."""
    with report.check("backup → volumes destroyed → restore: every row and every answer is the same"):
        with stack.client() as client:
            token = client.post("/api/v1/session").json()["token"]
        stack.note_ticks()
        # Quiet, so that what is compared does not move.
        stack.compose("stop -t 20 processing")
        with stack.client() as client:
            answers = {path: client.get(path).json() for path in STATIC}
        stack.compose("stop -t 20 nginx api api-replica")
        rows = stack.rows()
        folder = stack.run("./scripts/backup.sh --to saved").stdout.strip()
        stack.compose("--profile demo down -v")
        stack.run(f"./scripts/restore.sh {folder} --yes --stopped", 300)
        restored = stack.rows()
        different = 0
        for table in rows.keys() | restored.keys():
            was, is_now = Counter(rows.get(table, [])), Counter(restored.get(table, []))
            different += ((was - is_now) + (is_now - was)).total()
        result["restore_rows_different"] = different
        result["restore_rows"] = sum(len(lines) for lines in rows.values())
        assert different == 0
        stack.compose("up -d --no-build --no-deps redis api api-replica nginx")
        eventually(lambda: stack.healthy("api") and stack.healthy("nginx"), 60, "the API")
        with stack.client() as client:
            again = {path: client.get(path).json() for path in STATIC}
            assert (
                client.get("/api/v1/nodes", headers={"Authorization": f"Bearer {token}", "X-API-Key": ""}).status_code
                == 200
            )
        assert again == answers
        stack.compose("--profile demo up -d --no-build")
        eventually(lambda: all(stack.healthy(service) for service in SERVICES), 120, "everything healthy")
    with report.check("a damaged backup is refused before anything is touched"):
        dump = stack.folder / folder / "database.dump"
        dump.write_bytes(dump.read_bytes()[:-1] + b"x")
        done = stack.run(f"./scripts/restore.sh {folder} --yes", 60, expect=1)
        assert "damaged" in done.stderr
        assert stack.healthy("api")
    with report.check("backups rotate"):
        first, second = (stack.run("./scripts/backup.sh --to rotated --keep 1").stdout.strip() for _ in range(2))
        assert first != second
        assert [str(kept.relative_to(stack.folder)) for kept in (stack.folder / "rotated").iterdir()] == [second]


def documented(stack: Stack, report: Report) -> None:
    """The architecture document's commands, as written there."""
    commands = tomllib.loads((Path(__file__).parent / "document_commands.toml").read_text())["command"]
    environment = os.environ | {
        "POSTGRES_PASSWORD": stack.run(f"docker exec {POSTGRES} cat /run/secrets/postgres_password").stdout,
        "REDIS_PASSWORD": stack.run("docker exec abbanoa-api cat /run/secrets/redis_password").stdout,
        "BIGQUERY_PROJECT_ID": "some-project",
    }
    stack.note_ticks()
    for command in commands:
        with report.check(f"as the document has it: {command['run'].splitlines()[-1][:100]}"):
            code, output = typed(command, stack.folder, environment)
            assert re.search(command["output"], output), output[-1500:]
            assert code in command.get("code", [0]) or "seconds" in command, (code, output[-500:])
    with report.check("as the document has it: scale: 3 in the compose file"):
        file = stack.folder / "docker-compose.processing.yml"
        text = file.read_text()
        file.write_text(text.replace("scale: ${PROCESSING_REPLICAS:-1}", "scale: 3"))
        stack.compose("up -d --no-build --no-deps processing")
        eventually(lambda: stack.healthy("processing", 3), 60, "three processing replicas")
        file.write_text(text)


def typed(command: dict, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Runs a command as a person would, at a terminal where it wants one; its exit code and all it printed."""
    limit = command.get("seconds", 240)
    if not command.get("tty"):
        process = subprocess.Popen(
            ["bash", "-c", command["run"]], cwd=folder, env=environment, text=True, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            try:
                output, _ = process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                output, _ = process.communicate()
        return process.returncode, output
    master, slave = pty.openpty()
    # A terminal without a size would page every answer.
    termios.tcsetwinsize(slave, (50, 160))
    process = subprocess.Popen(
        ["bash", "-c", command["run"]], cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    for line in command["input"].splitlines(keepends=True):
        time.sleep(1)
        # Enter is a carriage return.
        os.write(master, line.rstrip("\n").encode() + b"\r")
    output, deadline = b"", time.monotonic() + 30
    while time.monotonic() < deadline:
        readable, _, _ = select.select([master], [], [], 0.5)
        if readable:
            try:
                output += os.read(master, 65536)
            except OSError:
                break
        elif process.poll() is not None:
            break
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    os.close(master)
    process.kill()
    return process.wait(), output.decode(errors="replace")
