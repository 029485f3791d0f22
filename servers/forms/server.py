"""The forms of servers, groups, collaborators and secrets. Rules only; the admin and the proxy's pages use them."""

from __future__ import annotations

import json
import ssl
from typing import Any, ClassVar

from cryptography.x509 import load_pem_x509_certificates
from django import forms
from django.core.exceptions import ValidationError
from django.utils.crypto import salted_hmac
from django.utils.functional import cached_property

from servers.credential_endings import Ending, Reason, end, would_end
from servers.destinations import AddressCheck, check_address
from servers.egress import parse_destination, tls_context
from servers.errors import DestinationRefused
from servers.forms.method_fields import Method, methods_of, wide
from servers.forms.oauth import OAuthFields, oauth_reasons
from servers.forms.other_methods import OwnHeaderFields, PassthroughFields
from servers.forms.placement import PlacedForm
from servers.forms.shared_header import SharedHeaderFields
from servers.header_auth import same_origin
from servers.header_fields import HeaderLinesField, HeaderNamesField
from servers.models import AuthConfig, Server, Tenant
from servers.oauth_settings import OAuthSettings
from servers.virtual.losses import losses_of, withheld_after_move

NO_AUTH_WARNING = "With No Auth anyone who reaches the endpoint reads what it serves: not for production data."
CONFIRM_ENDING = "This ends credentials of other people, listed below. Type %(slug)s to confirm."
CONFIRM_LOSS = "Virtual servers lose something with this change, as listed below. Type %(slug)s to confirm."
# Not part of what is set.
_UNSEEN = frozenset({"confirm_ending", "passthrough_for", "discovered"})


class ServerForm(SharedHeaderFields, OwnHeaderFields, OAuthFields, PassthroughFields, PlacedForm):
    """Add or change an MCP server, its authentication included.

    `address_check` is made by the caller before the transaction begins: asking the DNS takes time.
    """

    address_check: ClassVar[AddressCheck | None] = None
    check_address_now: ClassVar[bool] = True
    person_id: ClassVar[Any] = None
    """Who uses the form: what they end of their own is not asked about."""

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
        choices=AuthConfig.Method.choices,
        help_text="How the gateway proves itself to the server.",
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

    confirm_ending = forms.CharField(
        label="Slug of this server",
        required=False,
        widget=wide(),
        help_text="The change ends what these people have set up. They are asked to connect or to enter a key again.",
    )

    class Meta:
        model = Server
        fields = (
            "tenant", "group", "name", "slug", "description", "url", "enabled", "requestable", "connect_timeout",
            "response_timeout", "ca_certificate", "static_headers", "allowed_request_headers", "max_request_bytes",
            "path",
        )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        saved = not self.instance._state.adding
        config = self.stored_config = AuthConfig.objects.filter(server=self.instance).first() if saved else None
        self.endings: list[Ending] = []
        self.losses: list[str] = []
        self.ending_reasons: frozenset[Reason] = frozenset()
        self.initial.setdefault("method", config.method if config is not None else Method.NONE)
        self.fields["path"].required = False
        self.start_shared_header(config)
        self.start_own_header(config)
        self.start_oauth(config)
        self.start_passthrough(config)
        if not self.scope.superuser:
            self.fields.pop("allow_private", None)
        self.limit_groups()

    @cached_property
    def changed_data(self) -> list[str]:
        """The changed fields, without those that belong to another authentication type than the chosen one."""
        method = self.data.get(self.add_prefix("method"), "")
        found = super().changed_data
        return [
            name
            for name in found
            if name not in _UNSEEN
            and (name != "path" or self.add_prefix(name) in self.data)
            and (not methods_of(self.fields[name]) or method in methods_of(self.fields[name]))
        ]

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"].strip()
        try:
            parse_destination(url)
        except DestinationRefused as error:
            raise ValidationError(error.public_message, code="address") from error
        return url

    def clean_path(self) -> str:
        """What is not sent stays as it is."""
        return str(self.cleaned_data["path"] or self.instance.path)

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
        tenant = self.clean_place()
        if self.check_address_now and "url" in cleaned:
            self._check_address(cleaned["url"])
        if tenant is not None and "method" in cleaned:
            self._clean_method(cleaned["method"], tenant)
            self._ask_about_endings()
        return cleaned

    def _clean_method(self, method: str, tenant: Tenant) -> None:
        """Check the fields of the chosen authentication type; those of the others are not looked at."""
        for name, field in self.fields.items():
            belongs = methods_of(field)
            if belongs and method not in belongs:
                self.errors.pop(name, None)
        moved = not self.instance._state.adding and not same_origin(
            self.initial.get("url", ""), self.cleaned_data.get("url", "")
        )
        may_move = self.may_keep_secrets_elsewhere(tenant)
        if method == Method.SHARED_HEADER and "headers" in self.cleaned_data:
            self.clean_shared_header(tenant, moved=moved, may_move=may_move)
        elif method == Method.OWN_HEADER:
            self.clean_own_header(tenant, moved=moved)
        elif method in (Method.OAUTH2, Method.CLIENT_CREDENTIALS):
            self.clean_oauth(tenant, may_move=may_move)
        elif method == Method.TOKEN_EXCHANGE:
            self.clean_exchange(tenant, may_move=may_move)
        elif method == Method.PASSTHROUGH:
            self.clean_passthrough()

    def _ask_about_endings(self) -> None:
        """A change that ends what others have of this server needs the server's slug typed in (F-315)."""
        if self.stored_config is None:
            return
        self.ending_reasons = self._reasons(self.stored_config)
        self.endings = would_end(self.instance, self.ending_reasons)
        if self.initial.get("enabled") and not self.cleaned_data.get("enabled"):
            self.losses = losses_of([self.instance])
        if Reason.ADDRESS in self.ending_reasons:
            self.losses += withheld_after_move(self.instance)
        slug = self.initial.get("slug", "")
        others = any(ending.user_id != self.person_id for ending in self.endings)
        if (others or self.losses) and self.cleaned_data.get("confirm_ending", "").strip() != slug:
            text = CONFIRM_ENDING if others else CONFIRM_LOSS
            self.add_error("confirm_ending", ValidationError(text, code="confirm", params={"slug": slug}))

    def _reasons(self, stored: AuthConfig) -> frozenset[Reason]:
        reasons = set()
        if not same_origin(self.initial.get("url", ""), self.cleaned_data.get("url") or self.initial.get("url", "")):
            reasons.add(Reason.ADDRESS)
        if stored.method != self.cleaned_data["method"]:
            reasons.add(Reason.METHOD)
        elif stored.method == Method.OAUTH2 and isinstance(self.oauth_result, OAuthSettings):
            reasons |= oauth_reasons(OAuthSettings.read(stored.settings), self.oauth_result)
        return frozenset(reasons)

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

    def may_keep_secrets_elsewhere(self, tenant: Tenant) -> bool:
        """Whether a stored secret may follow the endpoint to another host."""
        return self.scope.administers(tenant.pk)

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
        method = config.method = Method(self.cleaned_data["method"])
        if method == Method.SHARED_HEADER:
            self.store_shared_header(server, config, actor=actor)
        elif method == Method.OWN_HEADER and self.own_header_result is not None:
            config.settings = self.own_header_result.stored()
        elif method in (Method.OAUTH2, Method.CLIENT_CREDENTIALS, Method.TOKEN_EXCHANGE):
            self.store_oauth(server, config, actor=actor)
        elif method == Method.PASSTHROUGH and self.passthrough_result is not None:
            config.settings = self.passthrough_result.stored()
        else:
            config.settings = {}
        config.save()
        end(server, self.ending_reasons, actor=actor)


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
