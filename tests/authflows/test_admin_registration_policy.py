"""The registration policy in the admin: one page, lists one a line, nothing that makes no sense."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from authflows.models import OAuthClient, RegistrationPolicy
from servers.models import AuditEvent
from tests.authflows.test_admin_clients import CLIENTS, POLICY, errors, fields, text_of
from tests.conftest import Cast
from tests.servers.test_admin_access import page, signed_in

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-202", "F-203")]


@pytest.fixture
def admin(cast: Cast) -> Client:
    return signed_in(cast.admin)


def policy(**changes: Any) -> dict[str, Any]:
    """The form of the rules, filled in well."""
    return {
        "dynamic_registration": "on",
        "metadata_documents": "fetch",
        "metadata_hosts": "",
        "private_redirect_uris": "",
        "registrations_per_hour": "60",
        "most_unused_clients": "5000",
        "unused_days": "30",
    } | changes


def test_the_rules_are_one_page_and_hold_lists_one_a_line(admin: Client) -> None:
    RegistrationPolicy.objects.all().delete()
    answer = admin.get(page(f"{POLICY}_changelist"))
    assert answer.url == page(f"{POLICY}_change", 1)
    uri = "cursor://anysphere.cursor-mcp/oauth/callback"
    lines = policy(dynamic_registration="", metadata_hosts="claude.ai\r\n\r\n .example.com ", private_redirect_uris=uri)
    admin.post(answer.url, lines)
    stored = RegistrationPolicy.objects.get()
    assert stored.metadata_hosts == ["claude.ai", ".example.com"]
    assert stored.private_redirect_uris == [uri]
    assert not stored.dynamic_registration
    assert "claude.ai\n.example.com" in text_of(admin, answer.url).replace("\r", "")
    event = AuditEvent.objects.get(action="registration_policy:change")
    assert event.actor == "admin"
    assert "Private redirect URIs" in event.detail["fields"]
    assert admin.get(page(f"{POLICY}_delete", 1)).status_code == 403
    assert admin.get(page(f"{POLICY}_add")).status_code == 403


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"metadata_hosts": "https://claude.ai/"}, "Write a host name"),
        ({"metadata_hosts": "*.example.com"}, "Write a host name"),
        ({"private_redirect_uris": "https://ok.example/cb"}, "need no permission"),
        ({"private_redirect_uris": "javascript:alert(1)"}, "never allowed"),
        ({"private_redirect_uris": "no scheme"}, "characters that do not belong"),
        ({"metadata_documents": "sometimes"}, "Select a valid choice"),
        ({"unused_days": "-1"}, "greater than or equal to 0"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_with_the_reason(
    admin: Client, changes: dict[str, str], said: str
) -> None:
    RegistrationPolicy.objects.get_or_create(id=1)
    before = RegistrationPolicy.objects.values().get()
    assert said in errors(admin.post(page(f"{POLICY}_change", 1), policy(**changes)))
    assert RegistrationPolicy.objects.values().get() == before


def test_a_private_redirect_uri_can_be_used_once_it_is_allowed(admin: Client) -> None:
    uri = "myapp://callback"
    RegistrationPolicy.objects.get_or_create(id=1)
    admin.post(page(f"{POLICY}_change", 1), policy(private_redirect_uris=uri))
    admin.post(page(f"{CLIENTS}_add"), fields(redirect_uris=uri))
    assert OAuthClient.objects.get().redirect_uris == uri
