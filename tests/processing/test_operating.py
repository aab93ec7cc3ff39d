"""Watching and starting: what an operator is shown."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.operator import ROOT, Machine

SCRIPTS = [*ROOT.glob("scripts/*.sh"), *ROOT.glob("containers/*/*.sh"), *ROOT.glob("nginx/*.sh")]


def certificate(days: int, folder: Path) -> str:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
               str(days), "-subj", "/CN=x", "-keyout", folder / "key.pem", "-out", folder / "c.pem"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return (folder / "c.pem").read_text()


def test_the_monitor_watches_the_databases_disk_and_what_runs_out(machine: Machine, tmp_path: Path):
    now = "2026-01-01 00:00:00+00"
    machine.answers("facts", f"completed||60|60|{now}|3|3|1|0|0|0|0|1|10 MB\n")

    def reasons() -> list[str]:
        done = machine.run(["./scripts/monitor_processing.sh", "--json"], expect=None)
        return json.loads(done.stdout)["reasons"]

    machine.answers("df", "Filesystem 1024-blocks Used Available Capacity Mounted\n/dev/x 1 1 1 40% /\n")
    machine.answers("certificate", certificate(100, tmp_path))
    quiet = reasons()
    machine.answers("df", "Filesystem 1024-blocks Used Available Capacity Mounted\n/dev/x 1 1 1 97% /\n")
    machine.answers("certificate", certificate(20, tmp_path))
    machine.answers("expiring", 'ab12|the "wall"|12\n')
    loud = [reason for reason in reasons() if reason not in quiet]
    assert loud[0] == 'the API key ab12 (the "wall") runs out in 12 days: ./scripts/create_api_key.sh makes another'
    assert loud[1] == "the disk of the database is 97 % full"
    assert loud[2].startswith(("the certificate of Nginx runs out in 19 ", "the certificate of Nginx runs out in 20 "))
    machine.settings("EXPIRY_WARNING_DAYS=10\n")
    assert not any("certificate" in reason for reason in reasons())


def test_a_start_without_anybody_to_tell_says_what_to_set(machine: Machine):
    # Ends at the ports or later; what matters is printed before.
    note = "nobody is told when something goes wrong. Set ALERT_WEBHOOK_URL"
    command = ["./scripts/start_processing_services.sh", "--demo", "--no-build"]
    taken = "POSTGRES_PORT=1\nREDIS_PORT=1\nAPI_PORT=1\nNGINX_PORT=1\nNGINX_HTTPS_PORT=1\n"

    def output_of(settings: str, *more: str) -> str:
        machine.settings(taken + settings)
        machine.answers("services", "postgres\nredis\nprocessing\napi\nnginx\n")
        return machine.run([*command, *more]).stderr

    assert note in output_of("")
    assert note in output_of("ALERT_SMTP_HOST=mail.example\n")
    for channel in (
        "ALERT_WEBHOOK_URL=https://x",
        "ALERT_ALERTMANAGER_URL=http://x:9093",
        "ALERT_SMTP_HOST=m\nALERT_MAIL_TO=a@b",
    ):
        assert note not in output_of(channel + "\n")
    assert "rules (no replica runs" in output_of("ALERT_WEBHOOK_URL=https://x\n", "--observability")
    assert "rules (no replica runs" not in output_of("ALERT_ALERTMANAGER_URL=http://x:9093\n", "--observability")
    (machine.folder / "secrets").mkdir()
    (machine.folder / "secrets/alert_webhook_url").write_text("https://x")
    assert note not in output_of("")


def test_a_key_may_have_any_name(machine: Machine):
    machine.run(["./scripts/create_api_key.sh", "--", "-rf 'x'"])
    call = next(line for line in machine.calls() if "src.db.api_keys create" in line)
    assert call.endswith("-- -rf 'x'")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_scripts_are_well_formed_by_shellcheck(script: Path):
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert shellcheck, "it comes with requirements-dev.txt"
    done = subprocess.run(
        [shellcheck, "-x", "-S", "warning", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
