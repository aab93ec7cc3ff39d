"""A tab of the browser, signed in or not, that keeps what went wrong in it and what it sent over the wire."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect

from tests.browser.site import Site

# A busy machine fails no test: what is waited for comes in a second where nothing else runs.
PATIENCE_SECONDS = 90
expect.set_options(timeout=1000 * PATIENCE_SECONDS)


class Tab:
    """One tab with cookies and storage of its own.

    Args:
        scope: of the key that it is signed in with; None: not signed in.
        expected: parts of console errors that the test brings about, such as "401".
    """

    def __init__(
        self,
        browser: Browser,
        site: Site,
        path: str | None = "/dashboard",
        *,
        scope: str | None = "admin",
        language: str = "en-GB",
        width: int = 1280,
        height: int = 800,
        scheme: str = "light",
        has_clock: bool = False,
        expected: Sequence[str] = (),
    ) -> None:
        self.site, self._expected = site, tuple(expected)
        self.errors: list[str] = []
        self.foreign: list[str] = []
        self._under_way: set[Request] = set()
        self._context = browser.new_context(
            locale=language,
            viewport={"width": width, "height": height},
            color_scheme=scheme,  # type: ignore[arg-type]
            reduced_motion="reduce",
            storage_state=None if scope is None else _signed_in(site),
        )
        if scope is not None:
            self.sign_in(scope)
        self._context.set_default_timeout(1000 * PATIENCE_SECONDS)
        self.page: Page = self._context.new_page()
        if has_clock:
            self.page.clock.install()
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        self.page.on("request", self._on_request)
        self.page.on("requestfinished", self._on_end)
        self.page.on("requestfailed", self._on_end)
        if path is not None:
            self.go(path)

    def sign_in(self, scope: str) -> None:
        """Opens a session without the page's form."""
        answer = self._context.request.post(
            f"{self.site.url}/api/v1/session", headers={"X-API-Key": self.site.keys[scope]}
        )
        assert answer.status == 201, answer.text()

    def go(self, path: str) -> None:
        """Loads a page anew and waits until it shows what it has."""
        self.page.goto(f"{self.site.url}{path}")
        self.settled()

    def settled(self) -> None:
        """Waits until the page has its heading and nothing of it is being fetched."""
        expect(self.page.locator("main h1").first).to_be_visible()
        expect(self.page.locator("main[aria-busy=true], main [aria-busy=true]")).to_have_count(0)
        deadline, quiet = time.monotonic() + PATIENCE_SECONDS, 0
        while quiet < 2:
            assert time.monotonic() < deadline, [request.url for request in self._under_way]
            self.page.wait_for_timeout(50)
            quiet = 0 if self._under_way else quiet + 1

    def real_seconds(self, seconds: float) -> None:
        """Lets the world's time pass, whatever the page's clock is."""
        self.page.wait_for_timeout(1000 * seconds)

    def poll(self, path: str) -> None:
        """Lets the page's clock run until it has requested a path again, and been answered."""
        with self.page.expect_response(lambda answer: urlsplit(answer.url).path == path):
            self.page.clock.fast_forward(65_000)
        self.settled()

    def bytes_of_poll(self, path: str) -> dict[str, float]:
        """What a poll of a path sends over the wire, by address: of the first of five that the browser reports."""
        for _ in range(5):
            read = self.count_bytes()
            self.poll(path)
            self.real_seconds(0.3)
            if sum(read.values()):
                return read
        raise AssertionError(f"the browser reports no bytes of {path}")

    def count_bytes(self) -> dict[str, float]:
        """From now on, the bytes over the wire by address, headers included."""
        read: dict[str, float] = {}
        session = self._context.new_cdp_session(self.page)
        addresses: dict[str, str] = {}
        session.send("Network.enable")

        def sent(event: dict[str, Any]) -> None:
            addresses[event["requestId"]] = event["request"]["url"]

        def finished(event: dict[str, Any]) -> None:
            path = urlsplit(addresses.get(event["requestId"], "?")).path
            read[path] = read.get(path, 0) + event["encodedDataLength"]

        session.on("Network.requestWillBeSent", sent)
        session.on("Network.loadingFinished", finished)
        return read

    def complaints(self) -> list[str]:
        """What should not have happened in it."""
        unexpected = [error for error in self.errors if not any(part in error for part in self._expected)]
        return [*unexpected, *(f"asked another host: {address}" for address in self.foreign)]

    def close(self) -> None:
        self._context.close()

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def _on_request(self, request: Request) -> None:
        self._under_way.add(request)
        if not request.url.startswith((self.site.url, "data:", "blob:")):
            self.foreign.append(request.url)

    def _on_end(self, request: Request) -> None:
        self._under_way.discard(request)


def _signed_in(site: Site) -> Any:
    """What the page remembers of a session, whose cookie no script can see."""
    return {
        "cookies": [],
        "origins": [{"origin": site.url, "localStorage": [{"name": "signed_in", "value": "yes"}]}],
    }
