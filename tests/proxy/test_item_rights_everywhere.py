"""What is hidden is never listed and never callable; what is listed always is callable (F-502, T46).

Generated from tables: each era and way of calling, each method, each path to the server, each kind of credential, each
rule. What a rule hides stands in `tests/support/rights.py`, written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conftest import Cast
from tests.support import rights
from tests.support.calls import LEGACY, Caller, caller_for, message, modern, modern_headers
from tests.support.gateway import LiveGateway
from tests.support.raw_http import Pairs, RawConnection
from tests.support.rights import CREDENTIALS, KEYS, LISTED, PATHS, RULES, UNKNOWN, Place, Rule
from tests.support.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requirement("F-502", "T46")]

INVALID_PARAMS = -32602
BATCH = "2025-03-26"
Params = Mapping[str, Any]


def _expanded(template: str) -> str:
    return re.sub(r"\{.*?\}", "x.txt", template)


def _uri(name: str) -> Params:
    return {"uri": name}


# By kind: each way to get at an item, as a method and its parameters for the item's name at the place called.
METHODS: dict[str, list[tuple[str, Callable[[str], Params]]]] = {
    "tool": [("tools/call", lambda name: {"name": name, "arguments": {}})],
    "prompt": [
        ("prompts/get", lambda name: {"name": name}),
        (
            "completion/complete",
            lambda name: {"ref": {"type": "ref/prompt", "name": name}, "argument": {"name": "a", "value": ""}},
        ),
    ],
    "resource": [("resources/read", _uri), ("resources/subscribe", _uri), ("resources/unsubscribe", _uri)],
    "resource_template": [
        ("resources/read", lambda name: {"uri": _expanded(name)}),
        ("resources/subscribe", lambda name: {"uri": _expanded(name)}),
        (
            "completion/complete",
            lambda name: {"ref": {"type": "ref/resource", "uri": name}, "argument": {"name": "name", "value": ""}},
        ),
    ],
}
LISTEN = ("subscriptions/listen", lambda name: {"notifications": {"resourceSubscriptions": [_expanded(name)]}})


@dataclass
class Said:
    """What came back for one request: its status and the JSON-RPC response to it."""

    status: int
    response: Any
    whole: str

    @property
    def refused(self) -> bool:
        """With the code for what is unknown."""
        return isinstance(self.response, dict) and self.response.get("error", {}).get("code") == INVALID_PARAMS

    @property
    def done(self) -> bool:
        """With a result that is no error."""
        result = self.response.get("result") if isinstance(self.response, dict) else None
        return isinstance(result, dict) and not result.get("isError")


@dataclass
class Client:
    """One way of calling."""

    name: str
    caller: Caller
    connection: RawConnection
    headers: list[tuple[str, str]] = field(default_factory=list)
    hidden_status: int = 200

    @property
    def modern(self) -> bool:
        return self.name == "modern"

    def methods(self, kind: str, *, transparent: bool = True) -> list[tuple[str, Callable[[str], Params]]]:
        """The ways to get at an item of this kind that the era has."""
        found = METHODS[kind]
        if not self.modern:
            return found
        # The engine agrees to what it can deliver, and says so in a stream: tests of its own.
        listens = [LISTEN] if kind.startswith("resource") and transparent else []
        return [*((method, make) for method, make in found if "subscribe" not in method), *listens]

    def ask(self, method: str, params: Params) -> Said:
        """Send one request in this way."""
        if self.modern:
            body = modern(method, dict(params))
            return self._said(body, modern_headers(body))
        body = message(method, dict(params))
        if self.name == "batch":
            # Beside something that is allowed to everybody.
            return self._said([message("ping", id=2), body], self.headers)
        return self._said(body, self.headers)

    def _said(self, body: Any, headers: Pairs) -> Said:
        response = self.caller.post_on(self.connection, body, headers)
        found = response.json()
        own = next((one for one in found if one.get("id") == 1), None) if isinstance(found, list) else found
        return Said(response.status, own, response.body.decode())


def clients(caller: Caller, connection: RawConnection) -> Iterator[Client]:
    session = caller.open_session()
    yield Client("session", caller, connection, [("Mcp-Session-Id", session), ("MCP-Protocol-Version", LEGACY)])
    yield Client("no session", caller, connection, [("MCP-Protocol-Version", LEGACY)])
    yield Client("modern", caller, connection, hidden_status=400)
    yield Client("batch", caller, connection, [("MCP-Protocol-Version", BATCH)])


@dataclass
class Findings:
    """What does not hold, in words; and how much was looked at."""

    wrong: list[str] = field(default_factory=list)
    looked_at: int = 0

    def expect(self, holds: bool, *words: Any) -> None:
        self.looked_at += 1
        if not holds:
            self.wrong.append(" / ".join(map(str, words)))


@pytest.mark.parametrize("credential", CREDENTIALS)
@pytest.mark.parametrize("path", PATHS)
def test_what_is_hidden_is_never_listed_nor_callable_and_what_is_listed_is(
    gateway: LiveGateway, cast: Cast, path: str, credential: str
) -> None:
    findings = Findings()
    with CREDENTIALS[credential](cast) as upstream, RawConnection(gateway.origin) as connection:
        rights.fill_catalogue(cast.server)
        place = PATHS[path](cast)
        every_way = list(clients(caller_for(gateway, place.server, cast.member), connection))
        user_rule = rights.user_rule(cast)
        for rule in RULES:
            rights.hold(cast.server, user_rule, rule)
            for client in every_way:
                look_at(findings, rule, client, place, upstream)
    assert not findings.wrong, "\n".join([f"{len(findings.wrong)} of {findings.looked_at}", *findings.wrong[:40]])
    assert findings.looked_at > len(RULES) * len(every_way) * len(KEYS)


def look_at(findings: Findings, rule: Rule, client: Client, place: Place, upstream: Upstream) -> None:
    for kind, key in (*KEYS, *UNKNOWN):
        hidden = (kind, key) in rule.hides
        if (kind, key) in UNKNOWN and not rule.hides and (place.transparent or kind.startswith("resource")):
            continue  # without limits everything is passed on; through the engine, what names nobody else's
        for method, parameters in client.methods(kind, transparent=place.transparent):
            name = place.shown(kind, key)
            before = len(upstream.requests)
            said = client.ask(method, parameters(name))
            arrived = [request.body.decode() for request in upstream.requests[before:]]
            where = (rule.name, client.name, method, name, said.status, said.whole[:200])
            if hidden or (kind, key) in UNKNOWN:
                findings.expect(said.refused and said.status == client.hidden_status, "not refused", *where)
                findings.expect(not any(_mentions(body, kind, key) for body in arrived), "went upstream", *where)
            else:
                findings.expect(said.done, "not done", *where)
                findings.expect(any(_mentions(body, kind, key) for body in arrived), "did not arrive", *where)
    for method, (field_name, kind) in LISTED.items():
        said = client.ask(method, {})
        listed = _listed(said, field_name, rights.NAMED_BY[kind])
        expected = [place.shown(*one) for one in KEYS if one[0] == kind and one not in rule.hides]
        where = (rule.name, client.name, method, kind, said.status, said.whole[:200])
        if client.name == "batch" and place.transparent and rule.hides:
            findings.expect(listed is None and '"error"' in said.whole, "list in a batch", *where)
        else:
            findings.expect(listed == expected, f"expected {expected}", *where)
        hides = [key for one, key in rule.hides if one == kind]
        findings.expect(not any(f'"{place.shown(kind, key)}"' in said.whole for key in hides), "listed", *where)


def _listed(said: Said, field_name: str, named_by: str) -> list[str] | None:
    result = said.response.get("result") if isinstance(said.response, dict) else None
    return [one[named_by] for one in result[field_name]] if isinstance(result, dict) else None


def _mentions(body: str, kind: str, key: str) -> bool:
    return f'"{key}"' in body or (kind == "resource_template" and f'"{_expanded(key)}"' in body)


@pytest.mark.parametrize("kind", ["tool", "prompt", "resource", "resource_template"])
def test_hidden_and_unknown_get_the_same_answer(gateway: LiveGateway, cast: Cast, kind: str) -> None:
    hidden = next(key for one, key in rights.SOME if one == kind)
    unknown = next(key for one, key in UNKNOWN if one == kind)
    with CREDENTIALS["none"](cast), RawConnection(gateway.origin) as connection:
        rights.fill_catalogue(cast.server)
        rights.hold(cast.server, rights.user_rule(cast), next(rule for rule in RULES if rule.name == "disabled"))
        for client in clients(caller_for(gateway, cast.server, cast.member), connection):
            for method, parameters in client.methods(kind):
                one, other = (client.ask(method, parameters(key)) for key in (hidden, unknown))
                shown = [
                    _expanded(key) if _expanded(key) in one.whole + other.whole else key for key in (hidden, unknown)
                ]
                assert one.whole.replace(shown[0], "…") == other.whole.replace(shown[1], "…")
                assert one.status == other.status
