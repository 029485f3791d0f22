"""Rights to single tools, prompts and resources on the transparent path, before anything goes upstream (F-502, T46).

Only calls with limits come here: those of people whose rules are about some items only, and all calls to a server of
which an admin disabled or held something. What a list hides and what was never there get the same answer.
"""

from __future__ import annotations

from typing import Any, Final

from proxy import errors, threads
from proxy.engine import wire
from proxy.engine.lists import LISTS, Sight, answer_list
from proxy.engine.sink import json_headers
from proxy.forward import say
from proxy.in_flight import ActiveCall, Phase
from proxy.item_decisions import COMPLETION, LISTEN, Hidden, hidden_in
from proxy.item_references import Unreadable
from proxy.messages import INVALID_PARAMS, INVALID_REQUEST, Kind, Message
from proxy.pipeline import Prepared
from proxy.runtime import Runtime
from servers import changes
from servers.access import Allowed
from servers.catalogue.facts import CatalogueFacts, catalogue_of
from servers.items import ITEM_METHODS
from servers.virtual.arrangement import Arrangement, arrangement_of

DECIDED: Final = frozenset((*ITEM_METHODS, *LISTS, COMPLETION, LISTEN))
_MOST_ON_THE_LOOP: Final = 200
"""Templates that a URI is compared with on the event loop; more are for a thread."""


async def answered(call: ActiveCall, runtime: Runtime, body: bytes) -> bool:
    """Whether `call.message` was answered here: a list, or the refusal of something that is hidden.

    Otherwise nothing was sent, and it may go upstream.
    """
    message, prepared = call.message, call.prepared
    assert prepared is not None  # noqa: S101
    elements = message.elements if message.kind is Kind.BATCH else (message,)
    if not any(element.method in DECIDED for element in elements):
        return False
    catalogue = await catalogue_for(call, runtime, prepared)
    if not catalogue.taken:
        await say(call, errors.no_catalogue(prepared.server.name))
        return True
    if message.kind is not Kind.BATCH and message.method in LISTS:
        await _list(call, prepared, body)
        return True
    try:
        found = await _decide(prepared.allowed, catalogue, message, body)
    except Unreadable as error:
        await _refuse(call, INVALID_PARAMS, str(error), "message_rejected")
        return True
    if found is not None:
        call.decision = "denied"
        message.item = message.item or found.name
        await _refuse(call, INVALID_PARAMS, found.sentence, found.reason)
        return True
    if message.kind is Kind.BATCH and any(element.method in LISTS for element in elements):
        await _refuse(call, INVALID_REQUEST, "Ask for lists in requests of their own, not in a batch.", "list_in_batch")
        return True
    return False


async def _decide(allowed: Allowed, catalogue: CatalogueFacts, message: Message, body: bytes) -> Hidden | None:
    if len(catalogue.uris.templates) > _MOST_ON_THE_LOOP:
        return await threads.run(hidden_in, allowed, catalogue, message, body)
    return hidden_in(allowed, catalogue, message, body)


# What it is decided by


async def catalogue_for(call: ActiveCall, runtime: Runtime, prepared: Prepared) -> CatalogueFacts:
    """The server's catalogue; where it was never read, it is read now with the caller's credential."""
    found = await _kept_catalogue(prepared)
    if found.taken:
        runtime.catalogues.refresh_if_old(prepared)
        return found
    call.watchable = True
    call.enter(Phase.RESPONSE, prepared.server.response_timeout)
    await runtime.catalogues.refresh(prepared, wait=True)
    return await _kept_catalogue(prepared)


async def _kept_catalogue(prepared: Prepared) -> CatalogueFacts:
    try:
        return catalogue_of(prepared.server.id, may_load=False)
    except changes.NotCached:
        return await threads.run_or_give_up(catalogue_of, prepared.server.id)


def _load_arrangement(prepared: Prepared) -> Arrangement:
    return arrangement_of(prepared.server.id, virtual=False)


# What is answered


async def _list(call: ActiveCall, prepared: Prepared, body: bytes) -> None:
    if call.message.kind is not Kind.REQUEST:
        return await call.answer(202, [], b"")
    server = prepared.server
    try:
        arrangement = arrangement_of(server.id, virtual=False, may_load=False)
    except changes.NotCached:
        arrangement = await threads.run_or_give_up(_load_arrangement, prepared)
    sights = tuple(Sight(member.id, prepared.allowed) for member in arrangement.members)
    try:
        await answer_list(call, server, arrangement, sights, body)
    except wire.Refusal as refusal:
        await _refuse(call, refusal.code, refusal.text, "message_rejected")


async def _refuse(call: ActiveCall, code: int, text: str, outcome: str) -> None:
    """Answer every request of the message with an error, so that none of them is waited for."""
    call.outcome = outcome
    message = call.message
    if message.kind is Kind.BATCH:
        text = f"The whole batch is refused. {text}"
        asked = [element for element in message.elements if element.kind is Kind.REQUEST]
        answer: Any = [wire.error(element.id, code, text) for element in asked]
        status = 200 if asked else 400
        answer = answer or wire.error(None, code, text)
    else:
        answer = wire.error(message.id, code, text)
        status = wire.status_of(code, modern=message.modern) if message.kind is Kind.REQUEST else 400
    await call.answer(status, json_headers(), wire.encoded(answer))
