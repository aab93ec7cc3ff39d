"""The documents say what is there: links, commands and their options, settings, files and paths of the API."""

from __future__ import annotations

import argparse
import functools
import importlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
import pytest

from src.api.main import create_app
from src.settings import Settings

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
# What a reader has besides this project.
FOREIGN = {"cd", "cp", "curl", "docker", "docker-compose", "export", "git", "pip", "python3"}
# Commands that take no arguments, and have no parser.
PLAIN = {"src.db.migrate", "src.db.roles"}
# Where a reader puts something else.
PLACEHOLDERS = {"MODEL_ID"}
# Folders whose files are in the repository.
FOLDERS = "src|tests|benchmarks|containers|migrations|requirements|alerts|scripts"

every_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


@dataclass(frozen=True)
class Document:
    """A document in parts: `text` without blocks of code, `spans` of code within it, `blocks` as (language, code)."""

    text: str
    spans: list[str]
    blocks: list[tuple[str, str]]

    @property
    def code(self) -> str:
        return "\n".join([*self.spans, *(code for _, code in self.blocks)])

    @property
    def anchors(self) -> set[str]:
        """Of its headings, as repositories make them."""
        headings = re.findall(r"^#+ +(.+?) *$", self.text, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@functools.cache
def document(path: Path) -> Document:
    block = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
    whole = path.read_text()
    text = block.sub("", whole)
    return Document(text, [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)], block.findall(whole))


def commands(found: Document) -> Iterator[list[str]]:
    """The words of every command: lines of a shell, and commands of this project within a sentence."""
    shells = [code.replace("\\\n", " ") for language, code in found.blocks if language == "bash"]
    # A command's bare name, within a sentence, stands for it.
    spans = [span for span in found.spans if re.match(r"\./scripts/|docker-compose |python -m \S+ ", span)]
    for line in [*(line for code in shells for line in code.splitlines()), *spans]:
        words = shlex.split(line, comments=True)
        # Settings for the one command stand before it.
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words = words[1:]
        if words:
            yield words


@functools.cache
def parser_of(module: str, function: str = "main") -> argparse.ArgumentParser:
    """The parser that a command builds. Of its arguments any text will do: those of a document stand for others."""

    class Built(Exception):
        pass

    def caught(parser: argparse.ArgumentParser, *_: object) -> None:
        raise Built(parser)

    command = getattr(importlib.import_module(module), function)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", caught)
        with pytest.raises(Built) as built:
            command([])
    parser: argparse.ArgumentParser = built.value.args[0]
    parsers = [parser]
    for each in parsers:
        each.allow_abbrev = False
        for action in each._actions:
            action.type = None
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
    return parser


def parse(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    try:
        parser.parse_args(arguments)
    except SystemExit:
        pytest.fail(f"{parser.prog} does not take {shlex.join(arguments)}")


@functools.cache
def usage_of(script: Path) -> str:
    """What a script says of its options: by its help, or where it has none, in its text."""
    text = script.read_text()
    if "usage()" not in text:
        return text
    return subprocess.run([script, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout


def check_script(script: str, arguments: list[str], pytestconfig: pytest.Config) -> None:
    path = ROOT / script
    assert path.is_file(), f"there is no {script}"
    says = usage_of(path)
    if path.name == "quickstart.sh":
        return parse(parser_of("src.quickstart.options", "parsed"), arguments)
    if path.name == "test.sh":
        return check_pytest(arguments, pytestconfig)
    if path.name == "test_stack.sh":
        says += (ROOT / "tests/e2e/main.py").read_text()
    if path.name == "bench.sh" and arguments:
        suite = ROOT / "benchmarks" / f"{arguments[0]}.py"
        assert re.search(rf"\b{arguments[0]}\b", says), f"{script} does not know {arguments[0]}"
        says = suite.read_text()
    for option in (word for word in arguments if word.startswith("-")):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", says), f"{script} does not know {option}"
    return None


def check_pytest(arguments: list[str], pytestconfig: pytest.Config) -> None:
    known, unknown = pytestconfig._parser.parse_known_and_unknown_args(arguments)
    assert not unknown, f"pytest does not know {unknown}"
    for place in known.file_or_dir:
        assert (ROOT / place).exists(), f"there is no {place}"


def check_module(module: str, arguments: list[str]) -> None:
    if module in PLAIN:
        assert not arguments, f"{module} takes no arguments"
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
    else:
        parse(parser_of(module), arguments)


def check_foreign(words: list[str], services: set[str]) -> None:
    """Files and services of this project that other programs are to use."""
    for option, place in zip(words, words[1:], strict=False):
        if option in ("-r", "-f") and words[0] != "curl" and "=" not in place:
            assert (ROOT / place).is_file() or "/" in place, f"there is no {place}"
        if option == "--scale":
            assert place.partition("=")[0] in services, f"there is no service {place}"
        if words[0] == "docker-compose" and option in ("build", "push"):
            assert place in services, f"there is no service {place}"
    if words[0] == "cp":
        assert (ROOT / words[1]).is_file(), f"there is no {words[1]}"


@functools.cache
def schema() -> dict[str, Any]:
    return create_app(Settings(bigquery_project_id="demo")).openapi()


def operation(method: str, path: str) -> dict[str, Any] | None:
    """What OpenAPI has of a path, written with names or as a request has it; None: nothing."""
    paths = schema()["paths"]
    by_literals = sorted(paths, key=lambda known: known.count("{"))
    fitting = (known for known in by_literals if re.fullmatch(re.sub(r"{\w+}", "[^/]+", known), path))
    found: dict[str, Any] | None = next(filter(None, (paths[known].get(method.lower()) for known in fitting)), None)
    return found


def requests(found: Document) -> Iterator[tuple[str, str, str | None]]:
    """Every request in code, as method, address and body: of `curl`, and as `GET /api/v1/nodes` names it."""
    for words in commands(found):
        if words[0] == "curl":
            body = words[words.index("-d") + 1] if "-d" in words else None
            method = words[words.index("-X") + 1] if "-X" in words else "GET" if body is None else "POST"
            yield from ((method, re.sub(r"^\$\w+|^https?://[^/]+", "", word), body) for word in words if "/" in word[1:]
                        and re.match(r"\$API/|https?://", word))  # fmt: skip
    method = "GET"
    for span in found.spans:
        named = re.fullmatch(r"(?:(GET|POST|DELETE) )?(/(?:api/v1|health|ready|metrics)\b[^ ]*)", span)
        method = named[1] if named and named[1] else method
        if named:
            yield method, named[2], None


@every_document
def test_links_and_anchors_exist(path: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", document(path).text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        place = (path.parent / name).resolve() if name else path
        assert place.exists(), f"{target}: there is no such file"
        assert not anchor or anchor in document(place).anchors, f"{target}: there is no such heading"


@every_document
def test_commands_exist_and_take_these_options(path: Path, pytestconfig: pytest.Config):
    services = set(re.findall(r"^  ([a-z-]+):$", (ROOT / "docker-compose.processing.yml").read_text(), re.MULTILINE))
    for words in commands(document(path)):
        module = next((at + 1 for at, word in enumerate(words) if word == "-m"), None)
        if words[0].startswith("./scripts/"):
            check_script(words[0], words[1:], pytestconfig)
        elif module is not None:
            check_module(words[module], words[module + 1 :])
        elif words[0] == "pytest":
            check_pytest(words[1:], pytestconfig)
        else:
            assert words[0] in FOREIGN, f"nobody knows the command {words[0]}"
            check_foreign(words, services)


@every_document
def test_options_and_names_in_capitals_are_known(path: Path):
    code = document(path).code
    for name in re.findall(r"\b([A-Z][A-Z0-9_]*)=", code) + re.findall(r"\$([A-Z]\w+)", code):
        assert name in settings() or name in PLACEHOLDERS | {"PWD", "KEY", "API"}, f"{name} is no setting"
    for name in re.findall(r"(?<![\w.*<-])[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+(?![\w*])", code):
        known = settings() | words_of_source() | PLACEHOLDERS
        assert known & {name, name.removesuffix("_FILE")}, f"what is {name}?"
    for option in re.findall(r"`(--[a-z][a-z-]*)", document(path).text):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", text_of_scripts() + text_of_source()), f"what takes {option}?"


@every_document
def test_files_that_are_named_exist(path: Path):
    for name in re.findall(rf"(?<![\w./-])(?:{FOLDERS})/[\w./*-]*[\w*/]", document(path).code):
        assert list(ROOT.glob(name.rstrip("/"))), f"there is no {name}"


@every_document
def test_requests_are_those_of_the_api(path: Path):
    for method, address, body in requests(document(path)):
        parts = urlsplit(address)
        known = operation(method, parts.path)
        if parts.path.startswith(("/docs", "/dashboard")):
            continue
        assert known is not None, f"the API has no {method} {parts.path}"
        names = {parameter["name"] for parameter in known.get("parameters", ()) if parameter["in"] == "query"}
        parameters = {name for name, _ in parse_qsl(parts.query)}
        assert parameters <= names, f"{method} {parts.path} has no {parameters - names}"
        if body is not None:
            check_body(known, orjson.loads(body))


def check_body(known: dict[str, Any], body: dict[str, Any]) -> None:
    wanted = orjson.dumps(known["requestBody"]).decode()
    model = schema()["components"]["schemas"][re.search(r"#/components/schemas/(\w+)", wanted)[1]]
    assert set(model.get("required", ())) <= set(body) <= set(model["properties"])


def test_answers_in_the_documents_of_the_api_have_its_fields():
    fields = {field for model in schema()["components"]["schemas"].values() for field in model.get("properties", ())}
    for language, code in document(ROOT / "docs/api.md").blocks:
        if language == "json":
            for name in re.findall(r'"(\w+)":', code):
                assert name in fields or name in text_of_source(), f"nothing in an answer is called {name}"


def test_the_readme_is_one_screen():
    assert len((ROOT / "README.md").read_text().splitlines()) < 120


@functools.cache
def settings() -> frozenset[str]:
    """Every setting of the services, the containers and the tests."""
    return frozenset(name.upper() for name in Settings.model_fields) | set(
        re.findall(r"\b[A-Z][A-Z0-9_]+\b", text_of_scripts())
    )


@functools.cache
def text_of_scripts() -> str:
    places = ("scripts/*.sh", "docker-*.yml", ".env.processing.example", "containers/**/*.sh", "tests/conftest.py",
              "tests/browser/conftest.py")  # fmt: skip
    return "\n".join(file.read_text() for place in places for file in ROOT.glob(place))


@functools.cache
def text_of_source() -> str:
    places = ("src/**/*.py", "benchmarks/*.py", "tests/e2e/*.py", "migrations/versions/*.py")
    return "\n".join(file.read_text() for place in places for file in ROOT.glob(place))


@functools.cache
def words_of_source() -> frozenset[str]:
    return frozenset(re.findall(r"\b[A-Z][A-Z0-9_]+\b", text_of_source()))
