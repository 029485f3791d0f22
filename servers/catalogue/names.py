"""Names that a rule may be about, for forms: what the catalogues of a server or of a group's servers offer."""

from __future__ import annotations

from typing import Final

from django.db.models import Q

from servers.items import ItemKind
from servers.models.catalogue import CatalogueItem
from servers.models.servers import Server, ServerGroup
from servers.virtual.arrangement import arrangement_of

MOST_NAMES: Final = 2_000
_ORDER: Final = {kind: number for number, kind in enumerate(ItemKind)}


def names_on(holder: Server | ServerGroup) -> list[str]:
    """As `kind:key`, by kind and in the order of the servers' lists, each once; at most MOST_NAMES."""
    where = Q(catalogue__server=holder) if isinstance(holder, Server) else Q(catalogue__server__group=holder)
    rows = CatalogueItem.objects.filter(where).exclude(state=CatalogueItem.State.GONE)
    ordered = rows.order_by("kind", "position", "key").values_list("kind", "key")[:MOST_NAMES]
    found = [(ItemKind(kind), key) for kind, key in ordered]
    for server in _virtual_servers(holder):
        found += arrangement_of(server.pk, virtual=True).by_name
    found.sort(key=lambda item: _ORDER[item[0]])
    return list(dict.fromkeys(f"{kind}:{key}" for kind, key in found))[:MOST_NAMES]


def _virtual_servers(holder: Server | ServerGroup) -> list[Server]:
    if isinstance(holder, Server):
        return [holder] if holder.is_virtual else []
    return list(holder.servers.filter(kind=Server.Kind.VIRTUAL))
