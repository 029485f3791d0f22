"""From /authorize to the answer that the client gets: signed in, asked, approved or denied."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from oauth2_provider.models import Grant

from authflows.inbound.oauth import approvals
from authflows.models import Approval, OAuthClient, PendingSignIn
from servers.models import AuditEvent, Server
from tests.conftest import PASSWORD, Cast

pytestmark = pytest.mark.django_db
VERIFIER = "a" * 64
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
LOOPBACK = "http://127.0.0.1:33418/callback"


@pytest.fixture
def ide(db: None) -> OAuthClient:
    return make_client(name="Cursor")


def make_client(*, redirect_uris: str = LOOPBACK, **fields: Any) -> OAuthClient:
    return OAuthClient.objects.create(
        **{
            "redirect_uris": redirect_uris,
            "client_type": OAuthClient.CLIENT_PUBLIC,
            "authorization_grant_type": OAuthClient.GRANT_AUTHORIZATION_CODE,
            "registration_source": OAuthClient.RegistrationSource.DCR,
            "metadata_digest": "1" * 64,
        }
        | fields
    )


def url(ide: OAuthClient, server: Server, **changes: Any) -> str:
    """The request that a client makes; None leaves a parameter out."""
    parameters = {
        "response_type": "code",
        "client_id": ide.client_id,
        "redirect_uri": ide.redirect_uris.split()[0],
        "state": "s-1",
        "scope": "mcp",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        "resource": server.mcp_url,
    } | changes
    return "/authorize?" + urlencode({k: v for k, v in parameters.items() if v is not None}, doseq=True)


def answer(response: Any, redirect_uri: str = LOOPBACK) -> dict[str, str]:
    """The parameters of an answer to the client, which carries `iss` whatever it says (AZ-5)."""
    assert response.status_code == 303, (response.status_code, response.content[:500])
    target = response.headers["Location"]
    assert target.split("?")[0] == redirect_uri.split("?")[0]
    found = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}
    assert found["iss"] == settings.PUBLIC_URL
    return found


def ask(browser: Client, address: str) -> str:
    """Open the request as a signed-in person; returns the path of the approval page."""
    response = browser.get(address)
    assert response.status_code == 302, response.content[:500]
    assert re.fullmatch(r"/authorize/[\w-]{32}", response.headers["Location"])
    return str(response.headers["Location"])


@pytest.mark.requirement("F-201", "AZ-1", "AZ-5")
def test_approving_sends_code_state_and_issuer_to_the_client(browser: Client, cast: Cast, ide: OAuthClient) -> None:
    page = ask(browser, url(ide, cast.server))
    found = answer(browser.post(page, {"decision": "approve"}))
    assert found["state"] == "s-1"
    assert found["code"]
    grant = Grant.objects.get()
    assert (grant.user, grant.application, grant.resource) == (cast.member, ide, [cast.server.mcp_url])
    approval = Approval.objects.get()
    assert (approval.user, approval.client, approval.server) == (cast.member, ide, cast.server)


@pytest.mark.requirement("F-204", "AZ-18", "AZ-19", "T23")
def test_the_page_says_who_asks_where_the_answer_goes_and_for_which_server(browser: Client, cast: Cast) -> None:
    ide = make_client(name="Claude Code")
    text = browser.get(ask(browser, url(ide, cast.server))).content.decode()
    for expected in ("“Claude Code”", "unverified", "127.0.0.1", "Calculator", cast.server.mcp_url, "member"):
        assert expected in text
    assert "any program here could have asked" in text


@pytest.mark.requirement("AZ-20", "T23")
def test_a_metadata_document_is_named_by_its_host(browser: Client, cast: Cast) -> None:
    ide = make_client(
        name="Claude Code",
        client_id="https://claude.ai/oauth/claude-code-client-metadata",
        registration_source=OAuthClient.RegistrationSource.CIMD,
        redirect_uris="http://localhost/callback",
        cimd_expires_at=timezone.now() + timedelta(hours=1),
    )
    address = url(ide, cast.server, redirect_uri="http://localhost:51999/callback")
    text = browser.get(ask(browser, address)).content.decode()
    assert "claude.ai" in text
    assert "localhost" in text
    assert "any program here could have asked" in text


@pytest.mark.requirement("F-204")
def test_denying_answers_access_denied_and_the_client_may_try_again(
    browser: Client, cast: Cast, ide: OAuthClient
) -> None:
    found = answer(browser.post(ask(browser, url(ide, cast.server)), {"decision": "deny"}))
    assert (found["error"], found["state"]) == ("access_denied", "s-1")
    assert not Approval.objects.exists()
    assert answer(browser.post(ask(browser, url(ide, cast.server)), {"decision": "approve"}))["code"]


@pytest.mark.requirement("AZ-21", "T11")
def test_an_approval_counts_for_one_person_one_client_and_one_server(
    browser: Client, cast: Cast, ide: OAuthClient
) -> None:
    approvals.approve(cast.member, ide, cast.server, redirect_host="127.0.0.1")
    assert answer(browser.get(url(ide, cast.server)))["code"]
    other_server = Server.objects.create(tenant=cast.tenant, slug="other", name="Other", url="http://127.0.0.1:9/mcp")
    ask(browser, url(ide, other_server))
    ask(browser, url(make_client(name="evil"), cast.server))
    browser.force_login(cast.manager)
    ask(browser, url(ide, cast.server))


@pytest.mark.requirement("T12", "AZ-22")
@pytest.mark.parametrize("extra", [{"approval_prompt": "auto"}, {"skip": "1"}, {"skip_authorization": "true"}])
def test_no_parameter_skips_the_question(browser: Client, cast: Cast, ide: OAuthClient, extra: dict[str, str]) -> None:
    page = ask(browser, url(ide, cast.server, **extra))
    assert browser.get(page).status_code == 200
    assert not Grant.objects.exists()


@pytest.mark.requirement("T12")
def test_prompt_none_answers_without_any_page(client: Client, cast: Cast, ide: OAuthClient) -> None:
    address = url(ide, cast.server, prompt="none")
    assert answer(client.get(address))["error"] == "login_required"
    client.force_login(cast.member)
    assert answer(client.get(address))["error"] == "consent_required"
    client.force_login(cast.outsider)
    assert answer(client.get(address))["error"] == "consent_required"
    client.force_login(cast.member)
    approvals.approve(cast.member, ide, cast.server, redirect_host="127.0.0.1")
    assert answer(client.get(address))["code"]


@pytest.mark.requirement("AZ-21")
@pytest.mark.parametrize("prompt", ["consent", "consent select_account", "login"])
def test_a_client_may_have_the_person_asked_again(browser: Client, cast: Cast, ide: OAuthClient, prompt: str) -> None:
    approvals.approve(cast.member, ide, cast.server, redirect_host="127.0.0.1")
    page = ask(browser, url(ide, cast.server, prompt=prompt))
    assert browser.get(page).status_code == 200
    assert answer(browser.post(page, {"decision": "approve"}))["code"]


@pytest.mark.requirement("AZ-20")
def test_a_client_that_describes_itself_anew_is_asked_for_anew(browser: Client, cast: Cast, ide: OAuthClient) -> None:
    approvals.approve(cast.member, ide, cast.server, redirect_host="127.0.0.1")
    OAuthClient.objects.update(metadata_digest="2" * 64)
    ask(browser, url(ide, cast.server))


@pytest.mark.requirement("AZ-23")
def test_a_client_that_an_admin_made_for_it_is_not_asked_for(browser: Client, cast: Cast) -> None:
    trusted = make_client(registration_source=OAuthClient.RegistrationSource.MANUAL, skip_authorization=True)
    assert answer(browser.get(url(trusted, cast.server)))["code"]
    assert Approval.objects.filter(client=trusted).exists()
    claimed = make_client(skip_authorization=True)
    ask(browser, url(claimed, cast.server))


@pytest.mark.requirement("AZ-14", "AZ-13")
@pytest.mark.parametrize(
    "resource",
    [
        None,
        "",
        "https://elsewhere.example/default/mcp/calculator/server",
        f"{settings.PUBLIC_URL}/default/mcp/calculator",
        f"{settings.PUBLIC_URL}/default/mcp/calculator/server/",
        f"{settings.PUBLIC_URL}/default/mcp/calculator/key",
        f"{settings.PUBLIC_URL}/default/mcp/calculator/server?a=b",
        f"{settings.PUBLIC_URL}",
        [f"{settings.PUBLIC_URL}/default/mcp/calculator/server", f"{settings.PUBLIC_URL}/default/mcp/other/server"],
    ],
)
def test_a_request_names_exactly_one_of_our_mcp_urls(
    browser: Client, cast: Cast, ide: OAuthClient, resource: Any
) -> None:
    found = answer(browser.get(url(ide, cast.server, resource=resource)))
    assert (found["error"], found["state"]) == ("invalid_target", "s-1")


@pytest.mark.requirement("RS-13")
def test_a_missing_server_and_a_missing_right_look_the_same(client: Client, cast: Cast, ide: OAuthClient) -> None:
    client.force_login(cast.outsider)
    missing = url(ide, cast.server, resource=cast.server.mcp_url.replace("calculator", "missing000"))
    pages = [client.get(ask(client, address)) for address in (missing, url(ide, cast.server))]
    texts = [re.sub(r"missing000|calculator|[\w-]{32,}", "", page.content.decode()) for page in pages]
    assert [page.status_code for page in pages] == [403, 403]
    assert texts[0] == texts[1]
    # Nor does pressing Approve help.
    found = answer(client.post(ask(client, url(ide, cast.server)), {"decision": "approve"}))
    assert found["error"] == "access_denied"


@pytest.mark.requirement("AZ-24", "AZ-6", "T15")
@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": None},
        {"client_id": "nobody"},
        {"client_id": "nobody\0"},
        {"redirect_uri": "https://evil.example/cb"},
        {"redirect_uri": "http://127.0.0.1:33418/other"},
        {"redirect_uri": "http://localhost:33418/callback"},
        {"redirect_uri": "http://127.0.0.1.evil.example:33418/callback"},
        {"redirect_uri": "http://127.0.0.1:33418/callback#x"},
        {"redirect_uri": "http://user@127.0.0.1:33418/callback"},
        {"redirect_uri": "//evil.example/callback"},
        {"redirect_uri": "javascript:alert(1)"},
        {"client_id": ["a", "b"]},
        {"redirect_uri": [LOOPBACK, "https://evil.example"]},
    ],
)
def test_nothing_is_redirected_before_client_and_address_are_verified(
    browser: Client, cast: Cast, ide: OAuthClient, changes: dict[str, Any]
) -> None:
    response = browser.get(url(ide, cast.server, **changes))
    assert response.status_code == 400
    assert "Location" not in response.headers
    assert "This sign-in cannot go on" in response.content.decode()


@pytest.mark.requirement("AZ-6")
def test_the_port_of_a_loopback_address_is_free(browser: Client, cast: Cast, ide: OAuthClient) -> None:
    other = "http://127.0.0.1:50001/callback"
    page = ask(browser, url(ide, cast.server, redirect_uri=other))
    assert answer(browser.post(page, {"decision": "approve"}), other)["code"]


@pytest.mark.requirement("AZ-4", "AZ-3", "T16")
@pytest.mark.parametrize(
    "changes",
    [
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": None},
    ],
)
def test_pkce_with_s256_is_required(
    browser: Client, cast: Cast, ide: OAuthClient, changes: dict[str, str | None]
) -> None:
    assert answer(browser.get(url(ide, cast.server, **changes)))["error"] == "invalid_request"


@pytest.mark.requirement("AZ-1")
@pytest.mark.parametrize("response_type", ["token", "id_token", "code token", "none"])
def test_only_codes_are_given(browser: Client, cast: Cast, ide: OAuthClient, response_type: str) -> None:
    found = answer(browser.get(url(ide, cast.server, response_type=response_type)))
    assert found["error"] == "unsupported_response_type"


@pytest.mark.requirement("F-201")
@pytest.mark.parametrize("scope", [None, "", "mcp", "mcp offline_access", "openid profile", "mcp admin:everything"])
def test_any_scope_may_be_asked_for_and_ours_is_given(
    browser: Client, cast: Cast, ide: OAuthClient, scope: str | None
) -> None:
    answer(browser.post(ask(browser, url(ide, cast.server, scope=scope)), {"decision": "approve"}))
    assert Grant.objects.get().scope in ("mcp", "mcp offline_access")


@pytest.mark.requirement("F-201")
@pytest.mark.parametrize("state", [None, "", "https://vscode.dev/redirect?x=" + "y" * 4000 + "&z=/?#[]@!$'()*+,;= ü"])
def test_the_state_comes_back_as_it_was_sent(browser: Client, cast: Cast, ide: OAuthClient, state: str | None) -> None:
    found = answer(browser.post(ask(browser, url(ide, cast.server, state=state)), {"decision": "approve"}))
    assert found.get("state") == (state or None)


@pytest.mark.requirement("F-201")
def test_somebody_who_is_not_signed_in_comes_back_to_the_question(client: Client, cast: Cast, ide: OAuthClient) -> None:
    page = ask(client, url(ide, cast.server))
    to_sign_in = client.get(page)
    assert to_sign_in.headers["Location"] == f"/sign-in/?next={page}"
    form = client.get(to_sign_in.headers["Location"])
    signed_in = client.post("/sign-in/", {"username": "member", "password": PASSWORD, "next": form.context["next"]})
    assert signed_in.headers["Location"] == page
    assert answer(client.post(page, {"decision": "approve"}))["code"]


@pytest.mark.requirement("T13")
def test_the_question_cannot_be_framed_or_answered_by_another_site(cast: Cast, ide: OAuthClient) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(cast.member)
    page = ask(browser, url(ide, cast.server))
    response = browser.get(page)
    policy = response.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'self'" in policy
    assert "form-action 'self' http://127.0.0.1:33418;" in f"{policy};"
    assert response.headers["X-Frame-Options"] == "DENY"
    assert browser.post(page, {"decision": "approve"}).status_code == 403
    assert not Approval.objects.exists()


@pytest.mark.requirement("T25")
def test_markup_in_a_name_is_text(browser: Client, cast: Cast) -> None:
    ide = make_client(name="<script>alert(1)</script><img src=x onerror=alert(2)>")
    text = browser.get(ask(browser, url(ide, cast.server))).content.decode()
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "&lt;script&gt;alert(1)" in text


@pytest.mark.requirement("T17")
def test_a_request_is_answered_once(browser: Client, cast: Cast, ide: OAuthClient) -> None:
    page = ask(browser, url(ide, cast.server))
    assert answer(browser.post(page, {"decision": "approve"}))["code"]
    for response in (browser.post(page, {"decision": "approve"}), browser.get(page)):
        assert response.status_code == 410
        assert "This sign-in has ended" in response.content.decode()
    assert Grant.objects.count() == 1


def test_a_request_ends_after_ten_minutes(browser: Client, cast: Cast, ide: OAuthClient) -> None:
    page = ask(browser, url(ide, cast.server))
    PendingSignIn.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert browser.get(page).status_code == 410
    assert browser.post(page, {"decision": "approve"}).status_code == 410
    assert not Grant.objects.exists()


def test_a_disabled_client_gets_no_code(browser: Client, cast: Cast, ide: OAuthClient) -> None:
    page = ask(browser, url(ide, cast.server))
    OAuthClient.objects.update(enabled=False)
    assert "code" not in answer(browser.post(page, {"decision": "approve"}))
    assert browser.get(url(ide, cast.server)).status_code == 400


def test_an_address_that_asks_without_end_has_to_wait(client: Client, cast: Cast, ide: OAuthClient) -> None:
    address = url(ide, cast.server)
    statuses = {client.get(address).status_code for _ in range(125)}
    assert statuses == {302, 429}
    assert client.get(address).headers["Retry-After"]


@pytest.mark.requirement("F-210", "AZ-21")
def test_a_revoked_approval_is_asked_for_again(browser: Client, cast: Cast, ide: OAuthClient) -> None:
    answer(browser.post(ask(browser, url(ide, cast.server)), {"decision": "approve"}))
    approvals.revoke(Approval.objects.get(), actor="member")
    assert not Grant.objects.exists()
    ask(browser, url(ide, cast.server))
    assert AuditEvent.objects.filter(action="approval:revoke").count() == 1


def statements(captured: CaptureQueriesContext) -> int:
    """How many statements there were; savepoints cost no trip to disk."""
    return sum("SAVEPOINT" not in query["sql"] for query in captured.captured_queries)


def test_from_the_request_to_the_code_takes_few_queries(browser: Client, cast: Cast, ide: OAuthClient) -> None:
    page = ask(browser, url(ide, cast.server))
    with CaptureQueriesContext(connection) as asked:
        browser.get(page)
    with CaptureQueriesContext(connection) as approved:
        answer(browser.post(page, {"decision": "approve"}))
    with CaptureQueriesContext(connection) as remembered:
        assert answer(browser.get(url(ide, cast.server)))["code"]
    assert max(map(statements, (asked, approved, remembered))) < 15
