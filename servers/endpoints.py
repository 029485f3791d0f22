"""Which URLs that a server or a provider named may be used at all (CL-17, CL-18, T20, T26)."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from servers.egress import is_allowed_private, parse_destination, resolve
from servers.errors import DestinationRefused


def address_problem(url: str) -> str | None:
    """Why this URL is not one that we ask, told from its text and the allow-list alone; or None.

    Plain http only to a private destination that an admin allowed by host and port.
    """
    try:
        destination = parse_destination(url)
    except DestinationRefused as error:
        return error.public_message
    if destination.scheme == "http" and not is_allowed_private(destination):
        return "It is not an https address."
    return None


def reach_problem(url: str) -> str | None:
    """The same, and where its host leads right now; blocks on DNS."""
    if (problem := address_problem(url)) is not None:
        return problem
    try:
        resolve(parse_destination(url))
    except DestinationRefused as error:
        return error.public_message
    return None


def browser_problem(url: str) -> str | None:
    """Why a person's browser is not sent there: https only, plain http only for loopback, never another scheme."""
    try:
        destination = parse_destination(url)
    except DestinationRefused as error:
        return error.public_message
    if destination.scheme == "https" or is_loopback(destination.host):
        return None
    return "It is not an https address."


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, told from its text."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def origin_of(url: str) -> str:
    """Scheme and authority, as written."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
