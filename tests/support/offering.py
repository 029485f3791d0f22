"""Servers with a catalogue that stands in the rows, as a reading would have left it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django.utils import timezone

from servers import changes
from servers.models import AuthConfig, Catalogue, CatalogueItem, Server, Tenant

Kind = CatalogueItem.Kind
_NAMED_BY = {
    Kind.TOOL: "name",
    Kind.PROMPT: "name",
    Kind.RESOURCE: "uri",
    Kind.TEMPLATE: "uriTemplate",
}


def offering(
    tenant: Tenant, slug: str, *, tools: Iterable[str] = (), prompts: Iterable[str] = (), resources: Iterable[str] = (),
    templates: Iterable[str] = (), method: str = AuthConfig.Method.NONE, **about: Any,
) -> Server:  # fmt: skip
    """A server in the tenant that offers these; `about` are fields of its row."""
    fields = {"name": slug.replace("-", " ").title(), "url": f"https://{slug}.example/mcp", **about}
    server = Server.objects.create(tenant=tenant, slug=slug, **fields)
    AuthConfig.objects.create(server=server, method=method)
    offer(server, tools=tools, prompts=prompts, resources=resources, templates=templates)
    return server


def offer(
    server: Server, *, tools: Iterable[str] = (), prompts: Iterable[str] = (), resources: Iterable[str] = (),
    templates: Iterable[str] = (), **fields: Any,
) -> None:  # fmt: skip
    """Let the server's catalogue have these items too, approved unless `fields` say something else."""
    catalogue, _ = Catalogue.objects.get_or_create(server=server, defaults={"taken_at": timezone.now()})
    position = catalogue.items.count()
    rows = []
    for kind, keys in (
        (Kind.TOOL, tools), (Kind.PROMPT, prompts), (Kind.RESOURCE, resources), (Kind.TEMPLATE, templates),
    ):  # fmt: skip
        for key in keys:
            text = json.dumps({_NAMED_BY[kind]: key, "description": f"What {key} does."}, separators=(",", ":"))
            given = {"approved": text, "offered": text, "state": CatalogueItem.State.APPROVED, **fields}
            rows.append(CatalogueItem(catalogue=catalogue, kind=kind, key=key, position=position + len(rows), **given))
    CatalogueItem.objects.bulk_create(rows, batch_size=500)
    changes.record("catalogue", server.pk)
