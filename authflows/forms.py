"""Forms of virtual accounts and their keys."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib.admin.widgets import AdminSplitDateTime
from django.core.exceptions import ValidationError
from django.utils import timezone

from authflows.models import VirtualAccount
from servers.forms import TenantScopedForm
from servers.models import Server, Tenant


class VirtualAccountForm(TenantScopedForm):
    """Add or change a virtual account; its name stays what it is once made."""

    class Meta:
        model = VirtualAccount
        fields = ("tenant", "name", "description", "enabled")


class AccountKeyForm(forms.Form):
    """A new key of a virtual account."""

    tenant: ClassVar[Tenant]

    name = forms.CharField(max_length=100, help_text="Where the key is used, for example: nightly build.")
    expires_at = forms.SplitDateTimeField(
        label="Expires", required=False, widget=AdminSplitDateTime(), help_text="Empty: until revoked."
    )
    servers = forms.ModelMultipleChoiceField(
        queryset=Server.objects.none(),
        required=False,
        help_text="Choose servers to limit the key to them. None: every server that the account may use.",
    )

    def __init__(self, *args: Any, tenant: Tenant, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["servers"]
        assert isinstance(field, forms.ModelMultipleChoiceField)  # noqa: S101  (declared above)
        field.queryset = Server.objects.filter(tenant=tenant)

    def clean_expires_at(self) -> Any:
        expires = self.cleaned_data["expires_at"]
        if expires is not None and expires <= timezone.now():
            raise ValidationError("Choose a time in the future.")
        return expires
