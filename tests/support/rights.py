"""A server with items of every kind, rules that hide some of them, and what each rule must come to, written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from authflows.outbound import own_keys
from authflows.outbound.own_keys import Kept
from servers.models import AccessRule, AuthConfig, Catalogue, CatalogueItem, Hints, Items, Role, Server
from servers.own_header import CleanValue, OwnHeaderSettings
from servers.secrets import store
from tests.conftest import Cast
from tests.support.calls import MODERN, point_at
from tests.support.catalogues import State, catalogue, item
from tests.support.connected import guarded
from tests.support.keyed_server import with_config
from tests.support.upstream import Answer, Request, Script, Upstream, json_answer, result
from tests.support.virtual import virtual_server

Key = tuple[str, str]
"""Kind and key of an item."""
Definition = dict[str, Any]

DEFINITIONS: dict[str, list[Definition]] = {
    "tool": [
        {"name": "reads", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
        {"name": "adds", "inputSchema": {"type": "object"}, "annotations": {"destructiveHint": False}},
        {"name": "wipes", "inputSchema": {"type": "object"}},
    ],
    "prompt": [{"name": "greet"}, {"name": "scold"}],
    "resource": [
        {"uri": "note://open", "name": "open"},
        {"uri": "note://secret", "name": "secret"},
        {"uri": "shelf://secret", "name": "one that a template fits too"},
    ],
    "resource_template": [
        {"uriTemplate": "shelf://{book}", "name": "shelf"},
        {"uriTemplate": "file:///{+path}", "name": "any file"},
        {"uriTemplate": "file:///public/{name}", "name": "public"},
        {"uriTemplate": "file:///private/{name}", "name": "private"},
    ],
}
NAMED_BY = {"tool": "name", "prompt": "name", "resource": "uri", "resource_template": "uriTemplate"}
KEYS: tuple[Key, ...] = tuple((kind, one[NAMED_BY[kind]]) for kind, found in DEFINITIONS.items() for one in found)
UNKNOWN: tuple[Key, ...] = (
    ("tool", "never-there"),
    ("prompt", "never-there"),
    ("resource", "note://never-there"),
    ("resource_template", "never://there/{name}"),
)
SOME: frozenset[Key] = frozenset(
    {
        ("tool", "wipes"),
        ("prompt", "scold"),
        ("resource", "note://secret"),
        ("resource", "shelf://secret"),
        ("resource_template", "file:///private/{name}"),
    }
)
REST = frozenset(KEYS) - SOME


@dataclass(frozen=True)
class Rule:
    """What an admin set, and which items it hides. Nothing else in these tests decides what is hidden."""

    name: str
    hides: frozenset[Key]
    rule: Mapping[str, Any]
    """Fields of the collaborator's rule."""
    rows: Mapping[str, Any]
    """Fields of the rows of SOME in the catalogue."""


def _names(keys: frozenset[Key]) -> list[str]:
    return sorted(f"{kind}:{key}" for kind, key in keys)


RULES = (
    Rule("all", frozenset(), {}, {}),
    Rule("only", SOME, {"items": Items.ONLY, "item_names": _names(REST)}, {}),
    Rule("except", SOME, {"items": Items.EXCEPT, "item_names": _names(SOME)}, {}),
    Rule("only nothing", frozenset(KEYS), {"items": Items.ONLY, "item_names": []}, {}),
    Rule("read_only", frozenset({("tool", "adds"), ("tool", "wipes")}), {"hints": Hints.READ_ONLY}, {}),
    Rule("not_destructive", frozenset({("tool", "wipes")}), {"hints": Hints.NOT_DESTRUCTIVE}, {}),
    Rule("disabled", SOME, {}, {"enabled": False}),
    Rule("held", SOME, {}, {"state": State.HELD, "approved": ""}),
    Rule(
        "disabled and only",
        SOME | {("tool", "adds")},
        {"items": Items.ONLY, "item_names": _names(frozenset(KEYS) - {("tool", "adds")})},
        {"enabled": False},
    ),
)


CAPABILITIES: dict[str, Any] = {"tools": {}, "prompts": {}, "resources": {"subscribe": True}, "completions": {}}


def fill_catalogue(server: Server) -> None:
    """Let the server's catalogue have everything, approved."""
    for kind, definitions in DEFINITIONS.items():
        for definition in definitions:
            item(server, definition, kind=kind)
    catalogue(server, capabilities=CAPABILITIES)


def hold(server: Server, user_rule: AccessRule, rule: Rule) -> None:
    """Set up what `rule` says; every caller's next request is decided by it."""
    for name, value in {"items": Items.ALL, "item_names": [], "hints": Hints.ANY, **rule.rule}.items():
        setattr(user_rule, name, value)
    user_rule.save()
    for row in CatalogueItem.objects.filter(catalogue__server=server):
        usual = {"enabled": True, "state": State.APPROVED, "approved": row.offered}
        wanted = {**usual, **(rule.rows if (row.kind, row.key) in SOME else {})}
        for name, value in wanted.items():
            setattr(row, name, value)
        row.save()
    catalogue(server, policy=Catalogue.Policy.ACCEPT_ALL)


def everything(request: Request) -> Answer:
    """A server of both eras that offers everything, and does whatever it is asked: it knows of no rights."""
    if request.method != "POST":
        return Answer(200 if request.method == "DELETE" else 405)
    found = request.json()
    if isinstance(found, list):
        return json_answer([_answer(one) for one in found if "id" in one])
    if "id" not in found or "method" not in found:
        return Answer(202)
    headers = {"Mcp_Session_Id": "upstream-session"} if found["method"] == "initialize" else {}
    return result(request, _answer(found)["result"], **headers)


LISTED = {
    "tools/list": ("tools", "tool"),
    "prompts/list": ("prompts", "prompt"),
    "resources/list": ("resources", "resource"),
    "resources/templates/list": ("resourceTemplates", "resource_template"),
}


def _answer(message: Mapping[str, Any]) -> dict[str, Any]:
    method = message["method"]
    value: dict[str, Any] = {}
    if method in LISTED:
        name, kind = LISTED[method]
        value = {name: DEFINITIONS[kind]}
    elif method == "initialize":
        value = {
            "protocolVersion": message["params"]["protocolVersion"],
            "capabilities": CAPABILITIES,
            "serverInfo": {"name": "everything", "version": "1"},
        }
    elif method == "server/discover":
        value = {
            "supportedVersions": [MODERN, "2025-11-25"],
            "capabilities": CAPABILITIES,
            "serverInfo": {"name": "everything", "version": "1"},
        }
    elif method == "tools/call":
        value = {"content": [{"type": "text", "text": "done"}], "isError": False}
    elif method == "prompts/get":
        value = {"messages": []}
    elif method == "resources/read":
        value = {"contents": [{"uri": message["params"]["uri"], "text": "done"}]}
    elif method == "completion/complete":
        value = {"completion": {"values": ["done"]}}
    return {"jsonrpc": "2.0", "id": message["id"], "result": {"resultType": "complete", **value}}


# Credentials: how the gateway proves itself to the server


@contextmanager
def _without(cast: Cast) -> Iterator[Upstream]:
    with Upstream(everything) as upstream:
        point_at(cast.server, upstream, eras="dual")
        yield upstream


@contextmanager
def _shared_header(cast: Cast) -> Iterator[Upstream]:
    with Upstream(_requiring("Bearer shared", everything)) as upstream:
        point_at(cast.server, upstream, eras="dual")
        stored = store.set_secret(tenant=cast.tenant, group="calculator", key="token", value="shared", actor="test")
        config = AuthConfig.objects.get(server=cast.server)
        config.method = AuthConfig.Method.SHARED_HEADER
        config.set_header_templates([("Authorization", f"Bearer {stored.fqn}")])
        config.save()
        yield upstream


@contextmanager
def _own_key(cast: Cast) -> Iterator[Upstream]:
    with Upstream(_requiring("Bearer mine", everything)) as upstream:
        point_at(cast.server, upstream, eras="dual")
        config = AuthConfig.objects.get(server=cast.server)
        config.method = AuthConfig.Method.OWN_HEADER
        config.settings = OwnHeaderSettings((("Authorization", "Bearer {{API_KEY}}"),)).stored()
        config.save()
        kept = own_keys.enter(
            user=cast.member,
            server=with_config(cast.server),
            values={"API_KEY": CleanValue("mine")},
            actor=cast.member,
            keep_untested=True,
        )
        assert isinstance(kept, Kept), kept
        yield upstream


@contextmanager
def _connection(cast: Cast) -> Iterator[Upstream]:
    with guarded(cast) as drive:
        drive.script = everything
        Server.objects.filter(pk=cast.server.pk).update(eras="dual")
        drive.connect(cast.member)
        yield drive.upstream


def _requiring(value: str, script: Script) -> Script:
    def guarded_script(request: Request) -> Any:
        if request.header("authorization") != value:
            return Answer(401, (("Content-Type", "application/json"),), b"{}")
        return script(request)

    return guarded_script


CREDENTIALS: dict[str, Callable[[Cast], Any]] = {
    "none": _without,
    "shared header": _shared_header,
    "own key": _own_key,
    "connection": _connection,
}


# Paths: the URL that is called, and what an item is called there


@dataclass(frozen=True)
class Place:
    """One URL through which the cast's server is called."""

    server: Server
    prefix: str = ""
    transparent: bool = True
    """What is listed is passed through where nothing is limited, and batches are refused as a whole."""

    def shown(self, kind: str, key: str) -> str:
        """The item's name there."""
        return f"{self.prefix}{key}" if kind in ("tool", "prompt") else key


def _transparent(cast: Cast) -> Place:
    return Place(cast.server)


def _engine(cast: Cast) -> Place:
    cast.server.path = Server.Path.ENGINE
    cast.server.save(update_fields=["path"])
    return Place(cast.server, transparent=False)


def _virtual(cast: Cast) -> Place:
    return Place(virtual_server(cast, (cast.server, "math")), "math__", transparent=False)


PATHS: dict[str, Callable[[Cast], Place]] = {"transparent": _transparent, "engine": _engine, "virtual": _virtual}


def user_rule(cast: Cast) -> AccessRule:
    """The rule by which the cast's member may use the cast's server."""
    return AccessRule.objects.get(server=cast.server, team=cast.readers, role=Role.USER)
