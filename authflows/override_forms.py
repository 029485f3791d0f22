"""The form in which a manager sets a key for somebody."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminSplitDateTime
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.utils import timezone

from authflows.outbound.overrides import people_who_may_use
from authflows.own_key_forms import OwnKeyForm, ValueField
from servers.admin.collaborators import PersonField
from servers.models import AuthConfig, Server
from servers.own_header import Placeholder


class ServerChoiceForm(forms.Form):
    """Which server to set a key for."""

    server = forms.ModelChoiceField(queryset=Server.objects.none())

    def __init__(self, *args: Any, servers: QuerySet[Server], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["server"].queryset = servers  # type: ignore[attr-defined]


class OverrideForm(OwnKeyForm):
    """The values of one server for somebody who may use it. Over a shared header each one may be left out."""

    person = PersonField(
        queryset=None,
        label="For",
        help_text="Those who may use this server: people and virtual accounts.",
    )
    ends = forms.SplitDateTimeField(
        label="Expires",
        required=False,
        widget=AdminSplitDateTime(),
        help_text="From then on calls are refused until somebody sets another one. Empty: until removed.",
    )
    note = forms.CharField(
        label="Comment",
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={"class": "vTextField"}),
        help_text="Managers and the person see it. No secrets here.",
    )
    for_others = True

    def __init__(self, *args: Any, server: Server, **kwargs: Any) -> None:
        super().__init__(*args, server=server, user=None, **kwargs)
        self.fields["person"].queryset = people_who_may_use(server)  # type: ignore[attr-defined]
        self.order_fields(["person", *(field.name for field in self.value_fields), "ends", "note", "untested"])

    @property
    def _shared(self) -> bool:
        return bool(self.server.auth_config.method == AuthConfig.Method.SHARED_HEADER)

    def value_field(self, placeholder: Placeholder) -> ValueField:
        if not self._shared:
            return ValueField(placeholder, help_text=f"Goes into the header {placeholder.header}.")
        return ValueField(
            placeholder,
            required=False,
            help_text="The whole value as it is sent, a word such as Bearer included. Empty: the shared value.",
        )

    def clean_ends(self) -> datetime | None:
        ends: datetime | None = self.cleaned_data["ends"]
        if ends is not None and ends <= timezone.now():
            raise ValidationError("Choose a time in the future.")
        return ends

    def clean(self) -> dict[str, Any]:
        self.user = self.cleaned_data.get("person")
        if not self.errors and not self.values():
            raise ValidationError("Enter at least one value, or nothing would differ from the shared ones.")
        return self.cleaned_data

    def expires_at(self) -> datetime | None:
        return self.cleaned_data["ends"]  # type: ignore[no-any-return]

    def comment(self) -> str:
        return str(self.cleaned_data["note"])
