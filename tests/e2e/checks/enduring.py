"""Scaling, updating and crashing: nobody notices, and no tick is lost or doubled."""

from __future__ import annotations

import json
import time
from collections import Counter

from tests.e2e.checks import updating
from tests.e2e.report import Report, eventually
from tests.e2e.stack import CYCLES, Load, Stack, apis


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

            def upstreams() -> set[str]:
                lines = stack.run("docker logs --tail 400 abbanoa-nginx").stdout.splitlines()
                entries = [json.loads(line)["upstream"] for line in lines if '"upstream"' in line]
                return {address for entry in entries for address in entry.split(", ") if address}

            eventually(lambda: len(upstreams()) >= 3, 30, "answers of three replicas")
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
            updating.change_of_each_kind(stack)
            stack.run("git commit -q -a -m 'a new version'")
            before = {name: stack.run(f"docker inspect -f '{{{{.Id}}}}' {name}").stdout for name in apis(stack)}
            stack.run("./scripts/update.sh", 400)
            after = {name: stack.run(f"docker inspect -f '{{{{.Id}}}}' {name}").stdout for name in apis(stack)}
            assert len(after) == 3
            assert not set(before.values()) & set(after.values())
            revision = stack.run("git rev-parse --short HEAD").stdout.strip()
            assert revision in stack.run("docker inspect abbanoa-api").stdout
        with report.check("a change of each kind has reached what it was for"):
            updating.changes_have_arrived(stack)
        stack.note_ticks()
    result["requests"], result["requests_failed"] = load.requests, len(load.failures)
    with report.check(f"no request failed ({load.requests} were made)"):
        assert load.requests > 500
        # Proxies that reload close connections on which nothing is under way; that is seldom.
        assert load.sent_again <= load.requests / 500, load.sent_again
        at = Counter(failure.split()[0] for failure in load.failures)
        assert not load.failures, f"{dict(at)}\n" + "\n".join(load.failures[:5])


def ticks(stack: Stack, report: Report, result: dict[str, object]) -> None:
    """What the logs of all replicas, and the database, show of the whole run."""
    stack.note_ticks()
    jobs = stack.sql(
        "SELECT count(DISTINCT scheduled_for), count(*) FROM water_infrastructure.processing_jobs "
        "WHERE job_type = 'processing_cycle'"
    )
    distinct, every = (int(part) for part in jobs.split("|"))
    doubled = stack.doubled()
    result["ticks"], result["ticks_doubled"] = distinct, len(doubled) + every - distinct
    with report.check(f"no tick was claimed or ended twice ({distinct} ticks)"):
        assert result["ticks_doubled"] == 0, doubled
        assert len({tick for tick in stack.ticks if tick.startswith("tick claimed")}) >= 5


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
