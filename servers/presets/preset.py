"""A preset as its file describes it: typed, and read with rules that name the file and what is wrong. Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError

from servers.egress import parse_destination
from servers.errors import DestinationRefused
from servers.header_names import check_header_name
from servers.models import AuthConfig
from servers.oauth_settings import OAuthSettings
from servers.own_header import BadTemplate, OwnHeaderSettings
from servers.own_header import check as check_own_header

Method = AuthConfig.Method
CATEGORIES: Final = (
    "Code", "Knowledge", "Communication", "Projects", "Data", "Cloud", "Monitoring", "Design", "Business", "Web",
)  # fmt: skip
CALLBACK: Final = "{callback_url}"
_SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_METHODS: Final = frozenset((Method.NONE, Method.SHARED_HEADER, Method.OWN_HEADER, Method.OAUTH2))
_OAUTH: Final = frozenset(OAuthSettings.__dataclass_fields__) - {"client_id", "client_secret", "discovered", "scopes"}


class BadPreset(ValueError):
    """A file that breaks a rule; the message names the file and what to write instead."""


@dataclass(frozen=True, slots=True)
class Source:
    """A document that the preset is taken from, and what it says."""

    url: str
    says: str


@dataclass(frozen=True, slots=True)
class Way:
    """One way to authenticate to the server. A preset has at least one; the first is the one to begin with."""

    key: str
    title: str
    method: Method
    steps: tuple[str, ...] = ()
    """What to do at the provider, in order; `{callback_url}` stands for the gateway's own."""
    url: str = ""
    """The endpoint where it differs from the preset's for this way."""
    console: str = ""
    """Where the app or key is made."""
    discover: bool = False
    """The provider's endpoints are read from the server's own metadata, with the form's Discover."""
    scopes: tuple[str, ...] = ()
    oauth: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `OAuthSettings` that differ from what Discover finds, or stand in for it."""
    headers: tuple[tuple[str, str], ...] = ()
    """Names and templates: with {{PLACEHOLDER}} for keys of people's own, else what is put before the value."""
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def needs_app(self) -> bool:
        """Whether somebody has to make an app at the provider first."""
        return self.method == Method.OAUTH2 and self.oauth.get("registration") == "pre_registered"


@dataclass(frozen=True, slots=True)
class Preset:
    """What is publicly known of one MCP server."""

    slug: str
    name: str
    provider: str
    category: str
    summary: str
    url: str
    """The endpoint; <parts> in angle brackets are the customer's own and named in `parts`."""
    ways: tuple[Way, ...]
    sources: tuple[Source, ...]
    checked: date
    """When somebody last compared the file with its sources."""
    parts: Mapping[str, str] = field(default_factory=dict)
    quirks: tuple[str, ...] = ()
    unsure: tuple[str, ...] = ()
    """What no source says, or where they differ."""

    @property
    def monogram(self) -> str:
        """One or two letters in the place of a logo."""
        words: list[str] = re.findall(r"[A-Z0-9][A-Za-z0-9]*", self.name) or [self.name]
        return (words[0][0] + words[1][0] if len(words) > 1 else words[0][:2]).upper()

    @property
    def tint(self) -> int:
        """One of six colours, the same for all presets of a provider."""
        return sum(map(ord, self.provider)) % 6

    def way(self, key: str) -> Way:
        """The way of this name; else the first."""
        return next((way for way in self.ways if way.key == key), self.ways[0])

    @property
    def words(self) -> str:
        """What a search looks at, in lower case."""
        return " ".join((self.name, self.provider, self.category, self.summary, self.url, self.slug)).lower()


def read(slug: str, text: str) -> Preset:
    """The preset of one file; raises BadPreset."""
    try:
        return _preset(_Table(slug, tomllib.loads(text)), slug)
    except tomllib.TOMLDecodeError as error:
        raise BadPreset(f"{slug}.toml is not TOML: {error}") from error


class _Table:
    """A table of the file that notices what is missing, of the wrong type, or not known."""

    def __init__(self, where: str, values: Mapping[str, Any]) -> None:
        self.where, self._left = where, dict(values)

    def bad(self, what: str) -> BadPreset:
        return BadPreset(f"{self.where}: {what}")

    def take(self, name: str, kind: type[Any], *, default: Any = None) -> Any:
        value = self._left.pop(name, default)
        if value is None:
            raise self.bad(f"{name} is missing.")
        if type(value) is not kind:
            raise self.bad(f"{name} has to be a {kind.__name__}.")
        return value

    def line(self, name: str, *, longest: int, default: str | None = None) -> str:
        text: str = self.take(name, str, default=default)
        if text != text.strip() or not text.isprintable() or len(text) > longest:
            raise self.bad(f"{name} has to be one line of at most {longest} characters.")
        if not text and default is None:
            raise self.bad(f"{name} is empty.")
        return text

    def lines(self, name: str) -> tuple[str, ...]:
        found: list[Any] = self.take(name, list, default=[])
        if not all(isinstance(one, str) and one.strip() == one and one.isprintable() and one for one in found):
            raise self.bad(f"{name} has to be a list of lines.")
        return tuple(found)

    def texts(self, name: str) -> dict[str, str]:
        found: dict[str, Any] = self.take(name, dict, default={})
        if not all(isinstance(one, str) for one in found.values()):
            raise self.bad(f"{name} has to be a table of texts.")
        return found

    def tables(self, name: str) -> list[_Table]:
        found = self.take(name, list, default=[])
        if not found or not all(isinstance(one, dict) for one in found):
            raise self.bad(f"write at least one [[{name}]].")
        return [_Table(f"{self.where}, {name} {number}", one) for number, one in enumerate(found, start=1)]

    def link(self, name: str, *, default: str | None = None) -> str:
        url = self.line(name, longest=500, default=default)
        if url and (urlsplit(url).scheme != "https" or not urlsplit(url).hostname):
            raise self.bad(f"{name} has to be an https address.")
        return url

    def done(self) -> None:
        if self._left:
            raise self.bad(f"{', '.join(sorted(self._left))} is not known here.")


def _preset(table: _Table, slug: str) -> Preset:
    if not _SLUG.fullmatch(slug):
        raise table.bad("the file's name has to be lower-case letters, digits and hyphens.")
    category = table.line("category", longest=40)
    if category not in CATEGORIES:
        raise table.bad(f"category has to be one of {', '.join(CATEGORIES)}.")
    parts = table.texts("parts")
    made = Preset(
        slug=slug,
        name=table.line("name", longest=60),
        provider=table.line("provider", longest=60),
        category=category,
        summary=table.line("summary", longest=160),
        url=_endpoint(table, parts),
        ways=tuple(_way(one) for one in table.tables("way")),
        sources=tuple(_source(one) for one in table.tables("source")),
        checked=table.take("checked", date),
        parts=parts,
        quirks=table.lines("quirks"),
        unsure=table.lines("unsure"),
    )
    if len({way.key for way in made.ways}) != len(made.ways):
        raise table.bad("two ways have the same key.")
    table.done()
    return made


def _endpoint(table: _Table, parts: Mapping[str, str]) -> str:
    url = table.line("url", longest=500)
    if set(re.findall(r"<([a-z-]+)>", url)) != set(parts):
        raise table.bad("the <parts> of the url and the table parts have to name the same.")
    try:
        destination = parse_destination(re.sub(r"<[a-z-]+>", "part", url))
    except DestinationRefused as error:
        raise table.bad(f"url: {error.public_message}") from error
    if destination.scheme != "https":
        raise table.bad("url has to be an https address.")
    return url


def _source(table: _Table) -> Source:
    made = Source(table.link("url"), table.line("says", longest=400))
    table.done()
    return made


def _way(table: _Table) -> Way:
    key, method = table.line("key", longest=40), table.line("method", longest=40)
    if not _SLUG.fullmatch(key):
        raise table.bad("key has to be lower-case letters, digits and hyphens.")
    if method not in _METHODS:
        raise table.bad(f"method has to be one of {', '.join(sorted(_METHODS))}.")
    made = Way(
        key=key,
        title=table.line("title", longest=80),
        method=Method(method),
        steps=table.lines("steps"),
        url=table.link("url", default=""),
        console=table.link("console", default=""),
        discover=table.take("discover", bool, default=False),
        scopes=table.lines("scopes"),
        oauth=_oauth(table),
        headers=_headers(table),
        labels=table.texts("labels"),
    )
    table.done()
    _check_way(table, made)
    return made


def _oauth(table: _Table) -> Mapping[str, Any]:
    found: dict[str, Any] = table.take("oauth", dict, default={})
    if unknown := sorted(set(found) - _OAUTH):
        raise table.bad(f"oauth: {', '.join(unknown)} is not known here.")
    defaults = OAuthSettings()
    for name, value in found.items():
        if type(value) is not type(getattr(defaults, name)):
            raise table.bad(f"oauth: {name} has to be a {type(getattr(defaults, name)).__name__}.")
        if name.endswith("_endpoint") and value and not value.startswith("https://"):
            raise table.bad(f"oauth: {name} has to be an https address.")
    return found


def _headers(table: _Table) -> tuple[tuple[str, str], ...]:
    found = tuple(table.texts("headers").items())
    for name, _ in found:
        try:
            check_header_name(name)
        except ValidationError as error:
            raise table.bad(" ".join(error.messages)) from error
    return found


def _check_way(table: _Table, way: Way) -> None:
    """What belongs to each authentication type, and what does not."""
    oauth = way.method == Method.OAUTH2
    if not oauth and (way.discover or way.scopes or way.oauth):
        raise table.bad("discover, scopes and oauth belong to the method oauth2.")
    if oauth and not way.discover and not {"authorization_endpoint", "token_endpoint"} <= set(way.oauth):
        raise table.bad("without discover, oauth needs an authorization_endpoint and a token_endpoint.")
    if way.needs_app and not way.steps:
        raise table.bad("say in steps how the app is made at the provider.")
    if way.needs_app and not any(CALLBACK in step for step in way.steps):
        raise table.bad(f"one of the steps has to say where {CALLBACK} is entered.")
    with_headers = way.method in (Method.SHARED_HEADER, Method.OWN_HEADER)
    if with_headers != bool(way.headers):
        raise table.bad("headers belong to the methods shared_header and own_header, and these need them.")
    if way.method == Method.OWN_HEADER:
        try:
            check_own_header(OwnHeaderSettings(way.headers, way.labels))
        except BadTemplate as error:
            raise table.bad(str(error)) from error
    elif way.labels:
        raise table.bad("labels belong to the method own_header.")
