"""Header values of a person's own for one server: sealed, tried before they are kept, written and never shown.

Two methods use them. With `own_header` each person fills the placeholders of the admin's templates (F-308). With
`shared_header` a manager may set other values for somebody, header by header (F-309).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Literal

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from authflows import throttle
from authflows.models import OwnKey
from authflows.outbound import testing
from authflows.outbound.connections import origin_of
from authflows.outbound.testing import Header, Outcome
from authflows.throttle import Limit, Rate
from servers import audit
from servers.errors import SecretUnavailable
from servers.header_names import check_header_value
from servers.models import AuthConfig, Server
from servers.own_header import CleanValue, OwnHeaderSettings, Placeholder, ValueMissing
from servers.sealing import KeyRing, Sealer, SealError
from servers.secrets.resolver import fill

PURPOSE: Final = "own-key"
# Each attempt is a request to the server: a person needs a few, a guesser many.
_ATTEMPTS: Final = Rate(20, 600)
Method = AuthConfig.Method


@dataclass(frozen=True, slots=True)
class Kept:
    """The values are stored; `tested` is False where the server could not be asked and that was accepted."""

    key: OwnKey
    tested: bool


@dataclass(frozen=True, slots=True)
class NotKept:
    """Nothing was stored or changed. `may_keep` says that the person may keep the values untested."""

    reason: Literal["refused", "no_answer", "wait", "setup"]
    sentence: str
    may_keep: bool = False


@dataclass(frozen=True, slots=True)
class OpenedKey:
    """The opened values and the method that they were entered for."""

    method: str
    values: Mapping[str, str] = field(repr=False)


@lru_cache(maxsize=2)
def _sealer(ring: KeyRing) -> Sealer:
    return ring.sealer(PURPOSE)


def asked_of(server: Server) -> tuple[Placeholder, ...]:
    """The values that can be entered for `server` (with its auth_config); empty where its method knows none."""
    config = getattr(server, "auth_config", None)
    if config is None:
        return ()
    if config.method == Method.OWN_HEADER:
        return OwnHeaderSettings.read(config.settings).placeholders()
    if config.method == Method.SHARED_HEADER:
        return tuple(Placeholder(name, name, name) for name, _ in config.header_templates())
    return ()


def open_key(key: OwnKey) -> OpenedKey:
    """The values; raises SecretUnavailable when the row was tampered with or its key has left the ring (T55)."""
    try:
        text = _sealer(settings.KEY_RING).open(key.sealed_values, key.seal_context())
        found = json.loads(text)
        return OpenedKey(str(found["method"]), {str(name): str(value) for name, value in found["values"].items()})
    except (SealError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise SecretUnavailable(
            "The key cannot be opened with the present key ring. Enter it again.", type(error).__name__
        ) from error


def headers_with(server: Server, config: AuthConfig, values: Mapping[str, str]) -> list[Header]:
    """The headers that `server` gets with these values; raises SecretUnavailable, whose text holds no value."""
    if config.method == Method.OWN_HEADER:
        try:
            headers = OwnHeaderSettings.read(config.settings).fill(
                values, resolve=lambda text: fill(text, server.tenant)
            )
        except ValueMissing as error:
            raise SecretUnavailable(f"{server.name} asks for one more value. Enter your key again.") from error
    else:
        own = {name.lower(): value for name, value in values.items()}
        headers = [
            (name, own[name.lower()] if name.lower() in own else fill(template, server.tenant))
            for name, template in config.header_templates()
        ]
    for name, value in headers:
        try:
            check_header_value(value)
        except ValidationError as error:
            raise SecretUnavailable(f"The header {name} has a character that no header may hold.") from error
    return headers


def enter(
    *,
    user: Any,
    server: Server,
    values: Mapping[str, CleanValue],
    actor: Any,
    expires_at: datetime | None = None,
    comment: str = "",
    keep_untested: bool = False,
    for_others: bool = False,
) -> Kept | NotKept:
    """Try the values at `server` (with tenant and auth_config) and keep them in place of what `user` had.

    `actor` is the person who entered them; `for_others` says that they manage the server, as only such a person may
    set something else than a shared header. Blocks while the server answers.
    """
    config = getattr(server, "auth_config", None)
    if config is None or not asked_of(server) or (config.method == Method.SHARED_HEADER and not for_others):
        return NotKept("setup", f"{server.name} takes no keys of people's own any more. Go back to its page.")
    if wait := throttle.take([Limit("own key", f"{actor.pk}:{server.pk}", _ATTEMPTS)], now=timezone.now()):
        return NotKept("wait", f"That was tried many times. Wait {wait} seconds, then enter it again.")
    plain = {name: clean.value for name, clean in values.items()}
    try:
        headers = tuple(headers_with(server, config, plain))
    except SecretUnavailable as error:
        return NotKept("setup", f"{error.public_message} If it stays so, ask the manager of {server.name}.")
    tested = testing.test(server, headers)
    if tested.outcome is Outcome.REFUSED:
        return NotKept(
            "refused",
            f"{server.name} refused it, so it was not kept. Check that you copied the whole key and that it is still "
            "valid at its provider, then enter it again.",
        )
    if tested.outcome is Outcome.NO_ANSWER and not keep_untested:
        return NotKept(
            "no_answer",
            f"{server.name} could not be asked whether it takes this, so it was not kept. Enter it again in a few "
            "minutes, or enter it now and tick “Keep it untested”.",
            may_keep=True,
        )
    accepted = tested.outcome is Outcome.ACCEPTED
    key = _store(user, server, config, plain, actor=actor, expires_at=expires_at, comment=comment, tested=accepted)
    return Kept(key, accepted)


def _store(
    user: Any,
    server: Server,
    config: AuthConfig,
    values: Mapping[str, str],
    *,
    actor: Any,
    expires_at: datetime | None,
    comment: str,
    tested: bool,
) -> OwnKey:
    text = json.dumps({"method": config.method, "values": dict(values)})
    with transaction.atomic():
        # Sent twice at once, it is one row.
        made, _ = OwnKey.objects.get_or_create(user=user, server=server, defaults={"epoch": 0})
        key = OwnKey.objects.select_for_update().get(pk=made.pk)
        key.sealed_values = _sealer(settings.KEY_RING).seal(text.encode(), key.seal_context())
        # The origin that was asked just now: if the server has moved meanwhile, the key has to be entered again (T29).
        key.origin = origin_of(server.url)
        key.epoch += 1
        key.expires_at, key.comment = expires_at, comment[:200]
        key.set_by = actor.get_username()[:200]
        key.refused_at = None
        key.save()
        audit.record(
            audit.Action.OWN_KEY_SET,
            actor=actor.get_username(),
            subject=server,
            tenant=server.tenant,
            detail={
                "person": user.get_username(),
                "values": sorted(values),
                "headers": [name for name, _ in config.header_templates()],
                "expires": expires_at.isoformat() if expires_at else "",
                "tested": tested,
            },
        )
    return key


def remove(key: OwnKey, *, actor: str) -> None:
    """Forget the values; the next call goes without them everywhere within a second."""
    with transaction.atomic():
        deleted, _ = OwnKey.objects.filter(pk=key.pk).delete()
        if deleted:
            audit.record(
                audit.Action.OWN_KEY_REMOVE,
                actor=actor,
                subject=key.server,
                tenant=key.server.tenant,
                detail={"person": key.user.get_username()},
            )
