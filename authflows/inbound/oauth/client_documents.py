"""Clients that are known by their metadata document: the client id is its https URL (AZ-9, AZ-10, AZ-20).

Only an authorization request leads to a fetch, since somebody waits there who can be told why it failed. The rows
that it leaves are all that the token endpoint looks at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from django.db import IntegrityError, transaction
from django.utils import timezone

from authflows.inbound.oauth import client_metadata, document_fetch, known_clients, redirect_uris, registration
from authflows.inbound.oauth.client_metadata import Described, Malformed
from authflows.models import OAuthClient, RegistrationPolicy
from servers import audit

KEPT_STALE: Final = timedelta(days=7)
BACK_OFF: Final = timedelta(minutes=1)
_MOST_REMEMBERED: Final = 1000
_LONGEST_URL: Final = 255  # of the column
# A copy that we ship does not change; one that stands in for a failed fetch is tried to be replaced soon.
_COPY_FRESH: Final = document_fetch.LONGEST_FRESH
_STAND_IN_FRESH: Final = document_fetch.SHORTEST_FRESH

Reason = Literal[
    document_fetch.Problem,
    "disabled", "full", "host_not_allowed", "invalid", "malformed", "mismatch", "not_built_in", "off",
    "too_many",
]  # fmt: skip

_AGAIN = "Try again in a minute; if it stays like this, tell the gateway's admin."
_MAKER = "Only the program's maker can change that; until then use another way in, such as an API key."
_SENTENCES: Final[Mapping[Reason, str]] = {
    "busy": "The gateway is reading too many documents of programs at this moment. Try again in a minute.",
    "disabled": "An admin turned this program off at this gateway.",
    "down": f"The program is known by a document at {{host}}, which cannot be read now. {_AGAIN}",
    "full": "Too many programs are waiting for their first use here. Try again later, or tell the gateway's admin.",
    "host_not_allowed": "Programs that are known by a document at {host} are not let in here. Ask the gateway's admin.",
    "huge": f"The program's document at {{host}} is larger than 16 KiB, so it was not read. {_MAKER}",
    "invalid": f"The program's document at {{host}} cannot be used. {{detail}} {_MAKER}",
    "malformed": f"The program gives an address as its id that is not a proper one. {{detail}} {_MAKER}",
    "mismatch": f"The document at {{host}} says that it belongs to another program. {_MAKER}",
    "not_built_in": "This gateway fetches no documents, and has no copy of this program's. Ask the gateway's admin.",
    "not_json": f"What the program names as its document at {{host}} is not a JSON document. {_MAKER}",
    "off": "Programs that are known by a document are not let in here. Ask the gateway's admin.",
    "private_address": "The program's document is at a private address, which the gateway does not call. An admin can "
    "allow {host} under Allowed private destinations.",
    "redirecting": f"The program's document at {{host}} redirects elsewhere, which is not followed. {_MAKER}",
    "too_many": "Too many programs were made known from your network in the last hour. Try again later.",
    "slow": f"The program's document at {{host}} did not come within 5 seconds. {_AGAIN}",
}


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a document makes no client: a stable word, and a sentence for the person who waits."""

    reason: Reason
    sentence: str


def is_document_url(client_id: str) -> bool:
    """Whether a client id is the address of a metadata document."""
    return client_id.startswith("https://")


def resolve(client_id: str, *, address: str = "") -> OAuthClient | Refused:
    """The client that the document at `client_id` describes, read anew when it is no longer fresh.

    New ones are counted for `address`, as registrations are. Blocks on the network for up to five seconds; never
    call it inside a transaction.
    """
    if "\0" in client_id:  # no database looks for that
        return _refused("malformed", client_id)
    client: OAuthClient | None = OAuthClient.objects.filter(client_id=client_id).first()
    if client is not None and client.registration_source != OAuthClient.RegistrationSource.CIMD:
        return client  # made by an admin, who may choose any id
    policy = RegistrationPolicy.current()
    if refused := _refused_unread(client_id, policy):
        return refused
    if client is not None and not client.enabled:
        return _refused("disabled", client_id)
    now = timezone.now()
    expired_at = client.cimd_expires_at if client is not None else None
    if client is not None and expired_at is not None and now < expired_at:
        return client
    found: _Found | Refused | None = _failed_lately(client_id, now)
    if found is None and client is None:
        found = _one_too_many(client_id, policy, address)
    found = found or _look(client_id, policy, now=now)
    if isinstance(found, Refused):
        if client is not None and expired_at is not None and now < expired_at + KEPT_STALE:
            return client
        stand_in = _copy(client_id, policy, fresh_seconds=_STAND_IN_FRESH)
        if stand_in is None:
            return found
        found = stand_in
    return _store(client_id, found, now=now)


@dataclass(frozen=True, slots=True)
class _Found:
    described: Described
    fresh_seconds: int


def _refused_unread(client_id: str, policy: RegistrationPolicy) -> Refused | None:
    if not policy.takes_documents:
        return _refused("off", client_id)
    if len(client_id) > _LONGEST_URL:
        return _refused("malformed", client_id, f"It is longer than {_LONGEST_URL} characters.")
    # What may be a place for an answer may be one for a document: the same strict grammar.
    checked = redirect_uris.check(client_id, private=())
    if isinstance(checked, redirect_uris.Refused):
        return _refused("malformed", client_id, checked.reason)
    parts = urlsplit(client_id)
    if parts.scheme != "https" or not parts.path:
        return _refused("malformed", client_id, "It needs https and a path.")
    if not policy.takes_host(parts.hostname or ""):
        return _refused("host_not_allowed", client_id)
    if not policy.takes_document(client_id):
        return _refused("not_built_in", client_id)
    return None


# Failures are remembered by this process only; each tries for itself.
_failures: dict[str, tuple[datetime, Refused]] = {}


def forget_failures() -> None:
    """Try every address again."""
    _failures.clear()


def _failed_lately(client_id: str, now: datetime) -> Refused | None:
    at, refused = _failures.get(client_id, (now, None))
    return refused if refused is not None and now - at < BACK_OFF else None


def _one_too_many(client_id: str, policy: RegistrationPolicy, address: str) -> Refused | None:
    if registration.is_full(policy, OAuthClient.RegistrationSource.CIMD):
        return _refused("full", client_id)
    return _refused("too_many", client_id) if registration.take_one(policy, address) else None


def _look(client_id: str, policy: RegistrationPolicy, *, now: datetime) -> _Found | Refused:
    if policy.metadata_documents == RegistrationPolicy.MetadataDocuments.PINNED:
        return _copy(client_id, policy, fresh_seconds=_COPY_FRESH) or _refused("not_built_in", client_id)
    found = _fetch(client_id, policy)
    if not isinstance(found, Refused):
        _failures.pop(client_id, None)
    elif found.reason != "busy":
        if len(_failures) >= _MOST_REMEMBERED:
            _failures.clear()
        _failures[client_id] = (now, found)
    return found


def _fetch(client_id: str, policy: RegistrationPolicy) -> _Found | Refused:
    fetched = document_fetch.fetch(client_id)
    if isinstance(fetched, str):
        return _refused(fetched, client_id)
    if fetched.document.get("client_id") != client_id:
        return _refused("mismatch", client_id)
    try:
        return _Found(read(fetched.document, private=policy.private_uris), fetched.fresh_seconds)
    except Malformed as malformed:
        return _refused("invalid", client_id, str(malformed))


def read(document: Mapping[str, Any], *, private: frozenset[str]) -> Described:
    """What we keep of a metadata document; raises Malformed for one that describes no public client."""
    for field in ("client_secret", "client_secret_expires_at"):
        if field in document:
            raise Malformed(f"It holds {field}, but nothing in it is secret.")
    method = client_metadata.text(document, "token_endpoint_auth_method") or "none"
    offered = client_metadata.texts(document, "token_endpoint_auth_methods_supported")
    if method != "none" and ("none" not in offered or method.startswith("client_secret")):
        raise Malformed("token_endpoint_auth_method must be none.")
    described = client_metadata.read(document, private=private)
    if not described.name:
        raise Malformed("client_name is missing.")
    return described


def _copy(client_id: str, policy: RegistrationPolicy, *, fresh_seconds: int) -> _Found | None:
    document = known_clients.copies().get(client_id)
    if document is None:
        return None
    try:
        return _Found(read(document, private=policy.private_uris), fresh_seconds)
    except Malformed:
        return None


def _store(client_id: str, found: _Found, *, now: datetime) -> OAuthClient:
    for last in (False, True):
        try:
            with transaction.atomic():
                return _write(client_id, found, now=now)
        except IntegrityError:  # somebody else saw it first, at the same moment
            if last:
                raise
    raise AssertionError


def _write(client_id: str, found: _Found, *, now: datetime) -> OAuthClient:
    described = found.described
    client: OAuthClient | None = OAuthClient.objects.select_for_update().filter(client_id=client_id).first()
    is_new = client is None
    if client is None:
        client = OAuthClient(
            client_id=client_id,
            registration_source=OAuthClient.RegistrationSource.CIMD,
            client_type=OAuthClient.CLIENT_PUBLIC,
            authorization_grant_type=OAuthClient.GRANT_AUTHORIZATION_CODE,
        )
    changed = client.metadata_digest != described.digest
    if changed and not is_new:
        client.verified = False  # what an admin looked at was another name, or other places for the answer
    client.name = described.name
    client.redirect_uris = " ".join(described.redirect_uris)
    client.application_type = described.application_type
    client.metadata_digest = described.digest
    client.cimd_expires_at = now + timedelta(seconds=found.fresh_seconds)
    client.save()
    if changed:
        audit.record(
            audit.Action.CLIENT_REGISTER if is_new else audit.Action.CLIENT_CHANGE_DOCUMENT,
            actor="metadata document",
            subject=client,
            detail={"client": client_id, "name": client.name, "redirect_uris": list(described.redirect_uris)},
        )
    return client


def _refused(reason: Reason, client_id: str, detail: str = "") -> Refused:
    host = redirect_uris.shown_host(client_id) or "its address"
    return Refused(reason, _SENTENCES[reason].format(host=host, detail=detail))
