"""A server behind a provider's tokens, and people who are connected to it (or not), without a browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.utils import timezone

from authflows.models import Connection, UpstreamClient
from authflows.outbound import connections
from authflows.outbound.token_endpoint import TokenAnswer
from servers.models import AuthConfig, Server
from servers.oauth_settings import OAuthSettings
from servers.secrets.store import set_secret
from tests.conftest import Cast, allow_private
from tests.support.calls import point_at
from tests.support.faulty_provider import FaultyProvider, Grant
from tests.support.mcp_upstream import App
from tests.support.upstream import Answer, Request, Script, Upstream, mcp_server

REFRESH = "/token"


def bearer_of(request: Request) -> str:
    """The token that a request carries."""
    return (request.header("authorization") or "").removeprefix("Bearer ")


@dataclass
class Guarded:
    """The cast's server (the calculator) behind a provider, and what stands behind it."""

    server: Server
    provider: FaultyProvider
    upstream: Upstream
    client: UpstreamClient
    refused: set[str] = field(default_factory=set)
    """Tokens that the server refuses though they are good."""
    script: Script = mcp_server

    def holds(self, token: str) -> bool:
        """Whether the provider gave the token and has not ended it."""
        grants = (grant for grant in self.provider.grants if not grant.ended)
        return bool(token) and token not in self.refused and token in {grant.access_token for grant in grants}

    def answer(self, request: Request) -> Any:
        """What the upstream says: 401 with its own challenge, or what the script says."""
        if not self.holds(bearer_of(request)):
            challenge = ("WWW-Authenticate", 'Bearer error="invalid_token", resource_metadata="https://evil.example/"')
            return Answer(401, (challenge, ("Content-Type", "application/json")), b"{}")
        return self.script(request)

    def guard(self, app: App) -> App:
        """An application behind the same tokens."""

        async def guarded(scope: Any, receive: Any, send: Any) -> None:
            header = dict(scope.get("headers", ())).get(b"authorization", b"").decode()
            if scope["type"] == "http" and not self.holds(header.removeprefix("Bearer ")):
                await send(
                    {"type": "http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Bearer")]}
                )
                await send({"type": "http.response.body", "body": b""})
                return
            await app(scope, receive, send)

        return guarded

    def connect(
        self, user: Any, *, account: str = "", seconds: int | None = 3600, refreshable: bool = True
    ) -> Connection:
        """Keep a new authorization of the person, good for so many seconds."""
        account = account or f"{user.username}-there"
        grant = Grant(account, "", "", "")
        grant.access_token = self.provider._secret("access")
        grant.refresh_token = self.provider._secret("refresh") if refreshable else ""
        self.provider.grants.append(grant)
        answer = TokenAnswer(grant.access_token, grant.refresh_token, seconds, "files.read")
        return connections.store(
            user=user,
            server=Server.objects.select_related("tenant").get(pk=self.server.pk),
            client=self.client,
            answer=answer,
            requested_scope="files.read",
            account_label=f"{account}@example.com",
            account_subject=account,
            lifetime_seconds=3600,
        )

    def token_of(self, user: Any) -> str:
        """The person's present access token."""
        return connections.open_tokens(Connection.objects.get(user=user, server=self.server)).access_token

    def refreshes(self) -> int:
        """How often the provider was asked for tokens."""
        return len(self.provider.forms(REFRESH))

    def configure(self, **changes: Any) -> None:
        """Change the OAuth settings of the server."""
        config = AuthConfig.objects.get(server=self.server)
        config.settings = {**config.settings, **changes}
        config.save()


def expire(connection: Connection, *, seconds: float = -1) -> None:
    """Let the access token end in so many seconds; its lifetime was an hour."""
    ends_at = timezone.now() + timedelta(seconds=seconds)
    row = Connection.objects.get(pk=connection.pk)
    row.access_expires_at, row.connected_at = ends_at, ends_at - timedelta(hours=1)
    row.save()


@contextmanager
def guarded(cast: Cast) -> Iterator[Guarded]:
    """Run provider and upstream."""
    with FaultyProvider() as provider, Upstream() as upstream:
        allow_private(provider.issuer)
        point_at(cast.server, upstream)
        client_id, secret = provider.add_client("https://unused.example/")
        stored = set_secret(tenant=cast.tenant, group="calculator", key="app", value=secret, actor="test")
        settings = OAuthSettings(
            issuer=provider.issuer,
            authorization_endpoint=f"{provider.issuer}/authorize",
            token_endpoint=f"{provider.issuer}/token",
            revocation_endpoint=f"{provider.issuer}/revoke",
            client_id=client_id,
            client_secret=stored.fqn,
        )
        config = AuthConfig.objects.get(server=cast.server)
        config.method, config.settings = AuthConfig.Method.OAUTH2, settings.stored()
        config.save()
        client = UpstreamClient.objects.create(
            tenant=cast.tenant,
            issuer=provider.issuer,
            registration=UpstreamClient.Registration.PRE_REGISTERED,
            client_id=client_id,
            secret_reference=stored.fqn,
            redirect_uri="https://unused.example/",
        )
        found = Guarded(cast.server, provider, upstream, client)
        upstream.script = found.answer
        yield found
