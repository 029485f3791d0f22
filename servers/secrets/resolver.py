"""From a reference to the secret's value. The only reader of secret values besides key rotation."""

from __future__ import annotations

import os
from pathlib import Path

from django.conf import settings

from servers.errors import SecretUnavailable
from servers.models.secrets import StoredSecret
from servers.models.tenants import Tenant
from servers.sealing import SealError
from servers.secrets.references import (
    BadReference,
    EnvironmentReference,
    FileReference,
    Reference,
    StoredReference,
    split_template,
)
from servers.secrets.store import open_secret

_LARGEST_SECRET = 64 * 1024


def resolve(reference: Reference, tenant: Tenant) -> str:
    """The secret's value; raises SecretUnavailable with a sentence that names the reference, not the value.

    A stored secret of another tenant is unavailable (nothing crosses a tenant). Environment variables and
    files are limited to what the operator named: GATEHOUSE_SECRET_ENV and GATEHOUSE_SECRET_DIRS.
    """
    if isinstance(reference, StoredReference):
        return _stored(reference, tenant)
    if isinstance(reference, EnvironmentReference):
        return _environment(reference)
    return _file(reference)


def fill(template: str, tenant: Tenant) -> str:
    """The template with every reference replaced by its value; raises SecretUnavailable."""
    try:
        parts = split_template(template)
    except BadReference as error:
        raise SecretUnavailable(str(error)) from error
    return "".join(part if isinstance(part, str) else resolve(part, tenant) for part in parts)


def _stored(reference: StoredReference, tenant: Tenant) -> str:
    secret = None
    if reference.tenant == tenant.slug:
        secret = StoredSecret.objects.filter(tenant=tenant, group=reference.group, key=reference.key).first()
    if secret is None:
        raise SecretUnavailable(f"There is no secret {reference} in this tenant.")
    try:
        return open_secret(secret)
    except SealError as error:
        raise SecretUnavailable(
            f"The secret {reference} cannot be opened with the present key ring. Set it again.", str(error)
        ) from error


def _environment(reference: EnvironmentReference) -> str:
    if reference.name not in settings.SECRET_ENVIRONMENT:
        raise SecretUnavailable(
            f"{reference} is not allowed: the operator lists such variables in GATEHOUSE_SECRET_ENV."
        )
    value = os.environ.get(reference.name, "")
    if not value:
        raise SecretUnavailable(f"{reference} is not set in the gateway's environment.")
    return value


def _file(reference: FileReference) -> str:
    try:
        path = Path(reference.path).resolve()
    except (OSError, RuntimeError) as error:
        raise SecretUnavailable(f"{reference} cannot be read.", str(error)) from error
    if not any(path.is_relative_to(folder.resolve()) for folder in settings.SECRET_FOLDERS):
        raise SecretUnavailable(
            f"{reference} is not allowed: the operator lists such folders in GATEHOUSE_SECRET_DIRS."
        )
    if not path.is_file():
        raise SecretUnavailable(f"{reference} is not a file.")
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_SECRET + 1)
    except OSError as error:
        raise SecretUnavailable(f"{reference} cannot be read.", error.strerror or "") from error
    if len(data) > _LARGEST_SECRET:
        raise SecretUnavailable(f"{reference} is larger than a secret should be.")
    try:
        value = data.decode().strip()
    except UnicodeDecodeError as error:
        raise SecretUnavailable(f"{reference} is not text.") from error
    if not value:
        raise SecretUnavailable(f"{reference} is empty.")
    return value
