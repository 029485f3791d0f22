"""A server that takes only certain keys, and people who enter theirs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from servers.models import AccessRule, AuthConfig, Server
from servers.own_header import OwnHeaderSettings
from tests.conftest import Cast, allow_private
from tests.support.mcp_upstream import App, calculator, serving

GOOD = "canary-own-key-one"
BETTER = "canary-own-key-two"


@dataclass
class Vault:
    """A running calculator that answers 401 to every key but these. `seen` are the keys that it was asked with."""

    url: str = ""
    keys: set[str] = field(default_factory=lambda: {GOOD, BETTER})
    seen: list[str] = field(default_factory=list)

    def guard(self, app: App) -> App:
        async def guarded(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            value = dict(scope.get("headers", ())).get(b"authorization", b"").decode()
            self.seen.append(value)
            if value.removeprefix("Bearer ") in self.keys:
                await app(scope, receive, send)
                return
            body = b'{"error":"bad key"}'
            await send(
                {"type": "http.response.start", "status": 401, "headers": [(b"content-type", b"application/json")]}
            )
            await send({"type": "http.response.body", "body": body})

        return guarded


@contextlib.contextmanager
def vault() -> Iterator[Vault]:
    """Run one; a context manager."""
    found = Vault()
    with serving(found.guard(calculator())) as url:
        found.url = url
        yield found


def make_server(cast: Cast, url: str, *headers: tuple[str, str], **labels: str) -> Server:
    """The server Vault, whose people (the member) enter a key of their own."""
    allow_private(url)
    server = Server.objects.create(tenant=cast.tenant, slug="vault", name="Vault", url=url)
    found = OwnHeaderSettings(headers or (("Authorization", "Bearer {{API_KEY}}"),), labels)
    AuthConfig.objects.create(server=server, method=AuthConfig.Method.OWN_HEADER, settings=found.stored())
    AccessRule.objects.create(server=server, user=cast.member)
    return with_config(server)


def with_config(server: Server) -> Server:
    """The row as it is stored now."""
    return Server.objects.select_related("auth_config", "tenant").get(pk=server.pk)
