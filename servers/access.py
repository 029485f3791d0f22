"""The one access decision: pure, data in, decision and reason out (design section 3).

List, call, every transport verb and the pages ask `decide()`. No ORM and no I/O here: `registry` and
`authflows.inbound` make the data from rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal
from uuid import UUID

from servers.items import EVERYTHING, UNLIMITED, Item, ItemFilter, ItemRights
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
    ITEM_NOT_SERVED = "item_not_served"
    """Disabled, held or refused by an admin, or not in the catalogue."""
    NO_ITEM_RULE = "no_item_rule"
    """Every rule that lets the caller in is about other items."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """Yes, and in which role, and to which of the server's tools, prompts and resources."""

    role: Role
    rights: ItemRights = UNLIMITED

    def __bool__(self) -> Literal[True]:
        return True


USER: Final = Allowed(Role.USER)
"""May use the server and have everything of it."""
NOTHING: Final = Allowed(Role.USER, ItemRights(frozenset()))
"""May use the server and have nothing of it: what holds until a decision says more."""


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
    filter: ItemFilter = EVERYTHING


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
    item: Item | None = None,
) -> Allowed | Denied:
    """May this principal act in `role` on this server, and have this item of it, at `now` (Unix seconds)?

    Checked in order, first failure wins: the principal is active; it belongs to the server's tenant; its
    credential is not limited to other servers; a rule that has not expired gives it the role; for use, the
    server is enabled; the item is served, and one of the rules is about it. A manager may do all that a user
    may. Nobody has a right without a rule.
    """
    if not principal.active:
        return Denied(Reason.INACTIVE)
    if tenant_id not in principal.tenants:
        return Denied(Reason.OTHER_TENANT)
    if principal.limited_to is not None and server_id not in principal.limited_to:
        return Denied(Reason.KEY_LIMITED)
    found = _best_role(principal, rules, now)
    if not isinstance(found, Allowed):
        return Denied(found)
    if role is Role.MANAGER and found.role is not Role.MANAGER:
        return Denied(Reason.NOT_MANAGER)
    if not enabled and role is Role.USER:
        return Denied(Reason.SERVER_DISABLED)
    return found if item is None else decide_item(found, item)


def decide_item(allowed: Allowed, item: Item) -> Allowed | Denied:
    """The last steps of `decide`, for lists: which of many items has somebody who may use the server?"""
    if not item.served:
        return Denied(Reason.ITEM_NOT_SERVED)
    if not allowed.rights.allow(item):
        return Denied(Reason.NO_ITEM_RULE)
    return allowed


_MANAGER: Final = Allowed(Role.MANAGER)


def _best_role(principal: Principal, rules: Rules, now: float) -> Allowed | Reason:
    grants = rules.people.get(principal.user_id, ())
    if rules.teams:
        for team in principal.teams:
            grants += rules.teams.get(team, ())
    reason, filters = Reason.NO_RULE, set()
    for grant in grants:
        if grant.expires_at is not None and grant.expires_at <= now:
            reason = Reason.RULE_EXPIRED
        elif grant.role is Role.MANAGER:
            return _MANAGER
        else:
            filters.add(grant.filter)
    if not filters:
        return reason
    return USER if EVERYTHING in filters else Allowed(Role.USER, ItemRights(frozenset(filters)))
