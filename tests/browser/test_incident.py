"""An incident from its list to its end: acknowledged, noted, resolved."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from playwright.sync_api import expect
from sqlalchemy import Row, select, update

from src.db.tables import anomalies
from tests.browser.content import LEAK, LEAK_INCIDENT
from tests.browser.site import Site
from tests.browser.tab import Tab


def stored(site: Site) -> Row[Any]:
    with site.database.connect() as connection:
        return connection.execute(select(anomalies).where(anomalies.c.anomaly_id == LEAK)).one()


def test_an_incident_is_acknowledged_noted_and_resolved(tab: Callable[..., Tab], site: Site):
    unseen = update(anomalies).where(anomalies.c.anomaly_id == LEAK).values(acknowledged_at=None, acknowledged_by=None)
    with site.restored(anomalies):
        site.changed(lambda connection: connection.execute(unseen))
        page = tab(site, f"/dashboard/incidents/{LEAK_INCIDENT}", scope="write").page
        page.get_by_role("button", name="Acknowledge").click()
        page.get_by_role("dialog").get_by_role("button", name="Acknowledge").click()
        expect(page.get_by_role("dialog")).to_be_hidden()
        expect(page.locator("main")).to_contain_text("A. Melis")
        assert stored(site).acknowledged_by == "A. Melis"
        page.get_by_role("button", name="Resolve").first.click()
        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        assert page.evaluate("document.activeElement.closest('dialog') !== null")
        # What was typed is text, whatever it looks like.
        dialog.locator("textarea").fill("<b>Valve</b> repaired")
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        assert page.evaluate("document.activeElement.tagName") == "BUTTON"
        page.get_by_role("button", name="Resolve").first.click()
        page.get_by_role("dialog").locator("textarea").fill("<b>Valve</b> repaired")
        page.get_by_role("dialog").locator("button[type=submit], button.primary").first.click()
        expect(page.get_by_role("dialog")).to_be_hidden()
        expect(page.locator("main")).to_contain_text("<b>Valve</b> repaired")
        row = stored(site)
        # Below what was noted before.
        assert (row.note, row.resolved_by) == ("Crew looks at it on Friday\n<b>Valve</b> repaired", "A. Melis")
        assert row.resolved_at is not None


def test_a_list_of_incidents_leads_to_each(tab: Callable[..., Tab], site: Site):
    opened = tab(site, "/dashboard/incidents", scope="read")
    opened.page.locator(f"main a[href='/dashboard/incidents/{LEAK_INCIDENT}']").first.click()
    expect(opened.page.locator("main h1").first).to_be_visible()
    expect(opened.page.locator("main")).to_contain_text("3.1 L/s")
    opened.page.go_back()
    expect(opened.page).to_have_url(re.compile(r"/dashboard/incidents(\?|$)"))
