"""A text to entries, whatever kind of file it is. Pure."""

from __future__ import annotations

from typing import Final

from servers.imports import clients, registry
from servers.imports.documents import BadDocument, read
from servers.imports.entries import Entry

MOST_ENTRIES: Final = 100
_NEITHER: Final = (
    "This is JSON, but neither a client's configuration (mcpServers, servers, context_servers) nor an entry of the "
    "MCP registry (server.json)."
)


def entries_of(text: str) -> list[Entry]:
    """The entries in the order of the text, at most 100. Raises BadDocument."""
    document = read(text)
    found = registry.entries(document)
    if found is None:
        found = clients.entries(document)
    if found is None:
        raise BadDocument(_NEITHER)
    if not found:
        raise BadDocument("There is no server in it.")
    if len(found) > MOST_ENTRIES:
        raise BadDocument(f"It has {len(found):,} servers. Import at most {MOST_ENTRIES} at a time.")
    return found
