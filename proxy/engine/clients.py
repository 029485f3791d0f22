"""Who asks, as MCP has it: the era of a request, and what its client said about itself. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.engine.wire import CAPABILITIES_KEY, CLIENT_INFO_KEY, LEGACY_VERSIONS, LOG_LEVEL_KEY, MODERN_VERSION

_KEPT_CAPABILITIES: Final = ("elicitation", "sampling", "roots")
_MOST_BYTES: Final = 2048
"""Of a client's capabilities in a session id; a header line has to hold it."""


# Not frozen: one is made for every modern request. Nobody changes it.
@dataclass(slots=True)
class Client:
    """The client of one request. Of an older one, what its session id holds."""

    modern: bool
    version: str
    session: str = ""
    """The random key of an older client's session; empty where it has none, and for modern ones."""
    info: Mapping[str, Any] = field(default_factory=dict)
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    level: str = ""
    """The least severe log messages that it wants: of this request, or of its session."""

    def sealed(self) -> dict[str, Any]:
        """What goes into the session id."""
        return {"key": self.session, "version": self.version, "info": self.info, "caps": self.capabilities}


WITHOUT_SESSION: Final = Client(modern=False, version=LEGACY_VERSIONS[0])


def modern_client(params: Mapping[str, Any]) -> Client:
    """Of a request that says all about its client itself."""
    meta = params.get("_meta")
    if not isinstance(meta, dict):
        return Client(modern=True, version=MODERN_VERSION)
    info, capabilities, level = meta.get(CLIENT_INFO_KEY), meta.get(CAPABILITIES_KEY), meta.get(LOG_LEVEL_KEY)
    return Client(
        modern=True,
        version=MODERN_VERSION,
        info=info if isinstance(info, dict) else {},
        capabilities=capabilities if isinstance(capabilities, dict) else {},
        level=level if isinstance(level, str) else "",
    )


def opening_client(params: Mapping[str, Any], session: str) -> Client:
    """Of an `initialize` request, with the version that the session will speak."""
    asked, info, capabilities = (params.get(name) for name in ("protocolVersion", "clientInfo", "capabilities"))
    kept: dict[str, Any] = {}
    if isinstance(capabilities, dict):
        kept = {name: capabilities[name] for name in _KEPT_CAPABILITIES if isinstance(capabilities.get(name), dict)}
    if len(json.dumps(kept)) > _MOST_BYTES:
        kept = {name: {} for name in kept}
    named = {}
    if isinstance(info, dict):
        named = {name: str(info[name])[:100] for name in ("name", "version") if isinstance(info.get(name), str)}
    version = asked if isinstance(asked, str) and asked in LEGACY_VERSIONS else LEGACY_VERSIONS[0]
    return Client(modern=False, version=version, session=session, info=named, capabilities=kept)


def session_client(sealed: Mapping[str, Any]) -> Client:
    """Of a session id that was opened."""
    return Client(
        modern=False,
        version=sealed["version"],
        session=sealed["key"],
        info=sealed["info"],
        capabilities=sealed["caps"],
    )
