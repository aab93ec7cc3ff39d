"""The architecture document's commands, typed as they stand there."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import tempfile
import termios
import time
import tomllib
from pathlib import Path

from tests.e2e.report import Report, eventually
from tests.e2e.stack import POSTGRES, Stack


def documented(stack: Stack, report: Report) -> None:
    """The architecture document's commands, as written there."""
    commands = tomllib.loads((Path(__file__).parents[1] / "document_commands.toml").read_text())["command"]
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
            assert code in command.get("code", [0]) or "endless" in command, (code, output[-500:])
    with report.check("as the document has it: scale: 3 in the compose file"):
        file = stack.folder / "docker-compose.processing.yml"
        text = file.read_text()
        file.write_text(text.replace("scale: ${PROCESSING_REPLICAS:-1}", "scale: 3"))
        stack.compose("up -d --no-build --no-deps processing")
        eventually(lambda: stack.healthy("processing", 3), 60, "three processing replicas")
        file.write_text(text)


def typed(command: dict, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Runs a command as a person would, at a terminal where it wants one; its exit code and all it printed."""
    if not command.get("tty"):
        return _printed(command, folder, environment)
    master, slave = pty.openpty()
    # A terminal without a size would page every answer.
    termios.tcsetwinsize(slave, (50, 160))
    process = subprocess.Popen(
        ["bash", "-c", command["run"]], cwd=folder, env=environment, stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    output = _conversation(master, process, command["input"].splitlines())
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(5)
    os.close(master)
    process.kill()
    return process.wait(), output.decode(errors="replace")


def _printed(command: dict, folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    with tempfile.TemporaryFile() as shown:
        process = subprocess.Popen(
            ["bash", "-c", command["run"]], cwd=folder, env=environment, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=shown, stderr=subprocess.STDOUT,
        )  # fmt: skip

        def printed() -> str:
            return os.pread(shown.fileno(), 2**24, 0).decode(errors="replace")

        deadline = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < deadline:
            if command.get("endless") and re.search(command["output"], printed()):
                break
            time.sleep(0.2)
        for ending in (signal.SIGINT, signal.SIGKILL):
            if process.poll() is None:
                os.killpg(process.pid, ending)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(30)
        return process.wait(), printed()


def _conversation(master: int, process: subprocess.Popen[bytes], lines: list[str]) -> bytes:
    """Types each line once the program shows its prompt, as a person would; all that the terminal was shown."""
    output, answered, waiting, deadline = b"", 0, list(lines), time.monotonic() + 60
    while time.monotonic() < deadline:
        readable, _, _ = select.select([master], [], [], 0.5)
        if readable:
            try:
                chunk = os.read(master, 65536)
            except OSError:
                break
            output += chunk
            # A program that does not know yet how wide the terminal is asks where its cursor is.
            os.write(master, b"\x1b[50;160R" * chunk.count(b"\x1b[6n"))
        elif process.poll() is not None:
            break
        elif waiting and re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|[\r\n ]", b"", output[answered:]).endswith((b">", b"#")):
            answered = len(output)
            # Enter is a carriage return.
            os.write(master, waiting.pop(0).encode() + b"\r")
    return output
