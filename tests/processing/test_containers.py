"""Compose file, stack file and the example of their settings agree where they are written by hand; scripts and rules
are well-formed. (What they do is tested by ./scripts/test_stack.sh; what follows from the settings, in
test_settings_files.py.)"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from pydantic import SecretStr

from src.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.processing.yml").read_text()
STACK = (ROOT / "docker-stack.processing.yml").read_text()
FILES = pytest.mark.parametrize("file", [COMPOSE, STACK], ids=["compose", "stack"])
EXAMPLE = (ROOT / ".env.processing.example").read_text()
SHOWN = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
SERVICES = yaml.safe_load(COMPOSE)["services"]
# Read by Compose itself.
OF_COMPOSE = {"COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES"}
# Made by swarm.sh: the instant of a deploy, and API_REPLICAS and the first.
OF_SWARM = {"DEPLOYED", "API_TASKS"}


@FILES
def test_every_variable_of_a_file_stands_in_the_example_with_its_default(file: str):
    defaults = {
        name: default for name, default in re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", file) if name not in OF_SWARM
    }
    assert set(defaults) <= set(SHOWN)
    # The example names what differs in containers.
    differs = {"BIGQUERY_PROJECT_ID", "GOOGLE_APPLICATION_CREDENTIALS"}
    shown = {name: SHOWN[name] for name in defaults.keys() - differs}
    assert shown == {name: default for name, default in defaults.items() if name not in differs}


def test_the_example_shows_nothing_that_nobody_reads():
    interpolated = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE)) | set(
        re.findall(r"^ +([A-Z_]+):$", COMPOSE, re.MULTILINE)
    )
    settings = {field.upper() for field in Settings.model_fields}
    scripts = "".join(script.read_text() for script in ROOT.glob("scripts/*.sh"))
    of_scripts = set(re.findall(r"\bsetting ([A-Z_]+)", scripts))
    prepared = (ROOT / "containers/setup/prepare.sh").read_text()
    of_setup = {name.upper() for name in re.findall(r"secret ([a-z_]+)\)", prepared)}
    assert set(SHOWN) - settings - interpolated - of_scripts - of_setup - OF_COMPOSE == set()


@pytest.mark.parametrize("service", ["api", "processing"])
def test_an_image_has_every_module_that_its_service_imports(service: str):
    copied = re.findall(r"^COPY (src/.*) \S+$", (ROOT / f"Dockerfile.{service}").read_text(), re.MULTILINE)
    places = [ROOT / place for line in copied for place in line.split()]
    files = [file for place in places for file in ([place] if place.is_file() else place.rglob("*.py"))]
    there = {file.relative_to(ROOT).as_posix() for file in files}
    for file in files:
        for name in re.findall(r"^from (src[\w.]*) import", file.read_text(), re.MULTILINE):
            path = name.replace(".", "/")
            assert {f"{path}.py", f"{path}/__init__.py"} & there, (file, name)


@FILES
def test_no_container_has_a_secret_in_its_environment(file: str):
    secrets = {name.upper() for name, field in Settings.model_fields.items() if field.annotation is SecretStr}
    secrets.add("GRAFANA_PASSWORD")
    for name, service in yaml.safe_load(file)["services"].items():
        environment = service.get("environment", {})
        assert set(environment) & secrets == set(), name
        # By whatever name: nothing of them is put in either.
        assert not any(f"${{{secret}" in str(environment) for secret in secrets), name


def test_containers_are_given_folders_because_a_file_that_is_replaced_stays_the_old_one():
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            if isinstance(volume, str) and volume.startswith("."):
                assert (ROOT / volume.split(":")[0]).is_dir(), (name, volume)
            # The one file is read by what ends at once, and looks again whenever it runs.
            assert isinstance(volume, str) or (name, volume["target"]) == ("setup", "/google/credentials.json")


def test_the_api_believes_nginx_and_nobody_else():
    address = SERVICES["nginx"]["networks"]["edge"]["ipv4_address"]
    trusted = SERVICES["api"]["environment"]["API_TRUSTED_PROXIES"]
    assert trusted == SERVICES["api-replica"]["environment"]["API_TRUSTED_PROXIES"]
    assert trusted == f"${{API_TRUSTED_PROXIES:-127.0.0.1}},{address}"


@pytest.mark.parametrize("script", sorted(ROOT.glob("scripts/*.sh")), ids=lambda path: path.name)
def test_scripts_say_what_they_are_for(script: Path):
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[1].startswith("# ")


@pytest.mark.parametrize(
    "name",
    [
        "start_processing_services",
        "monitor_processing",
        "backup",
        "restore",
        "create_api_key",
        "update",
        "rollback",
        "swarm",
    ],
)
def test_commands_help_without_an_engine(name: str):
    done = subprocess.run([ROOT / "scripts" / f"{name}.sh", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: ./scripts/{name}.sh")
