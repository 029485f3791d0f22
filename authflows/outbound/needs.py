"""What a person still has to do before a server can be called in their name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from authflows.models import Connection, OwnKey
from authflows.outbound.connections import explain, origin_of
from servers.models import AuthConfig, Server

Method = AuthConfig.Method


class Need(StrEnum):
    """What is missing."""

    CONNECT = "connect"
    RECONNECT = "reconnect"
    OWN_KEY = "own_key"


@dataclass(frozen=True, slots=True)
class Missing:
    """One thing that a person has to do for a server, and why, in a sentence."""

    need: Need
    sentence: str


def missing(user: Any, server: Server) -> Missing | None:
    """What the person has to do for this server, or None; one query at most, for `server` with its auth_config."""
    config = getattr(server, "auth_config", None)
    if config is None:
        return None
    if config.method == Method.OAUTH2:
        return missing_connection(Connection.objects.filter(user=user, server=server).first(), server)
    if config.method == Method.OWN_HEADER:
        return missing_own_key(OwnKey.objects.filter(user=user, server=server).first(), server)
    return None


def missing_connection(connection: Connection | None, server: Server) -> Missing | None:
    """What is missing of a connection. Pure."""
    if connection is None:
        return Missing(Need.CONNECT, f"{server.name} is not connected to your account yet.")
    if connection.state == Connection.State.NEEDS_RECONNECT:
        return Missing(Need.RECONNECT, f"{server.name} has to be connected again. {explain(connection.last_error)}")
    if connection.origin != origin_of(server.url):
        return Missing(Need.RECONNECT, f"{server.name} has to be connected again. {explain('endpoint_changed')}")
    if set(connection.wanted_scope.split()) - set(connection.scope.split()):
        return Missing(
            Need.RECONNECT, f"{server.name} asks for more rights ({connection.wanted_scope}): connect it again."
        )
    return None


def missing_own_key(key: OwnKey | None, server: Server) -> Missing | None:
    """What is missing of a key of one's own. Pure."""
    if key is None:
        return Missing(Need.OWN_KEY, f"{server.name} needs a key of your own.")
    if key.refused_at is not None:
        return Missing(Need.OWN_KEY, f"{server.name} refused your key. Enter it again.")
    if key.origin != origin_of(server.url):
        return Missing(Need.OWN_KEY, f"The address of {server.name} changed. Enter your key again.")
    return None
