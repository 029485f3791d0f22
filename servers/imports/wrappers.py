"""Commands of clients that only speak stdio: which of them merely carry a remote server. Pure."""

from __future__ import annotations

import re
import shlex
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from servers.imports.values import BadEntry, Text, parse

_WRAPPER: Final = re.compile(r"(?:.*/)?mcp-remote(?:@[\w.^~-]+)?")
_WITH_VALUE: Final = frozenset(("--transport", "--host", "--resource", "--auth-timeout", "--ignore-tool"))
_OWN_CLIENT: Final = frozenset(("--static-oauth-client-info", "--static-oauth-client-metadata"))


@dataclass(frozen=True, slots=True)
class Wrapped:
    """The remote server that a command carries."""

    url: str
    headers: Mapping[str, Text]
    notes: tuple[str, ...] = ()


def words_of(entry: Mapping[str, Any]) -> list[str]:
    """Command and arguments as one list, as the kinds of files write them."""
    command, arguments = entry.get("command"), entry.get("args", [])
    if isinstance(command, Mapping):  # Zed, before it had remote servers
        command, arguments = command.get("path", ""), command.get("args", [])
    if isinstance(command, list):
        command, arguments = "", [*command, *(arguments if isinstance(arguments, list) else [])]
    words = _split(command) if isinstance(command, str) else []
    return words + ([str(one) for one in arguments] if isinstance(arguments, list) else [])


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command) if " " in command else [command] if command else []
    except ValueError:
        return [command]


def unwrap(words: Sequence[str], *, known: Mapping[str, str], labels: Mapping[str, str]) -> Wrapped | None:
    """What `npx mcp-remote <url> --header …` calls; None for any other command. Raises BadEntry."""
    place = next((number for number, word in enumerate(words) if _WRAPPER.fullmatch(word)), None)
    if place is None:
        return None
    rest, url = deque(words[place + 1 :]), ""
    headers: dict[str, Text] = {}
    notes: list[str] = ["It was carried by mcp-remote; the gateway calls its URL directly."]
    while rest:
        word = rest.popleft()
        if word == "--header" and rest:
            name, colon, value = rest.popleft().partition(":")
            if not colon:
                raise BadEntry("One of its --header arguments is not written as Name: value.")
            headers[name.strip()] = parse(value.strip(), known=known, labels=labels)
        elif word in _OWN_CLIENT and rest:
            rest.popleft()
            notes.append("Its OAuth client is not taken over: set the sign-in up in the server's form.")
        elif word in _WITH_VALUE and rest:
            rest.popleft()
        elif not url and re.match(r"https?://", word):
            url = word
    if not url:
        raise BadEntry("It starts mcp-remote, but without a URL.")
    return Wrapped(url, headers, tuple(notes))
