"""Who calls, what, may they, and with whose credential: the steps before a byte goes upstream.

`prepare_call` is plain synchronous code over caches that the change feed keeps true. On the event loop it
runs with `may_load=False` and touches no database; when something is not in memory it raises NotCached and the
consumer runs the very same function in a thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from time import time
from types import MappingProxyType
from typing import Any, Final, Literal

from authflows.inbound.bearer import Refusal, Unauthenticated, authenticate, still_signed_in
from authflows.outbound.credential_results import Brought, Credential, NeedsConnection, NotObtained, RefreshDue
from authflows.outbound.credentials import credential_for
from servers import registry
from servers.access import Denied, Principal, decide
from servers.errors import SecretUnavailable
from servers.registry import ServerFacts

_NO_HEADERS: Final[Mapping[bytes, bytes]] = MappingProxyType({})


# Those made for every call are not frozen: freezing triples what it costs to make one.
@dataclass(slots=True)
class Knock:
    """What a request says before its body is read."""

    tenant: str
    slug: str
    endpoint: str
    authorization: bytes | None
    authorization_twice: bool
    query: bytes
    digest: bytes = b""
    """SHA-256 of `authorization`, once somebody needed it."""
    headers: Mapping[bytes, bytes] = field(default_factory=lambda: _NO_HEADERS, repr=False)
    """All headers, for servers to which callers bring their credential themselves."""


@dataclass(slots=True)
class Prepared:
    """The way is free: who calls what, with which credential."""

    principal: Principal
    server: ServerFacts
    credential: Credential
    plan: Any = None
    """The ready-made request of `runtime.plan_for`, kept with the answer that it belongs to."""

    def __bool__(self) -> Literal[True]:
        return True


@dataclass(frozen=True, slots=True)
class UnknownServer:
    """A known principal asked for a server that is not there."""

    principal: Principal

    def __bool__(self) -> Literal[False]:
        return False


@dataclass(frozen=True, slots=True)
class NotAllowed:
    """A known principal may not use the server."""

    principal: Principal
    server: ServerFacts
    decision: Denied

    def __bool__(self) -> Literal[False]:
        return False


@dataclass(frozen=True, slots=True)
class NoCredential:
    """Allowed, but the server's own credential cannot be opened."""

    principal: Principal
    server: ServerFacts
    error: SecretUnavailable

    def __bool__(self) -> Literal[False]:
        return False


@dataclass(frozen=True, slots=True)
class NotConnected:
    """Allowed, but the person has to do something before the server can be called in their name."""

    principal: Principal
    server: ServerFacts
    answer: NeedsConnection

    def __bool__(self) -> Literal[False]:
        return False


@dataclass(frozen=True, slots=True)
class TokenDue:
    """Allowed, but a provider has to be asked for a token first, which takes a thread that may wait."""

    principal: Principal
    server: ServerFacts
    due: RefreshDue

    def __bool__(self) -> Literal[False]:
        return False


@dataclass(frozen=True, slots=True)
class NoToken:
    """Allowed, but no provider gave a token, and it is not the person who can help."""

    principal: Principal
    server: ServerFacts
    failure: NotObtained

    def __bool__(self) -> Literal[False]:
        return False


Outcome = NoToken | Prepared | Unauthenticated | UnknownServer | NotAllowed | NoCredential | NotConnected | TokenDue


def prepare_call(knock: Knock, *, now: float, may_load: bool) -> Outcome:
    """Authenticate, find the server, decide, and get the credential; `now` in Unix seconds.

    Raises changes.NotCached when something is not in memory and `may_load` is False.
    """
    if b"access_token=" in knock.query:
        return Unauthenticated(Refusal.IN_URL)
    if knock.authorization_twice:
        return Unauthenticated(Refusal.DUPLICATED)
    path = f"/{knock.tenant}/mcp/{knock.slug}/{knock.endpoint}"
    principal = authenticate(knock.authorization, now=now, path=path, may_load=may_load)
    if isinstance(principal, Unauthenticated):
        return principal
    return _admit(principal, knock, now=now, may_load=may_load)


def prepare_loading(knock: Knock) -> Outcome:
    """As `prepare_call`, for now, in a thread that may wait for the database."""
    return prepare_call(knock, now=time(), may_load=True)


def prepare_again(before: Prepared, knock: Knock, *, now: float, may_load: bool) -> Outcome:
    """As `prepare_call`, for a call under way: may it go on?

    It may while the sign-in that its token came from lasts, whether or not the token was replaced meanwhile.
    """
    if before.principal.sign_in is None:
        return prepare_call(knock, now=now, may_load=may_load)
    principal = still_signed_in(before.principal.sign_in, may_load=may_load)
    if isinstance(principal, Unauthenticated):
        return principal
    return _admit(principal, knock, now=now, may_load=may_load)


def _admit(principal: Principal, knock: Knock, *, now: float, may_load: bool) -> Outcome:
    server = registry.find(knock.tenant, knock.slug, may_load=may_load)
    if server is None:
        return UnknownServer(principal)
    decision = decide(
        principal,
        server_id=server.id,
        tenant_id=server.tenant_id,
        enabled=server.enabled,
        rules=server.rules,
        now=now,
    )
    if isinstance(decision, Denied):
        return NotAllowed(principal, server, decision)
    brought = Brought(knock.authorization, knock.headers)
    try:
        answer = credential_for(principal, server, brought=brought, now=now, may_load=may_load)
    except SecretUnavailable as error:
        return NoCredential(principal, server, error)
    if isinstance(answer, Credential):
        return Prepared(principal, server, answer)
    if isinstance(answer, NeedsConnection):
        return NotConnected(principal, server, answer)
    return TokenDue(principal, server, answer)
