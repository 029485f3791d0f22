"""Which row changes of this package empty which caches (see servers/invalidation.py)."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import m2m_changed

from authflows.models import ApiKey, VirtualAccount
from servers import changes
from servers.invalidation import watch


def connect() -> None:
    """Connect the observers; called once when the application starts."""
    watch(ApiKey, _key_written)
    watch(VirtualAccount, _account_written)
    m2m_changed.connect(_key_limits_changed, sender=ApiKey.servers.through, dispatch_uid="changes-key-limits")


def _key_written(instance: ApiKey, update_fields: frozenset[str] | None = None, **_: Any) -> None:
    if update_fields is not None and update_fields <= {"last_used_at"}:
        return
    changes.record("api_key", instance.digest)


def _key_limits_changed(instance: Any, action: str, **_: Any) -> None:
    # `pre_clear` and not `post_clear`: both evict at the commit of the same transaction.
    if action in ("post_add", "post_remove", "pre_clear") and isinstance(instance, ApiKey):
        changes.record("api_key", instance.digest)


def _account_written(instance: VirtualAccount, **_: Any) -> None:
    changes.record("user", instance.user_id)
