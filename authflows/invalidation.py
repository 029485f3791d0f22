"""Which row changes of this package empty which caches (see servers/invalidation.py)."""

from __future__ import annotations

from typing import Any

from django.db.models.signals import m2m_changed, post_delete, post_save

from authflows.models import ApiKey, VirtualAccount
from servers import changes


def connect() -> None:
    """Connect the observers; called once when the application starts."""
    post_save.connect(_key_written, sender=ApiKey, dispatch_uid="changes-save-key")
    post_delete.connect(_key_written, sender=ApiKey, dispatch_uid="changes-delete-key")
    m2m_changed.connect(_key_limits_changed, sender=ApiKey.servers.through, dispatch_uid="changes-key-limits")
    post_save.connect(_account_written, sender=VirtualAccount, dispatch_uid="changes-save-account")
    post_delete.connect(_account_written, sender=VirtualAccount, dispatch_uid="changes-delete-account")


def _key_written(instance: ApiKey, **_: Any) -> None:
    changes.record("api_key", instance.digest)


def _key_limits_changed(instance: Any, action: str, **_: Any) -> None:
    if action.startswith("post_") and isinstance(instance, ApiKey):
        changes.record("api_key", instance.digest)


def _account_written(instance: VirtualAccount, **_: Any) -> None:
    changes.record("user", instance.user_id)
