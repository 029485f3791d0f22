"""One kind of call against one target: prepared for wrk, every reply checked, the target's CPU counted."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from typing import Any

from targets import DRIVER_CORE, HERE, Bench, Target, cpu_seconds

TEXT = "hello bench"
MODERN = "2026-07-28"
_LEGACY_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2025-11-25",
}
_MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


@dataclass(frozen=True)
class Load:
    """What is sent. `kind` names the upstream's behaviour: json, sse, big, slow or tls."""

    kind: str = "json"
    era: str = "legacy"
    concurrency: int = 16
    spread: bool = False
    """Over all the registered servers in turn instead of one."""


def headers_for(era: str, method: str, name: str | None = None) -> dict[str, str]:
    """The headers of a POST in that era, without the credential."""
    if era == "legacy":
        return dict(_LEGACY_HEADERS)
    named = {"Mcp-Name": name} if name else {}
    return {**_LEGACY_HEADERS, "MCP-Protocol-Version": MODERN, "Mcp-Method": method, **named}


def body_for(era: str, method: str, params: dict[str, Any]) -> str:
    """The JSON-RPC request in that era."""
    meta = {"_meta": _MODERN_META} if era == "modern" else {}
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, **meta}}
    return json.dumps(message, separators=(",", ":"))


def call_body(era: str, *, tool: str = "echo") -> str:
    """A `tools/call` that the upstream answers with its text."""
    return body_for(era, "tools/call", {"name": tool, "arguments": {"text": TEXT}})


def measure(bench: Bench, target: Target, load: Load, *, seconds: float) -> dict[str, Any]:
    """Send the load for `seconds`; returns calls per second, CPU us a call, p50 and p99 us, wrong replies."""
    headers = headers_for(load.era, "tools/call", target.tool) | credentials(target)
    big = load.kind == "big"
    table = {
        "headers": headers,
        "body": call_body(load.era, tool=target.tool),
        "paths": _rotated(target) if load.spread else [target.paths[load.kind]],
        "expect": "xxxxxxxx" if big else TEXT,
        "smallest": 64 * 1024 if big else 1,
    }
    row = drive(bench, target, table, concurrency=load.concurrency, seconds=seconds)
    if load.spread:
        target.position = (target.position + row["requests"]) % len(target.spread)
    return {"kind": load.kind, "era": load.era, **row}


def credentials(target: Target) -> dict[str, str]:
    """The headers by which the target knows who calls, and in which session."""
    headers = {"Authorization": f"Bearer {target.token}"}
    return headers | {"Mcp-Session-Id": target.session} if target.session else headers


def drive(bench: Bench, target: Target, table: dict[str, Any], *, concurrency: int, seconds: float) -> dict[str, Any]:
    """Have wrk send what the table for `call.lua` says."""
    file = bench.folder / "load.lua"
    file.write_text("return " + _as_lua(table))
    url = f"http://127.0.0.1:{target.port}/"
    # wrk takes whole seconds; fewer than one is not worth measuring.
    options = ["-t1", f"-c{concurrency}", f"-d{max(1, round(seconds))}s", "--timeout", "60s"]
    script = ["-s", str(HERE / "call.lua"), url, "--", str(file)]
    command = ["taskset", "-c", DRIVER_CORE, "wrk", *options, *script]
    before = cpu_seconds(target.pid) if target.pid else 0.0
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    used = cpu_seconds(target.pid) - before if target.pid else 0.0
    found = re.search(r"^RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+) ?(.*)$", done.stdout, re.MULTILINE)
    if not found:
        raise RuntimeError(f"wrk failed: {done.stdout}{done.stderr}")
    requests, duration, wrong, broken, p50, p99 = (int(n) for n in found.groups()[:6])
    return {
        "target": target.name,
        "concurrency": concurrency,
        "requests": requests,
        "rps": (requests - wrong) * 1e6 / duration,
        "cpu_us": used * 1e6 / requests if target.pid and requests else None,
        "p50_us": p50,
        "p99_us": p99,
        "wrong": wrong + broken,
        "example": found[7],
        "load_average": os.getloadavg()[0],
    }


def _rotated(target: Target) -> list[str]:
    return target.spread[target.position :] + target.spread[: target.position]


def _as_lua(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"[{_as_lua(k)}]={_as_lua(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "{" + ",".join(map(_as_lua, value)) + "}"
    # JSON and Lua write plain ASCII strings and numbers alike.
    return json.dumps(value)
