"""Catalogues as rows, in the states that a reading and decisions leave behind."""

from __future__ import annotations

import json
from typing import Any

from django.utils import timezone

from servers.catalogue.settling import settle
from servers.models import Server
from servers.models.catalogue import Catalogue, CatalogueItem

State = CatalogueItem.State


def tool(name: str, description: str = "Adds two numbers.", **more: Any) -> dict[str, Any]:
    """A tool's definition."""
    schema = {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]}
    return {"name": name, "description": description, "inputSchema": schema, **more}


def catalogue(server: Server, **values: Any) -> Catalogue:
    """The server's catalogue as a successful reading left it, with these values."""
    now = timezone.now()
    made, _ = Catalogue.objects.update_or_create(server=server, defaults={"taken_at": now, "tried_at": now, **values})
    settle(made)
    return made


def item(
    server: Server,
    definition: dict[str, Any],
    *,
    approved: dict[str, Any] | None = None,
    state: str = State.APPROVED,
    kind: str = CatalogueItem.Kind.TOOL,
    **values: Any,
) -> CatalogueItem:
    """One row: what the server offers, and what was approved (the same where it is approved)."""
    known = Catalogue.objects.filter(server=server).first() or catalogue(server)
    before = definition if state == State.APPROVED and approved is None else approved
    keys = {"resource": "uri", "resource_template": "uriTemplate"}
    made = CatalogueItem.objects.create(
        catalogue=known,
        kind=kind,
        key=definition[keys.get(kind, "name")],
        position=known.items.count(),
        offered=json.dumps(definition, separators=(",", ":"), ensure_ascii=False),
        approved=json.dumps(before, separators=(",", ":"), ensure_ascii=False) if before else "",
        state=state,
        **values,
    )
    settle(known)
    made.refresh_from_db()
    return made


def changed(server: Server, name: str = "search", **values: Any) -> CatalogueItem:
    """A tool that was approved, and that the server describes in another way by now."""
    before = tool(name, "Searches the archive.")
    return item(server, tool(name, "Searches the archive and mails it."), approved=before, state=State.HELD, **values)
