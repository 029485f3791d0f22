"""How servers stand for a person, as the API says it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from authflows.models import Connection, OwnKey
from authflows.outbound.my_connections import MyConnection
from authflows.outbound.my_members import MyMember, Reach, Tally
from authflows.outbound.my_own_keys import MyOwnKey
from servers.models import Server


def status_of(server: Server, members: Sequence[MyMember]) -> dict[str, Any]:
    """One server with what it is reached through: its members, or itself."""
    if not server.is_virtual:
        return {**_member(members[0]), "members": []}
    tally = Tally(tuple(members))
    missing = tally.missing
    status = "ready" if not missing else "partly_ready" if len(missing) < len(members) else "action_required"
    count = len(missing)
    verb = "has" if count == 1 else "have"
    return {
        **_plain(server),
        "credential": Reach.NOBODY,
        "status": status,
        "need": missing[0].missing.need if missing and missing[0].missing is not None else None,
        "detail": f"{count} of its servers {verb} to be connected first." if missing else "",
        "members": [_member(member) for member in members],
    }


def _member(member: MyMember) -> dict[str, Any]:
    found: dict[str, Any] = _plain(member.server)
    item = member.item
    row: Connection | OwnKey | None = None
    if isinstance(item, MyConnection) and item.connection is not None:
        row = item.connection
        found |= {"scopes": row.scope.split(), "connected_at": row.connected_at}
    elif isinstance(item, MyOwnKey) and item.key is not None:
        row = item.key
        found |= {"expires_at": row.expires_at, "connected_at": row.updated_at}
    missing = member.missing
    return found | {
        "credential": member.reach,
        "status": "ready" if missing is None else "action_required",
        "need": missing.need if missing is not None else None,
        "detail": missing.sentence if missing is not None else "",
        "account": member.account,
        "last_used_at": row.last_used_at if row is not None else None,
    }


def _plain(server: Server) -> dict[str, Any]:
    return {
        "server": server,
        "account": "",
        "scopes": [],
        "connected_at": None,
        "expires_at": None,
        "last_used_at": None,
    }
