"""Tokens of OAuth clients: their shapes, what they hang on, and how they end.

A sign-in of a client is a family of tokens: one access token and one refresh token at a time, each pair replacing
the one before. The database holds their SHA-256 only.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from oauth2_provider.models import AccessToken, Grant, RefreshToken

from authflows.inbound.oauth.resources import GatewayApi, parse
from authflows.models import Approval, OAuthClient, RefreshReply
from servers import audit, changes

# Prefixes of our own, so that each kind is told by its shape (RS-14) and found by scanners.
_ACCESS_TOKEN: Final = re.compile(r"gho_[A-Za-z0-9_-]{43}")


def new_access_token(request: Any = None) -> str:
    """A new access token; asked for by the OAuth library, whose request says nothing that matters here."""
    return f"gho_{secrets.token_urlsafe(32)}"


def new_refresh_token(request: Any = None) -> str:
    """A new refresh token. It opens the token endpoint only, never a resource."""
    return f"ghr_{secrets.token_urlsafe(32)}"


def looks_like_access_token(text: str) -> bool:
    """Whether a bearer token has the shape of our access tokens."""
    return _ACCESS_TOKEN.fullmatch(text) is not None


def digest_of(text: str) -> str:
    """SHA-256 of a code or token in hex: all that is stored of it."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def family_of(code: str) -> UUID:
    """The sign-in that an authorization code begins.

    It follows from the code, so that a second redemption finds what the first one issued (T17).
    """
    return UUID(bytes=hashlib.sha256(b"sign-in\0" + code.encode("utf-8", "replace")).digest()[:16], version=4)


def approval_behind(*, user_id: int, client_id: int, resource: str) -> Approval | None:
    """The approval that a token for `resource` hangs on, while it stands. One query."""
    named = parse(resource)
    if named is None:
        return None
    approvals = Approval.objects.filter(user_id=user_id, client_id=client_id)
    if isinstance(named, GatewayApi):
        return approvals.filter(server__isnull=True).first()
    return approvals.filter(server__tenant__slug=named.tenant, server__slug=named.slug).first()


def end_sign_in(family: UUID | None) -> bool:
    """End every token of a sign-in: refused at once here, within a second everywhere, and open streams end.

    Returns whether any was still good.
    """
    if family is None:
        return False
    with transaction.atomic():
        living: bool = RefreshToken.objects.filter(token_family=family, revoked__isnull=True).exists()
        RefreshToken.revoke_family(family)
        if living:
            changes.record("sign_in", family)
    return living


def end_for(*, user_id: int, client_id: int, resources: Collection[str]) -> None:
    """End every code and token that a person's client has for these resources."""
    wanted = set(resources)
    with transaction.atomic():
        for code in Grant.objects.filter(user_id=user_id, application_id=client_id):
            if wanted & set(code.resource):
                code.delete()
        living = RefreshToken.objects.filter(user_id=user_id, application_id=client_id, revoked__isnull=True)
        families = {row.token_family for row in living if wanted & set(row.resource)}
        for family in sorted(families, key=str):
            end_sign_in(family)
        for token in AccessToken.objects.filter(user_id=user_id, application_id=client_id):
            if wanted & set(token.resource):
                token.delete()


def revoke(text: str, *, client: OAuthClient) -> None:
    """End the sign-in that a token of this client belongs to (RFC 7009). Does nothing for any other text."""
    digest = digest_of(text)
    refresh_tokens = RefreshToken.objects.filter(application=client).select_related("user")
    with transaction.atomic():
        row = refresh_tokens.filter(Q(token_checksum=digest) | Q(access_token__token_checksum=digest)).first()
        if row is not None:
            if end_sign_in(row.token_family):
                record(audit.Action.TOKEN_REVOKE, row)
            return
        for token in AccessToken.objects.filter(application=client, token_checksum=digest):
            token.delete()


def record(action: audit.Action, row: Any) -> None:
    """Write to the audit trail what happened to the sign-in of a refresh token's row. Last in its transaction."""
    audit.record(
        action,
        actor=row.user.get_username(),
        subject=row.application,
        detail={"client": row.application.client_id, "resource": row.resource},
    )


def expired(now: datetime) -> list[tuple[str, QuerySet[Any]]]:
    """What no code or token needs any more, by name, in the order in which it can be deleted.

    A replaced refresh token is kept for as long as its successors may live: it tells theft from a mistake.
    """
    dead = now - timedelta(seconds=settings.REFRESH_TOKEN_SECONDS)
    no_use = Q(revoked__lt=dead) | Q(revoked__isnull=True, access_token__isnull=True)
    no_use |= Q(revoked__isnull=True, access_token__expires__lt=dead)
    return [
        ("authorization codes", Grant.objects.filter(expires__lt=now)),
        ("answers to refreshes", RefreshReply.objects.filter(expires_at__lt=now)),
        ("refresh tokens", RefreshToken.objects.filter(no_use)),
        ("access tokens", AccessToken.objects.filter(expires__lt=now, refresh_token__isnull=True)),
    ]
