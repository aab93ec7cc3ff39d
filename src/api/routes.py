"""The routes of the API as a fixed set: whose request a path is, and which methods it has."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

# Answered to everybody: they reveal nothing about the network.
OPEN = frozenset({"/health", "/ready", "/docs", "/redoc", "/openapi.json", "/dashboard"})
_OPEN_FILES = ("/docs-files/", "/dashboard/")
# What no route answers.
NONE = "none"
# Longer paths are not remembered: whoever sends them would fill the memory.
_LONGEST_REMEMBERED = 300


def is_open(path: str) -> bool:
    """Whether a path is answered without asking who wants to know."""
    return path in OPEN or path.startswith(_OPEN_FILES)


class Routes:
    """Finds routes by path; what it answers comes from a set that requests cannot enlarge."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._routes = [route for route in routes if isinstance(route, Route)]
        self._remembered = lru_cache(maxsize=2_000)(self._template)

    def template(self, method: str, path: str) -> str:
        """The template of the route that answers, such as `/api/v1/nodes/{node_id:path}/metrics`, or `NONE`."""
        return self._remembered(method, path) if len(path) <= _LONGEST_REMEMBERED else self._template(method, path)

    def methods(self, path: str) -> list[str]:
        """The methods that a path has, HEAD with every GET, in order; none where there is no such path."""
        found = {
            method
            for route in self._routes
            if route.matches(_scope("GET", path))[0] is not Match.NONE
            for method in route.methods or ()
        }
        return sorted(found | {"HEAD"} if "GET" in found else found)

    def _template(self, method: str, path: str) -> str:
        scope = _scope("GET" if method == "HEAD" else method, path)
        for route in self._routes:
            if route.matches(scope)[0] is Match.FULL:
                return route.path
        return NONE


def _scope(method: str, path: str) -> Scope:
    return {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
