"""Who may use or manage which server: the rows behind `servers.access.decide`."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q

from servers.models.fields import UuidModel
from servers.models.servers import Server, ServerGroup


class Role(models.TextChoices):
    """What a collaborator may do. A manager may do all that a user may."""

    USER = "user", "User"
    MANAGER = "manager", "Manager"


class Items(models.TextChoices):
    """Which tools, prompts and resources a rule is about."""

    ALL = "all", "Everything"
    ONLY = "only", "Only those named"
    EXCEPT = "except", "Everything but those named"


class Hints(models.TextChoices):
    """Which tools a rule is about, by what their hints say after the admin's corrections."""

    ANY = "any", "Any tool"
    READ_ONLY = "read_only", "Tools that only read"
    NOT_DESTRUCTIVE = "not_destructive", "Tools that destroy nothing"


class AccessRule(UuidModel):
    """One collaborator: a person or a team, as User or Manager, of a server or of a group of servers (F-501)."""

    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="access_rules", null=True, blank=True)
    group = models.ForeignKey(ServerGroup, on_delete=models.CASCADE, related_name="access_rules", null=True, blank=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        related_name="access_rules",
        null=True,
        blank=True,
        verbose_name="person or virtual account",
    )
    team = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="access_rules", null=True, blank=True)
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.USER)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: until removed.")
    # What of the server the rule opens to a User (F-502); a Manager has all of it.
    items = models.CharField("tools", max_length=10, choices=Items.choices, default=Items.ALL)
    item_names = models.JSONField(
        default=list, blank=True, help_text="Kind and name of each, for example tool:search, as a JSON list."
    )
    hints = models.CharField(max_length=20, choices=Hints.choices, default=Hints.ANY)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("created_at",)
        verbose_name = "collaborator"
        constraints = [
            models.CheckConstraint(
                condition=Q(server__isnull=True) ^ Q(group__isnull=True),
                name="rule_is_on_a_server_or_a_group",
                violation_error_message="A collaborator belongs to a server or to a group, not to both.",
            ),
            models.CheckConstraint(
                condition=Q(user__isnull=True) ^ Q(team__isnull=True),
                name="rule_is_for_a_person_or_a_team",
                violation_error_message="Choose a person or a team, one of the two.",
            ),
            models.CheckConstraint(
                condition=~Q(role="manager") | Q(items="all", hints="any"),
                name="a_manager_has_every_item",
                violation_error_message="A Manager has everything of the server; choose User to limit the tools.",
            ),
            models.UniqueConstraint(
                fields=("server", "user"),
                condition=Q(server__isnull=False, user__isnull=False),
                name="one_rule_per_server_and_person",
            ),
            models.UniqueConstraint(
                fields=("server", "team"),
                condition=Q(server__isnull=False, team__isnull=False),
                name="one_rule_per_server_and_team",
            ),
            models.UniqueConstraint(
                fields=("group", "user"),
                condition=Q(group__isnull=False, user__isnull=False),
                name="one_rule_per_group_and_person",
            ),
            models.UniqueConstraint(
                fields=("group", "team"),
                condition=Q(group__isnull=False, team__isnull=False),
                name="one_rule_per_group_and_team",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user or self.team} as {self.get_role_display()} of {self.server or self.group}"
