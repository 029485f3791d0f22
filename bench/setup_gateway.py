"""Fill a fresh gateway database for a measurement; prints JSON: the API key that opens every server, and an access
token of an OAuth client that opens `json`.

    python bench/setup_gateway.py UPSTREAM_PORT TLS_PORT CERTIFICATE.pem EXTRA_SERVERS [--engine]

Makes one server for each path of the fake upstream (json, sse, big, slow, tls) and EXTRA_SERVERS more
(s00000, s00001, ...), all with a shared credential from the secret store, all granted to one person, and one server
(connected) to which that person has connected an account. With --engine also what `setup_engine.py` makes.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import django

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
django.setup()

from django.contrib.auth import get_user_model  # noqa: E402
from django.db import transaction  # noqa: E402
from django.utils import timezone  # noqa: E402
from oauth2_provider.models import AccessToken, RefreshToken, set_token_value  # noqa: E402
from setup_engine import add_catalogues_and_virtual_servers, engine_servers  # noqa: E402

from authflows.inbound.api_keys import create_key  # noqa: E402
from authflows.inbound.oauth import approvals, tokens  # noqa: E402
from authflows.models import OAuthClient, UpstreamClient  # noqa: E402
from authflows.outbound import connections  # noqa: E402
from authflows.outbound.token_endpoint import TokenAnswer  # noqa: E402
from servers.models import AccessRule, AuthConfig, Membership, PrivateDestination, Role, Server  # noqa: E402
from servers.oauth_settings import OAuthSettings  # noqa: E402
from servers.secrets.store import set_secret  # noqa: E402
from servers.tenancy import default_tenant  # noqa: E402

ACTOR = "bench"


def main(upstream_port: int, tls_port: int, certificate: Path, extra: int, *, engine: bool) -> None:
    """Make the rows and print the key."""
    tenant = default_tenant()
    person = get_user_model().objects.create_user("bench", "bench@example.com")
    Membership.objects.get_or_create(tenant=tenant, user=person)
    set_secret(tenant=tenant, group="bench", key="token", value="bench-upstream-token", actor=ACTOR)
    for host, port in (("127.0.0.1", upstream_port), ("localhost", tls_port)):
        PrivateDestination.objects.create(host=host, port=port)
    base = f"http://127.0.0.1:{upstream_port}"
    servers = [
        Server(tenant=tenant, slug=slug, name=slug, url=base + path)
        for slug, path in (("json", "/mcp"), ("sse", "/sse"), ("big", "/big"), ("slow", "/slow"))
    ]
    tls = Server(tenant=tenant, slug="tls", name="tls", url=f"https://localhost:{tls_port}/mcp")
    tls.ca_certificate = certificate.read_text()
    servers.append(tls)
    servers += [Server(tenant=tenant, slug=f"s{n:05d}", name=f"Server {n}", url=f"{base}/mcp") for n in range(extra)]
    engines = engine_servers(tenant, f"{base}/mcp") if engine else []
    servers += engines
    configs = [AuthConfig(server=server, method=AuthConfig.Method.SHARED_HEADER) for server in servers]
    for config in configs:
        config.set_header_templates([("Authorization", "Bearer secret://default:bench:token")])
    with transaction.atomic():
        Server.objects.bulk_create(servers)
        AuthConfig.objects.bulk_create(configs)
        AccessRule.objects.bulk_create(AccessRule(server=server, user=person, role=Role.USER) for server in servers)
    if engines:
        add_catalogues_and_virtual_servers(tenant, person, engines)
    connect(person, base)
    _, key = create_key(owner=person, name="bench", actor=ACTOR)
    print(json.dumps({"key": key, "access_token": access_token(person, servers[0])}))


def connect(person: Any, base: str) -> None:
    """A server that is called with the person's own token, which the upstream takes like the shared one."""
    tenant = default_tenant()
    server = Server.objects.create(tenant=tenant, slug="connected", name="connected", url=f"{base}/mcp")
    settings = OAuthSettings(issuer="https://provider.example", token_endpoint="https://provider.example/token")
    AuthConfig.objects.create(server=server, method=AuthConfig.Method.OAUTH2, settings=settings.stored())
    AccessRule.objects.create(server=server, user=person, role=Role.USER)
    client = UpstreamClient.objects.create(
        tenant=tenant,
        issuer=settings.issuer,
        registration=UpstreamClient.Registration.PRE_REGISTERED,
        client_id=ACTOR,
        redirect_uri="https://gateway.example/callback",
    )
    connections.store(
        user=person,
        server=server,
        client=client,
        answer=TokenAnswer("bench-upstream-token", "bench-refresh-token", 24 * 3600, None),
        requested_scope="",
        account_label=ACTOR,
        account_subject=ACTOR,
        lifetime_seconds=3600,
    )


def access_token(person: Any, server: Server) -> str:
    """A token as a sign-in ends with, but one that lasts longer than any measurement."""
    client = OAuthClient.objects.create(
        name=ACTOR,
        redirect_uris="http://127.0.0.1/callback",
        client_type=OAuthClient.CLIENT_PUBLIC,
        authorization_grant_type=OAuthClient.GRANT_AUTHORIZATION_CODE,
    )
    approvals.approve(person, client, server, redirect_host="127.0.0.1")
    text = tokens.new_access_token()
    same = {"user": person, "application": client, "resource": [server.mcp_url]}
    access = AccessToken(scope="mcp", expires=timezone.now() + timedelta(days=1), **same)
    set_token_value(access, text)
    access.save()
    refresh = RefreshToken(access_token=access, token_family=uuid4(), **same)
    set_token_value(refresh, tokens.new_refresh_token())
    refresh.save()
    return text


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), engine="--engine" in sys.argv)
