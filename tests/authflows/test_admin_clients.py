"""OAuth clients, approvals and the rules for clients in the admin: looked at, vouched for, made, ended."""

from __future__ import annotations

import base64
import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from authflows.inbound.bearer import Unauthenticated, authenticate
from authflows.inbound.oauth import approvals
from authflows.models import Approval, OAuthClient, RegistrationPolicy
from servers.models import AccessRule, AuditEvent, AuthConfig, Membership, Role, Server
from tests.conftest import Cast
from tests.servers.test_admin_access import page, signed_in
from tests.support.ide import REDIRECT_URI, Ide, make_client

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-210")]

CLIENTS = "authflows_oauthclient"
APPROVALS = "authflows_approval"
POLICY = "authflows_registrationpolicy"
VSCODE = "https://vscode.dev/oauth/client-metadata.json"


@pytest.fixture
def admin(cast: Cast) -> Client:
    return signed_in(cast.admin)


@pytest.fixture
def tenant_admin(cast: Cast) -> Client:
    person = get_user_model().objects.create_user("tina", "tina@example.com", "x")
    Membership.objects.filter(user=person, tenant=cast.tenant).update(role=Membership.Role.ADMIN)
    return signed_in(person)


@pytest.fixture
def ide(cast: Cast) -> Ide:
    return Ide(make_client(name="Example IDE"), cast.member, cast.server, cast.server.mcp_url)


@pytest.fixture
def foreign_approval(cast: Cast, ide: Ide) -> Approval:
    """Of a person and server of another tenant."""
    server = Server.objects.create(tenant=cast.other_tenant, slug="far", name="Far", url="http://127.0.0.1:8/x")
    AuthConfig.objects.create(server=server)
    return approvals.approve(cast.stranger, ide.client, server, redirect_host="127.0.0.1")


def text_of(client: Client, url: str) -> str:
    response = client.get(url)
    assert response.status_code == 200, response
    return html.unescape(response.content.decode())


def opens(ide: Ide, token: str) -> bool:
    path = ide.resource.removeprefix(settings.PUBLIC_URL)
    found = authenticate(f"Bearer {token}".encode(), now=timezone.now().timestamp(), path=path)
    return not isinstance(found, Unauthenticated)


def fields(**changes: Any) -> dict[str, Any]:
    """The form of a new client, filled in well."""
    return {"name": "Robot", "redirect_uris": "https://robot.example/callback", "client_type": "public"} | changes


def errors(response: Any) -> str:
    assert response.status_code == 200
    return html.unescape(" ".join(re.findall(r'errorlist"[^>]*>(.*?)</ul>', response.content.decode(), re.DOTALL)))


# --- the list


def test_the_list_tells_what_each_client_is_and_how_much_it_is_used(admin: Client, cast: Cast, ide: Ide) -> None:
    make_client(
        name="Editor", client_id=VSCODE, registration_source="cimd", redirect_uris="https://vscode.dev/redirect"
    )
    make_client(
        name="Robot", client_id="robot", registration_source="manual", redirect_uris="cursor://x/cb http://[::1]/cb"
    )
    for person in (cast.member, cast.manager):
        approvals.approve(person, ide.client, cast.server, redirect_host="127.0.0.1")
    Approval.objects.filter(user=cast.member).update(last_used_at=timezone.now().replace(year=2024, month=5))
    rows = {
        name: row
        for row in text_of(admin, page(f"{CLIENTS}_changelist")).split("<tr>")
        for name in ("Example IDE", "Editor", "Robot")
        if f">{name}</a>" in row
    }
    assert "registered itself" in rows["Example IDE"]
    assert "127.0.0.1" in rows["Example IDE"]
    assert 'field-approval_count">2<' in rows["Example IDE"]
    assert "May" in rows["Example IDE"]
    assert "2024" in rows["Example IDE"]
    assert "metadata document of vscode.dev" in rows["Editor"]
    assert "never" in rows["Editor"]
    assert "added by hand" in rows["Robot"]
    assert "cursor:, [::1]" in rows["Robot"]


def test_the_lists_cost_the_same_few_queries_for_two_clients_and_for_forty(admin: Client, cast: Cast) -> None:
    def add(numbers: range) -> None:
        for number in numbers:
            client = make_client(name=f"IDE {number}", client_id=f"ide-{number}")
            approvals.approve(cast.member, client, cast.server, redirect_host="127.0.0.1")

    def queries(name: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            text_of(admin, page(f"{name}_changelist"))
        return len(captured)

    add(range(2))
    few = [queries(name) for name in (CLIENTS, APPROVALS)]
    add(range(2, 40))
    assert [queries(name) for name in (CLIENTS, APPROVALS)] == few
    assert max(few) <= 10


# --- one client


def test_vouching_for_a_client_is_audited_and_shown_to_people(admin: Client, cast: Cast, ide: Ide) -> None:
    url = page(f"{CLIENTS}_change", ide.client.pk)
    assert admin.post(url, {"verified": "on", "enabled": "on"}).status_code == 302
    ide.client.refresh_from_db()
    assert ide.client.verified
    event = AuditEvent.objects.get(action="oauth_client:change")
    assert (event.actor, event.detail) == ("admin", {"fields": ["Verified"]})
    ide.approve()
    assert ">verified<" in text_of(signed_in(cast.member), "/portal/access/")


def test_what_a_client_registered_itself_cannot_be_edited(admin: Client, ide: Ide) -> None:
    before = OAuthClient.objects.values().get(pk=ide.client.pk)
    admin.post(
        page(f"{CLIENTS}_change", ide.client.pk),
        {
            "name": "Trusted",
            "redirect_uris": "https://evil.example/",
            "client_id": "x",
            "verified": "",
            "enabled": "on",
        },
    )
    after = OAuthClient.objects.values().get(pk=ide.client.pk)
    assert {name for name in after if after[name] != before[name]} <= {"updated"}


@pytest.mark.parametrize("uri", [REDIRECT_URI, "cursor://anysphere.cursor-mcp/oauth/callback", "http://[::1]:9/cb"])
def test_a_client_with_any_accepted_redirect_uri_can_be_saved(admin: Client, uri: str) -> None:
    client = make_client(redirect_uris=uri)
    assert admin.post(page(f"{CLIENTS}_change", client.pk), {"enabled": "on", "verified": "on"}).status_code == 302


@pytest.mark.requirement("T9")
def test_disabling_a_client_ends_its_tokens_at_once(admin: Client, ide: Ide) -> None:
    tokens = ide.sign_in()
    assert opens(ide, tokens["access_token"])
    url = page(f"{CLIENTS}_change", ide.client.pk)
    admin.post(url, {"verified": ""})
    assert not opens(ide, tokens["access_token"])
    assert ide.refresh(tokens["refresh_token"]).status in (400, 401)
    assert "Disabled by an admin" in text_of(signed_in(ide.user), "/portal/access/")
    assert AuditEvent.objects.get(action="oauth_client:change").detail == {"fields": ["Enabled"]}


def test_the_page_of_a_client_lists_its_approvals_with_revoke(admin: Client, cast: Cast, ide: Ide) -> None:
    url = page(f"{CLIENTS}_change", ide.client.pk)
    assert "Nobody has let it in yet." in text_of(admin, url)
    approval = ide.approve()
    text = text_of(admin, url)
    assert page(f"{APPROVALS}_change", approval.pk) in text
    assert "<td>member</td><td>Calculator</td><td>127.0.0.1</td>" in text


def test_deleting_a_client_shows_whose_approvals_end_and_ends_them(admin: Client, cast: Cast, ide: Ide) -> None:
    tokens = ide.sign_in()
    url = page(f"{CLIENTS}_delete", ide.client.pk)
    assert "Approval of member for Example IDE on Calculator: refused from now on" in text_of(admin, url)
    admin.post(url, {"post": "yes"})
    assert not OAuthClient.objects.exists()
    assert not opens(ide, tokens["access_token"])
    event = AuditEvent.objects.get(action="oauth_client:delete")
    assert event.detail == {"client": ide.client.client_id, "approvals": 1}


@pytest.mark.requirement("T25")
def test_markup_in_a_name_is_text_on_every_page(admin: Client, cast: Cast, ide: Ide) -> None:
    name = "<script>alert(1)</script>"
    OAuthClient.objects.update(name=name)
    approval = ide.approve()
    chosen = {"action": "revoke", "_selected_action": str(approval.pk)}
    confidential = make_client(name=name, client_id="c", client_type="confidential", registration_source="manual")
    for verified in (False, True):
        OAuthClient.objects.update(verified=verified)
        for response in (
            admin.get(page(f"{CLIENTS}_changelist")),
            admin.get(page(f"{CLIENTS}_change", ide.client.pk)),
            admin.get(page(f"{CLIENTS}_delete", ide.client.pk)),
            admin.get(page(f"{APPROVALS}_changelist")),
            admin.get(page(f"{APPROVALS}_change", approval.pk)),
            admin.post(page(f"{APPROVALS}_changelist"), chosen),
            admin.get(page("servers_server_delete", cast.server.pk)),
            admin.post(page(f"{CLIENTS}_secret", confidential.pk)),
        ):
            assert response.status_code == 200
            text = response.content.decode()
            assert "&lt;script&gt;alert(1)" in text
            assert "<script>alert" not in text
    revoked = admin.post(page(f"{APPROVALS}_revoke", approval.pk), follow=True)
    assert "<script>alert" not in revoked.content.decode()
    assert "<script>alert" not in admin.get(page("servers_auditevent_changelist")).content.decode()


# --- made by hand


def test_a_public_client_made_by_hand_works(admin: Client, cast: Cast) -> None:
    answer = admin.post(page(f"{CLIENTS}_add"), fields(redirect_uris=f"{REDIRECT_URI}\nhttps://robot.example/callback"))
    made = OAuthClient.objects.get()
    assert answer.url == page(f"{CLIENTS}_change", made.pk)
    assert (made.registration_source, made.client_type, made.enabled) == ("manual", "public", True)
    assert made.redirect_uris.split() == [REDIRECT_URI, "https://robot.example/callback"]
    assert made.client_id in text_of(admin, answer.url)
    assert "Make a new secret" not in text_of(admin, answer.url)
    ide = Ide(made, cast.member, cast.server, cast.server.mcp_url)
    assert opens(ide, ide.sign_in()["access_token"])
    event = AuditEvent.objects.get(action="oauth_client:create")
    assert (event.actor, event.detail["client"]) == ("admin", made.client_id)


def test_the_secret_of_a_confidential_client_is_shown_once_and_can_be_replaced(admin: Client, cast: Cast) -> None:
    def secret_of(response: Any) -> str:
        assert "no-store" in response["Cache-Control"]
        found = re.search(r'id="gh-key"[^>]* value="([^"]+)"', response.content.decode())
        assert found is not None
        return html.unescape(found[1])

    def signs_in(secret: str) -> bool:
        pair = base64.b64encode(f"{made.client_id}:{secret}".encode()).decode()
        ide = Ide(made, cast.member, cast.server, cast.server.mcp_url, headers={"Authorization": f"Basic {pair}"})
        return ide.redeem(ide.code(), client_id=None).status == 200

    first = secret_of(
        admin.post(page(f"{CLIENTS}_add"), fields(client_type="confidential", redirect_uris=REDIRECT_URI))
    )
    made = OAuthClient.objects.get()
    assert signs_in(first)
    assert not signs_in("wrong")
    for url in (page(f"{CLIENTS}_change", made.pk), page(f"{CLIENTS}_changelist")):
        assert first not in text_of(admin, url)
    assert first not in str(list(OAuthClient.objects.values()))
    assert made.client_secret not in text_of(admin, page(f"{CLIENTS}_change", made.pk))

    assert admin.get(page(f"{CLIENTS}_secret", made.pk)).status_code == 302
    assert signs_in(first)
    second = secret_of(admin.post(page(f"{CLIENTS}_secret", made.pk)))
    assert second != first
    assert signs_in(second)
    assert not signs_in(first)
    event = AuditEvent.objects.get(action="oauth_client:new_secret")
    assert first not in str(event.detail)
    assert second not in str(event.detail)


def test_a_public_client_gets_no_secret(admin: Client, ide: Ide) -> None:
    assert admin.post(page(f"{CLIENTS}_secret", ide.client.pk)).status_code == 302
    assert not AuditEvent.objects.filter(action="oauth_client:new_secret").exists()


@pytest.mark.requirement("T15")
@pytest.mark.parametrize(
    ("uris", "said"),
    [
        ("", "This field is required"),
        ("http://robot.example/callback", "Plain http is for loopback only"),
        ("https://good.example@evil.example/", "user name before the host"),
        ("https://*.example.com/cb", "plain form"),
        ("javascript:alert(1)", "never allowed"),
        ("myapp://callback", "an admin has to allow this exact URI"),
        ("https://ok.example/cb\nhttps://bad.example/cb#x", "“https://bad.example/cb#x”: It has a fragment"),
    ],
)
def test_a_redirect_uri_that_is_not_allowed_is_named_with_the_reason(admin: Client, uris: str, said: str) -> None:
    assert said in errors(admin.post(page(f"{CLIENTS}_add"), fields(redirect_uris=uris)))
    assert not OAuthClient.objects.exists()


def test_a_name_must_be_visible(admin: Client) -> None:
    assert "name that can be seen" in errors(admin.post(page(f"{CLIENTS}_add"), fields(name="\u200b\u202e")))


@pytest.mark.requirement("AZ-20")
def test_other_redirect_uris_or_another_name_of_a_client_made_by_hand_ask_people_anew(
    admin: Client, cast: Cast
) -> None:
    admin.post(page(f"{CLIENTS}_add"), fields())
    made = OAuthClient.objects.get()
    url = page(f"{CLIENTS}_change", made.pk)
    approvals.approve(cast.member, made, cast.server, redirect_host="robot.example")

    def remembered() -> bool:
        return approvals.is_approved(cast.member, OAuthClient.objects.get(), cast.server.pk)

    same = {"name": "Robot", "redirect_uris": "https://robot.example/callback", "enabled": "on"}
    admin.post(url, {**same, "verified": "on"})
    assert remembered()
    admin.post(url, {**same, "redirect_uris": "https://elsewhere.example/callback"})
    assert not remembered()
    admin.post(url, same)
    assert remembered()
    admin.post(url, {**same, "name": "Bank"})
    assert not remembered()


# --- who may what


def test_clients_and_rules_are_for_superusers_alone(cast: Cast, tenant_admin: Client, ide: Ide) -> None:
    RegistrationPolicy.objects.get_or_create(id=1)
    urls = [
        page(f"{CLIENTS}_changelist"),
        page(f"{CLIENTS}_add"),
        page(f"{CLIENTS}_change", ide.client.pk),
        page(f"{CLIENTS}_delete", ide.client.pk),
        page(f"{CLIENTS}_secret", ide.client.pk),
        page(f"{POLICY}_changelist"),
        page(f"{POLICY}_change", 1),
    ]
    for browser in (tenant_admin, signed_in(cast.manager)):
        for url in urls:
            assert browser.get(url).status_code == 403, url
            assert browser.post(url, fields(post="yes")).status_code == 403, url
    for url in urls:
        assert signed_in(cast.member).get(url).status_code in (302, 403), url
    assert OAuthClient.objects.count() == 1


@pytest.mark.requirement("F-107")
def test_approvals_are_seen_and_revoked_by_who_manages_their_server(
    cast: Cast, tenant_admin: Client, ide: Ide, foreign_approval: Approval
) -> None:
    for browser in (tenant_admin, signed_in(cast.manager)):
        mine = ide.approve()
        text = text_of(browser, page(f"{APPROVALS}_changelist"))
        assert page(f"{APPROVALS}_change", mine.pk) in text
        assert str(foreign_approval.pk) not in text
        assert browser.get(page(f"{APPROVALS}_change", foreign_approval.pk)).status_code == 302
        assert browser.post(page(f"{APPROVALS}_revoke", foreign_approval.pk)).status_code == 404
        chosen = {"action": "revoke", "_selected_action": [str(foreign_approval.pk)], "confirmed": "yes"}
        browser.post(page(f"{APPROVALS}_changelist"), chosen)
        assert browser.get(page(f"{APPROVALS}_revoke", mine.pk)).status_code == 302
        assert Approval.objects.filter(pk=mine.pk).exists()
        browser.post(page(f"{APPROVALS}_revoke", mine.pk))
        assert not Approval.objects.filter(pk=mine.pk).exists()
    assert Approval.objects.filter(pk=foreign_approval.pk).exists()
    events = AuditEvent.objects.filter(action="approval:revoke").values_list("actor", flat=True)
    assert sorted(events) == ["manager", "tina"]


def test_an_expired_manager_sees_no_approvals(cast: Cast, ide: Ide) -> None:
    approval = ide.approve()
    AccessRule.objects.filter(user=cast.manager).update(expires_at=timezone.now() - timedelta(seconds=1))
    browser = signed_in(cast.manager)
    assert browser.get(page(f"{APPROVALS}_changelist")).status_code in (302, 403)
    assert browser.post(page(f"{APPROVALS}_revoke", approval.pk)).status_code in (302, 403, 404)
    assert Approval.objects.exists()


def test_revoking_from_the_list_asks_first_and_ends_the_tokens(admin: Client, ide: Ide) -> None:
    tokens = ide.sign_in()
    chosen = {"action": "revoke", "_selected_action": str(Approval.objects.get().pk)}
    asked = admin.post(page(f"{APPROVALS}_changelist"), chosen).content.decode()
    assert "Revoke approvals?" in asked
    assert "Example IDE for member on Calculator" in asked
    assert opens(ide, tokens["access_token"])
    admin.post(page(f"{APPROVALS}_changelist"), {**chosen, "confirmed": "yes"})
    assert not opens(ide, tokens["access_token"])
    assert not Approval.objects.exists()


def test_an_approval_is_revoked_and_never_just_deleted(admin: Client, ide: Ide) -> None:
    approval = ide.approve()
    answer = admin.post(page(f"{APPROVALS}_delete", approval.pk), {"post": "yes"})
    assert answer.url == page(f"{APPROVALS}_change", approval.pk)
    assert "delete_selected" not in admin.get(page(f"{APPROVALS}_changelist")).content.decode()
    assert Approval.objects.exists()


def test_a_server_with_approvals_can_be_deleted_by_its_manager_who_is_told_of_them(cast: Cast, ide: Ide) -> None:
    tokens = ide.sign_in()
    manager = signed_in(cast.manager)
    url = page("servers_server_delete", cast.server.pk)
    assert "Example IDE for member on Calculator" in text_of(manager, url)
    manager.post(url, {"post": "yes"})
    assert not Server.objects.filter(pk=cast.server.pk).exists()
    assert not opens(ide, tokens["access_token"])


def test_a_person_with_approvals_and_sessions_can_be_deleted(admin: Client, cast: Cast, ide: Ide) -> None:
    ide.sign_in()
    browser = signed_in(cast.member)
    admin.post(page("auth_user_delete", cast.member.pk), {"post": "yes"})
    assert not get_user_model().objects.filter(username="member").exists()
    assert browser.get("/portal/").status_code == 302


def test_the_index_has_them_together(admin: Client, cast: Cast) -> None:
    text = text_of(admin, page("index"))
    part = text.partition("Sign-in")[2].partition("</table>")[0]
    for name in ("OAuth clients", "Approvals", "Registration policy"):
        assert name in part
    manager = text_of(signed_in(cast.manager), page("index"))
    assert "Approvals" in manager
    assert "OAuth clients" not in manager


def test_a_manager_of_one_server_sees_no_approvals_of_its_neighbour(cast: Cast, ide: Ide) -> None:
    neighbour = Server.objects.create(tenant=cast.tenant, slug="second", name="Second", url="http://127.0.0.1:7/mcp")
    theirs = approvals.approve(cast.member, ide.client, neighbour, redirect_host="127.0.0.1")
    AccessRule.objects.create(server=neighbour, user=cast.member, role=Role.MANAGER)
    assert str(theirs.pk) not in text_of(signed_in(cast.manager), page(f"{APPROVALS}_changelist"))
    assert str(theirs.pk) in text_of(signed_in(cast.member), page(f"{APPROVALS}_changelist"))
