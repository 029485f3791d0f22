"""Our own secret store: write, open, rotate."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

from django.conf import settings
from django.db import transaction

from servers import audit
from servers.models.secrets import StoredSecret
from servers.models.tenants import Tenant
from servers.sealing import KeyRing, Sealer, SealError, sealed_with

_PURPOSE = "stored-secret"


@lru_cache(maxsize=4)
def _sealer(ring: KeyRing) -> Sealer:
    return ring.sealer(_PURPOSE)


def set_secret(*, tenant: Tenant, group: str, key: str, value: str, actor: str) -> StoredSecret:
    """Create the secret or replace its value; the old value is gone. Raises ValidationError for bad names."""
    with transaction.atomic():
        secret = StoredSecret.objects.filter(tenant=tenant, group=group, key=key).first()
        secret = secret or StoredSecret(tenant=tenant, group=group, key=key)
        secret.full_clean(exclude=("sealed_value",))
        secret.sealed_value = _sealer(settings.KEY_RING).seal(value.encode(), secret.seal_context)
        secret.save()
        audit.record(audit.Action.SECRET_SET, actor=actor, subject=secret, tenant=tenant)
    return secret


def open_secret(secret: StoredSecret) -> str:
    """The value; raises SealError when the row was tampered with or its key is no longer in the ring."""
    return _sealer(settings.KEY_RING).open(secret.sealed_value, secret.seal_context).decode()


@dataclass(frozen=True)
class Rotation:
    """What a rotation did: how many secrets were sealed anew, and the names of those that do not open."""

    sealed_anew: int
    unopened: tuple[str, ...]


def rotate_secrets() -> Rotation:
    """Seal again, with the ring's first key, every secret that an older key sealed.

    Row by row in short transactions, so the gateway keeps answering meanwhile (F-404). A secret that does not
    open is left as it is and named in the result; the others are not held up by it.
    """
    ring: KeyRing = settings.KEY_RING
    count, unopened = 0, []
    for secret_id in list(StoredSecret.objects.values_list("id", flat=True)):
        with transaction.atomic():
            # Lock the secret alone: the joined tenant row is shared with everybody.
            rows = StoredSecret.objects.select_for_update(of=("self",)).select_related("tenant")
            secret = rows.filter(id=secret_id).first()
            if secret is None or sealed_with(secret.sealed_value) == ring.sealing_key_id:
                continue
            try:
                value = open_secret(secret)
            except SealError:
                unopened.append(secret.fqn)
                continue
            secret.sealed_value = _sealer(ring).seal(value.encode(), secret.seal_context)
            secret.save(update_fields=["sealed_value"])
            count += 1
    return Rotation(count, tuple(unopened))


def secrets_by_key() -> dict[str, int]:
    """How many stored secrets each key of the ring (or a missing one) sealed."""
    return dict(Counter(sealed_with(text) for text in StoredSecret.objects.values_list("sealed_value", flat=True)))
