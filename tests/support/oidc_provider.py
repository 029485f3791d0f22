"""A real OpenID provider on loopback: the single sign-on, the issuer of JWTs and the upstream authorization server."""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from tests.support import node
from tests.support.processes import Peer, launch

PROGRAM = Path(__file__).with_name("oidc_provider.mjs")
PASSWORD = "pencil-sharpener-on-a-hill"

# A client that is there from the start; its redirect URIs are an option.
CLIENT_ID = "gatehouse"
CLIENT_SECRET = "gatehouse-client-secret"
# A program without people: client_credentials.
MACHINE_ID = "night-shift"
MACHINE_SECRET = "night-shift-secret"


def _account(subject: str, **claims: Any) -> dict[str, Any]:
    return {"password": PASSWORD, "claims": {"sub": subject, **claims}}


ACCOUNTS = {
    "ada": _account(
        "1001",
        name="Ada Example",
        preferred_username="ada",
        email="ada@example.com",
        email_verified=True,
        groups=["engineering", "on-call"],
    ),
    "bob": _account(
        "1002",
        name="Bob Example",
        preferred_username="bob",
        email="bob@example.org",
        email_verified=False,
        groups=["sales"],
    ),
    # No e-mail address, no groups, no name.
    "nemo": _account("1003", preferred_username="nemo"),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a provider is to do. Times are in seconds."""

    # Of the client CLIENT_ID.
    redirect_uris: Sequence[str] = ("http://127.0.0.1/callback",)
    accounts: Mapping[str, Any] = field(default_factory=lambda: ACCOUNTS)
    registration: bool = True
    pkce_required: bool = True
    rotate_refresh_tokens: bool = True
    # Off: every client that may refresh gets a refresh token.
    refresh_needs_offline_access: bool = False
    access_token_seconds: int = 300
    id_token_seconds: int = 300
    refresh_token_seconds: int = 86400
    # Of tokens for a resource: "jwt" or "opaque". Without a resource they are always opaque.
    access_token_format: str = "jwt"
    access_token_algorithm: str = "RS256"
    # Resource indicators that are known; None: all.
    resources: Sequence[str] | None = None
    resource_scopes: Sequence[str] = ("read", "write")
    # In every JWT access token, besides the claims of its account.
    token_claims: Mapping[str, Any] = field(default_factory=dict)
    # 0: any free port.
    port: int = 0


class Keys:
    """The signing keys of a provider: one for RS256, one for ES256."""

    def __init__(self, name: str) -> None:
        self.private = {
            "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
            "ES256": ec.generate_private_key(ec.SECP256R1()),
        }
        self.kids = {algorithm: f"{name}-{algorithm.lower()}" for algorithm in self.private}

    def jwks(self) -> list[dict[str, Any]]:
        """The private keys as the provider wants them."""
        found = []
        for algorithm, key in self.private.items():
            as_jwk = RSAAlgorithm.to_jwk if algorithm == "RS256" else ECAlgorithm.to_jwk
            found.append({**as_jwk(key, as_dict=True), "use": "sig", "alg": algorithm, "kid": self.kids[algorithm]})
        return [{name: value for name, value in jwk.items() if name != "key_ops"} for jwk in found]


@cache
def keys(name: str = "first") -> Keys:
    """The same keys for the same name within a test run."""
    return Keys(name)


class _Form(HTMLParser):
    """Names of the fields and values of the buttons of the only form of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.fields: set[str] = set()
        self.actions: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "input" and values.get("name"):
            self.fields.add(str(values["name"]))
        elif tag == "button" and values.get("value"):
            self.actions.add(str(values["value"]))


class OidcProvider:
    """A running provider; stop it with `stop`."""

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self.keys = keys()
        self._start()

    def _start(self) -> None:
        binary, modules = node.packages()
        configuration = {
            **{name: value for name, value in asdict(self.options).items() if name != "redirect_uris"},
            "modules": str(modules),
            "keys": self.keys.jwks(),
            "clients": [
                {
                    "client_id": CLIENT_ID,
                    "client_secret": CLIENT_SECRET,
                    "client_name": "Gatehouse",
                    "redirect_uris": list(self.options.redirect_uris),
                    "grant_types": ["authorization_code", "refresh_token"],
                    "response_types": ["code"],
                },
                {
                    "client_id": MACHINE_ID,
                    "client_secret": MACHINE_SECRET,
                    "grant_types": ["client_credentials"],
                    "redirect_uris": [],
                    "response_types": [],
                },
            ],
        }
        environment = {**node.clean_environment(), "OIDC_PROVIDER": json.dumps(configuration)}
        self._process: Peer = launch([binary, str(PROGRAM)], environment=environment)
        self.issuer = self._process.url

    def stop(self) -> None:
        self._process.stop()

    def said(self) -> str:
        """The end of its log."""
        return self._process.said()

    def restart(self, *, with_keys: str | None = None) -> None:
        """Start anew at the same issuer; with the keys of another name, its keys are rotated. It forgets all else."""
        port = urllib.parse.urlsplit(self.issuer).port or 0
        self.stop()
        self.options = Options(**{**self.options.__dict__, "port": port})
        if with_keys:
            self.keys = keys(with_keys)
        self._start()

    def metadata(self) -> dict[str, Any]:
        """Its openid-configuration."""
        found: dict[str, Any] = requests.get(f"{self.issuer}/.well-known/openid-configuration", timeout=10).json()
        return found

    def requests_for(self, path: str) -> int:
        """How many requests for a path, such as `/jwks`, came so far."""
        seen = requests.get(f"{self.issuer}/witness/requests", timeout=10).json()
        return sum(1 for request in seen if request["path"] == path)

    def add_client(self, redirect_uri: str, **metadata: Any) -> tuple[str, str]:
        """Register one more confidential client: its id and secret."""
        asked = {
            "client_name": "Gatehouse",
            "redirect_uris": [redirect_uri],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            **metadata,
        }
        answer = requests.post(f"{self.issuer}/reg", json=asked, timeout=10)
        assert answer.status_code == 201, answer.text
        return answer.json()["client_id"], answer.json().get("client_secret", "")

    def sign_in(self, url: str, account: str = "ada", *, password: str = PASSWORD, decision: str = "allow") -> str:
        """Go through the pages that begin at the authorization URL `url`, without a browser.

        Returns the URL that the provider sends the browser back to; nobody has asked for it yet. `decision` is
        `allow` or `deny`. Raises AssertionError with the page when a page is not as expected.
        """
        with requests.Session() as session:
            answer = session.get(url, allow_redirects=False, timeout=10)
            for _ in range(20):
                if answer.is_redirect:
                    target = urllib.parse.urljoin(answer.url, answer.headers["Location"])
                    if not target.startswith(f"{self.issuer}/"):
                        return target
                    answer = session.get(target, allow_redirects=False, timeout=10)
                    continue
                form = _Form(answer.text)
                assert (answer.ok, bool(form.actions)) == (True, True), f"{answer.status_code}: {answer.text}"
                if "login" in form.actions:
                    filled = {"action": "login", "account": account, "password": password}
                else:
                    filled = {"action": decision if decision in form.actions else "continue"}
                answer = session.post(answer.url, data=filled, allow_redirects=False, timeout=10)
        raise AssertionError(f"the pages of the provider do not end: {answer.url}")

    def token_of_machine(self, resource: str, *, scope: str = "read") -> str:
        """The access token of a program without people (client_credentials) for a resource."""
        answer = requests.post(
            f"{self.issuer}/token",
            data={"grant_type": "client_credentials", "resource": resource, "scope": scope},
            auth=(MACHINE_ID, MACHINE_SECRET),
            timeout=10,
        )
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["access_token"]
        return token

    def mint(
        self,
        *,
        audience: str | Sequence[str],
        account: str = "ada",
        algorithm: str = "RS256",
        seconds: int = 300,
        headers: Mapping[str, Any] | None = None,
        signed_by: Keys | None = None,
        without: Sequence[str] = (),
        **claims: Any,
    ) -> str:
        """A JWT of this issuer with the claims of an account, as its own keys sign it.

        `claims` replace or add, `without` takes claims away, `signed_by` puts another's signature under it, and
        `seconds` is how long from now it holds (negative: it has expired).
        """
        now = int(time.time())
        known = {
            **self.options.accounts[account]["claims"],
            "iss": self.issuer,
            "aud": audience if isinstance(audience, str) else list(audience),
            "iat": min(now, now + seconds),
            "exp": now + seconds,
            **claims,
        }
        body = {name: value for name, value in known.items() if name not in without}
        signer = signed_by or self.keys
        return jwt.encode(
            body,
            signer.private[algorithm],
            algorithm=algorithm,
            headers={"kid": self.keys.kids[algorithm], **(headers or {})},
        )
