"""What is saved, where it goes, and what is removed: never anything that backup.sh did not write."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.operator import GOOD, HOSTILE, SAVED, Machine, instants, old_backup


@pytest.mark.parametrize("name", HOSTILE)
def test_backups_go_into_the_given_folder_and_only_they_are_rotated(machine: Machine, name: str):
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
    rotated = old_backup(target, names[4])
    machine.run(["./scripts/backup.sh", "--keep", "1"])
    for path in (of_others, with_more, without_sums, elsewhere / "database.dump", target / names[3], odd):
        assert path.exists(), path
    assert not rotated.exists()


def test_one_setting_says_how_many_backups_are_retained_whoever_makes_them(machine: Machine):
    for instant in instants(12):
        old_backup(machine.folder / "backups", instant)
    machine.answers("services", "api\nprocessing\npostgres\n")
    # Where no number was ever set, an update deletes none.
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


def test_a_backup_follows_a_save_that_redis_began_by_itself(machine: Machine):
    machine.answers("busy-once")
    machine.run(["./scripts/backup.sh"])
    assert sum("redis-cli bgsave" in line for line in machine.calls()) == 2


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
    secrets = dict(line.split("=", 1) for line in (made / "about").read_text().splitlines())["secrets"]
    restored = tmp_path / "restored"
    restored.mkdir()
    command = secrets.replace("PASSPHRASE_FILE", f"'{phrase}'").replace("tar -x", f"tar -x -C '{restored}'")
    subprocess.run(["bash", "-c", command], cwd=made, check=True, timeout=30)
    assert {str(path.relative_to(restored)) for path in restored.rglob("*") if path.is_file()} >= {
        ".env.processing", "secrets/postgres_password", "-a key.json",
    }  # fmt: skip
