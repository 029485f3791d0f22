"""The ways in that somebody has to one server: their keys, the clients that they approved, and the gateway's pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import partial
from typing import Any, Final
from uuid import UUID

from django.db.models import Q
from django.urls import reverse
from oauth2_provider.models import RefreshToken

from authflows.explaining.steps import Fix, Look, Reader, Step, at, failed, noted, passed
from authflows.inbound.bearer import Refusal, Unauthenticated, principal_of_key, still_signed_in
from authflows.inbound.oauth.resources import resources_of
from authflows.inbound.principals import principal_for
from authflows.models import ApiKey, Approval
from servers.access import Principal
from servers.links import admin_url
from servers.models import Server

SESSION: Final = "session"
_MOST_LISTED: Final = 6


class Kind(StrEnum):
    """What opens the door."""

    KEY = "key"
    CLIENT = "client"


@dataclass(frozen=True, slots=True)
class Way:
    """One key, or one approved client. `problem` is why it opens nothing now; empty: it works."""

    kind: Kind
    name: str
    names: frozenset[str]
    """What it may be called by, folded."""
    detail: str
    stands_for: Callable[[], Principal | None]
    problem: str = ""
    code: str = ""
    elsewhere: bool = False
    """It works, for other servers than this one."""

    @property
    def works(self) -> bool:
        """Whether it opens the door of this server."""
        return not self.problem and not self.elsewhere

    @property
    def sentence(self) -> str:
        """One line about it."""
        what = f"API key “{self.name}”" if self.kind is Kind.KEY else f"Client “{self.name}”"
        if self.problem:
            return f"{what}: {self.problem}"
        return f"{what}: {'for other servers only' if self.elsewhere else 'works'}; {self.detail}."


def ways_of(person: Any, server: Server, reader: Reader, *, now: datetime) -> list[Way]:
    """Every way that the person has; those that work for the server first."""
    opened = Q(server=server) | Q(server__isnull=True) if reader.knows_clients_of_the_api else Q(server=server)
    approvals = list(Approval.objects.filter(opened, user=person).select_related("client"))
    here = [approval for approval in approvals if approval.server_id is not None]
    of_the_api = [_client_of_the_api(approval) for approval in approvals if approval.server_id is None]
    found = [*_keys(person, server, now), *_clients(person, server, here), *of_the_api]
    return sorted(found, key=lambda way: (not way.works, way.elsewhere))


def way_named(ways: list[Way], name: str) -> Way | None:
    """The way with this name, prefix or id; one that works before one that does not."""
    wanted = name.strip().casefold()
    return next((way for way in ways if wanted in way.names), None)


def principal_by(way: Way | None, person: Any) -> Principal:
    """Who a decision is about: by the way that was asked about, else as on the gateway's own pages."""
    principal = way.stands_for() if way is not None and not way.problem else None
    return principal or principal_for(person, credential=SESSION)


def _keys(person: Any, server: Server, now: datetime) -> list[Way]:
    found = []
    rows = ApiKey.objects.filter(owner=person).select_related("owner__virtual_account").prefetch_related("servers")
    for key in rows:
        state, problem, code = key.state(now), "", ""
        if state == "revoked":
            problem, code = "it was revoked.", Refusal.UNKNOWN
        elif key.expires_at is not None and state == "expired":
            problem, code = f"it expired on {at(key.expires_at)}.", Refusal.EXPIRED
        elsewhere = key.limited and server.pk not in {one.pk for one in key.servers.all()}
        ends = f"ends {at(key.expires_at)}" if key.expires_at else "without an end"
        names = frozenset(text.casefold() for text in (key.name, key.prefix, str(key), str(key.pk)))
        name = f"{key.name} ({key.prefix}…)"
        found.append(Way(Kind.KEY, name, names, ends, partial(principal_of_key, key), problem, code, elsewhere))
    return found


def _clients(person: Any, server: Server, approvals: list[Approval]) -> list[Way]:
    sign_ins = _sign_ins(person, server) if approvals else {}
    found = []
    for approval in approvals:
        client = approval.client
        principal, problem, code = None, "", ""
        if not client.enabled:
            problem, code = "an admin disabled it.", Refusal.UNKNOWN
        else:
            living = (still_signed_in(family) for family in sign_ins.get(client.pk, ()))
            principal = next((one for one in living if not isinstance(one, Unauthenticated)), None)
            if principal is None and person.is_active:
                problem, code = "it is approved and no longer signed in. Sign in again from it.", Refusal.UNKNOWN
        detail = f"approved {at(approval.created_at)}"
        found.append(Way(Kind.CLIENT, str(client), _names(approval), detail, partial(_same, principal), problem, code))
    return found


def _client_of_the_api(approval: Approval) -> Way:
    problem = "it was approved for the Gateway API, and what it got there opens no MCP URL."
    client, nobody = str(approval.client), partial(_same, None)
    return Way(Kind.CLIENT, client, _names(approval), "", nobody, problem, Refusal.ELSEWHERE)


def _names(approval: Approval) -> frozenset[str]:
    client = approval.client
    return frozenset(text.casefold() for text in (str(client), client.client_id, str(approval.pk)))


def _same(principal: Principal | None) -> Principal | None:
    return principal


def _sign_ins(person: Any, server: Server) -> dict[int, list[UUID]]:
    wanted = set(resources_of(server))
    found: dict[int, list[UUID]] = {}
    rows = RefreshToken.objects.filter(user=person, revoked__isnull=True, token_family__isnull=False)
    for row in rows.order_by("-created"):
        if wanted & set(row.resource):
            found.setdefault(row.application_id, []).append(row.token_family)
    return found


# What the steps say


def way_step(
    person: Any, server: Server, ways: list[Way], named: Way | None, asked: str, reader: Reader, *, knows_keys: bool
) -> Step:
    """Does what the person comes with open the door? Their keys are named to who may know them, else counted."""
    if asked:
        return _asked(server, named, asked, reader)
    account = getattr(person, "virtual_account", None)
    working = [way for way in ways if way.works]
    if account is not None and not working:
        fix = Fix("Make a key for it.", admin_url(account) if knows_keys else "", "Its keys")
        lines = _lines(ways) if knows_keys else []
        return failed(Look.WAY_IN, Refusal.MISSING, "It has no key that opens this server.", *lines, fix=fix)
    if not knows_keys:
        whose = "your" if reader.themselves else "their"
        counts = f"{len(working)} of {whose} keys and approved clients open it now."
        return passed(Look.WAY_IN, counts) if working else noted(Look.WAY_IN, _NOTHING, fix=_guide(server, reader))
    if not working:
        return noted(Look.WAY_IN, _NOTHING, *_lines(ways), fix=_guide(server, reader))
    return passed(Look.WAY_IN, *_lines(ways))


_NOTHING: Final = (
    "No key and no client is let in to this server yet. A client that signs in through the browser asks for that by "
    "itself."
)


def _asked(server: Server, named: Way | None, asked: str, reader: Reader) -> Step:
    whose = "you" if reader.themselves else "they"
    if named is None:
        sentence = f"There is no key of that name, and no client “{asked}” that {whose} approved for this server."
        return failed(Look.WAY_IN, Refusal.UNKNOWN, sentence, fix=_guide(server, reader))
    if named.problem:
        fix = (
            _guide(server, reader)
            if named.kind is Kind.CLIENT
            else Fix("Make another key, and put it in the client.", reverse("my-key-new"), "New key")
            if reader.themselves
            else Fix("Its owner makes another key and puts it in the client.")
        )
        return failed(Look.WAY_IN, named.code, named.sentence, fix=fix)
    return passed(Look.WAY_IN, named.sentence)


def _guide(server: Server, reader: Reader) -> Fix:
    if reader.themselves:
        page = reverse("portal-server", args=[server.tenant.slug, server.slug])
        return Fix("Sign in again from the client, or set it up anew.", f"{page}#how-to-use", "How to use it")
    return Fix("They sign in from their client; How to use it on the server's page in the portal says how.")


def _lines(ways: list[Way]) -> list[str]:
    lines = [way.sentence for way in ways[:_MOST_LISTED]]
    more = len(ways) - len(lines)
    return [*lines, f"And {more} more."] if more > 0 else lines
