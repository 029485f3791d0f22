"""Calls through the engine: a virtual server with one member, and bridges between the eras, against the 1:1 path."""

from __future__ import annotations

import http.client
import json
from dataclasses import replace
from typing import Any

from calls import body_for, credentials, headers_for
from setup_engine_names import ALIAS
from targets import Target

PLAIN, VIRTUAL = "1:1 path", "virtual server"
OTHER_ERA = {"legacy": "modern", "modern": "legacy"}


def targets_for(gateway: Target, era: str) -> list[Target]:
    """What a client of this era calls, the transparent path first. A session is opened where the engine has one."""
    other = OTHER_ERA[era]
    paths = {
        PLAIN: era,
        VIRTUAL: f"virtual-{era}",
        f"bridge to a {era} server": f"engine-{era}",
        f"bridge to a {other} server": other,
    }
    return [_target(gateway, name, f"/default/mcp/{slug}/server", era) for name, slug in paths.items()]


def _target(gateway: Target, name: str, path: str, era: str) -> Target:
    tool = f"{ALIAS}__echo" if name == VIRTUAL else "echo"
    target = replace(gateway, name=name, paths={"json": path}, tool=tool)
    return replace(target, session=open_session(target)) if era == "legacy" and name != PLAIN else target


def open_session(target: Target) -> str:
    """The id of a new session of an older client."""
    info = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}
    headers, _ = ask(target, "legacy", "initialize", info)
    return headers["mcp-session-id"]


def ask(target: Target, era: str, method: str, params: dict[str, Any]) -> tuple[Any, bytes]:
    """One request from here: the headers and the body of its answer."""
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=60)
    try:
        body = body_for(era, method, params)
        connection.request("POST", target.paths["json"], body, headers_for(era, method) | credentials(target))
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    if response.status != 200 or "result" not in json.loads(data):
        raise RuntimeError(f"{target.name}: {method} got {response.status} {data[:300]!r}")
    return response.headers, data
