"""`python -m src.settings_files`: writes into files what follows from src/settings.py.

These are the settings in `.env.processing.example`, and in `docker-compose.processing.yml` and
`docker-stack.processing.yml` the names that are passed on to containers. They stand between two lines of comment each;
what stands elsewhere in these files is written by hand and stays as it is.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import inspect
import json
import re
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from src.setting_values import Mark, Readers
from src.settings import Section, Settings

ROOT = Path(__file__).parents[1]
EXAMPLE = ".env.processing.example"
CONTAINERS = ("docker-compose.processing.yml", "docker-stack.processing.yml")
_ORIGIN = "from src/settings.py by `python -m src.settings_files`"
_BOUNDS = ((Ge, "ge", "at least"), (Gt, "gt", "more than"), (Le, "le", "at most"), (Lt, "lt", "less than"))
# Lines between two of comment, the first with the name of what stands there.
_BLOCK = re.compile(r"^( *)# >>> (\w+): .*\n(?:.*\n)*?\1# <<< \2\n", re.MULTILINE)


def sections_of(settings: type[Section]) -> list[type[Section]]:
    """The sections that a class of settings consists of, in the order in which it names them."""
    return [base for base in settings.__mro__[1:] if issubclass(base, Section) and base is not Section]


def descriptions_of(section: type[Section]) -> dict[str, str]:
    """The text below each field, in one line. (Pydantic can read these, too, but would at every start of a service.)"""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(definition, ast.ClassDef)
    described = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                described[name] = " ".join(text.split())
    return described


def bounds_of(field: FieldInfo) -> str:
    """Which values a setting takes, as a sentence; nothing where its default shows it."""
    if get_origin(field.annotation) is Literal:
        *choices, last = get_args(field.annotation)
        return f"One of {', '.join(choices)} or {last}."
    bounds = {
        words: getattr(bound, name)
        for bound in field.metadata
        for kind, name, words in _BOUNDS
        if isinstance(bound, kind)
    }
    if bounds.keys() == {"at least", "at most"}:
        return f"From {bounds['at least']} to {bounds['at most']}."
    sentence = ", ".join(f"{words} {limit}" for words, limit in bounds.items())
    return f"{sentence.capitalize()}." if sentence else ""


def default_of(field: FieldInfo) -> str:
    """A default as it stands in the environment."""
    match field.default:
        case SecretStr() as secret:
            return secret.get_secret_value()
        case bool() as is_on:
            return str(is_on).lower()
        case dict() as by_name:
            return json.dumps(by_name, ensure_ascii=False)
        case default:
            return str(default)


def example_of(settings: type[Section]) -> list[str]:
    """The lines of every setting: the heading of its section, its description and bounds, its default."""
    lines = []
    for section in sections_of(settings):
        lines += ["", *_comment(f"--- {section.__doc__}")]
        descriptions = descriptions_of(section)
        for name, field in section.model_fields.items():
            lines += _comment(f"{descriptions.get(name, '')} {bounds_of(field)}")
            lines.append(f"{'' if Mark.TO_FILL_IN in field.metadata else '#'}{name.upper()}={default_of(field)}")
    return lines


def _comment(text: str) -> list[str]:
    return textwrap.wrap(
        text.strip(), 120, initial_indent="# ", subsequent_indent="# ", break_long_words=False, break_on_hyphens=False
    )


def readers_of(settings: type[Section]) -> Iterator[tuple[str, FieldInfo, Readers]]:
    """Every setting, and whose containers have it."""
    for section in sections_of(settings):
        for name, field in section.model_fields.items():
            exception = next((each for each in field.metadata if isinstance(each, Readers)), None)
            yield name.upper(), field, exception or section.readers


def passed_on(settings: type[Section], readers: Readers) -> list[str]:
    """The lines of an `environment:` with what these containers have as `.env.processing` sets it."""
    lines = []
    for name, field, its_readers in readers_of(settings):
        is_set_by_hand = field.annotation is SecretStr or Mark.SET_IN_CONTAINERS in field.metadata
        if its_readers is readers and not is_set_by_hand:
            has_default = Mark.DEFAULT_IN_CONTAINERS in field.metadata
            lines.append(f"{name}: ${{{name}:-{default_of(field)}}}" if has_default else f"{name}:")
    return lines


def filled(text: str, blocks: Mapping[str, list[str]]) -> str:
    """A file's text with these lines in its blocks.

    Raises:
        ValueError: where it has other blocks than these.
    """
    present = [name for _, name in _BLOCK.findall(text)]
    if sorted(present) != sorted(blocks):
        raise ValueError(f"expected each of the blocks {', '.join(blocks)} once, found {', '.join(present) or 'none'}")

    def block(found: re.Match[str]) -> str:
        indent, name = found.groups()
        lines = [f"# >>> {name}: {_ORIGIN}", *blocks[name], f"# <<< {name}"]
        return "".join(f"{indent}{line}\n" if line else "\n" for line in lines)

    return _BLOCK.sub(block, text)


def files_of(settings: type[Section], texts: Mapping[str, str]) -> dict[str, str]:
    """What these files, by name, are with these settings.

    Raises:
        ValueError: where a file has not the blocks that it needs.
    """
    example = {"settings": example_of(settings)}
    containers = {
        readers.value: passed_on(settings, readers) for readers in (Readers.BOTH, Readers.PROCESSING, Readers.API)
    }
    made = {}
    for name, text in texts.items():
        try:
            made[name] = filled(text, example if name == EXAMPLE else containers)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return made


def main(arguments: list[str] | None = None, folder: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m src.settings_files",
        description=f"Writes what follows from src/settings.py into {EXAMPLE}, {' and '.join(CONTAINERS)}.",
    )
    parser.add_argument("--check", action="store_true", help="write nothing; show what differs, and exit with 1 then")
    options = parser.parse_args(arguments)
    present = {name: (folder / name).read_text() for name in (EXAMPLE, *CONTAINERS)}
    try:
        made = files_of(Settings, present)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for name, text in made.items():
        if options.check:
            lines = text.splitlines(keepends=True)
            sys.stdout.writelines(difflib.unified_diff(present[name].splitlines(keepends=True), lines, name, name))
        elif text != present[name]:
            (folder / name).write_text(text)
            sys.stdout.write(f"{name} is written.\n")
    return int(options.check and made != present)


if __name__ == "__main__":
    sys.exit(main())
