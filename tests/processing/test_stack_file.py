"""The stack file is the compose file as a swarm takes it: the same services with the same rights, files and secrets."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.processing.yml").read_text())["services"]
TEXT = (ROOT / "docker-stack.processing.yml").read_text()
STACK = yaml.safe_load(TEXT)
DEMO = yaml.safe_load((ROOT / "docker-stack.demo.yml").read_text())
SERVICES = STACK["services"] | DEMO["services"]
SCRIPT = (ROOT / "scripts/swarm.sh").read_text()
# Of one server only: what people and tools on that server reach, and the second kind of API container.
ALONE = {"api-replica", "prometheus", "grafana"}
BOTH = pytest.mark.parametrize("name", sorted(SERVICES.keys() & COMPOSE.keys()))
ONCE = {"setup", "migrate", "demo-nodes"}


def tmpfs_of(service: dict) -> set[str]:
    assert "tmpfs" not in service, "a stack ignores it"
    volumes = [volume for volume in service.get("volumes", []) if not isinstance(volume, str)]
    return {volume["target"] for volume in volumes if volume["type"] == "tmpfs"}


def test_every_service_is_in_both_files_but_those_of_one_server():
    assert set(COMPOSE) - ALONE == set(SERVICES)


@BOTH
def test_a_service_is_the_same_in_both_files(name: str):
    ours, there = SERVICES[name], COMPOSE[name]
    keys = [
        "image",
        "entrypoint",
        "user",
        "read_only",
        "init",
        "cap_drop",
        "cap_add",
        "stop_grace_period",
        "healthcheck",
    ]
    if name != "setup":
        # Secrets are made before; what is left of it is Redis' folder.
        keys.append("command")
        assert tmpfs_of(ours) - {"/dev/shm", "/data"} == set(there.get("tmpfs", []))
    assert {key: ours.get(key) for key in keys} == {key: there.get(key) for key in keys}
    assert ours.get("deploy", {}).get("resources", {}).get("limits", {}).get("memory") == there.get("mem_limit")
    assert ours["logging"] == COMPOSE["api"]["logging"]


@pytest.mark.parametrize("name", sorted(STACK["services"].keys() - {"setup"}))
def test_a_service_has_the_same_settings_in_both_files(name: str):
    ours, there = dict(SERVICES[name].get("environment", {})), dict(COMPOSE[name].get("environment", {}))
    if name == "api":
        # An address there, a network here, in which nobody is but the two.
        edge = STACK["networks"]["edge"]["ipam"]["config"][0]["subnet"]
        assert ours.pop("API_TRUSTED_PROXIES") == f"${{API_TRUSTED_PROXIES:-127.0.0.1}},{edge}"
        assert {other for other, service in SERVICES.items() if "edge" in service["networks"]} == {"api", "nginx"}
        del there["API_TRUSTED_PROXIES"]
    assert ours == there


def test_each_secret_reaches_those_and_only_those_whom_setup_gives_it():
    prepared = (ROOT / "containers/setup/prepare.sh").read_text()
    prepared = prepared.replace("$user/", "processing/") + prepared.replace("$user/", "api/")
    owners = dict(re.findall(r"(\w+)=(\d+):\d+", prepared)) | {"0:0": "0"}
    handed = {
        (user, name, owners[owner.removeprefix("$")])
        for owner, user, name in re.findall(r"\bput (0:0|\$\w+) ([a-z]+)/([\w.-]+)", prepared)
        if user != "observability"
    }
    ours = {
        (name, secret.get("target", secret["source"]), secret.get("uid", "0"))
        for name, service in STACK["services"].items()
        for secret in service.get("secrets", [])
    }
    assert ours == handed
    modes = {secret["mode"] for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert modes == {0o400}


def test_the_script_gives_every_name_that_the_file_wants():
    wanted = set(re.findall(r"\$\{([A-Z_]+):\?", TEXT))
    files = re.search(r"secret_files=\(([^)]*)\)", SCRIPT)
    assert files
    made = {"SECRET_" + re.sub(r"[.-]", "_", path.split("/")[1]).upper() for path in files[1].split()}
    assert wanted == made | set(re.findall(r'"(STACK|FILES_[A-Z]+)=', SCRIPT))
    assert {f"${{{name}:?is given by ./scripts/swarm.sh deploy}}" for name in made} == {
        secret["name"] for secret in STACK["secrets"].values()
    }


@pytest.mark.parametrize("name", ["postgres", "redis", "nginx", "processing"])
def test_files_lie_where_the_folders_of_the_compose_file_are_mounted(name: str):
    folders = dict(
        volume.split(":")[:2][::-1]
        for volume in COMPOSE[name]["volumes"]
        if isinstance(volume, str) and volume.startswith("./")
    )
    mounted = {}
    for config in SERVICES[name]["configs"]:
        source = STACK["configs"][config["source"]]["file"]
        mounted[source] = config["target"].replace("${ALERT_RULES_FILE:-", "").removesuffix("}")
    expected = {
        f"{folder}/{file.name}": f"{target}/{file.name}"
        for target, folder in folders.items()
        for file in (ROOT / folder).iterdir()
        if file.is_file()
    }
    assert {
        source.replace("${ALERT_RULES_FILE:-", "").removesuffix("}"): target for source, target in mounted.items()
    } == expected


def test_no_service_needs_ipvs_and_what_uses_volumes_stays_with_them():
    for name, service in SERVICES.items():
        deploy = service["deploy"]
        assert deploy["endpoint_mode"] == "dnsrr", name
        assert all(port["mode"] == "host" for port in service.get("ports", [])), name
        volumes = [
            volume if isinstance(volume, str) else volume.get("source", "") for volume in service.get("volumes", [])
        ]
        holds_data = any(volume and not volume.startswith("/") for volume in volumes)
        is_bound = deploy["placement"]["constraints"] == ["node.labels.abbanoa.database == true"]
        assert is_bound or not holds_data, name
        assert (deploy.get("restart_policy", {}).get("condition") == "on-failure") == (name in ONCE), name


def test_the_stages_of_a_deploy_are_the_whole_file():
    program = re.search(r"awk -v stage=\"\$1\" '([^']*)'", SCRIPT)
    assert program
    stages = []
    for stage in (1, 2, 3):
        done = subprocess.run(
            ["awk", "-v", f"stage={stage}", program[1], ROOT / "docker-stack.processing.yml"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        part = yaml.safe_load(done.stdout)
        assert {key: part[key] for key in part if key != "services"} == {
            key: STACK[key] for key in STACK if key != "services"
        }
        stages.append(part["services"])
    assert [sorted(stage) for stage in stages] == [
        ["postgres", "redis", "setup"], ["migrate"], ["api", "nginx", "processing"],
    ]  # fmt: skip
    assert stages[0] | stages[1] | stages[2] == STACK["services"]
