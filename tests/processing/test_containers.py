"""The compose file and the example of its settings agree; scripts and rules are well-formed. (What they do is tested
by ./scripts/test_stack.sh.)"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import orjson
import pytest

from src.processing import measures
from src.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = (ROOT / "docker-compose.processing.yml").read_text()
EXAMPLE = (ROOT / ".env.processing.example").read_text()
SHOWN = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
# Read by Compose itself.
OF_COMPOSE = {"COMPOSE_FILE", "COMPOSE_PROJECT_NAME", "COMPOSE_PROFILES"}


def test_every_variable_of_the_compose_file_stands_in_the_example_with_its_default():
    defaults = dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", COMPOSE))
    assert set(defaults) <= set(SHOWN)
    # What differs in containers says so in the example.
    differs = {"BIGQUERY_PROJECT_ID", "GOOGLE_APPLICATION_CREDENTIALS", "API_TRUSTED_PROXIES"}
    shown = {name: SHOWN[name] for name in defaults.keys() - differs}
    assert shown == {name: default for name, default in defaults.items() if name not in differs}


def test_every_setting_of_the_services_reaches_their_containers():
    passed = set(re.findall(r"^ +([A-Z_]+):", COMPOSE, re.MULTILINE))
    secret = {f"{name}_FILE" for name in passed}
    missing = {
        name
        for name in (field.upper() for field in Settings.model_fields)
        if name not in passed and f"{name}_FILE" not in passed
    }
    assert missing == set(), secret


def test_the_example_shows_nothing_that_nobody_reads():
    interpolated = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE)) | set(
        re.findall(r"^ +([A-Z_]+):$", COMPOSE, re.MULTILINE)
    )
    settings = {field.upper() for field in Settings.model_fields}
    assert set(SHOWN) - settings - interpolated - OF_COMPOSE == set()


@pytest.mark.parametrize("script", sorted(ROOT.glob("scripts/*.sh")), ids=lambda path: path.name)
def test_scripts_say_what_they_are_for(script: Path):
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[1].startswith("# ")


@pytest.mark.parametrize(
    "name", ["start_processing_services", "monitor_processing", "backup", "restore", "create_api_key", "update"]
)
def test_commands_help_without_an_engine(name: str):
    done = subprocess.run([ROOT / "scripts" / f"{name}.sh", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: ./scripts/{name}.sh")


def test_rules_and_dashboard_ask_for_measures_that_there_are():
    rules = (ROOT / "containers/prometheus/alerts.yml").read_text()
    dashboard = (ROOT / "containers/grafana/dashboards/abbanoa.json").read_bytes()
    orjson.loads(dashboard)
    asked = set(re.findall(r"\babbanoa_[a-z_]+", rules + dashboard.decode()))
    sources = (ROOT / "src/api/measures.py").read_text() + Path(measures.__file__).read_text()
    told = set(re.findall(r'"(abbanoa_[a-z_]+)"', sources))
    assert {name.removesuffix("_bucket") for name in asked} <= told | {"abbanoa_readonly"}
