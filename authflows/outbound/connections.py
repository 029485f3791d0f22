"""Connections: a person's tokens at a provider, sealed, refreshed once whoever asks, revoked for good.

Promise 6: a refresh happens once. Whoever takes the lease of the row (one conditional UPDATE, the same on SQLite and
PostgreSQL) asks the provider; the others wait for the row to change. What the provider answers is committed before
it is used. `generation` tells whether somebody was faster; `epoch` whether it may be another account.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final, Literal
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q
from django.utils import timezone

from authflows.models import Connection, UpstreamClient
from authflows.outbound import registration, token_endpoint
from authflows.outbound.provider_http import SECONDS as PROVIDER_SECONDS
from authflows.outbound.token_endpoint import Kind, TokenAnswer, TokenFailure
from authflows.outbound.upstream_clients import facts_of
from servers import audit, changes
from servers.errors import SecretUnavailable
from servers.models import Server
from servers.oauth_settings import OAuthSettings
from servers.sealing import KeyRing, Sealer, SealError

log = logging.getLogger(__name__)

PURPOSE: Final = "connection"
_LEASE: Final = timedelta(seconds=PROVIDER_SECONDS + 10)
_POLL_SECONDS: Final = 0.05
_BACKOFF_SECONDS: Final = (5, 15, 60, 300)
EXPIRES_SOON: Final = timedelta(seconds=60)
"""A token with less left than this is refreshed before it is used."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The opened tokens of a connection."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Refreshed:
    """There are tokens newer than those that the caller saw."""

    generation: int


@dataclass(frozen=True, slots=True)
class NotRefreshed:
    """No newer tokens: `dead` says that only the person can help, by connecting again."""

    dead: bool
    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """The connection is gone here. What the provider said: told, not offered by it, or failed with a sentence."""

    provider: Literal["told", "not_offered", "failed"]
    sentence: str = ""


@lru_cache(maxsize=2)
def _sealer(ring: KeyRing) -> Sealer:
    return ring.sealer(PURPOSE)


def origin_of(url: str) -> str:
    """Scheme, host and port of an endpoint: where its tokens may be sent."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.lower()}"


def store(
    *,
    user: Any,
    server: Server,
    client: UpstreamClient,
    answer: TokenAnswer,
    requested_scope: str,
    account_label: str,
    account_subject: str,
    lifetime_seconds: int,
) -> Connection:
    """Keep what a person just authorized, in place of what they had for this server.

    The epoch stays only where the account is proven to be the same (SE-4).
    """
    now = timezone.now()
    with transaction.atomic():
        found = Connection.objects.select_for_update().filter(user=user, server=server).first()
        connection = found or Connection(user=user, server=server, epoch=0, generation=0)
        same = bool(
            found
            and account_subject
            and (found.account_subject, found.client_id) == (account_subject, client.pk)
            and found.origin == origin_of(server.url)
        )
        connection.client = client
        connection.origin = origin_of(server.url)
        connection.account_label, connection.account_subject = account_label[:255], account_subject[:255]
        connection.scope = answer.scope if answer.scope is not None else requested_scope
        connection.epoch += 0 if same else 1
        connection.generation += 1
        connection.state, connection.last_error, connection.wanted_scope = Connection.State.CONNECTED, "", ""
        connection.connected_at, connection.refreshed_at = now, None
        connection.lease_until, connection.retry_at, connection.failures = None, None, 0
        _seal(connection, answer, now=now, lifetime_seconds=lifetime_seconds, keep_refresh_token=False)
        connection.save()
        changes.record("connection", connection.pk)
        audit.record(
            audit.Action.CONNECTION_CONNECT,
            actor=user.get_username(),
            subject=server,
            tenant=server.tenant,
            detail={"account": account_label, "scope": connection.scope, "issuer": client.issuer},
        )
    return connection


def open_tokens(connection: Connection) -> Tokens:
    """The tokens; raises SecretUnavailable when the row was tampered with or its key has left the ring."""
    sealer = _sealer(settings.KEY_RING)
    try:
        access = sealer.open(connection.sealed_access_token, connection.seal_context("access_token")).decode()
        refresh = ""
        if connection.sealed_refresh_token:
            refresh = sealer.open(connection.sealed_refresh_token, connection.seal_context("refresh_token")).decode()
    except SealError as error:
        raise SecretUnavailable(
            "The connection cannot be opened with the present key ring. Connect again.", str(error)
        ) from error
    return Tokens(access, refresh)


def refresh(connection_id: UUID, *, seen_generation: int) -> Refreshed | NotRefreshed:
    """See to it that there are tokens newer than generation `seen_generation`; blocks while the provider answers.

    Two callers with the same generation cause one request. Somebody else's success is success, also when the
    provider refused ours.
    """
    give_up = time.monotonic() + _LEASE.total_seconds()
    while True:
        connection = _row(connection_id)
        if connection is None:
            return NotRefreshed(True, "revoked", explain("revoked"))
        if connection.generation != seen_generation:
            return Refreshed(connection.generation)
        if connection.state != Connection.State.CONNECTED:
            return NotRefreshed(True, connection.last_error or "refused", explain(connection.last_error))
        now = timezone.now()
        if connection.retry_at is not None and connection.retry_at > now:
            return NotRefreshed(False, connection.last_error, explain(connection.last_error))
        taken = Connection.objects.filter(
            Q(lease_until__isnull=True) | Q(lease_until__lt=now), pk=connection_id, generation=seen_generation
        ).update(lease_until=now + _LEASE)
        if taken:
            return _refresh(connection)
        if time.monotonic() >= give_up:
            return NotRefreshed(False, "busy", "Another process is still refreshing the connection. Try again.")
        time.sleep(_POLL_SECONDS)


def _row(connection_id: UUID) -> Connection | None:
    rows = Connection.objects.select_related("client__tenant", "server__auth_config", "server__tenant")
    return rows.filter(pk=connection_id).first()


def _refresh(connection: Connection) -> Refreshed | NotRefreshed:
    """Ask the provider; the caller holds the lease."""
    config = settings_of(connection)
    try:
        tokens = open_tokens(connection)
        client = facts_of(connection.client)
    except SecretUnavailable as error:
        return _failed(connection, TokenFailure(Kind.TEMPORARY, "secret_unavailable", error.public_message))
    if config is None:
        return _failed(connection, TokenFailure(Kind.PERMANENT, "issuer_changed", ""))
    if not tokens.refresh_token:
        return _failed(connection, TokenFailure(Kind.PERMANENT, "no_refresh_token", ""))
    answer = token_endpoint.refresh(
        config.token_endpoint,
        client,
        refresh_token=tokens.refresh_token,
        resource=connection.server.url if config.send_resource else "",
        extra=config.token_parameters,
    )
    if isinstance(answer, TokenFailure):
        return _failed(connection, answer)
    now = timezone.now()
    seen = connection.generation
    _seal(connection, answer, now=now, lifetime_seconds=config.lifetime_seconds, keep_refresh_token=True)
    with transaction.atomic():
        kept = Connection.objects.filter(pk=connection.pk, generation=seen).update(
            sealed_access_token=connection.sealed_access_token,
            sealed_refresh_token=connection.sealed_refresh_token,
            access_expires_at=connection.access_expires_at,
            scope=answer.scope if answer.scope is not None else connection.scope,
            generation=F("generation") + 1,
            lease_until=None,
            retry_at=None,
            failures=0,
            last_error="",
            refreshed_at=now,
        )
        if kept:
            changes.record("connection", connection.pk)
    if kept:
        return Refreshed(seen + 1)
    # Revoked or connected anew while the provider answered: nobody will ever use these.
    newer = Connection.objects.filter(pk=connection.pk).values_list("generation", "account_subject").first()
    if newer is None or _other_account(connection.account_subject, newer[1]):
        # Not for the same account: some providers end everything that it allowed us, the new tokens too.
        _tell_provider(config, connection.client, Tokens(answer.access_token, answer.refresh_token))
    if newer is None:
        return NotRefreshed(True, "revoked", explain("revoked"))
    return Refreshed(newer[0])


def _other_account(one: str, other: str) -> bool:
    return "" not in (one, other) and one != other


def _failed(connection: Connection, failure: TokenFailure) -> Refreshed | NotRefreshed:
    row = Connection.objects.filter(pk=connection.pk, generation=connection.generation)
    dead = failure.kind is Kind.PERMANENT
    if failure.kind is Kind.CLIENT_LOST and connection.client.registration == connection.client.Registration.DYNAMIC:
        # Its tokens hang on it. An app's wrong secret is its admin's trouble, and the tokens outlive that (CL-9).
        dead = True
        registration.forget(connection.client)
    log.warning(
        "refresh failed",
        extra={"connection": str(connection.pk), "server": connection.server.slug, "code": failure.code},
    )
    with transaction.atomic():
        if dead:
            lost = row.filter(state=Connection.State.CONNECTED).update(
                state=Connection.State.NEEDS_RECONNECT, last_error=failure.code[:50], lease_until=None, retry_at=None
            )
            # With its registration all connections of a client are marked, this one too.
            kept = lost or row.count()
            if lost:
                changes.record("connection", connection.pk)
                audit.record(
                    audit.Action.CONNECTION_LOST,
                    actor=connection.user.get_username(),
                    subject=connection.server,
                    tenant=connection.server.tenant,
                    detail={"code": failure.code},
                )
        else:
            wait = _BACKOFF_SECONDS[min(connection.failures, len(_BACKOFF_SECONDS) - 1)]
            wait = min(failure.retry_after or wait, _BACKOFF_SECONDS[-1])
            kept = row.update(
                last_error=failure.code[:50],
                lease_until=None,
                failures=min(connection.failures + 1, 1000),
                retry_at=timezone.now() + timedelta(seconds=wait),
            )
    if not kept:
        # Somebody stored tokens meanwhile: what the provider refused was an old one (promise 6).
        fresh = Connection.objects.filter(pk=connection.pk).values_list("generation", flat=True).first()
        if fresh is not None:
            return Refreshed(fresh)
        return NotRefreshed(True, "revoked", explain("revoked"))
    return NotRefreshed(dead, failure.code, explain(failure.code))


def settings_of(connection: Connection) -> OAuthSettings | None:
    """The provider as it is configured today, if it is still the issuer that the tokens came from (CL-10, T21)."""
    config = getattr(connection.server, "auth_config", None)
    if config is None or config.method != config.Method.OAUTH2:
        return None
    found = OAuthSettings.read(config.settings)
    return found if found.issuer == connection.client.issuer else None


def mark_refused(connection_id: UUID, *, seen_generation: int, code: str = "upstream_refused") -> None:
    """The server refused a token that was fresh: only connecting again can help (CL-21)."""
    with transaction.atomic():
        kept = Connection.objects.filter(
            pk=connection_id, generation=seen_generation, state=Connection.State.CONNECTED
        ).update(state=Connection.State.NEEDS_RECONNECT, last_error=code, lease_until=None)
        if kept:
            changes.record("connection", connection_id)


def want_scope(connection_id: UUID, scope: str) -> None:
    """Remember the scopes that a call was refused for; the next Connect asks for them too (CL-13)."""
    with transaction.atomic():
        if Connection.objects.filter(pk=connection_id).exclude(wanted_scope=scope).update(wanted_scope=scope):
            changes.record("connection", connection_id)


def revoke(connection: Connection, *, actor: str) -> Revoked:
    """End the connection here at once, then tell the provider (RFC 7009, T59)."""
    config = settings_of(connection)
    with transaction.atomic():
        # As it is now: since the page was opened a refresh may have replaced the tokens.
        now = Connection.objects.select_for_update().filter(pk=connection.pk).first()
        try:
            tokens: Tokens | None = open_tokens(now or connection)
        except SecretUnavailable:
            tokens = None
        if now is not None:
            now.delete()
            changes.record("connection", connection.pk)
            audit.record(
                audit.Action.CONNECTION_REVOKE,
                actor=actor,
                subject=connection.server,
                tenant=connection.server.tenant,
                detail={"person": connection.user.get_username(), "account": connection.account_label},
            )
    if tokens is None:
        return Revoked("failed", "The stored tokens could not be opened, so the provider was not told.")
    return _tell_provider(config, connection.client, tokens)


def tell_provider(connection: Connection) -> Revoked:
    """Tell the provider that these tokens, which nobody holds any more here, are not wanted (RFC 7009)."""
    try:
        tokens = open_tokens(connection)
    except SecretUnavailable as error:
        return Revoked("failed", error.public_message)
    return _tell_provider(settings_of(connection), connection.client, tokens)


def _tell_provider(config: OAuthSettings | None, client: UpstreamClient, tokens: Tokens) -> Revoked:
    if config is None or not config.revocation_endpoint:
        return Revoked("not_offered", "The provider offers no revocation; its own settings page may list the app.")
    try:
        facts = facts_of(client)
    except SecretUnavailable as error:
        return Revoked("failed", error.public_message)
    # The refresh token first: with it the provider ends the whole authorization.
    if tokens.refresh_token:
        problem = token_endpoint.revoke(
            config.revocation_endpoint, facts, token=tokens.refresh_token, hint="refresh_token"
        )
    else:
        problem = token_endpoint.revoke(
            config.revocation_endpoint, facts, token=tokens.access_token, hint="access_token"
        )
    return Revoked("failed", problem) if problem else Revoked("told")


def _seal(
    connection: Connection, answer: TokenAnswer, *, now: datetime, lifetime_seconds: int, keep_refresh_token: bool
) -> None:
    sealer = _sealer(settings.KEY_RING)
    connection.sealed_access_token = sealer.seal(answer.access_token.encode(), connection.seal_context("access_token"))
    if answer.refresh_token:
        context = connection.seal_context("refresh_token")
        connection.sealed_refresh_token = sealer.seal(answer.refresh_token.encode(), context)
    elif not keep_refresh_token:
        connection.sealed_refresh_token = ""
    lifetime = answer.expires_in or (lifetime_seconds if connection.sealed_refresh_token else None)
    connection.access_expires_at = now + timedelta(seconds=lifetime) if lifetime else None


_EXPLANATIONS: Final = {
    "": "Everything is fine.",
    "invalid_grant": "The provider no longer accepts the authorization: it was withdrawn there, or ran out.",
    "invalid_client": "The provider no longer knows the gateway as a client.",
    "unauthorized_client": "The provider no longer lets the gateway act for people.",
    "incorrect_client_credentials": "The provider does not accept the gateway's client.",
    "status_401": "The provider does not accept the gateway's client.",
    "upstream_refused": "The server refused a token that was fresh.",
    "no_refresh_token": "The access ran out, and the provider gave nothing to renew it with.",
    "issuer_changed": "The server is now set up with another provider.",
    "endpoint_changed": "The server's address changed, and the authorization was for the old one.",
    "revoked": "The connection was revoked.",
    "bad_refresh_token": "The provider no longer accepts the authorization: it was withdrawn there, or ran out.",
    "invalid_refresh_token": "The provider no longer accepts the authorization: it was withdrawn there, or ran out.",
    "redirected": "The provider redirected the request, which is not followed.",
    "too_large": "The provider sent more than such an answer should hold.",
    "address_refused": "The provider's address is none that the gateway may call.",
    "timeout": "The provider did not answer in time.",
    "unreachable": "The provider could not be reached.",
    "tls_failed": "The provider's certificate could not be verified.",
    "answer_malformed": "The provider's answer could not be understood.",
    "secret_unavailable": "The gateway's own secret at the provider is not available.",
}


def explain(code: str) -> str:
    """What a stored error word means, in a sentence for people."""
    if (said := _EXPLANATIONS.get(code)) is not None:
        return said
    if code.startswith("status_"):
        return f"The provider answered with status {code.removeprefix('status_')}."
    return f"The provider refused with “{code}”."
