"""The page of a server: which of its tools, prompts and resources it lists for whom, and how."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from servers.models import AccessRule, Hints, Items, Server
from servers.models.catalogue import CatalogueItem
from tests.conftest import Cast
from tests.servers.test_admin_access import signed_in
from tests.support.catalogues import State, catalogue, item, tool
from tests.support.virtual import virtual_server

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-602")]
PAGE = "/portal/servers/default/calculator/"


def page(person: Any, path: str = PAGE) -> str:
    response = signed_in(person).get(path)
    assert response.status_code == 200
    content: str = response.content.decode()
    return content


def listed(content: str) -> list[str]:
    """The names on the page, in order."""
    return [unescape(name) for name in re.findall(r"<h3><bdi>(.*?)</bdi></h3>", content)]


def test_a_tool_is_listed_with_its_description_hints_parameters_and_a_link_to_try_it(cast: Cast) -> None:
    schema = {
        "type": "object",
        "properties": {
            "text": {"type": "string", "description": "What to look for.", "maxLength": 80},
            "filter": {"type": "object", "properties": {"since": {"type": "string", "format": "date"}}},
        },
        "required": ["text"],
    }
    item(
        cast.server,
        {
            "name": "search",
            "title": "Search the archive",
            "description": "Looks for words.",
            "inputSchema": schema,
            "annotations": {"readOnlyHint": True},
        },
        says_read_only=True,
    )
    content = page(cast.member)
    assert listed(content) == ["search"]
    for words in ("Search the archive", "Looks for words.", "Only reads", "What to look for.", "required", "since"):
        assert words in content
    assert "characters at most 80" in content
    assert 'href="/portal/playground/?server=default/calculator&amp;tool=search"' in content


@pytest.mark.requirement("F-502")
def test_only_what_is_theirs_and_served_is_listed(cast: Cast) -> None:
    for name in ("add", "divide", "canary"):
        item(cast.server, tool(name))
    item(cast.server, tool("held"), state=State.HELD)
    item(cast.server, tool("off"), enabled=False)
    assert listed(page(cast.member)) == ["add", "divide", "canary"]
    AccessRule.objects.filter(team=cast.readers).update(items=Items.ONLY, item_names=["tool:divide"])
    content = page(cast.member)
    assert listed(content) == ["divide"]
    assert "canary" not in content
    assert listed(page(cast.manager)) == ["add", "divide", "canary"]
    AccessRule.objects.filter(team=cast.readers).update(items=Items.ALL, item_names=[], hints=Hints.READ_ONLY)
    assert "Nothing of what it offers is open to you" in page(cast.member)


def test_prompts_and_resources_have_a_list_each(cast: Cast) -> None:
    item(cast.server, tool("add"))
    prompt = {"name": "greet", "arguments": [{"name": "whom", "required": True, "description": "A name."}]}
    item(cast.server, prompt, kind=CatalogueItem.Kind.PROMPT)
    item(
        cast.server,
        {"uri": "file:///readme", "name": "Read me", "mimeType": "text/plain"},
        kind=CatalogueItem.Kind.RESOURCE,
    )
    assert listed(page(cast.member)) == ["add"]
    content = page(cast.member, f"{PAGE}?kind=prompt")
    assert listed(content) == ["greet"]
    assert "A name." in content
    assert "Try it" not in content
    content = page(cast.member, f"{PAGE}?kind=resource")
    assert listed(content) == ["file:///readme"]
    assert "Read me" in content
    assert "text/plain" in content
    assert listed(page(cast.member, f"{PAGE}?kind=nonsense")) == ["add"]


def test_a_long_list_has_pages_and_a_search(cast: Cast) -> None:
    for number in range(30):
        item(cast.server, tool(f"tool-{number:02}", f"Does number {number}."))
    content = page(cast.member)
    assert "Page 1 of 3" in content
    assert len(listed(content)) == 12
    assert listed(page(cast.member, f"{PAGE}?items=3"))[-1] == "tool-29"
    assert listed(page(cast.member, f"{PAGE}?find=NUMBER+17")) == ["tool-17"]
    assert "Nothing matches “zzz”" in page(cast.member, f"{PAGE}?find=zzz")


def test_what_was_never_read_is_not_shown_as_nothing(cast: Cast) -> None:
    content = page(cast.member)
    assert "has not read yet what this server offers" in content
    assert 'href="/portal/playground/?server=default/calculator"' in content
    catalogue(cast.server)
    assert "It offers no tools, prompts or resources" in page(cast.member)


def test_before_a_key_is_entered_the_page_says_so_and_lists_nothing(cast: Cast, safe: Server) -> None:
    item(safe, tool("open"))
    content = page(cast.member, f"/portal/servers/default/{safe.slug}/")
    assert "Enter your key first" in content
    assert listed(content) == []


def test_a_server_that_is_off_lists_nothing(cast: Cast) -> None:
    item(cast.server, tool("add"))
    Server.objects.update(enabled=False)
    assert "Nothing while it is switched off" in page(cast.member)


@pytest.mark.requirement("F-605")
@pytest.mark.parametrize("shows", [True, False], ids=["listed", "hidden"])
def test_a_virtual_server_lists_what_of_its_members_is_theirs(cast: Cast, safe: Server, shows: bool) -> None:
    hidden = Server.objects.create(tenant=cast.tenant, slug="hidden", name="Hidden", url="http://127.0.0.1:9/mcp")
    item(cast.server, tool("add"))
    item(safe, tool("open"))
    item(hidden, tool("canary"))
    virtual_server(cast, (cast.server, "calc"), (safe, "safe"), (hidden, "x"), slug="office", list_unconnected=shows)
    content = page(cast.member, "/portal/servers/default/office/")
    assert listed(content) == (["calc__add", "safe__open"] if shows else ["calc__add"])
    assert "canary" not in content
    assert (", not connected yet<" in content) is shows


@pytest.mark.requirement("T25")
def test_what_a_server_says_is_text_and_nothing_of_it_hides(cast: Cast) -> None:
    schema = {"type": "object", "properties": {"<img src=x>": {"type": "string", "description": "<i>a</i>\u202eb"}}}
    item(cast.server, {"name": "x", "description": "<script>alert(1)</script>\u202e\x1b[1m", "inputSchema": schema})
    content = page(cast.member)
    for markup in ("<script>alert", "<i>a", "<img", "\u202e", "\x1b"):
        assert markup not in content
    assert "U+202E" in content


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"type": "object", "properties": {"self": {"$ref": "#"}}},
        {"type": "object", "properties": "none"},
        {"type": "object", "properties": {"a": {"enum": ["x" * 5000] * 500, "description": "y" * 50_000}}},
        {"type": "object", "properties": {f"p{n}": {"type": "string", "description": "z" * 900} for n in range(900)}},
    ],
    ids=["only a reference", "recursive", "wrong", "huge texts", "many"],
)
def test_odd_schemas_are_shown_and_the_page_stays_small(cast: Cast, schema: dict[str, Any]) -> None:
    for number in range(20):
        item(cast.server, {"name": f"t{number}", "description": "d" * 10_000, "inputSchema": schema})
    response = signed_in(cast.member).get(PAGE)
    assert response.status_code == 200
    assert len(response.content) < 150 * 1024


def test_the_page_costs_at_most_twenty_queries_however_much_there_is(cast: Cast, safe: Server) -> None:
    office = virtual_server(cast, (cast.server, "calc"), (safe, "safe"), slug="office")
    item(cast.server, tool("add"))
    client = signed_in(cast.member)

    def queries(path: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(path).status_code == 200
        return len(captured)

    for path in (PAGE, f"/portal/servers/default/{office.slug}/"):
        client.get(path)
        few = queries(path)
        for number in range(15):
            item(cast.server, tool(f"{office.pk}-{number}-{len(path)}"))
        client.get(path)
        assert queries(path) == few <= 20
