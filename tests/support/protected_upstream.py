"""An MCP server behind sign-in, with the SDK's own check of tokens: both eras, the provider's JWTs, RFC 9728."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import jwt
from mcp.server import MCPServer
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from mcp.server.auth.settings import AuthSettings

from tests.support.mcp_upstream import App, serving
from tests.support.oidc_provider import OidcProvider


@dataclass
class ProtectedUpstream:
    """A running one. `url` is its endpoint; `bearers` are the tokens that came, `refused` those that it refused."""

    url: str
    provider: OidcProvider
    # Added to what the document asks for, and to what is demanded of the tool `write_down`.
    write_scope: str = "write"
    bearers: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    # Tokens that it refuses although they are good, as after a withdrawal at the provider.
    withdrawn: Callable[[str], bool] = lambda _: False

    async def verify_token(self, token: str) -> AccessToken | None:
        """The SDK asks this of every request."""
        self.bearers.append(token)
        try:
            if self.withdrawn(token):
                raise jwt.InvalidTokenError("withdrawn")
            claims = jwt.decode(
                token,
                self.provider.keys.private["RS256"].public_key(),
                algorithms=["RS256"],
                audience=self.url,
                issuer=self.provider.issuer,
            )
        except jwt.InvalidTokenError:
            self.refused.append(token)
            return None
        return AccessToken(
            token=token,
            client_id=str(claims.get("client_id", "")),
            scopes=str(claims.get("scope", "")).split(),
            expires_at=claims["exp"],
            resource=self.url,
            subject=claims["sub"],
        )


def _needs_scope(app: App, upstream: ProtectedUpstream) -> App:
    """A call of `write_down` without the scope for it is refused as the specification says (403, RFC 6750)."""

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await app(scope, receive, send)
            return
        messages, body = [], b""
        while True:
            message = await receive()
            messages.append(message)
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        token = dict(scope["headers"]).get(b"authorization", b"").removeprefix(b"Bearer ").decode()
        if b'"write_down"' in body and b'"tools/call"' in body and upstream.write_scope not in _scopes(token):
            challenge = f'Bearer error="insufficient_scope", scope="{upstream.write_scope}"'
            headers = [(b"www-authenticate", challenge.encode()), (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 403, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return

        async def again() -> Any:
            return messages.pop(0) if messages else await receive()

        await app(scope, again, send)

    return guarded


def _scopes(token: str) -> list[str]:
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return []
    return str(claims.get("scope", "")).split()


@contextlib.contextmanager
def protected_upstream(provider: OidcProvider) -> Iterator[ProtectedUpstream]:
    """Run one; people sign in to it at the provider."""
    # Its documents name its own address, so that is chosen first.
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    upstream = ProtectedUpstream(url, provider)
    server = MCPServer(
        "Notebook",
        version="1",
        token_verifier=upstream,
        # From texts: a URL object puts a slash behind the issuer, which makes it another one.
        auth=AuthSettings.model_validate(
            {
                "issuer_url": provider.issuer,
                "resource_server_url": url,
                "required_scopes": ["read"],
                "validate_token_resource": True,
            }
        ),
    )

    @server.tool()
    def add(a: int, b: int) -> int:
        return a + b

    @server.tool()
    def whoami() -> str:
        token = get_access_token()
        return token.subject or "" if token else "nobody"

    @server.tool()
    def write_down(text: str) -> str:
        return f"written: {text}"

    with serving(_needs_scope(server.streamable_http_app(), upstream), listener=listener):
        yield upstream
