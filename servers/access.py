"""The one access decision: pure, data in, decision and reason out (design section 3).

List, call, every transport verb and the pages ask `decide()`. No ORM and no I/O here: `registry` and
`authflows.inbound` make the data from rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal
from uuid import UUID

from servers.models.access import Role


class Reason(StrEnum):
    """Why a decision is no. Stable words: they stand in call records and in explanations."""

    INACTIVE = "principal_inactive"
    OTHER_TENANT = "other_tenant"
    KEY_LIMITED = "key_limited_to_other_servers"
    NO_RULE = "no_rule"
    RULE_EXPIRED = "rule_expired"
    NOT_MANAGER = "not_manager"
    SERVER_DISABLED = "server_disabled"


@dataclass(frozen=True, slots=True)
class Allowed:
    """Yes, and in which role."""

    role: Role

    def __bool__(self) -> Literal[True]:
        return True


@dataclass(frozen=True, slots=True)
class Denied:
    """No, and why."""

    reason: Reason

    def __bool__(self) -> Literal[False]:
        return False


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: a person or a virtual account, and by which credential."""

    user_id: int
    label: str
    active: bool
    tenants: frozenset[UUID]
    teams: frozenset[int]
    credential: str
    """Kind and id of what opened the door, for example `api_key:5f0c…`; never the credential itself."""
    credential_expires_at: float | None = None
    """Unix seconds, or None for no end."""
    limited_to: frozenset[UUID] | None = None
    """Ids of the only servers that the credential opens, or None for no limit."""
    audience: str | None = None
    """The one MCP path that the credential is good for, for example `/acme/mcp/notion/server`; None: any."""
    sign_in: UUID | None = None
    """The sign-in of an OAuth client that the credential comes from; it outlives each of its tokens."""


@dataclass(frozen=True, slots=True)
class Grant:
    """A role and when it ends (Unix seconds, or None)."""

    role: Role
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one server, its group's included: by person and by team."""

    people: Mapping[int, tuple[Grant, ...]] = field(default_factory=dict)
    teams: Mapping[int, tuple[Grant, ...]] = field(default_factory=dict)


def decide(
    principal: Principal,
    *,
    server_id: UUID,
    tenant_id: UUID,
    enabled: bool,
    rules: Rules,
    now: float,
    role: Role = Role.USER,
) -> Allowed | Denied:
    """May this principal act in `role` on this server at `now` (Unix seconds)?

    Checked in order, first failure wins: the principal is active; it belongs to the server's tenant; its
    credential is not limited to other servers; a rule that has not expired gives it the role; and, for use,
    the server is enabled. A manager may do all that a user may. Nobody has a right without a rule.
    """
    if not principal.active:
        return Denied(Reason.INACTIVE)
    if tenant_id not in principal.tenants:
        return Denied(Reason.OTHER_TENANT)
    if principal.limited_to is not None and server_id not in principal.limited_to:
        return Denied(Reason.KEY_LIMITED)
    found = _best_role(principal, rules, now)
    if not isinstance(found, Role):
        return Denied(found)
    if role is Role.MANAGER and found is not Role.MANAGER:
        return Denied(Reason.NOT_MANAGER)
    if not enabled and role is Role.USER:
        return Denied(Reason.SERVER_DISABLED)
    return Allowed(found)


def _best_role(principal: Principal, rules: Rules, now: float) -> Role | Reason:
    grants = rules.people.get(principal.user_id, ())
    if rules.teams:
        for team in principal.teams:
            grants += rules.teams.get(team, ())
    best: Role | Reason = Reason.NO_RULE
    for grant in grants:
        if grant.expires_at is not None and grant.expires_at <= now:
            best = Reason.RULE_EXPIRED if best is Reason.NO_RULE else best
        elif grant.role is Role.MANAGER:
            return Role.MANAGER
        else:
            best = Role.USER
    return best
