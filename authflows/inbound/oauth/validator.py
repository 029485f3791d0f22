"""What the OAuth library asks us about requests, codes and tokens.

Stricter than the library where it is lenient: codes are stored as SHA-256, each token is for exactly one resource
(AZ-13, AZ-14, promise 2), and hangs on an approval that stands. What must not change while a code or token is
looked at is locked in the transaction that `token_endpoint` opens.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.db.models import F
from django.utils import timezone
from oauth2_provider.models import Grant, RefreshToken
from oauth2_provider.oauth2_validators import OAuth2Validator
from oauthlib.oauth2.rfc6749 import errors

from authflows.inbound.oauth import refresh_replies, tokens
from authflows.inbound.oauth.resources import parse
from authflows.models import OAuthClient
from servers import audit

# Clients repeat on refresh what they once asked for, granted or not.
_TOLERATED_ON_REFRESH: Final = frozenset({"mcp", "offline_access"})


class InvalidTarget(errors.OAuth2Error):  # type: ignore[misc]
    """Not exactly the one resource that was granted (RFC 8707)."""

    error = "invalid_target"
    description = "Name exactly what the sign-in was for in the parameter resource, or leave it out."


class RepeatedRefresh(Exception):
    """The refresh token was used less than a minute ago; `reply` is the answer that it got."""

    def __init__(self, reply: dict[str, Any]) -> None:
        super().__init__("repeated refresh")
        self.reply = reply


class Validator(OAuth2Validator):  # type: ignore[misc]
    """Our rules.

    `client` is who authenticated at the token endpoint, before its transaction began; `resources` is what the
    request names there, which the library would see only the last of.
    """

    def __init__(self, client: OAuthClient | None = None, *, resources: Sequence[str] = ()) -> None:
        super().__init__()
        self._client = client
        self._resources = list(resources)

    # --- Clients ---

    def client_authentication_required(self, request: Any, *args: Any, **kwargs: Any) -> bool:
        return True

    def authenticate_client(self, request: Any, *args: Any, **kwargs: Any) -> bool:
        if self._client is None:
            return False
        request.client, request.client_id = self._client, self._client.client_id
        return True

    def _load_application(self, client_id: str, request: Any) -> OAuthClient | None:
        # Without fetching metadata documents, as the library would: client_documents does that, where it may wait.
        client = request.client
        if not isinstance(client, OAuthClient) or client.client_id != client_id:
            known = client_id and "\0" not in client_id
            client = OAuthClient.objects.filter(client_id=client_id).first() if known else None
        request.client = client if client is not None and client.is_usable(request) else None
        return request.client  # type: ignore[no-any-return]

    def validate_response_type(
        self, client_id: str, response_type: str, client: Any, *args: Any, **kwargs: Any
    ) -> bool:
        return response_type == "code" and super().validate_response_type(
            client_id, response_type, client, *args, **kwargs
        )

    # --- Authorization codes ---

    def _create_authorization_code(self, request: Any, code: dict[str, str], expires: Any = None) -> Any:
        _only_resource(request.resource)
        if request.code_challenge_method != "S256" or not request.code_challenge:
            raise errors.InvalidRequestError("Use PKCE with code_challenge_method=S256.", request=request)
        stored = {**code, "code": tokens.digest_of(code["code"])}
        return super()._create_authorization_code(request, stored, expires)

    def validate_code(self, client_id: str, code: str, client: Any, request: Any, *args: Any, **kwargs: Any) -> bool:
        """Look the code up and lock it. One that was redeemed before ends what it began (T17)."""
        codes = Grant.objects.select_for_update(of=("self",)).select_related("user")
        row = codes.filter(code=tokens.digest_of(code), application=client).first()
        if row is None:
            _end_what_it_began(code, client)
            return False
        if row.is_expired():
            return False
        resource = _only_resource(row.resource)
        self._check_target(resource)
        if not _may_have_tokens(row.user, client, resource):
            return False
        request.code_row, request.granted_resource = row, resource
        request.user, request.scopes = row.user, row.scope.split()
        return True

    def get_code_challenge(self, code: str, request: Any) -> str | None:
        return request.code_row.code_challenge or None

    def get_code_challenge_method(self, code: str, request: Any) -> str | None:
        method = request.code_row.code_challenge_method
        return "S256" if method == "S256" else None

    def get_default_redirect_uri(self, client_id: str, request: Any, *args: Any, **kwargs: Any) -> Any:
        # OAuth 2.1 leaves it out at the token endpoint: PKCE binds the code already.
        row = getattr(request, "code_row", None)
        return row.redirect_uri if row else super().get_default_redirect_uri(client_id, request, *args, **kwargs)

    def confirm_redirect_uri(
        self, client_id: str, code: str, redirect_uri: str, client: Any, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        if request.code_row.redirect_uri != redirect_uri:
            raise errors.InvalidGrantError("redirect_uri is not the one of the authorization request.", request=request)
        return True

    def get_authorization_code_scopes(self, client_id: str, code: str, redirect_uri: str, request: Any) -> list[str]:
        row = Grant.objects.filter(code=tokens.digest_of(code)).first()
        return row.scope.split() if row else []

    def invalidate_authorization_code(self, client_id: str, code: str, request: Any, *args: Any, **kwargs: Any) -> None:
        request.code_row.delete()
        tokens.record(audit.Action.TOKEN_ISSUE, request.new_refresh_token)

    # --- Tokens ---

    def validate_grant_type(
        self, client_id: str, grant_type: str, client: Any, request: Any, *args: Any, **kwargs: Any
    ) -> bool:
        return grant_type in ("authorization_code", "refresh_token") and super().validate_grant_type(
            client_id, grant_type, client, request, *args, **kwargs
        )

    def validate_refresh_token(self, refresh_token: str, client: Any, request: Any, *args: Any, **kwargs: Any) -> bool:
        """Look the token up and lock it, so that of two windows one waits for the other's answer.

        One that was replaced more than a minute ago ends the whole sign-in: either it or its successor is in the
        wrong hands (AZ-15). Raises RepeatedRefresh.
        """
        rows = RefreshToken.objects.select_for_update(of=("self",)).select_related("user", "access_token")
        rows = rows.filter(token_checksum=tokens.digest_of(refresh_token), application=client)
        row = rows.order_by(F("revoked").desc(nulls_first=True)).first()
        if row is None:
            return False
        resource = _only_resource(row.resource)
        self._check_target(resource)
        if row.revoked is not None:
            self._repeat_or_end(refresh_token, row, client)
            return False
        if row.access_token is None or not _may_have_tokens(row.user, client, resource):
            return False
        if row.access_token.expires + timedelta(seconds=settings.REFRESH_TOKEN_SECONDS) <= timezone.now():
            return False
        granted = row.access_token.scope
        if set((request.scope or "").split()) <= _TOLERATED_ON_REFRESH | set(granted.split()):
            request.scope = granted
        request.user, request.granted_resource = row.user, resource
        request.refresh_token, request.refresh_token_instance = refresh_token, row
        return True

    def _repeat_or_end(self, refresh_token: str, row: Any, client: OAuthClient) -> None:
        family = RefreshToken.objects.filter(token_family=row.token_family, revoked__isnull=True)
        if not family.exists():
            return
        reply = refresh_replies.find(refresh_token, client=client, now=timezone.now())
        if reply is not None and row.user.is_active:
            raise RepeatedRefresh(reply)
        if tokens.end_sign_in(row.token_family):
            tokens.record(audit.Action.TOKEN_REUSE, row)

    def _check_target(self, granted: str) -> None:
        # Byte for byte: what a client calls otherwise, its token would not open.
        if self._resources not in ([], [granted]):
            raise InvalidTarget

    def _check_and_set_request_resource(self, request: Any) -> None:
        # The last place before a token is made; the parameter was compared when code or token were looked up.
        request.resource = [request.granted_resource]

    def _create_refresh_token(self, request: Any, text: str, access_token: Any, previous: Any) -> Any:
        row = RefreshToken(
            user=request.user,
            application=request.client,
            access_token=access_token,
            token_family=previous.token_family if previous is not None else tokens.family_of(request.code),
            resource=request.resource,
        )
        self._set_token_value(row, text)
        row.save(force_insert=True)
        OAuthClient.objects.filter(pk=row.application_id).update(last_used_at=timezone.now())
        request.new_refresh_token = row
        return row


def _only_resource(resources: Any) -> str:
    """The resource of a code or token; raises InvalidTarget unless it is exactly one of ours."""
    if not isinstance(resources, list) or len(resources) != 1 or parse(resources[0]) is None:
        raise InvalidTarget
    resource: str = resources[0]
    return resource


def _may_have_tokens(user: Any, client: OAuthClient, resource: str) -> bool:
    return (
        user.is_active and tokens.approval_behind(user_id=user.pk, client_id=client.pk, resource=resource) is not None
    )


def _end_what_it_began(code: str, client: OAuthClient) -> None:
    begun = RefreshToken.objects.filter(token_family=tokens.family_of(code), application=client)
    row = begun.select_related("user", "application").order_by("-pk").first()
    if row is not None and tokens.end_sign_in(row.token_family):
        tokens.record(audit.Action.TOKEN_REUSE, row)
