"""How the gateway becomes a client at a provider: an app made there, our metadata document, or registration (CL-7)."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils import timezone

from authflows.models import Connection, UpstreamClient
from authflows.outbound import client_document
from authflows.outbound.provider_http import SECONDS, Unreachable, exchange
from authflows.outbound.upstream_clients import seal_secret
from servers import audit, changes
from servers.endpoints import address_problem
from servers.models import Server
from servers.oauth_settings import OAuthSettings

log = logging.getLogger(__name__)

Registration = UpstreamClient.Registration
LOST: Final = "invalid_client"
"""What stands as the last error of connections whose client the provider no longer knows."""
_LEASE: Final = timedelta(seconds=SECONDS + 5)
_POLL_SECONDS: Final = 0.05
# A provider that forgets a registration at once would otherwise be given a new one by every press of Connect.
_PAUSE: Final = timedelta(minutes=1)
_LEFT: Final = timedelta(minutes=5)
_METHODS: Final = ("client_secret_basic", "client_secret_post", "private_key_jwt", "none")


@dataclass(frozen=True, slots=True)
class NotRegistered:
    """We are no client there, and why, in a sentence with the next step."""

    reason: str
    sentence: str


def client_for(server: Server, provider: OAuthSettings) -> UpstreamClient | NotRegistered:
    """Our client at the provider of this server, made where it does not exist yet; may block on the provider."""
    if provider.registration == Registration.PRE_REGISTERED:
        return _pre_registered(server, provider)
    if provider.registration == Registration.METADATA_DOCUMENT:
        return _by_document(server, provider)
    if provider.registration == Registration.DYNAMIC:
        return _by_registration(server, provider)
    return NotRegistered("not_registered", f"The gateway is not registered for {server.name}. Ask its manager.")


def forget(client: UpstreamClient) -> None:
    """The provider no longer knows this client: never use it again (CL-9).

    Only a registration of ours can be made anew, which the next Connect does; the people who connected through the
    old one are asked to connect again.
    """
    if client.registration != Registration.DYNAMIC:
        return
    with transaction.atomic():
        if not UpstreamClient.objects.filter(pk=client.pk, lost_at__isnull=True).update(lost_at=timezone.now()):
            return
        held = Connection.objects.select_related("user", "server__tenant").filter(
            client=client, state=Connection.State.CONNECTED
        )
        lost = list(held)
        held.update(state=Connection.State.NEEDS_RECONNECT, last_error=LOST, lease_until=None, retry_at=None)
        changes.record_all("connection", [connection.pk for connection in lost])
        for connection in lost:
            audit.record(
                audit.Action.CONNECTION_LOST,
                actor=connection.user.get_username(),
                subject=connection.server,
                tenant=connection.server.tenant,
                detail={"code": LOST},
            )
    log.warning("a provider forgot our registration", extra={"issuer": client.issuer, "connections": len(lost)})


def _pre_registered(server: Server, provider: OAuthSettings) -> UpstreamClient | NotRegistered:
    if not provider.client_id:
        return NotRegistered("no_client_id", f"{server.name} has no App ID. Ask its manager to enter one.")
    # By server: another server's manager may enter the same App ID, and must not reach this one's secret by that.
    client, _ = UpstreamClient.objects.update_or_create(
        server=server,
        issuer=provider.issuer,
        client_id=provider.client_id,
        registration=Registration.PRE_REGISTERED,
        defaults={
            "tenant": server.tenant,
            "secret_reference": provider.client_secret,
            "token_endpoint_auth_method": provider.token_endpoint_auth_method,
            "redirect_uri": client_document.callback_url(),
        },
    )
    return client


def _by_document(server: Server, provider: OAuthSettings) -> UpstreamClient | NotRegistered:
    if not settings.PUBLIC_URL.startswith("https://"):
        return NotRegistered(
            "not_https",
            f"The provider of {server.name} would read the gateway's metadata document, which needs a public https "
            "URL. Ask an admin to set one, or to choose another registration.",
        )
    by_keys = provider.token_endpoint_auth_method == "private_key_jwt"  # noqa: S105
    method = "private_key_jwt" if by_keys else "none"
    client, _ = UpstreamClient.objects.update_or_create(
        tenant=server.tenant,
        issuer=provider.issuer,
        client_id=client_document.client_id_for(method),
        registration=Registration.METADATA_DOCUMENT,
        defaults={"token_endpoint_auth_method": method, "redirect_uri": client_document.callback_url()},
    )
    return client


# --- dynamic registration (RFC 7591): once for all servers of a tenant, whoever is first


def _by_registration(server: Server, provider: OAuthSettings) -> UpstreamClient | NotRegistered:
    give_up = time.monotonic() + _LEASE.total_seconds()
    while True:
        now = timezone.now()
        row = _live(server, provider)
        if row is not None and row.client_id:
            if not _stale(row, now=now):
                return row
            forget(row)
            continue
        if row is None:
            if _just_lost(server, provider, now=now):
                return NotRegistered(
                    "registration_lost",
                    f"The provider of {server.name} forgot the gateway's registration a moment ago. Try again in a "
                    "minute; if that does not help, ask the manager to enter an App ID.",
                )
            row = _begin(server, provider, now=now)
        elif not UpstreamClient.objects.filter(
            Q(lease_until__isnull=True) | Q(lease_until__lt=now), pk=row.pk, client_id=""
        ).update(lease_until=now + _LEASE):
            row = None
        if row is not None:
            return _register(row, server, provider)
        if time.monotonic() >= give_up:
            return NotRegistered("busy", f"The gateway is registering for {server.name}. Try again in a minute.")
        time.sleep(_POLL_SECONDS)


def _live(server: Server, provider: OAuthSettings) -> UpstreamClient | None:
    rows = UpstreamClient.objects.filter(registration=Registration.DYNAMIC, lost_at__isnull=True)
    return rows.filter(tenant=server.tenant, issuer=provider.issuer, token_endpoint=provider.token_endpoint).first()


def _stale(row: UpstreamClient, *, now: datetime) -> bool:
    """Whether its secret runs out, or the provider knows another public URL of ours."""
    ends = row.secret_expires_at is not None and row.secret_expires_at < now + _LEFT
    return ends or row.redirect_uri != client_document.callback_url()


def _just_lost(server: Server, provider: OAuthSettings, *, now: datetime) -> bool:
    return UpstreamClient.objects.filter(
        tenant=server.tenant,
        issuer=provider.issuer,
        token_endpoint=provider.token_endpoint,
        registration=Registration.DYNAMIC,
        created_at__gt=now - _PAUSE,
        lost_at__isnull=False,
    ).exists()


def _begin(server: Server, provider: OAuthSettings, *, now: datetime) -> UpstreamClient | None:
    """The row that holds the place of a registration under way; None when another was faster."""
    try:
        with transaction.atomic():
            return UpstreamClient.objects.create(
                tenant=server.tenant,
                issuer=provider.issuer,
                token_endpoint=provider.token_endpoint,
                registration=Registration.DYNAMIC,
                redirect_uri=client_document.callback_url(),
                lease_until=now + _LEASE,
            )
    except IntegrityError:
        return None


def _register(row: UpstreamClient, server: Server, provider: OAuthSettings) -> UpstreamClient | NotRegistered:
    """Ask the provider; the caller holds the lease of `row`."""
    answer = _ask(server, provider)
    if isinstance(answer, NotRegistered):
        log.warning("registration failed", extra={"issuer": provider.issuer, "reason": answer.reason})
        UpstreamClient.objects.filter(pk=row.pk, client_id="").delete()
        return answer
    row.client_id = answer["client_id"]
    row.token_endpoint_auth_method = answer["method"]
    row.secret_expires_at = answer["expires_at"]
    row.lease_until = None
    seal_secret(row, answer["secret"])
    row.save()
    audit.record(
        audit.Action.UPSTREAM_CLIENT_REGISTER,
        actor="gateway",
        subject=row,
        tenant=server.tenant,
        detail={"issuer": provider.issuer, "server": server.slug},
    )
    return row


def _ask(server: Server, provider: OAuthSettings) -> dict[str, Any] | NotRegistered:
    ask_manager = f"Ask the manager of {server.name} to enter an App ID instead."
    endpoint = provider.registration_endpoint
    problem = address_problem(endpoint) if endpoint else "It has none."
    if problem is not None:
        return NotRegistered("no_registration", f"The provider's registration cannot be used. {problem} {ask_manager}")
    # Without scopes: the registration serves every server of the tenant at this provider.
    asked = client_document.described(provider.token_endpoint_auth_method)
    reply = exchange("POST", endpoint, json=asked, role="registration")
    if isinstance(reply, Unreachable):
        return NotRegistered(reply.reason, f"The provider could not register the gateway. {reply.sentence}")
    document = reply.document() or {}
    if reply.status not in (200, 201):
        if document.get("error") == "invalid_redirect_uri":
            sentence = f"The provider does not accept {client_document.callback_url()}. {ask_manager}"
            return NotRegistered("redirect_refused", sentence)
        sentence = f"The provider refused to register the gateway (status {reply.status}). {ask_manager}"
        return NotRegistered("refused", sentence)
    return _registered(document, asked["token_endpoint_auth_method"]) or NotRegistered(
        "answer_malformed", f"The provider's answer to the registration cannot be used. {ask_manager}"
    )


def _registered(document: dict[str, Any], asked_method: str) -> dict[str, Any] | None:
    """Id, secret, its end and the way to authenticate that the provider settled on; None for nonsense."""
    client_id, secret = document.get("client_id"), document.get("client_secret") or ""
    if not _is_plain(client_id, 500) or not isinstance(secret, str) or (secret and not _is_plain(secret, 2000)):
        return None
    method = document.get(
        "token_endpoint_auth_method", asked_method if secret or "secret" not in asked_method else "none"
    )
    if method not in _METHODS or ("secret" in method and not secret):
        return None
    uris = document.get("redirect_uris")
    if isinstance(uris, list) and client_document.callback_url() not in uris:
        return None
    ends = document.get("client_secret_expires_at") if secret else 0
    expires_at = None
    if isinstance(ends, int | float) and not isinstance(ends, bool) and 0 < ends < 253402300799:
        expires_at = datetime.fromtimestamp(ends, UTC)
    return {"client_id": client_id, "secret": secret, "method": method, "expires_at": expires_at}


def _is_plain(value: Any, longest: int) -> bool:
    return isinstance(value, str) and 0 < len(value) <= longest and all(" " <= c <= "~" for c in value)
