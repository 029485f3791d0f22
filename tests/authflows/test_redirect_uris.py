"""Where an authorization response may go: the table of tricks, and the rule as properties."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from authflows.inbound.oauth.redirect_uris import Accepted, Refused, check, is_loopback, matches, shown_host
from authflows.models import OAuthClient

CURSOR = "cursor://anysphere.cursor-mcp/oauth/callback"

IN_THE_WILD = [
    "http://localhost/callback",
    "http://127.0.0.1/callback",
    "http://127.0.0.1/",
    "http://127.0.0.1:33418/",
    "http://[::1]:8123/callback",
    "http://localhost:8787/callback",
    "http://localhost:7777/oauth/callback",
    "http://127.0.0.1:19876/mcp/oauth/callback",
    "https://vscode.dev/redirect",
    "https://insiders.vscode.dev/redirect",
    "https://claude.ai/api/mcp/auth_callback",
    "https://www.cursor.com/agents/mcp/oauth/callback",
    "https://good.example.com",
    "https://good.example.com:8443/cb?tenant=a&next=%2Fhome",
    "https://192.0.2.7/cb",
    "https://[2001:db8::7]/cb",
    "https://xn--bcher-kva.example/cb",
    # A host of its own, with a certificate of its own; only http would make it a trick.
    "https://localhost.evil.com/cb",
]

TRICKS = [
    # user name
    "https://good.example.com@evil.example/cb",
    "https://good.example.com:443@evil.example/cb",
    "https://@evil.example/cb",
    "http://127.0.0.1@evil.example/cb",
    "http://localhost:80@evil.example/",
    # no scheme, odd slashes
    "//evil.example/cb",
    "/cb",
    "evil.example/cb",
    "",
    "https:/evil.example/cb",
    "https:evil.example",
    "https:///evil.example/cb",
    "https://",
    "http://:8080/cb",
    "https://?x=1",
    # backslashes
    "https:\\\\evil.example",
    "https://good.example.com\\@evil.example/cb",
    "https://good.example.com\\.evil.example/cb",
    "http://localhost\\.evil.example/cb",
    # fragment
    "https://good.example.com/cb#",
    "https://good.example.com/cb#token",
    "http://127.0.0.1#@evil.example/",
    # path
    "https://good.example.com/cb/../evil",
    "https://good.example.com/./cb",
    "https://good.example.com/..",
    "https://good.example.com/cb/%2e%2e/evil",
    "https://good.example.com/cb/.%2E/evil",
    "https://good.example.com/cb%2f..%2fevil",
    "https://good.example.com/cb%5cevil",
    # case
    "HTTPS://good.example.com/cb",
    "https://Good.example.com/cb",
    "http://LOCALHOST/cb",
    "hTTp://127.0.0.1/cb",
    # http elsewhere
    "http://good.example.com/cb",
    "http://localhost.evil.com/cb",
    "http://127.0.0.1.evil.com/cb",
    "http://evil.localhost/cb",
    "http://localhost./cb",
    "http://127.0.0.2/cb",
    "http://10.0.0.1/cb",
    "http://0.0.0.0/cb",
    # addresses in disguise
    "http://2130706433/cb",
    "http://0x7f000001/cb",
    "http://0x7f.1/cb",
    "http://0177.0.0.1/cb",
    "http://127.1/cb",
    "http://127.0.0.1./cb",
    "http://127.0.0.01/cb",
    "https://2130706433/cb",
    "https://0x7f000001/cb",
    "https://127.1/cb",
    "https://good.example.0x1/cb",
    "http://[::]/cb",
    "http://[::ffff:127.0.0.1]/cb",
    "http://[0:0:0:0:0:0:0:1]/cb",
    "http://[::1%25lo]/cb",
    "http://[::1]evil.example/cb",
    "http://[::1].evil.example/cb",
    "http://[::1/cb",
    "http://::1/cb",
    "https://[2001:DB8::7]/cb",
    "https://[127.0.0.1]/cb",
    "https://[]/cb",
    # ports
    "https://good.example.com:/cb",
    "https://good.example.com:0/cb",
    "https://good.example.com:65536/cb",
    "https://good.example.com:0443/cb",
    "https://good.example.com:44x/cb",
    "http://127.0.0.1:*/cb",
    "http://127.0.0.1:99999999999999999999/cb",
    # wildcards
    "https://*.example.com/cb",
    "https://*/cb",
    "https://good.example.com/*",
    # characters
    "https://good.example.com/c b",
    "https://good.example.com/cb\n",
    " https://good.example.com/cb",
    "https://good.example.com/cb\r\nSet-Cookie:a=b",
    "https://good.exa\tmple.com/cb",
    "https://good.example.com/cb\x00",
    "https://good.example.com/cb%0d%0aSet-Cookie:%20a=b",
    "https://good.example.com/cb%00",
    "https://good.example.com/cb%zz",
    "https://good.example.com/<script>",
    "https://good.example.com%2eevil.example/cb",
    "https://good.example.com%40evil.example/cb",
    "https://gооd.example.com/cb",
    "https://good.example.com。evil.example/cb",
    "https://good..example.com/cb",
    "https://-good.example.com/cb",
    "https://good_.example.com/cb",
    "https://good.example.com./cb",
    "https://" + "a" * 64 + ".example/cb",
    "https://good.example.com/" + "a" * 2000,
]

NEVER = [
    "javascript:alert(1)",
    "JavaScript:alert(1)",
    "javascript://good.example.com/%250aalert(1)",
    "data:text/html,hello",
    "file:///etc/passwd",
    "vbscript:x",
    "blob:https://good.example.com/1",
    "about:blank",
    "ftp://good.example.com/cb",
    "ws://good.example.com/cb",
    "wss://good.example.com/cb",
    "view-source:https://good.example.com/cb",
]


@pytest.mark.requirement("AZ-6", "AZ-7", "AZ-8", "F-202")
@pytest.mark.parametrize("uri", IN_THE_WILD)
def test_redirect_uris_of_real_clients_are_accepted(uri: str) -> None:
    assert check(uri, private=[]) == Accepted(uri)


@pytest.mark.requirement("T15", "AZ-7")
@pytest.mark.parametrize("uri", TRICKS)
def test_a_trick_is_refused_with_a_sentence(uri: str) -> None:
    refused = check(uri, private=[])

    assert isinstance(refused, Refused)
    assert refused.reason.endswith(".")


@pytest.mark.requirement("AZ-8", "T15")
@pytest.mark.parametrize("uri", NEVER)
def test_schemes_that_run_or_load_something_are_refused_even_when_an_admin_lists_them(uri: str) -> None:
    assert isinstance(check(uri, private=[uri]), Refused)


@pytest.mark.requirement("AZ-8")
def test_a_scheme_of_an_application_is_accepted_only_as_the_exact_listed_text() -> None:
    assert isinstance(check(CURSOR, private=[]), Refused)
    assert check(CURSOR, private=[CURSOR]) == Accepted(CURSOR)
    for other in (CURSOR + "/", CURSOR + "?x=1", CURSOR.upper(), "cursor://evil/oauth/callback", "cursor:"):
        assert isinstance(check(other, private=[CURSOR]), Refused)


@pytest.mark.requirement("AZ-8", "T15")
@pytest.mark.parametrize("uri", ["http://good.example.com/cb", "https://*.example.com/cb", CURSOR + "#x", "x:a b"])
def test_the_list_of_an_admin_does_not_bend_the_other_rules(uri: str) -> None:
    assert isinstance(check(uri, private=[uri]), Refused)


@pytest.mark.requirement("AZ-6", "T15")
@pytest.mark.parametrize(
    ("asked", "registered"),
    [
        ("https://good.example.com@evil", "https://good.example.com"),
        ("https://good.example.com/cb/", "https://good.example.com/cb"),
        ("https://good.example.com/cb?x=1", "https://good.example.com/cb"),
        ("https://good.example.com/cb#x", "https://good.example.com/cb"),
        ("https://good.example.com/cb/../x", "https://good.example.com/cb"),
        ("https://good.example.com/CB", "https://good.example.com/cb"),
        ("https://GOOD.example.com/cb", "https://good.example.com/cb"),
        ("https://good.example.com:443/cb", "https://good.example.com/cb"),
        ("https://good.example.com:8443/cb", "https://good.example.com/cb"),
        ("http://good.example.com/cb", "https://good.example.com/cb"),
        ("https://localhost:8443/cb", "https://localhost/cb"),
        ("//good.example.com/cb", "https://good.example.com/cb"),
        ("https:\\\\good.example.com/cb", "https://good.example.com/cb"),
        ("http://127.0.0.1:1234/cb", "http://localhost/cb"),
        ("http://localhost:1234/cb", "http://127.0.0.1/cb"),
        ("http://[::1]:1234/cb", "http://127.0.0.1/cb"),
        ("http://127.1:1234/cb", "http://127.0.0.1/cb"),
        ("http://127.0.0.1.evil.com:1234/cb", "http://127.0.0.1/cb"),
        ("http://localhost.evil.com/cb", "http://localhost/cb"),
        ("http://localhost@evil.com/cb", "http://localhost/cb"),
        ("http://localhost:1234@evil.com/cb", "http://localhost/cb"),
        ("http://localhost:1234/cb?x=1", "http://localhost/cb"),
        ("http://localhost:1234/cb#x", "http://localhost/cb"),
        ("http://localhost:1234/other", "http://localhost/cb"),
        ("http://localhost:1234/cb\n", "http://localhost/cb"),
        ("http://localhost:1234", "http://localhost/"),
        ("http://localhost:0/cb", "http://localhost/cb"),
        ("http://localhost:65536/cb", "http://localhost/cb"),
        ("http://localhost:01234/cb", "http://localhost/cb"),
        ("http://localhost:/cb", "http://localhost/cb"),
        ("http://localhost:\u0661/cb", "http://localhost/cb"),
        ("HTTP://localhost:1234/cb", "http://localhost/cb"),
        (CURSOR + "?x", CURSOR),
        ("", "http://localhost/cb"),
    ],
)
def test_another_text_does_not_match(asked: str, registered: str) -> None:
    assert not matches(asked, registered)


@pytest.mark.requirement("AZ-6", "F-202")
@pytest.mark.parametrize(
    ("asked", "registered"),
    [
        ("http://localhost:51234/callback", "http://localhost/callback"),
        ("http://127.0.0.1:51234/callback", "http://127.0.0.1/callback"),
        ("http://[::1]:51234/callback", "http://[::1]/callback"),
        ("http://127.0.0.1:40001/", "http://127.0.0.1:33418/"),
        ("http://127.0.0.1/", "http://127.0.0.1:33418/"),
        ("http://localhost:1", "http://localhost"),
        ("http://localhost:65535/cb?a=b", "http://localhost/cb?a=b"),
        ("https://vscode.dev/redirect", "https://vscode.dev/redirect"),
        (CURSOR, CURSOR),
    ],
)
def test_the_same_text_matches_and_so_does_another_loopback_port(asked: str, registered: str) -> None:
    assert matches(asked, registered)


@pytest.mark.requirement("AZ-6")
def test_a_client_may_use_any_port_of_its_loopback_uris_but_no_other_host() -> None:
    client = OAuthClient(redirect_uris="http://localhost/callback https://good.example.com/cb")

    assert client.redirect_uri_allowed("http://localhost:5000/callback")
    assert client.redirect_uri_allowed("https://good.example.com/cb")
    assert not client.redirect_uri_allowed("http://127.0.0.1:5000/callback")
    assert not client.redirect_uri_allowed("https://good.example.com:5000/cb")


@pytest.mark.requirement("T15", "T23")
@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://localhost:51234/callback", "localhost"),
        ("http://127.0.0.1:33418/", "127.0.0.1"),
        ("http://[::1]:8123/callback", "[::1]"),
        ("https://vscode.dev/redirect", "vscode.dev"),
        ("https://good.example.com@evil.example/cb", "evil.example"),
        ("https://xn--80ak6aa92e.com/cb", "xn--80ak6aa92e.com"),
        ("https://аррӏе.com/cb", "xn--80ak6aa92e.com"),
        (CURSOR, "cursor:"),
        ("com.example.app:/callback", "com.example.app:"),
        ("http://[::1", ""),
    ],
)
def test_people_see_the_host_that_gets_the_answer(uri: str, shown: str) -> None:
    assert shown_host(uri) == shown


@pytest.mark.requirement("T23")
@pytest.mark.parametrize(
    "uri",
    [
        "http://localhost/cb",
        "http://127.0.0.1:1/",
        "http://[::1]/cb",
        "https://localhost:8443/cb",
        "https://127.0.0.9/",
    ],
)
def test_an_answer_to_this_computer_is_told_as_loopback(uri: str) -> None:
    assert is_loopback(uri)


@pytest.mark.parametrize(
    "uri", ["https://vscode.dev/redirect", "https://localhost.evil.com/cb", CURSOR, "https://192.0.2.1/cb", "x"]
)
def test_an_answer_elsewhere_is_not_told_as_loopback(uri: str) -> None:
    assert not is_loopback(uri)


_PIECES = st.sampled_from(
    [
        *("https", "http", "://", ":", "//", "@", "\\", "#", "?", "/", "..", ".", "%2e", "%00", "*", "[::1]", "[", "]"),
        *("localhost", "127.0.0.1", "0x7f", "good.example.com", "evil", ":80", ":0", "\n", " ", "é", "A", "x"),
    ]
)
_URIS = st.lists(_PIECES, max_size=10).map("".join)


@pytest.mark.requirement("T15")
@given(uri=st.one_of(_URIS, st.text(max_size=40), st.sampled_from(IN_THE_WILD + TRICKS)))
@example(uri="https://a.b\uff0fc/")
def test_whatever_is_accepted_has_one_plain_meaning(uri: str) -> None:
    if isinstance(check(uri, private=[]), Refused):
        return
    parts = urlsplit(uri)

    # Stored as words in one text, sent as a header: neither may come apart.
    assert uri.isascii()
    assert uri.isprintable()
    assert uri.split() == [uri]
    assert "@" not in parts.netloc
    assert "#" not in uri
    assert parts.hostname
    assert parts.hostname == parts.hostname.lower()
    assert parts.scheme == "https" or parts.hostname in ("localhost", "127.0.0.1", "::1")
    assert shown_host(uri).strip("[]") == parts.hostname


@pytest.mark.requirement("T15", "AZ-6")
@given(
    asked=st.one_of(_URIS, st.sampled_from(TRICKS + IN_THE_WILD)),
    registered=st.sampled_from(IN_THE_WILD),
)
def test_whatever_matches_is_acceptable_itself_and_goes_to_the_same_host_and_path(asked: str, registered: str) -> None:
    if not matches(asked, registered):
        return
    one, other = urlsplit(asked), urlsplit(registered)

    assert check(asked, private=[]) == Accepted(asked)
    assert one._replace(netloc="") == other._replace(netloc="")
    assert one.hostname == other.hostname
    assert one.port == other.port or (one.scheme == "http" and is_loopback(asked))


@pytest.mark.requirement("AZ-6")
@given(port=st.integers(1, 65535), host=st.sampled_from(["localhost", "127.0.0.1", "[::1]"]))
def test_every_port_of_a_loopback_host_matches(port: int, host: str) -> None:
    asked = f"http://{host}:{port}/callback"

    assert matches(asked, f"http://{host}/callback")
    assert check(asked, private=[]) == Accepted(asked)
