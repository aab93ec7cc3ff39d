"""What a container, a role and a secret may, and may not."""

from __future__ import annotations

import json

import httpx
import psycopg2
import redis

from tests.e2e.report import Report, eventually
from tests.e2e.stack import HTTPS, POSTGRES, REDIS, REDIS_PASSWORD, SERVICES, SMTP_PASSWORD, WEBHOOK, Stack, apis


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
        assert redis.Redis(port=6380, password=REDIS_PASSWORD).ping()
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
            listed = stack.run(f"docker top {name} -eo pid,ppid,uid,args").stdout.splitlines()[1:]
            processes = [line.split(maxsplit=3) for line in listed]
            # What the service is and started; a health check that just runs is no child of the first process.
            of_service = {pid for pid, _, _, command in processes if "docker-init" in command}
            assert of_service, (name, listed)
            for pid, parent, user, command in sorted(processes, key=lambda process: int(process[0])):
                if parent in of_service:
                    of_service.add(pid)
                    assert user != "0", (name, command)
    with report.check("images: no compiler, no pip, labels; the API's without pandas"):
        for service in ("processing", "api"):
            name = stack.containers(service)[0]
            assert stack.run(f"docker exec {name} sh -c 'command -v gcc cc make pip'", expect=None).stdout == ""
            assert (
                stack.run(f"docker inspect -f '{{{{json .Config.Labels}}}}' {name}").stdout.count("org.opencontainers")
                >= 4
            )
        assert stack.run("docker exec abbanoa-api python3 -c 'import pandas'", expect=1)
    with report.check("no secret stands in any container's environment or log"):
        read = "cd /run/secrets && for f in *password *url; do cat $f; echo; done"
        made = [
            line
            for service in ("postgres", "redis", "processing", "api")
            for line in stack.run(f"docker exec {stack.containers(service)[0]} sh -c '{read}'").stdout.splitlines()
        ]
        given = [REDIS_PASSWORD, SMTP_PASSWORD, WEBHOOK]
        assert set(given) <= set(made)
        secrets = {password, *made, *stack.keys.values()} - {""}
        mine = f"docker ps -aq --filter label=com.docker.compose.project={stack.project}"
        containers = stack.run(mine).stdout.split()
        # Those that ended, setup and migrate, among them.
        assert len(containers) >= len(SERVICES) + 3
        for container in containers:
            shown = stack.run(f"docker inspect {container}; docker logs {container} 2>&1").stdout
            # As JSON has it, too.
            assert not any(s in shown or json.dumps(s)[1:-1] in shown for s in secrets), container
    with report.check("nobody but Nginx may say where a request came from, and Nginx believes whom it was told to"):
        forged = {"X-Forwarded-For": "203.0.113.77", "X-API-Key": "wrong"}
        for base, check in (("http://localhost:8000", True), (HTTPS, stack.trust())):
            assert httpx.get(f"{base}/api/v1/nodes", headers=forged, verify=check).status_code == 401
        logs = "".join(stack.run(f"docker logs --tail 50 {name} 2>&1").stdout for name in apis(stack))
        assert "203.0.113.77" not in logs + stack.run("docker logs --tail 20 abbanoa-nginx").stdout
        gateway = "docker inspect -f '{{range .NetworkSettings.Networks}}{{.Gateway}}{{end}}' abbanoa-nginx"
        balancer = stack.run(gateway).stdout.strip()
        settings = stack.folder / ".env.processing"
        right = settings.read_text()
        settings.write_text(right + f"NGINX_TRUSTED_PROXIES={balancer}\n")
        stack.compose("up -d --no-build --no-deps nginx")
        eventually(lambda: stack.healthy("nginx"), 60, "a healthy Nginx")
        assert httpx.get(f"{HTTPS}/api/v1/nodes", headers=forged, verify=stack.trust()).status_code == 401
        assert '"address":"203.0.113.77"' in stack.run("docker logs --tail 20 abbanoa-nginx").stdout
        settings.write_text(right)
        stack.compose("up -d --no-build --no-deps nginx")
        eventually(lambda: stack.healthy("nginx"), 60, "a healthy Nginx")
