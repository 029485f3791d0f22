"""Why can't I? Every step of the decision about one person and one server, and what to do (F-503).

Nothing is decided here: the functions that decide every call are asked, and their answers put into words. A test
compares explanations with what the gateway answers.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from django.utils import timezone

from authflows.explaining import credentials, items, rules, ways
from authflows.explaining.steps import (
    THEMSELVES,
    Explanation,
    Fix,
    Look,
    Reader,
    State,
    Step,
    Walk,
    failed,
    noted,
    passed,
)
from authflows.explaining.ways import Kind, Way
from servers import registry
from servers.access import Allowed, Denied, Principal, Reason, decide
from servers.items import ItemKey
from servers.models import Server
from servers.registry import ServerFacts
from servers.virtual import previews
from servers.virtual.facts import MemberFacts, members_of


def explain(
    person: Any,
    server: Server,
    *,
    item: ItemKey | None = None,
    client: str = "",
    now: datetime | None = None,
    reader: Reader = THEMSELVES,
) -> Explanation:
    """What becomes of a call of `person` (or a virtual account's user) to `server` (with its tenant), step by step.

    `item`: a tool, prompt or resource that is called. `client`: the name, prefix or id of one of the person's keys, or
    of a client that they approved; without it, any way in. `reader`: who reads this; it says only what they may know.
    """
    return _Question(person, server, item, client.strip(), now or timezone.now(), reader).answer()


UNKNOWN_SERVER: Final = "unknown_server"


def nothing_here(person: Any, typed: str) -> Explanation:
    """What somebody reads about a server that they may not know of: the same whether there is one or not (RS-13)."""
    name = person.get_username()
    fix = Fix(
        "Check the address. If it is right, ask the server's manager or an admin of this gateway to let you in; your "
        f"user name is {name}."
    )
    sentence = "There is no MCP server at this address, or nobody has given you access to it."
    steps = [passed(Look.ACCOUNT, "It is switched on."), failed(Look.RULE, UNKNOWN_SERVER, sentence, fix=fix)]
    rest = (Look.SERVER, Look.CREDENTIAL, Look.HEALTH)
    return Explanation(name, typed, (*steps, *(Step(look, State.NOT_REACHED) for look in rest)))


class _Question:
    """One question, and what is found on the way to its answer."""

    def __init__(
        self, person: Any, server: Server, item: ItemKey | None, client: str, now: datetime, reader: Reader
    ) -> None:
        self.person, self.server, self.item = person, server, item
        self.client, self.now, self.reader = client, now, reader
        self._facts: dict[UUID, ServerFacts] = {}
        self.ways = ways.ways_of(self.person, server, reader, now=now)
        self.way: Way | None = ways.way_named(self.ways, client) if client else None
        self.principal = ways.principal_by(self.way, self.person)
        self.knows_keys = reader.knows_keys_of(self.principal, superuser=person.is_superuser)
        if self.way is not None and self.way.kind is Kind.KEY and not self.knows_keys:
            # As if there were no such key: any step about it would tell that there is one.
            self.way = ways.way_named([way for way in self.ways if way.kind is not Kind.KEY], client)
            self.principal = ways.principal_by(self.way, self.person)
        self.decision = self._decide(self.principal, server)

    def answer(self) -> Explanation:
        """All steps, in the order of a call."""
        server, reader, walk = self.server, self.reader, Walk()
        managers = partial(rules.managers_of, server, now=self.now)
        walk.take(Look.ACCOUNT, lambda: rules.account_step(self.person, self.decision, reader))
        walk.take(
            Look.WAY_IN,
            lambda: ways.way_step(
                self.person, server, self.ways, self.way, self.client, reader, knows_keys=self.knows_keys
            ),
        )
        walk.take(Look.TENANT, lambda: rules.tenant_step(server, self.decision, reader))
        if self.way is not None:
            walk.take(Look.KEY, lambda: rules.key_step(server, self.principal, self.decision, reader))
        walk.take(
            Look.RULE,
            lambda: rules.rule_step(self.person, server, self.principal, self.decision, reader, now=self.now),
        )
        walk.take(Look.SERVER, lambda: rules.server_step(server, self.decision, reader, managers=managers))
        if server.is_virtual:
            self._behind(walk)
        else:
            if self.item is not None:
                walk.take(Look.ITEM, self._item)
            self._reach(walk, server, self.principal, None)
        return Explanation(str(self.person.get_username()), server.name, tuple(walk.steps))

    def _item(self) -> Step:
        assert isinstance(self.decision, Allowed) and self.item is not None  # noqa: S101, PT018
        return items.item_step(self.server, self.decision, self.item, self.reader, now=self.now)

    def _reach(self, walk: Walk, server: Server, principal: Principal, member: MemberFacts | None) -> None:
        managers = partial(rules.managers_of, server, now=self.now)
        walk.take(
            Look.CREDENTIAL,
            lambda: credentials.credential_step(
                self.person,
                server,
                self._facts_of(server),
                principal,
                self.reader,
                way=self.way,
                member=member,
                managers=managers,
                now=self.now,
            ),
        )
        walk.take(Look.HEALTH, lambda: credentials.health_step(server, self.reader, managers=managers))

    # Behind a virtual server

    def _behind(self, walk: Walk) -> None:
        """The member whose item was asked for; without one, how each member stands."""
        if self.item is None:
            walk.take(Look.MEMBER, self._members)
            return
        item = self.item
        found = items.entry_of(self.server, item)
        if found is None:
            walk.take(Look.ITEM, lambda: items.not_shown(self.server, item, self.reader, now=self.now))
            return
        member = Server.objects.select_related("tenant", "auth_config").get(pk=found.entry.member.server_id)
        principal = _reaching(self.principal)
        there = self._decide(principal, member)
        walk.take(Look.MEMBER, lambda: self._member(member, there))
        walk.take(
            Look.ITEM,
            lambda: items.entry_step(
                self.server, member, self._allowed(self.decision), self._allowed(there), found, item, self.reader,
                now=self.now,
            ),
        )  # fmt: skip
        self._reach(walk, member, principal, found.entry.member)

    def _member(self, member: Server, there: Allowed | Denied) -> Step:
        if isinstance(there, Allowed):
            return passed(Look.MEMBER, f"It is {member.name}'s, and a rule opens that server too.")
        if self.reader.themselves:
            assert self.item is not None  # noqa: S101
            hidden = items.not_shown(self.server, self.item, self.reader, now=self.now)
            return replace(hidden, look=Look.MEMBER)
        step = (
            rules.server_step(member, there, self.reader, managers=partial(rules.managers_of, member, now=self.now))
            if there.reason is Reason.SERVER_DISABLED
            else rules.rule_step(self.person, member, _reaching(self.principal), there, self.reader, now=self.now)
        )
        return replace(step, look=Look.MEMBER, found=(f"It is {member.name}'s.", *step.found))

    def _members(self) -> Step:
        members = members_of(self.server.pk)
        rows = Server.objects.select_related("tenant", "auth_config").in_bulk([one.server_id for one in members])
        principal, lines, ready = _reaching(self.principal), [], 0
        for member in members:
            row = rows[member.server_id]
            there = self._decide(principal, row)
            if isinstance(there, Denied):
                if not self.reader.themselves:
                    lines.append(f"{row.name}: {previews.REASONS[there.reason]}.")
                elif there.reason is Reason.SERVER_DISABLED:
                    lines.append(f"{row.name}: switched off.")
                continue
            step = credentials.credential_step(
                self.person,
                row,
                self._facts_of(row),
                principal,
                self.reader,
                way=self.way,
                member=member,
                managers=list,
                now=self.now,
            )
            ready += step.state is not State.FAILED
            lines.append(f"{row.name}: {' '.join(step.found)}")
        if members and ready == len(members):
            return passed(Look.MEMBER, *lines)
        fix = Fix("Ask about one tool to see what stands in its way.")
        return noted(Look.MEMBER, *(lines or ["Nothing of it can be used now."]), fix=fix)

    # The decision

    def _decide(self, principal: Principal, server: Server) -> Allowed | Denied:
        facts = self._facts_of(server)
        return decide(
            principal,
            server_id=facts.id,
            tenant_id=facts.tenant_id,
            enabled=facts.enabled,
            rules=facts.rules,
            now=self.now.timestamp(),
        )

    def _facts_of(self, server: Server) -> ServerFacts:
        found = self._facts.get(server.pk)
        if found is None:
            found = self._facts[server.pk] = registry.facts_of(server)
        return found

    @staticmethod
    def _allowed(decision: Allowed | Denied) -> Allowed:
        assert isinstance(decision, Allowed)  # noqa: S101  (a step before this one has failed otherwise)
        return decision


def _reaching(principal: Principal) -> Principal:
    """A key for a virtual server reaches its members (`proxy/pipeline.py: prepare_member`)."""
    return replace(principal, limited_to=None)


__all__ = ["Explanation", "Fix", "Look", "Reader", "State", "Step", "explain", "nothing_here"]
