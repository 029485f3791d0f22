"""Sign-in with an identity provider by way of social-core: one backend per row, every request through our door.

social-core speaks the protocol: state, nonce, PKCE, token exchange, signature and claims of the ID token. What is
ours: settings come from the row, requests go through `servers.egress` with bounds, the issuer must name itself
exactly, the answer is checked for `state` and `iss` before anything in it is believed (AZ-25), and what comes out
are claims, not a person: that decision is `people_from_claims`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast
from urllib.parse import quote_plus, urlsplit

import jwt
import requests
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from requests.auth import AuthBase
from social_core.backends.github import GithubOAuth2
from social_core.backends.oauth import BaseOAuth2PKCE
from social_core.backends.open_id_connect import OpenIdConnectAuth
from social_core.backends.utils import load_oidc_config
from social_core.exceptions import (
    AuthConfigurationError,
    AuthProviderError,
    AuthResponseError,
    ErrorStage,
    SocialAuthBaseException,
)
from social_core.utils import cache, constant_time_compare, http_error, redact_request_error
from social_django.models import DjangoStorage
from social_django.strategy import DjangoStrategy

from authflows.inbound.identity.provider_http import TooLarge, exchange
from authflows.inbound.identity.provider_metadata import BadMetadata, check_metadata, metadata_url
from authflows.inbound.identity.provider_secrets import client_secret_of
from authflows.models import IdentityProvider
from servers.errors import GatewayError

STATE_SECONDS: Final = 600
_CLOCK_SKEW_SECONDS: Final = 60
_KEPT_SECONDS: Final = 600
_GITHUB: Final = "https://github.com"
_GITHUB_PAGES: Final = 10
_GITHUB_PAGE: Final = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider says of somebody, verified; and our own note, which came back with the state."""

    claims: Mapping[str, Any]
    note: Mapping[str, Any]


class RowStrategy(DjangoStrategy):
    """social-core's view of Django, with the settings of one row instead of Django's."""

    def __init__(self, request: HttpRequest, values: Mapping[str, Any]) -> None:
        super().__init__(DjangoStorage, request)
        self._values = values

    def get_setting(self, name: str) -> Any:
        return self._values[name]

    def build_absolute_uri(self, path: str | None = None) -> str:
        return f"{settings.PUBLIC_URL}{path or ''}"

    def authenticate(self, backend: Any, **options: Any) -> Any:
        # Not Django's `authenticate`, which knows only backends that settings name.
        return backend.authenticate(**{**options, "strategy": self, "storage": self.storage, "backend": backend})

    def clean_authenticate_args(self, *args: Any, **options: Any) -> Any:
        return args, options


class ProviderBackend(BaseOAuth2PKCE[HttpResponse]):
    """What is ours for every kind of provider."""

    REDIRECT_STATE = False
    STATE_PARAMETER = True
    DEFAULT_USE_PKCE = True

    def __init__(
        self, provider: IdentityProvider, request: HttpRequest, *, callback: str, note: Mapping[str, Any] | None = None
    ) -> None:
        values = {
            "USE_PKCE": True,
            "PKCE_CODE_CHALLENGE_METHOD": "S256",
            "STATE_LIFETIME": STATE_SECONDS,
            "NONCE_LIFETIME": STATE_SECONDS,
            "JWT_LEEWAY": _CLOCK_SKEW_SECONDS,
            "PIPELINE": [f"{__name__}.verified"],
        }
        self.provider = provider
        # Not the bare slug: social-core uses the name as a key among its own.
        self.name = f"sso:{provider.slug}"
        self._note = note
        self._state_checked: str | None = None
        super().__init__(RowStrategy(request, values), redirect_uri=callback)

    def get_key_and_secret(self) -> tuple[str, str]:
        return self.provider.client_id, client_secret_of(self.provider)

    def get_scope(self) -> list[str]:
        return [*(self.DEFAULT_SCOPE or []), *self.provider.extra_scopes.split()]

    # --- state: what we know of a trip is kept with it in the browser's session

    def get_or_create_state(self) -> str | None:
        state = super().get_or_create_state()
        if state is not None and self._note is not None:
            key = self.transaction_key(state)
            self.strategy.session_set(key, {**self.strategy.session_get(key), "note": dict(self._note)})
        return state

    @property
    def note(self) -> Mapping[str, Any]:
        """Our note of a trip whose state was good; empty before."""
        found = (self._oauth2_transaction or {}).get("note")
        return found if isinstance(found, dict) else {}

    def validate_state(self) -> str | None:
        if self._state_checked is None:
            self._state_checked = super().validate_state()
            self.validate_issuer()
        return self._state_checked

    def validate_issuer(self) -> None:
        """Check the `iss` of the answer (RFC 9207), where there is something to compare it with."""

    def process_error(self, data: Any, *, stage: ErrorStage = "callback") -> None:
        if stage == "callback":
            # Before anything else of the answer counts, an error's text included: is it the answer to our question?
            self.validate_state()
        super().process_error(data, stage=stage)

    # --- the token endpoint

    def auth_complete_credentials(self) -> Any:
        if not self.use_basic_auth():
            return None
        return tuple(quote_plus(part) for part in self.get_key_and_secret())  # RFC 6749, 2.3.1

    def auth_complete_params(self, state: str | None = None) -> dict[str, Any]:
        params: dict[str, Any] = super().auth_complete_params(state)  # type: ignore[no-untyped-call]
        return {name: value for name, value in params.items() if name != "client_secret" or value}

    # --- the door

    def request(
        self,
        url: str,
        *,
        method: Literal["GET", "POST", "DELETE"] = "GET",
        headers: Mapping[str, str | bytes] | None = None,
        data: dict[Any, Any] | None = None,
        json: dict[Any, Any] | None = None,
        auth: tuple[str, str] | AuthBase | None = None,
        params: dict[Any, Any] | None = None,
        timeout: float | None = None,
        stage: ErrorStage = "user_info",
    ) -> requests.Response:
        try:
            return exchange(url, method=method, headers=headers, data=data, json=json, auth=auth, params=params)
        except GatewayError:
            raise
        except TooLarge as error:
            raise AuthResponseError(self, str(error), code="malformed_response", stage=stage) from error
        except requests.RequestException as error:
            redact_request_error(error, request_url=url)
            raise _provider_error(self, error, stage) from error

    def claims(self) -> dict[str, Any]:
        """The verified claims, once the provider has been asked for them."""
        raise NotImplementedError


class OidcBackend(ProviderBackend, OpenIdConnectAuth[HttpResponse]):
    """Any OpenID provider."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._userinfo: dict[str, Any] = {}
        super().__init__(*args, **options)

    def oidc_config_url(self) -> str:
        return metadata_url(self.provider.issuer)

    def oidc_config(self) -> dict[str, Any]:
        document = super().oidc_config()
        try:
            check_metadata(self.provider, document)
        except BadMetadata as error:
            raise AuthConfigurationError(self, str(error), code="invalid_setting", parameter="issuer") from error
        return document

    @cache(ttl=_KEPT_SECONDS)
    def get_openid_configuration(self, url: str) -> dict[str, Any]:
        return load_oidc_config(self, url)

    @cache(ttl=_KEPT_SECONDS)
    def get_jwks_keys_for_uri(self, uri: str) -> list[dict[str, Any]]:
        return self.get_remote_jwks_keys(uri)

    def get_jwks_keys(self) -> list[dict[str, Any]]:
        # Copies: social-core writes into the keys that it tries.
        return [dict(key) for key in super().get_jwks_keys()]

    def jwks_uri(self) -> str:
        return self.provider.jwks_url or super().jwks_uri()

    def id_token_issuer(self) -> str:
        if self.provider.preset == IdentityProvider.Preset.GOOGLE:
            # Google documents both spellings in its ID tokens.
            return cast(str, [self.provider.issuer, urlsplit(self.provider.issuer).netloc])
        return self.provider.issuer

    def use_basic_auth(self) -> bool:
        # In the body there are no two ways to encode a secret.
        methods = self.oidc_config().get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        return "client_secret_post" not in methods and bool(self.get_key_and_secret()[1])

    def validate_issuer(self) -> None:
        document = self.oidc_config()
        named = self.data.get("iss")
        if named is None and document.get("authorization_response_iss_parameter_supported") is not True:
            return
        if not isinstance(named, str) or not constant_time_compare(named, self.provider.issuer):
            raise AuthResponseError(self, code="invalid_claim", claim="iss", stage="callback")

    def decode_and_validate_id_token(self, id_token: Any, access_token: Any) -> Any:
        algorithm = _algorithm_of(id_token)
        if algorithm not in self.provider.accepted_algorithms:
            raise AuthResponseError(
                self, f"signed with {algorithm!r}", code="invalid_signature", claim="alg", stage="token_validation"
            )
        # One algorithm per token, so that a key without `alg` is tried as what the token says, within our list.
        self.JWT_ALGORITHMS = [algorithm]
        self.CUSTOM_AT_HASH_ALGO = "SHA512" if algorithm == "EdDSA" else None
        return super().decode_and_validate_id_token(id_token, access_token)  # type: ignore[no-untyped-call]

    def validate_temporal_claims(self, id_token: Any) -> None:
        # `nbf` was checked with the signature; social-core's second look would allow no difference of clocks.
        super().validate_temporal_claims({name: value for name, value in id_token.items() if name != "nbf"})

    def user_data(self, access_token: str, *args: Any, **options: Any) -> dict[str, Any]:
        if "userinfo_endpoint" not in self.oidc_config():
            return {}
        found = super().user_data(access_token, *args, **options)
        # social-core forgives an answer that does not say whose it is.
        if not isinstance(found, dict) or found.get("sub") != (self.id_token or {}).get("sub"):
            raise AuthResponseError(self, code="invalid_claim", claim="sub", stage="user_info")
        self._userinfo = found
        return found

    def claims(self) -> dict[str, Any]:
        return {**self._userinfo, **(self.id_token or {})}


class GithubBackend(ProviderBackend, GithubOAuth2[HttpResponse]):
    """GitHub, which is no OpenID provider: the person comes from its API. `issuer` may name a GitHub of one's own."""

    DEFAULT_SCOPE = ["read:user", "user:email"]

    def __init__(self, *args: Any, **options: Any) -> None:
        self._claims: dict[str, Any] = {}
        super().__init__(*args, **options)

    def _base(self) -> str:
        return self.provider.issuer.rstrip("/") or _GITHUB

    def authorization_url(self) -> str:
        return f"{self._base()}/login/oauth/authorize"

    def access_token_url(self) -> str:
        return f"{self._base()}/login/oauth/access_token"

    def api_url(self) -> str:
        return "https://api.github.com/" if self._base() == _GITHUB else f"{self._base()}/api/v3/"

    def user_data(self, access_token: str, *args: Any, **options: Any) -> dict[str, Any]:
        person = self._user_data(access_token)  # type: ignore[no-untyped-call]
        if not isinstance(person, dict) or not isinstance(person.get("id"), int):
            raise AuthResponseError(self, code="missing_claim", claim="id", stage="user_info")
        self._claims = {
            "sub": str(person["id"]),
            "preferred_username": person.get("login"),
            "name": person.get("name"),
        }
        for email in self._listed(access_token, "/emails"):
            if email.get("primary") and email.get("verified"):
                self._claims |= {"email": email.get("email"), "email_verified": True}
        if {"read:org", "admin:org"} & set(self.get_scope()):
            organisations = [item.get("login") for item in self._listed(access_token, "/orgs")]
            teams = [
                f"{item['organization'].get('login')}/{item.get('slug')}"
                for item in self._listed(access_token, "/teams")
                if isinstance(item.get("organization"), dict)
            ]
            self._claims["groups"] = [*organisations, *teams]
        return {}

    def _listed(self, access_token: str, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for page in range(1, _GITHUB_PAGES + 1):
            query = f"?per_page={_GITHUB_PAGE}&page={page}"
            items = self._user_data(access_token, path + query)  # type: ignore[no-untyped-call]
            if not isinstance(items, list):
                raise AuthResponseError(self, code="malformed_response", stage="user_info")
            found += [item for item in items if isinstance(item, dict)]
            if len(items) < _GITHUB_PAGE:
                break
        return found

    def claims(self) -> dict[str, Any]:
        return self._claims


def backend_for(
    provider: IdentityProvider, request: HttpRequest, *, callback: str, note: Mapping[str, Any] | None = None
) -> ProviderBackend:
    """The backend of one request. `callback` is the path of the redirect URI; `note` travels with the state."""
    kind = GithubBackend if provider.preset == IdentityProvider.Preset.GITHUB else OidcBackend
    return kind(provider, request, callback=callback, note=note)


def verified(backend: ProviderBackend, **_: Any) -> Answer:
    """The only step of social-core's pipeline: everything was checked, hand the claims over."""
    return Answer(backend.claims(), backend.note)


def _algorithm_of(id_token: Any) -> str:
    try:
        return str(jwt.get_unverified_header(id_token).get("alg"))
    except jwt.PyJWTError:
        return ""


def _provider_error(
    backend: ProviderBackend, error: requests.RequestException, stage: ErrorStage
) -> SocialAuthBaseException:
    if isinstance(error, requests.HTTPError):
        return http_error(backend, error, stage=stage)
    if isinstance(error, requests.exceptions.SSLError):
        code = "tls_error"
    elif isinstance(error, requests.Timeout):
        code = "timeout"
    else:
        code = "connection_failed"
    return AuthProviderError(backend, code=code, stage=stage)
