"""What a person still has to do before a server can be called in their name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from django.utils import timezone

from authflows.models import Connection, OwnKey
from authflows.outbound import own_keys
from authflows.outbound.connections import explain, origin_of
from servers.errors import SecretUnavailable
from servers.models import AuthConfig, Server
from servers.virtual import previews

Method = AuthConfig.Method


class Need(StrEnum):
    """What is missing."""

    CONNECT = "connect"
    RECONNECT = "reconnect"
    OWN_KEY = "own_key"
    CREDENTIAL = "credential"
    """Something that the caller has to send; no page of ours helps."""


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
        held = Connection.objects.select_related("client").filter(user=user, server=server).first()
        return missing_connection(held, server)
    if config.method == Method.OWN_HEADER:
        return missing_own_key(OwnKey.objects.filter(user=user, server=server).first(), server)
    return None


def missing_connection(connection: Connection | None, server: Server) -> Missing | None:
    """What is missing of a connection (with its client), for `server` with its auth_config. Pure."""
    if connection is None:
        return Missing(Need.CONNECT, f"{server.name} is not connected to your account yet.")
    if connection.state == Connection.State.NEEDS_RECONNECT:
        return Missing(Need.RECONNECT, f"{server.name} has to be connected again. {explain(connection.last_error)}")
    if connection.origin != origin_of(server.url):
        return Missing(Need.RECONNECT, f"{server.name} has to be connected again. {explain('endpoint_changed')}")
    given = connection.scope.split()
    if more := [scope for scope in connection.wanted_scope.split() if scope not in given]:
        return Missing(Need.RECONNECT, f"{server.name} asks for more rights ({' '.join(more)}): connect it again.")
    return None


def missing_own_key(key: OwnKey | None, server: Server) -> Missing | None:
    """What is missing of a key of one's own, for `server` with its auth_config. No query.

    Over a shared header only a manager sets other values; while those cannot be used the shared ones are not used
    in their place, because they may open more.
    """
    config = getattr(server, "auth_config", None)
    if config is not None and config.method == Method.SHARED_HEADER:
        problem = _problem_of(key, server) if key is not None else ""
        if key is None or not problem:
            return None
        return Missing(
            Need.CREDENTIAL,
            f"{server.name} is called with a key that {key.set_by} set for you. {problem} Ask a manager of "
            f"{server.name} to set it again or to remove it.",
        )
    if key is None:
        return Missing(Need.OWN_KEY, f"{server.name} needs a key of your own.")
    problem = _problem_of(key, server)
    return Missing(Need.OWN_KEY, f"{problem} Enter it again.") if problem else None


def _problem_of(key: OwnKey, server: Server) -> str:
    if key.refused_at is not None:
        return f"{server.name} refused your key."
    if key.expires_at is not None and key.expires_at <= timezone.now():
        return f"Your key for {server.name} has expired."
    if key.origin != origin_of(server.url):
        return f"The address of {server.name} changed, and your key was entered for the old one."
    config = getattr(server, "auth_config", None)
    try:
        opened = own_keys.open_key(key)
    except SecretUnavailable:
        return f"Your key for {server.name} can no longer be opened."
    if config is None or opened.method != config.method:
        return f"The authentication of {server.name} was changed."
    if config.method == Method.OWN_HEADER and {asked.name for asked in own_keys.asked_of(server)} - set(opened.values):
        return f"{server.name} asks for more than you entered."
    return ""


def connect() -> None:
    """Let previews of virtual servers know; called once when the application starts."""
    previews.register(_sentence)


def _sentence(user: Any, server: Server) -> str:
    found = missing(user, server)
    return found.sentence if found is not None else ""
