"""The part of a sign-in that leads through the members of a virtual server: connect, enter a key, skip, go on.

What was connected stays whatever becomes of the sign-in. What was skipped is remembered for this sign-in alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import transaction

from authflows.models import PendingSignIn
from authflows.outbound.my_members import MyMember, members_for
from authflows.outbound.needs import Need
from servers.models import Server


@dataclass(frozen=True, slots=True)
class Stop:
    """A member that asks for something of the person. `next` is the first that is neither done nor skipped."""

    member: MyMember
    skipped: bool
    next: bool

    @property
    def done(self) -> bool:
        """Whether it can be called."""
        return self.member.missing is None

    @property
    def asks_for_key(self) -> bool:
        """Whether a key is to be entered, and not an account to be connected."""
        return self.member.missing is not None and self.member.missing.need is Need.OWN_KEY


@dataclass(frozen=True, slots=True)
class Trip:
    """All stops, in the order of the virtual server, and the members with nothing to do."""

    stops: tuple[Stop, ...]
    others: tuple[MyMember, ...]

    @property
    def done(self) -> int:
        """How many stops are done."""
        return sum(1 for stop in self.stops if stop.done)

    @property
    def open(self) -> list[Stop]:
        """What is neither done nor skipped."""
        return [stop for stop in self.stops if not stop.done and not stop.skipped]

    def stop_at(self, server_id: str) -> Stop | None:
        """The stop of this server, while something is missing there."""
        return next((stop for stop in self.stops if str(stop.member.server.pk) == server_id and not stop.done), None)


def trip_of(asked: PendingSignIn, user: Any, virtual: Server) -> Trip:
    """How far the sign-in is. Members that are switched off have no stop."""
    members = [member for member in members_for(user, virtual) if member.enabled]
    skipped = set(asked.skipped)
    stops: list[Stop] = []
    for member in members:
        if member.personal:
            left_out = str(member.server.pk) in skipped
            first = member.missing is not None and not left_out and not any(stop.next for stop in stops)
            stops.append(Stop(member, left_out, first))
    return Trip(tuple(stops), tuple(member for member in members if not member.personal))


def skip(asked: PendingSignIn, servers: Iterable[UUID]) -> None:
    """Go on without these members this time."""
    with transaction.atomic():
        row = PendingSignIn.objects.select_for_update().get(pk=asked.pk)
        row.skipped = sorted({*row.skipped, *(str(server) for server in servers)})
        row.save(update_fields=["skipped"])
