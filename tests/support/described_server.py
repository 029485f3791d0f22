"""A host that says what a test tells it to: the documents of a protected MCP server and of a provider."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Reply = tuple[int, dict[str, str], bytes]


def as_json(value: Any, status: int = 200) -> Reply:
    """A JSON answer."""
    return status, {"Content-Type": "application/json"}, json.dumps(value).encode()


def redirect(url: str) -> Reply:
    """An answer that points elsewhere."""
    return 302, {"Location": url}, b""


class DescribedServer:
    """A context manager on loopback. `url` is the MCP endpoint, which answers 401 with `challenge`.

    `documents` are the answers of other paths; `asked` is what came, as (method, path, body).
    """

    def __init__(self, path: str = "/mcp") -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        self.documents: dict[str, Reply] = {}
        self.challenge: str | None = "Bearer"
        self.status = 401
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                host.asked.append((self.command, self.path, body))
                status, headers, content = host.reply(self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_DELETE = do_GET

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.path = path
        self.url = f"{self.origin}{path}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def __enter__(self) -> DescribedServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def reply(self, path: str) -> Reply:
        """What a request for `path` is answered with."""
        if path in self.documents:
            return self.documents[path]
        if path == self.path:
            return self.status, {} if self.challenge is None else {"WWW-Authenticate": self.challenge}, b""
        return as_json({"error": "not_found"}, 404)

    def paths(self) -> list[str]:
        """What was asked for besides the MCP endpoint, in order."""
        return [path for _, path, _ in self.asked if path != self.path]

    def protected_by(self, issuer: str, **changes: Any) -> None:
        """Publish resource metadata at the path-inserted address."""
        self.documents[f"/.well-known/oauth-protected-resource{self.path}"] = as_json(
            {"resource": self.url, "authorization_servers": [issuer], **changes}
        )

    def issues(self, path: str = "", *, at: str = "/.well-known/oauth-authorization-server", **changes: Any) -> str:
        """Publish an issuer's metadata on this host; returns the issuer. A change to None takes a field away."""
        issuer = f"{self.origin}{path}"
        known = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/authorize",
            "token_endpoint": f"{issuer}/token",
            "registration_endpoint": f"{issuer}/register",
            "code_challenge_methods_supported": ["S256"],
            **changes,
        }
        self.documents[at] = as_json({name: value for name, value in known.items() if value is not None})
        return issuer
