"""Our own secret store: write, open, rotate."""

from __future__ import annotations

from functools import lru_cache

from django.conf import settings
from django.db import transaction

from servers import audit
from servers.models.secrets import StoredSecret
from servers.models.tenants import Tenant
from servers.sealing import KeyRing, Sealer, sealed_with

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


def rotate_secrets() -> int:
    """Seal again, with the ring's first key, every secret that an older key sealed; returns how many.

    Row by row in short transactions, so the gateway keeps answering meanwhile (F-404).
    """
    ring: KeyRing = settings.KEY_RING
    count = 0
    for secret_id in list(StoredSecret.objects.values_list("id", flat=True)):
        with transaction.atomic():
            secret = StoredSecret.objects.select_for_update().select_related("tenant").filter(id=secret_id).first()
            if secret is None or sealed_with(secret.sealed_value) == ring.sealing_key_id:
                continue
            value = open_secret(secret)
            secret.sealed_value = _sealer(ring).seal(value.encode(), secret.seal_context)
            secret.save(update_fields=["sealed_value"])
            count += 1
    return count
