"""What follows when a server refuses the credential of a call: renew it once, or find out who can help (CL-13, CL-21).

A 401 says that the request was not carried out, so it may be sent once more; nothing else is (promise 7).
"""

from __future__ import annotations

import logging
import re
from time import time
from typing import Final

from authflows.outbound import upstream_refusals
from authflows.outbound.challenge import bearer
from authflows.outbound.credential_results import Credential, Kind, NeedsConnection, NotObtained
from authflows.outbound.needs import Missing, Need
from proxy import errors, threads
from proxy.in_flight import ActiveCall
from proxy.pipeline import NotConnected, NoToken, Outcome, Prepared, prepare_again
from proxy.runtime import Runtime
from proxy.upstream import Response
from servers.request_id import set_request_id

log = logging.getLogger(__name__)

_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,200}")
_PERSONAL: Final = (Kind.CONNECTION, Kind.OWN_KEY)


class Refused(Exception):
    """The call cannot be made with what its caller has; nothing was sent to the client yet."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


async def renew(call: ActiveCall, runtime: Runtime) -> bool:
    """After a 401: get another token in place of the refused one; False when there is none. Raises Refused."""
    before = _prepared(call)
    credential = before.credential
    if credential.renew is None:
        return False
    set_request_id(call.request_id)
    key = ("renew", credential.kind, credential.id or before.server.id, credential.generation, credential.headers)
    failure = await runtime.obtaining.run(key, credential.renew, server_id=before.server.id)
    after = await _decide(call)
    if isinstance(after, Prepared):
        same_identity = after.credential.epoch == credential.epoch and after.server.url == before.server.url
        if failure is None and same_identity and after.credential.headers != credential.headers:
            call.prepared = after
            return True
        failure = failure or NotObtained(False, "no_newer_token", "There is no newer token.")
    if isinstance(after, NotConnected):
        raise Refused(after)
    if failure is not None and not (failure.dead and credential.kind in _PERSONAL):
        raise Refused(NoToken(before.principal, before.server, failure))
    return False


async def explained(call: ActiveCall, response: Response) -> tuple[str, str]:
    """Outcome and sentence for the caller of a call that stays refused. Raises Refused where a person can help."""
    prepared = _prepared(call)
    name, credential, status = prepared.server.name, prepared.credential, response.status
    set_request_id(call.request_id)
    match credential.kind:
        case Kind.CONNECTION if status == 403:
            return await _step_up(call, response)
        case Kind.CONNECTION | Kind.OWN_KEY:
            await threads.run(upstream_refusals.refused, credential)
            after = await _decide(call)
            if isinstance(after, NotConnected):
                raise Refused(after)
            return "upstream_refused_account", errors.account_refused_text(name, status)
        case Kind.TOKEN_EXCHANGE:
            return "upstream_refused_account", errors.account_refused_text(name, status)
        case Kind.PASSTHROUGH:
            return "upstream_refused_passthrough", errors.passthrough_refused_text(name, status)
    if credential.headers:
        return "upstream_refused_credential", errors.credential_refused_text(name)
    return "upstream_refused", errors.request_refused_text(name, status)


async def _step_up(call: ActiveCall, response: Response) -> tuple[str, str]:
    """A 403 to somebody's own token: more rights by connecting again, or none to be had that way."""
    prepared = _prepared(call)
    name = prepared.server.name
    challenge = bearer((response.headers.get(b"www-authenticate") or b"").decode("latin-1")) or {}
    if challenge.get("error") == "insufficient_scope":
        asked = await threads.run(_remember, prepared.credential, challenge.get("scope", "").split())
        if asked.asked:
            sentence = f"{name} asks for more rights than you gave it ({', '.join(asked.asked)}): connect it again."
            answer = NeedsConnection(Missing(Need.RECONNECT, sentence))
            raise Refused(NotConnected(prepared.principal, prepared.server, answer))
        if asked.beyond:
            return "upstream_scope", errors.scope_beyond_text(name, asked.beyond)
    return "upstream_refused_account", errors.account_refused_text(name, response.status)


def _remember(credential: Credential, scopes: list[str]) -> upstream_refusals.StepUp:
    # Only what can be a scope (RFC 6749, 3.3); it comes from the server.
    return upstream_refusals.step_up(credential, filter(_SCOPE.fullmatch, scopes[:50]))


async def _decide(call: ActiveCall) -> Outcome:
    prepared = _prepared(call)
    return await threads.run_or_give_up(_decide_loading, prepared, call)


def _decide_loading(prepared: Prepared, call: ActiveCall) -> Outcome:
    return prepare_again(prepared, call.knock, now=time(), may_load=True)


def _prepared(call: ActiveCall) -> Prepared:
    assert call.prepared is not None  # noqa: S101
    return call.prepared
