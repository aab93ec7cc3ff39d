"""Signing in with a key, staying signed in, and what happens when that ends."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import expect

from tests.browser.addresses import PAGES
from tests.browser.site import Site
from tests.browser.tab import Tab

# The browser itself logs this in its console.
REFUSED = ("401",)


def signed_in(tab: Tab, key: str) -> None:
    """Gives the form a key."""
    tab.page.locator("main input").first.fill(key)
    tab.page.locator("main form").get_by_role("button").first.click()


def test_somebody_without_a_session_signs_in_and_comes_to_what_they_wanted(tab: Callable[..., Tab], site: Site):
    opened = tab(site, PAGES["node"], scope=None, expected=REFUSED)
    expect(opened.page).to_have_url(f"{site.url}/dashboard/sign-in?next=%2Fdashboard%2Fnodes%2Finlet-pirri")
    signed_in(opened, "abk_000000000000_wrong")
    expect(opened.page.get_by_role("alert").first).to_be_visible()
    signed_in(opened, site.keys["read"])
    # The page adds what is chosen on it.
    expect(opened.page).to_have_url(re.compile(rf"^{re.escape(site.url + PAGES['node'])}(\?window=1hour)?$"))
    expect(opened.page.locator("main h1").first).to_contain_text("Inlet Pirri")
    # The key is nowhere: not in the address, nor in what the browser stores for pages.
    stored = opened.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])")
    assert "abk_" not in stored


def test_after_sign_in_nobody_is_sent_to_another_site(tab: Callable[..., Tab], site: Site):
    opened = tab(site, "/dashboard/sign-in?next=https%3A%2F%2Fexample.org%2F", scope=None, expected=REFUSED)
    signed_in(opened, site.keys["read"])
    expect(opened.page).to_have_url(f"{site.url}/dashboard")


def test_signing_out_ends_the_session(tab: Callable[..., Tab], site: Site):
    opened = tab(site, scope="read", expected=REFUSED)
    opened.page.get_by_role("button", name="Sign out").first.click()
    expect(opened.page).to_have_url(f"{site.url}/dashboard/sign-in")
    opened.page.goto(f"{site.url}/dashboard/nodes")
    expect(opened.page).to_have_url(f"{site.url}/dashboard/sign-in?next=%2Fdashboard%2Fnodes")


def test_a_session_that_ended_goes_to_sign_in_and_back(tab: Callable[..., Tab], site: Site):
    opened = tab(site, PAGES["incidents"], scope="write", expected=REFUSED, has_clock=True)
    site.end_sessions()
    # Every replica may go on believing it for two seconds.
    opened.real_seconds(2.5)
    opened.page.clock.fast_forward(35_000)
    # With what was chosen on the page.
    expect(opened.page).to_have_url(re.compile(r"/dashboard/sign-in\?next=%2Fdashboard%2Fincidents%3F.*hours"))
    signed_in(opened, site.keys["write"])
    expect(opened.page).to_have_url(re.compile(r"/dashboard/incidents\?.*hours="))


def test_somebody_who_may_only_read_is_offered_nothing_else(tab: Callable[..., Tab], site: Site):
    page = tab(site, PAGES["incident"], scope="read").page
    for name in ("Acknowledge", "Resolve"):
        assert page.get_by_role("button", name=name).count() == 0


def test_the_language_can_be_changed_and_is_remembered(tab: Callable[..., Tab], site: Site):
    opened = tab(site, language="en-GB")
    english = opened.page.locator("main h1").first.inner_text()
    opened.page.get_by_role("button", name="Italiano").first.click()
    expect(opened.page.locator("main h1").first).not_to_have_text(english)
    opened.go(PAGES["nodes"])
    assert opened.page.get_attribute("html", "lang") == "it"


def test_where_nobody_must_sign_in_an_old_session_is_in_nobodys_way(tab: Callable[..., Tab], site: Site):
    opened = tab(site, None, scope="read", expected=("503",))
    page = opened.page
    page.route("**/dashboard/settings.json", lambda route: route.fulfill(json=_without_sign_in(route.fetch().json())))
    # As while Redis, which holds the sessions, is away.
    page.route("**/api/v1/session", lambda route: route.fulfill(status=503, json={"detail": "Redis does not answer"}))
    opened.go("/dashboard")
    assert page.locator("main .card").count() > 3
    # Where one must, the page says why it cannot be shown.
    page.unroute("**/dashboard/settings.json")
    page.reload()
    expect(page.get_by_text("Redis does not answer")).to_be_visible()
    expect(page.locator("main h1")).to_have_text("This page cannot be shown now")


def _without_sign_in(settings: dict[str, object]) -> dict[str, object]:
    return settings | {"api_auth": "off"}
