"""Which URIs a template stands for, and whose a URI is that nobody listed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from mcp.shared.uri_template import InvalidUriTemplate
from mcp.shared.uri_template import UriTemplate as Expanding

from servers.access import Allowed, Denied, Reason
from servers.catalogue.uris import uris_of
from servers.items import Item, ItemFilter, ItemKind, ItemRights
from servers.models.access import Items, Role
from servers.uri_templates import LONGEST_URI, BadTemplate, UriTemplate, is_plain, matches, matching

pytestmark = pytest.mark.requirement("F-502")

FITS = [
    ("note://{id}", "note://7"),
    ("note://{id}", "note://a%20b"),
    ("note://{id}", "note://user@example.com"),
    ("note://{id}/text", "note://7/text"),
    ("note://{a}-{b}", "note://1-2-3"),
    ("note://{a,b}", "note://1,2"),
    ("note://{id:3}", "note://abc"),
    ("file:///{+path}", "file:///a/b/c.txt"),
    ("file:///{+path}", "file:///a?b#c"),
    ("file:///{+path}{?line}", "file:///a/b?line=3"),
    ("page://x{#part}", "page://x#a/b"),
    ("page://x{#part}", "page://x"),
    ("file:///name{.ext}", "file:///name.tar.gz"),
    ("file:///name{.ext}", "file:///name"),
    ("repo:/{/owner,name}", "repo://acme/x"),
    ("repo:/{/owner,name}", "repo://acme"),
    ("repo:/{/path*}", "repo://a/b/c/d"),
    ("map://at{;x,y}", "map://at;x=1;y=2"),
    ("map://at{;x,y}", "map://at;y=2"),
    ("map://at{;x,y}", "map://at;x"),
    ("find://x{?q,page}", "find://x?q=a&page=2"),
    ("find://x{?q,page}", "find://x?page=2&q=a"),
    ("find://x{?q,page}", "find://x"),
    ("find://x{?q*}", "find://x?any=1&other=2"),
    ("find://x?a=1{&b}", "find://x?a=1&b=2"),
    ("plain://text", "plain://text"),
    ("", ""),
]
FITS_NOT = [
    ("note://{id}", "note://7/text"),
    ("note://{id}", "note://7?x=1"),
    ("note://{id}", "xnote://7"),
    ("note://{id}/text", "note://7/text/more"),
    ("note://{id}", "note://a b"),
    ("note://{id}", "note://a\nb"),
    ("note://{id}", "note://a\\b"),
    ("note://{id}", "note://a,b"),
    ("page://x{#part}", "page://x/y"),
    ("repo:/{/owner,name}", "repo://a/b/c"),
    ("map://at{;x,y}", "map://at;z=1"),
    ("find://x{?q,page}", "find://x?admin=1"),
    ("find://x{?q,page}", "find://x?q=a&admin=1"),
    ("find://x?a=1{&b}", "find://x?a=1&c=2"),
    ("plain://text", "plain://texts"),
    ("note://{id}", "note://" + "a" * LONGEST_URI),
]


@pytest.mark.parametrize(("template", "uri"), FITS)
def test_what_a_template_expands_to_fits_it(template: str, uri: str) -> None:
    assert UriTemplate.parse(template).matches(uri)
    assert matches(template, uri)


@pytest.mark.parametrize(("template", "uri"), FITS_NOT)
def test_anything_else_does_not_fit(template: str, uri: str) -> None:
    assert not UriTemplate.parse(template).matches(uri)


@pytest.mark.parametrize(
    "text", ["x://{", "x://}", "x://{a}}", "x://{{a}}", "x://{}", "x://{!a}", "x://{a b}", "x" * 1001,
             "x://{" + ",".join(f"v{n}" for n in range(33)) + "}"],
)  # fmt: skip
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(BadTemplate):
        UriTemplate.parse(text)
    assert not matches(text, text)


# What is slow here is a busy machine.
RELAXED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
OPERATORS = ["", "+", "#", ".", "/", ";", "?", "&"]
NAMES = ["a", "b", "long_name", "x.y"]
expressions = st.builds(
    lambda operator, names: "{" + operator + ",".join(names) + "}",
    st.sampled_from(OPERATORS),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True),
)
literals = st.text("abc:/-._~", max_size=6)
templates = st.lists(st.one_of(expressions, literals), min_size=1, max_size=5).map("".join)
values = st.dictionaries(st.sampled_from(NAMES), st.text('aZ0 /?#&=,;.%ü"', max_size=6))


@RELAXED
@given(templates, values)
def test_every_expansion_by_another_implementation_fits(template: str, variables: Mapping[str, Any]) -> None:
    try:
        uri = Expanding.parse(template).expand(variables)
    except (InvalidUriTemplate, ValueError):
        assume(False)
    assert UriTemplate.parse(template).matches(uri), (template, uri)


SIMPLE, MANY, ANY, PAIR = r"[^\s\\/?#,&]*", r"[^\s\\/?#]*", r"[^\s\\]*", r"[^\s\\#&]*"


def expected(template: str) -> re.Pattern[str]:
    """The same as a regular expression, which may take exponentially long."""

    def one(match: re.Match[str]) -> str:
        operator, names = match[1], match[2].split(",")
        either = "|".join(map(re.escape, names))
        return {
            "": MANY if len(names) > 1 else SIMPLE,
            "+": ANY,
            "#": f"(#{ANY})?",
            ".": rf"(\.{SIMPLE}){{0,{len(names)}}}",
            "/": f"(/{SIMPLE}){{0,{len(names)}}}",
            ";": "".join(rf"(;{re.escape(name)}(=[^\s\\/?#;]*)?)?" for name in names),
            "?": rf"(\?({either})={PAIR}(&({either})={PAIR}){{0,{len(names) - 1}}})?",
            "&": rf"(&({either})={PAIR}(&({either})={PAIR}){{0,{len(names) - 1}}})?",
        }[operator]

    pieces = re.split(r"(\{[^}]*\})", template)
    return re.compile(
        "".join(
            re.sub(r"\{([+#./;?&]?)(.*)\}", one, piece) if piece[:1] == "{" else re.escape(piece) for piece in pieces
        )
    )


short_expressions = st.builds(
    lambda operator, names: "{" + operator + ",".join(names) + "}",
    st.sampled_from(OPERATORS),
    st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=2, unique=True),
)
short_templates = st.lists(st.one_of(short_expressions, st.text("a/?", max_size=2)), min_size=1, max_size=3).map(
    "".join
)


@RELAXED
@given(short_templates, st.text("ab/?#&=;.,", max_size=8))
def test_it_says_the_same_as_a_regular_expression(template: str, uri: str) -> None:
    fits = expected(template).fullmatch(uri) is not None
    assert UriTemplate.parse(template).matches(uri) is fits, (template, uri)


@pytest.mark.parametrize(
    "template",
    [
        "x://" + "{a}" * 32 + "!",
        "x://" + "{+a}" * 32 + "!",
        "x://" + "{?a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p}" * 2 + "!",
        "x://" + "{/a*}" * 32 + "!",
    ],
)
def test_no_template_and_uri_take_long(template: str) -> None:
    uri = ("x://" + "a?a=/&" * LONGEST_URI)[:LONGEST_URI]
    # Trying every way to read it would not end; a test that goes on is the failure.
    assert not UriTemplate.parse(template).matches(uri)


def test_several_templates_are_tried_in_their_order() -> None:
    found = [UriTemplate.parse(text) for text in ("a://{x}", "b://{x}", "{+all}")]
    assert matching(found, "a://1") == [found[0], found[2]]
    assert matching(found, "a" * (LONGEST_URI + 1)) == []


@pytest.mark.parametrize("uri", ["file:///a/../b", "file:///a/.", "file:///%2e%2e/b", "note://%73ecret", "x://a\\..\\b",
                                 "x://a%2F..%2Fb"])  # fmt: skip
def test_a_roundabout_uri_is_told(uri: str) -> None:
    assert not is_plain(uri)


@pytest.mark.parametrize("uri", ["file:///a/..b", "note://a%20b%2Fc", "https://example.com/a?b=c#d", "note://1.2"])
def test_a_plain_uri_is_told(uri: str) -> None:
    assert is_plain(uri)


# --- whose a URI is


def item(kind: str, key: str, *, served: bool = True) -> Item:
    return Item(ItemKind(kind), key, served)


EVERYTHING = Allowed(Role.USER)


def rights(items: Items, *names: str) -> Allowed:
    return Allowed(Role.USER, ItemRights(frozenset((ItemFilter(items, frozenset(names)),))))


def reason(decision: Allowed | Denied) -> Reason | None:
    return decision.reason if isinstance(decision, Denied) else None


OFFERED = uris_of(
    [
        item("resource", "note://open"),
        item("resource", "note://secret", served=False),
        item("resource_template", "note://{id}"),
        item("resource_template", "file:///{+path}"),
        item("resource_template", "file:///private/{name}", served=False),
        item("resource_template", "file:///public/{name}"),
        item("resource_template", "broken://{"),
        item("tool", "note://tool"),
    ]
)


@pytest.mark.parametrize("uri", ["note://open", "note://7", "file:///a/b", "file:///public/a", "file:///private/a/b"])
def test_a_listed_uri_and_one_of_a_served_template_are_open(uri: str) -> None:
    assert OFFERED.decide(EVERYTHING, uri) == EVERYTHING


@pytest.mark.requirement("T46")
@pytest.mark.parametrize(
    "uri",
    [
        "note://secret",
        "note://%73ecret",
        "note://SECRET",
        "note://%53ECRET",
        "file:///private/a",
        "file:///Private/a",
        "file:///%70rivate/a",
        "file:///public/../private/a",
        "file:///public/%2e%2e/private/a",
        "other://x",
        "broken://{",
        "note://a/b",
    ],
)
def test_a_hidden_resource_is_not_reached_through_a_template_that_fits_it_too(uri: str) -> None:
    assert reason(OFFERED.decide(EVERYTHING, uri)) is Reason.ITEM_NOT_SERVED


@pytest.mark.requirement("T46")
def test_a_uri_is_the_closest_templates_of_several() -> None:
    without = rights(Items.EXCEPT, "resource_template:file:///public/{name}")
    assert reason(OFFERED.decide(without, "file:///public/a")) is Reason.NO_ITEM_RULE
    assert OFFERED.decide(without, "file:///other/a") == without
    only = rights(Items.ONLY, "resource_template:file:///public/{name}")
    assert OFFERED.decide(only, "file:///public/a") == only
    assert reason(OFFERED.decide(only, "file:///other/a")) is Reason.NO_ITEM_RULE


def test_of_two_templates_as_close_both_must_be_theirs() -> None:
    offered = uris_of([item("resource_template", "x://{a}"), item("resource_template", "x://{+b}")])
    assert reason(offered.decide(rights(Items.EXCEPT, "resource_template:x://{+b}"), "x://1")) is Reason.NO_ITEM_RULE
    assert reason(offered.decide(rights(Items.EXCEPT, "resource_template:x://{a}"), "x://1")) is Reason.NO_ITEM_RULE
    assert offered.decide(EVERYTHING, "x://1") == EVERYTHING


def test_templates_that_differ_only_in_case_are_two() -> None:
    offered = uris_of([item("resource_template", "x://a/{id}"), item("resource_template", "x://A/{id}", served=False)])
    assert offered.decide(EVERYTHING, "x://a/1") == EVERYTHING
    assert reason(offered.decide(EVERYTHING, "x://A/1")) is Reason.ITEM_NOT_SERVED
