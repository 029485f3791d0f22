"""A web host of metadata documents: real HTTPS on loopback, with an authority that only the test run trusts."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from authflows.inbound.oauth.client_documents import Refused, resolve
from authflows.models import OAuthClient
from servers.egress import tls_context
from tests.servers.test_egress import certificate
from tests.support import environment

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


class DocumentHost:
    """`origin` is its URL; `seen` are the paths that were asked for."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.seen: list[str] = []
        self._answers: dict[str, Answer] = {}

    def url(self, name: str = "client.json") -> str:
        """The address of a document, which is its client id."""
        return f"{self.origin}/{name}"

    def publish(self, name: str = "client.json", *, headers: dict[str, str] | None = None, **fields: Any) -> str:
        """Serve a good document with these fields instead of the usual ones (None: without); returns its URL."""
        document = {
            "client_id": self.url(name),
            "client_name": "Editor",
            "redirect_uris": ["http://localhost/callback", "http://127.0.0.1/callback"],
            "token_endpoint_auth_method": "none",
        } | fields
        body = json.dumps({key: value for key, value in document.items() if value is not None}).encode()
        return self.serve(name, body, headers=headers)

    def serve(self, name: str, body: bytes, *, status: int = 200, headers: dict[str, str] | None = None) -> str:
        """Serve any answer; returns its URL."""

        def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            sent = {"Content-Type": "application/json", "Content-Length": str(len(body))} | (headers or {})
            for header, value in sent.items():
                if value:
                    handler.send_header(header, value)
            handler.end_headers()
            handler.wfile.write(body)

        return self.answer(name, answer)

    def answer(self, name: str, answer: Answer) -> str:
        """Let a function answer; returns the URL."""
        self._answers[f"/{name}"] = answer
        return self.url(name)

    def answer_of(self, url: str) -> Answer:
        """What answers at this URL now."""
        return self._answers[url.removeprefix(self.origin)]

    def handle(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        """One request."""
        self.seen.append(handler.path)
        answer = self._answers.get(handler.path)
        if answer is None:
            handler.send_error(404)
        else:
            with suppress(OSError):  # who asked may be gone
                answer(handler)


@contextmanager
def document_host(monkeypatch: pytest.MonkeyPatch) -> Iterator[DocumentHost]:
    """A running host whose certificate the gateway trusts, as an operator's own authority would be trusted."""
    pem, context = certificate("localhost")
    authority = environment.FOLDER / "document-host.pem"
    authority.write_text(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    tls_context.cache_clear()
    try:
        with _serving(context) as host:
            yield host
    finally:
        monkeypatch.delenv("SSL_CERT_FILE")
        tls_context.cache_clear()


@contextmanager
def _serving(context: ssl.SSLContext) -> Iterator[DocumentHost]:
    hosts: list[DocumentHost] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hosts[0].handle(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
    hosts.append(DocumentHost(f"https://localhost:{server.server_address[1]}"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hosts[0]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def known(url: str) -> OAuthClient:
    """The client of this document, which is known now."""
    found = resolve(url)
    assert isinstance(found, OAuthClient), found
    return found


def reason(url: str) -> str:
    """Why this document makes no client, in one word."""
    found = resolve(url)
    assert isinstance(found, Refused), found
    assert found.sentence.endswith(".")
    return found.reason
