"""What a request's headers say, read in one place, however often each of them was sent."""

from __future__ import annotations

from functools import lru_cache

from starlette.types import Scope

_INDEXED = "abbanoa.headers"


def values(scope: Scope, name: bytes) -> list[str]:
    """Every value of a header (its name in lower case), in order."""
    indexed: dict[bytes, list[str]] | None = scope.get(_INDEXED)
    if indexed is None:
        # Looked at several times on the way of a request.
        indexed = scope[_INDEXED] = {}
        for header, value in scope["headers"]:
            indexed.setdefault(header, []).append(value.decode("latin-1"))
    return indexed.get(name, [])


def cookies(scope: Scope, name: str) -> list[str]:
    """Every value of a cookie; other cookies may look as they like (RFC 6265 lets a server see anything)."""
    pairs = (pair.partition("=") for line in values(scope, b"cookie") for pair in line.split(";"))
    return [value.strip().strip('"') for key, _, value in pairs if key.strip() == name]


def prefers_csv(scope: Scope) -> bool:
    """Whether the request wants CSV rather than JSON (RFC 9110, 12.5.1); of two it likes alike, CSV is the rarer."""
    return _prefers_csv(", ".join(values(scope, b"accept")))


@lru_cache(maxsize=1000)
def _prefers_csv(accept: str) -> bool:
    weights: dict[str, float] = {}
    for item in accept.split(","):
        kind, *parameters = (part.strip().lower() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        weights[kind] = max(weight, weights.get(kind, 0.0))
    csv = weights.get("text/csv", 0.0)
    json = max(weights.get(kind, 0.0) for kind in ("application/json", "application/*", "*/*"))
    return csv > 0 and ("application/json" not in weights or csv >= json)
