"""The account, the tenant and the rules: what of `access.decide` is about the person."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.db.models import Q
from django.urls import reverse

from authflows.explaining.steps import Fix, Look, Reader, Step, at, failed, passed
from servers.access import Allowed, Denied, Principal, Reason
from servers.links import admin_url
from servers.models import AccessRule, Role, Server
from servers.rule_texts import rights_text, role_text

Decision = Allowed | Denied
Managers = Callable[[], list[str]]
"""Whom to ask, looked up where somebody has to be asked."""


def account_step(person: Any, decision: Decision, reader: Reader) -> Step:
    """Is the account switched on?"""
    account = getattr(person, "virtual_account", None)
    if not _is(decision, Reason.INACTIVE):
        return passed(Look.ACCOUNT, "It is switched on.")
    if account is not None:
        may = reader.scope is not None and reader.scope.administers(account.tenant_id)
        fix = Fix("Enable the virtual account.", admin_url(account) if may else "", "The virtual account")
    elif reader.scope is not None and reader.scope.superuser:
        fix = Fix("Make the person active again.", reverse("admin:auth_user_change", args=[person.pk]), "The person")
    else:
        fix = Fix("A superuser makes the account active again.")
    return failed(
        Look.ACCOUNT, Reason.INACTIVE, "The account is switched off, and everything of it is refused.", fix=fix
    )


def tenant_step(server: Server, decision: Decision, reader: Reader) -> Step:
    """Does the person belong to the server's tenant?"""
    if not _is(decision, Reason.OTHER_TENANT):
        return passed(Look.TENANT, f"Belongs to {server.tenant.name}.")
    may = reader.scope is not None and reader.scope.superuser
    fix = Fix(f"Add the account to {server.tenant.name}.", admin_url(server.tenant) if may else "", "The tenant")
    sentence = f"Does not belong to {server.tenant.name}; a rule alone does not open a server of another tenant."
    return failed(Look.TENANT, Reason.OTHER_TENANT, sentence, fix=fix)


def key_step(server: Server, principal: Principal, decision: Decision, reader: Reader) -> Step | None:
    """Is the key for this server? None where it has no limit."""
    if principal.limited_to is None or principal.audience is not None:
        return None
    if not _is(decision, Reason.KEY_LIMITED):
        return passed(Look.KEY, f"The key is limited to servers of which {server.name} is one.")
    fix = (
        Fix("Make a key for this server.", reverse("my-key-new"), "New key")
        if reader.themselves
        else Fix("Its owner makes a key for this server.")
    )
    return failed(Look.KEY, Reason.KEY_LIMITED, "The key is limited to other servers.", fix=fix)


def rule_step(
    person: Any, server: Server, principal: Principal, decision: Decision, reader: Reader, *, now: datetime
) -> Step:
    """Which rules let the person in, or let them in once?"""
    rows = rules_about(server, principal)
    if _is(decision, Reason.NO_RULE, Reason.RULE_EXPIRED):
        found = [f"{_sentence(row)}, ended {at(row.expires_at)}." for row in rows if row.expires_at is not None]
        whom = "you or a team of yours" if reader.themselves else f"{person.get_username()} or a team of theirs"
        code = decision.reason if isinstance(decision, Denied) else Reason.NO_RULE
        first = f"No rule {'that names' if found else 'names'} {whom}{' holds any more' if found else ''}."
        return failed(Look.RULE, code, first, *found, fix=_rule_fix(server, person, code, reader))
    live = [row for row in rows if row.expires_at is None or row.expires_at > now]
    lines = [f"{_sentence(row)}, {_until(row)}." for row in live]
    if isinstance(decision, Allowed) and (limits := rights_text(decision.rights)):
        lines.append(f"Together they open: {limits}.")
    return passed(Look.RULE, *lines)


def rules_about(server: Server, principal: Principal) -> list[AccessRule]:
    """The rules on the server or its group that name the person or a team of theirs; managers' first."""
    here = Q(server=server) | Q(group=server.group_id) if server.group_id else Q(server=server)
    named = Q(user=principal.user_id) | Q(team__in=principal.teams)
    rows = AccessRule.objects.filter(here).filter(named).select_related("team", "group", "server", "user")
    return sorted(rows, key=lambda row: row.role != Role.MANAGER)


def managers_of(server: Server, *, now: datetime) -> list[str]:
    """User names of up to three people who manage the server by a rule of their own."""
    here = Q(server=server) | Q(group=server.group_id) if server.group_id else Q(server=server)
    live = Q(expires_at__isnull=True) | Q(expires_at__gt=now)
    rows = AccessRule.objects.filter(here).filter(live, role=Role.MANAGER, user__is_active=True)
    rows = rows.filter(user__memberships__tenant=server.tenant_id)
    return list(rows.order_by("user__username").values_list("user__username", flat=True).distinct()[:3])


def server_step(server: Server, decision: Decision, reader: Reader, *, managers: Managers) -> Step:
    """Is the server switched on?"""
    if not _is(decision, Reason.SERVER_DISABLED):
        return passed(Look.SERVER, "It is switched on.")
    fix = (
        Fix("Enable it.", admin_url(server), "The server")
        if reader.manages(server)
        else Fix(f"Ask {asked(managers())} when it comes back.")
    )
    return failed(
        Look.SERVER, Reason.SERVER_DISABLED, f"{server.name} is switched off; every call is refused.", fix=fix
    )


def asked(managers: list[str]) -> str:
    """Whom to ask: the managers by name, where there are any."""
    return " or ".join(managers) if managers else "an admin of this gateway"


def _rule_fix(server: Server, person: Any, code: Reason, reader: Reader) -> Fix:
    if reader.manages(server):
        what = "Change the end of the rule" if code is Reason.RULE_EXPIRED else "Add them, or a team of theirs"
        return Fix(
            f"{what}, under Collaborators on the page of the server or of its group.", admin_url(server), "The server"
        )
    if reader.themselves:
        name = person.get_username()
        if server.requestable:
            return Fix("Ask for access: its manager answers.", reverse("portal"), "Servers you can ask for")
        return Fix(f"Ask its manager, or an admin of this gateway, to let you in. Your user name is {name}.")
    return Fix(f"A manager of {server.name} adds them as a collaborator.")


def _sentence(row: AccessRule) -> str:
    through = f"through the team {row.team.name}" if row.team is not None else "by name"
    where = f"on the group {row.group.name}" if row.group is not None else "on the server"
    return f"{role_text(row)} {through}, {where}"


def _until(row: AccessRule) -> str:
    return f"until {at(row.expires_at)}" if row.expires_at else "without an end"


def _is(decision: Decision, *reasons: Reason) -> bool:
    return isinstance(decision, Denied) and decision.reason in reasons
