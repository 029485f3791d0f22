"""Becoming a client at a provider: an app made there, our metadata document, dynamic registration."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import jwt
import pytest
from django.db import connections as databases
from django.test import Client
from django.utils import timezone

from authflows.models import Connection, UpstreamClient
from authflows.outbound import client_document, registration, token_endpoint
from authflows.outbound.client_keys import client_assertion
from authflows.outbound.registration import NotRegistered
from authflows.outbound.token_endpoint import TokenAnswer
from authflows.outbound.upstream_clients import facts_of
from servers.models import AuditEvent, Server
from servers.oauth_settings import OAuthSettings
from servers.secrets.store import set_secret
from tests.conftest import Cast, allow_private
from tests.support.described_server import DescribedServer, as_json
from tests.support.oidc_provider import OidcProvider

pytestmark = pytest.mark.django_db


@pytest.fixture
def provider() -> Iterator[DescribedServer]:
    """A provider that registers whoever asks."""
    with DescribedServer() as running:
        allow_private(running.origin)
        register(running)
        yield running


def register(provider: DescribedServer, status: int = 201, **answer: Any) -> None:
    """What it answers to a registration."""
    known = {"client_id": "c-1", "client_secret": "canary-registered-secret"}
    provider.documents["/register"] = as_json({**known, **answer}, status)


def settings_of(provider: DescribedServer, **changes: Any) -> OAuthSettings:
    known: dict[str, Any] = {
        "issuer": provider.origin,
        "authorization_endpoint": f"{provider.origin}/authorize",
        "token_endpoint": f"{provider.origin}/token",
        "registration_endpoint": f"{provider.origin}/register",
        "registration": "dynamic",
        "discovered": True,
    }
    return OAuthSettings(**known | changes)


def made(server: Server, settings: OAuthSettings) -> UpstreamClient:
    found = registration.client_for(server, settings)
    assert isinstance(found, UpstreamClient), found
    return found


def refused(server: Server, settings: OAuthSettings) -> NotRegistered:
    found = registration.client_for(server, settings)
    assert isinstance(found, NotRegistered), found
    return found


def connect(person: Any, server: Server, client: UpstreamClient) -> Connection:
    return Connection.objects.create(
        user=person, server=server, client=client, origin="http://127.0.0.1:9", sealed_access_token="v1:k:x",
        connected_at=timezone.now(),
    )  # fmt: skip


@pytest.mark.node
@pytest.mark.requirement("F-307", "CL-7", "CL-9")
def test_the_gateway_registers_itself_once_at_a_real_provider(cast: Cast, oidc_provider: OidcProvider) -> None:
    allow_private(oidc_provider.issuer)
    published = oidc_provider.metadata()
    settings = OAuthSettings(
        issuer=oidc_provider.issuer,
        token_endpoint=published["token_endpoint"],
        registration_endpoint=published["registration_endpoint"],
        registration="dynamic",
    )
    asked = oidc_provider.requests_for("/reg")
    client = made(cast.server, settings)
    other = Server.objects.create(tenant=cast.tenant, slug="other", name="Other", url="http://127.0.0.1:8/mcp")
    assert made(other, settings).pk == client.pk, "a registration serves all servers of the tenant"
    assert oidc_provider.requests_for("/reg") == asked + 1
    facts = facts_of(client)
    assert facts.secret
    assert facts.secret not in str(list(UpstreamClient.objects.values_list()))
    assert facts.secret not in str(list(AuditEvent.objects.values_list()))
    assert AuditEvent.objects.get(action="upstream_client:register").detail["issuer"] == oidc_provider.issuer
    # The provider knows it: a made-up code is refused as such, not the client.
    answer = token_endpoint.redeem_code(
        settings.token_endpoint, facts, code="x", redirect_uri=client.redirect_uri, verifier="", resource="", extra={}
    )
    assert not isinstance(answer, TokenAnswer)
    assert answer.code == "invalid_grant"


@pytest.mark.requirement("CL-9")
def test_what_a_registration_says_of_us(cast: Cast, provider: DescribedServer) -> None:
    made(cast.server, settings_of(provider))
    (body,) = [json.loads(body) for _, path, body in provider.asked if path == "/register"]
    assert body["application_type"] == "web"
    assert body["redirect_uris"] == [client_document.callback_url()]
    assert body["token_endpoint_auth_method"] == "client_secret_basic"
    assert body["grant_types"] == ["authorization_code", "refresh_token"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.requirement("CL-7", "CL-9")
def test_two_first_connects_at_the_same_time_register_once(cast: Cast, provider: DescribedServer) -> None:
    both, found = threading.Barrier(2), []
    under_way, looked = threading.Event(), threading.Semaphore(0)
    original = provider.reply

    def reply(path: str) -> Any:
        if path == "/register":
            under_way.set()
            # Only when the other one has looked twice: it came too late, and it waits.
            assert looked.acquire(timeout=10)
            assert looked.acquire(timeout=10)
            return as_json({"client_id": "c-1", "client_secret": "s"}, 201)
        return original(path)

    provider.reply = reply  # type: ignore[method-assign]

    def note(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        result = execute(sql, *rest)
        if under_way.is_set() and sql.startswith("SELECT") and UpstreamClient._meta.db_table in sql:
            looked.release()
        return result

    def first() -> None:
        both.wait(10)
        with databases["default"].execute_wrapper(note):
            found.append(registration.client_for(cast.server, settings_of(provider)))
        databases.close_all()

    threads = [threading.Thread(target=first) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [client.pk for client in found if isinstance(client, UpstreamClient)] == [
        UpstreamClient.objects.get().pk
    ] * 2
    assert provider.paths() == ["/register"]


@pytest.mark.requirement("CL-9")
def test_a_registration_that_a_dead_process_began_is_taken_over(cast: Cast, provider: DescribedServer) -> None:
    UpstreamClient.objects.create(
        tenant=cast.tenant, issuer=provider.origin, token_endpoint=f"{provider.origin}/token", registration="dynamic",
        lease_until=timezone.now() - timedelta(seconds=1),
    )  # fmt: skip
    assert made(cast.server, settings_of(provider)).client_id == "c-1"
    assert UpstreamClient.objects.count() == 1


@pytest.mark.requirement("CL-9")
def test_a_registration_that_the_provider_lost_is_made_anew_and_people_connect_again(
    cast: Cast, provider: DescribedServer
) -> None:
    settings = settings_of(provider)
    old = made(cast.server, settings)
    held = connect(cast.member, cast.server, old)
    registration.forget(old)
    registration.forget(old)
    held.refresh_from_db()
    assert (held.state, held.last_error) == ("needs_reconnect", "invalid_client")
    assert AuditEvent.objects.filter(action="connection:lost").count() == 1
    # At once it would be a loop with a provider that forgets everything.
    assert refused(cast.server, settings).reason == "registration_lost"
    UpstreamClient.objects.update(created_at=timezone.now() - timedelta(minutes=2))
    register(provider, client_id="c-2")
    new = made(cast.server, settings)
    assert (new.client_id, new.lost_at) == ("c-2", None)
    old.refresh_from_db()
    assert old.lost_at is not None


@pytest.mark.requirement("CL-9")
def test_a_secret_that_runs_out_is_replaced_before_it_does(cast: Cast, provider: DescribedServer) -> None:
    ends = int(timezone.now().timestamp()) + 3600
    register(provider, client_secret_expires_at=ends)
    first = made(cast.server, settings_of(provider))
    assert first.secret_expires_at is not None
    assert made(cast.server, settings_of(provider)).pk == first.pk
    UpstreamClient.objects.update(
        secret_expires_at=timezone.now() + timedelta(minutes=1),
        created_at=timezone.now() - timedelta(hours=1),
    )
    register(provider, client_id="c-2", client_secret_expires_at=0)
    second = made(cast.server, settings_of(provider))
    assert (second.client_id, second.secret_expires_at) == ("c-2", None)


@pytest.mark.requirement("CL-9")
@pytest.mark.parametrize(
    ("status", "answer", "reason"),
    [
        (400, {"error": "invalid_redirect_uri"}, "redirect_refused"),
        (403, {"error": "access_denied", "error_description": "<b>pay us</b>"}, "refused"),
        (500, {}, "refused"),
        (201, {"client_id": ""}, "answer_malformed"),
        (201, {"client_id": "a\nb"}, "answer_malformed"),
        (201, {"client_id": 7}, "answer_malformed"),
        (201, {"client_secret": ["x"]}, "answer_malformed"),
        (201, {"token_endpoint_auth_method": "tls_client_auth"}, "answer_malformed"),
        (201, {"redirect_uris": ["https://evil.example/"]}, "answer_malformed"),
    ],
)
def test_an_answer_that_cannot_be_used_leaves_nothing_behind(
    cast: Cast, provider: DescribedServer, status: int, answer: dict[str, Any], reason: str
) -> None:
    register(provider, status, **answer)
    outcome = refused(cast.server, settings_of(provider))
    assert outcome.reason == reason
    assert "pay us" not in outcome.sentence
    assert not UpstreamClient.objects.exists()


@pytest.mark.requirement("F-307")
def test_what_the_provider_settled_on_counts(cast: Cast, provider: DescribedServer) -> None:
    register(provider, client_secret=None)
    assert made(cast.server, settings_of(provider)).token_endpoint_auth_method == "none"
    UpstreamClient.objects.all().delete()
    register(provider, token_endpoint_auth_method="client_secret_post")
    assert made(cast.server, settings_of(provider)).token_endpoint_auth_method == "client_secret_post"


@pytest.mark.requirement("T26", "CL-18")
@pytest.mark.parametrize("endpoint", ["", "javascript:1", "http://provider.example/reg", "https://10.0.0.1/reg"])
def test_a_registration_goes_through_the_one_door(cast: Cast, provider: DescribedServer, endpoint: str) -> None:
    assert refused(cast.server, settings_of(provider, registration_endpoint=endpoint)).reason in (
        "no_registration",
        "address_refused",
    )


@pytest.mark.requirement("CL-10", "T22")
def test_a_registered_secret_belongs_to_one_token_endpoint(cast: Cast, provider: DescribedServer) -> None:
    first = made(cast.server, settings_of(provider))
    register(provider, client_id="c-2")
    elsewhere = made(cast.server, settings_of(provider, token_endpoint="https://evil.example/token"))
    assert elsewhere.pk != first.pk


@pytest.mark.requirement("F-303", "CL-10")
def test_the_same_app_id_at_another_server_reaches_no_secret_of_the_first(
    cast: Cast, provider: DescribedServer
) -> None:
    mine = set_secret(tenant=cast.tenant, group="mine", key="app", value="canary-app-secret", actor="t")
    app = settings_of(provider, registration="pre_registered", client_id="app", client_secret=mine.fqn)
    first = made(cast.server, app)
    other = Server.objects.create(tenant=cast.tenant, slug="other", name="Other", url="http://127.0.0.1:8/mcp")
    copied = made(other, settings_of(provider, registration="pre_registered", client_id="app"))
    assert facts_of(copied).secret == ""
    first.refresh_from_db()
    assert facts_of(first).secret == "canary-app-secret"
    assert made(cast.server, app).pk == first.pk


@pytest.mark.requirement("F-303", "CL-7")
def test_without_an_app_id_the_manager_is_asked(cast: Cast, provider: DescribedServer) -> None:
    assert refused(cast.server, settings_of(provider, registration="pre_registered")).reason == "no_client_id"


@pytest.mark.requirement("F-307", "CL-8")
def test_our_metadata_document_names_its_own_address_and_our_keys(client: Client, settings: Any) -> None:
    settings.PUBLIC_URL = "https://gate.example"
    client_id = client_document.client_id_for("private_key_jwt")
    assert client_id == "https://gate.example/.well-known/oauth-client/gatehouse"
    answer = client.get("/.well-known/oauth-client/gatehouse")
    document = answer.json()
    assert document["client_id"] == client_id
    assert document["client_name"] == "Gatehouse"
    assert document["redirect_uris"] == ["https://gate.example/api/svc/v1/llm-gateway/mcp-servers/oauth2/callback"]
    assert "client_secret" not in document
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "max-age" in answer.headers["Cache-Control"]
    keys = client.get(document["jwks_uri"].removeprefix("https://gate.example")).json()
    assert all("d" not in key for key in keys["keys"])
    assertion = client_assertion(client_id=client_id, audience="https://provider.example")
    known = jwt.PyJWKSet.from_dict(keys)
    key_id = jwt.get_unverified_header(assertion)["kid"]
    claims = jwt.decode(assertion, known[key_id].key, algorithms=["ES256"], audience="https://provider.example")
    assert claims["iss"] == claims["sub"] == client_id
    public = client.get("/.well-known/oauth-client/gatehouse-public").json()
    assert public["token_endpoint_auth_method"] == "none"
    assert public["client_id"].endswith("/gatehouse-public")
    assert client.get("/.well-known/oauth-client/other").status_code == 404


@pytest.mark.requirement("CL-7", "CL-8")
def test_our_document_is_the_client_only_where_our_url_is_https(
    cast: Cast, provider: DescribedServer, settings: Any
) -> None:
    chosen = settings_of(provider, registration="metadata_document", token_endpoint_auth_method="private_key_jwt")
    assert refused(cast.server, chosen).reason == "not_https"
    settings.PUBLIC_URL = "https://gate.example"
    client = made(cast.server, chosen)
    assert client.client_id == "https://gate.example/.well-known/oauth-client/gatehouse"
    assert client.token_endpoint_auth_method == "private_key_jwt"
    assert made(cast.server, chosen).pk == client.pk
    assert provider.asked == []
