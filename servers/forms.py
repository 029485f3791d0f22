"""The forms of servers, groups, collaborators and secrets. Rules only; the admin and the proxy's pages use them."""

from __future__ import annotations

import json
import ssl
from typing import Any, ClassVar

from cryptography.x509 import load_pem_x509_certificates
from django import forms
from django.core.exceptions import ValidationError
from django.utils.crypto import salted_hmac

from servers.destinations import AddressCheck, check_address
from servers.egress import parse_destination, tls_context
from servers.errors import DestinationRefused, SecretUnavailable
from servers.header_auth import (
    HeaderChoice,
    describe_headers,
    is_reference,
    same_origin,
    store_headers,
    stored_references,
)
from servers.header_fields import HeaderLinesField, HeaderNamesField, HeaderRow, HeaderRowsField
from servers.models import AuthConfig, Server, ServerGroup, StoredSecret, Tenant
from servers.scope import NOTHING, Scope
from servers.secrets.references import Reference, references_in
from servers.secrets.resolver import fill, resolve

# Those that this form has fields for.
OFFERED_METHODS = (AuthConfig.Method.NONE, AuthConfig.Method.SHARED_HEADER)
NO_AUTH_WARNING = "With No Auth anyone who reaches the endpoint reads what it serves: not for production data."
ORIGIN_CHANGED = (
    "The endpoint's host changed. Enter the value of %(name)s again: a stored secret is sent only to the host it "
    "was entered for."
)
REFERENCE_NEEDS_ADMIN = (
    "%(name)s: only a tenant admin may use this reference. Enter the value itself, or ask a tenant admin."
)


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


class ServerForm(TenantScopedForm):
    """Add or change an MCP server, its authentication included.

    `address_check` is made by the caller before the transaction begins: asking the DNS takes time.
    """

    address_check: ClassVar[AddressCheck | None] = None
    check_address_now: ClassVar[bool] = True

    url = forms.CharField(
        label="Endpoint URL",
        max_length=2000,
        widget=forms.URLInput(attrs={"class": "vURLField", "placeholder": "https://…/mcp"}),
        help_text="The server's streamable HTTP endpoint; it often ends in /mcp.",
    )
    allow_private = forms.BooleanField(
        label="Allow this private address",
        required=False,
        help_text="Tick when the endpoint is in your own network: lets the gateway call exactly this host and port.",
    )
    method = forms.ChoiceField(
        label="Authentication type",
        choices=[(method.value, method.label) for method in OFFERED_METHODS],
        help_text="How the gateway proves itself to the server.",
    )
    headers = HeaderRowsField(
        label="Headers",
        required=False,
        help_text="Sent with every call. A value is write-only; leave it empty to keep what is set. It may be a "
        "reference, alone or inside text: secret://tenant:group:key, env://NAME, file:///path, Bearer secret://…",
    )
    static_headers = HeaderLinesField(
        label="Extra headers",
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField gh-code", "spellcheck": "false"}),
        help_text="One Name: value a line, sent with every call. Every manager can read them: no secrets here.",
    )
    allowed_request_headers = HeaderNamesField(
        label="Client headers to pass on",
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField gh-code", "spellcheck": "false"}),
        help_text="One name a line. All other headers of the caller are dropped.",
    )

    class Meta:
        model = Server
        fields = (
            "tenant", "group", "name", "slug", "description", "url", "enabled", "connect_timeout",
            "response_timeout", "ca_certificate", "static_headers", "allowed_request_headers", "max_request_bytes",
        )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stored_templates: dict[str, str] = {}
        self.header_choices: list[HeaderChoice] = []
        saved = not self.instance._state.adding
        config = AuthConfig.objects.filter(server=self.instance).first() if saved else None
        if config is not None and "headers" in self.fields:
            self.initial.setdefault("method", config.method)
            self.stored_templates = {name.lower(): value for name, value in config.header_templates()}
            stored = describe_headers(config.header_templates(), self.instance.tenant)
            self.fields["headers"].widget.stored = stored
        if not self.scope.superuser:
            self.fields.pop("allow_private", None)
        self._limit_groups()

    def tenant_choices(self) -> Any:
        return self.scope.tenants_for_new_servers()

    def _limit_groups(self) -> None:
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

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"].strip()
        try:
            parse_destination(url)
        except DestinationRefused as error:
            raise ValidationError(error.public_message, code="address") from error
        return url

    def clean_ca_certificate(self) -> str:
        text: str = self.cleaned_data["ca_certificate"].strip()
        if not text:
            return ""
        if "PRIVATE KEY" in text:
            raise ValidationError("This holds a private key. Paste only certificates, and replace that key.")
        try:
            load_pem_x509_certificates(text.encode())
            tls_context(text)
        except (ValueError, ssl.SSLError) as error:
            raise ValidationError(
                "This is not a PEM certificate. Paste the text from -----BEGIN CERTIFICATE----- to the end line."
            ) from error
        return text

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        tenant, group = self.chosen_tenant(), cleaned.get("group")
        if tenant is None and "tenant" not in self.fields:
            self.add_error(None, "Choose a tenant first.")
        if group is not None and tenant is not None and group.tenant_id != tenant.pk:
            self.add_error("group", "This group belongs to another tenant.")
        if group is None and tenant is not None and "group" in self.fields and "group" not in self.errors:
            allowed = self.scope.administers(tenant.pk) or self.instance.pk in self.scope.servers
            if not allowed:
                self.add_error("group", "Choose a group that you manage.")
        if self.check_address_now and "url" in cleaned:
            self._check_address(cleaned["url"])
        if cleaned.get("method") == AuthConfig.Method.SHARED_HEADER and tenant and "headers" in cleaned:
            self._choose_headers(cleaned["headers"], tenant)
        return cleaned

    def _check_address(self, url: str) -> None:
        if not self.instance._state.adding and url == self.initial.get("url"):
            return
        made = self.address_check
        check = made if made is not None and made.url == url else check_address(url)
        if check.problem is None or (check.is_private and self.cleaned_data.get("allow_private")):
            return
        text = check.problem.public_message
        if check.is_private and check.destination is not None:
            place = f"{check.destination.host}:{check.destination.port}"
            text = f"{place} is a private address, which the gateway does not call unless an admin allows it. "
            text += (
                "Tick “Allow this private address” below to allow exactly this host and port."
                if self.scope.superuser
                else f"Ask an admin to add {place} under Allowed private destinations."
            )
        self.add_error("url", ValidationError(text, code="private" if check.is_private else "address"))

    def _choose_headers(self, rows: list[HeaderRow], tenant: Tenant) -> None:
        if not rows:
            self.add_error("headers", "Header Auth needs at least one header with a value.")
        moved = not self.instance._state.adding and not same_origin(
            self.initial.get("url", ""), self.cleaned_data.get("url", "")
        )
        for row in rows:
            try:
                choice = self._choose_header(row, tenant, moved)
            except ValidationError as error:
                self.add_error("headers", error)
            else:
                self.header_choices.append(choice)

    def _choose_header(self, row: HeaderRow, tenant: Tenant, moved: bool) -> HeaderChoice:
        if not row.value:
            kept = self.stored_templates.get(row.stored.lower())
            if kept is None:
                raise ValidationError("%(name)s: enter a value or a reference.", params={"name": row.name})
            if moved and not self.may_keep_secrets_elsewhere(tenant):
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

    def may_keep_secrets_elsewhere(self, tenant: Tenant) -> bool:
        """Whether a stored secret may follow the endpoint to another host."""
        return self.scope.administers(tenant.pk)

    def credential_headers(self) -> list[tuple[str, str]]:
        """The headers that the form's values amount to, references filled in; raises SecretUnavailable."""
        tenant = self.chosen_tenant()
        if tenant is None or self.cleaned_data.get("method") != AuthConfig.Method.SHARED_HEADER:
            return []
        return [(c.name, c.plain or fill(c.template, tenant)) for c in self.header_choices]

    def connection_digest(self) -> str:
        """Stands for all that a test of the connection depends on, secrets included; raises SecretUnavailable."""
        values = [
            self.cleaned_data.get("url"),
            self.cleaned_data.get("method"),
            self.credential_headers(),
            self.cleaned_data.get("ca_certificate", ""),
            sorted(self.cleaned_data.get("static_headers", {}).items()),
        ]
        # Keyed, because it goes to a browser: a plain digest would let somebody guess the secret in it.
        return salted_hmac("gatehouse.connection", json.dumps(values), algorithm="sha256").hexdigest()

    def save_authentication(self, server: Server, *, actor: str) -> None:
        """Write the authentication of a saved server: method and headers, plain values into the store."""
        # Locked before a stored secret's audit event locks the end of the chain, as everywhere.
        rows = AuthConfig.objects.select_for_update()
        config = rows.filter(server=server).first() or AuthConfig(server=server)
        config.method = AuthConfig.Method(self.cleaned_data["method"])
        if config.method == AuthConfig.Method.SHARED_HEADER:
            store_headers(server, config, self.header_choices, actor=actor)
        else:
            config.settings = {}
        config.save()


class ServerTestForm(ServerForm):
    """The same values for a test of the connection: nothing is saved, and no stored secret goes elsewhere."""

    check_address_now = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The page has no such field where the tenant is fixed or the only one.
        field = self.fields.get("tenant")
        if isinstance(field, forms.ModelChoiceField) and "tenant" not in self.data:
            choices = list(field.queryset[:2]) if field.queryset is not None else []
            if self.instance.tenant_id is None and len(choices) == 1:
                self.instance.tenant = choices[0]
            if self.instance.tenant_id is not None:
                del self.fields["tenant"]

    def may_keep_secrets_elsewhere(self, tenant: Tenant) -> bool:
        return False


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
