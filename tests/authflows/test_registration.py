"""Clients that register themselves: what is kept, what is refused in which words, and how many may come."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from oauth2_provider.models import get_access_token_model, get_refresh_token_model

from authflows.inbound.oauth import registration
from authflows.inbound.oauth.client_metadata import LONGEST_NAME, clean_name
from authflows.models import Approval, OAuthClient, PendingSignIn, RegistrationPolicy
from servers.models import AuditEvent
from tests.conftest import Cast

CURSOR = "cursor://anysphere.cursor-mcp/oauth/callback"
VS_CODE = {
    "client_name": "Visual Studio Code",
    "client_uri": "https://code.visualstudio.com",
    "grant_types": ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
    "response_types": ["code"],
    "redirect_uris": [
        "https://insiders.vscode.dev/redirect",
        "https://vscode.dev/redirect",
        "http://127.0.0.1/",
        "http://127.0.0.1:33418/",
    ],
    "token_endpoint_auth_method": "none",
    "application_type": "native",
}
CURSOR_REGISTRATION = {
    "client_name": "Cursor",
    "redirect_uris": [CURSOR, "https://www.cursor.com/agents/mcp/oauth/callback", "http://localhost:8787/callback"],
    "grant_types": ["authorization_code", "refresh_token"],
    "response_types": ["code"],
    "token_endpoint_auth_method": "none",
}
PUBLIC = {"redirect_uris": ["http://localhost/callback"], "token_endpoint_auth_method": "none"}

pytestmark = pytest.mark.django_db


def register(metadata: object, *, path: str = "/register", **options: Any) -> Any:
    body = metadata if isinstance(metadata, bytes | str) else json.dumps(metadata)
    return Client().post(path, body, content_type="application/json", **options)


# --- What is kept ---------------------------------------------------------------------------------


@pytest.mark.requirement("AZ-12", "F-202")
@pytest.mark.parametrize("path", ["/register", "/register/"])
def test_a_client_registers_without_signing_in(path: str) -> None:
    answer = register(VS_CODE, path=path)
    client = OAuthClient.objects.get()

    assert answer.status_code == 201
    assert answer["Cache-Control"] == "no-store"
    assert answer.json() == {
        "client_id": client.client_id,
        "client_id_issued_at": int(client.created.timestamp()),
        "redirect_uris": VS_CODE["redirect_uris"],
        "token_endpoint_auth_method": "none",
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "client_name": "Visual Studio Code",
        "application_type": "native",
    }
    assert client.redirect_uris.split() == VS_CODE["redirect_uris"]
    assert client.registration_source == OAuthClient.RegistrationSource.DCR
    assert client.application_type == "native"
    assert not client.skip_authorization
    assert not client.verified


@pytest.mark.requirement("AZ-8")
def test_redirect_uris_that_are_not_allowed_are_left_out_and_the_answer_says_what_is_stored() -> None:
    answer = register(CURSOR_REGISTRATION)

    assert answer.status_code == 201
    assert answer.json()["redirect_uris"] == [
        "https://www.cursor.com/agents/mcp/oauth/callback",
        "http://localhost:8787/callback",
    ]
    assert OAuthClient.objects.get().redirect_uris.split() == answer.json()["redirect_uris"]


@pytest.mark.requirement("AZ-8")
def test_an_admin_can_allow_the_exact_uri_of_an_application() -> None:
    RegistrationPolicy.objects.update(private_redirect_uris=[CURSOR])

    assert register(CURSOR_REGISTRATION).json()["redirect_uris"] == CURSOR_REGISTRATION["redirect_uris"]


@pytest.mark.requirement("AZ-8")
def test_a_list_of_private_uris_that_is_no_list_allows_nothing() -> None:
    RegistrationPolicy.objects.update(private_redirect_uris=f"x {CURSOR} x")

    assert CURSOR not in register(CURSOR_REGISTRATION).json()["redirect_uris"]


@pytest.mark.requirement("AZ-12")
@pytest.mark.parametrize(
    "more",
    [
        {},
        {"client_name": None, "grant_types": None, "response_types": None, "scope": None, "application_type": None},
        {"grant_types": [], "response_types": []},
        {"response_types": ["code", "code id_token", "token"]},
        {"grant_types": ["authorization_code", "client_credentials", "implicit", "x"]},
        {"code_challenge_method": "S256", "software_id": "x", "jwks": {"keys": []}, "contacts": 7, "client_name#de": 1},
        {"application_type": "something"},
        {
            "redirect_uris": [
                "http://127.0.0.1:6276/oauth/callback",
                "not a uri",
                "http://127.0.0.1:6276/oauth/callback",
            ]
        },
    ],
)
def test_what_clients_add_or_leave_out_does_no_harm(more: dict[str, Any]) -> None:
    answer = register(PUBLIC | more)

    assert answer.status_code == 201
    assert answer.json()["grant_types"] == ["authorization_code", "refresh_token"]
    assert answer.json()["response_types"] == ["code"]
    assert len(answer.json()["redirect_uris"]) == 1
    assert not {"software_id", "jwks", "contacts", "application_type", "registration_access_token"} & set(answer.json())


@pytest.mark.requirement("AZ-12")
@pytest.mark.parametrize(
    ("asked", "granted"),
    [("mcp", "mcp"), ("openid offline_access mcp x", "mcp offline_access"), ("openid", None), ("", None)],
)
def test_the_answer_names_the_scopes_that_exist(asked: str, granted: str | None) -> None:
    assert register(PUBLIC | {"scope": asked}).json().get("scope") == granted


@pytest.mark.requirement("T56", "F-202")
@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("Claude Code (calculator)", "Claude Code (calculator)"),
        ("  Two\r\n\tlines ", "Two lines"),
        ("evil\u202egnp.exe", "evilgnp.exe"),
        ("zero\u200bwidth\u2066\ufeff", "zerowidth"),
        ("\x00\x1b[31mred", "[31mred"),
        ("\ud800lone", "lone"),
        ("Größe 測試 🙂", "Größe 測試 🙂"),
        ("<script>alert(1)</script>", "<script>alert(1)</script>"),
        ("n" * 5000, "n" * LONGEST_NAME),
    ],
)
def test_a_name_is_kept_as_one_plain_line(name: str, kept: str) -> None:
    assert register(PUBLIC | {"client_name": name}).json()["client_name"] == kept
    assert OAuthClient.objects.get().name == kept


@given(name=st.text(max_size=300))
def test_a_cleaned_name_stays_as_it_is(name: str) -> None:
    cleaned = clean_name(name)

    assert clean_name(cleaned) == cleaned
    assert len(cleaned) <= LONGEST_NAME
    assert cleaned.isprintable()


# --- Secrets --------------------------------------------------------------------------------------


@pytest.mark.requirement("AZ-12", "T55")
@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post", None])
def test_a_confidential_client_sees_its_secret_once_and_we_keep_a_hash(method: str | None) -> None:
    metadata = {"redirect_uris": ["https://good.example.com/cb"], "client_name": "Backend"}
    answer = register(metadata | ({"token_endpoint_auth_method": method} if method else {}))
    secret = answer.json()["client_secret"]
    client = OAuthClient.objects.get()

    assert answer.status_code == 201
    assert answer.json()["client_secret_expires_at"] == 0
    assert answer.json()["token_endpoint_auth_method"] == (method or "client_secret_basic")
    assert client.client_type == OAuthClient.CLIENT_CONFIDENTIAL
    assert len(secret) >= 64
    assert secret not in client.client_secret
    assert client.client_secret.startswith("sha256_of_random$")
    assert secret not in str(list(AuditEvent.objects.values_list("detail", flat=True)))


@pytest.mark.requirement("AZ-12", "T55")
def test_a_confidential_client_proves_itself_with_that_secret_and_no_other() -> None:
    from django.contrib.auth.hashers import check_password

    one, other = (register({"redirect_uris": ["https://good.example.com/cb"]}).json() for _ in range(2))
    stored = OAuthClient.objects.get(client_id=one["client_id"]).client_secret

    assert check_password(one["client_secret"], stored)
    assert not check_password(other["client_secret"], stored)
    assert not check_password("", stored)


# --- The same again -------------------------------------------------------------------------------


@pytest.mark.requirement("T24", "AZ-12")
def test_the_same_metadata_gets_the_same_client_and_no_second_row() -> None:
    first = register(VS_CODE)
    again = register(VS_CODE | {"redirect_uris": list(reversed(VS_CODE["redirect_uris"])), "software_version": "2"})

    assert again.status_code == 201
    assert again.json()["client_id"] == first.json()["client_id"]
    assert again.json()["client_id_issued_at"] == first.json()["client_id_issued_at"]
    assert OAuthClient.objects.count() == 1


@pytest.mark.requirement("T24", "AZ-6")
def test_another_loopback_port_is_the_same_client_and_is_echoed() -> None:
    first = register(PUBLIC | {"redirect_uris": ["http://localhost:5001/callback"]}).json()
    again = register(PUBLIC | {"redirect_uris": ["http://localhost:5002/callback"]}).json()

    assert again["client_id"] == first["client_id"]
    assert again["redirect_uris"] == ["http://localhost:5002/callback"]
    assert OAuthClient.objects.get().redirect_uri_allowed("http://localhost:5002/callback")


@pytest.mark.requirement("T24", "T11")
@pytest.mark.parametrize(
    "other",
    [
        {"client_name": "Visual Studio Code 2"},
        {"redirect_uris": [*VS_CODE["redirect_uris"], "https://evil.example/cb"]},
        {"redirect_uris": ["http://127.0.0.1/other"]},
        {"token_endpoint_auth_method": "client_secret_basic"},
    ],
)
def test_other_metadata_gets_another_client(other: dict[str, Any]) -> None:
    first = register(VS_CODE).json()

    assert register(VS_CODE | other).json()["client_id"] != first["client_id"]


@pytest.mark.requirement("T11", "T55")
def test_a_confidential_client_is_never_given_to_a_second_caller() -> None:
    metadata = {"redirect_uris": ["https://good.example.com/cb"], "client_name": "Backend"}
    first, again = register(metadata).json(), register(metadata).json()
    public = register(metadata | {"token_endpoint_auth_method": "none"}).json()

    assert len({first["client_id"], again["client_id"], public["client_id"]}) == 3
    assert "client_secret" not in public


@pytest.mark.requirement("T11")
def test_a_client_of_an_admin_is_not_handed_out_to_whoever_describes_it() -> None:
    mine = register(VS_CODE).json()["client_id"]
    OAuthClient.objects.update(registration_source=OAuthClient.RegistrationSource.MANUAL)

    assert register(VS_CODE).json()["client_id"] != mine


def test_a_client_that_an_admin_turned_off_does_not_come_back_by_registering_again() -> None:
    register(VS_CODE)
    OAuthClient.objects.update(enabled=False)
    answer = register(VS_CODE)

    assert (answer.status_code, answer.json()["error"]) == (403, "access_denied")
    assert "turned this client off" in answer.json()["error_description"]


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.requirement("AZ-12", "F-202")
@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (b"", "invalid_client_metadata", "not JSON"),
        (b"{", "invalid_client_metadata", "not JSON"),
        (b"\xff\xfe\x00", "invalid_client_metadata", "not JSON"),
        (b"[" * 60_000, "invalid_client_metadata", "not JSON"),
        (b"redirect_uris=https://x", "invalid_client_metadata", "not JSON"),
        (b"[]", "invalid_client_metadata", "JSON object"),
        (b"null", "invalid_client_metadata", "JSON object"),
        ({}, "invalid_redirect_uri", "redirect_uris is missing or empty"),
        (PUBLIC | {"redirect_uris": []}, "invalid_redirect_uri", "redirect_uris is missing or empty"),
        (
            {"redirect_uris": [], "grant_types": [], "response_types": [], "token_endpoint_auth_method": "none"},
            "invalid_redirect_uri",
            "redirect_uris is missing or empty",
        ),
        (PUBLIC | {"redirect_uris": "http://localhost/"}, "invalid_redirect_uri", "redirect_uris must be a list"),
        (PUBLIC | {"redirect_uris": [1]}, "invalid_redirect_uri", "redirect_uris must be a list of strings"),
        (PUBLIC | {"redirect_uris": ["http://evil.example/"]}, "invalid_redirect_uri", "redirect_uris[0]: Plain http"),
        (PUBLIC | {"redirect_uris": [CURSOR]}, "invalid_redirect_uri", "an admin has to allow"),
        (PUBLIC | {"redirect_uris": ["javascript:alert(1)"]}, "invalid_redirect_uri", "never allowed"),
        (
            PUBLIC | {"redirect_uris": [f"http://127.0.0.1/{n}" for n in range(21)]},
            "invalid_redirect_uri",
            "more than 20",
        ),
        (PUBLIC | {"client_name": 7}, "invalid_client_metadata", "client_name must be a string"),
        (PUBLIC | {"grant_types": "authorization_code"}, "invalid_client_metadata", "grant_types must be a list"),
        (PUBLIC | {"grant_types": ["client_credentials"]}, "invalid_client_metadata", "grant_types must include"),
        (PUBLIC | {"response_types": ["token"]}, "invalid_client_metadata", "response_types must include code"),
        (PUBLIC | {"scope": ["mcp"]}, "invalid_client_metadata", "scope must be a string"),
        (
            PUBLIC | {"token_endpoint_auth_method": "private_key_jwt"},
            "invalid_client_metadata",
            "token_endpoint_auth_method must be one of none, client_secret_basic, client_secret_post",
        ),
        (PUBLIC | {"token_endpoint_auth_method": 1}, "invalid_client_metadata", "token_endpoint_auth_method must be"),
    ],
)
def test_a_malformed_registration_names_the_field_and_the_fix(body: object, error: str, words: str) -> None:
    answer = register(body)

    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert words in answer.json()["error_description"]
    assert not OAuthClient.objects.exists()


@pytest.mark.requirement("AZ-12", "T24")
def test_a_large_body_is_refused_unread() -> None:
    answer = register(b'{"x": "' + b"x" * 70_000 + b'"}')

    assert answer.status_code == 413
    assert "65536 bytes" in answer.json()["error_description"]


@pytest.mark.requirement("RS-15")
def test_registration_works_from_any_origin_without_cookies_and_by_post_only() -> None:
    origin = {"origin": "https://inspector.example"}
    preflight = Client().options("/register", headers=origin | {"access-control-request-method": "POST"})
    answer = Client(enforce_csrf_checks=True).post(
        "/register", json.dumps(PUBLIC), content_type="application/json", headers=origin
    )
    refused = register({}, headers=origin)

    assert preflight.status_code == 204
    assert "POST" in preflight["Access-Control-Allow-Methods"]
    assert answer.status_code == 201
    assert {r["Access-Control-Allow-Origin"] for r in (preflight, answer, refused)} == {"*"}
    assert Client().get("/register").status_code == Client().put("/register").status_code == 405


@pytest.mark.requirement("AZ-12")
def test_there_is_nothing_to_manage_a_registration_with() -> None:
    client_id = register(PUBLIC).json()["client_id"]

    for path in (f"/register/{client_id}", f"/register/{client_id}/"):
        assert Client().get(path).status_code == Client().delete(path).status_code == 404


@pytest.mark.requirement("AZ-12")
def test_an_admin_can_turn_registration_off() -> None:
    RegistrationPolicy.objects.update(dynamic_registration=False)
    answer = register(VS_CODE)

    assert (answer.status_code, answer.json()["error"]) == (403, "access_denied")
    assert "Ask its admin" in answer.json()["error_description"]
    assert not OAuthClient.objects.exists()


# --- How many -------------------------------------------------------------------------------------


@pytest.mark.requirement("T24", "AZ-12")
def test_an_address_that_registers_too_often_has_to_wait_and_others_do_not() -> None:
    RegistrationPolicy.objects.update(registrations_per_hour=3)
    statuses = [register(PUBLIC | {"client_name": f"{n}"}, REMOTE_ADDR="192.0.2.1").status_code for n in range(3)]
    refused = register(PUBLIC | {"client_name": "one more"}, REMOTE_ADDR="192.0.2.1")

    assert statuses == [201, 201, 201]
    assert refused.status_code == 429
    assert 0 < int(refused["Retry-After"]) <= 1200
    assert refused["Retry-After"] in refused.json()["error_description"]
    assert OAuthClient.objects.count() == 3
    # What is known already costs nothing, and other addresses are not held up.
    assert register(PUBLIC | {"client_name": "0"}, REMOTE_ADDR="192.0.2.1").status_code == 201
    assert register(PUBLIC | {"client_name": "one more"}, REMOTE_ADDR="192.0.2.2").status_code == 201


@pytest.mark.requirement("T24")
def test_nobody_registers_where_none_is_allowed_per_hour() -> None:
    RegistrationPolicy.objects.update(registrations_per_hour=0)

    assert register(PUBLIC).status_code == 429


@pytest.mark.requirement("T24", "AZ-12")
def test_registration_waits_when_too_many_clients_were_never_used(cast: Cast) -> None:
    RegistrationPolicy.objects.update(most_unused_clients=2)
    for n in range(2):
        assert register(PUBLIC | {"client_name": f"{n}"}).status_code == 201
    refused = register(PUBLIC | {"client_name": "2"})

    assert refused.status_code == 503
    assert refused["Retry-After"] == "3600"
    assert "unused" in refused.json()["error_description"]
    OAuthClient.objects.filter(name="0").update(last_used_at=timezone.now())
    assert register(PUBLIC | {"client_name": "2"}).status_code == 201


@pytest.mark.requirement("T24")
def test_a_registration_is_audited() -> None:
    client_id = register(PUBLIC).json()["client_id"]
    event = AuditEvent.objects.get(action="oauth_client:register")

    assert event.detail["client"] == client_id


# --- Forgetting -----------------------------------------------------------------------------------


def _approve(client: OAuthClient, cast: Cast) -> None:
    Approval.objects.create(user=cast.member, client=client, server=cast.server, redirect_host="localhost")


def _access_token(client: OAuthClient, cast: Cast) -> None:
    get_access_token_model().objects.create(
        user=cast.member, application=client, token="a" * 20, expires=timezone.now(), scope="mcp"
    )


def _refresh_token(client: OAuthClient, cast: Cast) -> None:
    get_refresh_token_model().objects.create(user=cast.member, application=client, token="r" * 20)


def _pending(client: OAuthClient, cast: Cast) -> None:
    PendingSignIn.objects.create(
        client=client, resource="x", redirect_uri="x", code_challenge="x", expires_at=timezone.now() + timedelta(1)
    )


def _recently_used(client: OAuthClient, cast: Cast) -> None:
    OAuthClient.objects.filter(pk=client.pk).update(last_used_at=timezone.now() - timedelta(days=29))


def _turned_off(client: OAuthClient, cast: Cast) -> None:
    OAuthClient.objects.filter(pk=client.pk).update(enabled=False)


def _verified(client: OAuthClient, cast: Cast) -> None:
    OAuthClient.objects.filter(pk=client.pk).update(verified=True)


def _manual(client: OAuthClient, cast: Cast) -> None:
    OAuthClient.objects.filter(pk=client.pk).update(registration_source=OAuthClient.RegistrationSource.MANUAL)


def _young(client: OAuthClient, cast: Cast) -> None:
    OAuthClient.objects.filter(pk=client.pk).update(updated=timezone.now() - timedelta(days=29))


def _registered_again(client: OAuthClient, cast: Cast) -> None:
    register(PUBLIC)


KEEPING: list[Callable[[OAuthClient, Cast], None]] = [
    _approve,
    _access_token,
    _refresh_token,
    _pending,
    _recently_used,
    _turned_off,
    _verified,
    _manual,
    _young,
    _registered_again,
]


def _old_client() -> OAuthClient:
    register(PUBLIC)
    OAuthClient.objects.update(updated=timezone.now() - timedelta(days=31))
    client: OAuthClient = OAuthClient.objects.get()
    return client


@pytest.mark.requirement("T24", "AZ-12")
def test_a_client_that_nobody_let_in_is_forgotten_after_a_while(cast: Cast) -> None:
    _old_client()
    call_command("prune")

    assert not OAuthClient.objects.exists()


@pytest.mark.requirement("T24", "AZ-12")
@pytest.mark.parametrize("keep", KEEPING, ids=lambda keep: keep.__name__.strip("_"))
def test_a_client_that_matters_to_somebody_is_kept(keep: Callable[[OAuthClient, Cast], None], cast: Cast) -> None:
    keep(_old_client(), cast)

    assert not registration.unused_clients(timezone.now()).exists()


def test_the_url_has_a_name() -> None:
    assert reverse("register") == "/register"
