"""An identity provider that answers as a test tells it to, faults included: OpenID, and GitHub's own kind.

Nobody signs in on its pages; a test takes `state` and `nonce` from where we send the browser, and comes back.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt

from tests.support.oidc_provider import Keys, keys

Reply = tuple[int, dict[str, str], bytes]


def as_json(value: Any, status: int = 200) -> Reply:
    """A JSON answer."""
    return status, {"Content-Type": "application/json"}, json.dumps(value).encode()


class OddProvider:
    """A context manager. `issuer` is its address; `replies` overrides paths; `asked` are the requests that came."""

    def __init__(self) -> None:
        self.keys: Keys = keys()
        self.asked: list[tuple[str, str, dict[str, list[str]], dict[str, str]]] = []
        self.replies: dict[str, Callable[[], Reply]] = {}
        self.metadata: dict[str, Any] = {}
        self.claims: dict[str, Any] = {}
        self.userinfo: dict[str, Any] | None = None
        self.algorithm = "RS256"
        self.signed_by: Keys = self.keys
        self.nonce = ""
        self.github: dict[str, Any] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(b"")

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

            def _answer(self, body: bytes) -> None:
                parts = urlsplit(self.path)
                form = parse_qs(body.decode() or parts.query, keep_blank_values=True)
                provider.asked.append((self.command, parts.path, form, {k.lower(): v for k, v in self.headers.items()}))
                status, headers, content = provider.reply(parts.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> OddProvider:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [path for _, path, _, _ in self.asked]

    def reply(self, path: str) -> Reply:
        """The answer for a path: the test's own, else what a good provider says."""
        if path in self.replies:
            return self.replies[path]()
        known = {
            "/.well-known/openid-configuration": self.described,
            "/token": self.token,
            "/jwks": lambda: {"keys": [public(jwk) for jwk in self.keys.jwks()]},
            "/userinfo": lambda: self.userinfo,
            "/login/oauth/access_token": lambda: {"access_token": "gho_example", "token_type": "bearer"},
            "/api/v3/user": lambda: self.github.get("user"),
            "/api/v3/user/emails": lambda: self.github.get("emails", []),
            "/api/v3/user/orgs": lambda: self.github.get("orgs", []),
            "/api/v3/user/teams": lambda: self.github.get("teams", []),
        }
        return as_json(known[path]()) if path in known else as_json({"error": "not_found"}, 404)

    def described(self) -> dict[str, Any]:
        """Its metadata."""
        found = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
        }
        if self.userinfo is not None:
            found["userinfo_endpoint"] = f"{self.issuer}/userinfo"
        return {**found, **self.metadata}

    def token(self) -> dict[str, Any]:
        """An answer of its token endpoint."""
        now = int(time.time())
        claims = {
            "iss": self.issuer, "sub": "2001", "aud": "gatehouse", "iat": now, "exp": now + 300, "nonce": self.nonce,
            **self.claims,
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        if self.algorithm == "none":
            token = jwt.encode(claims, None, algorithm="none")  # type: ignore[arg-type]
        elif self.algorithm.startswith("HS"):
            token = jwt.encode(claims, "a secret that both know, long enough", algorithm=self.algorithm)
        else:
            key, kid = self.signed_by.private[self.algorithm], self.keys.kids[self.algorithm]
            token = jwt.encode(claims, key, algorithm=self.algorithm, headers={"kid": kid})
        return {"access_token": "an access token", "token_type": "Bearer", "id_token": token}


def public(jwk: dict[str, Any]) -> dict[str, Any]:
    """A JWK without its private part."""
    return {name: value for name, value in jwk.items() if name not in ("d", "p", "q", "dp", "dq", "qi")}
