"""The forms of virtual servers: what they are, in which order their members stand, what one member shows (F-605)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError

from servers.endpoints import origin_of
from servers.forms.placement import PlacedForm
from servers.forms.shared_header import Stored, choose_header
from servers.header_auth import HeaderChoice, describe_headers
from servers.header_fields import HeaderRowsField
from servers.items import ItemKind
from servers.models import AuthConfig, Server
from servers.models.virtual import VirtualMember
from servers.scope import Scope
from servers.virtual import saving
from servers.virtual.actors import Actor
from servers.virtual.facts import Selection
from servers.virtual.wanted import KIND_OF_SHOW, Wanted

Show = VirtualMember.Show


class ServersField(forms.ModelMultipleChoiceField):  # type: ignore[type-arg]
    """A choice of servers, told apart by their slugs."""

    widget = forms.CheckboxSelectMultiple

    def label_from_instance(self, obj: Any) -> str:
        off = "" if obj.enabled else ", switched off"
        return f"{obj.name} ({obj.slug}{off})"


class VirtualServerForm(PlacedForm):
    """Add or change a virtual server. Its members are chosen when it is made, and arranged on a page of their own."""

    actor: ClassVar[Actor]

    members = ServersField(
        queryset=Server.objects.none(),
        help_text="The servers whose tools, prompts and resources stand under the one URL. What each of them shows, "
        "and under which names, is chosen on the next page.",
        error_messages={"required": "A virtual server needs at least one member."},
    )

    class Meta:
        model = Server
        fields = ("tenant", "group", "name", "slug", "description", "enabled", "requestable", "list_unconnected")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["list_unconnected"].help_text = (
            "People see the tools of members that they have not connected yet; a call says which link to open. "
            "Unticked: such members are hidden until they are connected."
        )
        if self.instance._state.adding:
            self.instance.kind = Server.Kind.VIRTUAL
            usable = [id_ for tenant in self.tenant_choices() for id_ in self.actor.usable(tenant.pk)]
            members: Any = self.fields["members"]
            members.queryset = Server.objects.filter(pk__in=usable).order_by("name", "slug")
        else:
            del self.fields["members"]
        self.limit_groups()

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        tenant = self.clean_place()
        elsewhere = [
            one.name for one in cleaned.get("members", ()) if tenant is not None and one.tenant_id != tenant.pk
        ]
        if elsewhere:
            self.add_error("members", f"Of another tenant: {', '.join(elsewhere)}.")
        return cleaned

    def save_members(self, virtual: Server) -> None:
        """Write what a new virtual server needs besides its row."""
        AuthConfig.objects.get_or_create(server=virtual)
        if "members" in self.fields:
            saving.save(virtual, [Wanted(one.pk) for one in self.cleaned_data["members"]], actor=self.actor)


class MemberForm(forms.Form):
    """What one member shows as a whole, and the credential that all callers share."""

    tools = forms.ChoiceField(choices=Show.choices, widget=forms.RadioSelect)
    prompts = forms.ChoiceField(choices=Show.choices, widget=forms.RadioSelect)
    resources = forms.ChoiceField(choices=Show.choices, widget=forms.RadioSelect, label="Resources and templates")
    headers = HeaderRowsField(
        label="Headers",
        required=False,
        help_text="Write-only values, or references such as secret://tenant:group:key. Empty: the member’s own way.",
    )

    def __init__(self, *args: Any, member: VirtualMember, scope: Scope, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial = {name: getattr(member, name) for name in ("tools", "prompts", "resources")}
        self.member, self.scope = member, scope
        widget: Any = self.fields["headers"].widget
        widget.stored = describe_headers(member.header_templates(), member.virtual.tenant)

    @property
    def moved(self) -> bool:
        """Whether the member is on another host than when its credential was entered."""
        member = self.member
        return bool(member.credential) and member.credential_origin != origin_of(member.server.url)

    def clean_headers(self) -> tuple[HeaderChoice, ...] | None:
        """What the credential shall be; None: as it is."""
        if not self.fields["headers"].has_changed(None, rows := self.cleaned_data["headers"]) and not self._removed():
            return None
        templates = {name.lower(): value for name, value in self.member.header_templates()}
        stored = Stored(templates, moved=self.moved)
        choices, problems = [], []
        for row in rows:
            try:
                choices.append(choose_header(row, stored, tenant=self.member.virtual.tenant, scope=self.scope))
            except ValidationError as error:
                problems.append(error)
        if problems:
            raise ValidationError(problems)
        return tuple(choices)

    def _removed(self) -> bool:
        return len(self.cleaned_data["headers"]) != len(self.member.header_templates())

    def wanted(self, now: Wanted, shown: dict[ItemKind, list[str]]) -> Wanted:
        """The member with this change. `shown`: keys of what it shows now, by kind.

        Where everything was shown and only the chosen shall be, what is shown now is chosen; the other way round,
        everything is shown, and names and descriptions stay.
        """
        changed = replace(now, headers=self.cleaned_data["headers"])
        selections = dict(now.selections)
        for kind, name in KIND_OF_SHOW.items():
            show = self.cleaned_data[name]
            if show == getattr(now, name):
                continue
            changed = replace(changed, **{name: show})
            for key, one in now.selections.items():
                if key[0] == kind:
                    selections[key] = replace(one, chosen=one.chosen if show == Show.CHOSEN else True)
            if show == Show.CHOSEN:
                for item in shown.get(kind, ()):
                    selections.setdefault((kind, item), Selection())
        return replace(changed, selections=selections)
