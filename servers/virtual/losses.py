"""What virtual servers lose when one of their members goes, is switched off or moves (F-315)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from servers.items import ItemKind
from servers.models import AccessRule, Role, Server
from servers.models.virtual import VirtualMember
from servers.people import person_label
from servers.virtual.arrangement import arrangement_of

_WORDS = {
    ItemKind.TOOL: "tool",
    ItemKind.PROMPT: "prompt",
    ItemKind.RESOURCE: "resource",
    ItemKind.TEMPLATE: "resource template",
}


def counted(counts: Counter[ItemKind]) -> str:
    """“12 tools and 1 prompt”, or “nothing”."""
    parts = [f"{number} {_WORDS[kind]}{'' if number == 1 else 's'}" for kind in ItemKind if (number := counts[kind])]
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]])) or "nothing"


def losses_of(servers: Iterable[Server]) -> list[str]:
    """A line for each virtual server that loses one of these as a member: whose it is, and what it loses."""
    going = {server.pk for server in servers}
    lines = []
    for member in _memberships(going):
        arranged = arrangement_of(member.virtual_id, virtual=True)
        counts = Counter(
            entry.item.kind
            for entries in arranged.entries.values()
            for entry in entries
            if entry.member.server_id == member.server_id
        )
        line = f"The virtual server {member.virtual}{_whose(member.virtual)} loses {counted(counts)} of {member.server}"
        left = {one.server_id for one in arranged.members} - going
        lines.append(f"{line}, and is left without members." if not left else f"{line}.")
    return lines


def withheld_after_move(server: Server) -> list[str]:
    """A line for each virtual server whose credential for this member is not sent to another address."""
    return [
        f"The virtual server {member.virtual}{_whose(member.virtual)} calls {member.server} with a credential of its "
        "own, which is not sent to another host: its manager has to enter it again."
        for member in _memberships({server.pk})
        if member.credential
    ]


def _memberships(server_ids: Iterable[object]) -> list[VirtualMember]:
    rows = VirtualMember.objects.filter(server__in=list(server_ids)).select_related("virtual", "server")
    return list(rows.order_by("virtual__name", "server__name"))


def _whose(virtual: Server) -> str:
    rules = AccessRule.objects.filter(server=virtual, role=Role.MANAGER).select_related("user", "team")
    names = [person_label(rule.user) if rule.user_id else f"the team {rule.team}" for rule in rules[:4]]
    if not names:
        return ""
    return f" of {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}"
