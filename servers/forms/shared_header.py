"""The fields of Header Auth shared by all callers: rows of a name and a write-only value (F-302)."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError

from servers.errors import SecretUnavailable
from servers.forms.base import TenantScopedForm
from servers.forms.method_fields import Method, mark
from servers.header_auth import HeaderChoice, describe_headers, is_reference, store_headers, stored_references
from servers.header_fields import HeaderRow, HeaderRowsField
from servers.models import AuthConfig, Server, Tenant
from servers.secrets.references import Reference, references_in
from servers.secrets.resolver import fill, resolve

ORIGIN_CHANGED = (
    "The endpoint's host changed. Enter the value of %(name)s again: a stored secret is sent only to the host it "
    "was entered for."
)
REFERENCE_NEEDS_ADMIN = (
    "%(name)s: only a tenant admin may use this reference. Enter the value itself, or ask a tenant admin."
)


class SharedHeaderFields(TenantScopedForm):
    """Mixed into the form of a server."""

    headers = mark(
        HeaderRowsField(
            label="Headers",
            required=False,
            help_text="Sent with every call. A value is write-only; leave it empty to keep what is set. It may be a "
            "reference, alone or inside text: secret://tenant:group:key, env://NAME, file:///path, Bearer secret://…",
        ),
        Method.SHARED_HEADER,
    )

    def start_shared_header(self, config: AuthConfig | None) -> None:
        """What is saved, as the page may show it."""
        self.stored_templates: dict[str, str] = {}
        self.header_choices: list[HeaderChoice] = []
        if config is not None and config.method == Method.SHARED_HEADER and "headers" in self.fields:
            self.stored_templates = {name.lower(): value for name, value in config.header_templates()}
            stored = describe_headers(config.header_templates(), self.instance.tenant)
            widget: Any = self.fields["headers"].widget
            widget.stored = stored

    def clean_shared_header(self, tenant: Tenant, *, moved: bool, may_move: bool) -> None:
        """Choose what each header shall be. `moved`: the endpoint is on another host than before."""
        rows: list[HeaderRow] = self.cleaned_data["headers"]
        if not rows:
            self.add_error("headers", "Header Auth needs at least one header with a value.")
        for row in rows:
            try:
                choice = self._choose_header(row, tenant, moved, may_move)
            except ValidationError as error:
                self.add_error("headers", error)
            else:
                self.header_choices.append(choice)

    def _choose_header(self, row: HeaderRow, tenant: Tenant, moved: bool, may_move: bool) -> HeaderChoice:
        if not row.value:
            kept = self.stored_templates.get(row.stored.lower())
            if kept is None:
                raise ValidationError("%(name)s: enter a value or a reference.", params={"name": row.name})
            if moved and not may_move:
                raise ValidationError(ORIGIN_CHANGED, code="origin", params={"name": row.name})
            return HeaderChoice(row.name, template=kept)
        if not is_reference(row.value):
            return HeaderChoice(row.name, plain=row.value)
        for reference in references_in(row.value):
            if not self._may_use(reference, row, tenant, moved):
                raise ValidationError(REFERENCE_NEEDS_ADMIN, code="reference", params={"name": row.name})
            try:
                resolve(reference, tenant)
            except SecretUnavailable as error:
                raise ValidationError(
                    "%(name)s: %(why)s", params={"name": row.name, "why": error.public_message}
                ) from error
        return HeaderChoice(row.name, template=row.value)

    def _may_use(self, reference: Reference, row: HeaderRow, tenant: Tenant, moved: bool) -> bool:
        # A manager of one server could otherwise send any secret of the tenant to a host of their choice.
        if self.scope.administers(tenant.pk):
            return True
        known = {str(r) for template in self.stored_templates.values() for r in stored_references(template)}
        return not moved and str(reference) in known

    def credential_headers(self) -> list[tuple[str, str]]:
        """The headers that the form's values amount to, references filled in; raises SecretUnavailable."""
        tenant = self.chosen_tenant()
        if tenant is None or self.cleaned_data.get("method") != Method.SHARED_HEADER:
            return []
        return [(c.name, c.plain or fill(c.template, tenant)) for c in self.header_choices]

    def store_shared_header(self, server: Server, config: AuthConfig, *, actor: str) -> None:
        """Put the choices into `config` (unsaved), plain values into the store."""
        store_headers(server, config, self.header_choices, actor=actor)
