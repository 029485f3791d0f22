"""Where an authorization response may go (AZ-6 to AZ-8, T15).

Pure functions on text. A URI is taken apart by one strict grammar, so that nothing in it can mean another place
to a browser than to us; what does not fit is refused, never repaired.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

LONGEST: Final = 2000

# RFC 3986 without the fragment; everything else (spaces, controls, backslashes, letters beyond ASCII) is refused.
_CHARACTERS = re.compile(r"(?:[A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_WEB = re.compile(r"(https?)://([^/?]*)([^?]*)(\?.*)?")
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(?::([0-9]*))?")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LOOPBACK = re.compile(r"http://(127\.0\.0\.1|\[::1\]|localhost)(?::([1-9][0-9]{0,4}))?((?:[/?].*)?)")
# Where a browser would take an encoded character for the character itself.
_HIDDEN_IN_PATH = re.compile(r"%(?:2e|2f|5c)", re.IGNORECASE)
_HIDDEN_CONTROL = re.compile(r"%(?:[01][0-9a-f]|7f)", re.IGNORECASE)

# Schemes that run, read or load something, or that are no application's own: no list may allow them.
_NEVER = frozenset(
    {
        *("about", "blob", "data", "feed", "file", "filesystem", "jar", "mhtml", "urn", "view-source"),
        *("javascript", "livescript", "mocha", "vbscript"),
        *("chrome", "chrome-extension", "intent", "moz-extension"),
        *("dict", "ftp", "ftps", "gopher", "imap", "ldap", "ldaps", "news", "nntp", "pop", "rtsp", "sftp", "smb"),
        *("mailto", "sms", "ssh", "tel", "telnet", "ws", "wss"),
    }
)


@dataclass(frozen=True, slots=True)
class Accepted:
    """A redirect URI that may be stored."""

    uri: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a redirect URI may not be stored: a sentence without the URI, fit for whoever registers."""

    reason: str


def check(uri: str, *, private: Collection[str]) -> Accepted | Refused:
    """Whether `uri` may be registered: https, http on a loopback address, or one of `private` exactly."""
    return Refused(reason) if (reason := _problem(uri, private)) else Accepted(uri)


def matches(asked: str, registered: str) -> bool:
    """Whether a request may use `asked` when `registered` is stored: the same text.

    Only the port of a loopback URI may differ, since a program takes whichever is free (RFC 8252, 7.3).
    `localhost`, 127.0.0.1 and [::1] stay three different hosts.
    """
    if asked == registered:
        return True
    one, other = _LOOPBACK.fullmatch(asked), _LOOPBACK.fullmatch(registered)
    if one is None or other is None or (one[1], one[3]) != (other[1], other[3]):
        return False
    return one[2] is None or int(one[2]) <= 65535


def without_loopback_port(uri: str) -> str:
    """The same text for every URI that `matches` takes for the same."""
    found = _LOOPBACK.fullmatch(uri)
    return f"http://{found[1]}{found[3]}" if found else uri


def is_loopback(uri: str) -> bool:
    """Whether the answer stays on the person's own computer, where any program may wait for it."""
    host = _host(uri)
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def shown_host(uri: str) -> str:
    """Where the answer goes, for people: the host without its port, or the scheme of an application (`cursor:`).

    Always ASCII: a name in other letters is shown as the punycode that the DNS is asked for.
    """
    scheme = _SCHEME.match(uri)
    if scheme is not None and scheme[1].lower() not in ("http", "https"):
        return f"{scheme[1].lower()}:"
    host = _host(uri)
    if ":" in host:
        return f"[{host}]"
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        return host.encode("ascii", "backslashreplace").decode("ascii")


def _host(uri: str) -> str:
    try:
        return urlsplit(uri).hostname or ""
    except ValueError:
        return ""


def _problem(uri: str, private: Collection[str]) -> str:
    if len(uri) > LONGEST:
        return f"It is longer than {LONGEST} characters."
    if "#" in uri:
        return "It has a fragment (#)."
    if not _CHARACTERS.fullmatch(uri):
        return "It has characters that do not belong in a URI; write them percent-encoded, names as punycode."
    if _HIDDEN_CONTROL.search(uri):
        return "It has an encoded control character."
    scheme = _SCHEME.match(uri)
    if scheme is None:
        return "It does not begin with a scheme such as https:."
    if scheme[1].lower() not in ("http", "https"):
        return _private_problem(uri, scheme[1], private)
    web = _WEB.fullmatch(uri)
    if web is None:
        return "It must begin with https:// (or http:// for a loopback address), in small letters."
    return _host_problem(web[1], web[2]) or _path_problem(web[3])


def _private_problem(uri: str, scheme: str, private: Collection[str]) -> str:
    if scheme.lower() in _NEVER:
        return f"The scheme {scheme}: is never allowed. Use https."
    if uri not in private:
        return "Its scheme belongs to an application; an admin has to allow this exact URI. Use https or loopback."
    return ""


def _host_problem(scheme: str, authority: str) -> str:
    if "@" in authority:
        return "It has a user name before the host."
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None or not _is_host(parts[1]):
        return "Its host is not a name or address in its plain form (small letters, no wildcard, no odd numbers)."
    if parts[2] is not None and not (parts[2].isdigit() and parts[2][0] != "0" and int(parts[2][:6]) <= 65535):
        return "Its port is not a number from 1 to 65535."
    if scheme == "http" and parts[1] not in ("127.0.0.1", "[::1]", "localhost"):
        return "Plain http is for loopback only: 127.0.0.1, [::1] or localhost. Use https."
    return ""


def _is_host(host: str) -> bool:
    try:
        if host.startswith("["):
            return f"[{ipaddress.IPv6Address(host[1:-1])}]" == host and "%" not in host
        labels = host.split(".")
        if labels[-1].isdigit() or re.fullmatch(r"0x[0-9a-f]*", labels[-1]):
            # What ends in a number is an IPv4 address to a browser, in whichever notation.
            return str(ipaddress.IPv4Address(host)) == host
    except ValueError:
        return False
    return len(host) <= 253 and all(_LABEL.fullmatch(label) for label in labels)


def _path_problem(path: str) -> str:
    if "*" in path:
        return "It has a wildcard; each redirect URI is compared exactly."
    if _HIDDEN_IN_PATH.search(path):
        return "Its path has an encoded dot, slash or backslash."
    if any(segment in (".", "..") for segment in path.split("/")):
        return "Its path has dot segments."
    return ""
