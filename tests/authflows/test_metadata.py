"""The documents below `/.well-known/`: what a client learns before it has anything."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import requests
from django.test import Client

from authflows.models import RegistrationPolicy
from tests.conftest import Cast
from tests.support.gateway import LiveGateway

RESOURCE = "/.well-known/oauth-protected-resource"
SERVER = ["/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"]
ISSUER = "http://127.0.0.1:8000"


# --- Of an MCP URL (RFC 9728) ---------------------------------------------------------------------


@pytest.mark.requirement("RS-1", "RS-2", "RS-4", "F-201")
@pytest.mark.parametrize("endpoint", ["server", "mcp"])
def test_each_mcp_url_has_a_document_that_names_it_byte_for_byte(endpoint: str, cast: Cast) -> None:
    answer = Client().get(f"{RESOURCE}/default/mcp/calculator/{endpoint}")

    assert answer.status_code == 200
    assert answer.json() == {
        "resource": f"{ISSUER}/default/mcp/calculator/{endpoint}",
        "authorization_servers": [ISSUER],
        "scopes_supported": ["mcp"],
        "bearer_methods_supported": ["header"],
        "resource_name": "MCP server behind Gatehouse",
    }


@pytest.mark.requirement("RS-1", "RS-2", "RS-4", "F-604")
def test_the_gateway_api_is_a_resource_of_its_own(cast: Cast) -> None:
    answer = Client().get(f"{RESOURCE}/api/v1")

    assert answer.status_code == 200
    assert answer.json() == {
        "resource": f"{ISSUER}/api/v1",
        "authorization_servers": [ISSUER],
        "scopes_supported": ["mcp"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Gateway API of Gatehouse",
    }


@pytest.mark.requirement("RS-1", "RS-11", "F-604")
@pytest.mark.parametrize("path", ["api/v1/", "API/v1", "api/v1/servers", "api", "api/v2", "api/svc/v1/mcp"])
def test_nothing_beside_the_address_of_the_api_has_its_document(cast: Cast, path: str) -> None:
    assert Client().get(f"{RESOURCE}/{path}").status_code == 404


@pytest.mark.requirement("RS-1", "RS-2", "RS-3", "RS-4", "AZ-2", "F-201")
@pytest.mark.parametrize("method", ["POST", "GET", "HEAD"])
def test_the_challenge_leads_to_the_document_and_on_to_the_server(
    method: str, cast: Cast, gateway: LiveGateway
) -> None:
    url = f"{gateway.origin}/default/mcp/calculator/server"
    challenge = requests.request(method, url, timeout=10).headers["WWW-Authenticate"]
    found = re.search(r'resource_metadata="([^"]+)"', challenge)
    assert found
    document = requests.get(found[1], timeout=10).json()
    (issuer,) = document["authorization_servers"]
    server = requests.get(f"{issuer}/.well-known/oauth-authorization-server", timeout=10).json()

    assert found[1] == f"{gateway.origin}/.well-known/oauth-protected-resource/default/mcp/calculator/server"
    assert document["resource"] == url
    assert server["issuer"] == issuer
    assert requests.post(server["registration_endpoint"], json={}, timeout=10).json()["error"] == "invalid_redirect_uri"


@pytest.mark.requirement("RS-6")
def test_the_resource_never_lists_offline_access(cast: Cast) -> None:
    assert b"offline_access" not in Client().get(f"{RESOURCE}/default/mcp/calculator/server").content


@pytest.mark.requirement("RS-1", "AZ-2")
def test_the_document_names_the_issuer_that_the_servers_document_has(cast: Cast) -> None:
    named = Client().get(f"{RESOURCE}/default/mcp/calculator/server").json()["authorization_servers"]

    assert [Client().get(url).json()["issuer"] for url in SERVER] == named * 2


@pytest.mark.requirement("RS-13")
def test_the_document_does_not_tell_whether_a_server_exists(cast: Cast) -> None:
    there = Client().get(f"{RESOURCE}/default/mcp/calculator/server")
    not_there = Client().get(f"{RESOURCE}/default/mcp/nothing/server")

    assert there.status_code == not_there.status_code == 200
    assert there.content.replace(b"calculator", b"nothing") == not_there.content
    assert dict(there.headers) | {"X-Request-Id": "", "Content-Length": ""} == dict(not_there.headers) | {
        "X-Request-Id": "",
        "Content-Length": "",
    }


@pytest.mark.requirement("RS-4")
@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/default/mcp/calculator/key",
        "/default/mcp/calculator/server/",
        "/default/mcp/calculator",
        "/default/mcp/a%20b/server",
        "/default/mcp/a%3Fb/server",
        "/default/mcp/../mcp/calculator/server",
        "/Default/mcp/calculator/server",
        "/portal/",
    ],
)
def test_no_other_path_has_one(path: str, cast: Cast) -> None:
    assert Client().get(f"{RESOURCE}{path}").status_code == 404


# --- Of the authorization server (RFC 8414) -------------------------------------------------------


@pytest.mark.requirement("AZ-2", "AZ-3", "AZ-11", "AZ-29", "F-201")
@pytest.mark.django_db
@pytest.mark.parametrize("url", SERVER)
def test_the_servers_document_says_what_clients_need(url: str) -> None:
    assert Client().get(url).json() == {
        "issuer": ISSUER,
        "authorization_endpoint": f"{ISSUER}/authorize",
        "token_endpoint": f"{ISSUER}/token",
        "registration_endpoint": f"{ISSUER}/register",
        "revocation_endpoint": f"{ISSUER}/revoke",
        "scopes_supported": ["mcp", "offline_access"],
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
        "revocation_endpoint_auth_methods_supported": ["none", "client_secret_basic", "client_secret_post"],
        "authorization_response_iss_parameter_supported": True,
        "client_id_metadata_document_supported": True,
    }


@pytest.mark.requirement("AZ-2")
@pytest.mark.django_db
@pytest.mark.parametrize("url", [*SERVER, f"{RESOURCE}/default/mcp/calculator/server"])
def test_a_host_header_never_gets_into_a_document(url: str) -> None:
    usual = Client().get(url)
    other = Client(headers={"host": "localhost:9999", "x-forwarded-host": "evil.example"}).get(url)

    assert other.content == usual.content
    assert Client(headers={"host": "evil.example"}).get(url).status_code == 400


@pytest.mark.requirement("AZ-2")
@pytest.mark.django_db
def test_the_issuer_is_the_public_url_byte_for_byte(settings: Any) -> None:
    settings.PUBLIC_URL = "https://gw.example.com:8443"

    assert {Client().get(url).json()["issuer"] for url in SERVER} == {"https://gw.example.com:8443"}


@pytest.mark.requirement("AZ-9", "AZ-12")
@pytest.mark.django_db
def test_what_an_admin_turned_off_is_not_advertised() -> None:
    RegistrationPolicy.objects.update(dynamic_registration=False, metadata_documents="off")
    document = Client().get(SERVER[0]).json()

    assert "registration_endpoint" not in document
    assert document["client_id_metadata_document_supported"] is False


@pytest.mark.requirement("AZ-2")
@pytest.mark.django_db
@pytest.mark.parametrize(
    "path",
    [
        "oauth-authorization-server/",
        "oauth-authorization-server/default/mcp/calculator/server",
        "openid-configuration/default/mcp/calculator/server",
        "oauth-protected-resource",
        "jwks.json",
        "nothing",
    ],
)
def test_other_well_known_paths_are_a_404_that_any_origin_can_read(path: str) -> None:
    answer = Client().get(f"/.well-known/{path}")

    assert answer.status_code == 404
    assert answer["Access-Control-Allow-Origin"] == "*"
    assert json.loads(answer.content)["error"] == "not_found"


# --- Of both --------------------------------------------------------------------------------------


@pytest.mark.requirement("RS-15")
@pytest.mark.django_db
@pytest.mark.parametrize("url", [*SERVER, f"{RESOURCE}/default/mcp/calculator/server"])
def test_the_documents_can_be_read_from_any_origin_and_by_head(url: str) -> None:
    got = Client().get(url, headers={"origin": "https://elsewhere.example"})
    head = Client().head(url)
    preflight = Client().options(
        url, headers={"origin": "https://elsewhere.example", "access-control-request-method": "GET"}
    )

    assert got["Access-Control-Allow-Origin"] == preflight["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in got
    assert got["Cache-Control"] == "public, max-age=60"
    assert (head.status_code, head.content, head["Content-Length"]) == (200, b"", str(len(got.content)))
    assert preflight.status_code == 204
    assert "GET" in preflight["Access-Control-Allow-Methods"]
    assert "MCP-Protocol-Version" in preflight["Access-Control-Allow-Headers"]
    assert Client().post(url).status_code == 405
