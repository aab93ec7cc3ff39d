"""Every page, as people meet it: with content, in both languages, on a phone, by keyboard, and read aloud."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route

from tests.browser.addresses import PAGES, SHOWN
from tests.browser.site import Site
from tests.browser.tab import Tab

PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 800}
# What a screen reader or a keyboard cannot get past.
GRAVE = {"serious", "critical"}
# `incident.acknowledge`: a word that has no translation shows as its key.
KEY = re.compile(r"\b(?:common|incident|node|district|model|kind|severity|unit|overview|work|job|alert)\.[a-z_]+\b")
REACHABLE = """() => [...document.querySelectorAll(
    'a[href], button:not([disabled]), input:not([disabled]), select, textarea, summary, [tabindex="0"]')]
    .filter(one => one.checkVisibility({checkVisibilityCSS: true}) && !one.closest('[inert]') && one.tabIndex >= 0)
    .map((one, number) => { one.dataset.reached = ''; return one.outerHTML.slice(0, 120); })"""


@pytest.fixture(scope="module", params=PAGES)
def visited(request: pytest.FixtureRequest, browser: Browser, site: Site) -> Iterator[tuple[str, Tab]]:
    """A page's name, and a tab that shows it in English."""
    name = request.param
    tab = Tab(browser, site, PAGES[name], scope=None if name == "sign-in" else "admin", expected=_expected(name))
    yield name, tab
    tab.close()


def _expected(name: str) -> tuple[str, ...]:
    # Whether there is a session is found by asking.
    return ("401",) if name == "sign-in" else ()


def test_a_page_shows_what_there_is(visited: tuple[str, Tab], artefacts: Path):
    name, tab = visited
    tab.page.set_viewport_size(DESKTOP)
    text = tab.page.inner_text("body")
    assert [part for part in SHOWN[name] if part not in text] == []
    assert len(tab.page.title()) > 5
    tab.page.screenshot(path=artefacts / f"{name}-1280.png", full_page=True)


def test_a_page_has_nothing_grave_for_axe(visited: tuple[str, Tab]):
    assert _grave(visited[1].page) == []


def test_a_page_fits_a_phone(visited: tuple[str, Tab], artefacts: Path):
    name, tab = visited
    tab.page.set_viewport_size(PHONE)
    tab.page.wait_for_timeout(100)
    width = tab.page.evaluate("document.documentElement.scrollWidth")
    tab.page.screenshot(path=artefacts / f"{name}-360.png", full_page=True)
    tab.page.set_viewport_size(DESKTOP)
    assert width <= PHONE["width"]


def test_tab_reaches_everything_on_a_page_and_the_focus_shows(visited: tuple[str, Tab]):
    page = visited[1].page
    page.evaluate("document.activeElement?.blur()")
    reachable = page.evaluate(REACHABLE)
    unseen = []
    for _ in range(len(reachable) + 5):
        page.keyboard.press("Tab")
        hidden = page.evaluate(
            """() => { const one = document.activeElement; one.dataset.reached = 'yes'; const style =
            getComputedStyle(one); return one === document.body || style.outlineStyle !== 'none' ||
            style.boxShadow !== 'none' ? '' : one.outerHTML.slice(0, 120) }"""
        )
        if hidden:
            unseen.append(hidden)
    missed = page.evaluate(
        "() => [...document.querySelectorAll('[data-reached=\"\"]')].map(e => e.outerHTML.slice(0, 120))"
    )
    assert (missed, unseen) == ([], [])


def test_a_page_asks_no_other_host_and_says_no_error(visited: tuple[str, Tab]):
    assert visited[1].complaints() == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_speaks_italian(tab: Callable[..., Tab], site: Site, name: str):
    scope = None if name == "sign-in" else "admin"
    page = tab(site, PAGES[name], scope=scope, language="it-IT", expected=_expected(name)).page
    text = page.inner_text("body")
    assert page.get_attribute("html", "lang") == "it"
    assert KEY.findall(text) == []
    # Numbers as Italians write them, and none of the frame's English words.
    assert re.findall(r"\b(?:Sign in|Overview|Incidents|Districts|Nodes|Loading|unknown|Show table)\b", text) == []


def test_the_overview_is_as_legible_in_the_dark(tab: Callable[..., Tab], site: Site, artefacts: Path):
    page = tab(site, scheme="dark").page
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert _grave(page) == []
    page.screenshot(path=artefacts / "overview-dark-1280.png")


def test_the_first_tab_skips_to_what_the_page_is_about(tab: Callable[..., Tab], site: Site):
    page = tab(site).page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')").startswith("#")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('main') !== null")


def test_a_page_that_is_not_there_says_so(tab: Callable[..., Tab], site: Site):
    no_node = tab(site, "/dashboard/nodes/nowhere", expected=("404",)).page
    assert "nowhere" in no_node.inner_text("main")
    for page in (no_node, tab(site, "/dashboard/what-is-this").page):
        assert page.inner_text("main h1") == "There is no such page"
        assert page.locator("main a[href='/dashboard']").count() == 1


def test_districts_are_sorted_by_the_names_that_are_shown(tab: Callable[..., Tab], site: Site):
    opened = tab(site, path=None)

    def renamed(route: Route) -> None:
        rows = route.fetch().json()
        names = {"pirri": "Zona alta", "quartu": None}
        route.fulfill(
            json=[row | {"district_name": names.get(row["district_id"], row["district_name"])} for row in rows]
        )

    opened.page.route("**/api/v1/nodes?*", renamed)
    opened.go("/dashboard/nodes")
    opened.page.locator("main th").get_by_role("button", name="District").click()
    shown = opened.page.locator("main tbody td[data-label=District]").all_inner_texts()
    assert list(dict.fromkeys(shown)) == ["quartu", "Selargius", "Su Planu", "Zona alta"]


def _grave(page: Page) -> list[str]:
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {', '.join(str(node['html'])[:160] for node in one['nodes'][:3])}"
        for one in found
        if one["impact"] in GRAVE
    ]
