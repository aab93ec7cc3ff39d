"""The API's documentation for people: pages whose every file comes from this server, for networks without internet."""

from __future__ import annotations

from pathlib import Path

import fastapi_offline
from fastapi import FastAPI, Response
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from starlette.staticfiles import StaticFiles

# Where the files lie that the pages are made of; everybody may have them.
FILES = "/docs-files"
_FOLDER = Path(fastapi_offline.__file__).parent / "static"


def install(app: FastAPI) -> None:
    """Serves /docs and /redoc; the app must have been made without FastAPI's own, whose files lie elsewhere."""
    icon = f"{FILES}/favicon.png"
    app.mount(FILES, StaticFiles(directory=_FOLDER), name="documentation")

    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=app.title,
            swagger_js_url=f"{FILES}/swagger-ui-bundle.js",
            swagger_css_url=f"{FILES}/swagger-ui.css",
            swagger_favicon_url=icon,
        )

    @app.get("/redoc", include_in_schema=False)
    async def redoc() -> Response:
        return get_redoc_html(
            openapi_url="/openapi.json",
            title=app.title,
            redoc_js_url=f"{FILES}/redoc.standalone.js",
            redoc_favicon_url=icon,
            with_google_fonts=False,
        )
