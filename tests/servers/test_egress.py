"""The one door for outbound HTTP: which addresses may be called, and what a session does with an answer."""

from __future__ import annotations

import http.server
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from servers import egress
from servers.egress import checked_addresses, http_session, is_public, parse_destination, resolve, tls_context
from servers.errors import DestinationRefused
from servers.models import PrivateDestination
from tests.conftest import allow_private
from tests.support import environment

# --- URLs -----------------------------------------------------------------------------------------


@pytest.mark.requirement("T26")
@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "javascript:alert(1)",
        "unix:///var/run/docker.sock",
        "http:///path",
        "https://",
        "https://./",
        "https://:443/",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://@example.com/",
        "https://:@example.com/",
        "https://example.com@10.0.0.1/",
        "https://example.com/#fragment",
        "https://example.com/#",
        "https://example.com\\@10.0.0.1/",
        "https://example.com\t/",
        "https://exam\nple.com/",
        " https://example.com/",
        "https://example.com/ ",
        "https://exämple.com/",
        "https://example.com/ä",
        "https://example。com/",
        "https://①②⑦.①/",
        "https://example.com\x00/",
        "https://example.com:0/",
        "https://example.com:65536/",
        "https://example.com:-1/",
        "https://example.com:https/",
        "https://[::1/",
        "https://[not-an-address]/",
        "https://[v1.a]/",
    ],
)
def test_a_url_that_is_not_plain_http_is_refused(url: str) -> None:
    with pytest.raises(DestinationRefused):
        parse_destination(url)


@pytest.mark.parametrize(
    ("url", "host", "port", "target", "authority"),
    [
        ("https://example.com", "example.com", 443, "/", "example.com"),
        ("HTTPS://EXAMPLE.com./a/b?c=d", "example.com", 443, "/a/b?c=d", "example.com"),
        ("https://example.com:8443/", "example.com", 8443, "/", "example.com:8443"),
        ("http://calculator:80/mcp", "calculator", 80, "/mcp", "calculator"),
        ("http://calculator:443/mcp", "calculator", 443, "/mcp", "calculator:443"),
        ("http://[::1]:9000/mcp", "::1", 9000, "/mcp", "[::1]:9000"),
        ("https://xn--exmple-cua.com/%C3%A4", "xn--exmple-cua.com", 443, "/%C3%A4", "xn--exmple-cua.com"),
        ("https://example.com/a//b/../c?q=%2F@x", "example.com", 443, "/a//b/../c?q=%2F@x", "example.com"),
    ],
)
def test_a_url_is_taken_apart_as_it_goes_on_the_wire(
    url: str, host: str, port: int, target: str, authority: str
) -> None:
    found = parse_destination(url)
    assert (found.host, found.port, found.target, found.authority) == (host, port, target, authority)


# --- Addresses ------------------------------------------------------------------------------------

PUBLIC = ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::1"]
PRIVATE = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::10.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:a00:1::1",
    "2001:db8::1",
    "2002:a00:1::1",
    "2002:7f00:1::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]


@pytest.mark.requirement("T26")
@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.requirement("T26")
@pytest.mark.parametrize("address", PRIVATE)
def test_a_special_address_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.requirement("T26")
def test_one_private_address_among_public_ones_refuses_the_host() -> None:
    destination = parse_destination("https://mixed.example/")
    with pytest.raises(DestinationRefused, match="private"):
        checked_addresses(destination, ["8.8.8.8", "10.0.0.1"], allowed=False)
    with pytest.raises(DestinationRefused, match="private"):
        checked_addresses(destination, ["2606:4700::1", "::ffff:10.0.0.1"], allowed=False)


@pytest.mark.requirement("T26")
def test_the_internet_is_called_with_https_only() -> None:
    with pytest.raises(DestinationRefused, match="https"):
        checked_addresses(parse_destination("http://example.com/"), ["8.8.8.8"], allowed=False)
    assert checked_addresses(parse_destination("https://example.com/"), ["8.8.8.8", "8.8.8.8"], allowed=False) == [
        "8.8.8.8"
    ]


def test_a_host_without_an_address_is_refused() -> None:
    with pytest.raises(DestinationRefused, match="no address"):
        checked_addresses(parse_destination("https://example.com/"), [], allowed=True)


@pytest.mark.requirement("T26")
def test_an_allowed_name_does_not_lead_to_metadata_addresses() -> None:
    destination = parse_destination("http://internal.example:80/")
    assert checked_addresses(destination, ["10.0.0.1", "127.0.0.1"], allowed=True) == ["10.0.0.1", "127.0.0.1"]
    for address in ("169.254.169.254", "::ffff:169.254.169.254", "fe80::1%eth0", "0.0.0.0", "224.0.0.1"):
        with pytest.raises(DestinationRefused, match="link-local"):
            checked_addresses(destination, ["10.0.0.1", address], allowed=True)
    literal = parse_destination("http://169.254.169.254/")
    assert checked_addresses(literal, ["169.254.169.254"], allowed=True) == ["169.254.169.254"]


@contextmanager
def listening(family: socket.AddressFamily = socket.AF_INET) -> Iterator[tuple[int, Callable[[], bool]]]:
    """A port that nobody should reach, and a function that says whether somebody did."""
    with socket.socket(family) as listener:
        listener.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        listener.listen()
        listener.setblocking(False)

        def was_reached() -> bool:
            try:
                listener.accept()[0].close()
            except BlockingIOError:
                return False
            return True

        yield listener.getsockname()[1], was_reached


@pytest.mark.requirement("T26")
@pytest.mark.django_db
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0x7f000001",
        "0x7f.1",
        "2130706433",
        "017700000001",
        "0177.0.0.1",
        "0",
        "0.0.0.0",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "[fd00::1]",
        "[::ffff:10.0.0.1]",
        "10.0.0.1",
        "169.254.169.254",
        "[fe80::1]",
    ],
)
def test_no_spelling_of_a_private_address_opens_a_connection(host: str) -> None:
    with listening() as (port, was_reached):
        for scheme in ("http", "https"):
            with pytest.raises(DestinationRefused):
                http_session("test").get(f"{scheme}://{host}:{port}/", timeout=5, stream=True)
        assert not was_reached()


def answers(monkeypatch: pytest.MonkeyPatch, *rounds: list[str]) -> list[str]:
    """Let the system's resolver give these answers in turn; returns the names that were asked for."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        found = rounds[min(len(asked), len(rounds) - 1)]
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.requirement("T26", "T51")
@pytest.mark.django_db
def test_a_name_that_changes_between_look_ups_is_refused_at_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as (port, was_reached):
        url = f"https://rebinding.example:{port}/"
        answers(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])
        assert resolve(parse_destination(url)) == ["8.8.8.8"]
        with pytest.raises(DestinationRefused):
            http_session("test").get(url, timeout=5, stream=True)
        assert not was_reached()


@pytest.mark.requirement("T26", "T51")
@pytest.mark.django_db
def test_a_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answers(monkeypatch, ["8.8.8.8", "8.8.4.4"], ["127.0.0.1"])
    called: list[Any] = []

    def create_connection(address: Any, *args: Any, **options: Any) -> Any:
        called.append(address)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", create_connection)
    with pytest.raises(requests.ConnectionError):
        http_session("test").get("https://rebinding.example/", timeout=5)
    assert called == [("8.8.8.8", 443), ("8.8.4.4", 443)]
    assert asked == ["rebinding.example"]


@pytest.mark.django_db
def test_a_name_that_does_not_resolve_is_refused_in_words() -> None:
    with pytest.raises(DestinationRefused, match=r"nowhere\.invalid cannot be resolved"):
        resolve(parse_destination("https://nowhere.invalid/"))


# --- Allowed private destinations -----------------------------------------------------------------


@pytest.mark.requirement("T26", "T27")
@pytest.mark.django_db(transaction=True)
def test_a_private_destination_is_allowed_by_exact_host_and_port() -> None:
    PrivateDestination.objects.create(host="LocalHost", port=9000)
    assert resolve(parse_destination("http://localhost:9000/"))
    for url in ("http://localhost:9001/", "https://localhost/", "http://127.0.0.1:9000/", "http://127.1:9000/"):
        with pytest.raises(DestinationRefused):
            resolve(parse_destination(url))
    PrivateDestination.objects.all().delete()
    with pytest.raises(DestinationRefused):
        resolve(parse_destination("http://localhost:9000/"))


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_an_ipv6_destination_may_be_listed_with_or_without_brackets(host: str) -> None:
    PrivateDestination.objects.create(host=host, port=9000)
    assert resolve(parse_destination("http://[::1]:9000/")) == ["::1"]


@pytest.mark.django_db(transaction=True)
def test_the_allowed_destinations_are_read_once(django_assert_num_queries: Callable[[int], Any]) -> None:
    egress.private_destinations()
    with django_assert_num_queries(0):
        assert egress.private_destinations() == frozenset()


# --- Sessions -------------------------------------------------------------------------------------


class Upstream(http.server.BaseHTTPRequestHandler):
    """Redirects, sets cookies, and remembers every request that came."""

    seen: list[tuple[str, dict[str, str]]] = []
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        Upstream.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        redirected = self.path.startswith("/redirect")
        self.send_response(int(self.path.rpartition("/")[2]) if redirected else 200)
        self.send_header("Set-Cookie", "session=of-somebody; Path=/")
        if redirected:
            self.send_header("Location", "/target")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(context: ssl.SSLContext | None = None) -> Iterator[str]:
    Upstream.seen = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{'https' if context else 'http'}://localhost:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def upstream(transactional_db: None) -> Iterator[str]:
    with serving() as origin:
        allow_private(origin)
        yield origin


@pytest.mark.requirement("T26", "T28")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("options", [{}, {"allow_redirects": True}, {"allow_redirects": False}])
def test_a_redirect_is_never_followed(upstream: str, status: int, options: dict[str, bool]) -> None:
    with http_session("test") as session:
        response = session.get(f"{upstream}/redirect/{status}", timeout=5, **options)
        posted = session.post(f"{upstream}/redirect/{status}", data=b"body", timeout=5, **options)
    assert (response.status_code, posted.status_code) == (status, status)
    assert [path for path, _ in Upstream.seen] == [f"/redirect/{status}"] * 2


@pytest.mark.requirement("T40")
def test_a_session_keeps_no_cookies(upstream: str) -> None:
    with http_session("test") as session:
        session.get(f"{upstream}/one", timeout=5)
        session.get(f"{upstream}/two", timeout=5)
    assert [headers.get("cookie") for _, headers in Upstream.seen] == [None, None]


@pytest.mark.requirement("T26")
def test_proxies_and_netrc_of_the_environment_are_ignored(upstream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = environment.FOLDER / "netrc"
    netrc.write_text("machine localhost login someone password canary\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with listening() as (port, was_reached):
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        with http_session("test") as session:
            assert session.get(f"{upstream}/direct", timeout=5).text == "ok"
        assert not was_reached()
    assert "authorization" not in Upstream.seen[0][1]
    assert Upstream.seen[0][1]["user-agent"] == "gatehouse (test)"


@pytest.mark.requirement("T30")
def test_a_request_without_a_timeout_has_one(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(egress, "_DEFAULT_TIMEOUT", (5, 0.05))
    with listening() as (port, _):
        allow_private(f"http://localhost:{port}")
        with http_session("test") as session, pytest.raises(requests.ReadTimeout):
            session.get(f"http://localhost:{port}/")


def test_a_port_where_nobody_listens_is_a_connection_error(transactional_db: None) -> None:
    with listening() as (port, _):
        pass
    allow_private(f"http://localhost:{port}")
    with http_session("test") as session, pytest.raises(requests.ConnectionError, match="cannot connect"):
        session.get(f"http://localhost:{port}/", timeout=5)


# --- TLS ------------------------------------------------------------------------------------------


def certificate(name: str) -> tuple[str, ssl.SSLContext]:
    """A self-signed certificate for `name` as PEM, and the context of a server that shows it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = environment.FOLDER / f"{name}-{made.serial_number}.pem"
    file.write_bytes(pem + private)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return pem.decode(), context


@pytest.mark.requirement("F-108")
def test_a_custom_authority_is_trusted_instead_of_the_public_ones(transactional_db: None) -> None:
    pem, context = certificate("localhost")
    other_pem, _ = certificate("localhost")
    with serving(context) as origin:
        allow_private(origin)
        with http_session("test", ca_certificate=pem) as session:
            assert session.get(f"{origin}/", timeout=5).text == "ok"
        for authority in ("", other_pem):
            with http_session("test", ca_certificate=authority) as session, pytest.raises(requests.exceptions.SSLError):
                session.get(f"{origin}/", timeout=5)
    # The shared context still knows the one authority, and still checks.
    assert len(tls_context(pem).get_ca_certs()) == 1
    assert tls_context(pem).verify_mode is ssl.CERT_REQUIRED
    assert tls_context(pem).check_hostname


@pytest.mark.requirement("F-108")
def test_a_certificate_for_another_name_is_refused(transactional_db: None) -> None:
    pem, context = certificate("elsewhere.example")
    with serving(context) as origin:
        allow_private(origin)
        with http_session("test", ca_certificate=pem) as session, pytest.raises(requests.exceptions.SSLError):
            session.get(f"{origin}/", timeout=5)


def test_no_request_turns_the_checks_off(transactional_db: None) -> None:
    _, context = certificate("localhost")
    with serving(context) as origin:
        allow_private(origin)
        with http_session("test") as session, pytest.raises(TypeError):
            session.get(f"{origin}/", timeout=5, verify=False)
    assert tls_context("").verify_mode is ssl.CERT_REQUIRED
    assert Upstream.seen == []


def test_a_text_that_is_no_certificate_is_an_error() -> None:
    with pytest.raises(ssl.SSLError):
        tls_context("not a certificate")


def test_old_tls_is_not_spoken() -> None:
    assert tls_context("").minimum_version is ssl.TLSVersion.TLSv1_2
