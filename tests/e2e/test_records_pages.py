"""The first page of the administration and the records in a real browser, as an admin and as an auditor."""

from __future__ import annotations

import csv
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from servers import audit
from servers.admin import chain_page
from servers.models import Call, Membership
from tests.conftest import Cast
from tests.e2e.conftest import Window
from tests.e2e.test_portal_pages import sign_in
from tests.support.gateway import LiveGateway

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.requirement("F-801", "F-802"),
]


def calls(cast: Cast, count: int = 40) -> None:
    now = timezone.now()
    Call.objects.bulk_create(
        Call(
            at=now - timedelta(minutes=30 * number), request_id=f"r{number}", tenant="default", server="calculator",
            server_id=cast.server.pk, principal="member" if number % 2 else "=manager", http_method="POST",
            method="tools/call", item="add" if number % 3 else "dig", decision="allowed", status=200,
            outcome="ok" if number % 5 else "upstream_down", bytes_in=1, bytes_out=1, milliseconds=7 * number,
        )
        for number in range(count)
    )  # fmt: skip


def test_the_first_page_draws_the_calls_of_what_a_manager_manages(
    gateway: LiveGateway, cast: Cast, window: Window, dark_window: Window
) -> None:
    calls(cast)
    for one, name in ((window, "admin-index-calls"), (dark_window, "admin-index-calls-dark")):
        sign_in(one.page, gateway.origin, "manager")
        one.page.goto(f"{gateway.origin}/admin/")
        expect(one.page.get_by_role("img", name="Calls over time")).to_be_visible()
        expect(one.page.get_by_text("40 calls in 24 hours, 8 of them with errors.", exact=True)).to_be_visible()
        one.page.get_by_text("Time to answer as a table").click()
        expect(one.page.get_by_role("columnheader", name="95 % within")).to_be_visible()
        one.page.get_by_role("link", name="30 days").click()
        expect(one.page.get_by_role("heading", name="Calls, last 30 days")).to_be_visible()
        one.shoot(name)


def test_an_auditor_filters_exports_and_checks_and_gets_no_further(
    gateway: LiveGateway, cast: Cast, window: Window, monkeypatch: pytest.MonkeyPatch
) -> None:
    Membership.objects.filter(user=cast.outsider).update(role=Membership.Role.AUDITOR)
    monkeypatch.setattr(chain_page, "PIECE", 3)
    calls(cast)
    for number in range(10):
        audit.record(audit.Action.SERVER_TEST, actor="manager", subject=f"event {number}", tenant=cast.tenant)
    page = window.page
    sign_in(page, gateway.origin, "outsider")
    page.get_by_role("link", name="Administration", exact=True).click()
    page.get_by_role("link", name="Calls", exact=True).first.click()
    page.get_by_label("Person or program").fill("=manager")
    page.get_by_label("Outcome").select_option("errors")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("#result_list tbody tr")).to_have_count(4)
    rows = list(csv.DictReader(_exported(page, "CSV").read_text().splitlines()))
    assert {(row["principal"], row["outcome"]) for row in rows} == {("'=manager", "upstream_down")}
    assert len(rows) == 4
    window.shoot("admin-calls")
    page.locator("#result_list tbody th a").first.click()
    expect(page.get_by_role("heading", name="The same request")).to_be_visible()
    window.shoot("admin-call")

    page.goto(f"{gateway.origin}/admin/servers/auditevent/")
    page.get_by_role("link", name="Check the chain").click()
    page.get_by_role("button", name="Check the chain").click()
    expect(page.get_by_text("The chain holds: 12 events.")).to_be_visible()
    window.shoot("admin-audit-chain")
    window.expected_status.add(403)
    page.goto(f"{gateway.origin}/admin/servers/server/")
    expect(page.get_by_text("Calculator")).to_have_count(0)


def _exported(page: Page, name: str) -> Path:
    with page.expect_download() as download:
        page.get_by_role("button", name=name).click()
    found: Any = download.value.path()
    return Path(found)
