"""The token endpoint: a code becomes tokens once, for one client and one MCP URL."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from oauth2_provider.models import AccessToken, Grant, RefreshToken

from authflows.inbound.bearer import Refusal, Unauthenticated, authenticate
from authflows.inbound.oauth import approvals
from authflows.models import Approval, OAuthClient
from servers.access import Principal
from servers.models import AuditEvent
from tests.conftest import Cast
from tests.support.ide import REDIRECT_URI, VERIFIER, Ide, Reply, make_client

pytestmark = pytest.mark.django_db
NOW = timezone.now().timestamp()


@pytest.fixture
def ide(cast: Cast) -> Ide:
    return Ide(make_client(), cast.member, cast.server, cast.server.mcp_url)


def opens(ide: Ide, token: str) -> Principal | Unauthenticated:
    """What the token is at the MCP URL that it was issued for."""
    path = ide.resource.removeprefix(settings.PUBLIC_URL)
    return authenticate(f"Bearer {token}".encode(), now=NOW, path=path)


def everything_stored() -> str:
    """All rows of all tables as text."""
    with connection.cursor() as cursor:
        found = []
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            found += [str(value) for row in cursor.fetchall() for value in row]
    return "\n".join(found)


@pytest.mark.requirement("AZ-1", "AZ-13", "AZ-16", "F-205")
def test_a_code_becomes_a_short_lived_access_token_and_a_refresh_token(ide: Ide) -> None:
    reply = ide.redeem(ide.code())
    assert reply.status == 200
    assert reply.content == {
        "access_token": reply.content["access_token"],
        "refresh_token": reply.content["refresh_token"],
        "token_type": "Bearer",
        "expires_in": 15 * 60,
        "scope": "mcp",
    }
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.headers["Access-Control-Allow-Origin"] == "*"
    assert opens(ide, reply.content["access_token"])
    event = AuditEvent.objects.get(action="oauth_token:issue")
    assert (event.actor, event.detail["resource"]) == ("member", [ide.resource])


@pytest.mark.parametrize("path", ["/token", "/token/"])
def test_both_spellings_of_the_endpoint_answer_without_a_redirect(ide: Ide, path: str) -> None:
    form = {
        "grant_type": "authorization_code",
        "code": ide.code(),
        "redirect_uri": REDIRECT_URI,
        "client_id": ide.client.client_id,
        "code_verifier": VERIFIER,
    }
    assert ide.send(path, form).status == 200


@pytest.mark.requirement("AZ-1")
def test_a_granted_scope_is_the_one_that_was_asked_for(ide: Ide) -> None:
    assert ide.sign_in(scope="mcp offline_access")["scope"] == "mcp offline_access"


@pytest.mark.requirement("AZ-4", "T16")
@pytest.mark.parametrize("verifier", [None, "", "w" * 64, "v" * 63, VERIFIER.upper()])
def test_without_the_right_verifier_a_code_is_nothing(ide: Ide, verifier: str | None) -> None:
    code = ide.code()
    refused = ide.redeem(code, code_verifier=verifier)
    assert refused.status == 400
    assert refused.error == ("invalid_request" if not verifier else "invalid_grant")
    assert not AccessToken.objects.exists()
    assert ide.redeem(code).status == 200, "an attacker without the verifier does not use the code up"


@pytest.mark.requirement("AZ-4", "T16")
@pytest.mark.parametrize("method", ["plain", ""])
def test_a_code_with_a_weaker_challenge_is_nothing(ide: Ide, method: str) -> None:
    code = ide.code()
    Grant.objects.update(code_challenge_method=method, code_challenge=VERIFIER)
    assert ide.redeem(code).error == "invalid_grant"
    Grant.objects.update(code_challenge_method="S256", code_challenge="")
    assert ide.redeem(code).error == "invalid_grant"
    assert not AccessToken.objects.exists()


@pytest.mark.requirement("T17")
def test_a_code_is_bound_to_its_client_and_redirect_uri(ide: Ide) -> None:
    other = make_client(name="Other")
    code = ide.code()
    assert ide.redeem(code, client_id=other.client_id).error == "invalid_grant"
    assert ide.redeem(code, redirect_uri="http://127.0.0.1:33419/callback").error == "invalid_grant"
    assert ide.redeem("no-such-code").error == "invalid_grant"
    assert not AccessToken.objects.exists()
    assert ide.redeem(code, redirect_uri=None).status == 200, "OAuth 2.1 clients leave it out"


@pytest.mark.requirement("AZ-17", "T17")
def test_a_code_lives_for_a_minute(ide: Ide) -> None:
    code = ide.code()
    row = Grant.objects.get()
    assert timedelta(seconds=50) < row.expires - timezone.now() <= timedelta(seconds=60)
    Grant.objects.update(expires=timezone.now())
    assert ide.redeem(code).error == "invalid_grant"


@pytest.mark.requirement("T17", "T9")
@pytest.mark.django_db(transaction=True)
def test_a_second_redemption_fails_and_ends_what_the_first_began(ide: Ide) -> None:
    code = ide.code()
    first = ide.redeem(code).content
    newest = ide.refresh(first["refresh_token"]).content
    assert opens(ide, newest["access_token"])
    assert ide.redeem(code).error == "invalid_grant"
    assert opens(ide, newest["access_token"]) == Unauthenticated(Refusal.UNKNOWN)
    assert ide.refresh(newest["refresh_token"]).error == "invalid_grant"
    assert AuditEvent.objects.filter(action="oauth_token:reuse").count() == 1


@pytest.mark.requirement("T17")
def test_another_client_that_replays_a_code_ends_nothing(ide: Ide) -> None:
    code = ide.code()
    first = ide.redeem(code).content
    assert ide.redeem(code, client_id=make_client().client_id).error == "invalid_grant"
    assert opens(ide, first["access_token"])


def others(ide: Ide) -> list[Any]:
    return [
        ide.resource + "/",
        ide.resource.upper(),
        ide.resource.replace("/server", "/mcp"),
        ide.resource.replace("calculator", "other"),
        ide.resource + "?a=b",
        settings.PUBLIC_URL,
        "https://elsewhere.example/default/mcp/calculator/server",
        "nonsense",
        [ide.resource, ide.resource],
        [ide.resource, settings.PUBLIC_URL],
        [settings.PUBLIC_URL, ide.resource],
    ]


@pytest.mark.requirement("AZ-13", "AZ-14")
@pytest.mark.parametrize("number", range(11))
def test_a_token_is_for_exactly_the_resource_that_was_granted(ide: Ide, number: int) -> None:
    code = ide.code()
    resource = others(ide)[number]
    assert ide.redeem(code, resource=resource).error == "invalid_target"
    assert not AccessToken.objects.exists()
    pair = ide.redeem(code, resource=None).content
    assert AccessToken.objects.get().resource == [ide.resource]
    assert ide.refresh(pair["refresh_token"], resource=resource).error == "invalid_target"
    assert ide.refresh(pair["refresh_token"], resource=None).status == 200
    assert {tuple(row.resource) for row in [*AccessToken.objects.all(), *RefreshToken.objects.all()]} == {
        (ide.resource,)
    }


@pytest.mark.requirement("AZ-14", "RS-11")
@pytest.mark.parametrize("stored", [[], ["nonsense"], ["https://elsewhere.example/default/mcp/calculator/server"]])
def test_no_token_is_made_without_exactly_one_resource_of_ours(ide: Ide, stored: list[str]) -> None:
    code = ide.code()
    for resources in (stored, [ide.resource, *stored] if stored else []):
        Grant.objects.update(resource=resources)
        assert ide.redeem(code, resource=None).error == "invalid_target"
    assert not AccessToken.objects.exists()


@pytest.mark.requirement("AZ-1")
@pytest.mark.parametrize(
    ("grant_type", "error"),
    [
        ("client_credentials", "unsupported_grant_type"),
        ("password", "unsupported_grant_type"),
        ("implicit", "unsupported_grant_type"),
        ("openid", "unsupported_grant_type"),
        ("urn:ietf:params:oauth:grant-type:device_code", "unsupported_grant_type"),
        ("urn:ietf:params:oauth:grant-type:jwt-bearer", "unsupported_grant_type"),
        (None, "invalid_request"),
    ],
)
def test_only_codes_and_refresh_tokens_are_exchanged(ide: Ide, grant_type: str | None, error: str) -> None:
    secret = {"client_secret": None, "username": "member", "password": "x", "device_code": "x"}
    reply = ide.redeem(ide.code(), grant_type=grant_type, **secret)
    assert (reply.status, reply.error) == (400, error)
    assert reply.content["error_description"]


def test_a_client_of_another_grant_type_gets_nothing(ide: Ide) -> None:
    code = ide.code()
    OAuthClient.objects.update(authorization_grant_type=OAuthClient.GRANT_CLIENT_CREDENTIALS)
    assert ide.redeem(code).error == "unauthorized_client"


def disable_client(ide: Ide) -> str:
    OAuthClient.objects.update(enabled=False)
    return "invalid_client"


def disable_person(ide: Ide) -> str:
    type(ide.user).objects.filter(pk=ide.user.pk).update(is_active=False)
    return "invalid_grant"


def end_approval(ide: Ide) -> str:
    Approval.objects.all().delete()
    return "invalid_grant"


def revoke_approval(ide: Ide) -> str:
    approvals.revoke(Approval.objects.get(), actor="member")
    return "invalid_grant"


def delete_server(ide: Ide) -> str:
    ide.server.delete()
    return "invalid_grant"


WAYS = [disable_client, disable_person, end_approval, revoke_approval, delete_server]


@pytest.mark.requirement("T9", "T10", "T17")
@pytest.mark.parametrize("end", WAYS)
def test_a_code_hangs_on_client_person_and_approval(ide: Ide, end: Callable[[Ide], str]) -> None:
    code = ide.code()
    error = end(ide)
    assert ide.redeem(code).error == error
    assert not AccessToken.objects.exists()


@pytest.mark.requirement("AZ-17", "T8", "T55")
def test_the_database_never_holds_a_code_or_token(ide: Ide) -> None:
    code = ide.code(scope="mcp offline_access")
    secrets = [code]
    assert code not in everything_stored()
    first = ide.redeem(code).content
    secrets += [first["access_token"], first["refresh_token"]]
    second = ide.refresh(first["refresh_token"]).content
    secrets += [second["access_token"], second["refresh_token"]]
    stored = everything_stored()
    ide.refresh(first["refresh_token"])
    ide.redeem(code)
    stored += everything_stored()
    assert ide.client.client_id in stored, "the tables were read"
    for secret in secrets:
        assert secret not in stored
        assert secret[4:40] not in stored
        assert base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=") not in stored


@pytest.mark.requirement("T56")
def test_no_log_holds_a_code_or_token_at_whatever_level(ide: Ide, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    code = ide.code()
    first = ide.redeem(code).content
    second = ide.refresh(first["refresh_token"]).content
    ide.refresh("ghr_" + "A" * 43)
    ide.redeem(code)
    ide.revoke(second["refresh_token"])
    assert caplog.records
    for secret in (code, *(pair[kind] for pair in (first, second) for kind in ("access_token", "refresh_token"))):
        assert secret not in caplog.text


@pytest.mark.requirement("AZ-17")
def test_the_token_endpoint_asks_the_database_a_bounded_number_of_times(ide: Ide) -> None:
    def queries_of(request: Callable[[], Reply]) -> tuple[int, Any]:
        with CaptureQueriesContext(connection) as queries:
            reply = request()
        return sum("SAVEPOINT" not in query["sql"] for query in queries), reply.content

    code = ide.code()
    redeeming, pair = queries_of(lambda: ide.redeem(code))
    first, pair = queries_of(partial(ide.refresh, pair["refresh_token"]))
    for _ in range(5):
        pair = ide.refresh(pair["refresh_token"]).content
    later, _ = queries_of(partial(ide.refresh, pair["refresh_token"]))
    assert redeeming <= 15
    assert first <= 20
    assert later == first, "a long sign-in costs what a new one costs"


@pytest.mark.requirement("RS-15")
def test_any_web_page_may_ask_the_endpoint(client: Client) -> None:
    for path in ("/token", "/token/", "/revoke", "/revoke/"):
        preflight = client.options(path, headers={"Origin": "https://ide.example"})
        assert preflight.status_code == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == "*"
        assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
        assert "Access-Control-Allow-Credentials" not in preflight.headers
        assert client.get(path).status_code == 405
