"""Who calls, what, may they, and with whose credential: the steps before a byte goes upstream.

`prepare_call` is plain synchronous code over caches that the change feed keeps true. On the event loop it
runs with `may_load=False` and touches no database; when something is not in memory it raises NotCached and the
consumer runs the very same function in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from time import time
from types import MappingProxyType
from typing import Any, Final, Literal
from uuid import UUID

from authflows.inbound.bearer import Refusal, Unauthenticated, authenticate, principal_inside, still_signed_in
from authflows.outbound.credential_results import Answer, Brought, Credential, NeedsConnection, NotObtained, RefreshDue
from authflows.outbound.credentials import credential_for, member_credential
from servers import registry
from servers.access import NOTHING, Allowed, Denied, Principal, decide
from servers.errors import SecretUnavailable
from servers.registry import ServerFacts
from servers.virtual.facts import MemberFacts, members_of

_NO_HEADERS: Final[Mapping[bytes, bytes]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Inside:
    """Somebody whom another door of the gateway has let in: its pages, its API. Never read from a request."""

    user_id: int
    credential: str
    """What opened that door, for records: `session`, or the credential of the API."""
    sign_in: UUID | None = None
    """The sign-in of an OAuth client that opened it; the call lasts no longer than that."""


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
    inside: Inside | None = None
    ours: bool = False
    """The client is the gateway itself: it speaks modern MCP alone, and can wait until a server's era is known."""


@dataclass(slots=True)
class Prepared:
    """The way is free: who calls what, with which credential."""

    principal: Principal
    server: ServerFacts
    credential: Credential
    plan: Any = None
    """The ready-made request of `runtime.plan_for`, kept with the answer that it belongs to."""
    again: Callable[..., Outcome] | None = None
    """How to ask anew, for a member of a virtual server; None: as `prepare_call`."""
    allowed: Allowed = NOTHING
    limited: bool = True
    """Not everything of the server is theirs, so that each message is decided with its item."""
    kept: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)
    """What was made of it, for those who come with the same answer."""

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
    allowed: Allowed = NOTHING

    def __bool__(self) -> Literal[False]:
        return False


@dataclass(frozen=True, slots=True)
class NotConnected:
    """Allowed, but the person has to do something before the server can be called in their name."""

    principal: Principal
    server: ServerFacts
    answer: NeedsConnection
    allowed: Allowed = NOTHING

    def __bool__(self) -> Literal[False]:
        return False


@dataclass(frozen=True, slots=True)
class TokenDue:
    """Allowed, but a provider has to be asked for a token first, which takes a thread that may wait."""

    principal: Principal
    server: ServerFacts
    due: RefreshDue
    allowed: Allowed = NOTHING

    def __bool__(self) -> Literal[False]:
        return False


@dataclass(frozen=True, slots=True)
class NoToken:
    """Allowed, but no provider gave a token, and it is not the person who can help."""

    principal: Principal
    server: ServerFacts
    failure: NotObtained
    allowed: Allowed = NOTHING

    def __bool__(self) -> Literal[False]:
        return False


Outcome = NoToken | Prepared | Unauthenticated | UnknownServer | NotAllowed | NoCredential | NotConnected | TokenDue


def prepare_call(knock: Knock, *, now: float, may_load: bool) -> Outcome:
    """Authenticate, find the server, decide, and get the credential; `now` in Unix seconds.

    Raises changes.NotCached when something is not in memory and `may_load` is False.
    """
    if knock.inside is not None:
        person = _inside(knock.inside, may_load=may_load)
        return _admit(person, knock, now=now, may_load=may_load) if isinstance(person, Principal) else person
    if b"access_token=" in knock.query:
        return Unauthenticated(Refusal.IN_URL)
    if knock.authorization_twice:
        return Unauthenticated(Refusal.DUPLICATED)
    path = f"/{knock.tenant}/mcp/{knock.slug}/{knock.endpoint}"
    principal = authenticate(knock.authorization, now=now, path=path, may_load=may_load)
    if isinstance(principal, Unauthenticated):
        return principal
    return _admit(principal, knock, now=now, may_load=may_load)


def _inside(who: Inside, *, may_load: bool) -> Principal | Unauthenticated:
    # The audience of a client's token is the other door's, which has compared it.
    if who.sign_in is not None:
        return still_signed_in(who.sign_in, may_load=may_load)
    return principal_inside(who.user_id, who.credential, may_load=may_load)


def prepare_loading(knock: Knock) -> Outcome:
    """As `prepare_call`, for now, in a thread that may wait for the database."""
    return prepare_call(knock, now=time(), may_load=True)


def prepare_again(before: Prepared, knock: Knock, *, now: float, may_load: bool) -> Outcome:
    """As `prepare_call`, for a call under way: may it go on?

    It may while the sign-in that its token came from lasts, whether or not the token was replaced meanwhile.
    """
    if before.again is not None:
        return before.again(now=now, may_load=may_load)
    if before.principal.sign_in is None:
        return prepare_call(knock, now=now, may_load=may_load)
    principal = still_signed_in(before.principal.sign_in, may_load=may_load)
    if isinstance(principal, Unauthenticated):
        return principal
    return _admit(principal, knock, now=now, may_load=may_load)


def prepare_member(principal: Principal, member: MemberFacts, knock: Knock, *, now: float, may_load: bool) -> Outcome:
    """May this principal use a member of a virtual server that it may use, and with whose credential?

    What limits the credential that opened the virtual server was asked there: a key for the virtual server reaches
    its members. Raises changes.NotCached as `prepare_call` does.
    """
    server = registry.find_by_id(member.server_id, may_load=may_load)
    if server is None:
        return UnknownServer(principal)
    reaching = principal if principal.limited_to is None else replace(principal, limited_to=None)
    return _admit_to(reaching, server, knock, member, now=now, may_load=may_load)


def member_again(before: Prepared, member: MemberFacts, knock: Knock, *, now: float, may_load: bool) -> Outcome:
    """As `prepare_again`, for a call that a virtual server passed on to one of its members.

    `before` is the virtual server's; both may have changed since.
    """
    outcome = prepare_again(before, knock, now=now, may_load=may_load)
    if not isinstance(outcome, Prepared):
        return outcome
    members = members_of(before.server.id, may_load=may_load) if before.server.virtual else (member,)
    found = next((one for one in members if one.id == member.id), None)
    if found is None:
        return UnknownServer(outcome.principal)
    return prepare_member(outcome.principal, found, knock, now=now, may_load=may_load)


def _admit(principal: Principal, knock: Knock, *, now: float, may_load: bool) -> Outcome:
    server = registry.find(knock.tenant, knock.slug, may_load=may_load)
    if server is None:
        return UnknownServer(principal)
    return _admit_to(principal, server, knock, None, now=now, may_load=may_load)


def _admit_to(
    principal: Principal,
    server: ServerFacts,
    knock: Knock,
    member: MemberFacts | None,
    *,
    now: float,
    may_load: bool,
) -> Outcome:
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
        if member is not None and member.credential:
            answer: Answer = member_credential(member, server, may_load=may_load)
        else:
            answer = credential_for(principal, server, brought=brought, now=now, may_load=may_load)
    except SecretUnavailable as error:
        return NoCredential(principal, server, error, decision)
    if isinstance(answer, Credential):
        return prepared_with(principal, server, answer, decision)
    if isinstance(answer, NeedsConnection):
        return NotConnected(principal, server, answer, decision)
    return TokenDue(principal, server, answer, decision)


def prepared_with(principal: Principal, server: ServerFacts, credential: Credential, allowed: Allowed) -> Prepared:
    """The way is free; what of the server is theirs follows from the decision."""
    limited = server.restricted or not allowed.rights.unlimited
    return Prepared(principal, server, credential, allowed=allowed, limited=limited)
