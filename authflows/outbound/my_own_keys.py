"""A person's own keys and what is still to be entered, as the portal shows them: when and by whom, never what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.utils import timezone

from authflows.models import OwnKey
from authflows.outbound.needs import Missing, Need, missing_own_key
from servers.models import AuthConfig, Server

_SOON: Final = timedelta(days=7)
Method = AuthConfig.Method


@dataclass(frozen=True, slots=True)
class MyOwnKey:
    """One server that takes keys of people's own, and how it stands for this person."""

    server: Server
    key: OwnKey | None
    missing: Missing | None
    can_enter: bool
    """False over a shared header, where only a manager sets something else, and where the method is another now."""

    @property
    def kind(self) -> str:
        """For lists that hold connections too."""
        return "own_key"

    @property
    def removable(self) -> bool:
        """Whether it is the person's to remove: what a manager set over a shared header is not."""
        return self.key is not None and _method(self.server) != Method.SHARED_HEADER

    @property
    def state(self) -> str:
        """`entered`, `missing`, `refused`, `expired` or `again`."""
        if self.key is None:
            return "missing"
        if self.missing is None:
            return "entered"
        if self.key.refused_at is not None:
            return "refused"
        return "expired" if self.key.expires_at and self.key.expires_at <= timezone.now() else "again"

    @property
    def state_text(self) -> str:
        """The state in words."""
        if not self.can_enter and self.state != "entered":
            return "Not usable"
        return {
            "missing": "No key yet",
            "entered": "Key entered",
            "refused": "Refused: enter again",
            "expired": "Expired: enter again",
        }.get(self.state, "Enter again")

    @property
    def ends_soon(self) -> bool:
        """Whether the key still works and will not for long."""
        end = self.key.expires_at if self.key is not None and self.missing is None else None
        return end is not None and end - timezone.now() < _SOON

    @property
    def set_by_other(self) -> bool:
        """Whether somebody else, a manager, set it."""
        return self.key is not None and self.key.set_by != self.key.user.get_username()


def own_keys_of(user: Any, usable: Mapping[UUID, Server]) -> list[MyOwnKey]:
    """The person's keys, and the servers among those that they may use where one can be entered; two queries.

    A key for a server that they may no longer use is listed too: it is theirs to remove.
    """
    rows = OwnKey.objects.filter(user=user).select_related("user", "server__tenant", "server__auth_config")
    found = {key.server_id: shown(key.server, key) for key in rows}
    configs = AuthConfig.objects.filter(server__in=usable, method=Method.OWN_HEADER).exclude(server__in=found)
    for config in configs:
        server = usable[config.server_id]
        server.auth_config = config
        found[server.pk] = shown(server, None)
    return list(found.values())


def own_key_for(user: Any, server: Server) -> MyOwnKey | None:
    """How one server, with its auth_config, stands for the person; None where they have nothing to do with keys."""
    method = _method(server)
    if method not in (Method.OWN_HEADER, Method.SHARED_HEADER):
        return None
    key = OwnKey.objects.filter(user=user, server=server).select_related("user").first()
    if key is None and method == Method.SHARED_HEADER:
        return None
    return shown(server, key)


def shown(server: Server, key: OwnKey | None) -> MyOwnKey:
    """How `server`, with its auth_config, stands with this key (with its user). No query."""
    method = _method(server)
    if method in (Method.OWN_HEADER, Method.SHARED_HEADER):
        missing = missing_own_key(key, server)
    else:
        missing = Missing(Need.CREDENTIAL, f"{server.name} no longer takes keys of people's own. Remove this one.")
    return MyOwnKey(server, key, missing, method == Method.OWN_HEADER)


def _method(server: Server) -> str:
    config = getattr(server, "auth_config", None)
    return str(config.method) if config is not None else ""
