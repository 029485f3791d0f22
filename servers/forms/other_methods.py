"""The fields of people's own keys and of passthrough (F-308, F-310, T3)."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError

from servers.endpoints import origin_of
from servers.forms.base import TenantScopedForm
from servers.forms.method_fields import Method, PairsField, lines, mark, wide
from servers.header_auth import same_origin, stored_references
from servers.header_names import check_header_name
from servers.method_settings import PassthroughSettings
from servers.models import AuthConfig, Tenant
from servers.own_header import BadTemplate, OwnHeaderSettings, check

PASSTHROUGH_WARNING: Final = (
    "With passthrough the caller's own credential goes on to this server, which can then act as the caller wherever "
    "that credential is good. Use it only for a server that you trust as much as the gateway itself."
)
CONFIRM_AGAIN: Final = "Tick this to confirm that callers' credentials may be passed on to %(origin)s."
_REFERENCE_NEEDS_ADMIN: Final = "Only a tenant admin may use a reference to a secret here."


class OwnHeaderFields(TenantScopedForm):
    """Mixed into the form of a server."""

    own_headers = mark(
        PairsField(
            label="Headers with placeholders", required=False,
            widget=lines(4, placeholder="Authorization: Bearer {{API_KEY}}"),
            help_text="One Name: value a line. Each person enters a value of their own for each {{PLACEHOLDER}}.",
        ),
        Method.OWN_HEADER,
    )  # fmt: skip
    own_labels = mark(
        PairsField(
            label="What people are asked for", required=False,
            widget=lines(3, placeholder="API_KEY: Personal access token"),
            help_text="One PLACEHOLDER: label a line. Say where to get it. Empty: made from the placeholder's name.",
        ),
        Method.OWN_HEADER,
    )  # fmt: skip

    def start_own_header(self, config: AuthConfig | None) -> None:
        """Initial values from what is saved."""
        self.own_header_result: OwnHeaderSettings | None = None
        self.stored_own = OwnHeaderSettings()
        if config is not None and config.method == Method.OWN_HEADER:
            self.stored_own = OwnHeaderSettings.read(config.settings)
            self.initial.setdefault("own_headers", self.stored_own.headers)
            self.initial.setdefault("own_labels", tuple(self.stored_own.labels.items()))

    def clean_own_header(self, tenant: Tenant, *, moved: bool) -> None:
        """Check the templates; the result is in `own_header_result`."""
        values = self.cleaned_data
        found = OwnHeaderSettings(tuple(values.get("own_headers") or ()), dict(values.get("own_labels") or ()))
        try:
            check(found)
        except BadTemplate as error:
            self.add_error("own_headers", str(error))
            return
        # A manager of one server could otherwise send any secret of the tenant to a host of their choice.
        known = {str(r) for _, text in self.stored_own.headers for r in stored_references(text)} if not moved else set()
        named = {str(r) for _, text in found.headers for r in stored_references(text)}
        if not self.scope.administers(tenant.pk) and not named <= known:
            self.add_error("own_headers", ValidationError(_REFERENCE_NEEDS_ADMIN, code="reference"))
            return
        self.own_header_result = found


class PassthroughFields(TenantScopedForm):
    """Mixed into the form of a server."""

    passthrough_header = mark(
        forms.CharField(
            label="Header with the credential", required=False, max_length=100,
            widget=wide(placeholder="Authorization"),
            help_text="Authorization: a JWT of your identity provider that opens the gateway and names the audience. "
            "Any other name: a separate header that callers send for the server, where it arrives as Authorization.",
        ),
        Method.PASSTHROUGH,
    )  # fmt: skip
    passthrough_audience = mark(
        forms.CharField(
            label="Audience", required=False, max_length=500, widget=wide(),
            help_text="What the aud of a JWT has to list before it is passed on. Empty: the endpoint URL.",
        ),
        Method.PASSTHROUGH,
    )  # fmt: skip
    passthrough_confirm = mark(
        forms.BooleanField(label="I understand", required=False, help_text=PASSTHROUGH_WARNING), Method.PASSTHROUGH
    )
    # The origin that the tick was shown for: one from before the address changed is not about the new one.
    passthrough_for = forms.CharField(required=False, widget=forms.HiddenInput())

    def start_passthrough(self, config: AuthConfig | None) -> None:
        """Initial values from what is saved."""
        self.passthrough_result: PassthroughSettings | None = None
        self.stored_passthrough = PassthroughSettings(header="")
        if config is not None and config.method == Method.PASSTHROUGH:
            found = self.stored_passthrough = PassthroughSettings.read(config.settings)
            self.initial.setdefault("passthrough_header", found.header)
            self.initial.setdefault("passthrough_audience", found.audience)
            self.initial.setdefault("passthrough_confirm", bool(found.confirmed_origin))
            self.initial.setdefault("passthrough_for", found.confirmed_origin)
        self.initial.setdefault("passthrough_header", "Authorization")

    def clean_passthrough(self) -> None:
        """Check the fields; the result is in `passthrough_result`. Another origin has to be confirmed anew (T3)."""
        values: dict[str, Any] = self.cleaned_data
        header = values.get("passthrough_header") or "Authorization"
        try:
            check_header_name(header)
        except ValidationError as error:
            self.add_error("passthrough_header", error)
            return
        url, confirmed = values.get("url", ""), self.stored_passthrough.confirmed_origin
        if not url:
            return
        shown_for = values.get("passthrough_for", "")
        ticked = values.get("passthrough_confirm") and (not confirmed or same_origin(shown_for, url))
        if not ticked:
            self.data = {**dict(self.data.items()), "passthrough_confirm": "", "passthrough_for": origin_of(url)}
            params = {"origin": origin_of(url)}
            self.add_error("passthrough_confirm", ValidationError(CONFIRM_AGAIN, code="confirm", params=params))
            return
        self.passthrough_result = PassthroughSettings(
            header=header, audience=values.get("passthrough_audience", ""), confirmed_origin=origin_of(url)
        )
