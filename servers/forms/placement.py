"""Where a server stands: its tenant, and the group through which somebody may manage it."""

from __future__ import annotations

from typing import Any

from django import forms

from servers.forms.base import TenantScopedForm
from servers.models import ServerGroup, Tenant


class PlacedForm(TenantScopedForm):
    """The form of a server of any kind; who manages servers through a group adds them to that group."""

    def tenant_choices(self) -> Any:
        return self.scope.tenants_for_new_servers()

    def limit_groups(self) -> None:
        """Offer the groups that the person manages, in the server's tenant."""
        field = self.fields.get("group")
        if not isinstance(field, forms.ModelChoiceField):
            return
        groups = self.scope.visible_groups().select_related("tenant")
        current = self.instance.group if self.instance.group_id else None
        if self.instance.tenant_id is not None:
            groups = groups.filter(tenant=self.instance.tenant_id)
        if current is not None and not self.scope.manages_group(current):
            # Taking it out would end the rights of the group's collaborators, who are not this person's.
            groups = ServerGroup.objects.filter(pk=current.pk)
            field.disabled = True
        field.queryset = groups
        if self._needs_group():
            field.required = True
            field.empty_label = None
            field.help_text = "You manage servers through their group, so a server needs one of yours."

    def _needs_group(self) -> bool:
        server = self.instance
        if server.tenant_id is not None and self.scope.administers(server.tenant_id):
            return False
        if server._state.adding:
            return not (self.scope.superuser or self.scope.tenants)
        return server.pk not in self.scope.servers

    def clean_place(self) -> Tenant | None:
        """Note what is wrong with tenant and group; returns the tenant."""
        tenant, group = self.chosen_tenant(), self.cleaned_data.get("group")
        if tenant is None and "tenant" not in self.fields:
            self.add_error(None, "Choose a tenant first.")
        if group is not None and tenant is not None and group.tenant_id != tenant.pk:
            self.add_error("group", "This group belongs to another tenant.")
        if group is None and tenant is not None and "group" in self.fields and "group" not in self.errors:
            allowed = self.scope.administers(tenant.pk) or self.instance.pk in self.scope.servers
            if not allowed:
                self.add_error("group", "Choose a group that you manage.")
        return tenant
