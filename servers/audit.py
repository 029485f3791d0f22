"""The audit trail: append-only rows, each chained to the one before by its hash (F-801).

The chain shows that a row was changed, removed or put in between. It cannot show that the newest rows were
cut off together with the head; for that, `verify_audit` prints the head, to be kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from django.db import transaction
from django.utils import timezone

from servers.models.records import AuditEvent, AuditHead
from servers.models.tenants import Tenant
from servers.request_id import current_request_id

log = logging.getLogger(__name__)
FIRST_HASH = "0" * 64


class Action(StrEnum):
    """Everything that is recorded, as subject:action."""

    FIRST_ADMIN_LINK = "first_admin:link"
    FIRST_ADMIN_CREATE = "first_admin:create"
    SIGN_IN = "person:sign_in"
    SIGN_IN_FAILED = "person:sign_in_failed"
    SESSIONS_END = "person:end_sessions"
    SERVER_CREATE = "server:create"
    SERVER_CHANGE = "server:change"
    SERVER_DELETE = "server:delete"
    SERVER_TEST = "server:test"
    SERVER_END_SESSIONS = "server:end_sessions"
    VIRTUAL_MEMBERS = "server:change_members"
    CATALOGUE_TAKE = "catalogue:take"
    CATALOGUE_FAIL = "catalogue:fail"
    CATALOGUE_ITEM_CHANGE = "catalogue:item_change"
    CATALOGUE_ITEM_HOLD = "catalogue:item_hold"
    CATALOGUE_APPROVE = "catalogue:approve"
    CATALOGUE_REFUSE = "catalogue:refuse"
    CATALOGUE_ENABLE = "catalogue:enable"
    CATALOGUE_DISABLE = "catalogue:disable"
    CATALOGUE_CORRECT = "catalogue:correct_hints"
    CATALOGUE_POLICY = "catalogue:policy"
    CATALOGUE_ACCEPT_EMPTY = "catalogue:accept_empty"
    GROUP_CREATE = "group:create"
    GROUP_CHANGE = "group:change"
    GROUP_DELETE = "group:delete"
    COLLABORATOR_ADD = "collaborator:add"
    COLLABORATOR_CHANGE = "collaborator:change"
    COLLABORATOR_REMOVE = "collaborator:remove"
    ACCESS_ASK = "access_request:ask"
    ACCESS_APPROVE = "access_request:approve"
    ACCESS_REFUSE = "access_request:refuse"
    ACCESS_WITHDRAW = "access_request:withdraw"
    SECRET_SET = "secret:set"  # noqa: S105  (an event's name)
    SECRET_DELETE = "secret:delete"  # noqa: S105
    KEY_CREATE = "api_key:create"
    KEY_REVOKE = "api_key:revoke"
    CLIENT_REGISTER = "oauth_client:register"
    CLIENT_CHANGE_DOCUMENT = "oauth_client:change_document"
    CLIENT_CREATE = "oauth_client:create"
    CLIENT_CHANGE = "oauth_client:change"
    CLIENT_DELETE = "oauth_client:delete"
    CLIENT_SECRET = "oauth_client:new_secret"  # noqa: S105
    CLIENT_APPROVE = "oauth_client:approve"
    CLIENT_DENY = "oauth_client:deny"
    APPROVAL_REVOKE = "approval:revoke"
    TOKEN_ISSUE = "oauth_token:issue"  # noqa: S105
    TOKEN_REVOKE = "oauth_token:revoke"  # noqa: S105
    TOKEN_REUSE = "oauth_token:reuse"  # noqa: S105
    REGISTRATION_POLICY_CHANGE = "registration_policy:change"
    UPSTREAM_CLIENT_REGISTER = "upstream_client:register"
    CONNECTION_CONNECT = "connection:connect"
    CONNECTION_LOST = "connection:lost"
    CONNECTION_REVOKE = "connection:revoke"
    OWN_KEY_SET = "own_key:set"
    OWN_KEY_REMOVE = "own_key:remove"
    VIRTUAL_ACCOUNT_CREATE = "virtual_account:create"
    VIRTUAL_ACCOUNT_CHANGE = "virtual_account:change"
    VIRTUAL_ACCOUNT_DELETE = "virtual_account:delete"
    DESTINATION_ALLOW = "private_destination:allow"
    DESTINATION_REMOVE = "private_destination:remove"
    TENANT_CREATE = "tenant:create"
    TENANT_CHANGE = "tenant:change"
    TEAM_CHANGE = "team:change"
    PERSON_CHANGE = "person:change"
    IDENTITY_PROVIDER_CREATE = "identity_provider:create"
    IDENTITY_PROVIDER_CHANGE = "identity_provider:change"
    IDENTITY_PROVIDER_DELETE = "identity_provider:delete"
    IDENTITY_ADD = "identity:add"
    IDENTITY_REMOVE = "identity:remove"
    MODEL_ENDPOINT_CREATE = "model_endpoint:create"
    MODEL_ENDPOINT_CHANGE = "model_endpoint:change"
    MODEL_ENDPOINT_DELETE = "model_endpoint:delete"
    RECORDS_EXPORT = "records:export"
    CHAIN_VERIFY = "records:verify"
    KEYS_ROTATE = "key_ring:rotate"
    CALLS_LOST = "call_records:lost"


TROUBLES: Final = frozenset(
    {
        Action.SIGN_IN_FAILED,
        Action.CATALOGUE_FAIL,
        Action.CATALOGUE_REFUSE,
        Action.ACCESS_REFUSE,
        Action.CLIENT_DENY,
        Action.TOKEN_REUSE,
        Action.CONNECTION_LOST,
        Action.CALLS_LOST,
    }
)
"""Events that tell of a refusal, a failure or a loss; all others tell of something that was done."""


def record(
    action: Action,
    *,
    actor: str,
    subject: object = None,
    tenant: Tenant | None = None,
    detail: dict[str, Any] | None = None,
) -> AuditEvent:
    """Append one event in the current transaction. `detail` names fields and counts, never secret values.

    The end of the chain stays locked until the transaction ends: call this last, after the writes that it tells
    of, or two transactions may wait for each other.
    """
    with transaction.atomic():
        # A migration makes the row; where it was lost, the chain begins anew and `verify` says so.
        head = AuditHead.objects.select_for_update().filter(id=1).first()
        if head is None:
            AuditHead.objects.get_or_create(id=1)
            head = AuditHead.objects.select_for_update().get(id=1)
        event = AuditEvent(
            sequence=head.sequence + 1,
            at=timezone.now(),
            action=str(action),
            actor=_text(actor)[:200],
            tenant=tenant,
            subject_id=_text(getattr(subject, "pk", "") or "")[:100],
            subject=_text(subject or "")[:300],
            request_id=_text(current_request_id())[:64],
            detail=_plain(detail or {}),
            previous_hash=head.hash,
        )
        event.hash = event_hash(event)
        event.save(force_insert=True)
        AuditHead.objects.filter(id=1).update(sequence=event.sequence, hash=event.hash)
    log.info("audit %s", event.action, extra={"audit": {"sequence": event.sequence, "hash": event.hash}})
    return event


def _text(value: object) -> str:
    # What both databases can store: PostgreSQL refuses NUL, and no encoding has lone surrogates.
    return str(value).replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _plain(value: Any) -> Any:
    # Only what comes back from both databases exactly as it went in; floats, for one, may change their form.
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, dict):
        return {_text(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return _text(value)


def event_hash(event: AuditEvent) -> str:
    """SHA-256 over the row's content and the hash of the row before it, in one canonical JSON form."""
    content = [
        event.sequence,
        str(event.id),
        _instant(event.at),
        event.action,
        event.actor,
        str(event.tenant_id or ""),
        event.subject_id,
        event.subject,
        event.request_id,
        event.detail,
        event.previous_hash,
    ]
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Broken:
    """Where the chain does not hold, and why."""

    sequence: int
    reason: str


@dataclass(frozen=True)
class Walked:
    """The last row of the chain that was looked at; number 0 is the place before the first."""

    sequence: int = 0
    hash: str = FIRST_HASH


@dataclass(frozen=True)
class Piece:
    """A part of the chain: how far it goes, where it does not hold, and whether it is the last."""

    last: Walked
    broken: list[Broken]
    done: bool


def verify_piece(after: Walked, *, limit: int) -> Piece:
    """Look at the next `limit` rows after a place, so that a long chain is verified in short requests."""
    # Before the rows: what is added between the two reads is then a row too many, not a head too far.
    head = AuditHead.objects.filter(id=1).first() or AuditHead()
    rows = list(AuditEvent.objects.filter(sequence__gt=after.sequence).order_by("sequence")[:limit])
    if not rows:
        return Piece(after, _broken_end(after, head), done=True)
    last, broken = after, []
    for event in rows:
        if event.sequence != last.sequence + 1:
            broken.append(Broken(last.sequence + 1, f"row missing before {event.sequence}"))
        if event.previous_hash != last.hash:
            broken.append(Broken(event.sequence, "does not follow the row before it"))
        if event_hash(event) != event.hash:
            broken.append(Broken(event.sequence, "content was changed"))
        last = Walked(event.sequence, event.hash)
    return Piece(last, broken, done=False)


def _broken_end(last: Walked, head: AuditHead) -> list[Broken]:
    if (head.sequence, head.hash) == (last.sequence, last.hash):
        return []
    reason = "the newest rows are missing" if head.sequence > last.sequence else "the head names another row"
    return [Broken(max(head.sequence, last.sequence), reason)]


def verify() -> Iterator[Broken]:
    """Walk the whole chain and yield every place where it does not hold. Events may be added meanwhile."""
    piece = Piece(Walked(), [], done=False)
    while not piece.done:
        piece = verify_piece(piece.last, limit=1000)
        yield from piece.broken


def _instant(value: datetime) -> str:
    # Microseconds in UTC: both databases keep exactly that.
    return value.astimezone(timezone.get_fixed_timezone(0)).isoformat(timespec="microseconds")
