"""The portal's list of servers: what a person may use, how each stands with them, and what they can ask for (F-602)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from django.utils import timezone

from authflows.inbound import my_servers
from authflows.inbound.my_servers import MyServer
from authflows.inbound.principals import principal_for
from authflows.outbound.my_connections import MyConnection, connections_of
from authflows.outbound.my_members import Tally, members_of_each
from authflows.outbound.my_own_keys import MyOwnKey, own_keys_of
from servers import access_requests
from servers.access import Principal
from servers.chips import Chip
from servers.models import AccessRequest

_REFUSALS_ARE_SHOWN: Final = timedelta(days=30)


class Standing(StrEnum):
    """How a server stands with the person, as the list is filtered by it."""

    READY = "ready"
    CONNECT = "connect"
    """The person has to connect or to enter something first."""
    TROUBLE = "trouble"
    """It is switched off or does not answer."""


STANDINGS: Final = {Standing.READY: "Ready", Standing.CONNECT: "To connect", Standing.TROUBLE: "Not working"}


@dataclass(frozen=True, slots=True)
class Card:
    """One server of the list."""

    item: MyServer
    mine: MyConnection | MyOwnKey | None = None
    """What the person has for it, where there is something to have."""
    tally: Tally | None = None
    """Of a virtual server: what they have for its members."""

    @property
    def standing(self) -> Standing:
        """Which filter shows it."""
        if self.item.state in ("off", "failing"):
            return Standing.TROUBLE
        missing = bool(self.tally.missing) if self.tally is not None else self.mine is not None and self.mine.missing
        return Standing.CONNECT if missing else Standing.READY


@dataclass(frozen=True, slots=True)
class Askable:
    """A server that the person may ask for. Pages show its name, description and group, and nothing else of it."""

    id: UUID
    name: str
    description: str
    group: str
    waiting: AccessRequest | None = None
    refused: AccessRequest | None = None
    """The last answer, where it was a no and not long ago."""


@dataclass(frozen=True, slots=True)
class MyCatalogue:
    """Everything on the list, before anything is chosen from it."""

    cards: list[Card]
    askable: list[Askable]


@dataclass(frozen=True, slots=True)
class Choice:
    """What of the list is shown. Empty: everything."""

    query: str = ""
    group: str = ""
    """Id of a group."""
    standing: str = ""


def catalogue_for(user: Any) -> MyCatalogue:
    """The person's list; a bounded number of queries, however many servers there are."""
    principal = principal_for(user, credential="session")
    items = my_servers.servers_for(principal)
    usable = {item.server.pk: item.server for item in items}
    held: dict[UUID, MyConnection | MyOwnKey] = {one.server.pk: one for one in own_keys_of(user, usable)}
    held |= {one.server.pk: one for one in connections_of(user, usable)}
    virtual = [item.server for item in items if item.server.is_virtual]
    members = members_of_each(user, virtual) if virtual else {}
    cards = [
        Card(item, None, Tally(members[item.server.pk]))
        if item.server.is_virtual
        else Card(item, held.get(item.server.pk))
        for item in items
    ]
    return MyCatalogue(cards, _askable_for(principal, usable))


def _askable_for(principal: Principal, usable: Collection[UUID]) -> list[Askable]:
    servers = list(access_requests.requestable_by(principal).exclude(pk__in=usable))
    if not servers:
        return []
    newest: dict[UUID, AccessRequest] = {}
    requests = AccessRequest.objects.filter(person_id=principal.user_id, server__in=servers)
    for request in requests.order_by("asked_at", "pk"):
        newest[request.server_id] = request
    return [_askable(server, newest.get(server.pk)) for server in servers]


def _askable(server: Any, last: AccessRequest | None) -> Askable:
    state = last.state if last is not None else ""
    fresh = (
        last is not None and last.answered_at is not None and timezone.now() - last.answered_at < _REFUSALS_ARE_SHOWN
    )
    return Askable(
        server.pk,
        server.name,
        server.description,
        server.group.name if server.group is not None else "",
        waiting=last if state == AccessRequest.State.PENDING else None,
        refused=last if state == AccessRequest.State.REFUSED and fresh else None,
    )


# Choosing from it: pure


def chosen_cards(cards: Sequence[Card], choice: Choice) -> list[Card]:
    """The cards that fit all of the choice."""
    return [card for card in cards if _fits(card, choice)]


def chosen_askable(askable: Sequence[Askable], choice: Choice) -> list[Askable]:
    """The servers to ask for that fit the words; none while the choice is about something that only cards have."""
    if choice.group or choice.standing:
        return []
    return [one for one in askable if _has_words(choice.query, one.name, one.description, one.group)]


def group_chips(cards: Sequence[Card], choice: Choice) -> list[Chip]:
    """One for each group that the person has servers in, by name; none where all stand in none."""
    fitting = chosen_cards(cards, Choice(choice.query, "", choice.standing))
    counts = Counter(_group_of(card) for card in fitting)
    names = {_group_of(card): card.item.server.group.name for card in cards if card.item.server.group is not None}
    ordered = sorted(names, key=lambda value: (names[value].casefold(), value))
    return [Chip(value, names[value], counts[value], value == choice.group) for value in ordered]


def standing_chips(cards: Sequence[Card], choice: Choice) -> list[Chip]:
    """One for each way to stand that there is; none where all stand alike."""
    there = {card.standing for card in cards}
    counts = Counter(card.standing for card in chosen_cards(cards, Choice(choice.query, choice.group)))
    chips = [
        Chip(value, label, counts[value], value == choice.standing)
        for value, label in STANDINGS.items()
        if value in there or value == choice.standing
    ]
    return chips if len(chips) > 1 else []


def _fits(card: Card, choice: Choice) -> bool:
    server = card.item.server
    if choice.group and _group_of(card) != choice.group:
        return False
    if choice.standing and card.standing != choice.standing:
        return False
    group = server.group.name if server.group is not None else ""
    return _has_words(choice.query, server.name, server.slug, server.description, group)


def _group_of(card: Card) -> str:
    return str(card.item.server.group_id or "")


def _has_words(query: str, *texts: str) -> bool:
    return query.casefold() in "\n".join(texts).casefold()
