"""What an operator does: watching, saving, and restoring on an empty server."""

from __future__ import annotations

import http.server
import json
import signal
import subprocess
import threading
from collections import Counter

import httpx

from tests.e2e.report import Report, eventually
from tests.e2e.stack import CYCLES, REDIS, SERVICES, Stack, apis

STATIC = (
    "/api/v1/nodes",
    "/api/v1/nodes/inlet-river/metrics?time_window=1day",
    "/api/v1/nodes/inlet-river/history?start_time=2020-01-01T00:00:00Z&end_time=2030-01-01T00:00:00Z",
    "/api/v1/network/metrics",
    "/api/v1/jobs?limit=500",
)


# A rule that always fires.
ALWAYS = """
  - name: trial
    rules:
      - alert: AlwaysFires
        expr: vector(1)
        labels: {severity: ticket}
"""


class _Alertmanager:
    """Takes alerts as the real one does, below the path /alerts, and keeps their names."""

    def __enter__(self) -> _Alertmanager:
        names = self.names = set[str]()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if self.path == "/alerts/api/v2/alerts":
                    names.update(alert["labels"]["alertname"] for alert in body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()


def monitoring(stack: Stack, report: Report, cycles: int) -> None:
    with report.check("after all the crashes processing goes on"):
        eventually(lambda: int(stack.sql(CYCLES.format(">= 0"))) > cycles, 150, "another cycle")
    with report.check("monitor: a healthy system is 0, and says so truly"):

        def well() -> dict | None:
            code, status = stack.monitor()
            return status if (code, status["status"], status["reasons"]) == (0, "healthy", []) else None

        status = eventually(well, 90, "a healthy system")
        states = {row["name"]: row["state"] for row in status["services"]}
        assert states["abbanoa-api"] == "healthy"
        assert status["data"]["nodes"] == int(stack.sql("SELECT count(*) FROM water_infrastructure.nodes"))
        assert status["jobs"][0]["job_type"] == "processing_cycle"
        assert status["processing_replicas"] == len(stack.containers("processing"))
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
        code, status = stack.monitor()
        assert (code, status["status"], status["redis"]["connected"]) == (1, "degraded", False)
        assert "Redis does not answer" in status["reasons"]
        stack.run(f"docker start {REDIS}")
    with report.check("without the API Nginx says 503 as a problem, and the monitor 2"):
        stack.compose("stop -t 5 api api-replica")
        with stack.client() as client:
            answer = client.get("/api/v1/nodes?limit=4")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["retry-after"] == "5"
        code, status = stack.monitor()
        assert (code, status["status"], status["api"], status["database"]) == (2, "down", False, True)
    with report.check("monitor: a dead system is 2, and every container's state is told"):
        stack.compose("--profile demo stop -t 5")
        code, status = stack.monitor()
        assert (code, status["status"], status["api"], status["database"]) == (2, "down", False, False)
        assert {"PostgreSQL does not answer", "no replica of the API answers"} <= set(status["reasons"])
        stack.compose("--profile demo up -d --no-build")
        eventually(lambda: all(stack.healthy(service) for service in SERVICES), 120, "everything healthy")


def observability(stack: Stack, report: Report) -> None:
    with report.check("Prometheus finds every replica, and loads its rules"):
        with _Alertmanager() as received:
            settings = stack.folder / ".env.processing"
            right = settings.read_text()
            bridge = stack.run("docker network inspect -f '{{(index .IPAM.Config 0).Gateway}}' bridge").stdout.strip()
            settings.write_text(f"{right}ALERT_ALERTMANAGER_URL=http://{bridge}:{received.port}/alerts\n")
            rules = stack.folder / "containers/prometheus/alerts.yml"
            usual = rules.read_text()
            rules.write_text(f"{usual}{ALWAYS}")
            stack.compose("--profile observability up -d --no-build --no-deps prometheus")
            with report.check("Prometheus' rules reach the Alertmanager that is set"):
                eventually(lambda: "AlwaysFires" in received.names, 90, "an alert at the Alertmanager")
            rules.write_text(usual)
            settings.write_text(right)
            stack.compose("--profile observability up -d --no-build --no-deps prometheus")

        def targets() -> bool:
            active = httpx.get("http://localhost:9090/api/v1/targets").json()["data"]["activeTargets"]
            up = Counter(target["labels"]["job"] for target in active if target["health"] == "up")
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
        assert [str(file) for file in (stack.folder / "rotated").iterdir()] == [second]
