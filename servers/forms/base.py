"""What the forms of servers, groups and secrets share."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms

from servers.models import ServerGroup, StoredSecret, Tenant
from servers.scope import NOTHING, Scope


class TenantScopedForm(forms.ModelForm):  # type: ignore[type-arg]
    """A form whose tenant is chosen, fixed by the row, or the only one there is."""

    scope: ClassVar[Scope] = NOTHING

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = self.tenant_choices()
        if "tenant" in self.fields:
            field = self.fields["tenant"]
            assert isinstance(field, forms.ModelChoiceField)  # noqa: S101  (a foreign key's field)
            field.queryset = choices
            field.initial = field.initial or choices.first()
        elif self.instance.tenant_id is None:
            found = list(choices[:2])
            if len(found) == 1:
                self.instance.tenant = found[0]

    def tenant_choices(self) -> Any:
        """The tenants that a new row may go to."""
        return self.scope.administered_tenants()

    def chosen_tenant(self) -> Tenant | None:
        """The tenant of the row as the form now says."""
        chosen = self.cleaned_data.get("tenant")
        if isinstance(chosen, Tenant):
            return chosen
        return self.instance.tenant if self.instance.tenant_id else None

    def _get_validation_exclusions(self) -> set[str]:
        # So that "slug unique in the tenant" is checked although the tenant is not a field.
        excluded: set[str] = super()._get_validation_exclusions()  # type: ignore[misc]
        return excluded - {"tenant"}


class GroupForm(TenantScopedForm):
    """Add or change an MCP server group."""

    class Meta:
        model = ServerGroup
        fields = ("tenant", "name", "slug", "description")


class SecretForm(TenantScopedForm):
    """Add a secret or replace its value. The value goes in and never comes out."""

    value = forms.CharField(
        strip=False,
        max_length=65536,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "class": "vTextField"}),
        help_text="Write-only: it can be replaced, not read.",
    )

    class Meta:
        model = StoredSecret
        fields = ("tenant", "group", "key")
