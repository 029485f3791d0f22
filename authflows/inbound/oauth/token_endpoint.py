"""The token endpoint: from form parameters to tokens, or to an error as RFC 6749 names it (AZ-15, AZ-17).

Times are those of this gateway alone: it makes the tokens and it checks them, so no clock needs to agree with ours.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from django.db import transaction
from django.utils import timezone
from oauth2_provider.settings import oauth2_settings
from oauthlib.oauth2 import OAuth2Error

from authflows import throttle
from authflows.inbound.oauth import client_authentication, refresh_replies, tokens
from authflows.inbound.oauth.validator import RepeatedRefresh, Validator
from authflows.models import OAuthClient
from authflows.throttle import Limit, Rate

Parameters = Sequence[tuple[str, str]]
"""Form parameters in their order, without those that have no value."""

GRANT_TYPES: Final = ("authorization_code", "refresh_token")
MINUTE, HOUR = 60, 3600
# Failures of one address. Wide, because an office may share one, and codes and tokens cannot be guessed anyway.
_FAILURES: Final = Rate(300, MINUTE)
# Wrong secrets of one client from one address.
_SECRETS: Final = (Rate(10, MINUTE), Rate(100, HOUR))
_SENTENCES: Final = {
    "invalid_client": "The client is not known, not enabled, or did not prove its secret. Register again.",
    "invalid_grant": "The code or refresh token is not valid (any more). Sign in again.",
    "unauthorized_client": "This client may not use that grant type.",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: status, JSON content (None: no body) and headers besides those of every answer."""

    status: int
    content: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)


def failure(error: str, sentence: str = "", *, status: int = 400) -> Answer:
    """An error in the form of RFC 6749, section 5.2."""
    return Answer(status, {"error": error, "error_description": sentence or _SENTENCES.get(error, "")})


def issue(parameters: Parameters, *, authorization: str | None, address: str) -> Answer:
    """Answer a token request of `address`; `authorization` is its Authorization header."""
    return _counting_failures(parameters, authorization, address, _issue)


def revoke(parameters: Parameters, *, authorization: str | None, address: str) -> Answer:
    """Answer a revocation request (RFC 7009): the same for a token that was never there."""
    return _counting_failures(parameters, authorization, address, _revoke)


def _counting_failures(parameters: Parameters, authorization: str | None, address: str, answer: Any) -> Answer:
    given = dict(parameters)
    all_failures = [Limit("token failure", address, _FAILURES)]
    whom = f"{address}\n{given.get('client_id', '')}\n{authorization is None}"
    wrong_secrets = [Limit("client secret", whom, rate) for rate in _SECRETS]
    if wait := throttle.waiting([*all_failures, *wrong_secrets], now=timezone.now()):
        busy = failure("temporarily_unavailable", f"Too many failures. Try again in {wait} seconds.", status=429)
        return Answer(busy.status, busy.content, {"Retry-After": str(wait)})
    result: Answer = answer(parameters, given, authorization)
    if result.status >= 400:
        sent_secret = authorization is not None or "client_secret" in given
        guessed = result.status == 401 and sent_secret
        throttle.take([*all_failures, *(wrong_secrets if guessed else ())], now=timezone.now())
    return result


def _issue(parameters: Parameters, given: dict[str, str], authorization: str | None) -> Answer:
    malformed = _malformed(parameters)
    if malformed is not None:
        return malformed
    grant_type = given.get("grant_type")
    if grant_type is None:
        return failure("invalid_request", "The parameter grant_type is missing.")
    if grant_type not in GRANT_TYPES:
        return failure("unsupported_grant_type", f"Use one of: {', '.join(GRANT_TYPES)}.")
    client = client_authentication.authenticate(given, authorization=authorization)
    if client is None:
        return _unknown_client(authorization)
    try:
        with transaction.atomic():
            answer = _ask_library(parameters, client)
            if answer.status == 200 and answer.content and grant_type == "refresh_token":
                now = timezone.now()
                refresh_replies.keep(answer.content, refresh_token=given["refresh_token"], client=client, now=now)
    except RepeatedRefresh as repeated:
        return Answer(200, repeated.reply)
    except OAuth2Error as error:
        return failure(error.error, error.description or "", status=error.status_code)
    return answer


def _ask_library(parameters: Parameters, client: OAuthClient) -> Answer:
    validator = Validator(client, resources=[value for name, value in parameters if name == "resource"])
    server = oauth2_settings.OAUTH2_SERVER_CLASS(validator, **oauth2_settings.server_kwargs)
    _, body, status = server.create_token_response("/token", "POST", dict(parameters), {})
    content = json.loads(body)
    if status == 200:
        return Answer(status, content)
    return failure(content["error"], content.get("error_description", ""), status=status)


def _revoke(parameters: Parameters, given: dict[str, str], authorization: str | None) -> Answer:
    malformed = _malformed(parameters)
    if malformed is not None:
        return malformed
    client = client_authentication.authenticate(given, authorization=authorization)
    if client is None:
        return _unknown_client(authorization)
    if "token" not in given:
        return failure("invalid_request", "The parameter token is missing.")
    tokens.revoke(given["token"], client=client)
    return Answer(200)


def _malformed(parameters: Parameters) -> Answer | None:
    # `resource` may come several times, which has an error of its own (RFC 8707).
    once = [name for name, _ in parameters if name != "resource"]
    if len(once) != len(set(once)):
        twice = next(name for name in once if once.count(name) > 1)
        return failure("invalid_request", f"The parameter {twice[:50]} came twice.")
    if any("\0" in value for _, value in parameters):
        return failure("invalid_request", "No parameter may hold a NUL character.")
    return None


def _unknown_client(authorization: str | None) -> Answer:
    headers = {} if authorization is None else {"WWW-Authenticate": 'Basic realm="Gatehouse"'}
    answer = failure("invalid_client", status=401)
    return Answer(answer.status, answer.content, headers)
