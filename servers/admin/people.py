"""People and teams: Django's own pages, for superusers, with an audit event for every change."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Count, QuerySet
from django.http import HttpRequest, HttpResponse

from servers import audit
from servers.admin.base import AuditedAdmin
from servers.people import VIRTUAL_PREFIX

User = get_user_model()
_EVENTS = ("create", "change", "delete")


class PersonAdmin(AuditedAdmin, UserAdmin):  # type: ignore[type-arg]
    """People. Virtual accounts have pages of their own."""

    actions_by_event = dict.fromkeys(_EVENTS, audit.Action.PERSON_CHANGE)
    list_display = ("username", "email", "first_name", "last_name", "is_active", "is_superuser", "last_login")
    list_filter = ("is_active", "is_superuser", "groups")
    filter_horizontal = ("groups",)
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        (
            "Rights",
            {
                "fields": ("is_active", "is_superuser", "groups"),
                "description": "A superuser administers everything. Others get their rights as tenant admin, or as "
                "collaborator of a server or group, themselves or through a team.",
            },
        ),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    readonly_fields = ("last_login", "date_joined")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).exclude(username__startswith=VIRTUAL_PREFIX)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is not None and obj.pk == request.user.pk:
            return False  # nobody locks themselves out by a slip
        return super().has_delete_permission(request, obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        # Rules, keys and memberships go with the person, whoever may delete those on their own.
        listed, counts, _, protected = super().get_deleted_objects(objs, request)
        return listed, counts, set(), protected

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        super().delete_queryset(request, queryset.exclude(pk=request.user.pk))

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        with transaction.atomic():
            return super().user_change_password(request, id, form_url)

    def record(self, request: HttpRequest, event: str, obj: Any, detail: dict[str, Any] | None = None) -> None:
        super().record(request, event, obj, {"event": event, **(detail or {})})


class TeamAdmin(AuditedAdmin, GroupAdmin):
    """Teams are Django groups: their members may be collaborators together."""

    actions_by_event = dict.fromkeys(_EVENTS, audit.Action.TEAM_CHANGE)
    fields = ("name",)
    list_display = ("name", "members")
    search_fields = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        found: QuerySet[Group] = super().get_queryset(request)
        return found.annotate(member_total=Count("user"))

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        return super().changelist_view(request, {"title": "Teams", **(extra_context or {})})

    @admin.display(description="members", ordering="member_total")
    def members(self, team: Group) -> int:
        return int(getattr(team, "member_total", 0))

    def record(self, request: HttpRequest, event: str, obj: Any, detail: dict[str, Any] | None = None) -> None:
        super().record(request, event, obj, {"event": event, **(detail or {})})


for model, page in ((User, PersonAdmin), (Group, TeamAdmin)):
    if admin.site.is_registered(model):
        admin.site.unregister(model)
    admin.site.register(model, page)
