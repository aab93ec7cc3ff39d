"""The dashboard: one page, its scripts and styles, all served from here, for networks without internet.

The files are read once, when the process starts; they hold nothing about the network, so everybody may have them.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
from fastapi import FastAPI, Request, Response

from src.api import problems
from src.api.headers import values
from src.settings import Settings

ROOT = "/dashboard"
FOLDER = Path(__file__).parent / "dashboard"
# What a browser may do on these pages: ask this server, and run what it got from there. nginx sends the same policy.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_DIGITS = 12
_OF_DIGEST = re.compile(rf"(?P<digest>[0-9a-f]{{{_DIGITS}}})/(?P<name>.+)")
# The package that brings uPlot, and what of it is served.
_CHARTS = "metaflow-card-uplot"
_CHART_FILES = ("uPlot.iife.min.js", "uPlot.min.css")


@dataclass(frozen=True)
class File:
    """A file ready to be sent, as it is and compressed.

    Attributes:
        etag: a digest of the body, in quotes, so the same on every replica.
        compressed: by gzip.
    """

    body: bytes
    media_type: str
    etag: str
    compressed: bytes

    @classmethod
    def of(cls, body: bytes, media_type: str) -> File:
        etag = f'"{hashlib.sha1(body, usedforsecurity=False).hexdigest()}"'
        return cls(body, media_type, etag, gzip.compress(body, mtime=0))

    def answer(self, request: Request, caching: str = "no-cache") -> Response:
        """The file, or 304 where the browser has it already."""
        # A weak tag: the same for the file and what compresses it, here or in a proxy.
        headers = {
            "etag": f"W/{self.etag}",
            "cache-control": caching,
            "vary": "accept-encoding",
            "content-security-policy": POLICY,
        }
        known = values(request.scope, b"if-none-match")
        if any(tags.strip() == "*" or self.etag in tags for tags in known):
            return Response(status_code=304, headers=headers)
        body = self.body
        if any("gzip" in codings for codings in values(request.scope, b"accept-encoding")):
            body, headers["content-encoding"] = self.compressed, "gzip"
        return Response(body, headers=headers, media_type=self.media_type)


def files() -> dict[str, File]:
    """Every file of the dashboard, by its name below /dashboard/files/.

    Raises:
        FileNotFoundError: if the package that brings the charts lacks a file.
    """
    return {name: File.of(path.read_bytes(), _MEDIA_TYPES[path.suffix]) for name, path in (*_ours(), *_of_charts())}


def _ours() -> Iterator[tuple[str, Path]]:
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in _MEDIA_TYPES:
            yield path.relative_to(FOLDER).as_posix(), path


def _of_charts() -> Iterable[tuple[str, Path]]:
    installed = importlib.metadata.files(_CHARTS) or []
    found = {path.name: Path(str(path.locate())) for path in installed if path.name in _CHART_FILES}
    if missing := [name for name in _CHART_FILES if name not in found]:
        raise FileNotFoundError(f"the package {_CHARTS} lacks {', '.join(missing)}")
    return [(f"vendor/{name}", path) for name, path in found.items()]


def _settings(app: FastAPI, settings: Settings) -> File:
    """What the pages must know before anybody has signed in."""
    shown = {
        "utility_timezone": settings.utility_timezone,
        "language": "it" if settings.utility_country == "IT" else "en",
        "api_auth": settings.api_auth,
        "version": app.version,
    }
    return File.of(orjson.dumps(shown), "application/json")


def install(app: FastAPI, settings: Settings) -> None:
    """Serves /dashboard; every address below it that is no file is a page, which the scripts draw.

    The page names its files below a digest of them all. Under that they are the same for ever, so that a browser
    fetches them once; under another, as while replicas are updated, a browser checks what it has.
    """
    found = files()
    html = found.pop("index.html").body
    digest = hashlib.sha1("".join(file.etag for file in found.values()).encode(), usedforsecurity=False).hexdigest()
    folder = f"{ROOT}/files/".encode()
    page = File.of(html.replace(folder, folder + f"{digest[:_DIGITS]}/".encode()), _MEDIA_TYPES[".html"])

    def always(file: File) -> Callable[[Request], Response]:
        return lambda request: file.answer(request)

    async def file_of(request: Request) -> Response:
        # Looked up, never opened: a name cannot lead out of the folder.
        name, caching = request.path_params["name"], "no-cache"
        if named := _OF_DIGEST.fullmatch(name):
            name = named["name"]
            caching = "public, max-age=31536000, immutable" if digest.startswith(named["digest"]) else caching
        file = found.get(name)
        return problems.problem(404, "There is no such file") if file is None else file.answer(request, caching)

    def serve(path: str, answer: Callable[[Request], object]) -> None:
        # Plain routes: FastAPI's own would refuse the parameters that pages hold in their addresses.
        app.add_route(path, answer, methods=["GET"], include_in_schema=False)  # type: ignore[arg-type]

    serve(f"{ROOT}/settings.json", always(_settings(app, settings)))
    serve(f"{ROOT}/files/{{name:path}}", file_of)
    serve(ROOT, always(page))
    serve(f"{ROOT}/{{page:path}}", always(page))
