"""Discover: what a server and its provider publish, at a real provider and at hosts that say something wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from authflows.outbound.discovery import Discovered, NotDiscovered, discover
from servers.models import PrivateDestination
from tests.conftest import allow_private
from tests.support.described_server import DescribedServer, as_json, redirect
from tests.support.oidc_provider import OidcProvider

pytestmark = pytest.mark.django_db

PATH_INSERTED = "/.well-known/oauth-protected-resource/mcp"
ROOT = "/.well-known/oauth-protected-resource"
RFC8414 = "/.well-known/oauth-authorization-server"
OIDC = "/.well-known/openid-configuration"


@pytest.fixture
def server() -> Iterator[DescribedServer]:
    """A protected server on loopback, which an admin allowed."""
    with DescribedServer() as running:
        allow_private(running.url)
        yield running


def found(url: str) -> Discovered:
    outcome = discover(url)
    assert isinstance(outcome, Discovered), outcome
    return outcome


def refused(url: str) -> NotDiscovered:
    outcome = discover(url)
    assert isinstance(outcome, NotDiscovered), outcome
    assert outcome.sentence.endswith(".")
    return outcome


@pytest.mark.node
@pytest.mark.requirement("F-104", "CL-1", "CL-3", "CL-5", "CL-12")
def test_the_challenge_leads_to_a_real_provider(server: DescribedServer, oidc_provider: OidcProvider) -> None:
    allow_private(oidc_provider.issuer)
    server.challenge = f'Bearer error="invalid_token", resource_metadata="{server.origin}/about", scope="read"'
    server.documents["/about"] = as_json(
        {"resource": server.url, "authorization_servers": [oidc_provider.issuer], "scopes_supported": ["read", "write"]}
    )
    outcome = found(server.url)
    settings, published = outcome.settings, oidc_provider.metadata()
    assert settings.issuer == oidc_provider.issuer
    assert settings.authorization_endpoint == published["authorization_endpoint"]
    assert settings.token_endpoint == published["token_endpoint"]
    assert settings.revocation_endpoint == published["revocation_endpoint"]
    assert settings.registration_endpoint == published["registration_endpoint"]
    assert settings.userinfo_endpoint == published["userinfo_endpoint"]
    assert (settings.discovered, settings.pkce, settings.send_resource) == (True, True, True)
    assert settings.iss_supported
    assert settings.registration == "dynamic"
    # The challenge's scope and not all that the resource lists; what keeps the connection is added.
    assert settings.scopes == ("read", "offline_access")
    assert server.paths() == ["/about"]
    assert [step.what for step in outcome.steps][:2] == [
        "Ask the server without a credential (server/discover)",
        "Resource metadata (RFC 9728)",
    ]


@pytest.mark.requirement("CL-1")
def test_without_metadata_in_the_challenge_the_inserted_path_comes_before_the_root(server: DescribedServer) -> None:
    issuer = server.issues()
    server.documents[ROOT] = as_json({"resource": server.url, "authorization_servers": [issuer]})
    assert found(server.url).settings.issuer == issuer
    assert server.paths() == [PATH_INSERTED, ROOT, RFC8414]
    server.asked.clear()
    server.protected_by(issuer)
    assert found(server.url).settings.issuer == issuer
    assert server.paths() == [PATH_INSERTED, RFC8414]


@pytest.mark.requirement("CL-1")
def test_a_challenge_that_is_malformed_counts_as_none(server: DescribedServer) -> None:
    server.challenge = f'Bearer resource_metadata="{server.origin}/about", resource_metadata="https://evil.example/x"'
    server.protected_by(server.issues())
    found(server.url)
    assert server.paths()[0] == PATH_INSERTED


@pytest.mark.requirement("CL-1")
def test_a_server_that_asks_for_a_credential_only_later_is_discovered_too(server: DescribedServer) -> None:
    server.status, server.challenge = 200, None
    server.protected_by(server.issues())
    assert found(server.url).settings.discovered


@pytest.mark.requirement("CL-2")
@pytest.mark.parametrize(
    "resource", ["{origin}", "{origin}/", "{origin}/mcp/other", "{origin}/MCP", "https://evil.example/mcp", "{url}?a=b"]
)
def test_metadata_about_another_resource_is_refused(server: DescribedServer, resource: str) -> None:
    server.protected_by(server.issues(), resource=resource.format(origin=server.origin, url=server.url))
    assert refused(server.url).reason == "resource_mismatch"
    assert RFC8414 not in server.paths(), "the provider that it names is not even asked"


@pytest.mark.requirement("CL-2")
def test_a_slash_and_the_case_of_the_host_make_no_difference_but_are_noted(server: DescribedServer) -> None:
    named = server.url.replace("http://", "HTTP://") + "/"
    server.protected_by(server.issues(), resource=named)
    assert any(named in note for note in found(server.url).notes)


@pytest.mark.requirement("CL-2")
@pytest.mark.parametrize("resource", [None, 7, ["x"]])
def test_metadata_that_names_no_resource_is_refused(server: DescribedServer, resource: Any) -> None:
    server.protected_by(server.issues(), resource=resource)
    assert refused(server.url).reason == "resource_missing"


@pytest.mark.requirement("CL-3")
def test_metadata_of_an_issuer_with_a_path_is_looked_for_in_three_places_in_order(server: DescribedServer) -> None:
    issuer = server.issues("/tenant", at=f"/tenant{OIDC}")
    server.protected_by(issuer)
    assert found(server.url).settings.token_endpoint == f"{issuer}/token"
    assert server.paths() == [PATH_INSERTED, f"{RFC8414}/tenant", f"{OIDC}/tenant", f"/tenant{OIDC}"]


@pytest.mark.requirement("CL-3")
def test_metadata_of_an_issuer_without_a_path_is_looked_for_in_two(server: DescribedServer) -> None:
    server.protected_by(server.issues(at=OIDC))
    found(server.url)
    assert server.paths() == [PATH_INSERTED, RFC8414, OIDC]


@pytest.mark.requirement("CL-3")
@pytest.mark.parametrize("change", ["{issuer}/", "HTTP{rest}", "https://evil.example", "", None])
def test_an_issuer_that_differs_by_one_letter_is_another_issuer(server: DescribedServer, change: str | None) -> None:
    issuer = server.issues()
    named = None if change is None else change.format(issuer=issuer, rest=issuer.removeprefix("http"))
    server.issues(issuer=named)
    server.protected_by(issuer)
    assert refused(server.url).reason == "wrong_issuer"


@pytest.mark.requirement("CL-5")
@pytest.mark.parametrize("announced", [None, [], ["plain"], "S256", {"S256": True}])
def test_a_discovered_provider_without_s256_is_refused(server: DescribedServer, announced: Any) -> None:
    server.protected_by(server.issues(code_challenge_methods_supported=announced))
    assert refused(server.url).reason == "no_s256"


@pytest.mark.requirement("CL-4")
def test_a_server_of_2025_03_26_is_its_own_provider(server: DescribedServer) -> None:
    issuer = server.issues(registration_endpoint=None)
    outcome = found(server.url)
    assert (outcome.settings.issuer, outcome.settings.discovered) == (issuer, True)
    assert server.paths() == [PATH_INSERTED, ROOT, RFC8414]


@pytest.mark.requirement("CL-4")
def test_without_any_metadata_the_usual_paths_are_taken_if_they_answer(server: DescribedServer) -> None:
    server.documents["/authorize"] = (400, {}, b"response_type?")
    outcome = found(server.url)
    settings = outcome.settings
    assert settings.authorization_endpoint == f"{server.origin}/authorize"
    assert settings.token_endpoint == f"{server.origin}/token"
    assert settings.registration_endpoint == f"{server.origin}/register"
    assert (settings.issuer, settings.discovered, settings.pkce) == (server.origin, False, True)
    assert any("Check them" in note for note in outcome.notes)


@pytest.mark.requirement("CL-4", "F-104")
def test_a_server_that_wants_an_api_key_is_not_taken_for_oauth(server: DescribedServer) -> None:
    server.challenge = None
    assert refused(server.url).reason == "nothing_described"


@pytest.mark.requirement("F-104")
def test_a_server_that_needs_no_credential_is_told_from_the_others(server: DescribedServer) -> None:
    server.status, server.challenge = 200, None
    outcome = refused(server.url)
    assert outcome.reason == "not_protected"
    assert "No Auth" in outcome.sentence


@pytest.mark.requirement("CL-17", "T20")
@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "registration_endpoint"])
@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)", "data:text/html,x", "myapp://authorize", "http://provider.example/x",
        "//provider.example", "https://user@provider.example/", "https://provider.example/#x", "", 7, "https:///x",
    ],
)  # fmt: skip
def test_an_endpoint_that_is_no_https_address_is_refused(server: DescribedServer, name: str, url: Any) -> None:
    server.protected_by(server.issues(**{name: url}))
    assert refused(server.url).reason in ("endpoint_refused", "endpoint_missing")


@pytest.mark.requirement("CL-18", "T26")
@pytest.mark.parametrize(
    "place",
    [
        "http://169.254.169.254/latest", "https://169.254.169.254/", "https://127.1/", "https://0x7f000001/",
        "https://[::ffff:10.0.0.1]/", "https://[fd00::1]/", "https://localhost/", "https://10.0.0.1/",
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["metadata", "issuer", "token_endpoint"])
def test_nothing_inside_the_network_is_asked_whoever_names_it(server: DescribedServer, place: str, where: str) -> None:
    issuer = server.issues(**({"token_endpoint": place} if where == "token_endpoint" else {}))
    server.protected_by(place if where == "issuer" else issuer)
    if where == "metadata":
        server.challenge = f'Bearer resource_metadata="{place}"'
    assert refused(server.url).reason in ("address_refused", "endpoint_refused")


@pytest.mark.requirement("T27", "CL-18")
def test_an_allowed_server_does_not_make_the_provider_that_it_names_reachable(server: DescribedServer) -> None:
    with DescribedServer() as inside:
        server.protected_by(inside.issues())
        assert refused(server.url).reason == "address_refused"
        assert inside.asked == []
        server.challenge = f'Bearer resource_metadata="{inside.origin}/x"'
        assert refused(server.url).reason == "address_refused"
        assert inside.asked == []
        allow_private(inside.origin)
        server.challenge = "Bearer"
        assert found(server.url).settings.issuer == inside.origin


@pytest.mark.requirement("T26", "CL-18")
def test_a_redirect_is_not_followed(server: DescribedServer) -> None:
    with DescribedServer() as inside:
        inside.protected_by(inside.issues())
        for path in (PATH_INSERTED, ROOT, RFC8414, OIDC):
            server.documents[path] = redirect(f"{inside.origin}{path}")
        refused(server.url)
        assert inside.asked == []


@pytest.mark.requirement("T26", "F-104")
@pytest.mark.parametrize(
    "body", [b"<html>Sign in</html>", b"[1]", b"", b"{" * 5000, b'{"resource": "' + b"x" * 300_000 + b'"}', b"\xff\xfe"]
)
def test_what_is_no_document_is_none(server: DescribedServer, body: bytes) -> None:
    for path in (PATH_INSERTED, ROOT, RFC8414):
        server.documents[path] = (200, {"Content-Type": "application/json"}, body)
    assert refused(server.url).reason == "nothing_described"


def test_a_server_that_is_not_there_is_said_to_be_unreachable(server: DescribedServer) -> None:
    PrivateDestination.objects.create(host="127.0.0.1", port=9)
    assert refused("http://127.0.0.1:9/mcp").reason == "unreachable"
    assert refused("http://mcp.example/mcp").reason == "address_refused"


@pytest.mark.requirement("CL-7")
def test_our_metadata_document_is_preferred_where_the_provider_reads_it(server: DescribedServer, settings: Any) -> None:
    issuer = server.issues(
        client_id_metadata_document_supported=True, token_endpoint_auth_methods_supported=["none", "private_key_jwt"]
    )
    server.protected_by(issuer)
    outcome = found(server.url)
    assert outcome.settings.registration == "dynamic", "our public URL is not https"
    assert any("not https" in note for note in outcome.notes)
    settings.PUBLIC_URL = "https://gate.example"
    outcome = found(server.url)
    assert outcome.settings.registration == "metadata_document"
    assert outcome.settings.token_endpoint_auth_method == "private_key_jwt"
    server.issues(registration_endpoint=None)
    outcome = found(server.url)
    assert outcome.settings.registration == "pre_registered"
    assert any("App ID" in note for note in outcome.notes)


@pytest.mark.requirement("CL-12")
@pytest.mark.parametrize(
    ("challenge", "listed", "scopes"),
    [
        ('Bearer scope="a b"', ["x"], ("a", "b")),
        ("Bearer", ["x", "y", "x"], ("x", "y")),
        ("Bearer", None, ()),
        ("Bearer", ["fine", 'not"fine', "", 7, "with space"], ("fine",)),
    ],
)
def test_scopes_are_the_challenges_else_the_resources_else_none(
    server: DescribedServer, challenge: str, listed: Any, scopes: tuple[str, ...]
) -> None:
    server.challenge = challenge
    server.protected_by(server.issues(), scopes_supported=listed)
    assert found(server.url).settings.scopes == scopes
