"""Mapping files: how columns become readings, written to be read and edited by people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from pydantic import ValidationError

from src.domain.tables.mapping import Mapping, Section
from src.domain.tables.table import Refusal

_ABOUT = """\
# How columns become readings. Edit what is wrong and give the file again by --mapping.
#   files     names of the files (* stands for anything)
#   instant   columns (date and time may be two), order (day first, month first or year first), and the zone of times
#             without an offset: Europe/Rome, UTC, or +01:00 for a clock that is never put forward
#   channels  column, node (unless node_column or node says it), measurement (flow_rate, pressure, temperature or
#             volume), unit such as L/s, m3/h, bar, m; volume_is increment or counter
#   skipped   what is not taken, and why
#   no_value  figures that stand for no value; decimal "," or "." where the numbers do not tell
"""


def read_mapping(path: Path) -> Mapping:
    """A mapping file.

    Raises:
        Refusal: with the place of what is wrong.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{path} cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        raise Refusal(
            f"{path}{line}: this is no YAML. Correct it, or have a new mapping made without --mapping"
        ) from None
    try:
        return Mapping.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part + 1) if isinstance(part, int) else part for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise Refusal(f"{path}, {place or 'the whole'}: {message}. Correct it and give it again") from None


def write_mapping(folder: Path, name: str, sections: Sequence[Section]) -> Path:
    """Keeps a mapping in the folder under this name, or a numbered one where another mapping has it already."""
    listed = [section.model_dump(mode="json", exclude_none=True, exclude_defaults=True) for section in sections]
    text = _ABOUT + yaml.safe_dump({"tables": listed}, sort_keys=False, allow_unicode=True, width=120)
    number = 1
    while True:
        path = folder / (f"{name}.mapping.yaml" if number == 1 else f"{name}.mapping-{number}.yaml")
        if not path.exists():
            path.write_text(text, encoding="utf-8")
            return path
        if path.read_text(encoding="utf-8") == text:
            return path
        number += 1
