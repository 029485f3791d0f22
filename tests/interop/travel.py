"""Send a client on a tour and bring what it saw, and what the upstream saw, into a form that can be compared."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

from tests.interop.plans import Plan
from tests.interop.route import Route
from tests.support.node import clean_environment
from tests.support.processes import PEERS, Peer, foreign_python

# name -> program, its environment (None: the project's) and its arguments
CLIENTS = {
    "SDK 1": ("client1.py", "mcp1", ()),
    "SDK 2, initialize": ("client2.py", None, ("--mode", "legacy")),
    "SDK 2, 2026-07-28": ("client2.py", None, ("--mode", "2026-07-28")),
    "SDK 2, negotiating": ("client2.py", None, ("--mode", "auto")),
}

# Headers of the protocol: the upstream must see them exactly as the client sent them.
_PROTOCOL_HEADERS = ("accept", "content-type", "mcp-protocol-version", "mcp-method", "mcp-name")
# The reference server puts the time of day into its resources.
_CLOCK = re.compile(r"\b\d{1,2}:\d\d:\d\d [AP]M\b")


@dataclass(frozen=True)
class Journey:
    """One tour: what the client saw, its exchanges on the wire, and the requests that reached the upstream."""

    seen: list[dict[str, Any]]
    wire: list[Any]
    requests: list[dict[str, Any]] | None


def travel(client: str, route: Route, plan: Plan, *, upstream: Peer, witnessed: bool) -> Journey:
    """Walk a client through the plan; raises AssertionError with its last words when it breaks down."""
    program, environment, arguments = CLIENTS[client]
    python = foreign_python(environment) if environment else sys.executable
    command = [python, str(PEERS / program), route.url, *arguments]
    for name, value in route.headers.items():
        command += ["--header", f"{name}: {value}"]
    if not witnessed:
        # A server that asks for the roots whenever it likes cannot be compared step by step.
        command.append("--without-roots")
    else:
        upstream.witness("reset")
        command += ["--witness", upstream.url.replace("/mcp", "/witness")]
    done = subprocess.run(
        command,
        input=json.dumps(plan),
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"the client failed: {done.stderr[-3000:]}"
    found = json.loads(_CLOCK.sub("<time>", done.stdout.replace(route.url, "<url>")))
    if not witnessed:
        # Some add tools once a client has said hello; whether its standing stream is open by then is a race.
        for step in found["seen"]:
            step["notifications"] = [one for one in step.get("notifications", []) if not _says_changed(one)]
    return Journey(found["seen"], found["wire"], upstream.witness("requests") if witnessed else None)


def _says_changed(notification: dict[str, Any]) -> bool:
    return str(notification.get("method")).endswith("/list_changed")


def differences(direct: Journey, through: Journey) -> list[str]:
    """Every place where the two journeys differ, in words; empty when they are equal."""
    found = []
    for one, other in zip(direct.seen, through.seen, strict=True):
        if one != other:
            found.append(f"the client saw at {_name(one)}\n  direct:  {_short(one)}\n  through: {_short(other)}")
    for label, one, other in (
        ("on the wire", direct.wire, through.wire),
        ("at the upstream", comparable(direct.requests), comparable(through.requests)),
    ):
        counted, other_counted = Counter(map(json.dumps, one)), Counter(map(json.dumps, other))
        found += [f"{label}, only direct: {_short(item)}" for item in (counted - other_counted).elements()]
        found += [f"{label}, only through: {_short(item)}" for item in (other_counted - counted).elements()]
    return found


def failed_steps(journey: Journey) -> list[str]:
    """Steps that broke in the client itself, so that a comparison of two failures cannot pass for a success."""
    return [f"{step['do']}: {step['failed']}" for step in journey.seen if "failed" in step]


def comparable(requests: list[dict[str, Any]] | None) -> list[Any]:
    """Requests as the upstream saw them, without what differs between any two runs.

    How often a client opens its standing stream is up to timing, so those GET requests count once.
    """
    found = []
    for request in requests or []:
        headers = sorted(
            [name, value]
            for name, value in request["headers"]
            if name in _PROTOCOL_HEADERS or name.startswith("mcp-param-")
        )
        names = {name for name, _ in request["headers"]}
        carried = sorted(names & {"mcp-session-id", "last-event-id"})
        entry = [request["verb"], request["path"], request["query"], headers, carried, _sealed(request["body"])]
        if request["verb"] != "GET" or entry not in found:
            found.append(entry)
    return found


def _sealed(body: str) -> str:
    """The body with the server's sealed state made equal: it is encrypted anew in every run."""
    return re.sub(r'("requestState": ?")[^"]*', r"\1…", body)


def _name(step: dict[str, Any]) -> str:
    return " ".join(str(step[key]) for key in ("do", "what", "name", "uri", "kind") if key in step)


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) < 1500 else f"{text[:1500]}…"
