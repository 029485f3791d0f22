"""Tours in the four cells of old and new client and member, and what each cell makes of an answer.

A member does the same whoever is behind the gateway. So every cell is held against the tour of a client of the
member's own era without the gateway, with the translations that the matrix of virtual servers has for the cell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from tests.interop import plans
from tests.interop.plans import LISTS, Plan, call
from tests.interop.travel import Journey

ALIAS: Final = "all"
NAME: Final = "Member"
"""The name of the member, as people see it."""
MODERN_CLIENTS: Final = ("SDK 2, 2026-07-28", "SDK 2, negotiating")
_OF_ONE_ERA: Final = ("resultType", "ttlMs", "cacheScope")
_LISTS: Final = {"tools": "tools", "resources": "resources", "templates": "resourceTemplates", "prompts": "prompts"}
_COUNT: Final = re.compile(r" \(version \d+\)")
_STOPPED: Final = "asked a question in the middle of this call, which cannot be passed on"

Step = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """A client in front of a member, with the client whose tour without the gateway it is held against."""

    client: str
    member: str
    baseline: str
    alias: str = ALIAS
    path: str = ""
    """Of a bridge: a server of its own instead of a virtual one."""

    def __str__(self) -> str:
        return f"{self.client} to {self.member}" + (f" by {self.path}" if self.path else "")

    @property
    def modern(self) -> bool:
        """Whether the client is of the new era."""
        return self.client in MODERN_CLIENTS

    @property
    def member_modern(self) -> bool:
        """Whether the member is asked in the new era."""
        return self.baseline in MODERN_CLIENTS


# What is done on the tours

_ANSWERS: Final = [step for step in plans.ANSWERS if step.get("name") not in ("visit_first", "no such tool")]
_GATE: Final = [{"do": "gate", "name": "gated", "key": "gate"}, {"do": "cancel", "name": "endless", "key": "cancel"}]
OLD_QUESTIONS: Final = [
    call("test_elicitation", message="Who are you?"),
    call("test_sampling", prompt="Say something"),
    call("roots_during_call"),
]
NEW_QUESTIONS: Final = [
    call(f"test_input_required_result_{name}")
    for name in ("elicitation", "sampling", "list_roots", "request_state", "multiple_inputs", "multi_round")
] + [{"do": "prompt", "name": "test_input_required_result_prompt"}]
_QUIET: Final = [{"do": "level", "level": "error"}, {**call("test_tool_with_logging"), "key": "quiet"}]
_WATCHED: Final = "test://watched-resource"
HEAR: Final = [{"do": "hear", "name": "change", "kind": kind} for kind in ("tools", "prompts", "resources")]

SHORT: Final = [
    *LISTS,
    call("add", a=2, b=40),
    call("structured"),
    call("test_tool_with_progress", notes=3),
    call("own_error"),
    {"do": "read", "uri": "test://static-text"},
    {"do": "prompt", "name": "test_simple_prompt"},
]
"""For cells of which another one has proven the rest."""


def plan(*, modern: bool, member_modern: bool, key: str) -> Plan:
    """The whole tour of a client; `key` is this tour's own."""
    watched: Plan = [{"do": "hear", "name": "announce", "kind": "watched"}]
    if not modern:
        watched = [{"do": "subscribe", "uri": _WATCHED}, *watched, {"do": "unsubscribe", "uri": _WATCHED}]
    return [
        *_ANSWERS,
        call("nothing of that name"),
        *plans.DURING_A_CALL[:2],
        *_GATE,
        *(NEW_QUESTIONS if member_modern else [*OLD_QUESTIONS, {**call("visit_once"), "arguments": {"key": key}}]),
        *([call("test_x_mcp_header", region="eu-wëst 1")] if member_modern else []),
        *watched,
        *HEAR,
        *([] if modern else _QUIET),
    ]


def aliased(steps: Plan, alias: str) -> Plan:
    """The same with the names that tools and prompts have behind an alias."""
    if not alias:
        return steps
    found = []
    for step in steps:
        named = {**step, "name": f"{alias}__{step['name']}"} if "name" in step else step
        if step.get("ref", {}).get("type") == "ref/prompt":
            named = {**step, "ref": {**step["ref"], "name": f"{alias}__{step['ref']['name']}"}}
        found.append(named)
    return found


# What was seen, without what each cell has its own of


def seen_by_step(journey: Journey, alias: str = "") -> dict[str, Step]:
    """What a client saw at each step; lists as one page in the order of their names."""
    prefix = f"{alias}__" if alias else ""
    return {_label(step, prefix): _plain(step, prefix) for step in journey.seen}


def _label(step: Mapping[str, Any], prefix: str) -> str:
    words = [step["do"], *(str(step[key]) for key in ("what", "name", "uri", "kind", "level", "key") if key in step)]
    if "ref" in step:
        words.append(step["ref"].get("name", step["ref"].get("uri")))
    return " ".join(word.removeprefix(prefix) for word in words)


def _plain(step: Step, prefix: str) -> Step:
    found = {key: _without_era(step[key]) for key in ("result", "error", "failed", "questions") if key in step}
    found["notifications"] = [_notification(one) for one in step["notifications"]]
    if step["do"] == "list" and "result" in found:
        items = [item for page in found["result"] for item in page[_LISTS[step["what"]]]]
        found["result"] = sorted((_item(item, prefix) for item in items), key=str)
    if step["do"] == "hear" and "result" in found:
        found["result"] = found["result"]["result"]
    return found


def _item(item: Step, prefix: str) -> Step:
    named = {**item, "name": item["name"].removeprefix(prefix)}
    if "description" in item:
        named["description"] = _COUNT.sub("", item["description"])
    return named


def _notification(said: Step) -> Step:
    found = {key: value for key, value in _without_era(said).items() if key != "jsonrpc"}
    return {key: value for key, value in found.items() if value != {}}


def _without_era(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_era(one) for one in value]
    if not isinstance(value, dict):
        return value
    found = {key: _without_era(inner) for key, inner in value.items() if key not in _OF_ONE_ERA and key != "_meta"}
    meta = {key: one for key, one in (value.get("_meta") or {}).items() if not key.startswith("io.modelcontext")}
    return {**found, "_meta": meta} if meta else found


# What a cell makes of it


def expected(cell: Cell, steps: Mapping[str, Step]) -> dict[str, Step]:
    """What the client of this cell has to see, from what the one of the baseline saw."""
    found = {label: _expected(cell, label, deepcopy(step)) for label, step in steps.items() if label != "handshake"}
    if cell.modern and not cell.member_modern:
        for label in (f"subscribe {_WATCHED}", f"unsubscribe {_WATCHED}", *map(_quiet_label, _QUIET)):
            found.pop(label, None)
    if not cell.modern and cell.member_modern:
        nothing = {"questions": [], "notifications": []}
        for label in (f"subscribe {_WATCHED}", f"unsubscribe {_WATCHED}", "level error"):
            found[label] = {"result": {}, **nothing}
        found[_quiet_label(_QUIET[1])] = {**found["call test_tool_with_logging"], "notifications": []}
    return found


def _quiet_label(step: Mapping[str, Any]) -> str:
    return _label(step, "")


def _expected(cell: Cell, label: str, step: Step) -> Step:
    if label == "call nothing of that name" or label == "prompt not there":
        # The engine knows its items itself; the words are its own.
        return {"code": -32602}
    if label in ("ping", "level debug", "level error"):
        return {"code": -32601} if cell.modern else {"result": {}, "questions": [], "notifications": []}
    if label == _quiet_label(_QUIET[1]):
        # These members send everything, whatever level was set; the engine keeps to what the client wants.
        step["notifications"] = []
    if cell.modern and not cell.member_modern:
        if label in ("call test_elicitation", "call test_sampling", "call roots_during_call"):
            return {"stopped": True}
        if label == "call visit_once":
            # Not an error but a question, after which the call is made anew.
            pages = [{**one, "message": _asked_by(cell, one["message"])} for one in _pages(step)]
            questions = [
                {"kind": "elicitation", "params": {key: page[key] for key in page if key != "elicitationId"}}
                for page in pages
            ]
            result = {"content": [{"type": "text", "text": "visited"}], "isError": False}
            return {"result": result, "questions": questions, "notifications": []}
        if step.get("error", {}).get("code") == -32002:
            step["error"]["code"] = -32602
    if label == "call visit_once":
        for page in _pages(step):
            page["message"] = _asked_by(cell, page["message"])
    for asked in step["questions"]:
        if asked["kind"] == "elicitation":
            asked["params"]["message"] = _asked_by(cell, asked["params"]["message"])
    return step


def _pages(step: Step) -> list[Step]:
    pages: list[Step] = step["error"]["data"]["elicitations"]
    return pages


def _asked_by(cell: Cell, message: str) -> str:
    return message if cell.path else f"{NAME}: {message}"


def reduced(wanted: Step, found: Step) -> Step:
    """Of what was seen, as much as is wanted."""
    if wanted.keys() == {"code"}:
        return {"code": found.get("error", {}).get("code")}
    if wanted.keys() == {"stopped"}:
        texts = [block["text"] for block in found.get("result", {}).get("content", ())]
        asked = found["questions"] or not found.get("result", {}).get("isError")
        return {"stopped": not asked and NAME in texts[0] and _STOPPED in texts[0]}
    return found
