"""Requests for access: a person asks for a server, its manager answers, and a yes is a rule with an end (F-504).

A server that does not take requests, one of another tenant and one that does not exist are the same to who asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

from servers import audit, registry
from servers.access import Principal
from servers.errors import GatewayError
from servers.models import AccessRequest, AccessRule, Membership, Role, Server
from servers.scope import Scope, scope_of
from servers.usable import usable

State = AccessRequest.State
DURATIONS: Final = (
    (1, "1 day"),
    (7, "7 days"),
    (30, "30 days"),
    (90, "90 days"),
    (365, "1 year"),
    (None, "no end"),
)
"""For how long access is asked for and given, in days; None: until somebody removes it."""
MOST_A_DAY: Final = 20
"""Requests of one person in 24 hours; what is withdrawn counts, so that nobody fills the audit trail."""


class RequestRefused(GatewayError):
    """A request for access that cannot be made or answered as asked; nothing has changed."""

    code = "access_request_refused"


class NotRequestable(RequestRefused):
    """There is no such server to ask for, as far as this person is told."""

    code = "server_not_requestable"


class HasAccess(RequestRefused):
    """The person may use the server already."""

    code = "has_access_already"


class TooManyRequests(RequestRefused):
    """The person asks too often."""

    code = "too_many_access_requests"


class NotWaiting(RequestRefused):
    """Somebody answered or withdrew the request before."""

    code = "access_request_answered"


# Pure decisions


@dataclass(frozen=True, slots=True)
class Standing:
    """The person's own rule on the server, as it is before the answer."""

    role: Role
    ends: datetime | None


class Effect(StrEnum):
    """What a yes does to the rules."""

    ADD = "add"
    """There was no rule of the person's own."""
    RENEW = "renew"
    """There was one that had expired; it opens what it opened, as a User's."""
    EXTEND = "extend"
    NONE = "none"
    """What there is reaches as far already."""


@dataclass(frozen=True, slots=True)
class Grant:
    """The rule after the answer. What it opens of the server is as it was; a new one opens everything."""

    effect: Effect
    role: Role
    ends: datetime | None


def granted(standing: Standing | None, *, until: datetime | None, now: datetime) -> Grant:
    """What a yes until then (None: without end) makes of the rule. Never less than there is at `now`.

    An expired Manager comes back as a User: nobody asks to manage, and nobody is made a manager by a request.
    """
    if standing is None:
        return Grant(Effect.ADD, Role.USER, until)
    if standing.ends is not None and standing.ends <= now:
        return Grant(Effect.RENEW, Role.USER, until)
    # A living Manager's rule is the manager's to extend, and not by a request to use.
    if standing.role is Role.MANAGER or standing.ends is None or (until is not None and until <= standing.ends):
        return Grant(Effect.NONE, standing.role, standing.ends)
    return Grant(Effect.EXTEND, standing.role, until)


def duration_text(days: int | None) -> str:
    """For how long, in words: "7 days", "1 year", "no end"."""
    named = dict(DURATIONS)
    return named.get(days) or f"{days} days"


# What a person sees and does


def requestable_by(principal: Principal) -> QuerySet[Server]:
    """The servers that take requests from this person's tenants, theirs to use or not, by name."""
    found = Server.objects.filter(requestable=True, tenant__in=principal.tenants if principal.active else ())
    return found.select_related("group").order_by("name", "pk")


def askable(principal: Principal, server_id: UUID) -> Server:
    """The server that this person may ask for. Raises NotRequestable, and HasAccess when it is theirs already."""
    server = requestable_by(principal).select_related("tenant").filter(pk=server_id).first()
    if server is None:
        raise NotRequestable("There is no server here that you can ask for.")
    if usable(principal, server, registry.rules_of(server), now=timezone.now()) is not None:
        raise HasAccess(f"You may use {server.name} already.")
    return server


def ask(principal: Principal, server_id: UUID, *, reason: str, days: int | None) -> AccessRequest:
    """Ask for a server; a request that waits already is given back as it is, and nothing is recorded.

    Raises NotRequestable, HasAccess, and TooManyRequests above MOST_A_DAY.
    """
    server = askable(principal, server_id)
    mine = AccessRequest.objects.filter(person_id=principal.user_id)
    waiting = mine.filter(server=server, state=State.PENDING)
    if (found := waiting.first()) is not None:
        return found
    if mine.filter(asked_at__gt=timezone.now() - timedelta(days=1)).count() >= MOST_A_DAY:
        raise TooManyRequests("You have asked for a lot of servers today. Wait a day, or talk to their managers.")
    try:
        with transaction.atomic():
            made = AccessRequest.objects.create(
                server=server, person_id=principal.user_id, reason=reason[:500], days=days
            )
            _record(audit.Action.ACCESS_ASK, made, server, actor=principal.label, detail={"days": days})
    except IntegrityError:
        # Sent twice at the same moment.
        if (found := waiting.first()) is not None:
            return found
        raise
    return made


def withdraw(request_id: UUID, *, person: Any) -> AccessRequest | None:
    """Take one's own request back; one that was answered stays as it is. None: no such request of theirs."""
    with transaction.atomic():
        rows = AccessRequest.objects.select_for_update(of=("self",)).select_related("server__tenant")
        found = rows.filter(pk=request_id, person=person).first()
        if found is not None and found.state == State.PENDING:
            found.state, found.answered_at, found.answered_by = State.WITHDRAWN, timezone.now(), person
            found.save(update_fields=["state", "answered_at", "answered_by"])
            _record(audit.Action.ACCESS_WITHDRAW, found, found.server, actor=person.get_username())
    return found


# What a manager sees and does


def requests_for(scope: Scope) -> QuerySet[AccessRequest]:
    """The requests for servers that the person of this scope manages."""
    rows = AccessRequest.objects.select_related("server__tenant", "server__group", "person", "answered_by")
    return rows if scope.superuser else rows.filter(server__in=scope.visible_servers())


def approve(request_id: UUID, *, days: int | None, person: Any, answer: str = "") -> Grant:
    """Give access for so many days from now (None: without end), and tell with `answer` what there is to tell.

    Raises PermissionDenied for who does not manage the server, NotWaiting when it was answered before, and
    RequestRefused when the person who asked cannot be given access any more.
    """
    now = timezone.now()
    with transaction.atomic():
        found = _waiting(request_id, person)
        server = found.server
        if not found.person.is_active:
            raise RequestRefused(f"The account of {found.person.get_username()} is switched off. Refuse the request.")
        if not Membership.objects.filter(user=found.person, tenant=server.tenant_id).exists():
            raise RequestRefused(f"{found.person.get_username()} no longer belongs to {server.tenant}. Refuse it.")
        until = None if days is None else now + timedelta(days=days)
        rule, made = AccessRule.objects.select_for_update().get_or_create(
            server=server, user=found.person, defaults={"expires_at": until}
        )
        grant = granted(None if made else Standing(Role(rule.role), rule.expires_at), until=until, now=now)
        if grant.effect in (Effect.RENEW, Effect.EXTEND):
            rule.role, rule.expires_at = grant.role, grant.ends
            rule.save()
        _answer(found, State.APPROVED, person, answer, now)
        actor = str(person.get_username())
        detail = {"person": found.person.get_username(), "days": days, "effect": str(grant.effect)}
        _record(audit.Action.ACCESS_APPROVE, found, server, actor=actor, detail=detail)
        _record_rule(rule, grant, server, actor=actor)
    return grant


def refuse(request_id: UUID, *, person: Any, answer: str) -> AccessRequest:
    """Say no, with a sentence that the person reads. Raises PermissionDenied and NotWaiting as `approve` does."""
    with transaction.atomic():
        found = _waiting(request_id, person)
        _answer(found, State.REFUSED, person, answer, timezone.now())
        detail = {"person": found.person.get_username()}
        _record(audit.Action.ACCESS_REFUSE, found, found.server, actor=person.get_username(), detail=detail)
    return found


def _waiting(request_id: UUID, person: Any) -> AccessRequest:
    """The request, locked until the transaction ends, for a manager of its server."""
    rows = AccessRequest.objects.select_for_update(of=("self",)).select_related("server__tenant", "person")
    found = rows.filter(pk=request_id).first()
    if found is None or not scope_of(person).manages_server(found.server):
        raise PermissionDenied("Only managers of a server answer requests for it.")
    if found.state != State.PENDING:
        raise NotWaiting(f"This request is {found.get_state_display().lower()} already.")
    return found


def _answer(found: AccessRequest, state: AccessRequest.State, person: Any, answer: str, now: datetime) -> None:
    found.state, found.answered_at, found.answered_by, found.answer = state, now, person, answer.strip()[:500]
    found.save(update_fields=["state", "answered_at", "answered_by", "answer"])


def _record_rule(rule: AccessRule, grant: Grant, server: Server, *, actor: str) -> None:
    if grant.effect is Effect.NONE:
        return
    action = audit.Action.COLLABORATOR_ADD if grant.effect is Effect.ADD else audit.Action.COLLABORATOR_CHANGE
    detail = {"on": str(server), "role": str(rule.role), "why": "access request", "expires_at": grant.ends}
    audit.record(action, actor=actor, subject=rule, tenant=server.tenant, detail=detail)


def _record(
    action: audit.Action,
    request: AccessRequest,
    server: Server,
    *,
    actor: str,
    detail: dict[str, Any] | None = None,
) -> None:
    # The reason and the answer are people's words to each other, and no part of what is recorded for ever.
    audit.record(
        action, actor=actor, subject=request, tenant=server.tenant, detail={"server": str(server), **(detail or {})}
    )
