"""What follows from the settings: the example has each with its default, and containers have those that they read."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import pytest
import yaml
from pydantic import Field, SecretStr

from src.setting_values import Mark, Readers
from src.settings import Section, Settings
from src.settings_files import (
    CONTAINERS,
    EXAMPLE,
    ROOT,
    descriptions_of,
    example_of,
    filled,
    main,
    passed_on,
    readers_of,
    sections_of,
)

FILES = pytest.mark.parametrize("file", CONTAINERS)


class PumpSettings(Section):
    """Pumps: an example."""

    readers: ClassVar[Readers] = Readers.PROCESSING

    pump_name: str = "north"
    """What it is called,
    on the dashboard and in alerts."""
    pump_power: float = Field(1.5, gt=0, lt=100)
    """In kW."""
    pump_count: int = Field(20 * 1024**3, ge=1)
    """How many."""
    pump_steps: Annotated[int, Readers.BOTH] = Field(0, ge=0, le=24 * 30)
    """Steps of speed."""
    pump_mode: Annotated[Literal["manual", "level", "pressure"], Mark.DEFAULT_IN_CONTAINERS] = "level"
    """What decides."""
    pump_is_on: Annotated[bool, Readers.API] = True
    """Whether it runs."""
    pump_limits: Annotated[dict[str, float], Mark.SET_IN_CONTAINERS] = {"flow": 2.5}
    """As JSON."""
    pump_password: Annotated[SecretStr, Mark.TO_FILL_IN] = SecretStr("")
    """A secret."""


class SiteSettings(PumpSettings):
    pass


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (EXAMPLE, *CONTAINERS):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def texts(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in (EXAMPLE, *CONTAINERS)}


def read_by(*readers: Readers) -> set[str]:
    return {name for name, _, its_readers in readers_of(Settings) if its_readers in readers}


def test_the_files_have_what_follows_from_the_settings(capsys: pytest.CaptureFixture[str]):
    is_other = main(["--check"])
    assert (is_other, capsys.readouterr().out) == (0, ""), "run `python -m src.settings_files`"


def test_a_change_is_shown_and_written_where_it_was_made(folder: Path, capsys: pytest.CaptureFixture[str]):
    written = texts(folder)
    for name, line in {EXAMPLE: "#REDIS_PORT=6380", CONTAINERS[0]: "    CACHE_SECONDS:"}.items():
        (folder / name).write_text(written[name].replace(f"{line}\n", "", 1))
    changed = texts(folder)
    assert main(["--check"], folder) == 1
    shown = capsys.readouterr().out.splitlines()
    added = [line for line in shown if re.match(r"[+-](?![+-])", line)]
    assert added == ["+#REDIS_PORT=6380", "+    CACHE_SECONDS:"]
    assert texts(folder) == changed
    assert main([], folder) == 0
    assert texts(folder) == written


def test_what_is_written_by_hand_stays(folder: Path):
    compose = folder / CONTAINERS[0]
    by_hand = compose.read_text().replace("  # >>> both", "  TZ: UTC\n  # >>> both").replace("scale: ", "scale: 1")
    compose.write_text(by_hand)
    assert main([], folder) == 0
    assert compose.read_text() == by_hand


@pytest.mark.parametrize("gone", ["# <<< processing", "# >>> processing"])
def test_a_file_without_its_blocks_is_refused_and_stays(gone: str, folder: Path, capsys: pytest.CaptureFixture[str]):
    stack = folder / CONTAINERS[1]
    stack.write_text(stack.read_text().replace(gone, "#"))
    before = texts(folder)
    assert main([], folder) == 2
    assert capsys.readouterr().err == (
        f"{CONTAINERS[1]}: expected each of the blocks both, processing, api once, found both, api\n"
    )
    assert texts(folder) == before


def test_a_setting_of_each_kind_in_the_example():
    assert example_of(SiteSettings) == [
        "",
        "# --- Pumps: an example.",
        "# What it is called, on the dashboard and in alerts.",
        "#PUMP_NAME=north",
        "# In kW. More than 0, less than 100.",
        "#PUMP_POWER=1.5",
        "# How many. At least 1.",
        "#PUMP_COUNT=21474836480",
        "# Steps of speed. From 0 to 720.",
        "#PUMP_STEPS=0",
        "# What decides. One of manual, level or pressure.",
        "#PUMP_MODE=level",
        "# Whether it runs.",
        "#PUMP_IS_ON=true",
        "# As JSON.",
        '#PUMP_LIMITS={"flow": 2.5}',
        "# A secret.",
        "PUMP_PASSWORD=",
    ]


def test_containers_have_what_their_service_reads_unless_it_is_secret_or_set_by_hand():
    assert passed_on(SiteSettings, Readers.PROCESSING) == [
        "PUMP_NAME:",
        "PUMP_POWER:",
        "PUMP_COUNT:",
        "PUMP_MODE: ${PUMP_MODE:-level}",
    ]
    assert passed_on(SiteSettings, Readers.BOTH) == ["PUMP_STEPS:"]
    assert passed_on(SiteSettings, Readers.API) == ["PUMP_IS_ON:"]


def test_a_block_has_the_indentation_of_its_first_line():
    text = "a:\n  # >>> both: old\n  B:\n  # <<< both\nc:\n"
    origin = "from src/settings.py by `python -m src.settings_files`"
    assert filled(text, {"both": ["D:", "E:"]}) == f"a:\n  # >>> both: {origin}\n  D:\n  E:\n  # <<< both\nc:\n"


def test_every_setting_is_described_in_a_section():
    described = [name for section in sections_of(Settings) for name in descriptions_of(section)]
    assert sorted(described) == sorted(Settings.model_fields)


def test_every_setting_stands_in_the_example_with_its_default():
    of_services, _, _ = (ROOT / EXAMPLE).read_text().partition("# --- Containers only")
    shown = re.findall(r"^#?([A-Z_]+)=(.*)$", of_services, re.MULTILINE)
    assert sorted(name.lower() for name, _ in shown) == sorted(Settings.model_fields)
    parsed = Settings(**{name.lower(): value for name, value in shown if value and value != "{}"})
    assert parsed.model_dump() == Settings().model_dump()


@FILES
def test_containers_have_every_setting_that_their_service_reads_and_no_other(file: str):
    services = yaml.safe_load((ROOT / file).read_text())["services"]
    # A secret comes as a file.
    settings = read_by(*Readers)
    passed = {
        name: {key if key in settings else key.removesuffix("_FILE") for key in service.get("environment", {})}
        for name, service in services.items()
    }
    assert passed["processing"] == read_by(Readers.BOTH, Readers.PROCESSING)
    for name in passed.keys() & {"api", "api-replica"}:
        assert passed[name] == read_by(Readers.BOTH, Readers.API), name
    # It sets up the database by the settings of the processing service, and alerts nobody.
    of_alerts = {"ALERT_WEBHOOK_URL", "ALERT_SMTP_PASSWORD"}
    assert passed["migrate"] == read_by(Readers.BOTH, Readers.PROCESSING, Readers.MIGRATION) - of_alerts


@FILES
def test_nothing_is_passed_twice(file: str):
    def check(node: yaml.Node) -> None:
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value]
            assert len(keys) == len(set(keys)), keys
            for _, value in node.value:
                check(value)

    check(yaml.compose((ROOT / file).read_text()))
