"""Clients that are known by their metadata document: what is fetched, what is believed, and for how long."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from authflows.inbound.oauth import approvals, client_documents, known_clients
from authflows.inbound.oauth.client_documents import Refused, read, resolve
from authflows.models import OAuthClient, RegistrationPolicy
from servers.models import AuditEvent
from tests.conftest import Cast
from tests.support import environment
from tests.support.document_host import DocumentHost, known, reason

CLAUDE_CODE = "https://claude.ai/oauth/claude-code-client-metadata"
RESOURCE = "http://127.0.0.1:8000/default/mcp/calculator/server"
PKCE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
# What section 5 of the clients' list has, and what each sends at run time.
KNOWN = {
    CLAUDE_CODE: ("Claude Code", "http://localhost:51234/callback"),
    "https://claude.ai/oauth/mcp-oauth-client-metadata": ("Claude", "https://claude.ai/api/mcp/auth_callback"),
    "https://chatgpt.com/oauth/codex/client.json": ("Codex", "http://127.0.0.1:51234/callback"),
    "https://chatgpt.com/oauth/client.json": ("ChatGPT", "https://chatgpt.com/connector_platform_oauth_redirect"),
    "https://github.com/copilot/cli/client-metadata.json": ("GitHub Copilot CLI", "http://127.0.0.1:51234/callback"),
    "https://vscode.dev/oauth/client-metadata.json": ("Visual Studio Code", "http://127.0.0.1:51234/"),
    "https://zed.dev/oauth/client-metadata.json": ("Zed", "http://127.0.0.1:51234/callback"),
    "https://opencode.ai/oauth/opencode/client.json": ("opencode", "http://localhost:51234/callback"),
}


def expire(*, since: timedelta = timedelta(seconds=1)) -> None:
    OAuthClient.objects.update(cimd_expires_at=timezone.now() - since)


def policy(**changes: object) -> None:
    """What the admin decided; the row may be gone in tests that empty the tables."""
    RegistrationPolicy.objects.update_or_create(id=1, defaults=changes)


def authorize(client_id: str, redirect_uri: str) -> Any:
    parameters = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "code_challenge": PKCE,
        "code_challenge_method": "S256",
        "resource": RESOURCE,
    }
    return Client().get("/authorize", parameters)


# --- What is believed -----------------------------------------------------------------------------


@pytest.mark.requirement("AZ-9", "F-203")
def test_a_client_is_what_its_document_says(host: DocumentHost) -> None:
    client = known(host.publish(application_type="native", logo_uri="https://evil.example/logo", unknown=[1]))

    assert client.client_id == host.url()
    assert client.name == "Editor"
    assert client.redirect_uris.split() == ["http://localhost/callback", "http://127.0.0.1/callback"]
    assert client.client_type == OAuthClient.CLIENT_PUBLIC
    assert client.registration_source == OAuthClient.RegistrationSource.CIMD
    assert client.metadata_host == "localhost"
    assert client.application_type == "native"
    assert not client.verified
    assert not client.skip_authorization
    assert host.seen == ["/client.json"]
    assert AuditEvent.objects.get(action="oauth_client:register").detail["client"] == host.url()


@pytest.mark.requirement("AZ-9", "F-201")
def test_an_authorization_request_of_such_a_client_goes_on_to_the_person(host: DocumentHost) -> None:
    answer = authorize(host.publish(), "http://localhost:51234/callback")

    assert answer.status_code == 302
    assert answer["Location"].startswith("/authorize/")


@pytest.mark.requirement("AZ-8", "AZ-10")
def test_redirect_uris_that_are_not_allowed_are_left_out(host: DocumentHost) -> None:
    uris = ["cursor://x/cb", "http://evil.example/cb", "javascript:alert(1)", "https://good.example.com/cb"]

    assert known(host.publish(redirect_uris=uris)).redirect_uris == "https://good.example.com/cb"


@pytest.mark.requirement("AZ-10")
@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"client_secret": "x"}, "client_secret"),
        ({"client_secret": ""}, "client_secret"),
        ({"client_secret_expires_at": 0}, "client_secret_expires_at"),
        ({"token_endpoint_auth_method": "client_secret_basic"}, "token_endpoint_auth_method"),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "token_endpoint_auth_method"),
        (
            {
                "token_endpoint_auth_method": "client_secret_post",
                "token_endpoint_auth_methods_supported": ["none", "client_secret_post"],
            },
            "token_endpoint_auth_method",
        ),
        ({"token_endpoint_auth_method": 7}, "token_endpoint_auth_method"),
        ({"client_name": None}, "client_name"),
        ({"client_name": " \u200b\n"}, "client_name"),
        ({"client_name": ["Editor"]}, "client_name"),
        ({"redirect_uris": None}, "redirect_uris"),
        ({"redirect_uris": []}, "redirect_uris"),
        ({"redirect_uris": "http://localhost/callback"}, "redirect_uris"),
        ({"redirect_uris": ["http://evil.example/cb"]}, "redirect_uris[0]"),
        ({"grant_types": ["client_credentials"]}, "grant_types"),
        ({"response_types": ["token"]}, "response_types"),
    ],
)
def test_a_document_that_describes_no_public_client_is_refused(
    fields: dict[str, Any], words: str, host: DocumentHost
) -> None:
    found = resolve(host.publish(**fields))

    assert isinstance(found, Refused)
    assert found.reason == "invalid"
    assert words in found.sentence
    assert not OAuthClient.objects.exists()


@pytest.mark.requirement("AZ-10")
@pytest.mark.parametrize(
    "fields",
    [
        {"token_endpoint_auth_method": None},
        {
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_methods_supported": ["none", "private_key_jwt"],
        },
        {"grant_types": ["authorization_code", "urn:ietf:params:oauth:grant-type:jwt-bearer"]},
    ],
)
def test_a_document_that_offers_to_be_a_public_client_is_one(fields: dict[str, Any], host: DocumentHost) -> None:
    assert known(host.publish(**fields)).client_type == OAuthClient.CLIENT_PUBLIC


@pytest.mark.requirement("AZ-9", "AZ-10", "T23")
@pytest.mark.parametrize("claimed", [CLAUDE_CODE, "HTTPS", None, 7, "http"])
def test_a_document_that_names_another_client_is_refused(claimed: object, host: DocumentHost) -> None:
    if claimed in ("HTTPS", "http"):
        claimed = str(claimed) + host.url().removeprefix("https")

    assert reason(host.publish(client_id=claimed)) == "mismatch"


@pytest.mark.requirement("AZ-10", "T26")
@pytest.mark.django_db
@pytest.mark.parametrize(
    "client_id",
    [
        "https://good.example.com",
        "https://good.example.com?x=1",
        "https://good.example.com/a#b",
        "https://good.example.com/a#",
        "https://user@good.example.com/a",
        "https://user:password@good.example.com/a",
        "https://good.example.com/a/../b",
        "https://good.example.com/./a",
        "https://good.example.com/%2e%2e/a",
        "https://good.example.com:0/a",
        "https://good.example.com:99999/a",
        "https://good.example.com\\@evil/a",
        "https://good.example.com/a b",
        "https://good.example.com/a\x00",
        "https://*.example.com/a",
        "https:///a",
        "https://2130706433/a",
        "https://0x7f000001/a",
        "https://127.1/a",
        "https://good.example.com/" + "a" * 300,
        "http://localhost/a",
        "javascript:alert(1)",
    ],
)
def test_an_id_that_is_no_proper_address_of_a_document_is_refused_unread(client_id: str) -> None:
    assert reason(client_id) == "malformed"


# --- For how long ---------------------------------------------------------------------------------


@pytest.mark.requirement("AZ-9")
def test_a_fresh_document_is_not_fetched_again_and_a_stale_one_is(host: DocumentHost) -> None:
    url = host.publish(headers={"Cache-Control": "max-age=7200"})
    expires = known(url).cimd_expires_at
    host.publish(client_name="Editor 2")

    assert timedelta(seconds=7100) < expires - timezone.now() < timedelta(seconds=7200)
    assert known(url).name == "Editor"
    assert len(host.seen) == 1
    expire()
    assert known(url).name == "Editor 2"
    assert len(host.seen) == 2
    assert OAuthClient.objects.count() == 1


@pytest.mark.requirement("AZ-10")
def test_a_stale_document_serves_for_a_week_when_it_cannot_be_read_anew(host: DocumentHost) -> None:
    url = host.publish()
    known(url)
    host.serve("client.json", b"", status=503)
    expire(since=timedelta(days=6, hours=23))

    assert known(url).name == "Editor"
    # A failure is never taken for a reading: what is stale stays stale.
    assert known(url).cimd_expires_at < timezone.now()
    expire(since=timedelta(days=7, seconds=1))
    assert reason(url) == "down"


@pytest.mark.requirement("AZ-10")
@pytest.mark.parametrize("fields", [None, {"client_id": "https://other.example/"}, {"client_name": None}])
def test_an_address_that_failed_is_left_alone_for_a_minute(
    fields: dict[str, Any] | None, host: DocumentHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = host.url() if fields is None else host.publish(**fields)
    first = reason(url)
    host.publish()

    assert reason(url) == first
    assert len(host.seen) == 1
    monkeypatch.setattr(client_documents, "BACK_OFF", timedelta(0))
    assert known(url)


@pytest.mark.requirement("AZ-9")
def test_a_client_that_several_see_first_at_the_same_moment_is_one_client(host: DocumentHost) -> None:
    together = threading.Barrier(4)
    usual = host.publish()
    serve = host.answer_of(usual)

    def at_once(handler: http.server.BaseHTTPRequestHandler) -> None:
        together.wait(10)
        serve(handler)

    def see(_: int) -> int:
        try:
            return int(known(usual).pk)
        finally:
            connection.close()

    host.answer("client.json", at_once)
    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(see, range(4)))) == 1
    assert OAuthClient.objects.count() == 1


@pytest.mark.requirement("AZ-20", "T23")
@pytest.mark.parametrize("fields", [{"client_name": "Other"}, {"redirect_uris": ["https://evil.example/cb"]}])
def test_a_document_with_another_name_or_other_redirect_uris_voids_what_was_approved(
    fields: dict[str, Any], host: DocumentHost, cast: Cast
) -> None:
    client = known(host.publish())
    approvals.approve(cast.member, client, cast.server, redirect_host="localhost")
    OAuthClient.objects.update(verified=True)
    host.publish(**fields)
    expire()
    changed = known(host.url())

    assert changed.pk == client.pk
    assert not approvals.is_approved(cast.member, changed, cast.server.pk)
    assert not changed.verified
    assert AuditEvent.objects.filter(action="oauth_client:change_document").count() == 1


@pytest.mark.requirement("AZ-20")
def test_a_document_that_says_the_same_in_other_words_keeps_its_approvals(host: DocumentHost, cast: Cast) -> None:
    client = known(host.publish())
    approvals.approve(cast.member, client, cast.server, redirect_host="localhost")
    OAuthClient.objects.update(verified=True)
    host.publish(
        redirect_uris=["http://127.0.0.1:33418/callback", "http://localhost/callback"],
        client_uri="https://new.example/",
        application_type="native",
    )
    expire()
    again = known(host.url())

    assert approvals.is_approved(cast.member, again, cast.server.pk)
    assert again.verified
    assert not AuditEvent.objects.filter(action="oauth_client:change_document").exists()


# --- What an admin decides ------------------------------------------------------------------------


@pytest.mark.requirement("AZ-10", "T23")
@pytest.mark.parametrize(
    ("hosts", "allowed"),
    [
        ([], True),
        (["localhost"], True),
        (["LOCALHOST "], True),
        (["other.example", "localhost"], True),
        (["other.example"], False),
        (["ocalhost"], False),
        ([".ocalhost"], False),
        ("localhost", False),
        ([7], False),
    ],
)
def test_documents_come_only_from_allowed_hosts(hosts: object, allowed: bool, host: DocumentHost) -> None:
    policy(metadata_hosts=hosts)
    url = host.publish()

    assert known(url) if allowed else reason(url) == "host_not_allowed"
    assert bool(host.seen) == allowed


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("example.com", True), ("a.example.com", True), ("a.b.example.com", True), ("badexample.com", False)],
)
def test_a_dot_before_a_host_takes_its_subdomains_too(name: str, allowed: bool) -> None:
    assert RegistrationPolicy(metadata_hosts=[".example.com"]).takes_host(name) is allowed


@pytest.mark.requirement("AZ-10", "T9")
@pytest.mark.parametrize("change", [{"metadata_documents": "off"}, {"metadata_hosts": ["other.example"]}])
def test_a_client_that_was_known_is_shut_out_when_the_admin_says_so(change: dict[str, Any], host: DocumentHost) -> None:
    client = known(host.publish())
    assert client.is_usable(None)
    policy(**change)

    assert reason(host.url()) in ("off", "host_not_allowed")
    assert not client.is_usable(None)


def test_a_client_that_an_admin_turned_off_stays_off(host: DocumentHost) -> None:
    known(host.publish())
    OAuthClient.objects.update(enabled=False)
    expire()

    assert reason(host.url()) == "disabled"
    assert len(host.seen) == 1


@pytest.mark.requirement("T23")
def test_a_client_that_an_admin_made_with_such_an_id_is_never_replaced_by_a_document(host: DocumentHost) -> None:
    made = OAuthClient.objects.create(
        client_id=host.publish(),
        name="Made by hand",
        client_type="public",
        authorization_grant_type="authorization-code",
    )

    assert known(host.url()) == made
    assert known(host.url()).name == "Made by hand"
    assert host.seen == []


@pytest.mark.requirement("T24")
def test_new_documents_are_counted_like_registrations(host: DocumentHost) -> None:
    policy(registrations_per_hour=2)
    for name in ("a.json", "b.json"):
        assert isinstance(resolve(host.publish(name), address="192.0.2.1"), OAuthClient)
    third = resolve(host.publish("c.json"), address="192.0.2.1")

    assert isinstance(third, Refused)
    assert third.reason == "too_many"
    assert host.seen == ["/a.json", "/b.json"]
    assert isinstance(resolve(host.url("c.json"), address="192.0.2.2"), OAuthClient)


@pytest.mark.requirement("T24")
def test_new_documents_wait_when_too_many_clients_were_never_used(host: DocumentHost) -> None:
    policy(most_unused_clients=1)
    known(host.publish("a.json"))

    assert reason(host.publish("b.json")) == "full"
    OAuthClient.objects.update(last_used_at=timezone.now())
    assert known(host.url("b.json"))


# --- Copies of well-known clients -----------------------------------------------------------------


@pytest.mark.requirement("AZ-9", "AZ-6")
def test_the_copies_are_those_of_the_known_clients() -> None:
    assert set(known_clients.copies()) == set(KNOWN)


@pytest.mark.requirement("AZ-9")
@pytest.mark.parametrize("path", sorted(known_clients.BUILT_IN.glob("*.json")), ids=lambda path: path.stem)
def test_a_copy_says_where_it_comes_from_and_passes_what_a_fetched_document_has_to_pass(path: Any) -> None:
    copy = json.loads(path.read_text())

    assert copy["source"]
    assert datetime.strptime(copy["as_of"], "%Y-%m")
    assert read(copy["document"], private=frozenset()).redirect_uris == tuple(copy["document"]["redirect_uris"])


@pytest.mark.requirement("AZ-9", "F-203")
@pytest.mark.django_db
@pytest.mark.parametrize("client_id", KNOWN)
def test_a_network_without_internet_knows_the_well_known_clients(client_id: str) -> None:
    policy(metadata_documents="pinned")
    name, redirect_uri = KNOWN[client_id]
    client = known(client_id)

    assert client.name == name
    assert client.redirect_uri_allowed(redirect_uri)
    assert client.is_usable(None)


@pytest.mark.requirement("AZ-9")
def test_without_fetching_other_clients_are_unknown(host: DocumentHost) -> None:
    client = known(host.publish())
    policy(metadata_documents="pinned")

    assert reason(host.url("other.json")) == "not_built_in"
    assert reason(host.url()) == "not_built_in"
    assert not client.is_usable(None)
    assert host.seen == ["/client.json"]


@pytest.fixture
def own_copy(host: DocumentHost) -> Iterator[str]:
    """A copy that the operator laid into the data folder; returns its client id."""
    folder = environment.FOLDER / "known_clients"
    folder.mkdir()
    document = {"client_id": host.url(), "client_name": "Copy", "redirect_uris": ["http://127.0.0.1/callback"]}
    (folder / "own.json").write_text(json.dumps({"source": "us", "as_of": "2026-01", "document": document}))
    (folder / "broken.json").write_text("[")
    yield host.url()
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


@pytest.mark.requirement("AZ-9")
def test_a_copy_stands_in_when_a_fetch_fails_and_is_replaced_when_one_works(host: DocumentHost, own_copy: str) -> None:
    client = known(own_copy)

    assert client.name == "Copy"
    assert client.cimd_expires_at <= timezone.now() + timedelta(minutes=5)
    assert len(host.seen) == 1
    host.publish()
    client_documents.forget_failures()
    expire()
    assert known(own_copy).name == "Editor"


@pytest.mark.requirement("AZ-9")
def test_an_operator_adds_copies_of_their_own(own_copy: str, host: DocumentHost) -> None:
    policy(metadata_documents="pinned")

    assert known(own_copy).name == "Copy"
    assert host.seen == []


# --- As clients and people see it -----------------------------------------------------------------


@pytest.mark.requirement("AZ-10", "AZ-24", "F-203")
def test_a_document_that_cannot_be_used_gives_a_local_page_with_the_reason(host: DocumentHost) -> None:
    url = host.serve("client.json", b"", status=302, headers={"Location": "https://evil.example/"})
    answer = authorize(url, "http://localhost:51234/callback")

    assert answer.status_code == 400
    assert "Location" not in answer
    assert "redirects elsewhere" in answer.content.decode()
    assert "client_document_redirecting" in answer.content.decode()


@pytest.mark.requirement("AZ-24", "T15", "T23")
@pytest.mark.parametrize(
    "asked", ["http://evil.example/callback", "http://localhost.evil.example:1/callback", "http://[::1]:1/callback"]
)
def test_a_redirect_uri_that_the_document_does_not_list_gets_no_redirect(asked: str, host: DocumentHost) -> None:
    answer = authorize(host.publish(), asked)

    assert answer.status_code == 400
    assert "Location" not in answer


def token_error(**form: str) -> str:
    answer = Client().post("/token", urlencode(form), content_type="application/x-www-form-urlencoded")
    return str(answer.json()["error"])


@pytest.mark.requirement("AZ-10")
def test_the_token_endpoint_never_fetches(host: DocumentHost) -> None:
    form = {"grant_type": "authorization_code", "code": "x", "client_id": host.publish(), "resource": RESOURCE}

    assert token_error(**form) == "invalid_client"
    assert host.seen == []


@pytest.mark.requirement("AZ-10")
def test_the_token_endpoint_knows_a_stale_client_and_not_one_whose_documents_are_off(host: DocumentHost) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": "x", "client_id": host.publish(), "resource": RESOURCE}
    known(host.url())
    expire(since=timedelta(days=30))

    assert token_error(**form) == "invalid_grant"
    policy(metadata_documents="off")
    assert token_error(**form) == "invalid_client"
    assert len(host.seen) == 1
