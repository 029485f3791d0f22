"""The approved snapshot of what a server offers: its tools, prompts, resources and templates (F-804, T34)."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from servers.models.fields import UuidModel
from servers.models.servers import Server

LONGEST_KEY = 500


class Catalogue(UuidModel):
    """One server's catalogue: when it was read, what became of that, and who may change it."""

    class Policy(models.TextChoices):
        ACCEPT_ALL = "accept_all", "Accept every change"
        ACCEPT_HARMLESS = "accept_harmless", "Accept harmless changes, hold the others"
        HOLD_ALL = "hold_all", "Hold every change until somebody approves it"

    server = models.OneToOneField(Server, on_delete=models.CASCADE, related_name="catalogue")
    policy = models.CharField(max_length=20, choices=Policy.choices, default=Policy.ACCEPT_ALL)
    # Counts what callers would notice; part of the key under which lists are kept.
    version = models.PositiveIntegerField(default=0, editable=False)
    # SHA-256 of what callers would notice, by which a change of it is known.
    fingerprint = models.CharField(max_length=64, blank=True, editable=False)
    capabilities = models.JSONField(default=dict, editable=False)
    instructions = models.TextField(blank=True, editable=False)
    # Other ones that the server has by now, and that the policy holds; empty: none.
    offered_instructions = models.TextField(blank=True, editable=False)
    server_info = models.JSONField(default=dict, editable=False)
    # The last reading that succeeded; empty: none so far.
    taken_at = models.DateTimeField(null=True, editable=False)
    tried_at = models.DateTimeField(null=True, editable=False)
    # Why the last try failed, as a step of the connection test and a sentence; empty: it did not.
    failure = models.CharField(max_length=30, blank=True, editable=False)
    failure_sentence = models.CharField(max_length=500, blank=True, editable=False)
    # Kinds of which the last reading found nothing although there was something; their items stay as they are.
    emptied = models.JSONField(default=list, editable=False)

    class Meta:
        verbose_name = "catalogue"

    def __str__(self) -> str:
        return f"Catalogue of {self.server}"


class CatalogueItem(UuidModel):
    """One tool, prompt, resource or template: the definition that callers see, and the one that the server offers."""

    class Kind(models.TextChoices):
        TOOL = "tool", "Tool"
        PROMPT = "prompt", "Prompt"
        RESOURCE = "resource", "Resource"
        TEMPLATE = "resource_template", "Resource template"

    class State(models.TextChoices):
        APPROVED = "approved", "Approved"
        HELD = "held", "Held for approval"
        REFUSED = "refused", "Refused"
        GONE = "gone", "No longer offered"

    catalogue = models.ForeignKey(Catalogue, on_delete=models.CASCADE, related_name="items")
    kind = models.CharField(max_length=20, choices=Kind.choices)
    # Tool or prompt name, resource URI or URI template.
    key = models.CharField(max_length=LONGEST_KEY)
    position = models.PositiveIntegerField(default=0)
    # Compact JSON texts, so that a list is made of them without parsing any.
    approved = models.TextField(blank=True)
    offered = models.TextField(blank=True)
    # What callers see where that is not what was approved: with the admin's corrections. Empty: as approved.
    served = models.TextField(blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.HELD)
    enabled = models.BooleanField(default=True)
    # SHA-256 of the definition that was refused last, which is not accepted unseen when it comes again.
    refused = models.CharField(max_length=64, blank=True, editable=False)
    # Why what is offered cannot be served whatever anybody approves; empty: it can. What has one is never approved.
    problem = models.CharField(max_length=300, blank=True)
    # The hints of the approved definition, and the admin's corrections of them; empty: as the server says.
    says_read_only = models.BooleanField(default=False, editable=False)
    says_destructive = models.BooleanField(default=True, editable=False)
    read_only = models.BooleanField("read only", null=True, blank=True)
    destructive = models.BooleanField(null=True, blank=True)
    first_seen_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(null=True)
    decided_at = models.DateTimeField(null=True)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")

    class Meta:
        ordering = ("kind", "position", "key")
        verbose_name = "catalogue item"
        # By which a long catalogue is read without sorting it.
        indexes = [models.Index(fields=("catalogue", "kind", "position", "key"), name="catalogue_in_order")]
        constraints = [
            models.UniqueConstraint(fields=("catalogue", "kind", "key"), name="catalogue_item_unique"),
            models.CheckConstraint(
                condition=~Q(state="approved") | ~Q(approved=""), name="approved_item_has_a_definition"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.key}"
