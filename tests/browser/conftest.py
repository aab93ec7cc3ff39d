"""A browser as people have it, in front of real API processes; no test here where there is no chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from sqlalchemy import Connection

from tests.browser.content import add_content
from tests.browser.large import add_large
from tests.browser.rows import NOW, add_network
from tests.browser.site import Site, serving
from tests.browser.tab import Tab

# Packages' fixtures, not the session's: what playwright runs in this thread would be in the way of other tests' loops.
_SCOPE = "package"


@pytest.fixture(scope=_SCOPE)
def browser() -> Iterator[Browser]:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        reason = "There is no chromium: apt-get install chromium, or name one as CHROMIUM"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope=_SCOPE)
def site(browser: Browser, server: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The small network with everything that the pages show."""

    def fill(connection: Connection) -> None:
        add_network(connection)
        add_content(connection)

    with serving(server, tmp_path_factory.mktemp("redis"), NOW, fill) as found:
        yield found


@pytest.fixture(scope=_SCOPE)
def empty_site(browser: Browser, server: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """No node at all."""
    with serving(server, tmp_path_factory.mktemp("redis"), NOW, lambda connection: None) as found:
        yield found


@pytest.fixture(scope=_SCOPE)
def large_site(browser: Browser, server: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Five thousand nodes."""
    with serving(server, tmp_path_factory.mktemp("redis"), NOW, add_large) as found:
        yield found


@pytest.fixture
def tab(browser: Browser) -> Iterator[Callable[..., Tab]]:
    """Opens tabs by keyword; each must have called no other host, and logged no error but those that were expected."""
    opened: list[Tab] = []

    def made(site: Site, *path: str, **how: object) -> Tab:
        opened.append(Tab(browser, site, *path, **how))  # type: ignore[arg-type]
        return opened[-1]

    yield made
    complaints = [complaint for one in opened for complaint in one.complaints()]
    for one in opened:
        one.close()
    assert complaints == []


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """Where the run's screenshots stay."""
    folder = Path(__file__).resolve().parents[2] / ".artefacts"
    folder.mkdir(exist_ok=True)
    return folder
