"""`./scripts/test_stack.sh [--soak MINUTES]`: the real compose file, run as an operator runs it, in a copy of it all.

With --soak, mixed load for so many minutes instead of everything else.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.e2e.checks import asking, documented, enduring, hardening, operating, soaking, starting, updating
from tests.e2e.report import Report
from tests.e2e.shell import lock
from tests.e2e.stack import POSTGRES, REDIS, Stack

PROJECT = "abbanoa-stack-test"
LOCK = Path(tempfile.gettempdir()) / f"{PROJECT}.lock"
SETTINGS = f"""
COMPOSE_PROJECT_NAME={PROJECT}
COMPOSE_FILE=docker-compose.processing.yml
PROCESSING_IMAGE={PROJECT}-processing
API_IMAGE={PROJECT}-api
DEMO_IMAGE={PROJECT}-demo
# A tick a minute, of several chunks.
CHECK_INTERVAL_MINUTES=1
BIGQUERY_TIMEOUT_SECONDS=10
CHUNK_READINGS=500
POSTGRES_MAX_CONNECTIONS=77
REDIS_MAXMEMORY=99mb
ALERT_SMTP_PASSWORD=m4il-Tq9-vK2-hY7-bN
ALERT_WEBHOOK_URL=https://hooks.invalid/w3b-hook-Rk7-Pq2
"""
# Callers that may ask as often as a test likes.
UNLIMITED = """
NGINX_REQUESTS_PER_SECOND=2000
API_REQUESTS_PER_MINUTE_AND_KEY=100000
API_REQUESTS_PER_MINUTE_AND_ADDRESS=200000
"""


def copy_of(project: Path, folder: Path) -> None:
    """The project as it lies here, uncommitted changes included, as a clone of a repository of its own."""
    names = subprocess.run(
        ["git", "-C", str(project), "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True
    )
    for name in names.stdout.splitlines():
        source, copy = project / name, folder / name
        if source.is_symlink() or source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)
    origin = folder.with_suffix(".git")

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    git("config", "user.name", "test")
    git("config", "user.email", "test@example.invalid")
    git("add", "-A")
    git("commit", "-q", "-m", "as it lies here")
    git("clone", "-q", "--bare", str(folder), str(origin))
    git("remote", "add", "origin", str(origin))
    git("fetch", "-q", "origin")
    git("branch", "-q", "--set-upstream-to", "origin/main")


def docker(*arguments: str) -> list[str]:
    """The words that a command of the engine prints."""
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout.split()


def remove_what_an_ended_test_left() -> None:
    """A test that was killed takes nothing down; what it started bears the name of the test's own project."""
    label = f"label=com.docker.compose.project={PROJECT}"
    for listed, removed in (
        (("ps", "-aq"), ("rm", "-f", "-v")),
        (("volume", "ls", "-q"), ("volume", "rm", "-f")),
        (("network", "ls", "-q"), ("network", "rm")),
    ):
        if left := docker(*listed, "-f", label):
            docker(*removed, *left)


def everything(stack: Stack, report: Report, result: dict[str, object]) -> None:
    asking.endpoints(stack, report)
    asking.access(stack, report)
    asking.at_the_edge(stack, report)
    asking.dashboard(stack, report)
    asking.certificates(stack, report)
    hardening.hardening(stack, report)
    enduring.under_load(stack, report, result)
    cycles = enduring.crashes(stack, report)
    operating.observability(stack, report)
    operating.monitoring(stack, report, cycles)
    updating.back_and_forth(stack, report)
    operating.disaster(stack, report, result)
    documented.documented(stack, report)
    enduring.ticks(stack, report, result)


def main(arguments: list[str] | None = None) -> int:
    """Runs everything, or the soak; the exit code."""
    parser = argparse.ArgumentParser("./scripts/test_stack.sh", description=__doc__)
    parser.add_argument("images", type=Path, help="a file of NAME=image lines: the base images")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="mixed load for so long, and nothing else")
    options = parser.parse_args(arguments)
    images = options.images.read_text() + ("" if options.soak else UNLIMITED)
    begun = time.monotonic()
    # Begun in the background by a script, Ctrl-C would be ignored here and by all that is started from here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    report = Report()
    result: dict[str, object] = {}
    if not lock(LOCK):
        print("Another test of the containers is running on this machine; the two would take each other's ports.")
        return 1
    remove_what_an_ended_test_left()
    if docker("ps", "-aq", "-f", f"name={POSTGRES}", "-f", f"name={REDIS}"):
        print("The system is running on this machine; the test would take its names and ports. Stop it first.")
        return 1
    with tempfile.TemporaryDirectory() as parent:
        stack = Stack(Path(parent) / "project", PROJECT)
        copy_of(Path.cwd(), stack.folder)
        settings = SETTINGS + images
        try:
            if not options.soak:
                starting.refused_starts(stack, report, settings)
            example = (stack.folder / ".env.processing.example").read_text()
            (stack.folder / ".env.processing").write_text(example + settings + "COMPOSE_PROFILES=demo\n")
            result["seconds_to_healthy"] = round(starting.start(stack, report), 1)
            result["image_mb"] = {
                service: int(stack.run(f"docker image inspect -f '{{{{.Size}}}}' {PROJECT}-{service}").stdout)
                // 1_000_000
                for service in ("processing", "api")
            }
            if options.soak:
                soaking.soak(stack, report, result, options.soak)
            else:
                everything(stack, report, result)
        except BaseException as error:
            report.failed.append("the run itself")
            print(f"FAILED  the run itself: {type(error).__name__}: {str(error)[:3000]}", flush=True)
            print(
                stack.run(
                    "docker ps -a; for c in $(docker ps -aq); do docker logs --tail 15 $c; done 2>&1", expect=None
                ).stdout[-6000:]
            )
        finally:
            stack.run(
                "docker-compose --profile demo --profile observability down -v --remove-orphans", 200, expect=None
            )
            # The tags of earlier versions; the images themselves serve the next test.
            stack.run(
                "docker images --format '{{.Repository}}:{{.Tag}}' | "
                f"grep -E '^{PROJECT}-[a-z_]+:(pinned|image-|[0-9a-f]{{12}})' | xargs -r docker rmi",
                expect=None,
            )
    result["seconds"] = round(time.monotonic() - begun)
    print(f"{report.passed} passed, {len(report.failed)} failed")
    print(json.dumps(result))
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
