"""Which members a virtual server has, and what of each it shows (F-605)."""

from __future__ import annotations

from typing import Any

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from servers.models.catalogue import LONGEST_KEY, CatalogueItem
from servers.models.fields import UuidModel
from servers.models.servers import Server

ALIAS = RegexValidator(
    r"\A[a-z0-9]+(?:[_-][a-z0-9]+)*\Z", "Use lower-case letters, digits, and single - or _ between them."
)
NAME = RegexValidator(r"\A[A-Za-z0-9_.-]{1,64}\Z", "Use at most 64 letters, digits, underscores, dots and hyphens.")


class VirtualMember(UuidModel):
    """One server inside a virtual server. Calls are routed by this table, never by splitting a name (T35)."""

    class Show(models.TextChoices):
        ALL = "all", "All, also those that come later"
        CHOSEN = "chosen", "Only the chosen ones"

    virtual = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="members")
    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="member_of")
    position = models.PositiveIntegerField(default=0)
    alias = models.CharField(
        max_length=24,
        blank=True,
        validators=[ALIAS],
        help_text="Prefix of the names of this member's tools and prompts: alias__tool. Empty: their own names.",
    )
    tools = models.CharField(max_length=10, choices=Show.choices, default=Show.ALL)
    prompts = models.CharField(max_length=10, choices=Show.choices, default=Show.ALL)
    resources = models.CharField(max_length=10, choices=Show.choices, default=Show.ALL)
    # Header templates with secret references, as a shared header method has them; empty: the member's own method.
    credential = models.JSONField(default=list, blank=True)
    # Names the credential in what is bound to it; counted up when it changes.
    credential_epoch = models.PositiveIntegerField(default=1, editable=False)
    # Where the member was when the credential was set: somebody else may move it, and then it is not sent (T29).
    credential_origin = models.CharField(max_length=2000, blank=True, editable=False)

    class Meta:
        ordering = ("position", "alias")
        verbose_name = "member"
        constraints = [
            models.UniqueConstraint(fields=("virtual", "server"), name="member_once_in_a_virtual_server"),
            models.UniqueConstraint(
                fields=("virtual", "alias"),
                name="alias_unique_in_virtual_server",
                violation_error_message="Two members cannot have the same prefix.",
            ),
            models.CheckConstraint(
                condition=~Q(virtual=models.F("server")), name="virtual_server_is_not_its_own_member"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.server} in {self.virtual}"

    def header_templates(self) -> list[tuple[str, str]]:
        """Pairs of header name and value template of its own credential; values hold references, never secrets."""
        stored: list[dict[str, Any]] = self.credential
        return [(str(item["name"]), str(item["value"])) for item in stored]


class VirtualSelection(UuidModel):
    """What a virtual server says about one item of a member: that it is chosen, its own name or description."""

    member = models.ForeignKey(VirtualMember, on_delete=models.CASCADE, related_name="selections")
    kind = models.CharField(max_length=20, choices=CatalogueItem.Kind.choices)
    key = models.CharField(max_length=LONGEST_KEY)
    chosen = models.BooleanField(default=True)
    # Tools and prompts only; empty: by the member's prefix.
    name = models.CharField(max_length=64, blank=True, validators=[NAME])
    description = models.TextField(blank=True, max_length=4000)

    class Meta:
        ordering = ("kind", "key")
        verbose_name = "selection"
        constraints = [models.UniqueConstraint(fields=("member", "kind", "key"), name="selection_unique_in_member")]

    def __str__(self) -> str:
        return f"{self.get_kind_display()} {self.name or self.key}"
