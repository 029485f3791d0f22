"""What the playground offers to one person: their servers, and what each still asks of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict
from uuid import UUID

from django.urls import reverse

from authflows.inbound import my_servers
from authflows.inbound.my_servers import MyServer
from authflows.outbound.my_connections import MyConnection, connections_of
from authflows.outbound.my_members import Tally, members_of_each
from authflows.outbound.my_own_keys import own_keys_of
from authflows.outbound.needs import Missing, Need
from servers.models import Server

_ACTIONS: Mapping[Need, str] = {
    Need.CONNECT: "Connect Now",
    Need.RECONNECT: "Connect again",
    Need.OWN_KEY: "Enter key",
}


class Way(TypedDict):
    """What the person still has to do, and where. Without `url` nothing but the sentence helps."""

    sentence: str
    action: str
    url: str
    post: bool
    """The address takes a form with the CSRF token; otherwise it is a page to open."""


class Choice(TypedDict):
    """One server in the list."""

    tenant: str
    slug: str
    name: str
    description: str
    group: str
    state: str
    state_text: str
    account: str
    """The connected account as far as its provider named it."""
    url: str
    """Where the page calls it."""
    page: str
    missing: Way | None


def choices_of(user: Any) -> list[Choice]:
    """All servers that `user` may use, by name; a bounded number of queries."""
    found = my_servers.servers_of(user)
    usable = {item.server.pk: item.server for item in found}
    connections = {item.server.pk: item for item in connections_of(user, usable)}
    lacking: dict[UUID, Missing | None] = {server_id: item.missing for server_id, item in connections.items()}
    lacking |= {item.server.pk: item.missing for item in own_keys_of(user, usable)}
    virtual = [item.server for item in found if item.server.is_virtual]
    members = members_of_each(user, virtual) if virtual else {}
    choices = []
    for item in found:
        server = item.server
        if server.is_virtual:
            missing = _members_way(server, Tally(members[server.pk]))
        else:
            missing = _way(server, lacking.get(server.pk))
        choices.append(_choice(item, connections.get(server.pk), missing))
    return choices


def _choice(item: MyServer, connection: MyConnection | None, missing: Way | None) -> Choice:
    server = item.server
    place = [server.tenant.slug, server.slug]
    held = connection.connection if connection is not None else None
    return Choice(
        tenant=server.tenant.slug,
        slug=server.slug,
        name=server.name,
        description=server.description,
        group=server.group.name if server.group is not None else "",
        state=item.state,
        state_text=item.state_text,
        account=held.account_label if held is not None else "",
        url=reverse("playground-mcp", args=place),
        page=reverse("portal-server", args=place),
        missing=missing,
    )


def _way(server: Server, missing: Missing | None) -> Way | None:
    if missing is None:
        return None
    place = [server.tenant.slug, server.slug]
    if missing.need is Need.CREDENTIAL:
        return Way(sentence=missing.sentence, action="", url="", post=False)
    if missing.need is Need.OWN_KEY:
        return Way(
            sentence=missing.sentence, action=_ACTIONS[missing.need], url=reverse("own-key", args=place), post=False
        )
    return Way(
        sentence=missing.sentence, action=_ACTIONS[missing.need], url=reverse("connect-now", args=place), post=True
    )


def _members_way(virtual: Server, tally: Tally) -> Way | None:
    """The others of its members can be called meanwhile."""
    if not tally.missing:
        return None
    page = reverse("portal-server", args=[virtual.tenant.slug, virtual.slug])
    names = ", ".join(member.server.name for member in tally.missing[:3])
    more = len(tally.missing) - 3
    sentence = f"Not connected yet: {names}{f' and {more} more' if more > 0 else ''}."
    return Way(sentence=sentence, action="Connect members", url=f"{page}#members", post=False)
