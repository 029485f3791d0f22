"""Which row changes of this package empty which caches (see servers/invalidation.py)."""

from __future__ import annotations

from typing import Any

from django.db.models import Model
from django.db.models.signals import m2m_changed
from django.utils import timezone
from oauth2_provider.models import AccessToken, RefreshToken
from social_django.models import UserSocialAuth

from authflows.models import (
    AccountMapping,
    ApiKey,
    Approval,
    Connection,
    IdentityProvider,
    OAuthClient,
    OwnKey,
    TeamMapping,
    VirtualAccount,
)
from servers import changes
from servers.invalidation import watch

_SWITCHED = "_gatehouse_switched"
_STORED_OWNER = "_gatehouse_stored_owner"


def connect() -> None:
    """Connect the observers; called once when the application starts."""
    watch(ApiKey, _key_written)
    watch(VirtualAccount, _account_written)
    watch(AccessToken, _token_written)
    watch(RefreshToken, _refresh_token_written)
    watch(Approval, _approval_written)
    watch(OAuthClient, _client_written, _client_about_to_change)
    watch(IdentityProvider, _provider_written)
    watch(TeamMapping, _mapping_written, _mapping_about_to_change)
    watch(AccountMapping, _mapping_written, _mapping_about_to_change)
    watch(Connection, _connection_written)
    watch(OwnKey, _own_key_written, _own_key_about_to_change)
    watch(UserSocialAuth, _identity_written, _identity_about_to_change)
    m2m_changed.connect(_key_limits_changed, sender=ApiKey.servers.through, dispatch_uid="changes-key-limits")


def _key_written(instance: ApiKey, update_fields: frozenset[str] | None = None, **_: Any) -> None:
    if update_fields is not None and update_fields <= {"last_used_at"}:
        return
    changes.record("api_key", instance.digest)


def _key_limits_changed(instance: Any, action: str, **_: Any) -> None:
    # `pre_clear` and not `post_clear`: both evict at the commit of the same transaction.
    if action in ("post_add", "post_remove", "pre_clear") and isinstance(instance, ApiKey):
        changes.record("api_key", instance.digest)


def _token_written(instance: Any, created: bool | None = None, **_: Any) -> None:
    # A new row is in no cache, and one that is over opens nothing from a cache either.
    was_over = created is None and instance.expires <= timezone.now()
    if not created and not was_over:
        changes.record("access_token", instance.token_checksum)


def _refresh_token_written(instance: Any, created: bool | None = None, **_: Any) -> None:
    was_deleted = created is None
    if not created and instance.token_family and not (was_deleted and instance.revoked):
        changes.record("sign_in", instance.token_family)


def _approval_written(
    instance: Approval, created: bool | None = None, update_fields: frozenset[str] | None = None, **_: Any
) -> None:
    if not created and not (update_fields is not None and update_fields <= {"last_used_at"}):
        changes.record("approval", instance.pk)


def _client_about_to_change(instance: OAuthClient, **_: Any) -> None:
    stored = OAuthClient.objects.filter(pk=instance.pk).values_list("enabled", flat=True).first()
    instance.__dict__[_SWITCHED] = stored is not None and stored != instance.enabled


def _client_written(instance: OAuthClient, created: bool | None = None, **_: Any) -> None:
    # A deleted one takes its approvals along, which are changes of their own.
    if instance.__dict__.pop(_SWITCHED, False):
        changes.record("oauth_client", instance.pk)


def _account_written(instance: VirtualAccount, **_: Any) -> None:
    changes.record("user", instance.user_id)


def _connection_written(instance: Connection, update_fields: frozenset[str] | None = None, **_: Any) -> None:
    # Whatever is written with `update()` records its change itself (`outbound.connections`).
    if update_fields is None or not update_fields <= {"last_used_at"}:
        changes.record("connection", instance.pk)


def _own_key_about_to_change(instance: OwnKey, **_: Any) -> None:
    stored = OwnKey.objects.filter(pk=instance.pk).values_list("user_id", "server_id").first()
    instance.__dict__[_STORED_OWNER] = set() if stored is None else {stored}


def _own_key_written(instance: OwnKey, update_fields: frozenset[str] | None = None, **_: Any) -> None:
    places = {(instance.user_id, instance.server_id), *_forget_owner(instance)}
    if update_fields is None or not update_fields <= {"last_used_at", "comment", "updated_at"}:
        changes.record_all("own_key", [own_key_place(*place) for place in places])


def own_key_place(user_id: Any, server_id: Any) -> str:
    """What a change of an own key is named by: not its id, because a new one is missed by whoever knows of none."""
    return f"{user_id}:{server_id}"


def _provider_written(instance: IdentityProvider, **_: Any) -> None:
    changes.record("identity_provider", instance.pk)


def _mapping_about_to_change(instance: TeamMapping | AccountMapping, **_: Any) -> None:
    _remember_owner(instance, "provider_id")


def _mapping_written(instance: TeamMapping | AccountMapping, **_: Any) -> None:
    changes.record_all("identity_provider", {instance.provider_id, *_forget_owner(instance)})


def _identity_about_to_change(instance: UserSocialAuth, **_: Any) -> None:
    _remember_owner(instance, "user_id")


def _identity_written(instance: UserSocialAuth, **_: Any) -> None:
    changes.record_all("user", {instance.user_id, *_forget_owner(instance)})


def _remember_owner(instance: Model, field: str) -> None:
    # The row may be about to move to another provider or person; what the old one's tokens open changes too.
    stored = type(instance)._default_manager.filter(pk=instance.pk).values_list(field, flat=True).first()
    instance.__dict__[_STORED_OWNER] = set() if stored is None else {stored}


def _forget_owner(instance: Model) -> set[Any]:
    owners: set[Any] = instance.__dict__.pop(_STORED_OWNER, set())
    return owners
