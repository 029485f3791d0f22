"""An issuer of JWTs on loopback that does whatever a test wants, also what no provider would."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm, get_default_algorithms

from authflows.models import IdentityProvider
from servers.models import Tenant
from tests.conftest import allow_private

OPENID = "/.well-known/openid-configuration"
OAUTH = "/.well-known/oauth-authorization-server"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def segment(content: object) -> str:
    """One part of a JWT; bytes and text go in as they are."""
    if isinstance(content, str):
        content = content.encode()
    return b64(content if isinstance(content, bytes) else json.dumps(content).encode())


@dataclass(frozen=True)
class Signer:
    """A private key with its id."""

    kid: str
    algorithm: str
    private: Any

    def jwk(self, **changed: Any) -> dict[str, Any]:
        """The public key as an issuer lists it."""
        maker: Any = {"R": RSAAlgorithm, "P": RSAAlgorithm, "E": ECAlgorithm}[self.algorithm[0]]
        if self.algorithm == "EdDSA":
            maker = OKPAlgorithm
        jwk = {**maker.to_jwk(self.private.public_key(), as_dict=True), "kid": self.kid, "use": "sig"}
        jwk.pop("key_ops", None)
        return {name: value for name, value in {**jwk, **changed}.items() if value is not None}

    def sign(self, header: object, payload: object, *, algorithm: str | None = None) -> str:
        """A JWS of exactly this header and payload."""
        signed = f"{segment(header)}.{segment(payload)}"
        signature = get_default_algorithms()[algorithm or self.algorithm].sign(signed.encode(), self.private)
        return f"{signed}.{b64(signature)}"


@cache
def signer(kid: str = "k1", algorithm: str = "RS256", *, bits: int = 2048) -> Signer:
    """The same key for the same words within a test run."""
    if algorithm[0] in "RP":
        return Signer(kid, algorithm, rsa.generate_private_key(public_exponent=65537, key_size=bits))
    if algorithm == "EdDSA":
        return Signer(kid, algorithm, ed25519.Ed25519PrivateKey.generate())
    curve = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[algorithm]
    return Signer(kid, algorithm, ec.generate_private_key(curve))


@dataclass
class Answer:
    """What the issuer says at one path."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class Issuer:
    """A running issuer; a context manager. `answers` by path may be changed while it runs."""

    def __init__(self, path: str = "") -> None:
        self.requests: list[str] = []
        self.answers: dict[str, Answer | Callable[[BaseHTTPRequestHandler], None]] = {}
        self.signers: list[Signer] = [signer()]
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"{self.origin}{path}"
        self.describe()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def describe(self, at: str | None = None, **changed: Any) -> None:
        """Publish metadata at a path, the usual one unless named."""
        document = {"issuer": self.url, "jwks_uri": f"{self.origin}/jwks", **changed}
        self.answers[at or self.url.removeprefix(self.origin) + OPENID] = Answer(json.dumps(document).encode())

    def list_keys(self, *keys: dict[str, Any]) -> None:
        """Publish exactly these keys."""
        self.answers["/jwks"] = Answer(json.dumps({"keys": keys}).encode())

    def fetches(self, path: str = "/jwks") -> int:
        """How often a path was asked for."""
        return self.requests.count(path)

    def mint(
        self,
        *,
        now: float,
        by: Signer | None = None,
        header: Mapping[str, Any] | None = None,
        algorithm: str | None = None,
        **claims: Any,
    ) -> str:
        """A JWT that is good at `now`, but for what is named. A claim or header of None is left away."""
        by = by or self.signers[0]
        head = {"alg": algorithm or by.algorithm, "kid": by.kid, "typ": "JWT", **(header or {})}
        body = {"iss": self.url, "sub": "1f3a", "aud": "gatehouse", "iat": int(now), "exp": int(now) + 300, **claims}
        return by.sign(
            {name: value for name, value in head.items() if value is not None},
            {name: value for name, value in body.items() if value is not None},
            algorithm=algorithm,
        )

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests.append(self.path)
                default = Answer(json.dumps({"keys": [one.jwk() for one in issuer.signers]}).encode())
                answer = issuer.answers.get(self.path, default if self.path == "/jwks" else Answer(b"", 404))
                if not isinstance(answer, Answer):
                    answer(self)
                    return
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        return Handler

    def __enter__(self) -> Issuer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


def trust(issuer: Issuer, tenant: Tenant, **fields: Any) -> IdentityProvider:
    """A provider whose JWTs open the door, and whoever it names gets an account."""
    allow_private(issuer.url)
    values = {
        "name": "Acme",
        "slug": "acme",
        "issuer": issuer.url,
        "accept_tokens": True,
        "audiences": ["gatehouse"],
        "creation": IdentityProvider.Creation.ANYBODY,
        **fields,
    }
    return IdentityProvider.objects.create(tenant=tenant, **values)


def _public_pem() -> bytes:
    return signer().private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _hmac_with_public_key(header: dict[str, Any], payload: dict[str, Any]) -> str:
    signed = f"{segment(header)}.{segment(payload)}"
    return f"{signed}.{b64(hmac.new(_public_pem(), signed.encode(), hashlib.sha256).digest())}"


def malformed(issuer: Issuer, *, now: float) -> dict[str, str]:
    """Every kind of token that is told by its shape; needs no running issuer."""
    good = issuer.mint(now=now)
    first, second, third = good.split(".")
    by, head = signer(), {"alg": "RS256", "kid": "k1", "typ": "JWT"}
    body = {"iss": issuer.url, "sub": "1f3a", "aud": "gatehouse", "exp": int(now) + 300}

    def with_header(**header: Any) -> str:
        return by.sign({**head, **header}, body)

    raw = json.dumps(body)
    return {
        "alg none": f"{segment({'alg': 'none', 'typ': 'JWT'})}.{second}.",
        "alg none with a signature": f"{segment({'alg': 'none', 'typ': 'JWT'})}.{second}.{third}",
        "alg None": f"{segment({'alg': 'None'})}.{second}.{third}",
        "alg missing": f"{segment({'typ': 'JWT'})}.{second}.{third}",
        "alg null": f"{segment({'alg': None})}.{second}.{third}",
        "alg list": f"{segment({'alg': ['RS256']})}.{second}.{third}",
        "alg in small letters": f"{segment({'alg': 'rs256'})}.{second}.{third}",
        "HS256 with the public key": _hmac_with_public_key({**head, "alg": "HS256"}, body),
        "HS256 with another kid": _hmac_with_public_key({"alg": "HS256"}, body),
        "encryption algorithm": f"{segment({'alg': 'RSA-OAEP'})}.{second}.{third}",
        "secp256k1": f"{segment({'alg': 'ES256K'})}.{second}.{third}",
        "logout token": with_header(typ="logout+jwt"),
        "ID-JAG": with_header(typ="oauth-id-jag+jwt"),
        "DPoP proof": with_header(typ="dpop+jwt"),
        "typ no text": with_header(typ=7),
        "crit": with_header(crit=["exp"]),
        "crit empty": with_header(crit=[]),
        "b64 false": with_header(b64=False),
        "zipped": with_header(zip="DEF"),
        "nested": by.sign({**head, "cty": "JWT"}, good),
        "nested without cty": by.sign(head, good),
        "kid no text": with_header(kid=7),
        "kid list": with_header(kid=["k1"]),
        "kid null is no kid, but a list in it is": with_header(kid={"a": 1}),
        "claim twice": by.sign(head, raw[:-1] + ', "sub": "admin"}'),
        "issuer twice": by.sign(head, raw[:-1] + ', "iss": "https://else.example"}'),
        "header twice": by.sign('{"alg":"RS256","kid":"k1","kid":"k2"}', body),
        "claims a list": by.sign(head, [body]),
        "claims a text": by.sign(head, '"eyJ"'),
        "claims not JSON": by.sign(head, raw[:-1]),
        "claims with NaN": by.sign(head, raw[:-1] + ', "x": NaN}'),
        "claims nested too deep": by.sign(head, raw[:-1] + ', "x": ' + "[" * 500 + "]" * 500 + "}"),
        "claims not UTF-8": by.sign(head, raw[:-1].encode() + b', "x": "\xff"}'),
        "claims with a lone surrogate": by.sign(head, raw[:-1] + ', "x": "\\ud800"}'),
        "no issuer": by.sign(head, {name: value for name, value in body.items() if name != "iss"}),
        "issuer empty": by.sign(head, {**body, "iss": ""}),
        "issuer a list": by.sign(head, {**body, "iss": [issuer.url]}),
        "issuer null": by.sign(head, {**body, "iss": None}),
        "two parts": f"{first}.{second}",
        "no signature": f"{first}.{second}.",
        "four parts": f"{good}.{third}",
        "five parts": f"{first}.{third}.{second}.{third}.{third}",
        "padding": f"{first}=.{second}.{third}",
        "standard alphabet": f"{first}.{second}.+{third[1:-1]}/",
        "inner space": f"{first}.{second}. {third}",
        "line break": f"{first}.{second}.{third}\n",
        "header cut": f"{first[:-3]}.{second}.{third}",
        "claims cut": f"{first}.{second[:-3]}.{third}",
        "huge": by.sign(head, {**body, "groups": ["g" * 100] * 200}),
        "huge header": by.sign({**head, "x": "h" * 20_000}, body),
        "looks like a key": f"ghk_{first}.{second}.{third}",
        "quoted": f'"{good}"',
        "two tokens": f"{good} {good}",
        "list of tokens": f"{good},{good}",
    }
