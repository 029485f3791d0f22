"""The fields of OAuth2 per person, of client credentials and of token exchange (F-303, F-310, F-313)."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError

from servers.credential_endings import Reason
from servers.endpoints import address_problem, browser_problem, origin_of
from servers.forms.base import TenantScopedForm
from servers.forms.client_secret import SecretChoice, Stored, choose
from servers.forms.method_fields import Method, ParametersField, ScopesField, lines, mark, wide
from servers.header_auth import same_origin
from servers.method_settings import ACCESS_TOKEN, ENTRA_OBO, ID_TOKEN, JWT, RFC8693, ExchangeSettings
from servers.models import AuthConfig, Server, Tenant
from servers.oauth_settings import OAuthSettings

OAUTH: Final = (Method.OAUTH2,)
OWN_TOKEN: Final = (Method.OAUTH2, Method.CLIENT_CREDENTIALS)
ALL: Final = (Method.OAUTH2, Method.CLIENT_CREDENTIALS, Method.TOKEN_EXCHANGE)
EXCHANGE: Final = (Method.TOKEN_EXCHANGE,)

NO_PKCE_WARNING: Final = (
    "Without PKCE a code that somebody catches on its way can be redeemed. Tick it only where the provider refuses it."
)
NO_RESOURCE_WARNING: Final = (
    "Without it the provider does not learn which server the token is for, and may give one that is good elsewhere "
    "too. Tick it only where the provider refuses it."
)
_REGISTRATIONS: Final = (
    ("pre_registered", "With an app that was made at the provider (App ID)"),
    ("metadata_document", "By the gateway's own metadata document"),
    ("dynamic", "By registering itself (RFC 7591)"),
)
_CLIENT_METHODS: Final = (
    ("client_secret_basic", "Secret in the Authorization header (basic)"),
    ("client_secret_post", "Secret in the body (post)"),
    ("private_key_jwt", "A JWT signed with the gateway's own key"),
    ("none", "None (public client)"),
)
_SUBJECT_TYPES: Final = ((ACCESS_TOKEN, "Access token"), (JWT, "JWT"), (ID_TOKEN, "ID token"))
_VARIANTS: Final = ((RFC8693, "Token exchange (RFC 8693)"), (ENTRA_OBO, "Microsoft Entra, on behalf of"))
ENDPOINTS: Final = (
    "authorization_endpoint",
    "token_endpoint",
    "revocation_endpoint",
    "registration_endpoint",
    "userinfo_endpoint",
)


def _endpoint(label: str, help_text: str = "") -> forms.CharField:
    return forms.CharField(
        label=label, required=False, max_length=1000, help_text=help_text,
        widget=forms.URLInput(attrs={"class": "vURLField", "spellcheck": "false"}),
    )  # fmt: skip


class OAuthFields(TenantScopedForm):
    """Mixed into the form of a server."""

    registration = mark(
        forms.ChoiceField(label="How the gateway is known there", required=False, choices=_REGISTRATIONS), *OAUTH
    )
    client_id = mark(
        forms.CharField(
            label="App ID", required=False, max_length=500, widget=wide(),
            help_text="The client id of the app at the provider.",
        ),
        *ALL,
    )  # fmt: skip
    client_secret = mark(
        forms.CharField(
            label="App Secret", required=False, max_length=4000,
            widget=forms.PasswordInput(attrs={"class": "vTextField", "autocomplete": "new-password"}),
        ),
        *ALL,
    )  # fmt: skip
    scopes = mark(
        ScopesField(
            label="Scopes", required=False, max_length=4000, widget=wide(),
            help_text="Separated by spaces. People are asked for these and no more. Empty: the provider decides.",
        ),
        *ALL,
    )  # fmt: skip
    issuer = mark(
        forms.CharField(
            label="Issuer", required=False, max_length=500, widget=wide(),
            help_text="As the provider writes it, to the letter. Empty: the origin of its endpoints.",
        ),
        *ALL,
    )  # fmt: skip
    authorization_endpoint = mark(
        _endpoint("Authorization endpoint", "Where people sign in and agree; opened in their browser."), *OAUTH
    )
    token_endpoint = mark(_endpoint("Token endpoint"), *ALL)
    revocation_endpoint = mark(
        _endpoint("Revocation endpoint", "Told when somebody revokes (RFC 7009). Empty: the provider offers none."),
        *OAUTH,
    )
    registration_endpoint = mark(_endpoint("Registration endpoint"), *OAUTH)
    userinfo_endpoint = mark(
        _endpoint("Userinfo endpoint", "Asked for the name of the connected account. Empty: it is not asked."), *OAUTH
    )
    token_endpoint_auth_method = mark(
        forms.ChoiceField(label="How the gateway proves itself there", required=False, choices=_CLIENT_METHODS), *ALL
    )
    authorize_parameters = mark(
        ParametersField(
            label="Extra sign-in parameters", required=False, widget=lines(3),
            help_text="One Name: value a line, added to the authorization URL. For example access_type: offline",
        ),
        *OAUTH,
    )  # fmt: skip
    token_parameters = mark(
        ParametersField(
            label="Extra token parameters", required=False, widget=lines(3),
            help_text="One Name: value a line, added to token requests. Managers can read them: no secrets here.",
        ),
        *ALL,
    )  # fmt: skip
    lifetime_seconds = mark(
        forms.IntegerField(
            label="Lifetime without expires_in", required=False, min_value=60, max_value=366 * 86400,
            help_text="Seconds that an access token is good for where the provider does not say.",
        ),
        *ALL,
    )  # fmt: skip
    iss_supported = mark(
        forms.BooleanField(
            label="Answers name their issuer", required=False,
            help_text="The provider promises iss in its answers (RFC 9207): one without it is refused.",
        ),
        *OAUTH,
    )  # fmt: skip
    no_pkce = mark(forms.BooleanField(label="Leave out PKCE", required=False, help_text=NO_PKCE_WARNING), *OAUTH)
    no_resource = mark(
        forms.BooleanField(label="Leave out resource", required=False, help_text=NO_RESOURCE_WARNING), *ALL
    )
    discovered = forms.BooleanField(required=False, widget=forms.HiddenInput())
    exchange_variant = mark(forms.ChoiceField(label="Kind of exchange", required=False, choices=_VARIANTS), *EXCHANGE)
    exchange_audience = mark(
        forms.CharField(
            label="Audience", required=False, max_length=500, widget=wide(),
            help_text="What the new token shall be for, in the provider's words. Empty: it is not named.",
        ),
        *EXCHANGE,
    )  # fmt: skip
    subject_token_type = mark(
        forms.ChoiceField(label="The caller's token is", required=False, choices=_SUBJECT_TYPES), *EXCHANGE
    )

    def start_oauth(self, config: AuthConfig | None) -> None:
        """Initial values from what is saved."""
        self.stored_secret = Stored()
        self.secret_choice = SecretChoice()
        self.oauth_result: OAuthSettings | ExchangeSettings | None = None
        initial: dict[str, Any] = {"lifetime_seconds": 3600}
        if config is not None and config.method in OWN_TOKEN:
            found = OAuthSettings.read(config.settings)
            names = set(self.fields) & set(OAuthSettings.__dataclass_fields__) - {"client_secret"}
            initial |= {name: getattr(found, name) for name in names}
            initial |= {"no_pkce": not found.pkce, "no_resource": not found.send_resource}
            self.stored_secret = Stored(found.client_secret, found.token_endpoint)
        elif config is not None and config.method == Method.TOKEN_EXCHANGE:
            exchange = ExchangeSettings.read(config.settings)
            names = set(self.fields) & set(ExchangeSettings.__dataclass_fields__) - {"client_secret"}
            initial |= {name: getattr(exchange, name) for name in names}
            initial |= {
                "no_resource": not exchange.send_resource,
                "exchange_variant": exchange.variant,
                "exchange_audience": exchange.audience,
            }
            self.stored_secret = Stored(exchange.client_secret, exchange.token_endpoint)
        for name, value in initial.items():
            self.initial.setdefault(name, value)
        if "client_secret" in self.fields:
            self.fields["client_secret"].help_text = self._secret_help()

    def _secret_help(self) -> str:
        forms_of_it = "The value, or a reference: secret://tenant:group:key, env://NAME, file:///path."
        if self.stored_secret.reference:
            return f"Set ({self.stored_secret.reference}). Leave it empty to keep it. {forms_of_it}"
        return f"Write-only. {forms_of_it}"

    def clean_oauth(self, tenant: Tenant, *, may_move: bool) -> None:
        """Check the fields of OAuth2 and client credentials; the result is in `oauth_result`."""
        values, method = self.cleaned_data, self.cleaned_data["method"]
        per_person = method == Method.OAUTH2
        registration = (values.get("registration") or "pre_registered") if per_person else "pre_registered"
        needed = ["token_endpoint", *(["authorization_endpoint"] if per_person else [])]
        if registration == "dynamic":
            needed.append("registration_endpoint")
        self._check_endpoints(needed, only=None if per_person else ("token_endpoint",))
        if registration == "pre_registered" and not values.get("client_id"):
            self.add_error("client_id", "Enter the App ID, or press Discover to do without an app of your own.")
        if registration == "metadata_document" and not settings.PUBLIC_URL.startswith("https://"):
            self.add_error("registration", "The gateway's public URL is not https, so no provider reads its document.")
        if any(name in self.errors for name in (*ENDPOINTS, "client_id", "scopes", "lifetime_seconds")):
            return
        if registration == "pre_registered":
            self._choose_secret(tenant, may_move=may_move)
        self.oauth_result = OAuthSettings(
            issuer=values.get("issuer") or origin_of(values.get("authorization_endpoint") or values["token_endpoint"]),
            **{name: values.get(name, "") if per_person else "" for name in ENDPOINTS if name != "token_endpoint"},
            token_endpoint=values["token_endpoint"],
            discovered=bool(values.get("discovered")) and per_person,
            registration=registration,
            client_id=values.get("client_id", "") if registration == "pre_registered" else "",
            token_endpoint_auth_method=values.get("token_endpoint_auth_method") or "client_secret_basic",
            scopes=values.get("scopes", ()),
            authorize_parameters=dict(values.get("authorize_parameters") or ()) if per_person else {},
            token_parameters=dict(values.get("token_parameters") or ()),
            pkce=not values.get("no_pkce"),
            send_resource=not values.get("no_resource"),
            iss_supported=bool(values.get("iss_supported")) and per_person,
            lifetime_seconds=values.get("lifetime_seconds") or 3600,
        )

    def clean_exchange(self, tenant: Tenant, *, may_move: bool) -> None:
        """Check the fields of token exchange; the result is in `oauth_result`."""
        values = self.cleaned_data
        self._check_endpoints(["token_endpoint"], only=("token_endpoint",))
        if not values.get("client_id"):
            self.add_error("client_id", "Enter the App ID with which the gateway asks for the exchange.")
        variant = values.get("exchange_variant") or RFC8693
        if variant == ENTRA_OBO and not values.get("scopes"):
            self.add_error("scopes", "Entra needs the scope of the server, for example api://<app id>/.default.")
        if any(name in self.errors for name in ("token_endpoint", "client_id", "scopes", "lifetime_seconds")):
            return
        self._choose_secret(tenant, may_move=may_move)
        self.oauth_result = ExchangeSettings(
            variant=variant,
            issuer=values.get("issuer", ""),
            token_endpoint=values["token_endpoint"],
            client_id=values["client_id"],
            token_endpoint_auth_method=values.get("token_endpoint_auth_method") or "client_secret_basic",
            audience=values.get("exchange_audience", ""),
            scopes=values.get("scopes", ()),
            subject_token_type=values.get("subject_token_type") or ACCESS_TOKEN,
            send_resource=not values.get("no_resource"),
            token_parameters=dict(values.get("token_parameters") or ()),
            lifetime_seconds=values.get("lifetime_seconds") or 3600,
        )

    def _check_endpoints(self, needed: list[str], *, only: tuple[str, ...] | None) -> None:
        for name in only or ENDPOINTS:
            url = self.cleaned_data.get(name, "")
            if not url:
                if name in needed and name not in self.errors:
                    self.add_error(name, "Enter it, or press Discover to read it from the server's own metadata.")
                continue
            problem = browser_problem(url) if name == "authorization_endpoint" else address_problem(url)
            if problem is not None:
                self.add_error(name, problem)

    def _choose_secret(self, tenant: Tenant, *, may_move: bool) -> None:
        values = self.cleaned_data
        if values.get("token_endpoint_auth_method") in ("none", "private_key_jwt"):
            if values.get("client_secret"):
                self.add_error("client_secret", "With this way of proving itself the gateway sends no secret.")
            return
        try:
            self.secret_choice = choose(
                values.get("client_secret", ""),
                self.stored_secret,
                endpoint=values["token_endpoint"],
                tenant=tenant,
                scope=self.scope,
                may_move=may_move,
            )
        except ValidationError as error:
            self.add_error("client_secret", error)
            return
        if not self.secret_choice.reference and not self.secret_choice.plain:
            self.add_error("client_secret", "Enter the App Secret, or choose another way to prove itself there.")

    def store_oauth(self, server: Server, config: AuthConfig, *, actor: str) -> None:
        """Put the result into `config` (unsaved), a plain secret into the store."""
        result = self.oauth_result
        assert result is not None  # noqa: S101  (a form without errors has one)
        config.settings = {**result.stored(), "client_secret": self.secret_choice.keep(server, actor=actor)}


def oauth_reasons(before: OAuthSettings, after: OAuthSettings) -> set[Reason]:
    """Why tokens from before are not for what is set now: another issuer, token endpoint or client (CL-10, T22)."""
    reasons = set()
    if before.issuer != after.issuer or not same_origin(before.token_endpoint, after.token_endpoint):
        reasons.add(Reason.PROVIDER)
    if (before.registration, before.client_id) != (after.registration, after.client_id):
        reasons.add(Reason.CLIENT)
    return reasons
