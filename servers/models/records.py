"""What people and admins did (audit) and what was proxied (calls). Metadata only, never payloads."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from django.db import models

from servers.models.fields import UuidModel
from servers.models.tenants import Tenant


class AppendOnlyError(Exception):
    """Somebody tried to change or delete an audit row."""


class AuditEvents(models.QuerySet["AuditEvent"]):
    """Audit rows to read. What would change, delete or add several of them past the chain is refused."""

    def update(self, **kwargs: Any) -> NoReturn:
        raise AppendOnlyError("Audit events cannot be changed.")

    def delete(self) -> NoReturn:
        raise AppendOnlyError("Audit events cannot be deleted.")

    def bulk_create(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise AppendOnlyError("Audit events are added one by one, with servers.audit.record.")


class AuditEvent(UuidModel):
    """One thing that a person, program or the gateway did. Append-only, each row chained to the one before."""

    sequence = models.PositiveBigIntegerField(unique=True)
    at = models.DateTimeField()
    action = models.CharField(max_length=60, help_text="subject:action, for example server:create")
    actor = models.CharField(max_length=200)
    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="audit_events", null=True, blank=True)
    subject_id = models.CharField(max_length=100, blank=True)
    subject = models.CharField(max_length=300, blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    detail = models.JSONField(default=dict)
    previous_hash = models.CharField(max_length=64)
    hash = models.CharField(max_length=64)

    objects = AuditEvents.as_manager()

    class Meta:
        ordering = ("-sequence",)
        verbose_name = "audit event"
        indexes = [models.Index(fields=("action", "at")), models.Index(fields=("subject_id",))]

    def __str__(self) -> str:
        return f"{self.sequence} {self.action} {self.subject}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        if not self._state.adding:
            raise AppendOnlyError("An audit event cannot be changed.")
        super().save(*args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        raise AppendOnlyError("An audit event cannot be deleted.")


class AuditHead(models.Model):
    """The single row that holds the end of the chain; locking it puts writers in line."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    sequence = models.PositiveBigIntegerField(default=0)
    hash = models.CharField(max_length=64, default="0" * 64)

    class Meta:
        constraints = [models.CheckConstraint(condition=models.Q(id=1), name="one_audit_head")]

    def __str__(self) -> str:
        return f"{self.sequence} {self.hash[:12]}"


# A stream that somebody closes, that reaches its longest time or that the gateway ends on purpose is no error.
ENDS_WITHOUT_ERROR: Final = frozenset(
    {"ok", "client_disconnected", "timeout", "access_ended", "not_connected", "era_not_shared", "shutdown"}
)
IS_ERROR: Final = ~models.Q(outcome__in=ENDS_WITHOUT_ERROR)
"""Which `Call` rows count as calls with errors, wherever they are counted."""


class Call(models.Model):
    """One proxied request: who, by which credential, what, how it ended. No argument values (T58).

    Plain ids instead of foreign keys: the row is written in batches after the fact and outlives what it names.
    """

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(db_index=True)
    request_id = models.CharField(max_length=64)
    tenant = models.CharField(max_length=63)
    server = models.CharField(max_length=63)
    server_id = models.UUIDField(null=True)
    principal = models.CharField(max_length=200, blank=True)
    user_id = models.BigIntegerField(null=True)
    credential = models.CharField(max_length=80, blank=True, help_text="Which credential opened the door.")
    client = models.CharField(max_length=200, blank=True)
    http_method = models.CharField(max_length=10)
    method = models.CharField(max_length=100, blank=True)
    item = models.CharField(max_length=300, blank=True, help_text="Tool or prompt name, or resource URI.")
    protocol_version = models.CharField(max_length=20, blank=True)
    decision = models.CharField(max_length=40)
    status = models.PositiveSmallIntegerField()
    upstream_status = models.PositiveSmallIntegerField(null=True)
    outcome = models.CharField(max_length=40)
    bytes_in = models.PositiveBigIntegerField()
    bytes_out = models.PositiveBigIntegerField()
    milliseconds = models.PositiveBigIntegerField()

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.principal or 'anonymous'} {self.method} on {self.server}: {self.outcome}"
