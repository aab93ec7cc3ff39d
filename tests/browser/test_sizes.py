"""Five thousand nodes, and a year of hours: what comes over the wire, and that it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.addresses import PAGES
from tests.browser.site import Site
from tests.browser.tab import Tab

KB = 1000


def test_the_overview_of_five_thousand_nodes_is_small_and_an_unchanged_one_smaller(
    tab: Callable[..., Tab], large_site: Site, artefacts: Path
):
    opened = tab(large_site, path=None, has_clock=True)
    read = opened.count_bytes()
    opened.go("/dashboard")
    expect(opened.page.locator("main")).to_contain_text("5")
    opened.page.screenshot(path=artefacts / "overview-5000-1280.png", full_page=True)
    assert sum(read.values()) < 400 * KB, read
    polled = opened.bytes_of_poll("/api/v1/dashboard/overview")
    assert sum(polled.values()) < 5 * KB, polled


def test_a_year_of_hours_is_drawn(tab: Callable[..., Tab], site: Site, artefacts: Path):
    path = f"{PAGES['node']}?window=1hour&from=2022-06-15T00:00:00Z&to=2023-06-15T00:00:00Z"
    page = tab(site, path).page
    canvas = page.locator("main canvas").first
    expect(canvas).to_be_visible()
    inked = """canvas => { const context = canvas.getContext('2d'); const data = context.getImageData(
        0, 0, canvas.width, canvas.height).data; let inked = 0; for (let i = 3; i < data.length; i += 4) if (data[i])
        inked++; return inked / (data.length / 4) }"""
    assert canvas.evaluate(inked) > 0.02
    page.screenshot(path=artefacts / "node-year-1280.png", full_page=True)
