"""Allow a private destination, with its audit event: from its own page and from a server's form."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import transaction

from servers import audit
from servers.egress import Destination, parse_destination, resolve
from servers.errors import DestinationRefused, PrivateAddress
from servers.models import PrivateDestination


@dataclass(frozen=True)
class AddressCheck:
    """What the egress rules say about a URL at this moment."""

    url: str
    destination: Destination | None = None
    problem: DestinationRefused | None = None

    @property
    def is_private(self) -> bool:
        """Whether only an admin's permission is missing."""
        return isinstance(self.problem, PrivateAddress)


def check_address(url: str) -> AddressCheck:
    """Parse and resolve; asks the DNS, so never call it inside a transaction."""
    try:
        destination = parse_destination(url)
    except DestinationRefused as problem:
        return AddressCheck(url, problem=problem)
    try:
        resolve(destination)
    except DestinationRefused as problem:
        return AddressCheck(url, destination, problem)
    return AddressCheck(url, destination)


def allow_private(destination: Destination, *, actor: str, note: str = "") -> PrivateDestination:
    """List exactly this host and port as an allowed private destination."""
    with transaction.atomic():
        row, made = PrivateDestination.objects.get_or_create(
            host=destination.host.lower(), port=destination.port, defaults={"note": note}
        )
        if made:
            audit.record(audit.Action.DESTINATION_ALLOW, actor=actor, subject=row)
    return row
