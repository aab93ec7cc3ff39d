"""Secrets that callers of the API present: API keys and session tokens, of which only digests are ever stored."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

KEY_PREFIX, SESSION_PREFIX = "abk", "abs"
# What a scope allows includes what those before it allow.
SCOPES = ("read", "write", "admin")
# Each with those before it.
_ALLOWED = {scope: frozenset(SCOPES[: place + 1]) for place, scope in enumerate(SCOPES)}


@dataclass(frozen=True)
class Credential:
    """A credential at its birth: `text` is shown once, `identifier` names it ever after, `digest` is stored."""

    identifier: str
    text: str
    digest: bytes


def new_credential(prefix: str) -> Credential:
    """A credential of 256 random bits, which need no slow hash: nobody can guess them."""
    identifier = secrets.token_hex(6)
    text = f"{prefix}_{identifier}_{secrets.token_hex(32)}"
    return Credential(identifier, text, digest_of(text))


def identifier_of(text: str, prefix: str) -> str | None:
    """The identifier inside a credential of this kind; None where the text is none."""
    parts = text.split("_")
    if len(parts) != 3 or parts[0] != prefix or not parts[1].isalnum():
        return None
    return parts[1]


def digest_of(text: str) -> bytes:
    """SHA-256."""
    return hashlib.sha256(text.encode()).digest()


def allows(scope: str, needed: str) -> bool:
    return needed in _ALLOWED[scope]
