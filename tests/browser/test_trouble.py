"""The API away, the database away, nothing there, and names that look like markup."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.addresses import PAGES
from tests.browser.large import DISTRICT, MARKUP, NODE
from tests.browser.site import Site
from tests.browser.tab import Tab

# What the browser itself says of an answer that is no answer.
NO_ANSWER = ("Failed to load resource", "ERR_CONNECTION")


def test_while_the_api_is_away_the_page_says_so_and_keeps_what_it_shows(tab: Callable[..., Tab], site: Site):
    opened = tab(site, has_clock=True, expected=NO_ANSWER)
    shown = opened.page.inner_text("main")
    with site.away():
        opened.page.clock.fast_forward(35_000)
        expect(opened.page.get_by_text("No answer since")).to_be_visible()
        assert "Burst" in shown
        assert "Burst" in opened.page.inner_text("main")
    opened.page.clock.fast_forward(125_000)
    expect(opened.page.get_by_text("No answer since")).to_be_hidden()


def test_while_the_database_is_away_the_page_says_so_and_keeps_what_it_shows(tab: Callable[..., Tab], site: Site):
    opened = tab(site, has_clock=True, expected=NO_ANSWER)
    with site.without_database():
        opened.page.clock.fast_forward(35_000)
        expect(opened.page.get_by_text("No answer since")).to_be_visible()
        assert "Burst" in opened.page.inner_text("main")
    opened.page.clock.fast_forward(125_000)
    expect(opened.page.get_by_text("No answer since")).to_be_hidden()


@pytest.mark.parametrize("name", ["overview", "nodes", "incidents", "models", "jobs", "alerts", "works", "survey"])
def test_without_a_node_a_page_says_that_there_is_nothing(tab: Callable[..., Tab], empty_site: Site, name: str):
    page = tab(empty_site, PAGES[name], expected=("404",)).page
    text = page.inner_text("main")
    assert len(text) > 30
    assert [odd for odd in ("undefined", "NaN", "null", "Infinity", "[object") if odd in text] == []


@pytest.mark.parametrize(
    "path",
    ["", "/nodes", "/nodes/%3Ci%3Enode%3C%2Fi%3E", "/districts/%3Cb%3Edistrict%3C%2Fb%3E", "/incidents", "/works"],
)
def test_names_and_notes_with_markup_run_none(tab: Callable[..., Tab], large_site: Site, path: str):
    page = tab(large_site, f"/dashboard{path}").page
    assert page.title() != "run"
    assert page.locator("main img[src=x], main script, main b:text-is('bold'), main b:text-is('district')").count() == 0
    if path.startswith(("/nodes/", "/districts/")):
        assert any(name in page.inner_text("body") for name in (MARKUP, NODE, DISTRICT))
