"""How soon the dashboard's pages can be used, and what they send over the wire, in a real browser on this machine."""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import orjson
from playwright.sync_api import Browser, sync_playwright
from sqlalchemy import Connection

from src.quickstart import engines
from tests.browser.addresses import PAGES
from tests.browser.content import add_content
from tests.browser.large import NODES, add_large
from tests.browser.rows import NOW, add_network
from tests.browser.site import Site, serving
from tests.browser.tab import Tab

ROUNDS = 5
KB = 1000
YEAR = f"{PAGES['node']}?window=1hour&from=2022-06-15T00:00:00Z&to=2023-06-15T00:00:00Z"
# What somebody waits for: milliseconds since the address was requested, once it is there and painted.
_OVERVIEW = "() => document.querySelectorAll('main .card').length > 3 && performance.now()"
_YEAR = """() => { const canvas = document.querySelector('main canvas'); if (!canvas?.width) return false;
    // Read from small copies, that waiting does not slow down what is waited for.
    const copy = new OffscreenCanvas(200, 100).getContext('2d', { willReadFrequently: true });
    copy.drawImage(canvas, 0, 0, 200, 100);
    const inked = copy.getImageData(0, 0, 200, 100).data.reduce((sum, one, at) => sum + (at % 4 === 3 && one > 0), 0);
    return inked > 400 && performance.now() }"""


@dataclass
class Measured:
    """One page, round by round: milliseconds until it could be used, bytes over the wire."""

    name: str
    most: str
    milliseconds: list[float] = field(default_factory=list)
    bytes: list[float] = field(default_factory=list)

    def line(self) -> str:
        middle = f"{statistics.median(self.milliseconds):,.0f} ms" if self.milliseconds else "-"
        worst = f"{max(self.milliseconds):,.0f} ms" if self.milliseconds else "-"
        return f"{self.name:38}{middle:>11}{worst:>11}{statistics.median(self.bytes) / KB:>12,.1f} KB   {self.most}"


def _visit(tab: Tab, path: str, is_there: str, measured: Measured) -> None:
    read = tab.count_bytes()
    tab.page.goto(f"{tab.site.url}{path}", wait_until="commit")
    found = tab.page.wait_for_function(is_there, polling="raf", timeout=30_000)
    measured.milliseconds.append(float(found.json_value()))
    tab.settled()
    measured.bytes.append(sum(read.values()))


def _overview(browser: Browser, site: Site) -> list[Measured]:
    cold = Measured("overview, nothing kept", "< 2,000 ms, < 400 KB")
    warm = Measured("overview, opened again", "< 2,000 ms")
    poll = Measured("a poll of it, unchanged", "< 5 KB")
    for _ in range(ROUNDS):
        with site.redis() as client:
            # Cached answers are of a generation; sessions stay.
            client.incrby("abbanoa:generation", 1)
        tab = Tab(browser, site, path=None)
        _visit(tab, "/dashboard", _OVERVIEW, cold)
        _visit(tab, "/dashboard", _OVERVIEW, warm)
        tab.close()
    tab = Tab(browser, site, path=None, has_clock=True)
    for _ in range(ROUNDS):
        tab.go("/dashboard")
        poll.bytes.append(sum(tab.bytes_of_poll("/api/v1/dashboard/overview").values()))
    tab.close()
    return [cold, warm, poll]


def _year(browser: Browser, site: Site) -> list[Measured]:
    cold = Measured("node, a year of hours, nothing kept", "< 1,000 ms")
    warm = Measured("node, a year of hours, opened again", "< 1,000 ms")
    for _ in range(ROUNDS):
        tab = Tab(browser, site, path=None)
        _visit(tab, YEAR, _YEAR, cold)
        _visit(tab, YEAR, _YEAR, warm)
        tab.close()
    return [cold, warm]


def main() -> None:
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        raise SystemExit("There is no chromium: apt-get install chromium, or name one as CHROMIUM")

    def small(connection: Connection) -> None:
        add_network(connection)
        add_content(connection)

    with tempfile.TemporaryDirectory(prefix="bench-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        server = stack.enter_context(engines.postgres(folder / "postgres"))
        browser = stack.enter_context(sync_playwright()).chromium.launch(executable_path=path, args=["--no-sandbox"])
        stack.callback(browser.close)
        rows: list[Measured] = []
        fills: dict[str, tuple[Callable[[Connection], None], Callable[[Browser, Site], list[Measured]]]] = {
            "large": (add_large, _overview), "small": (small, _year),
        }  # fmt: skip
        for part, (fill, measure) in fills.items():
            with serving(server, folder / part, NOW, fill) as site:
                rows += measure(browser, site)
    print(f"{NODES:,} nodes; medians of {ROUNDS} rounds on {os.cpu_count()} cores")
    print(f"{'':38}{'median':>11}{'worst':>11}{'over the wire':>15}   wanted")
    for row in rows:
        print(row.line())
    cold, warm, poll, year, year_warm = rows
    print(
        orjson.dumps(
            {
                "overview_cold_ms": round(statistics.median(cold.milliseconds)),
                "overview_warm_ms": round(statistics.median(warm.milliseconds)),
                "overview_bytes": round(statistics.median(cold.bytes)),
                "poll_bytes": round(statistics.median(poll.bytes)),
                "year_cold_ms": round(statistics.median(year.milliseconds)),
                "year_warm_ms": round(statistics.median(year_warm.milliseconds)),
            }
        ).decode()
    )


if __name__ == "__main__":
    sys.exit(main())
