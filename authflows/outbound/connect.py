"""Connect Now: a person's trip to a provider and back (CL-11 to CL-18, T18 to T21, spec 3.4).

`begin` is called after the person saw where the trip goes; `finish` with what the provider sent back. The `state`
works once, for ten minutes, for that person in that browser session, and only its hash is stored.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import secrets
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from django.conf import settings
from django.http import QueryDict
from django.urls import reverse
from django.utils import timezone

from authflows.inbound import my_servers
from authflows.models import Connection, PendingConnection, PendingSignIn
from authflows.outbound import connections, registration, token_endpoint
from authflows.outbound.provider_http import Reply, exchange
from authflows.outbound.token_endpoint import Kind, TokenAnswer, TokenFailure
from authflows.outbound.upstream_clients import facts_of
from servers.endpoints import browser_problem
from servers.errors import SecretUnavailable
from servers.models import AuthConfig, Server
from servers.oauth_settings import OAuthSettings
from servers.sealing import KeyRing, Sealer, SealError

log = logging.getLogger(__name__)

LIFETIME: Final = timedelta(minutes=10)
_PURPOSE: Final = "pending-connection"
# Failures that the same person meets again however often they try.
_LASTING: Final = frozenset({"no_access", "not_oauth", "endpoint_refused", "secret_unavailable", "not_registered"})
_CODE: Final = re.compile(r"[a-z0-9_.-]{1,40}")


@dataclass(frozen=True, slots=True)
class Departure:
    """Where to send the browser: the provider's own page."""

    url: str
    host: str


@dataclass(frozen=True, slots=True)
class Connected:
    """The account is connected; what the trip belonged to."""

    connection: Connection
    sign_in: PendingSignIn | None
    return_to: str


@dataclass(frozen=True, slots=True)
class ConnectFailed:
    """No connection was made or changed: a stable word, a sentence with the next step, and what to go back to."""

    reason: str
    sentence: str
    server: Server | None = None
    sign_in: PendingSignIn | None = None
    return_to: str = ""

    @property
    def again(self) -> bool:
        """Whether another try may work."""
        return self.server is not None and self.reason not in _LASTING


@lru_cache(maxsize=2)
def _sealer(ring: KeyRing) -> Sealer:
    return ring.sealer(_PURPOSE)


def callback_url() -> str:
    """Our redirect URI at every provider: fixed for ever, since admins have pasted it there."""
    return settings.PUBLIC_URL + reverse("oauth2-callback")


def begin(
    user: Any,
    server: Server,
    *,
    session_key: str,
    sign_in: PendingSignIn | None = None,
    return_to: str = "",
    other_account: bool = False,
) -> Departure | ConnectFailed:
    """Prepare the trip for `server` (with its auth_config). `return_to` is a path of ours.

    `other_account` asks the provider to let the person choose whom to sign in.
    """
    config = getattr(server, "auth_config", None)
    if config is None or config.method != AuthConfig.Method.OAUTH2:
        return ConnectFailed("not_oauth", f"{server.name} needs no connection.", server, sign_in)
    provider = OAuthSettings.read(config.settings)
    if (problem := _endpoint_problem(provider.authorization_endpoint)) is not None:
        return ConnectFailed("endpoint_refused", f"{problem} Ask the manager of {server.name}.", server, sign_in)
    client = registration.client_for(server, provider)
    if isinstance(client, registration.NotRegistered):
        return ConnectFailed("not_registered", client.sentence, server, sign_in)
    held = Connection.objects.filter(user=user, server=server).first()
    scope = " ".join(_scopes(provider, held))
    state, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(48) if provider.pkce else ""
    digest = _digest(state)
    PendingConnection.objects.create(
        digest=digest,
        user=user,
        session_digest=_digest(session_key),
        server=server,
        client=client,
        issuer=provider.issuer,
        sealed_verifier=_sealer(settings.KEY_RING).seal(verifier.encode(), f"{digest}:{user.pk}:{server.pk}"),
        scope=scope,
        sign_in=sign_in,
        return_to=return_to,
        expires_at=timezone.now() + LIFETIME,
    )
    asked = {
        **provider.authorize_parameters,
        **({"prompt": _prompt(provider)} if other_account else {}),
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": callback_url(),
        "state": state,
    }
    if scope:
        asked["scope"] = scope
    if verifier:
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked |= {"code_challenge": challenge, "code_challenge_method": "S256"}
    if provider.send_resource:
        asked["resource"] = server.url
    endpoint = provider.authorization_endpoint
    url = f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(asked)}"
    return Departure(url, urlsplit(endpoint).netloc)


def finish(parameters: QueryDict, *, user: Any, session_key: str) -> Connected | ConnectFailed:
    """Take what the provider sent back: check it, redeem the code, keep the connection."""
    pending = _take(parameters.get("state", ""), user=user, session_key=session_key)
    if pending is None:
        return ConnectFailed(
            "state_unknown",
            "This answer belongs to no connection that you began in this browser within the last ten minutes. "
            "Press Connect again.",
        )
    server = pending.server

    def failed(reason: str, sentence: str) -> ConnectFailed:
        log.warning("connect failed", extra={"server": server.slug, "reason": reason})
        return ConnectFailed(reason, sentence, server, pending.sign_in, pending.return_to)

    config = getattr(server, "auth_config", None)
    provider = OAuthSettings.read(config.settings) if config else OAuthSettings()
    if provider.issuer != pending.issuer or (config and config.method != AuthConfig.Method.OAUTH2):
        return failed("setup_changed", f"{server.name} was set up anew meanwhile. Press Connect again.")
    # RFC 9207: nothing of an answer is looked at before its issuer is right (CL-15, T18).
    issuers = parameters.getlist("iss")
    if (issuers and issuers != [pending.issuer]) or (not issuers and provider.iss_supported):
        return failed(
            "wrong_issuer",
            f"The answer did not come from the provider of {server.name}. Nothing was connected; press Connect again.",
        )
    if "error" in parameters:
        return _refused_by_provider(parameters.get("error", ""), server, failed)
    code = parameters.get("code", "")
    if not code or len(parameters.getlist("code")) != 1:
        return failed("answer_malformed", "The provider's answer holds no code. Press Connect again.")
    if my_servers.server_of(user, tenant_slug=server.tenant.slug, slug=server.slug) is None:
        return failed("no_access", f"You no longer have a right on {server.name}. Ask its manager.")
    try:
        verifier = _sealer(settings.KEY_RING).open(pending.sealed_verifier, f"{pending.digest}:{user.pk}:{server.pk}")
        client = facts_of(pending.client)
    except (SealError, SecretUnavailable):
        return failed(
            "secret_unavailable", f"The gateway's own secret is not available. Ask the manager of {server.name}."
        )
    answer = token_endpoint.redeem_code(
        provider.token_endpoint,
        client,
        code=code,
        redirect_uri=callback_url(),
        verifier=verifier.decode(),
        resource=server.url if provider.send_resource else "",
        extra=provider.token_parameters,
    )
    if isinstance(answer, TokenFailure):
        if answer.kind is Kind.CLIENT_LOST:
            registration.forget(pending.client)
        return failed(f"token_{answer.code}"[:50], f"{answer.sentence} Nothing was connected; press Connect again.")
    label, subject = _account(provider, answer)
    before = Connection.objects.filter(user=user, server=server).first()
    connection = connections.store(
        user=user,
        server=server,
        client=pending.client,
        answer=answer,
        requested_scope=pending.scope,
        account_label=label,
        account_subject=subject,
        lifetime_seconds=provider.lifetime_seconds,
    )
    if before is not None and subject and before.account_subject not in ("", subject):
        # Another account: what was held for the one before is of no use to anybody any more.
        connections.tell_provider(before)
    return Connected(connection, pending.sign_in, pending.return_to)


def _take(state: str, *, user: Any, session_key: str) -> PendingConnection | None:
    """The trip with this state, used up; None for any mismatch, which leaves the trip of its owner as it is."""
    now = timezone.now()
    mine = PendingConnection.objects.filter(
        digest=_digest(state), user=user, session_digest=_digest(session_key), used_at__isnull=True, expires_at__gt=now
    )
    if not state or not mine.update(used_at=now):
        return None
    return PendingConnection.objects.select_related(
        "server__tenant", "server__auth_config", "client__tenant", "sign_in__client"
    ).get(digest=_digest(state))


def _refused_by_provider(error: str, server: Server, failed: Any) -> ConnectFailed:
    if error == "access_denied":
        sentence = (
            f"You did not allow it at the provider, so {server.name} is not connected. Press Connect to try again."
        )
        return failed("denied", sentence)  # type: ignore[no-any-return]
    code = error if _CODE.fullmatch(error) else "unknown"
    sentence = f"The provider answered “{code}”. Press Connect again, or ask the manager of {server.name}."
    return failed(f"provider_{code}"[:50], sentence)  # type: ignore[no-any-return]


def _scopes(provider: OAuthSettings, held: Connection | None) -> list[str]:
    """What to ask for: what the admin set, and within it what a call was refused for (CL-12, CL-13)."""
    wanted = held.wanted_scope.split() if held else []
    return list(dict.fromkeys([*provider.scopes, *(s for s in wanted if s in provider.scopes or not provider.scopes)]))


def _prompt(provider: OAuthSettings) -> str:
    """With the choice of an account, besides what the provider needs to be asked for anyway."""
    words = provider.authorize_parameters.get("prompt", "").split()
    return " ".join([*(word for word in words if word not in ("none", "select_account")), "select_account"])


def _endpoint_problem(url: str) -> str | None:
    """Why a browser must not be sent there (CL-17, T20), or None."""
    if browser_problem(url) is None:
        return None
    return "The provider's sign-in page has no proper https address, so nobody is sent there."


def _account(provider: OAuthSettings, answer: TokenAnswer) -> tuple[str, str]:
    """Label and subject of the account, as far as the provider says.

    The id token came straight from the token endpoint over TLS, so its signature adds nothing (OIDC Core 3.1.3.7).
    """
    claims: dict[str, Any] = _payload(answer.id_token)
    if not claims and provider.userinfo_endpoint:
        reply = exchange("GET", provider.userinfo_endpoint, headers={"Authorization": f"Bearer {answer.access_token}"})
        claims = (reply.document() or {}) if isinstance(reply, Reply) and reply.status == 200 else {}
    names = (claims.get(name) for name in ("email", "preferred_username", "login", "name", "sub"))
    label = next((str(name) for name in names if isinstance(name, str | int) and str(name).strip()), "")
    subject = claims.get("sub", claims.get("id", ""))
    return _clean(label), _clean(str(subject)) if isinstance(subject, str | int) else ""


def _payload(token: str) -> dict[str, Any]:
    parts = token.split(".")
    if len(parts) != 3:
        return {}
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _clean(text: str) -> str:
    return "".join(character for character in text if character.isprintable())[:255].strip()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
