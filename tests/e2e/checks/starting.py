"""The first start: what a new user gets wrong, and what comes when nothing is wrong."""

from __future__ import annotations

import re
import socket
import time

from tests.e2e.report import Report, eventually
from tests.e2e.stack import CYCLES, HTTPS, REDIS_PASSWORD, Stack


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
        settings = stack.folder / ".env.processing"
        right = settings.read_text()
        settings.write_text(right + "REDIS_PASSWORD=changeme\n")
        done = stack.run("docker-compose run --rm setup", 60, expect=1)
        settings.write_text(right)
        assert "REDIS_PASSWORD contains a word" in done.stdout + done.stderr
    # One secret comes from a file, the others are made.
    (stack.folder / "secrets" / "redis_password").write_text(REDIS_PASSWORD + "\n")
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
