"""Texts of templates stand in translation tags, so that a language can be added without touching a page."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from django.template.base import Lexer, TokenType

ROOT = Path(__file__).resolve().parent.parent.parent / "templates"
TEMPLATES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.html"))
READ_ALOUD = ("title", "aria-label", "placeholder", "alt", "data-tabs", "data-tab")
# Names, which are the same in every language.
NAMES = re.compile(
    r"\b(Gatehouse|MCP|OAuth2?|URLs?|URI|FQN|API|JSON|CSV|HTTPS?|TLS|SSO|ID|IDs|PKCE|UTC|Authorization|Bearer|"
    r"mcpServers|server\.json|Cursor|Claude Code|VS Code|CA|PEM|JWKS?|RFC \d+|p50|p95|ms|KiB|GET|POST|Ctrl|Enter)\b"
)
# Blocks that are a part of a tag: a class, an attribute.
PART = re.compile(r"bodyclass$|nav_")
_WORD = re.compile(r"[A-Za-zÄÖÜäöüß]{2,}")


class _Texts(HTMLParser):
    """What of a piece of HTML people read."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._quiet: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("code", "pre", "script", "style", "svg", "kbd", "samp"):
            self._quiet.append(tag)
        self.found += [value for name, value in attrs if name in READ_ALOUD and value]

    def handle_endtag(self, tag: str) -> None:
        if tag in self._quiet:
            self._quiet.remove(tag)

    def handle_data(self, data: str) -> None:
        if not self._quiet:
            self.found.append(data)


def untranslated(text: str) -> list[str]:
    """The texts of a template that stand outside of translation tags."""
    html, translating, comment, blocks = [], False, False, [""]
    for token in Lexer(text).tokenize():
        name, *rest = token.contents.split() if token.token_type == TokenType.BLOCK else [""]
        if name == "block":
            blocks.append(rest[0])
        elif name == "endblock":
            blocks.pop()
        if name in ("blocktranslate", "blocktrans"):
            translating = True
        elif name in ("endblocktranslate", "endblocktrans"):
            translating = False
        elif name in ("comment", "verbatim"):
            comment = True
        elif name in ("endcomment", "endverbatim"):
            comment = False
        elif token.token_type == TokenType.TEXT and not translating and not comment and not PART.match(blocks[-1]):
            html.append(token.contents)
    parser = _Texts()
    parser.feed("".join(html))
    parser.close()
    left = (NAMES.sub("", found) for found in parser.found)
    return [found.strip() for found in left if _WORD.search(found)]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_says_nothing_outside_of_translation_tags(name: str) -> None:
    assert untranslated((ROOT / name).read_text()) == []


def test_the_check_finds_texts_attributes_and_titles() -> None:
    assert untranslated('<p title="Look here">Read {% translate "this" %} now</p>') == ["Look here", "Read  now"]
    assert untranslated("{% blocktranslate %}Fine{% endblocktranslate %}<code>GET x</code> {{ name }} · ") == []
