"""Virtual servers for tests: members in front of real upstreams, with catalogues as an admin would have approved."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from django.utils import timezone

from servers.models import AccessRule, AuthConfig, Catalogue, CatalogueItem, Role, Server, VirtualMember
from tests.conftest import Cast, allow_private

KEYS = {"tool": "name", "prompt": "name", "resource": "uri", "resource_template": "uriTemplate"}
CAPABILITIES = {"tool": "tools", "prompt": "prompts", "resource": "resources", "resource_template": "resources"}
Definitions = Mapping[str, Iterable[Mapping[str, Any]]]


def tool(name: str, **fields: Any) -> dict[str, Any]:
    """The definition of a tool without arguments."""
    return {"name": name, "inputSchema": {"type": "object"}, **fields}


def add_server(cast: Cast, slug: str, url: str, *, eras: str = "", **fields: Any) -> Server:
    """A server that the team of `cast.member` may use."""
    server = Server.objects.create(
        tenant=cast.tenant, slug=slug, name=slug.title(), url=url, eras=eras, eras_at=timezone.now(), **fields
    )
    AuthConfig.objects.create(server=server)
    AccessRule.objects.create(server=server, team=cast.readers, role=Role.USER)
    if url:
        allow_private(url)
    return server


def set_catalogue(server: Server, definitions: Definitions, **fields: Any) -> Catalogue:
    """A catalogue in which everything is approved; `definitions` by kind."""
    capabilities = {CAPABILITIES[kind]: {} for kind in definitions}
    catalogue, _ = Catalogue.objects.get_or_create(server=server)
    for name, value in {"capabilities": capabilities, "taken_at": timezone.now(), **fields}.items():
        setattr(catalogue, name, value)
    catalogue.version += 1
    CatalogueItem.objects.filter(catalogue=catalogue).delete()
    CatalogueItem.objects.bulk_create(
        CatalogueItem(
            catalogue=catalogue,
            kind=kind,
            key=definition[KEYS[kind]],
            position=position,
            approved=json.dumps(definition, separators=(",", ":")),
            offered=json.dumps(definition, separators=(",", ":")),
            state=CatalogueItem.State.APPROVED,
        )
        for kind, found in definitions.items()
        for position, definition in enumerate(found)
    )
    catalogue.save()
    return catalogue


def virtual_server(cast: Cast, *members: tuple[Server, str], slug: str = "bundle", **fields: Any) -> Server:
    """A virtual server of these members, each with its alias; the team of `cast.member` may use it."""
    server = Server.objects.create(
        tenant=cast.tenant, slug=slug, name=slug.title(), kind=Server.Kind.VIRTUAL, url="", **fields
    )
    AccessRule.objects.create(server=server, team=cast.readers, role=Role.USER)
    for position, (member, alias) in enumerate(members):
        VirtualMember.objects.create(virtual=server, server=member, alias=alias, position=position)
    return server
