"""`./scripts/test_stack.sh --swarm`: the stack file on two engines joined to a swarm, as an operator deploys it."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e import machines
from tests.e2e.checks import spreading
from tests.e2e.machines import REGISTRY
from tests.e2e.main import copy_of
from tests.e2e.report import Report
from tests.e2e.shell import lock
from tests.e2e.swarm import STACK, Swarm

LOCK = Path(tempfile.gettempdir()) / f"{machines.PREFIX}.lock"
IMAGE, OURS = "abbanoa-stack-test-{}", ("processing", "api", "demo")
SETTINGS = f"""
COMPOSE_PROJECT_NAME={STACK}
PROCESSING_IMAGE={REGISTRY}/abbanoa-processing
API_IMAGE={REGISTRY}/abbanoa-api
DEMO_IMAGE={REGISTRY}/abbanoa-demo
PROCESSING_REPLICAS=2
# A tick a minute, of several chunks.
CHECK_INTERVAL_MINUTES=1
CHUNK_READINGS=500
POSTGRES_MAX_CONNECTIONS=77
ALERT_WEBHOOK_URL={spreading.WEBHOOK}
# Callers that may ask as often as a test likes.
NGINX_REQUESTS_PER_SECOND=2000
API_REQUESTS_PER_MINUTE_AND_KEY=100000
API_REQUESTS_PER_MINUTE_AND_ADDRESS=200000
"""


def trial(swarm: Swarm, report: Report) -> None:
    spreading.start(swarm, report)
    spreading.shared(swarm, report)
    spreading.secrets(swarm, report)
    spreading.unchanged(swarm, report)
    spreading.updates(swarm, report)
    spreading.loaded(swarm, report)
    spreading.drained(swarm, report)
    spreading.saved(swarm, report)
    spreading.power_cut(swarm, report)


def main(arguments: list[str] | None = None) -> int:
    """Runs the trial; the exit code."""
    parser = argparse.ArgumentParser("./scripts/test_stack.sh --swarm", description=__doc__)
    parser.add_argument("images", type=Path, help="a file of NAME=image lines: the base images")
    options = parser.parse_args(arguments)
    base_images = dict(line.split("=", 1) for line in options.images.read_text().split())
    begun = time.monotonic()
    report = Report()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if not lock(LOCK):
        print("Another test of the swarm is running on this machine.")
        return 1
    machines.remove(machines.pair(machines.FOLDERS))
    folder = Path(tempfile.mkdtemp(prefix=f"{machines.PREFIX}-", dir=machines.FOLDERS))
    one, two = machines.pair(folder)
    swarm = Swarm(folder / "the project", one, two)
    registry = None
    try:
        copy_of(Path.cwd(), swarm.folder)
        example = (swarm.folder / ".env.processing.example").read_text()
        (swarm.folder / ".env.processing").write_text(example + SETTINGS + options.images.read_text())
        (swarm.folder / "secrets/redis_password").write_text(spreading.REDIS_PASSWORD + "\n")
        machines.join(one, two)
        for machine in (one, two):
            machine.start()
        carried = time.monotonic()
        one.take([*map(IMAGE.format, OURS), *(base_images[f"{name}_IMAGE"] for name in ("POSTGRES", "REDIS", "NGINX"))])
        two.take([*map(IMAGE.format, ("processing", "api")), base_images["NGINX_IMAGE"]])
        registry = one.serve_registry()
        spreading.refused(swarm, report)
        for name in OURS:
            one.docker("tag", IMAGE.format(name), f"{REGISTRY}/abbanoa-{name}")
        with ThreadPoolExecutor(2) as pushing:
            demo = pushing.submit(one.docker, "push", "-q", f"{REGISTRY}/abbanoa-demo", seconds=600)
            swarm.run("docker-compose -f docker-compose.processing.yml push processing api")
            demo.result()
        swarm.measured["seconds_to_carry_images"] = round(time.monotonic() - carried)
        trial(swarm, report)
    except BaseException as error:
        report.failed.append("the run itself")
        print(f"FAILED  the run itself: {type(error).__name__}: {str(error)[:3000]}", flush=True)
    finally:
        if report.failed:
            print(swarm.run(f"docker node ls; docker stack ps --no-trunc {STACK}", 60, expect=None).stdout[-6000:])
            for machine in (one, two):
                print(f"--- engine {machine.name}\n{machine.log()}")
        machines.remove((one, two))
        if registry:
            registry.wait(10)
    swarm.measured["seconds"] = round(time.monotonic() - begun)
    print(f"{report.passed} passed, {len(report.failed)} failed")
    print(json.dumps(swarm.measured))
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
