"""An authorization request, from `/authorize` to the answer that goes back to the client.

    read -> sign in -> look_at -> approve or deny -> whatever is still missing upstream -> answer

Of a virtual server what is missing is a trip through its members (`trip.py`), any of which the person may skip.
Of the Gateway API nothing is: it works for whoever can sign in, and says itself what is to be connected.

What is asked is checked before anybody signs in; whether the server exists and who may use it only afterwards
(RS-13). Once client and redirect URI are verified every outcome is an answer to the client, with `iss` and its
`state` (AZ-5); before that nothing is redirected anywhere (AZ-24).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final
from urllib.parse import urlencode

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import QueryDict
from django.urls import reverse
from django.utils import timezone
from oauth2_provider.oauth2_backends import get_oauthlib_core
from oauthlib.oauth2.rfc6749 import errors

from authflows import throttle
from authflows.inbound import my_servers
from authflows.inbound.my_servers import MyServer
from authflows.inbound.oauth import approvals, client_documents, redirect_uris
from authflows.inbound.oauth.resources import GatewayApi, parse
from authflows.inbound.oauth.trip import Trip, trip_of
from authflows.models import OAuthClient, PendingSignIn
from authflows.outbound.needs import Missing, missing
from authflows.throttle import Limit, Rate
from servers import audit
from servers.models import Server

PENDING_LIFETIME: Final = timedelta(minutes=10)
"""Since the last step."""
LONGEST_TRIP: Final = timedelta(minutes=30)
SCOPES: Final = ("mcp", "offline_access")
# Of one address: a person needs one; a network of people behind one address some dozens.
_REQUESTS: Final = Rate(120, 60)
# What a client may repeat only at the price of an error, and what the library understands.
_ASKED: Final = (
    "client_id", "redirect_uri", "response_type", "state", "code_challenge", "code_challenge_method",
)  # fmt: skip
# Words of `prompt` after which a remembered approval does not do.
_ASK_AGAIN: Final = frozenset({"consent", "login", "select_account", "create"})


@dataclass(frozen=True, slots=True)
class Unanswerable:
    """Whoever asked is not known, or not where the answer should go: a page here, no redirect (AZ-24)."""

    reason: str
    sentence: str
    status: int = 400


@dataclass(frozen=True, slots=True)
class Answer:
    """Where to send the browser: the client's redirect URI with a code or an error."""

    url: str


Wanted = MyServer | GatewayApi
"""What is asked for, once it is known that the person may use it."""


@dataclass(frozen=True, slots=True)
class TooMany:
    """The address asks too often; try again after `seconds`."""

    seconds: int


def read(parameters: QueryDict, *, address: str) -> PendingSignIn | Answer | Unanswerable:
    """The request that the query string makes, not stored yet; or why there is none.

    A metadata document that we do not know yet, or that is stale, is fetched (AZ-9).
    """
    client_id = parameters.get("client_id", "")
    if client_documents.is_document_url(client_id):
        found = client_documents.resolve(client_id, address=address)
        if isinstance(found, client_documents.Refused):
            return Unanswerable(f"client_document_{found.reason}", found.sentence)
    asked = [(name, value) for name in _ASKED for value in parameters.getlist(name)]
    # Unknown scopes are left out, not refused (RFC 6749, 3.3): there is only one that means something.
    scope = " ".join(name for name in SCOPES if name in parameters.get("scope", "mcp").split()) or "mcp"
    try:
        _, request = _server().validate_authorization_request(f"/authorize?{urlencode([*asked, ('scope', scope)])}")
    except errors.FatalClientError as error:
        return _unanswerable(error)
    except errors.OAuth2Error as error:
        if parameters.get("response_type", "code") != "code":
            sentence = "Only response_type=code is supported."
            return _refusal(error.redirect_uri, error.state, "unsupported_response_type", sentence)
        return _refusal(error.redirect_uri, error.state, error.error, error.description)
    redirect_uri, state = request["redirect_uri"], request["state"]
    if request.get("code_challenge_method") != "S256":
        return _refusal(redirect_uri, state, "invalid_request", "Use PKCE with code_challenge_method=S256.")
    resources = parameters.getlist("resource")
    if len(resources) != 1 or parse(resources[0]) is None:
        sentence = "Name exactly one MCP URL of this gateway, or its API, in the parameter resource."
        return _refusal(redirect_uri, state, "invalid_target", sentence)
    prompt = set(parameters.get("prompt", "").split())
    if "none" in prompt and len(prompt) > 1:
        return _refusal(redirect_uri, state, "invalid_request", "prompt=none stands alone.")
    return PendingSignIn(
        client=request["request"].client,
        resource=resources[0],
        redirect_uri=redirect_uri,
        state=state,
        scope=scope,
        code_challenge=request["code_challenge"],
        prompt=" ".join(sorted(prompt & (_ASK_AGAIN | {"none"}))),
        expires_at=timezone.now() + PENDING_LIFETIME,
    )


def begin(asked: PendingSignIn, *, user: Any, address: str) -> PendingSignIn | Answer | TooMany:
    """Answer at once where nobody needs to be asked; else store the request for the pages that follow."""
    silent = asked.prompt == "none"
    if user.is_authenticated and (silent or not asked.prompt):
        item = look_at(asked, user)
        if item is not None and approvals.is_approved(user, asked.client, server := server_in(item)):
            # A virtual server works without some of its members, and a call to them says what to do.
            if (silent and server and server.is_virtual) or _still_missing(asked, user, item) is None:
                return _code(asked, user, item)
            if silent:
                why = "Something has to be connected first: ask again without prompt=none."
                return _refusal(asked.redirect_uri, asked.state, "interaction_required", why)
    if silent:
        why = "consent_required" if user.is_authenticated else "login_required"
        return _refusal(asked.redirect_uri, asked.state, why, "Ask again without prompt=none.")
    if wait := throttle.take([Limit("authorization request", address, _REQUESTS)], now=timezone.now()):
        return TooMany(wait)
    asked.save(force_insert=True)
    return asked


def pending(pending_id: str) -> PendingSignIn | None:
    """The stored request, while it waits for its answer."""
    waiting = PendingSignIn.objects.filter(answered_at__isnull=True, expires_at__gt=timezone.now())
    return waiting.select_related("client").filter(pk=pending_id).first()


def redirect_target(path: str) -> str | None:
    """The redirect URI of the pending request whose page is at `path`, or None for any other path."""
    before, _, pending_id = path.rpartition("/")
    if not pending_id or before != reverse("authorize"):
        return None
    asked = pending(pending_id)
    return asked.redirect_uri if asked else None


def look_at(asked: PendingSignIn, user: Any) -> Wanted | None:
    """What is asked for: the API, or the server if it exists and the person may use it; these are not told apart."""
    named = parse(asked.resource)
    if named is None or isinstance(named, GatewayApi):
        return named
    return my_servers.server_of(user, tenant_slug=named.tenant, slug=named.slug)


def server_in(item: Wanted) -> Server | None:
    """The server that is asked for; None: the Gateway API, as in approvals."""
    return item.server if isinstance(item, MyServer) else None


def needs_asking(asked: PendingSignIn, user: Any, item: Wanted) -> bool:
    """Whether the person has to press Approve: no remembered approval, or the client wants it asked again."""
    if asked.approved_at is not None:
        return False
    return bool(asked.prompt) or not approvals.is_approved(user, asked.client, server_in(item))


def approve(asked: PendingSignIn, user: Any, item: Wanted) -> Answer | Missing | Trip | None:
    """Record the person's approval and go on; None when the request was answered meanwhile."""
    return go_on(asked, user, item, newly_approved=True)


def go_on(
    asked: PendingSignIn, user: Any, item: Wanted, *, newly_approved: bool = False
) -> Answer | Missing | Trip | None:
    """The next thing that the person has to do, or the answer with a code; None when it was answered meanwhile.

    Only after an approval, which stands before every trip to a provider (promise 3, T11).
    """
    still_missing = _still_missing(asked, user, item)
    with transaction.atomic():
        if not _take(asked, user, answered=still_missing is None):
            return None
        if newly_approved:
            host = redirect_uris.shown_host(asked.redirect_uri)
            approvals.approve(user, asked.client, server_in(item), redirect_host=host)
        return still_missing or _code(asked, user, item)


def _still_missing(asked: PendingSignIn, user: Any, item: Wanted) -> Missing | Trip | None:
    server = server_in(item)
    if server is None:
        return None
    if not server.is_virtual:
        return missing(user, server)
    trip = trip_of(asked, user, server)
    return trip if trip.open else None


def belongs_to_another(asked: PendingSignIn, user: Any) -> bool:
    """Whether somebody else approved this request: every later step is theirs alone."""
    return asked.user_id is not None and asked.user_id != user.pk


def deny(asked: PendingSignIn, user: Any) -> Answer | None:
    """Tell the client that the person said no; None when the request was answered meanwhile."""
    with transaction.atomic():
        if not _take(asked, user, answered=True):
            return None
        audit.record(
            audit.Action.CLIENT_DENY,
            actor=user.get_username(),
            subject=asked.client,
            detail={"client": asked.client.client_id, "resource": asked.resource},
        )
    return _refusal(asked.redirect_uri, asked.state, "access_denied", "The person did not approve.")


def ended(now: datetime) -> QuerySet[PendingSignIn]:
    """Requests that can no longer be answered, for `prune`."""
    return PendingSignIn.objects.filter(expires_at__lt=now)


def _take(asked: PendingSignIn, user: Any, *, answered: bool) -> bool:
    """Make the request this person's, and `answered` for good; False when somebody was faster."""
    mine = PendingSignIn.objects.filter(Q(user__isnull=True) | Q(user=user), pk=asked.pk, answered_at__isnull=True)
    now = timezone.now()
    # Each step gives time for the next one: a person with many accounts is not slow.
    expires_at = max(asked.expires_at, min(now + PENDING_LIFETIME, asked.created_at + LONGEST_TRIP))
    return bool(mine.update(user=user, approved_at=now, answered_at=now if answered else None, expires_at=expires_at))


def _code(asked: PendingSignIn, user: Any, item: Wanted) -> Answer:
    client: OAuthClient = asked.client
    if approvals.goes_unasked(client, server_in(item)):
        # Tokens hang on an approval also where nobody was asked for it.
        host = redirect_uris.shown_host(asked.redirect_uri)
        approvals.approve(user, client, server_in(item), redirect_host=host)
    credentials = {
        "client_id": client.client_id,
        "redirect_uri": asked.redirect_uri,
        "response_type": "code",
        "code_challenge": asked.code_challenge,
        "code_challenge_method": "S256",
        "resource": [asked.resource],
        "user": user,
        "client": client,
    }
    try:
        headers, _, _ = _server().create_authorization_response(
            "/authorize", scopes=asked.scope.split(), credentials=credentials
        )
    except errors.OAuth2Error as error:  # the client was disabled or changed meanwhile
        return _refusal(asked.redirect_uri, asked.state, error.error, error.description)
    code = QueryDict(headers["Location"].partition("?")[2])["code"]
    return Answer(_with_parameters(asked.redirect_uri, {"code": code}, asked.state))


def _refusal(redirect_uri: str, state: str | None, error: str, description: str | None) -> Answer:
    parameters = {"error": error} | ({"error_description": description} if description else {})
    return Answer(_with_parameters(redirect_uri, parameters, state))


def _with_parameters(redirect_uri: str, parameters: dict[str, str], state: str | None) -> str:
    """The redirect URI with an answer: `iss` always (RFC 9207), `state` if there was one."""
    everything = parameters | ({"state": state} if state is not None else {}) | {"iss": settings.PUBLIC_URL}
    return f"{redirect_uri}{'&' if '?' in redirect_uri else '?'}{urlencode(everything)}"


def _unanswerable(error: errors.FatalClientError) -> Unanswerable:
    if isinstance(error, errors.InvalidClientIdError | errors.MissingClientIdError | errors.InvalidClientError):
        return Unanswerable(
            "client_unknown",
            "The program that sent you here is not registered at this gateway, or no longer. In the program, remove "
            "its sign-in for this gateway and connect again, so that it registers anew.",
        )
    if isinstance(error, errors.MismatchingRedirectURIError | errors.InvalidRedirectURIError):
        return Unanswerable(
            "redirect_uri_not_registered",
            "The program asks to be answered at an address that it did not register, so nothing is sent there. "
            "Remove its sign-in for this gateway and connect again.",
        )
    return Unanswerable(
        "request_malformed", "The program's request is not complete, or has a part twice. Connect again from there."
    )


@cache
def _server() -> Any:
    return get_oauthlib_core().server
