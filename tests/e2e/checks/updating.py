"""New versions, and back: what changed reaches the containers, and the way back ends on the old version and data."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import httpx

from tests.e2e.report import Report, eventually
from tests.e2e.stack import POSTGRES, REDIS, REDIS_PASSWORD, SERVICES, Stack, apis

MIGRATION = '''"""A trial."""

from alembic import op

revision = "{name}"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("{statement}")
'''
COLUMNS = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'nodes' AND column_name = '{}'"
HEAD = "SELECT version_num FROM water_infrastructure.alembic_version"


def migration(stack: Stack, name: str, statement: str) -> None:
    text = MIGRATION.format(name=name, before=stack.sql(HEAD), statement=statement)
    (stack.folder / f"migrations/versions/{name}_trial.py").write_text(text)


def replace(file: Path, old: str, new: str) -> None:
    """As git and editors do it: another file takes the name."""
    text = file.read_text()
    assert old in text, (file, old)
    copy = file.with_suffix(".new")
    copy.write_text(text.replace(old, new, 1))
    copy.chmod(file.stat().st_mode)
    copy.replace(file)


def change_of_each_kind(stack: Stack) -> None:
    """Code, a migration, and a mounted file of each service."""
    folder = stack.folder
    migration(stack, "9001", "ALTER TABLE water_infrastructure.nodes ADD COLUMN trial_one text")
    replace(folder / "nginx/nginx.conf", "add_header X-Frame-Options DENY always;",
            "add_header X-Frame-Options DENY always;\n    add_header X-Trial one always;")  # fmt: skip
    replace(folder / "alerts/alert-rules.yml", "tell_again_after_hours: 4", "tell_again_after_hours: 5")
    replace(folder / "containers/postgres/pg_hba.conf", "local ", "# A trial.\nlocal ")
    replace(folder / "containers/redis/start.sh", "set -eu\n", "set -eu\n# A trial.\n")
    stack.run("git add -A")


def changes_have_arrived(stack: Stack) -> None:
    assert stack.sql(COLUMNS.format("trial_one")) == "1"
    with stack.client() as client:
        assert client.get("/health").headers["x-trial"] == "one"
    for name in stack.containers("processing"):
        assert "tell_again_after_hours: 5" in stack.run(f"docker exec {name} cat alerts/alert-rules.yml").stdout
    assert "# A trial." in stack.run(f"docker exec {POSTGRES} cat /containers/pg_hba.conf").stdout
    assert stack.sql("SELECT pg_conf_load_time() > pg_postmaster_start_time() + interval '5 s'") == "t"
    changed = (stack.folder / "containers/redis/start.sh").stat().st_ctime
    started = stack.run(f"docker inspect -f '{{{{.State.StartedAt}}}}' {REDIS}").stdout[:19]
    assert datetime.fromisoformat(f"{started}+00:00").timestamp() > changed - 1


def back_and_forth(stack: Stack, report: Report) -> None:
    """An update that changes data, secrets and pins, and back; an update that fails, and back."""
    old = stack.run("git rev-parse --short=12 HEAD").stdout.strip()
    started = stack.sql("SELECT pg_postmaster_start_time()")
    stack.compose("--profile observability up -d --no-build --no-deps prometheus")
    stack.sql("UPDATE water_infrastructure.nodes SET location_name = 'before' WHERE node_id = 'inlet-river'")
    key = stack.key("read")
    settings, secret = stack.folder / ".env.processing", stack.folder / "secrets/redis_password"
    right = settings.read_text()
    with report.check("update: a migration, another password of Redis, other pins, Prometheus' rules, all at once"):
        migration(stack, "9002", "ALTER TABLE water_infrastructure.nodes ADD COLUMN trial_two text")
        replace(stack.folder / "containers/prometheus/alerts.yml", "NoProcessingReplica", "NobodyProcesses")
        stack.run("git add -A && git commit -q -m 'another version'")
        secret.write_text("an0ther-Kq7-vT2-zM9-pW\n")
        pinned = _pinned(stack, "REDIS_IMAGE", right) + _pinned(stack, "POSTGRES_IMAGE", right)
        settings.write_text(right + pinned)
        stack.run("./scripts/update.sh", 400)
        new = stack.run("git rev-parse --short=12 HEAD").stdout.strip()
        for service in ("processing", "api", "api-replica"):
            assert new in stack.run(f"docker inspect {stack.containers(service)[0]}").stdout, service
        assert stack.sql(COLUMNS.format("trial_two")) == "1"
        assert stack.sql("SELECT pg_postmaster_start_time()") != started
        for name, variable in ((REDIS, "REDIS_IMAGE"), (POSTGRES, "POSTGRES_IMAGE")):
            pin = stack.run(f"docker inspect -f '{{{{.Config.Image}}}}' {name}").stdout.strip()
            assert f"{variable}={pin}" in pinned
        eventually(lambda: _connected(stack), 60, "Redis for every replica of the API")
        eventually(lambda: "NobodyProcesses" in _rules(), 60, "the new rules")
        for name in ("processing", "api"):
            for tag in (old, new):
                stack.run(f"docker image inspect {stack.project}-{name}:{tag}")
    stack.sql("UPDATE water_infrastructure.nodes SET location_name = 'after' WHERE node_id = 'inlet-river'")
    stack.run(f"./scripts/create_api_key.sh --revoke {key.split('_')[1]}")
    with report.check("rollback.sh: one command ends on the old version with the old data"):
        settings.write_text(right)
        with stack.restoring():
            done = stack.run("./scripts/rollback.sh --yes", 400)
        print(done.stderr + done.stdout)
        _is_old(stack, old)
        assert stack.sql(COLUMNS.format("trial_two")) == "0"
        assert stack.sql(COLUMNS.format("trial_one")) == "1"
        query = "SELECT location_name FROM water_infrastructure.nodes WHERE node_id = 'inlet-river'"
        assert stack.sql(query) == "before"
        assert f"good again: {key.split('_')[1]}." in done.stderr
        eventually(lambda: "NoProcessingReplica" in _rules(), 60, "the old rules")
        stack.compose("--profile observability rm -sf prometheus")
    with report.check("an update whose migration fails leaves what runs, and rollback.sh undoes it"):
        stack.run(f"git checkout -q main && git reset -q --hard {old}")
        migration(stack, "9003", "ALTER TABLE water_infrastructure.nowhere ADD COLUMN no text")
        stack.run("git add -A && git commit -q -m 'a version that cannot migrate'")
        failed = stack.run("./scripts/update.sh", 400, expect=1)
        print(failed.stderr)
        assert "nowhere" in failed.stderr
        assert "./scripts/rollback.sh" in failed.stderr
        with stack.client() as client:
            assert client.get("/api/v1/nodes").status_code == 200
        with stack.restoring():
            stack.run("./scripts/rollback.sh --yes", 400)
        _is_old(stack, old)
    stack.run(f"git checkout -q main && git reset -q --hard {old}")
    secret.write_text(REDIS_PASSWORD + "\n")
    stack.compose("--profile demo up -d --no-build")
    stack.compose("restart -t 5 redis processing api api-replica")
    eventually(lambda: all(stack.healthy(service) for service in SERVICES), 120, "everything healthy")


def _pinned(stack: Stack, variable: str, settings: str) -> str:
    """The same image by another name, as a new pin is."""
    image = re.findall(f"^{variable}=(.+)$", settings, re.MULTILINE)[-1]
    stack.run(f"docker tag {image} {stack.project}-{variable.lower()}:pinned")
    return f"{variable}={stack.project}-{variable.lower()}:pinned\n"


def _is_old(stack: Stack, old: str) -> None:
    assert stack.run("git rev-parse --short=12 HEAD").stdout.strip() == old
    assert stack.sql(HEAD) == "9001"
    for service in ("processing", "api", "api-replica"):
        for name in stack.containers(service):
            label = f"docker inspect -f '{{{{index .Config.Labels \"org.opencontainers.image.revision\"}}}}' {name}"
            assert stack.run(label).stdout.strip() == old, name
    eventually(lambda: all(stack.healthy(service) for service in SERVICES), 60, "everything healthy")
    with stack.client() as client:
        assert client.get("/api/v1/nodes").status_code == 200


def _connected(stack: Stack) -> bool:
    with stack.client() as client:
        answers = [client.get("/api/v1/status") for _ in range(4 * len(apis(stack)))]
    return all("degraded" not in answer.text for answer in answers)


def _rules() -> str:
    return httpx.get("http://localhost:9090/api/v1/rules").text
