"""Updates, restores and the way back, as calls to the engine. (Their effect: ./scripts/test_stack.sh.)"""

from __future__ import annotations

import re
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.operator import HOSTILE, Machine


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
        calls = machine.calls()
        assert any(line.endswith("up -d --no-deps setup") for line in calls)
        return {
            line.split()[-1] if "--force-recreate" in line else line.split("id-of-")[1].split()[0]
            for line in calls
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
    calls = machine.calls()
    previous = calls.index("tag sha256:0123456789abcdef abbanoa-processing:aaaaaaaaaaaa")
    built = next(number for number, line in enumerate(calls) if f"--build-arg REVISION={here}" in line)
    assert previous < built < calls.index(f"tag registry.example:5000/water/api registry.example:5000/water/api:{here}")
    # Of the versions that we built, those that nobody goes back to.
    assert [line for line in calls if line.startswith("rmi")][0] == "rmi abbanoa-processing:bbbbbbbbbbbb"
    assert not any(line.endswith((":mine", ":latest")) for line in calls if line.startswith("rmi"))
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
    calls = machine.calls()

    def place(part: str) -> int:
        return next(number for number, line in enumerate(calls) if part in line)

    beside, migrated = (
        place("pg_restore -U abbanoa_user -d abbanoa_processing_restoring"),
        place("run --rm --no-deps -T -e"),
    )
    assert beside < place(f"tag abbanoa-api:{old} abbanoa-api") < migrated < place("stop nginx")
    assert "POSTGRES_DB=abbanoa_processing_restoring" in calls[migrated]
    assert place("stop nginx") < place("RENAME TO") < place("start_background_workers") < place("up -d redis")
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
    calls = "\n".join(machine.calls())
    assert " stop " not in calls
    assert "RENAME" not in calls
    assert set(re.findall(r"-v name=(\S+)", calls)) <= {"abbanoa_processing_restoring", "abbanoa_processing"}
    dropped = [line for line in machine.calls() if "-v name=abbanoa_processing " in f"{line} "]
    assert all("ALLOW" in machine.calls()[machine.calls().index(line) + 1] for line in dropped)


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
    assert any("ids=k1" in line for line in machine.calls())
