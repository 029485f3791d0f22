"""An authorization server on loopback that does everything right until a test tells it otherwise, path by path.

It rotates refresh tokens and ends the whole authorization when a used one comes back, as strict providers do. All
that it gives out (codes, tokens, its clients' secrets) stands in `given`, all that it is asked in `asked`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

Reply = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True)
class Asked:
    """One request that came in; header names in lower case."""

    method: str
    path: str
    form: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass
class Grant:
    """What one person allowed: the tokens that hold now."""

    subject: str
    code: str
    challenge: str
    redirect_uri: str
    access_token: str = ""
    refresh_token: str = ""
    used: set[str] = field(default_factory=set)
    ended: bool = False


def as_json(value: Any, status: int = 200, **headers: str) -> Reply:
    """A JSON answer."""
    return status, {"Content-Type": "application/json", **headers}, json.dumps(value).encode()


def as_html(text: str, status: int = 200, **headers: str) -> Reply:
    """A page."""
    return status, {"Content-Type": "text/html", **headers}, text.encode()


def redirect(url: str, status: int = 307) -> Reply:
    """A redirect."""
    return status, {"Location": url}, b""


class FaultyProvider:
    """A context manager. `issuer` is its address; `replies` and what follows it are what it is to do wrong."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.given: set[str] = set()
        # By path: an answer in place of the right one; None goes on to the right one.
        self.replies: dict[str, Callable[[Asked], Reply | None]] = {}
        # Over what its metadata and its token answers would say; None takes a name away.
        self.metadata_changes: dict[str, Any] = {}
        self.token_changes: dict[str, Any] = {}
        self.rotates = True
        # By path: an answer that comes byte by byte until the event is set.
        self.trickles: dict[str, threading.Event] = {}
        self.clients: dict[str, str] = {}
        self.grants: list[Grant] = []
        self._lock = threading.Lock()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(b"")

            def do_POST(self) -> None:
                self._answer(self.rfile.read(int(self.headers.get("Content-Length", 0))))

            def _answer(self, body: bytes) -> None:
                parts = urlsplit(self.path)
                is_json = "json" in self.headers.get("Content-Type", "")
                form = json.loads(body) if is_json and body else dict(parse_qsl(body.decode() or parts.query))
                headers = {name.lower(): value for name, value in self.headers.items()}
                status, more, content = provider._reply(Asked(self.command, parts.path, form, headers))
                try:
                    if parts.path in provider.trickles:
                        self._trickle(provider.trickles[parts.path])
                        return
                    self.send_response(status)
                    for name, value in more.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except OSError:
                    self.close_connection = True  # who asked has given up

            def _trickle(self, over: threading.Event) -> None:
                self.close_connection = True
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                while not over.wait(0.02):
                    self.wfile.write(b" ")

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.issuer = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> FaultyProvider:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    # --- for tests

    def add_client(self, redirect_uri: str) -> tuple[str, str]:
        """An app of ours: its id and secret."""
        client_id = f"app-{len(self.clients) + 1}"
        self.clients[client_id] = self._secret("app-secret")
        return client_id, self.clients[client_id]

    def sign_in(self, url: str, account: str = "2001", *, decision: str = "allow", **changes: str | None) -> str:
        """Where the browser is sent back to from the authorization URL `url`; `changes` are of that answer."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        answer: dict[str, str | None] = {"state": asked["state"], "iss": self.issuer}
        if decision == "allow":
            code = self._secret("code")
            self.grants.append(Grant(account, code, asked.get("code_challenge", ""), asked["redirect_uri"]))
            answer["code"] = code
        else:
            answer |= {"error": "access_denied", "error_description": "The person said no."}
        answer |= changes
        sent = {name: value for name, value in answer.items() if value is not None}
        return f"{asked['redirect_uri']}?{urlencode(sent)}"

    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [one.path for one in self.asked]

    def forms(self, path: str) -> list[Mapping[str, str]]:
        """What was sent to a path, in order."""
        return [one.form for one in self.asked if one.path == path]

    def always(self, path: str, reply: Reply) -> None:
        """From now on `path` answers with this."""
        self.replies[path] = lambda _: reply

    # --- what it says

    def _reply(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
        wrong = self.replies[asked.path](asked) if asked.path in self.replies else None
        return wrong if wrong is not None else self.right_answer(asked)

    def right_answer(self, asked: Asked) -> Reply:
        """What it says when nobody interferes; tokens that it gives hold from now on."""
        known: dict[str, Callable[[Asked], Reply]] = {
            "/.well-known/oauth-authorization-server": lambda _: as_json(self.metadata()),
            "/register": self._register,
            "/token": self._token,
            "/revoke": self._revoke,
            "/userinfo": self._userinfo,
        }
        with self._lock:
            return known[asked.path](asked) if asked.path in known else as_json({"error": "not_found"}, 404)

    def metadata(self) -> dict[str, Any]:
        """Its metadata."""
        right = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "revocation_endpoint": f"{self.issuer}/revoke",
            "registration_endpoint": f"{self.issuer}/register",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "response_types_supported": ["code"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            "authorization_response_iss_parameter_supported": True,
        }
        return _without_none({**right, **self.metadata_changes})

    def _secret(self, kind: str) -> str:
        made = f"canary-{kind}-{secrets.token_urlsafe(24)}"
        self.given.add(made)
        return made

    def _client_of(self, asked: Asked) -> str | None:
        scheme, _, encoded = asked.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return None
        client_id, _, secret = base64.b64decode(encoded).decode().partition(":")
        return client_id if self.clients.get(client_id) == secret else None

    def _register(self, asked: Asked) -> Reply:
        client_id, secret = self.add_client("")
        return as_json({**asked.form, "client_id": client_id, "client_secret": secret}, 201)

    def _token(self, asked: Asked) -> Reply:
        if self._client_of(asked) is None:
            return as_json({"error": "invalid_client"}, 401)
        if asked.form.get("grant_type") == "refresh_token":
            grant = self._refreshed(asked.form.get("refresh_token", ""))
        else:
            grant = self._redeemed(asked.form)
        if grant is None:
            return as_json({"error": "invalid_grant"}, 400)
        grant.access_token = self._secret("access")
        if not grant.refresh_token or self.rotates:
            grant.used.add(grant.refresh_token)
            grant.refresh_token = self._secret("refresh")
        right = {
            "access_token": grant.access_token,
            "refresh_token": grant.refresh_token,
            "token_type": "Bearer",
            "expires_in": 300,
            "scope": "files.read",
        }
        return as_json(_without_none({**right, **self.token_changes}))

    def _refreshed(self, token: str) -> Grant | None:
        for grant in self.grants:
            if token in grant.used:
                grant.ended = True
            if token == grant.refresh_token and not grant.ended:
                return grant
        return None

    def _redeemed(self, form: Mapping[str, str]) -> Grant | None:
        proof = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(proof).rstrip(b"=").decode()
        wanted = (form.get("code"), form.get("redirect_uri"), challenge)
        found = (grant for grant in self.grants if (grant.code, grant.redirect_uri, grant.challenge) == wanted)
        grant = next(found, None)
        if grant is not None:
            grant.code = ""
        return grant

    def _revoke(self, asked: Asked) -> Reply:
        if self._client_of(asked) is None:
            return as_json({"error": "invalid_client"}, 401)
        for grant in self.grants:
            if asked.form.get("token") in (grant.access_token, grant.refresh_token):
                grant.ended = True
        return 200, {}, b""

    def _userinfo(self, asked: Asked) -> Reply:
        token = asked.headers.get("authorization", "").removeprefix("Bearer ")
        for grant in self.grants:
            if token == grant.access_token:
                return as_json({"sub": grant.subject, "email": f"{grant.subject}@example.com"})
        return as_json({"error": "invalid_token"}, 401)


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
