"""The admin side of credentials upstream: the fields of each method, Discover, what ends with a change, connections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from authflows.models import Connection, OwnKey, UpstreamClient
from authflows.outbound import connections, registration
from authflows.outbound.token_endpoint import TokenAnswer
from servers.models import AccessRule, AuditEvent, AuthConfig, Change, PrivateDestination, Role, Server, StoredSecret
from servers.oauth_settings import OAuthSettings
from servers.secrets.store import set_secret
from tests.conftest import Cast, allow_private
from tests.servers.test_admin_access import page, signed_in
from tests.support.described_server import DescribedServer, as_json
from tests.support.mcp_upstream import calculator, requiring, serving

pytestmark = pytest.mark.django_db

SECRET = "canary-app-secret"
PROVIDER = "https://provider.example"
FORMSETS = {
    f"{prefix}-{name}": "0"
    for prefix in ("access_rules", "access_rules-2")
    for name in ("TOTAL_FORMS", "INITIAL_FORMS")
}
OAUTH = {
    "method": "oauth2",
    "registration": "pre_registered",
    "client_id": "app-1",
    "client_secret": SECRET,
    "scopes": "read  write read",
    "authorization_endpoint": f"{PROVIDER}/authorize",
    "token_endpoint": f"{PROVIDER}/token",
    "token_endpoint_auth_method": "client_secret_post",
    "lifetime_seconds": "900",
}


def values(server: Server, **changes: Any) -> dict[str, Any]:
    """What the form of a saved server posts, with some changes; None leaves a field out."""
    known: dict[str, Any] = {
        "name": server.name, "slug": server.slug, "description": "", "url": server.url, "enabled": "on",
        "method": "none", "connect_timeout": "10", "response_timeout": "120", "ca_certificate": "",
        "static_headers": "", "allowed_request_headers": "", "max_request_bytes": "", "group": "", **FORMSETS,
    }  # fmt: skip
    return {name: value for name, value in {**known, **changes}.items() if value is not None}


def save(person: Any, server: Server, **changes: Any) -> Any:
    return signed_in(person).post(page("servers_server_change", server.pk), values(server, **changes))


def saved(person: Any, server: Server, **changes: Any) -> AuthConfig:
    answer = save(person, server, **changes)
    assert answer.status_code == 302, answer.context["errors"]
    server.refresh_from_db()
    return AuthConfig.objects.get(server=server)


def errors_of(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 200
    found: dict[str, Any] = answer.context["adminform"].form.errors
    return found


def connect(person: Any, server: Server, *, account: str = "ada@example.com") -> Connection:
    """A connection of this person, as after a trip to the provider."""
    server = Server.objects.select_related("auth_config", "tenant").get(pk=server.pk)
    provider = OAuthSettings.read(server.auth_config.settings)
    client = registration.client_for(server, provider)
    assert isinstance(client, UpstreamClient)
    return connections.store(
        user=person, server=server, client=client, answer=TokenAnswer("canary-access", "canary-refresh", 3600, "read"),
        requested_scope="read", account_label=account, account_subject=account, lifetime_seconds=3600,
    )  # fmt: skip


# --- the fields


@pytest.mark.requirement("F-303", "F-313")
def test_an_app_is_saved_with_its_secret_in_the_store_and_never_shown_again(cast: Cast) -> None:
    config = saved(cast.manager, cast.server, **OAUTH, authorize_parameters="access_type: offline\nprompt: consent")
    found = OAuthSettings.read(config.settings)
    assert (found.client_id, found.scopes, found.issuer) == ("app-1", ("read", "write"), PROVIDER)
    assert found.authorize_parameters == {"access_type": "offline", "prompt": "consent"}
    assert (found.pkce, found.send_resource, found.lifetime_seconds) == (True, True, 900)
    assert found.client_secret == "secret://default:calculator:client-secret"
    assert StoredSecret.objects.get().key == "client-secret"
    shown = signed_in(cast.manager).get(page("servers_server_change", cast.server.pk)).content.decode()
    assert SECRET not in shown
    assert found.client_secret in shown
    assert SECRET not in str(list(AuthConfig.objects.values_list())) + str(list(AuditEvent.objects.values_list()))
    # An empty field keeps it; another value replaces it under the same name.
    again = saved(cast.manager, cast.server, **{**OAUTH, "client_secret": ""})
    assert OAuthSettings.read(again.settings).client_secret == found.client_secret
    saved(cast.manager, cast.server, **{**OAUTH, "client_secret": "another"})
    assert StoredSecret.objects.count() == 1


@pytest.mark.requirement("F-313", "CL-6")
def test_deviations_are_kept_and_shown_as_such(cast: Cast) -> None:
    config = saved(cast.admin, cast.server, **OAUTH, no_pkce="on", no_resource="on")
    found = OAuthSettings.read(config.settings)
    assert (found.pkce, found.send_resource) == (False, False)
    answer = signed_in(cast.admin).post(
        "/admin/what-will-happen/",
        values(cast.server, **{**OAUTH, "client_secret": ""}, no_pkce="on", no_resource="on", server_id=cast.server.pk),
        headers={"accept": "application/json"},
    )
    assert [line["what"] for line in answer.json()["plan"] if line["unusual"]] == ["Without PKCE", "Without resource"]


@pytest.mark.requirement("F-303")
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"client_id": ""}, "client_id"),
        ({"client_secret": ""}, "client_secret"),
        ({"token_endpoint": ""}, "token_endpoint"),
        ({"authorization_endpoint": ""}, "authorization_endpoint"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "authorization_endpoint"),
        ({"authorization_endpoint": "http://provider.example/a"}, "authorization_endpoint"),
        ({"token_endpoint": "http://provider.example/token"}, "token_endpoint"),
        ({"revocation_endpoint": "data:text/html,x"}, "revocation_endpoint"),
        ({"registration": "dynamic"}, "registration_endpoint"),
        ({"registration": "metadata_document"}, "registration"),
        ({"scopes": 'a"b'}, "scopes"),
        ({"authorize_parameters": "state: mine"}, "authorize_parameters"),
        ({"token_parameters": "no colon"}, "token_parameters"),
        ({"lifetime_seconds": "1"}, "lifetime_seconds"),
        ({"client_secret": "secret://default:nothing:here"}, "client_secret"),
        ({"client_secret": "<b>secret://default:nothing:here"}, "client_secret"),
        ({"token_endpoint_auth_method": "none"}, "client_secret"),
    ],
)
def test_what_cannot_work_is_said_at_its_field(cast: Cast, changes: dict[str, Any], field: str) -> None:
    answer = save(cast.admin, cast.server, **{**OAUTH, **changes})
    assert set(errors_of(answer)) == {field}
    assert SECRET not in answer.content.decode()
    assert AuthConfig.objects.get(server=cast.server).method == "none"


@pytest.mark.requirement("F-101")
def test_fields_of_other_methods_are_not_looked_at(cast: Cast) -> None:
    config = saved(cast.admin, cast.server, **{**OAUTH, "method": "none", "scopes": 'a"b', "token_endpoint": "x"})
    assert (config.method, config.settings) == ("none", {})
    changed = AuditEvent.objects.filter(action="server:change")
    assert not changed.exists() or "Scopes" not in str(changed.get().detail)


@pytest.mark.requirement("F-310")
def test_client_credentials_passthrough_and_exchange_have_their_own_fields(cast: Cast) -> None:
    config = saved(cast.admin, cast.server, **{**OAUTH, "method": "client_credentials", "authorization_endpoint": ""})
    assert OAuthSettings.read(config.settings).token_endpoint == f"{PROVIDER}/token"
    config = saved(
        cast.admin,
        cast.server,
        **{**OAUTH, "method": "token_exchange", "exchange_variant": "entra_obo", "exchange_audience": "api://x"},
    )
    assert config.settings["variant"] == "entra_obo"
    assert config.settings["audience"] == "api://x"
    assert config.settings["scopes"] == ["read", "write"]


@pytest.mark.requirement("T3", "F-310")
def test_passthrough_is_confirmed_for_one_origin_and_again_for_another(cast: Cast) -> None:
    chosen = {"method": "passthrough", "passthrough_header": "X-Upstream-Authorization"}
    assert "passthrough_confirm" in errors_of(save(cast.admin, cast.server, **chosen))
    config = saved(cast.admin, cast.server, **chosen, passthrough_confirm="on")
    assert config.settings["confirmed_origin"] == "http://127.0.0.1:9"
    moved = {"url": "https://93.184.216.34/mcp", **chosen, "passthrough_confirm": "on"}
    answer = save(cast.admin, cast.server, **moved, passthrough_for="http://127.0.0.1:9")
    assert "93.184.216.34" in str(errors_of(answer)["passthrough_confirm"])
    assert 'name="passthrough_for" value="https://93.184.216.34"' in answer.content.decode()
    config = saved(cast.admin, cast.server, **moved, passthrough_for="https://93.184.216.34")
    assert config.settings["confirmed_origin"] == "https://93.184.216.34"


@pytest.mark.requirement("F-308", "F-501")
def test_headers_with_placeholders_are_checked_and_references_in_them_need_a_tenant_admin(cast: Cast) -> None:
    set_secret(tenant=cast.tenant, group="other", key="key", value="canary", actor="t")
    chosen = {"method": "own_header", "own_headers": "Authorization: Bearer {{PAT}}", "own_labels": "PAT: Your token"}
    config = saved(cast.manager, cast.server, **chosen)
    assert config.settings["labels"] == {"PAT": "Your token"}
    assert "own_headers" in errors_of(save(cast.manager, cast.server, **{**chosen, "own_headers": "X-Key: constant"}))
    stolen = {**chosen, "own_headers": "X-A: {{PAT}}\nX-Key: secret://default:other:key", "own_labels": ""}
    assert "own_headers" in errors_of(save(cast.manager, cast.server, **stolen))
    saved(cast.admin, cast.server, **stolen)


@pytest.mark.requirement("T29", "F-501")
def test_a_stored_secret_does_not_follow_a_manager_to_another_token_endpoint(cast: Cast) -> None:
    saved(cast.admin, cast.server, **OAUTH)
    moved = {**OAUTH, "client_secret": "", "token_endpoint": "https://evil.example/token"}
    assert "another host" in str(errors_of(save(cast.manager, cast.server, **moved))["client_secret"])
    named = {**moved, "client_secret": "secret://default:calculator:client-secret"}
    assert "tenant admin" in str(errors_of(save(cast.manager, cast.server, **named))["client_secret"])
    saved(cast.manager, cast.server, **{**moved, "client_secret": "a new one"})


# --- Discover


@pytest.fixture
def described() -> Iterator[DescribedServer]:
    """A protected server with a provider, both on loopback."""
    with DescribedServer() as running:
        allow_private(running.url)
        running.protected_by(running.issues(), scopes_supported=["read"])
        yield running


def discovered(person: Any, server: Server | None, **changes: Any) -> Any:
    sent = values(server or Server(name="New", slug="new"), **changes)
    if server is not None:
        sent["server_id"] = server.pk
    return signed_in(person).post("/admin/discover/", sent, headers={"accept": "application/json"})


@pytest.mark.requirement("F-104", "F-307")
def test_discover_fills_the_form_and_saves_nothing(cast: Cast, described: DescribedServer) -> None:
    before = list(AuthConfig.objects.values_list())
    found = discovered(cast.admin, cast.server, url=described.url, method="oauth2").json()
    assert found["ok"], found
    assert found["values"]["token_endpoint"] == f"{described.origin}/token"
    assert found["values"]["registration"] == "dynamic"
    assert found["scopes"] == "read"
    assert found["switches"] == {"iss_supported": False, "discovered": True}
    assert [step["what"] for step in found["steps"]][-1] == "Scopes"
    assert list(AuthConfig.objects.values_list()) == before
    # What it filled in can be saved as it is, without an app.
    sent = {**found["values"], "scopes": found["scopes"], "discovered": "on", "lifetime_seconds": "3600"}
    config = saved(cast.admin, cast.server, url=described.url, method="oauth2", **sent)
    settings = OAuthSettings.read(config.settings)
    assert (settings.registration, settings.discovered, settings.issuer) == ("dynamic", True, described.origin)


@pytest.mark.requirement("F-104", "CL-7")
def test_discover_with_an_app_keeps_to_the_app(cast: Cast, described: DescribedServer) -> None:
    found = discovered(cast.admin, cast.server, url=described.url, method="oauth2", client_id="mine").json()
    assert found["values"]["registration"] == "pre_registered"


@pytest.mark.requirement("T20", "T26", "F-104")
def test_discover_tells_why_not_and_renders_no_link(cast: Cast, described: DescribedServer) -> None:
    described.protected_by(described.issues(authorization_endpoint="javascript:alert(1)"))
    found = discovered(cast.admin, cast.server, url=described.url, method="oauth2").json()
    assert not found["ok"]
    assert "values" not in found
    plain = signed_in(cast.admin).post(
        "/admin/discover/", values(cast.server, url=described.url, method="oauth2", server_id=cast.server.pk)
    )
    assert plain.status_code == 200
    assert "javascript:" not in plain.content.decode()
    PrivateDestination.objects.all().delete()
    asked = len(described.asked)
    assert not discovered(cast.admin, cast.server, url=described.url, method="oauth2").json()["ok"]
    assert len(described.asked) == asked


@pytest.mark.requirement("T21", "T22")
def test_changed_metadata_is_shown_and_counts_only_when_an_admin_saves_it(
    cast: Cast, described: DescribedServer
) -> None:
    found = discovered(cast.admin, cast.server, url=described.url, method="oauth2").json()
    sent = {**found["values"], "scopes": "read", "discovered": "on"}
    saved(cast.admin, cast.server, url=described.url, method="oauth2", **sent)
    assert discovered(cast.admin, cast.server, method="oauth2").json()["differences"] == []
    with DescribedServer() as evil:
        allow_private(evil.origin)
        described.issues(token_endpoint=f"{evil.origin}/token")
        again = discovered(cast.admin, cast.server, method="oauth2").json()
        assert again["differences"] == [f"Token endpoint: was {described.origin}/token, now {evil.origin}/token"]
        stored = OAuthSettings.read(AuthConfig.objects.get(server=cast.server).settings)
        assert stored.token_endpoint == f"{described.origin}/token", "the pinned copy stays"
        register(described)
        connect(cast.member, cast.server)
        moved = {**sent, "token_endpoint": f"{evil.origin}/token"}
        assert "confirm_ending" in errors_of(save(cast.admin, cast.server, method="oauth2", **moved))
        assert evil.asked == []


def register(described: DescribedServer) -> None:
    described.documents["/register"] = as_json({"client_id": "c", "client_secret": "canary-registered"}, 201)


@pytest.mark.requirement("F-501")
def test_who_manages_no_server_discovers_nothing(cast: Cast, described: DescribedServer) -> None:
    assert discovered(cast.outsider, None, url=described.url).status_code in (302, 403)
    assert discovered(cast.manager, None, url=described.url).status_code == 403
    other = Server.objects.create(tenant=cast.tenant, slug="other", name="Other", url=described.url)
    assert discovered(cast.manager, other).status_code == 404
    bundle = Server.objects.create(tenant=cast.tenant, slug="bundle", name="Bundle", kind=Server.Kind.VIRTUAL)
    assert discovered(cast.admin, bundle, url=described.url).status_code == 404
    assert described.asked == []


# --- what ends with a change


@pytest.fixture
def held(cast: Cast) -> Server:
    """A server to which the member and the manager are connected."""
    saved(cast.admin, cast.server, **OAUTH)
    for person in (cast.member, cast.manager):
        connect(person, cast.server, account=f"{person.username}@provider")
    return cast.server


@pytest.mark.requirement("F-315", "T29", "T21")
@pytest.mark.parametrize(
    "change",
    [
        {"url": "https://93.184.216.34/mcp"},
        {"method": "none"},
        {"method": "client_credentials"},
        {"issuer": "https://other.example"},
        {"client_id": "app-2"},
        {"token_endpoint": "https://other.example/token"},
    ],
)
def test_a_change_that_ends_connections_of_others_shows_whose_and_wants_the_slug(
    cast: Cast, held: Server, change: dict[str, str]
) -> None:
    before = AuthConfig.objects.get(server=held)
    answer = save(cast.manager, held, **{**OAUTH, **change})
    assert "confirm_ending" in errors_of(answer)
    text = answer.content.decode()
    assert "member@provider" in text
    assert "This change ends credentials of other people" in text
    assert Connection.objects.count() == 2
    assert AuthConfig.objects.get(server=held).settings == before.settings
    assert "confirm_ending" in errors_of(save(cast.manager, held, **{**OAUTH, **change}, confirm_ending="calc"))
    seen = Change.objects.filter(kind="connection").count()
    assert save(cast.manager, held, **{**OAUTH, **change}, confirm_ending="calculator").status_code == 302
    assert not Connection.objects.exists()
    assert Change.objects.filter(kind="connection").count() == seen + 2
    ended = AuditEvent.objects.filter(action="connection:revoke")
    assert {event.detail["person"] for event in ended} == {"member", "manager"}
    assert {event.actor for event in ended} == {"manager"}


@pytest.mark.requirement("F-315")
def test_a_change_that_ends_nothing_is_not_asked_about(cast: Cast, held: Server) -> None:
    allow_private(held.url)
    saved(cast.admin, held, **{**OAUTH, "scopes": "read", "no_resource": "on"}, description="new")
    saved(cast.admin, held, **{**OAUTH, "url": "http://127.0.0.1:9/other"})
    assert Connection.objects.count() == 2


@pytest.mark.requirement("F-315")
def test_what_ends_only_for_oneself_is_not_asked_about(cast: Cast, held: Server) -> None:
    Connection.objects.exclude(user=cast.manager).delete()
    saved(cast.manager, held, **{**OAUTH, "client_id": "app-2"})
    assert not Connection.objects.exists()


@pytest.mark.requirement("F-315", "T29")
def test_own_keys_end_with_the_address_and_the_method(cast: Cast) -> None:
    chosen = {"method": "own_header", "own_headers": "Authorization: Bearer {{PAT}}"}
    saved(cast.admin, cast.server, **chosen)

    def enter() -> None:
        OwnKey.objects.create(
            user=cast.member, server=cast.server, sealed_values="v1:k:x", origin="http://127.0.0.1:9", set_by="member"
        )

    enter()
    saved(cast.admin, cast.server, **{**chosen, "own_headers": "X-Key: {{PAT}}"})
    assert OwnKey.objects.exists()
    moved = {**chosen, "url": "https://93.184.216.34/mcp"}
    assert "a key of their own" in save(cast.admin, cast.server, **moved).content.decode()
    saved(cast.admin, cast.server, **moved, confirm_ending="calculator")
    assert not OwnKey.objects.exists()
    assert AuditEvent.objects.filter(action="own_key:remove").count() == 1


@pytest.mark.requirement("F-315")
def test_deleting_a_server_shows_whose_connections_end_and_wants_the_slug(cast: Cast, held: Server) -> None:
    client = signed_in(cast.admin)
    url = page("servers_server_delete", held.pk)
    shown = client.get(url).content.decode()
    assert "member@provider" in shown
    for typed in ({}, {"confirm_ending": "calc"}):
        assert "Nothing was deleted" in client.post(url, {"post": "yes", **typed}).content.decode()
    assert Server.objects.filter(pk=held.pk).exists()
    several = {"action": "delete_selected", "_selected_action": [held.pk], "post": "yes"}
    client.post(page("servers_server_changelist"), several)
    assert Server.objects.filter(pk=held.pk).exists()
    assert client.post(url, {"post": "yes", "confirm_ending": held.slug}).status_code == 302
    assert not Server.objects.filter(pk=held.pk).exists()
    assert not Connection.objects.exists()
    assert AuditEvent.objects.filter(action="connection:revoke").count() == 2


@pytest.mark.requirement("F-315")
def test_a_server_without_connections_is_deleted_as_before(cast: Cast) -> None:
    client = signed_in(cast.admin)
    several = {"action": "delete_selected", "_selected_action": [cast.server.pk], "post": "yes"}
    client.post(page("servers_server_changelist"), several)
    assert not Server.objects.filter(pk=cast.server.pk).exists()


# --- connections and clients


@pytest.mark.requirement("F-305", "F-501")
def test_connections_are_seen_and_revoked_by_who_manages_the_server(cast: Cast, held: Server) -> None:
    other = Server.objects.create(tenant=cast.tenant, slug="other", name="Other", url="http://127.0.0.1:8/mcp")
    AuthConfig.objects.create(
        server=other, method="oauth2", settings=OAuthSettings.read({"issuer": "x", "client_id": "y"}).stored()
    )
    theirs = connect(cast.member, other, account="secret@other")
    listed = signed_in(cast.manager).get(page("authflows_connection_changelist"))
    text = listed.content.decode()
    assert "member@provider" in text
    assert "secret@other" not in text
    assert signed_in(cast.manager).get(page("authflows_connection_change", theirs.pk)).status_code == 302
    assert signed_in(cast.manager).post(page("authflows_connection_revoke", theirs.pk)).status_code == 404
    mine = Connection.objects.get(user=cast.member, server=held)
    client = signed_in(cast.manager)
    detail = client.get(page("authflows_connection_change", mine.pk)).content.decode()
    assert "canary" not in text + detail
    assert PROVIDER in detail
    chosen = {"action": "revoke", "_selected_action": [mine.pk]}
    assert "Revoke connections?" in client.post(page("authflows_connection_changelist"), chosen).content.decode()
    assert Connection.objects.filter(pk=mine.pk).exists()
    answer = client.post(page("authflows_connection_changelist"), {**chosen, "confirmed": "yes"}, follow=True)
    assert "offers no revocation" in answer.content.decode()
    assert not Connection.objects.filter(pk=mine.pk).exists()
    assert Connection.objects.filter(pk=theirs.pk).exists()
    event = AuditEvent.objects.filter(action="connection:revoke").get()
    assert (event.actor, event.detail["person"]) == ("manager", "member")
    assert signed_in(cast.outsider).get(page("authflows_connection_changelist")).status_code in (302, 403)


@pytest.mark.requirement("F-307", "F-501")
def test_clients_at_providers_are_listed_and_cannot_be_changed(cast: Cast, held: Server) -> None:
    client = UpstreamClient.objects.get()
    listed = signed_in(cast.manager).get(page("authflows_upstreamclient_changelist")).content.decode()
    assert "app-1" in listed
    url = page("authflows_upstreamclient_change", client.pk)
    detail = signed_in(cast.manager).get(url).content.decode()
    assert "canary" not in detail
    assert signed_in(cast.manager).post(url, {"client_id": "x"}).status_code == 403
    AccessRule.objects.filter(user=cast.manager, role=Role.MANAGER).update(role=Role.USER)
    assert signed_in(cast.manager).get(url).status_code in (302, 403)


# --- Test connection


@pytest.mark.requirement("F-103", "F-303")
def test_a_test_uses_the_testers_own_connection_or_says_what_is_missing(cast: Cast) -> None:
    with serving(requiring(calculator(), "Authorization", "Bearer canary-access")) as url:
        allow_private(url)
        Server.objects.filter(pk=cast.server.pk).update(url=url)
        cast.server.refresh_from_db()
        saved(cast.admin, cast.server, **OAUTH)

        def tested(person: Any, **changes: Any) -> dict[str, Any]:
            sent = values(cast.server, **{**OAUTH, "client_secret": "", **changes}, server_id=cast.server.pk)
            answer = signed_in(person).post("/admin/test-connection/", sent, headers={"accept": "application/json"})
            found: dict[str, Any] = answer.json()
            return found

        without = tested(cast.admin)
        assert without["tools"] is None
        assert "Connect Now" in without["sentence"]
        connection = connect(cast.manager, cast.server)
        mine = tested(cast.manager)
        assert (mine["ok"], mine["tools"]) == (True, 2), mine
        assert "canary" not in str(mine)
        # What is typed in and leads elsewhere gets nothing of it.
        with DescribedServer() as elsewhere:
            allow_private(elsewhere.url)
            tested(cast.manager, url=elsewhere.url)
            assert b"canary" not in b"".join(body for _, _, body in elsewhere.asked)
        Connection.objects.filter(pk=connection.pk).update(
            state="needs_reconnect", last_error="invalid_grant", refreshed_at=timezone.now()
        )
        assert "connected again" in tested(cast.manager)["sentence"]


def test_no_script_is_needed_to_discover_or_to_see_the_plan(cast: Cast) -> None:
    shown = Client()
    shown.force_login(cast.admin)
    text = shown.get(page("servers_server_add")).content.decode()
    assert 'formaction="/admin/discover/"' in text
    assert "oauth2/callback" in text
    typed = values(Server(name="New", slug="new", url=""), **OAUTH)
    assert "Choose a tenant first." in shown.post("/admin/what-will-happen/", typed).content.decode()
    answer = shown.post("/admin/what-will-happen/", {**typed, "tenant": cast.tenant.pk})
    assert "Their browser opens" in answer.content.decode()
