"""Collaborators of a server or a group, as two inlines on its page: those there are, and those to add."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django import forms
from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.forms import Script
from django.forms.models import BaseInlineFormSet
from django.http import HttpRequest

from servers import audit
from servers.admin.base import AuditedAdmin, actor_of
from servers.catalogue.names import names_on
from servers.forms.collaborators import CollaboratorForm
from servers.forms.item_filter import MOST_BOXES, ItemFilterWidget
from servers.items import EVERYTHING, ItemFilter
from servers.models import AccessRule, Hints, Items, Membership, Role, Server, ServerGroup
from servers.people import people_of, person_label, teams_of
from servers.registry import filter_of
from servers.rule_texts import filter_text
from servers.scope import scope_of_request

Holder = Server | ServerGroup
_MOST_NAMES_IN_AN_EVENT: Final = 50
_ROWS_TO_ADD: Final = 2


class PersonField(forms.ModelChoiceField):  # type: ignore[type-arg]
    """A choice of people in which virtual accounts are told apart."""

    def label_from_instance(self, obj: Any) -> str:
        return person_label(obj)


class CollaboratorsFormSet(BaseInlineFormSet):  # type: ignore[type-arg]
    """Rows that offer the names of the catalogue."""

    offered: Sequence[str] = ()
    boxes = True
    """Whether the names are few enough to be listed in each row."""

    def add_fields(self, form: forms.ModelForm[Any], index: int | None) -> None:
        super().add_fields(form, index)
        widget = form.fields["opens"].widget
        assert isinstance(widget, ItemFilterWidget)  # noqa: S101
        widget.offered, widget.boxes = self.offered, self.boxes


class NewCollaboratorsFormSet(CollaboratorsFormSet):
    """Refuses people of other tenants and people who are collaborators already."""

    def clean(self) -> None:
        super().clean()
        holder: Holder = self.instance
        if holder.tenant_id is None:
            return
        present = AccessRule.objects.filter(**{self.fk.name: holder}) if holder.pk else AccessRule.objects.none()
        people = set(present.values_list("user_id", flat=True))
        teams = set(present.values_list("team_id", flat=True))
        for form in self.forms:
            cleaned = getattr(form, "cleaned_data", None) or {}
            user, team = cleaned.get("user"), cleaned.get("team")
            if user is not None:
                if user.pk in people:
                    form.add_error("user", "Is a collaborator already: change the role in the list above.")
                elif not Membership.objects.filter(user=user, tenant=holder.tenant_id).exists():
                    form.add_error("user", "Does not belong to this tenant, so the rule would open nothing.")
                people.add(user.pk)
            if team is not None:
                if team.pk in teams:
                    form.add_error("team", "Is a collaborator already: change the role in the list above.")
                teams.add(team.pk)


class _CollaboratorInline(admin.TabularInline):  # type: ignore[type-arg]
    model = AccessRule
    form = CollaboratorForm
    formset = CollaboratorsFormSet

    class Media:
        js = (Script("gatehouse/admin/collaborators.js", type="module"),)

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        found: Any = super().get_formset(request, obj, **kwargs)
        if obj is not None:
            found.offered = names_on(obj)
            found.boxes = len(found.offered) * (obj.access_rules.count() + _ROWS_TO_ADD) <= MOST_BOXES
        return found

    def _manages(self, request: HttpRequest, holder: Any) -> bool:
        scope = scope_of_request(request)
        if holder is None:
            return scope.may_enter
        return scope.manages_server(holder) if isinstance(holder, Server) else scope.manages_group(holder)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._manages(request, obj)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._manages(request, obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._manages(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._manages(request, obj)


class CollaboratorInline(_CollaboratorInline):
    """The collaborators there are: role and end can be changed, a row removed."""

    fields = ("who", "role", "opens", "expires_at")
    readonly_fields = ("who",)
    extra = 0
    max_num = 0
    verbose_name_plural = "collaborators"
    template = "admin/gatehouse/collaborators.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[AccessRule]:
        return super().get_queryset(request).select_related("user", "team", "server", "group")

    @admin.display(description="person or team")
    def who(self, rule: AccessRule) -> str:
        return person_label(rule.user) if rule.user_id else f"{rule.team} (team)"


class NewCollaboratorInline(_CollaboratorInline):
    """Rows for new collaborators."""

    fields = ("user", "team", "role", "opens", "expires_at")
    template = "admin/gatehouse/new_collaborators.html"
    autocomplete_fields = ("user", "team")
    formset = NewCollaboratorsFormSet
    extra = 1
    verbose_name_plural = "add collaborators"

    def get_queryset(self, request: HttpRequest) -> QuerySet[AccessRule]:
        return super().get_queryset(request).none()

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        scope = scope_of_request(request)
        if db_field.name == "user":
            kwargs["queryset"] = people_of(scope, get_user_model().objects.all())
            kwargs["form_class"] = PersonField
        elif db_field.name == "team":
            kwargs["queryset"] = teams_of(scope, Group.objects.all())
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


class CollaboratorsAdmin(AuditedAdmin):
    """Pages of what has collaborators: they are edited with it, and who creates it becomes its first Manager."""

    inlines = (CollaboratorInline, NewCollaboratorInline)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        super().save_formset(request, form, formset, change)
        before = {one.instance.pk: one.opened_before for one in formset.forms if hasattr(one, "opened_before")}
        for rule in formset.new_objects:
            _record(request, audit.Action.COLLABORATOR_ADD, rule, _change(EVERYTHING, filter_of(rule)))
        for rule, fields in formset.changed_objects:
            detail = _change(before.get(rule.pk, EVERYTHING), filter_of(rule))
            _record(request, audit.Action.COLLABORATOR_CHANGE, rule, {"fields": list(fields), **detail})
        for rule in formset.deleted_objects:
            _record(request, audit.Action.COLLABORATOR_REMOVE, rule)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if not change:
            _make_manager(request, form.instance)

    def what_ends(self, obj: Any) -> dict[str, Any]:
        return {"collaborators": obj.access_rules.count()}


def _change(before: ItemFilter, after: ItemFilter) -> dict[str, Any]:
    """What became of the limits of a rule, for the audit trail."""
    if before == after:
        return {}
    named = {
        word: sorted(names)[:_MOST_NAMES_IN_AN_EVENT]
        for word, names in (("added", after.names - before.names), ("removed", before.names - after.names))
        if names
    }
    return {
        "opened": filter_text(before) or "everything",
        "opens": filter_text(after) or "everything",
        "items": str(after.items),
        "hints": str(after.hints),
        **named,
    }


def _make_manager(request: HttpRequest, holder: Holder) -> None:
    rule, made = holder.access_rules.update_or_create(
        user_id=int(request.user.pk or 0),
        defaults={
            "role": Role.MANAGER,
            "expires_at": None,
            "items": Items.ALL,
            "item_names": [],
            "hints": Hints.ANY,
        },
    )
    if made:
        _record(request, audit.Action.COLLABORATOR_ADD, rule, {"why": "creator"})


def _record(request: HttpRequest, action: audit.Action, rule: AccessRule, detail: dict[str, Any] | None = None) -> None:
    holder = rule.server or rule.group
    audit.record(
        action,
        actor=actor_of(request),
        subject=rule,
        tenant=holder.tenant if holder else None,
        detail={"on": str(holder), "role": str(rule.role), **(detail or {})},
    )
