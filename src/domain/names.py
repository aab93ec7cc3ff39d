"""What the name of a node or a district, or any other text about them, may be."""

from __future__ import annotations

from collections.abc import Sequence

# Of up to four bytes each: an entry of an index holds 2 700 bytes, and names stand in indices together with others.
MOST_CHARACTERS = 255


def problem_of_text(text: str) -> str | None:
    """Why the database cannot hold this text, or None: it holds neither a NUL nor half a character."""
    if "\x00" in text:
        return "holds a NUL character"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds characters that are no valid Unicode"
    return None


def problem_of_name(name: str) -> str | None:
    """Why nothing can bear this name, or None: names are not blank, at most `MOST_CHARACTERS` long, and storable."""
    if not name.strip():
        return "is empty"
    if len(name) > MOST_CHARACTERS:
        return f"is longer than {MOST_CHARACTERS} characters"
    return problem_of_text(name)


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first of these names, and how many there are besides."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")
