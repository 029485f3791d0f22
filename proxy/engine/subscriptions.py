"""`resources/subscribe` and its opposite, of older clients: passed on to an older member, listened to at a new one."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Final

from proxy import threads
from proxy.engine import session_notes, wire
from proxy.engine.calls import ask_member, enter_member
from proxy.engine.engaged import Engaged
from proxy.engine.eras import member_is_modern
from proxy.engine.member_call import MemberCall
from proxy.engine.open_sessions import declares
from proxy.engine.questions import declared
from proxy.engine.resources import item_of
from proxy.engine.session_notes import Owner, TooMany
from proxy.messages import INVALID_PARAMS
from servers.items import ItemKind
from servers.virtual.facts import MemberFacts

SUBSCRIBE: Final = "resources/subscribe"
METHODS: Final = (SUBSCRIBE, "resources/unsubscribe")
_PATIENCE_SECONDS: Final = 2.0
"""So long a client waits at most until its member is listened to."""


def owner(engaged: Engaged) -> Owner:
    """Whose session the request belongs to."""
    return Owner(engaged.client.session, engaged.virtual.principal.user_id, engaged.server.id)


async def respond(engaged: Engaged) -> dict[str, Any]:
    """The JSON-RPC response to one of `METHODS`. Raises Refusal and Answered."""
    message = engaged.message
    uri, begins = message.item, message.method == SUBSCRIBE
    found = await item_of(engaged, ItemKind.RESOURCE, uri)
    await enter_member(engaged, found.member)
    modern = await member_is_modern(engaged)
    if not modern:
        answer = await _passed_on(engaged, found.member)
        if "error" in answer:
            return answer
    elif begins and not declares(engaged, found.member, "resources", "subscribe"):
        raise wire.Refusal(wire.METHOD_NOT_FOUND, "The server of this resource does not say when it changes.")
    if engaged.client.session:
        try:
            if begins:
                await threads.run_or_give_up(session_notes.subscribe, owner(engaged), uri, found.member.id)
            else:
                await threads.run_or_give_up(session_notes.unsubscribe, owner(engaged), uri)
        except TooMany:
            raise wire.Refusal(INVALID_PARAMS, "This session watches as many resources as it may.") from None
        # What changes from now on should be heard, as it is where a server answers for itself.
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                for stream in tuple(engaged.runtime.engine.streams.get(engaged.client.session, ())):
                    await stream.attend(found.member, modern=modern)
    return wire.result(message.id, {})


async def _passed_on(engaged: Engaged, member: MemberFacts) -> dict[str, Any]:
    method, params = engaged.message.method, engaged.params
    capabilities = declared(engaged.client, member_modern=False)
    call, runtime, head, client = engaged.call, engaged.runtime, engaged.head, engaged.client
    member_call = MemberCall(call, runtime, head, client, member, False, method, params, capabilities)
    return await ask_member(engaged, member_call)
