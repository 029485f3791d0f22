"""Somebody asks for a server that they may not use yet; its manager answers (F-504)."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from servers.models.fields import UuidModel
from servers.models.servers import Server


class AccessRequest(UuidModel):
    """A person's request to use one server, and what became of it. An approved one made a rule with an end."""

    class State(models.TextChoices):
        PENDING = "pending", "Waiting"
        APPROVED = "approved", "Approved"
        REFUSED = "refused", "Refused"
        WITHDRAWN = "withdrawn", "Withdrawn"

    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="access_requests")
    person = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="access_requests")
    reason = models.CharField(max_length=500)
    days = models.PositiveSmallIntegerField(
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(365)],
        help_text="For how many days; empty: until somebody removes the access.",
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    asked_at = models.DateTimeField(auto_now_add=True)
    answered_at = models.DateTimeField(null=True)
    # Kept when the one who answered is gone: the audit trail has the name.
    answered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, related_name="answered_access_requests", null=True
    )
    answer = models.CharField(max_length=500, blank=True, help_text="What the person reads beside the decision.")

    class Meta:
        ordering = ("-asked_at",)
        constraints = [
            models.UniqueConstraint(
                fields=("server", "person"), condition=Q(state="pending"), name="one_open_request_per_server_and_person"
            ),
            models.CheckConstraint(
                condition=Q(state="pending", answered_at__isnull=True)
                | (~Q(state="pending") & Q(answered_at__isnull=False)),
                name="an_answered_request_says_when",
            ),
        ]
        indexes = [models.Index(fields=("state", "asked_at"), name="access_requests_waiting")]

    def __str__(self) -> str:
        return f"{self.person} asks for {self.server}"
