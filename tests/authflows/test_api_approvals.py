"""Approvals of the Gateway API: how they are asked for, where they are listed, and who ends them."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.conf import settings
from django.test import Client

from authflows.explain import THEMSELVES, explain
from authflows.explaining.steps import OPERATOR, Look, Reader
from authflows.inbound.oauth import approvals
from authflows.models import Approval, OAuthClient, PendingSignIn
from servers.models import AuditEvent, Membership, Server
from servers.scope import scope_of
from tests.conftest import Cast
from tests.servers.test_admin_access import page, signed_in
from tests.support.ide import CHALLENGE, REDIRECT_URI, Ide, make_client

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-604")]
API = f"{settings.PUBLIC_URL}/api/v1"
ACCESS = "/portal/access/"
APPROVALS = "authflows_approval"


@pytest.fixture
def client_row(db: None) -> OAuthClient:
    return make_client(name="Dashboard")


@pytest.fixture
def program(cast: Cast, client_row: OAuthClient) -> Ide:
    return Ide(client_row, cast.member, None, API)


@pytest.fixture
def browser(cast: Cast) -> Client:
    browser = Client()
    browser.force_login(cast.member)
    return browser


def asked(client: OAuthClient, resource: str = API, **changes: str) -> str:
    parameters = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": REDIRECT_URI,
        "state": "s-1",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        "resource": resource,
    }
    return f"/authorize?{urlencode(parameters | changes)}"


def question(browser: Client, address: str) -> str:
    """The path of the page that asks."""
    path = browser.get(address).headers["Location"]
    assert re.fullmatch(r"/authorize/[\w-]{32}", path), path
    return str(path)


def answer(response: Any) -> dict[str, str]:
    assert response.status_code == 303, response.content[:500]
    return {name: values[0] for name, values in parse_qs(urlsplit(response.headers["Location"]).query).items()}


def text_of(browser: Client, path: str) -> str:
    response = browser.get(path)
    assert response.status_code == 200, response
    return html.unescape(response.content.decode())


# --- the question


@pytest.mark.requirement("F-204", "AZ-18", "AZ-19", "T23")
def test_the_page_says_that_it_is_for_everything(browser: Client, client_row: OAuthClient) -> None:
    text = text_of(browser, question(browser, asked(client_row)))

    for expected in ("use the Gateway API?", "“Dashboard”", "unverified", "127.0.0.1", API, "member", "all servers"):
        assert expected in text
    for expected in ("connections", "your own <strong>keys</strong>", "in your name", "My access"):
        assert expected in text
    assert "other people" not in text
    assert "Calls go out" not in text


def test_who_manages_servers_reads_that_it_is_for_others_too(cast: Cast, client_row: OAuthClient) -> None:
    browser = Client()
    browser.force_login(cast.manager)

    assert "other people" in text_of(browser, question(browser, asked(client_row)))


@pytest.mark.requirement("AZ-21", "AZ-5")
def test_approving_is_recorded_for_no_server_and_remembered(
    browser: Client, cast: Cast, client_row: OAuthClient
) -> None:
    found = answer(browser.post(question(browser, asked(client_row)), {"decision": "approve"}))

    assert (found["state"], found["iss"]) == ("s-1", settings.PUBLIC_URL)
    assert found["code"]
    approval = Approval.objects.get()
    assert (approval.user, approval.client, approval.server) == (cast.member, client_row, None)
    event = AuditEvent.objects.get(action="oauth_client:approve")
    assert (event.tenant, event.detail["api"]) == (None, "/api/v1")
    assert answer(browser.get(asked(client_row)))["code"]
    assert Approval.objects.count() == 1


def test_it_works_for_who_has_no_server_yet(cast: Cast, client_row: OAuthClient) -> None:
    browser = Client()
    browser.force_login(cast.outsider)

    assert answer(browser.post(question(browser, asked(client_row)), {"decision": "approve"}))["code"]


@pytest.mark.requirement("F-204")
@pytest.mark.parametrize("decision", ["deny", "", "skip", "rest"])
def test_everything_but_approve_is_a_no(browser: Client, client_row: OAuthClient, decision: str) -> None:
    found = answer(browser.post(question(browser, asked(client_row)), {"decision": decision}))

    assert found["error"] == "access_denied"
    assert not Approval.objects.exists()


@pytest.mark.parametrize("decision", ["connect", "key"])
def test_no_step_of_a_sign_in_to_a_server_gets_around_the_question(
    browser: Client, client_row: OAuthClient, decision: str
) -> None:
    path = question(browser, asked(client_row))

    assert browser.post(path, {"decision": decision}).headers["Location"] == path
    assert not Approval.objects.exists()
    assert PendingSignIn.objects.get().approved_at is None


@pytest.mark.requirement("AZ-21", "T1")
def test_an_approval_of_a_server_says_nothing_about_the_api_nor_the_other_way_round(
    browser: Client, cast: Cast, client_row: OAuthClient
) -> None:
    approvals.approve(cast.member, client_row, cast.server, redirect_host="127.0.0.1")
    question(browser, asked(client_row))
    assert answer(browser.get(asked(client_row, prompt="none")))["error"] == "consent_required"

    Approval.objects.all().delete()
    approvals.approve(cast.member, client_row, None, redirect_host="127.0.0.1")
    question(browser, asked(client_row, cast.server.mcp_url))
    assert answer(browser.get(asked(client_row, cast.server.mcp_url, prompt="none")))["error"] == "consent_required"


@pytest.mark.requirement("T12", "AZ-23")
def test_a_client_that_goes_unasked_to_servers_is_asked_about_for_the_api(browser: Client, cast: Cast) -> None:
    trusted = make_client(registration_source=OAuthClient.RegistrationSource.MANUAL, skip_authorization=True)

    assert answer(browser.get(asked(trusted, cast.server.mcp_url)))["code"]
    assert answer(browser.get(asked(trusted, prompt="none")))["error"] == "consent_required"
    path = question(browser, asked(trusted))
    assert not Approval.objects.filter(server__isnull=True).exists()
    assert answer(browser.post(path, {"decision": "approve"}))["code"]
    assert Approval.objects.filter(server__isnull=True).count() == 1


@pytest.mark.requirement("T12")
@pytest.mark.parametrize("extra", [{"approval_prompt": "auto"}, {"skip": "1"}, {"skip_authorization": "true"}])
def test_no_parameter_skips_the_question(browser: Client, client_row: OAuthClient, extra: dict[str, str]) -> None:
    assert browser.get(question(browser, asked(client_row, **extra))).status_code == 200


@pytest.mark.requirement("T12", "AZ-21")
def test_prompt_means_what_it_means_for_servers(client: Client, program: Ide) -> None:
    silent = asked(program.client, prompt="none")
    assert answer(client.get(silent))["error"] == "login_required"
    client.force_login(program.user)
    assert answer(client.get(silent))["error"] == "consent_required"
    program.approve()
    assert answer(client.get(silent))["code"]
    for prompt in ("consent", "login", "select_account"):
        assert client.get(question(client, asked(program.client, prompt=prompt))).status_code == 200


@pytest.mark.requirement("AZ-20")
def test_a_client_that_describes_itself_anew_is_asked_for_anew(browser: Client, program: Ide) -> None:
    program.approve()
    OAuthClient.objects.update(metadata_digest="2" * 64)

    question(browser, asked(program.client))


@pytest.mark.requirement("T25")
def test_markup_in_a_name_is_text(browser: Client, cast: Cast) -> None:
    evil = make_client(name="<script>alert(1)</script>")
    path = question(browser, asked(evil))
    assert "<script>alert" not in browser.get(path).content.decode()
    browser.post(path, {"decision": "approve"})
    approval = Approval.objects.get()

    for shown in (browser.get(ACCESS), browser.get(f"{ACCESS}{approval.pk}/revoke/")):
        assert "<script>alert" not in shown.content.decode()


# --- where it is listed, and ended


@pytest.mark.requirement("F-210")
def test_my_access_lists_it_and_revokes_it(browser: Client, program: Ide) -> None:
    pair = program.sign_in()
    approval = Approval.objects.get()
    text = text_of(browser, ACCESS)
    assert "The Gateway API: all your servers" in text
    url = f"{ACCESS}{approval.pk}/revoke/"
    assert f'href="{url}"' in text
    assert "Revoke “Dashboard” for the Gateway API?" in text_of(browser, url)

    said = html.unescape(browser.post(url, follow=True).content.decode())

    assert "“Dashboard” may no longer use the Gateway API." in said
    assert program.refresh(pair["refresh_token"]).error == "invalid_grant"
    event = AuditEvent.objects.get(action="approval:revoke")
    assert (event.actor, event.tenant, event.detail["api"]) == ("member", None, "/api/v1")


@pytest.mark.requirement("F-210")
def test_the_admin_lists_and_revokes_it(cast: Cast, program: Ide) -> None:
    pair = program.sign_in()
    approval = Approval.objects.get()
    admin = signed_in(cast.admin)
    assert "the Gateway API" in text_of(admin, page(f"{APPROVALS}_changelist"))
    assert "the Gateway API" in text_of(admin, f"{page(f'{APPROVALS}_changelist')}?q=Dashboard&o=3")
    assert "the Gateway API" in text_of(admin, page(f"{APPROVALS}_change", approval.pk))
    assert "the Gateway API" in text_of(admin, page("authflows_oauthclient_change", program.client.pk))
    deleting = text_of(admin, page("authflows_oauthclient_delete", program.client.pk))
    assert "for Dashboard on the Gateway API: refused from now on" in deleting
    chosen = {"action": "revoke", "_selected_action": str(approval.pk)}
    listed = admin.post(page(f"{APPROVALS}_changelist"), chosen).content.decode()
    assert "Dashboard for member on the Gateway API" in listed

    admin.post(page(f"{APPROVALS}_changelist"), {**chosen, "confirmed": "yes"})

    assert not Approval.objects.exists()
    assert program.refresh(pair["refresh_token"]).error == "invalid_grant"
    program.approve()
    admin.post(page(f"{APPROVALS}_revoke", Approval.objects.get().pk))
    assert not Approval.objects.exists()


@pytest.mark.requirement("F-107")
def test_who_administers_less_than_everything_sees_none(cast: Cast, program: Ide) -> None:
    approval = program.approve()
    Membership.objects.filter(user=cast.outsider, tenant=cast.tenant).update(role=Membership.Role.ADMIN)
    for person in (cast.manager, cast.outsider):
        other = signed_in(person)
        assert str(approval.pk) not in text_of(other, page(f"{APPROVALS}_changelist"))
        assert other.get(page(f"{APPROVALS}_change", approval.pk)).status_code == 302
        assert other.post(page(f"{APPROVALS}_revoke", approval.pk)).status_code == 404
        other.post(page(f"{APPROVALS}_changelist"), {"action": "revoke", "_selected_action": [str(approval.pk)]})
    assert Approval.objects.exists()


def test_it_outlives_servers_and_goes_with_its_person(cast: Cast, program: Ide) -> None:
    pair = program.sign_in()
    admin = signed_in(cast.admin)
    admin.post(page("servers_server_delete", cast.server.pk), {"post": "yes"})
    assert not Server.objects.exists()
    assert program.refresh(pair["refresh_token"]).status == 200

    admin.post(page("auth_user_delete", cast.member.pk), {"post": "yes"})

    assert not Approval.objects.exists()


@pytest.mark.requirement("F-503")
def test_an_explanation_names_a_client_that_was_let_in_to_the_api_alone(cast: Cast, program: Ide) -> None:
    program.approve()
    server = Server.objects.select_related("tenant").get(pk=cast.server.pk)

    for reader in (THEMSELVES, OPERATOR):
        told = explain(cast.member, server, client="Dashboard", reader=reader).stopped_at
        assert told is not None
        assert (told.look, told.code) == (Look.WAY_IN, "credential_for_another_resource")
        assert "opens no MCP URL" in told.found[0]
    approvals.approve(cast.member, program.client, cast.server, redirect_host="127.0.0.1")
    again = explain(cast.member, server, client="Dashboard").stopped_at
    assert again is None or "opens no MCP URL" not in again.found[0]


@pytest.mark.requirement("F-503", "F-107")
def test_a_manager_of_the_server_cannot_find_out_who_was_let_in_to_the_api(cast: Cast, program: Ide) -> None:
    program.approve()
    server = Server.objects.select_related("tenant").get(pk=cast.server.pk)
    reader = Reader(scope_of(cast.manager))

    there = explain(cast.member, server, client="Dashboard", reader=reader).stopped_at
    absent = explain(cast.member, server, client="absent", reader=reader).stopped_at

    assert there is not None
    assert absent is not None
    assert there.code == absent.code
    assert [line.replace("Dashboard", "absent") for line in there.found] == list(absent.found)
