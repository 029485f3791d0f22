"""Lists out of the catalogue: for one person, as bytes, made once for all who have the same rights.

A list never fails as a whole and asks no member anything: what one of them does not answer is not needed for it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from time import time
from typing import Any, Final
from uuid import UUID

from jiter import from_json

from proxy import threads
from proxy.engine import cursors
from proxy.engine.handshake import server_info
from proxy.engine.sink import json_headers
from proxy.engine.wire import SERVER_INFO_KEY, Refusal, encoded
from proxy.in_flight import ActiveCall, Phase
from proxy.messages import INVALID_PARAMS, Message
from servers.access import USER, Allowed
from servers.items import ItemKind
from servers.registry import ServerFacts
from servers.turns import in_turns
from servers.virtual.arrangement import Arrangement, Entry
from servers.virtual.deciding import decide_entry

LISTS: Final = {
    "tools/list": (ItemKind.TOOL, b"tools"),
    "prompts/list": (ItemKind.PROMPT, b"prompts"),
    "resources/list": (ItemKind.RESOURCE, b"resources"),
    "resources/templates/list": (ItemKind.TEMPLATE, b"resourceTemplates"),
}
PAGE_BYTES: Final = 1024 * 1024
"""A page is full with the item that reaches this size."""
PIECE_BYTES: Final = 128 * 1024
"""So much of a page is written at once."""
_MOST_KEPT: Final = 64


@dataclass(frozen=True, slots=True)
class Sight:
    """What somebody sees of one member. Equal ones see the same, so lists are kept by them."""

    member: UUID
    allowed: Allowed
    marked: str = ""
    """Stands before the descriptions of a member that is not connected yet."""
    here: Allowed = USER
    """Their rights on the virtual server itself."""


Sights = tuple[Sight, ...]


@dataclass(frozen=True, slots=True)
class Pages:
    """One list for certain rights: each page a JSON array, and what their cursors are bound to."""

    pages: tuple[bytes, ...]
    state: str


def seen(arrangement: Arrangement, kind: ItemKind, sights: Sights) -> list[Entry]:
    """The entries of one kind that somebody may have, in order."""
    of_member = {sight.member: sight for sight in sights}
    return [
        entry
        for entry in in_turns(arrangement.entries.get(kind, ()))
        if (sight := of_member.get(entry.member.id)) is not None and decide_entry(sight.here, sight.allowed, entry)
    ]


def pages_of(arrangement: Arrangement, kind: ItemKind, sights: Sights) -> Pages:
    """The list in pages. Takes some milliseconds for thousands of items: not for the event loop."""
    marks = {sight.member: sight.marked for sight in sights if sight.marked}
    pages: list[bytes] = []
    texts: list[bytes] = []
    size = 0
    for entry in in_turns(seen(arrangement, kind, sights)):
        mark = marks.get(entry.member.id)
        text = (_marked(entry.text, mark) if mark else entry.text).encode()
        texts.append(text)
        size += len(text)
        if size >= PAGE_BYTES:
            pages.append(b"[%b]" % b",".join(texts))
            texts, size = [], 0
    if texts or not pages:
        pages.append(b"[%b]" % b",".join(texts))
    digest = hashlib.sha256(repr((arrangement.version, sights)).encode()).hexdigest()[:16]
    return Pages(tuple(pages), digest)


def _marked(text: str, mark: str) -> str:
    definition = json.loads(text)
    definition["description"] = f"{mark}{definition.get('description') or ''}"
    return json.dumps(definition, separators=(",", ":"), ensure_ascii=False)


async def answer_list(
    call: ActiveCall, server: ServerFacts, arrangement: Arrangement, sights: Sights, body: bytes
) -> None:
    """Answer one of `LISTS` for `call.message`. Raises Refusal for a cursor that is not of this list."""
    message = call.message
    kind, field = LISTS[message.method]
    key = (kind, sights)
    found: Pages | None = arrangement.kept.get(key)
    if found is None:
        found = await threads.shared((id(arrangement), *key), pages_of, arrangement, kind, sights)
        if len(arrangement.kept) >= _MOST_KEPT:
            arrangement.kept.clear()
        arrangement.kept[key] = found
    number = 0
    if b'"cursor"' in body:
        number = _page_asked_for(call, server, found, body)
    following = b""
    if number + 1 < len(found.pages):
        following = b',"nextCursor":%b' % encoded(_cursor(call, server, found, number + 1))
    before = b'{"jsonrpc":"2.0","id":%b,"result":{"%b":' % (encoded(message.id), field)
    call.enter(Phase.RESPONSE, server.response_timeout)
    await _send(call, before, found.pages[number], b"%b%b}}" % (following, _extras(message, server)))


async def _send(call: ActiveCall, before: bytes, page: bytes, after: bytes) -> None:
    """Answer in pieces that take the event loop a moment each: others have their turn between them."""
    if len(page) <= PIECE_BYTES:
        return await call.answer(200, json_headers(), b"%b%b%b" % (before, page, after))
    length = b"%d" % (len(before) + len(page) + len(after))
    await call.start(200, json_headers((b"content-length", length)))
    await call.piece(before)
    for start in range(0, len(page), PIECE_BYTES):
        await call.piece(page[start : start + PIECE_BYTES])
    await call.piece(after)
    await call.finish()


def list_result(found: Pages, field: bytes) -> dict[str, Any]:
    """The first page as a value, for a batch."""
    return {field.decode(): from_json(found.pages[0])}


def _extras(message: Message, server: ServerFacts) -> bytes:
    if not message.modern:
        return b""
    # It is made for this person; whoever keeps it must ask again, since rights change without notice.
    about = encoded({SERVER_INFO_KEY: server_info(server)})
    return b',"resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":%b' % about


def _principal(call: ActiveCall) -> int:
    assert call.prepared is not None  # noqa: S101
    return call.prepared.principal.user_id


def _cursor(call: ActiveCall, server: ServerFacts, pages: Pages, number: int) -> str:
    return cursors.seal(
        number,
        server=server.id,
        user_id=_principal(call),
        method=call.message.method,
        state=pages.state,
        now=time(),
    )


def _page_asked_for(call: ActiveCall, server: ServerFacts, pages: Pages, body: bytes) -> int:
    params = from_json(body).get("params")
    cursor = params.get("cursor") if isinstance(params, dict) else None
    if cursor is None:
        return 0
    number = None
    if isinstance(cursor, str):
        number = cursors.read(
            cursor,
            server=server.id,
            user_id=_principal(call),
            method=call.message.method,
            state=pages.state,
            now=time(),
        )
    if number is None or not 0 <= number < len(pages.pages):
        raise Refusal(INVALID_PARAMS, "The list has changed, or the cursor is not of it. Begin without a cursor.")
    return number
