"""What a broken provider says, and what a page of ours must look like then."""

from __future__ import annotations

import gzip
from html import unescape
from html.parser import HTMLParser
from typing import Any

from authflows.models import Connection
from authflows.outbound import connections
from tests.support.faulty_provider import Reply, as_html, as_json

MARKUP = '"><script>alert("canary")</script>'

# The answer of a token endpoint, the word that is kept of it, and what a person reads.
BAD_ANSWERS: dict[str, tuple[Reply, str, str]] = {
    "400": (
        as_json({"error": "invalid_grant", "error_description": MARKUP}, 400),
        "invalid_grant",
        "no longer accepts",
    ),
    "400 of another kind": (
        as_json({"error": "invalid_target"}, 400),
        "invalid_target",
        "refused with “invalid_target”",
    ),
    "400 with markup": (as_json({"error": MARKUP}, 400), "status_400", "answered with status 400"),
    "401": (as_json({"error": "invalid_client"}, 401), "invalid_client", "does not accept the gateway's client"),
    "429": (as_html("slow down", 429, **{"Retry-After": "7"}), "status_429", "answered with status 429"),
    "500": (as_html(f"<h1>Oops</h1>{MARKUP}", 500), "status_500", "answered with status 500"),
    "204": ((204, {}, b""), "answer_malformed", "not a token answer"),
    "garbage": ((200, {"Content-Type": "application/json"}, b"\xff\xfe{{{"), "answer_malformed", "not a token answer"),
    "page": (as_html(f"<p>Sign in {MARKUP}</p>"), "answer_malformed", "not a token answer"),
    "list": (as_json(["x"]), "answer_malformed", "not a token answer"),
    "deep": ((200, {"Content-Type": "application/json"}, b"[" * 100_000), "answer_malformed", "not a token answer"),
    "long number": (
        (200, {"Content-Type": "application/json"}, b'{"access_token": "x", "expires_in": ' + b"9" * 9000 + b"}"),
        "answer_malformed",
        "not a token answer",
    ),
    "huge": (as_json({"access_token": "x" * 300_000}), "too_large", "sent more than"),
    "bomb": (
        (200, {"Content-Type": "application/json", "Content-Encoding": "gzip"}, gzip.compress(b" " * 50_000_000)),
        "too_large",
        "sent more than",
    ),
    "error in a 200": (as_json({"error": "bad_verification_code"}), "bad_verification_code", "bad_verification_code"),
    "error in a form": (
        (200, {"Content-Type": "application/x-www-form-urlencoded"}, b"error=bad_verification_code&error_uri=x"),
        "bad_verification_code",
        "bad_verification_code",
    ),
    "nothing": (as_json({}), "answer_malformed", "holds no bearer token"),
    "another type": (as_json({"access_token": "x", "token_type": "mac"}), "answer_malformed", "holds no bearer token"),
    "a type that is none": (as_json({"access_token": "x", "token_type": 7}), "answer_malformed", "no bearer token"),
    "a line break": (as_json({"access_token": "x\r\nX-Evil: 1"}), "answer_malformed", "holds no bearer token"),
    "a token that is none": (as_json({"access_token": {"a": 1}}), "answer_malformed", "holds no bearer token"),
    "a token too long": (as_json({"access_token": "x" * 20_000}), "answer_malformed", "holds no bearer token"),
    "an empty token": (as_json({"access_token": ""}), "answer_malformed", "holds no bearer token"),
}


class Page(HTMLParser):
    """What there is to press in the main part of a page: steps, and pages to read more on."""

    def __init__(self, response: Any) -> None:
        super().__init__()
        self.text = response.content.decode()
        self.words = unescape(self.text)
        self.steps: list[str] = []
        self.help: list[str] = []
        self._in_main = False
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "main":
            self._in_main = True
        elif self._in_main and tag in ("a", "button"):
            target = dict(attrs).get("href") or tag
            (self.help if target.startswith("/portal/help/") else self.steps).append(target)

    def handle_endtag(self, tag: str) -> None:
        if tag == "main":
            self._in_main = False


def assert_failed(response: Any, reason: str, sentence: str) -> Page:
    """One page with one next step, which says what happened; and nothing is stored."""
    page = Page(response)
    assert response.status_code == 400, page.text
    assert f"<code>{reason}</code>" in page.text
    assert sentence in page.words
    assert len(page.steps) == 1, page.steps
    assert page.help == ["/portal/help/provider-refuses/"]
    assert "canary" not in page.text
    assert not Connection.objects.exists()
    return page


def refresh(connection: Connection) -> connections.Refreshed | connections.NotRefreshed:
    return connections.refresh(connection.pk, seen_generation=connection.generation)


def tokens_now() -> connections.Tokens:
    return connections.open_tokens(Connection.objects.get())
