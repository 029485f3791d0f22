"""The help pages: Markdown of our own under docs/help, one topic a file, read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from django.conf import settings
from django.urls import reverse
from django.utils.safestring import SafeString
from markdown_it import MarkdownIt
from markdown_it.token import Token

# The topics in the order in which people meet them.
TOPICS: Final = (
    ("Signing in", ("signed-out", "denied-by-accident", "page-does-not-open", "key-refused", "asks-although-key")),
    ("Using a server", ("stopped-working", "no-access", "not-connected", "tool-missing", "server-not-answering")),
    ("Accounts at providers", ("provider-refuses", "account-refused", "gateway-credential")),
    ("For whoever builds or runs it", ("too-many", "message-refused", "wrong-address", "gateway-trouble")),
)
_FOLDER: Final = settings.BASE_DIR / "docs" / "help"
# Pages that the texts name in bold: links here, plain words where the files are read elsewhere.
_PLACES: Final = {
    "Servers": "portal",
    "My access": "my-access",
    "My connections": "my-connections",
    "Why can’t I?": "why",
}


@dataclass(frozen=True, slots=True)
class Topic:
    """One page. `summary` is its first sentence, as plain text."""

    name: str
    title: str
    summary: str
    html: SafeString


def topic_of(name: str) -> Topic | None:
    """The topic, or None when there is none of this name."""
    # Only what there is is kept: strangers ask for any name.
    return _read(name) if any(name in names for _, names in TOPICS) else None


@cache
def _read(name: str) -> Topic:
    tokens = _reader().parse((_FOLDER / f"{name}.md").read_text(encoding="utf-8"))
    title, body = tokens[1].content, tokens[3:]
    first = next(token for token in body if token.type == "inline")
    text = "".join(child.content for child in first.children or ())
    _link(body)
    # Our own files, and the reader lets no HTML through.
    html = SafeString(_reader().renderer.render(body, _reader().options, {}))
    return Topic(name, title, f"{text.partition('. ')[0].rstrip('.:')}.", html)


def sections() -> list[tuple[str, list[Topic]]]:
    """All topics, under their headings."""
    return [(heading, [topic for name in names if (topic := topic_of(name))]) for heading, names in TOPICS]


@cache
def _reader() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def _link(tokens: Sequence[Token]) -> None:
    """Lead from topic to topic by our addresses, and from names of pages to the pages."""
    for token in tokens:
        children: list[Any] = token.children or []
        for number, child in enumerate(children):
            href = str(child.attrGet("href") or "")
            if child.type == "link_open" and href.endswith(".md"):
                child.attrSet("href", reverse("help-topic", args=[href.removesuffix(".md")]))
            if child.type == "strong_open" and (place := _PLACES.get(children[number + 1].content)):
                child.type, child.tag, child.attrs = "link_open", "a", {"href": reverse(place)}
                children[number + 2].type, children[number + 2].tag = "link_close", "a"
