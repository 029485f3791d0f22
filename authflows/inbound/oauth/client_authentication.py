"""Which OAuth client makes a request to /token or /revoke (RFC 6749, 2.3): `none`, client_secret_basic or _post."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import unquote_plus

from django.contrib.auth.hashers import check_password, identify_hasher
from django.utils.crypto import constant_time_compare

from authflows.models import OAuthClient


def authenticate(parameters: Mapping[str, str], *, authorization: str | None) -> OAuthClient | None:
    """The enabled client that sends these form parameters and this Authorization header, or None.

    A client that has a secret must prove it; one that has none must not claim to have one. Call this
    outside of transactions.
    """
    claimed = _claimed(parameters, authorization)
    if claimed is None:
        return None
    client_id, secret = claimed
    if not client_id or "\0" in client_id:
        return None
    client = OAuthClient.objects.filter(client_id=client_id).first()
    if client is None or not client.is_usable(None):
        return None
    if client.client_type == OAuthClient.CLIENT_PUBLIC:
        return None if secret else client
    return client if secret and _is_secret(secret, client.client_secret) else None


def _claimed(parameters: Mapping[str, str], authorization: str | None) -> tuple[str, str] | None:
    """Client id and secret (or an empty text); None for a malformed claim and for two that differ."""
    in_body = parameters.get("client_id", "")
    if authorization is None:
        return in_body, parameters.get("client_secret", "")
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic" or "client_secret" in parameters:
        return None
    try:
        text = base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    client_id, colon, secret = text.partition(":")
    client_id, secret = unquote_plus(client_id), unquote_plus(secret)
    if not colon or (in_body and in_body != client_id):
        return None
    return client_id, secret


def _is_secret(given: str, stored: str) -> bool:
    if not stored:
        return False
    try:
        identify_hasher(stored)
    except ValueError:  # an admin chose to keep it readable
        return constant_time_compare(given, stored)
    return check_password(given, stored)
