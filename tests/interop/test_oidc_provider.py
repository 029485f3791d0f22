"""The provider that other tests sign in with and get tokens from does what they rely on."""

from __future__ import annotations

import base64
import hashlib
import urllib.parse
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
import requests

from tests.support.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider, Options, keys

pytestmark = pytest.mark.node

CALLBACK = "http://127.0.0.1/callback"
RESOURCE = "http://127.0.0.1:1/acme/mcp"
VERIFIER = "a-verifier-that-is-long-enough-for-the-specification"


@pytest.fixture(scope="module")
def own() -> Iterator[OidcProvider]:
    """A provider with options of its own."""
    provider = OidcProvider(Options(access_token_format="opaque", access_token_seconds=7, registration=False))
    yield provider
    provider.stop()


def authorization_url(provider: OidcProvider, *, client_id: str = CLIENT_ID, **parameters: str) -> str:
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
    asked = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": CALLBACK,
        "scope": "openid profile email groups",
        "state": "s-1",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        **parameters,
    }
    return f"{provider.issuer}/auth?{urllib.parse.urlencode(asked)}"


def answered(url: str) -> dict[str, str]:
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))


def token(provider: OidcProvider, *, auth: tuple[str, str] = (CLIENT_ID, CLIENT_SECRET), **asked: str) -> Any:
    return requests.post(f"{provider.issuer}/token", data=asked, auth=auth, timeout=10)


def tokens_for_code(provider: OidcProvider, back: str, **more: str) -> Any:
    code = answered(back)["code"]
    answer = token(
        provider,
        grant_type="authorization_code",
        code=code,
        redirect_uri=CALLBACK,
        code_verifier=VERIFIER,
        **more,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def verified(provider: OidcProvider, text: str, *, audience: str, algorithm: str = "RS256") -> dict[str, Any]:
    keys_of_it = jwt.PyJWKClient(provider.metadata()["jwks_uri"]).get_signing_key_from_jwt(text)
    claims: dict[str, Any] = jwt.decode(
        text, keys_of_it.key, algorithms=[algorithm], audience=audience, issuer=provider.issuer
    )
    return claims


def test_a_person_signs_in_and_the_id_token_has_their_claims(oidc_provider: OidcProvider) -> None:
    back = oidc_provider.sign_in(authorization_url(oidc_provider, nonce="n-1"), "ada")

    assert back.startswith(f"{CALLBACK}?")
    assert (answered(back)["state"], answered(back)["iss"]) == ("s-1", oidc_provider.issuer)
    claims = verified(oidc_provider, tokens_for_code(oidc_provider, back)["id_token"], audience=CLIENT_ID)
    assert claims["nonce"] == "n-1"
    assert claims["email"] == "ada@example.com"
    assert claims["email_verified"] is True
    assert claims["groups"] == ["engineering", "on-call"]


def test_a_person_without_address_has_no_e_mail_claim(oidc_provider: OidcProvider) -> None:
    back = oidc_provider.sign_in(authorization_url(oidc_provider), "nemo")

    claims = verified(oidc_provider, tokens_for_code(oidc_provider, back)["id_token"], audience=CLIENT_ID)
    assert "email" not in claims
    assert "groups" not in claims


def test_a_wrong_password_and_a_denial_are_told_apart(oidc_provider: OidcProvider) -> None:
    denied = oidc_provider.sign_in(authorization_url(oidc_provider), decision="deny")

    assert answered(denied)["error"] == "access_denied"
    with pytest.raises(AssertionError, match="do not belong together"):
        oidc_provider.sign_in(authorization_url(oidc_provider), password="wrong")


def test_an_access_token_is_a_jwt_for_its_resource_and_its_refresh_token_works_once(
    oidc_provider: OidcProvider,
) -> None:
    url = authorization_url(oidc_provider, scope="read offline_access", prompt="consent", resource=RESOURCE)
    first = tokens_for_code(oidc_provider, oidc_provider.sign_in(url), resource=RESOURCE)

    claims = verified(oidc_provider, first["access_token"], audience=RESOURCE)
    assert (claims["sub"], claims["email"], claims["scope"]) == ("1001", "ada@example.com", "read")
    again = token(oidc_provider, grant_type="refresh_token", refresh_token=first["refresh_token"], resource=RESOURCE)
    assert again.json()["refresh_token"] != first["refresh_token"]
    reused = token(oidc_provider, grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert (reused.status_code, reused.json()["error"]) == (400, "invalid_grant")


def test_a_provider_with_opaque_tokens_introspects_and_revokes_them(own: OidcProvider) -> None:
    url = authorization_url(own, scope="read offline_access", prompt="consent", resource=RESOURCE)
    got = tokens_for_code(own, own.sign_in(url), resource=RESOURCE)
    metadata = own.metadata()

    def active() -> bool:
        asked = {"token": got["access_token"]}
        return bool(
            requests.post(
                metadata["introspection_endpoint"], data=asked, auth=(CLIENT_ID, CLIENT_SECRET), timeout=10
            ).json()["active"]
        )

    assert got["expires_in"] == 7
    assert got["access_token"].count(".") == 0
    assert active()
    ended = {"token": got["access_token"]}
    requests.post(metadata["revocation_endpoint"], data=ended, auth=(CLIENT_ID, CLIENT_SECRET), timeout=10)
    assert not active()
    assert "registration_endpoint" not in metadata


def test_a_registered_client_signs_people_in_too(oidc_provider: OidcProvider) -> None:
    client_id, secret = oidc_provider.add_client(CALLBACK, id_token_signed_response_alg="ES256")

    back = oidc_provider.sign_in(authorization_url(oidc_provider, client_id=client_id))

    answer = token(
        oidc_provider,
        auth=(client_id, secret),
        grant_type="authorization_code",
        code=answered(back)["code"],
        redirect_uri=CALLBACK,
        code_verifier=VERIFIER,
    )
    assert verified(oidc_provider, answer.json()["id_token"], audience=client_id, algorithm="ES256")["sub"] == "1001"


def test_a_machine_gets_a_token_for_a_resource(oidc_provider: OidcProvider) -> None:
    claims = verified(oidc_provider, oidc_provider.token_of_machine(RESOURCE), audience=RESOURCE)

    assert claims["client_id"] == "night-shift"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
def test_a_minted_token_is_one_of_the_provider(oidc_provider: OidcProvider, algorithm: str) -> None:
    text = oidc_provider.mint(audience="any", algorithm=algorithm, groups=["chosen"], without=["email"])

    claims = verified(oidc_provider, text, audience="any", algorithm=algorithm)
    assert claims["groups"] == ["chosen"]
    assert "email" not in claims
    expired = oidc_provider.mint(audience="any", seconds=-90)
    with pytest.raises(jwt.ExpiredSignatureError):
        verified(oidc_provider, expired, audience="any")
    forged = oidc_provider.mint(audience="any", signed_by=keys("of another"))
    with pytest.raises(jwt.InvalidSignatureError):
        verified(oidc_provider, forged, audience="any")


def test_keys_rotate_at_the_same_issuer_and_requests_are_counted(own: OidcProvider) -> None:
    issuer, old = own.issuer, own.mint(audience="any")
    own.restart(with_keys="second")

    assert own.issuer == issuer
    assert own.requests_for("/jwks") == 0
    with pytest.raises(jwt.PyJWKClientError):
        verified(own, old, audience="any")
    assert verified(own, own.mint(audience="any"), audience="any")["sub"] == "1001"
    assert own.requests_for("/jwks") >= 2
