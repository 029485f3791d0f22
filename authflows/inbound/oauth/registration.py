"""Clients that register themselves (RFC 7591; AZ-8, AZ-12, T24).

Anybody may, so a registration proves nothing and costs little: few per address, few unused in all, and the same
client for the same metadata. There is nothing to manage afterwards; a client whose data changed registers anew.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from oauth2_provider.generators import generate_client_secret
from oauth2_provider.models import get_access_token_model, get_refresh_token_model

from authflows import throttle
from authflows.inbound.oauth import client_metadata
from authflows.inbound.oauth.client_metadata import Described, Malformed
from authflows.inbound.oauth.server_metadata import AUTH_METHODS, GRANT_TYPES, SCOPES
from authflows.models import Approval, OAuthClient, PendingSignIn, RegistrationPolicy
from authflows.throttle import Limit, Rate
from servers import audit

MOST_BYTES: Final = 64 * 1024
_HOUR: Final = 3600
_SEEN_AGAIN_AFTER: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Registered:
    """The answer to a registration: what was stored, and the secret if there is one."""

    answer: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why nothing was registered: an error code, a sentence, an HTTP status, and when to try again (seconds)."""

    error: str
    description: str
    status: int = 400
    retry_after: int = 0


def register(body: bytes, *, address: str) -> Registered | Refused:
    """Register the client that `body` describes. `address` is the caller's, for counting."""
    policy = RegistrationPolicy.current()
    if not policy.dynamic_registration:
        sentence = "Clients do not register themselves at this gateway. Ask its admin for a client id."
        return Refused("access_denied", sentence, 403)
    try:
        metadata = _parse(body)
        method = _auth_method(metadata)
        described = client_metadata.read(metadata, private=policy.private_uris)
        scope = client_metadata.text(metadata, "scope")
    except Malformed as malformed:
        return Refused(malformed.error, str(malformed))
    client, secret = _known(described) if method == "none" else None, ""
    if client is None:
        if refused := _too_many(policy, address):
            return refused
        client, secret = _create(described, confidential=method != "none")
    elif not client.enabled:
        return Refused("access_denied", "An admin turned this client off at this gateway.", 403)
    answer = {
        "client_id": client.client_id,
        "client_id_issued_at": int(client.created.timestamp()),
        # As they were asked for: a loopback URI stands for each of its ports.
        "redirect_uris": list(described.redirect_uris),
        "token_endpoint_auth_method": method,
        "grant_types": list(GRANT_TYPES),
        "response_types": ["code"],
    }
    if method != "none":
        answer |= {"client_secret": secret, "client_secret_expires_at": 0}
    if client.name:
        answer["client_name"] = client.name
    if client.application_type:
        answer["application_type"] = client.application_type
    if granted := " ".join(name for name in SCOPES if name in scope.split()):
        answer["scope"] = granted
    return Registered(answer)


def unused_clients(now: datetime) -> QuerySet[OAuthClient]:
    """Clients that made themselves known, and that nobody has let in for so long that they may be forgotten.

    Never one with an approval or a token, and never one that an admin said something about.
    """
    before = now - timedelta(days=RegistrationPolicy.current().unused_days)
    of_client = {"application": OuterRef("pk")}
    found: QuerySet[OAuthClient] = OAuthClient.objects.filter(
        Q(last_used_at__isnull=True) | Q(last_used_at__lt=before),
        ~Exists(Approval.objects.filter(client=OuterRef("pk"))),
        ~Exists(PendingSignIn.objects.filter(client=OuterRef("pk"), expires_at__gt=now)),
        ~Exists(get_access_token_model().objects.filter(**of_client)),
        ~Exists(get_refresh_token_model().objects.filter(**of_client)),
        registration_source__in=_BY_THEMSELVES,
        updated__lt=before,
        enabled=True,
        verified=False,
    )
    return found


def is_full(policy: RegistrationPolicy, source: str) -> bool:
    """Whether so many clients of this source wait for their first use that no further one is taken."""
    waiting: QuerySet[OAuthClient] = OAuthClient.objects.filter(
        ~Exists(Approval.objects.filter(client=OuterRef("pk"))),
        registration_source=source,
        last_used_at__isnull=True,
    )
    return waiting.count() >= policy.most_unused_clients


def take_one(policy: RegistrationPolicy, address: str) -> int:
    """Count one new client of this address; returns 0, or the seconds to wait when there are too many."""
    if not policy.registrations_per_hour:
        return _HOUR
    rate = Rate(policy.registrations_per_hour, _HOUR)
    return throttle.take([Limit("client registration", address, rate)], now=timezone.now())


_BY_THEMSELVES: Final = (OAuthClient.RegistrationSource.DCR, OAuthClient.RegistrationSource.CIMD)


def _parse(body: bytes) -> dict[str, Any]:
    try:
        metadata = json.loads(body)
    except (ValueError, RecursionError):
        raise Malformed("The body is not JSON.") from None
    if not isinstance(metadata, dict):
        raise Malformed("The body must be a JSON object.")
    return metadata


def _auth_method(metadata: dict[str, Any]) -> str:
    method = client_metadata.text(metadata, "token_endpoint_auth_method") or "client_secret_basic"
    if method not in AUTH_METHODS:
        raise Malformed(f"token_endpoint_auth_method must be one of {', '.join(AUTH_METHODS)}.")
    return method


def _known(described: Described) -> OAuthClient | None:
    """The public client that was registered with the same metadata before (oldest first)."""
    client: OAuthClient | None = (
        OAuthClient.objects.filter(
            metadata_digest=described.digest,
            registration_source=OAuthClient.RegistrationSource.DCR,
            client_type=OAuthClient.CLIENT_PUBLIC,
        )
        .order_by("pk")
        .first()
    )
    if client is not None and client.updated < timezone.now() - _SEEN_AGAIN_AFTER:
        client.save(update_fields=["updated"])  # or it would be forgotten before the sign-in that follows
    return client


def _too_many(policy: RegistrationPolicy, address: str) -> Refused | None:
    if is_full(policy, OAuthClient.RegistrationSource.DCR):
        sentence = "Too many clients are registered and unused. Try again later, or ask the gateway's admin."
        return Refused("temporarily_unavailable", sentence, 503, _HOUR)
    if wait := take_one(policy, address):
        sentence = f"Too many registrations from your address. Try again in {wait} seconds."
        return Refused("temporarily_unavailable", sentence, 429, wait)
    return None


def _create(described: Described, *, confidential: bool) -> tuple[OAuthClient, str]:
    """Store the client; returns it with its secret, which is stored hashed and told this once."""
    secret: str = generate_client_secret()
    client = OAuthClient(
        name=described.name,
        redirect_uris=" ".join(described.redirect_uris),
        application_type=described.application_type,
        metadata_digest=described.digest,
        registration_source=OAuthClient.RegistrationSource.DCR,
        client_type=OAuthClient.CLIENT_CONFIDENTIAL if confidential else OAuthClient.CLIENT_PUBLIC,
        authorization_grant_type=OAuthClient.GRANT_AUTHORIZATION_CODE,
        client_secret=secret,
    )
    with transaction.atomic():
        client.save(force_insert=True)
        audit.record(
            audit.Action.CLIENT_REGISTER,
            actor="client registration",
            subject=client,
            detail={"client": client.client_id, "name": client.name, "redirect_uris": list(described.redirect_uris)},
        )
    return client, secret
