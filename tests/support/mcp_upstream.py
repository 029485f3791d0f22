"""Upstreams for tests: the SDK's server on a socket of its own, and sockets that misbehave."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from mcp.server import MCPServer

App = Callable[[Any, Any, Any], Awaitable[None]]


def calculator(**options: Any) -> App:
    """The SDK's server, which speaks both eras, with two tools."""
    server = MCPServer("Calculator", version="1.2.3")

    @server.tool()
    def add(a: int, b: int) -> int:
        return a + b

    @server.tool()
    def subtract(a: int, b: int) -> int:
        return a - b

    return server.streamable_http_app(**options)


def requiring(app: App, header: str, value: str) -> App:
    """The same, answering 401 unless the header has the value."""

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        found = dict(scope.get("headers", ())).get(header.lower().encode())
        if scope["type"] == "http" and found != value.encode():
            await _say(send, 401, b"{}")
            return
        await app(scope, receive, send)

    return guarded


def legacy_only(app: App) -> App:
    """The same, refusing modern requests as servers do that never heard of them."""

    async def old(scope: Any, receive: Any, send: Any) -> None:
        if dict(scope.get("headers", ())).get(b"mcp-protocol-version") == b"2026-07-28":
            await _say(send, 400, _error(None, -32600, "Unsupported protocol version"))
            return
        await app(scope, receive, send)

    return old


def modern_only(app: App) -> App:
    """The same, refusing requests without the modern version header."""

    async def new(scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope.get("headers", ()))
        if scope["type"] == "http" and headers.get(b"mcp-protocol-version") != b"2026-07-28":
            await _say(send, 400, _error(None, -32022, "Unsupported", {"supported": ["2026-07-28"]}))
            return
        await app(scope, receive, send)

    return new


def _error(request_id: Any, code: int, message: str, data: Any = None) -> bytes:
    error = {"code": code, "message": message, **({"data": data} if data else {})}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "error": error}).encode()


async def _say(send: Any, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextlib.contextmanager
def serving(app: App, *, listener: socket.socket | None = None, **options: Any) -> Iterator[str]:
    """Serve the application in a thread on a free port; yields `http(s)://127.0.0.1:<port>/mcp`."""
    listener = listener or socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", lifespan="on", timeout_graceful_shutdown=1, **options)
    server = uvicorn.Server(config)
    started = threading.Event()
    original = server.startup

    async def startup(sockets: Any = None) -> None:
        await original(sockets=sockets)
        started.set()

    server.startup = startup  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    assert started.wait(20)
    scheme = "https" if "ssl_certfile" in options else "http"
    try:
        yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/mcp"
    finally:
        server.should_exit = True
        thread.join(10)


@contextlib.contextmanager
def answering(answer: Callable[[socket.socket, bytes], None]) -> Iterator[str]:
    """A socket whose every connection is read once and handed to `answer(connection, request)`."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def each(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            connection.settimeout(30)
            while True:
                request = _one_request(connection)
                if not request:
                    return
                answer(connection, request)

    def accept() -> None:
        while not over.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=each, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    finally:
        over.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)


def _one_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        part = connection.recv(65536)
        if not part:
            break
        body += part
    return head + b"\r\n\r\n" + body


def http_answer(status: str, body: bytes = b"", **headers: str) -> Callable[[socket.socket, bytes], None]:
    """An `answer` for `answering` that always says the same."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    whole = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body
    return lambda connection, _: connection.sendall(whole)


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for a host name or address; returns the paths of certificate and key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    try:
        other: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        other = x509.DNSName(name)
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([other]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, private = folder / f"{name}.pem", folder / f"{name}.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pem, private
