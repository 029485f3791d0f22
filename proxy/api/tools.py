"""The tools of a server that a caller may use, out of the catalogue: the server itself is not asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from time import time
from typing import Any

from authflows.inbound.api_callers import ApiCaller
from authflows.outbound.my_members import members_for
from proxy.engine.lists import Sight, seen
from servers import registry
from servers.access import Allowed, decide, decide_item
from servers.catalogue.facts import catalogue_of
from servers.items import ItemKind
from servers.models import Server
from servers.usable import Usable
from servers.virtual.arrangement import Arrangement, arrangement_of


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool by the name that it is called by, and its definition as compact JSON."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Tools:
    """Those of one server. `known` is False while its catalogue was never read."""

    tools: Sequence[Tool]
    known: bool

    def find(self, name: str) -> Tool | None:
        """The tool of this name."""
        return next((tool for tool in self.tools if tool.name == name), None)


def tools_of(caller: ApiCaller, usable: Usable) -> Tools:
    """What the caller may call there; nothing while the server is switched off."""
    server, allowed = usable.server, usable.allowed
    if allowed is None:
        return Tools((), known=True)
    if not server.is_virtual and not _is_translated(server):
        return _own_tools(server, allowed)
    arrangement = arrangement_of(server.pk, virtual=server.is_virtual)
    sights = tuple(_sights(caller, server, allowed, arrangement))
    tools = [Tool(entry.name, entry.text) for entry in seen(arrangement, ItemKind.TOOL, sights)]
    visible = {sight.member for sight in sights}
    known = all(found.taken for member, found in arrangement.catalogues.items() if member in visible)
    return Tools(tools, known)


def _own_tools(server: Server, allowed: Allowed) -> Tools:
    """Of a server whose calls pass as they are: by its own names."""
    catalogue = catalogue_of(server.pk)
    tools = [
        Tool(key, text)
        for (kind, key), text in catalogue.texts.items()
        if kind is ItemKind.TOOL and decide_item(allowed, catalogue.items[kind, key])
    ]
    return Tools(tools, catalogue.taken)


def _is_translated(server: Server) -> bool:
    """Whether the engine passes calls of the API on, which names tools in its own way where they have odd letters."""
    return server.path == Server.Path.ENGINE or (server.path == Server.Path.AUTO and server.eras == Server.Eras.LEGACY)


def _sights(caller: ApiCaller, server: Server, allowed: Allowed, arrangement: Arrangement) -> Iterator[Sight]:
    if not server.is_virtual:
        yield from (Sight(member.id, allowed) for member in arrangement.members)
        return
    hidden: set[Any] = set()
    if not server.list_unconnected:
        hidden = {one.server.pk for one in members_for(caller.user, server) if one.missing is not None}
    # A key for the virtual server reaches its members.
    principal = replace(caller.principal, limited_to=None)
    for member in arrangement.members:
        facts = registry.find_by_id(member.server_id)
        if facts is None or facts.id in hidden:
            continue
        decision = decide(
            principal,
            server_id=facts.id,
            tenant_id=facts.tenant_id,
            enabled=facts.enabled,
            rules=facts.rules,
            now=time(),
        )
        if isinstance(decision, Allowed):
            yield Sight(member.id, decision, here=allowed)
