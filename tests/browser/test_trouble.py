"""The API away, the database away, nothing there, and names that look like markup."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.addresses import PAGES
from tests.browser.large import DISTRICT, MARKUP, NODE
from tests.browser.site import Site
from tests.browser.tab import Tab

# What the browser itself logs of an answer that is no answer.
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
    # Nobody has checked the quality of these nodes yet, which is a 404.
    page = tab(large_site, f"/dashboard{path}", expected=("/api/v1/quality/",)).page
    assert page.title() != "run"
    assert page.locator("main img[src=x], main script, main b:text-is('bold'), main b:text-is('district')").count() == 0
    if path.startswith(("/nodes/", "/districts/")):
        assert any(name in page.inner_text("body") for name in (MARKUP, NODE, DISTRICT))


def go(page: Page, path: str) -> None:
    """Within the dashboard, as its links do."""
    page.evaluate("path => { history.pushState(null, '', path); dispatchEvent(new Event('navigated')); }", path)


def test_a_page_that_was_left_before_it_came_takes_nothing_from_the_one_that_is_shown(
    tab: Callable[..., Tab], site: Site
):
    page = tab(site, has_clock=True).page
    late: list[Route] = []
    page.route("**/channels", lambda route: late.append(route))
    go(page, PAGES["node"])
    while not late:
        page.wait_for_timeout(20)
    go(page, "/dashboard/alerts")
    expect(page.get_by_role("heading", name="Alerts", exact=True).first).to_be_visible()
    with page.expect_response("**/channels"):
        late[0].continue_()
    page.wait_for_timeout(300)
    assert page.url == f"{site.url}/dashboard/alerts"
    go(page, "/dashboard/jobs")
    expect(page.locator("h1", has_text="Jobs")).to_be_visible()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    with page.expect_response("**/api/v1/jobs*"):
        page.clock.fast_forward(65_000)
    page.wait_for_timeout(300)
    # What is no longer shown is no longer requested.
    assert [url for url in requested if "/api/v1/alerts" in url or "/api/v1/nodes" in url] == []


def test_a_dialog_does_not_outlive_its_page_and_what_failed_stands_beside_its_button(
    tab: Callable[..., Tab], site: Site
):
    page = tab(site, "/dashboard/works", expected=NO_ANSWER).page
    page.route("**/api/v1/districts*", lambda route: route.abort())
    state = page.locator("main h1 + button, .page-title button").first
    state.click()
    expect(page.locator(".page-title .notice.bad")).to_be_visible()
    page.unroute("**/api/v1/districts*")
    state.click()
    expect(page.locator("dialog")).to_be_visible()
    expect(page.locator(".page-title .notice.bad")).to_have_count(0)
    go(page, "/dashboard/jobs")
    expect(page.locator("h1", has_text="Jobs")).to_be_visible()
    expect(page.locator("dialog")).to_have_count(0)


def test_a_node_page_asks_for_the_same_until_a_window_has_ended(tab: Callable[..., Tab], site: Site):
    opened = tab(site, PAGES["node"], has_clock=True)
    page = opened.page
    opened.settled()
    statuses: list[int] = []
    page.on("response", lambda answer: statuses.append(answer.status) if "/api/v1/series" in answer.url else None)
    for _ in range(2):
        page.clock.fast_forward(61_000)
        page.wait_for_timeout(700)
    assert statuses
    assert set(statuses) == {304}
