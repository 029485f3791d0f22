"""Virtual servers and bridges for a measurement, with catalogues as readings of the fake upstream would leave them.

`legacy` and `modern` are servers that speak one era only: what a client of the same era calls passes as it is, one of
the other era is bridged. `engine-legacy` and `engine-modern` are the same with everything bridged, and
`virtual-legacy` and `virtual-modern` virtual servers with one of the first two as their only member. `many` is a
virtual server of one member with 10,000 tools, of which a rule hides some from the person.
"""

from __future__ import annotations

import json
from typing import Any

from django.utils import timezone
from setup_engine_names import ALIAS, HIDDEN_EVERY, TOOLS

from servers.models import AccessRule, Catalogue, CatalogueItem, Role, Server, VirtualMember
from servers.models.access import Items

_ECHO = {"name": "echo", "description": "Returns its text.", "inputSchema": {"type": "object"}}


def engine_servers(tenant: Any, url: str) -> list[Server]:
    """Remote servers of the engine's part, not saved yet."""
    now = timezone.now()
    same: dict[str, Any] = {"tenant": tenant, "url": url, "eras_at": now}
    found = []
    for era in ("legacy", "modern"):
        found.append(Server(slug=era, name=era, eras=era, **same))
        slug = f"engine-{era}"
        found.append(Server(slug=slug, name=slug, eras=era, path=Server.Path.ENGINE, **same))
    return [*found, Server(slug="large", name="large", eras="modern", **same)]


def add_catalogues_and_virtual_servers(tenant: Any, person: Any, servers: list[Server]) -> None:
    """What stands behind them and in front of them, for servers that were saved."""
    by_slug = {server.slug: server for server in servers}
    for server in servers:
        _catalogue(server, _many_tools() if server.slug == "large" else [_ECHO])
    hidden = [f"tool:{_name(number)}" for number in range(0, TOOLS, HIDDEN_EVERY)]
    rules = AccessRule.objects.filter(server=by_slug["large"], user=person)
    rules.update(items=Items.EXCEPT, item_names=hidden)
    for slug, member in (("virtual-legacy", "legacy"), ("virtual-modern", "modern"), ("many", "large")):
        virtual = Server.objects.create(tenant=tenant, slug=slug, name=slug, kind=Server.Kind.VIRTUAL, url="")
        AccessRule.objects.create(server=virtual, user=person, role=Role.USER)
        VirtualMember.objects.create(virtual=virtual, server=by_slug[member], alias=ALIAS)


def _name(number: int) -> str:
    return f"tool_{number:05d}"


def _many_tools() -> list[dict[str, Any]]:
    """About 450 bytes each, as a generated tool of a large API has them."""
    text = "Looks for records of this kind that fit all of the given conditions, and returns them page by page. "
    properties = {
        "query": {"type": "string", "description": "Words that the record has to hold."},
        "limit": {"type": "integer", "minimum": 1, "maximum": 100},
        "tags": {"type": "array", "items": {"type": "string"}},
    }
    schema = {"type": "object", "properties": properties, "required": ["query"]}
    hints = {"readOnlyHint": True}
    return [
        {"name": _name(number), "description": f"{text}Kind {number}.", "inputSchema": schema, "annotations": hints}
        for number in range(TOOLS)
    ]


def _catalogue(server: Server, tools: list[dict[str, Any]]) -> None:
    now = timezone.now()
    catalogue = Catalogue.objects.create(
        server=server, version=1, capabilities={"tools": {"listChanged": True}}, taken_at=now, tried_at=now
    )
    texts = [json.dumps(tool, separators=(",", ":")) for tool in tools]
    CatalogueItem.objects.bulk_create(
        (
            CatalogueItem(
                catalogue=catalogue,
                kind=CatalogueItem.Kind.TOOL,
                key=tool["name"],
                position=position,
                approved=text,
                offered=text,
                state=CatalogueItem.State.APPROVED,
                says_read_only=True,
                says_destructive=False,
            )
            for position, (tool, text) in enumerate(zip(tools, texts, strict=True))
        ),
        batch_size=500,
    )
