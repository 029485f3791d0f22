"""Whose credential goes upstream? The single question that the proxy asks about it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from time import time as clock
from types import MappingProxyType
from typing import Final, NamedTuple
from uuid import UUID

from django.utils import timezone

from authflows.invalidation import own_key_place
from authflows.models import Connection, OwnKey
from authflows.outbound.credential_results import (
    NOTHING_BROUGHT,
    Answer,
    Brought,
    Credential,
    Header,
    Kind,
    NeedsConnection,
    RefreshDue,
)
from authflows.outbound.held_tokens import HeldTokens, Obtained
from authflows.outbound.methods import (
    client_credentials,
    no_auth,
    oauth2,
    own_header,
    passthrough,
    shared_header,
    token_exchange,
)
from authflows.outbound.needs import Missing, Need, missing_own_key
from authflows.outbound.token_endpoint import Kind as FailureKind
from authflows.outbound.token_endpoint import TokenFailure
from servers import changes
from servers.access import Principal
from servers.endpoints import origin_of
from servers.errors import SecretUnavailable
from servers.method_settings import PassthroughSettings
from servers.models.servers import AuthConfig, Server
from servers.models.virtual import VirtualMember
from servers.registry import ServerFacts
from servers.secrets.references import FileReference, references_in
from servers.virtual.facts import MemberFacts

Method = AuthConfig.Method
# A mounted file changes without telling us.
_FILE_SECONDS: Final = 30.0

# What is the same for every caller and needs nobody to be asked: each a file in `methods/` with a
# `headers(server, config)` function.
METHODS: Final[Mapping[AuthConfig.Method, Callable[[Server, AuthConfig], list[Header]]]] = MappingProxyType(
    {
        Method.NONE: no_auth.headers,
        Method.SHARED_HEADER: shared_header.headers,
    }
)


def shared_headers(server: Server, config: AuthConfig) -> list[Header]:
    """What the gateway can present without anybody's help, for tests of a connection; raises SecretUnavailable."""
    method = METHODS.get(Method(config.method), no_auth.headers)
    return method(server, config)


_shared: changes.Cache[UUID, Credential] = changes.Cache()
_configured: changes.Cache[UUID, tuple[Server, AuthConfig]] = changes.Cache()


class _OfMember(NamedTuple):
    credential: Credential
    tags: tuple[str, ...]
    url: str


_of_members: changes.Cache[UUID, _OfMember] = changes.Cache(tags=lambda found: found.tags)


class _Personal:
    """What one person has for one server; `credential` is None where they have nothing instead of the shared one."""

    __slots__ = ("credential", "tags", "url")

    def __init__(self, credential: Credential | None, *tags: str, url: str) -> None:
        self.credential = credential
        self.tags = tags
        self.url = url


_personal: changes.Cache[tuple[int, UUID], _Personal] = changes.Cache(tags=lambda found: found.tags)
_of_clients = HeldTokens(Kind.CLIENT_CREDENTIALS)
_exchanged = HeldTokens(Kind.TOKEN_EXCHANGE)


class _NotKept(Exception):
    """An answer that is not to be remembered, on its way out of a cache's `load`."""

    def __init__(self, answer: Answer) -> None:
        super().__init__()
        self.answer = answer


def credential_for(
    principal: Principal,
    server: ServerFacts,
    *,
    brought: Brought = NOTHING_BROUGHT,
    now: float | None = None,
    may_load: bool = True,
) -> Answer:
    """The credential for this principal's calls to this server; `now` in Unix seconds.

    Raises SecretUnavailable when a reference does not resolve, and changes.NotCached when the credential is
    not in memory and `may_load` is False.
    """
    now = clock() if now is None else now
    match server.method:
        case Method.NONE:
            return _shared_for(server, may_load=may_load)
        case Method.SHARED_HEADER:
            own = _personal_for(principal, server, now=now, may_load=may_load)
            return own if own is not None else _shared_for(server, may_load=may_load)
        case Method.OAUTH2 | Method.OWN_HEADER:
            own = _personal_for(principal, server, now=now, may_load=may_load)
            if own is None:
                raise SecretUnavailable(f"The authentication of {server.name} was changed a moment ago.")
            return own
        case Method.CLIENT_CREDENTIALS:
            return _of_clients.find(
                server.id,
                url=server.url,
                epoch=f"client.{server.credential_epoch}",
                now=now,
                ask=partial(_ask_for_client, server.id),
            )
        case Method.TOKEN_EXCHANGE:
            return _exchange(principal, server, brought, now)
        case Method.PASSTHROUGH:
            _, config = _config_of(server, may_load=may_load)
            return passthrough.credential(
                PassthroughSettings.read(config.settings),
                principal,
                brought,
                name=server.name,
                url=server.url,
                epoch=config.epoch,
            )


def member_credential(member: MemberFacts, server: ServerFacts, *, may_load: bool = True) -> Credential:
    """What a virtual server presents to this member for all callers, in place of the member's own method.

    `server` is the member's, and `member.credential` is not empty. Raises SecretUnavailable and changes.NotCached as
    `credential_for` does.
    """
    found = _of_members.peek(member.id)
    if found is not None and (found.url != server.url or _has_to_be_read_again(found.credential)):
        _of_members.evict(member.id)
    found = _of_members.get(member.id, lambda: _open_of_member(member, server), may_load=may_load)
    assert found is not None  # noqa: S101  (`_open_of_member` returns or raises)
    return found.credential


def _shared_for(server: ServerFacts, *, may_load: bool) -> Credential:
    found = _shared.peek(server.id)
    if found is not None and _has_to_be_read_again(found):
        _shared.evict(server.id)
    found = _shared.get(server.id, lambda: _open_shared(server), may_load=may_load)
    assert found is not None  # noqa: S101  (`_open_shared` returns or raises)
    return found


def _has_to_be_read_again(credential: Credential) -> bool:
    return credential.read_again_at is not None and credential.read_again_at <= time.monotonic()


def _open_shared(server: ServerFacts) -> Credential:
    # Anew from the database: `server` may be from before a change whose eviction is already over.
    row, config = _row_of(server)
    method = METHODS.get(Method(config.method))
    if method is None:
        raise SecretUnavailable(f"The authentication of {server.name} was changed a moment ago.")
    headers = tuple(method(row, config))
    return _for_all(headers, config.header_templates(), epoch=f"shared.{config.epoch}")


def _open_of_member(member: MemberFacts, server: ServerFacts) -> _OfMember:
    rows = VirtualMember.objects.select_related("virtual__tenant", "server")
    row = rows.filter(pk=member.id, server_id=server.id).first()
    if row is None or not row.credential:
        raise SecretUnavailable(f"How {server.name} is called through this virtual server was changed a moment ago.")
    if not row.credential_origin == origin_of(row.server.url) == origin_of(server.url):
        # Whoever manages the member may not be whom the credential was entrusted to (T29).
        raise SecretUnavailable(
            f"The address of {server.name} changed, and the credential that {row.virtual.name} has for it was entered "
            f"for the old one. A manager of {row.virtual.name} has to enter it again."
        )
    headers = tuple(shared_header.filled(row.header_templates(), row.virtual.tenant))
    epoch = f"member.{row.pk}.{row.credential_epoch}"
    credential = _for_all(headers, row.header_templates(), epoch=epoch)
    tags = (f"server:{row.virtual_id}", f"server:{row.server_id}")
    return _OfMember(replace(credential, url=server.url), tags, server.url)


def _for_all(headers: tuple[Header, ...], templates: Iterable[Header], *, epoch: str) -> Credential:
    references = [one for _, template in templates for one in references_in(template)]
    from_file = any(isinstance(one, FileReference) for one in references)
    return Credential(
        headers=headers,
        # The digest tells apart what the counter cannot: a file's new text, a configuration made anew.
        epoch=f"{epoch}.{_digest(headers)}",
        shared=True,
        read_again_at=time.monotonic() + _FILE_SECONDS if from_file else None,
    )


def _row_of(server: ServerFacts) -> tuple[Server, AuthConfig]:
    row = Server.objects.select_related("tenant", "auth_config").filter(pk=server.id).first()
    if row is None:
        raise SecretUnavailable(f"The server {server.name} was removed a moment ago.")
    return row, getattr(row, "auth_config", None) or AuthConfig(server=row)


def _config_of(server: ServerFacts, *, may_load: bool) -> tuple[Server, AuthConfig]:
    found = _configured.get(server.id, lambda: _row_of(server), may_load=may_load)
    assert found is not None  # noqa: S101  (`_row_of` returns or raises)
    return found


def _digest(headers: tuple[Header, ...]) -> str:
    return hashlib.sha256(repr(headers).encode()).hexdigest()[:16]


# What belongs to one person


def _personal_for(principal: Principal, server: ServerFacts, *, now: float, may_load: bool) -> Answer | None:
    key = (principal.user_id, server.id)
    found = _personal.peek(key)
    if found is not None and not _still_good(found, server, now):
        _personal.evict(key)
    try:
        kept = _personal.get(key, lambda: _open_personal(principal.user_id, server), may_load=may_load)
    except _NotKept as not_kept:
        return not_kept.answer
    assert kept is not None  # noqa: S101  (`_open_personal` returns or raises)
    return kept.credential


def _still_good(found: _Personal, server: ServerFacts, now: float) -> bool:
    # The address too: the change that moves a server empties this cache and that of its facts one after the other.
    credential = found.credential
    return found.url == server.url and (credential is None or credential.until is None or now < credential.until)


def _open_personal(user_id: int, server: ServerFacts) -> _Personal:
    """Raises _NotKept and SecretUnavailable."""
    tags = [f"user:{user_id}", f"server:{server.id}"]
    if server.method == Method.OAUTH2:
        rows = Connection.objects.select_related("client", "server__auth_config")
        connection = rows.filter(user_id=user_id, server_id=server.id).first()
        answer = oauth2.credential(connection, name=server.name, url=server.url, now=timezone.now())
        if connection is not None:
            tags.append(f"connection:{connection.pk}")
    else:
        tags.append(f"own_key:{own_key_place(user_id, server.id)}")
        key = OwnKey.objects.filter(user_id=user_id, server_id=server.id).first()
        if key is None and server.method == Method.SHARED_HEADER:
            return _Personal(None, *tags, url=server.url)
        answer = _own_key(key, server)
    if not isinstance(answer, Credential):
        raise _NotKept(answer)
    return _Personal(answer, *tags, url=server.url)


def _own_key(key: OwnKey | None, server: ServerFacts) -> Answer:
    row, config = _row_of(server)
    missing = missing_own_key(key, row)
    if key is None or missing is not None:
        missing = missing or Missing(Need.OWN_KEY, f"{server.name} needs a key of your own.")
        return NeedsConnection(missing, linked=missing.need is not Need.CREDENTIAL)
    return Credential(
        headers=tuple(own_header.headers(row, config, key)),
        epoch=f"own_key.{key.pk}.{key.epoch}",
        shared=False,
        kind=Kind.OWN_KEY,
        id=key.pk,
        generation=key.epoch,
        stamp=f"{Kind.OWN_KEY}:{key.pk}",
        url=server.url,
        until=key.expires_at.timestamp() if key.expires_at is not None else None,
    )


# What the gateway asks a provider for by itself


def _ask_for_client(server_id: UUID) -> Obtained | TokenFailure:
    row = Server.objects.select_related("tenant", "auth_config").filter(pk=server_id).first()
    config = getattr(row, "auth_config", None)
    if row is None or config is None or config.method != Method.CLIENT_CREDENTIALS:
        return _changed_meanwhile()
    return client_credentials.obtain(row, config)


def _exchange(principal: Principal, server: ServerFacts, brought: Brought, now: float) -> Answer:
    token = token_exchange.subject_token(principal, brought)
    if not token:
        sentence = (
            f"{server.name} is called on behalf of your account at your organisation's identity provider. Call with a "
            "token of that provider; keys and sign-ins of this gateway cannot be exchanged."
        )
        return NeedsConnection(Missing(Need.CREDENTIAL, sentence), linked=False)
    return _exchanged.find(
        (principal.user_id, server.id, hashlib.sha256(token.encode()).digest()),
        url=server.url,
        epoch=f"exchange.{server.credential_epoch}.{principal.user_id}",
        now=now,
        ask=partial(_ask_in_exchange, server.id, token),
    )


def _ask_in_exchange(server_id: UUID, token: str) -> Obtained | TokenFailure:
    row = Server.objects.select_related("tenant", "auth_config").filter(pk=server_id).first()
    config = getattr(row, "auth_config", None)
    if row is None or config is None or config.method != Method.TOKEN_EXCHANGE:
        return _changed_meanwhile()
    return token_exchange.obtain(row, config, subject_token=token)


def _changed_meanwhile() -> TokenFailure:
    return TokenFailure(FailureKind.TEMPORARY, "setup_changed", "The server was set up anew a moment ago.")


def _on_change(kind: str, key: str) -> None:
    if kind == "server":
        server = UUID(key)
        _shared.evict(server)
        _configured.evict(server)
        _of_members.evict_tag(f"server:{key}")
        _personal.evict_tag(f"server:{key}")
        _of_clients.forget(server)
        _exchanged.forget(server)
    elif kind in ("user", "connection", "own_key"):
        _personal.evict_tag(f"{kind}:{key}")
        if kind == "user":
            _exchanged.forget(int(key))
    elif kind in ("secret", "tenant"):
        for cache in (_shared, _configured, _of_members, _personal, _of_clients, _exchanged):
            cache.clear()


changes.listen(_on_change)

__all__ = [
    "METHODS",
    "NOTHING_BROUGHT",
    "Answer",
    "Brought",
    "Credential",
    "Header",
    "Kind",
    "NeedsConnection",
    "RefreshDue",
    "credential_for",
    "member_credential",
    "shared_headers",
]
