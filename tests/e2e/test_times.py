"""Times are read in the reader's zone; without scripts they are UTC and say so."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser, expect

from authflows.inbound import api_keys
from authflows.models import ApiKey
from tests.conftest import Cast
from tests.e2e.conftest import Window
from tests.e2e.test_portal_pages import sign_in
from tests.support.gateway import LiveGateway

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.requirement("F-601")]
MADE = datetime(2026, 7, 1, 22, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "scripts", "shown", "said"),
    [
        ("Asia/Kolkata", True, "2 Jul 2026, 04:00", "Times are in your zone, Asia/"),
        ("America/New_York", True, "1 Jul 2026, 18:30", "Times are in your zone, America/New_York."),
        ("Asia/Kolkata", False, "1 Jul 2026, 22:30", "Times are UTC."),
    ],
    ids=["half-an-hour-off", "another-day", "without-scripts"],
)
def test_a_time_is_that_of_the_reader(
    gateway: LiveGateway, cast: Cast, browser: Browser, zone: str, scripts: bool, shown: str, said: str
) -> None:
    key, _ = api_keys.create_key(owner=cast.member, name="Report", actor="member", servers=None)
    ApiKey.objects.filter(pk=key.pk).update(created_at=MADE)
    context = browser.new_context(timezone_id=zone, java_script_enabled=scripts)
    window = Window(context.new_page())
    sign_in(window.page, gateway.origin, "member")
    window.page.goto(f"{gateway.origin}/portal/access/")
    expect(window.page.get_by_text(said)).to_be_visible()
    expect(window.page.locator("time", has_text=shown)).to_be_visible()
    context.close()
    assert window.trouble == []


def test_the_lists_of_the_admin_are_in_the_readers_zone_too(gateway: LiveGateway, cast: Cast, browser: Browser) -> None:
    key, _ = api_keys.create_key(owner=cast.member, name="Report", actor="member", servers=None)
    ApiKey.objects.filter(pk=key.pk).update(created_at=MADE, expires_at=datetime(2027, 1, 1, 12, 0, tzinfo=UTC))
    context = browser.new_context(timezone_id="Asia/Kolkata")
    window = Window(context.new_page())
    sign_in(window.page, gateway.origin, "admin")
    window.page.goto(f"{gateway.origin}/admin/authflows/apikey/")
    expect(window.page.locator("#result_list time").first).to_have_text("1 Jan 2027, 17:30")
    context.close()
    assert window.trouble == []
