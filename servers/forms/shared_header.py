"""The fields of Header Auth shared by all callers: rows of a name and a write-only value (F-302)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import ValidationError

from servers.errors import SecretUnavailable
from servers.forms.base import TenantScopedForm
from servers.forms.method_fields import Method, mark
from servers.header_auth import HeaderChoice, describe_headers, is_reference, store_headers, stored_references
from servers.header_fields import HeaderRow, HeaderRowsField
from servers.models import AuthConfig, Server, Tenant
from servers.scope import Scope
from servers.secrets.references import Reference, references_in
from servers.secrets.resolver import fill, resolve

ORIGIN_CHANGED = (
    "The endpoint's host changed. Enter the value of %(name)s again: a stored secret is sent only to the host it "
    "was entered for."
)
REFERENCE_NEEDS_ADMIN = (
    "%(name)s: only a tenant admin may use this reference. Enter the value itself, or ask a tenant admin."
)


@dataclass(frozen=True, slots=True)
class Stored:
    """What is saved already: templates by lower-case name. `moved`: the endpoint is on another host than then."""

    templates: Mapping[str, str]
    moved: bool = False
    may_move: bool = False


def choose_header(row: HeaderRow, stored: Stored, *, tenant: Tenant, scope: Scope) -> HeaderChoice:
    """What was typed, or what is kept where nothing was; raises ValidationError, whose text never holds the value."""
    if not row.value:
        kept = stored.templates.get(row.stored.lower())
        if kept is None:
            raise ValidationError("%(name)s: enter a value or a reference.", params={"name": row.name})
        if stored.moved and not stored.may_move:
            raise ValidationError(ORIGIN_CHANGED, code="origin", params={"name": row.name})
        return HeaderChoice(row.name, template=kept)
    if not is_reference(row.value):
        return HeaderChoice(row.name, plain=row.value)
    for reference in references_in(row.value):
        if not _may_use(reference, stored, tenant, scope):
            raise ValidationError(REFERENCE_NEEDS_ADMIN, code="reference", params={"name": row.name})
        try:
            resolve(reference, tenant)
        except SecretUnavailable as error:
            raise ValidationError(
                "%(name)s: %(why)s", params={"name": row.name, "why": error.public_message}
            ) from error
    return HeaderChoice(row.name, template=row.value)


def _may_use(reference: Reference, stored: Stored, tenant: Tenant, scope: Scope) -> bool:
    # A manager of one server could otherwise send any secret of the tenant to a host of their choice.
    if scope.administers(tenant.pk):
        return True
    known = {str(r) for template in stored.templates.values() for r in stored_references(template)}
    return not stored.moved and str(reference) in known


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
        stored = Stored(self.stored_templates, moved=moved, may_move=may_move)
        for row in rows:
            try:
                choice = choose_header(row, stored, tenant=tenant, scope=self.scope)
            except ValidationError as error:
                self.add_error("headers", error)
            else:
                self.header_choices.append(choice)

    def credential_headers(self) -> list[tuple[str, str]]:
        """The headers that the form's values amount to, references filled in; raises SecretUnavailable."""
        tenant = self.chosen_tenant()
        if tenant is None or self.cleaned_data.get("method") != Method.SHARED_HEADER:
            return []
        return [(c.name, c.plain or fill(c.template, tenant)) for c in self.header_choices]

    def store_shared_header(self, server: Server, config: AuthConfig, *, actor: str) -> None:
        """Put the choices into `config` (unsaved), plain values into the store."""
        store_headers(server, config, self.header_choices, actor=actor)
