"""The keys of identity providers: where they come from, how long they count, and how little can be made of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.db import connections
from jwt.algorithms import RSAAlgorithm

from authflows.inbound.identity import signing_keys
from authflows.inbound.identity.signing_keys import (
    FRESH_SECONDS,
    KINDS,
    REFETCH_SECONDS,
    RETRY_SECONDS,
    STALE_SECONDS,
    KeysUnavailable,
    find,
    keys_in,
    metadata_urls,
)
from authflows.models import IdentityProvider
from authflows.models.identity import SIGNATURE_ALGORITHMS
from servers.models import PrivateDestination
from tests.conftest import Cast, allow_private
from tests.support.issuer import OAUTH, OPENID, Answer, Issuer, signer

NOW = 1_700_000_000.0
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requirement("F-208")]


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as running:
        yield running


@pytest.fixture
def provider(cast: Cast, issuer: Issuer) -> IdentityProvider:
    return provider_of(cast, issuer)


def provider_of(cast: Cast, issuer: Issuer, **fields: Any) -> IdentityProvider:
    allow_private(issuer.url)
    values = {"name": "Acme", "slug": "acme", "issuer": issuer.url, "accept_tokens": True, **fields}
    return IdentityProvider.objects.create(tenant=cast.tenant, **values)


def look(provider: IdentityProvider, kid: str | None = "k1", *, now: float = NOW, algorithm: str = "RS256") -> Any:
    return find(provider, kid=kid, algorithm=algorithm, now=now)


def test_keys_are_kept_and_looked_for_again_after_ten_minutes(issuer: Issuer, provider: IdentityProvider) -> None:
    assert look(provider).public_numbers() == signer().private.public_key().public_numbers()
    assert look(provider, now=NOW + FRESH_SECONDS - 1)
    assert issuer.fetches() == 1
    assert look(provider, now=NOW + FRESH_SECONDS)
    assert issuer.fetches() == 2


@pytest.mark.requirement("T5")
def test_a_key_that_the_provider_withdrew_no_longer_counts(issuer: Issuer, provider: IdentityProvider) -> None:
    assert look(provider)
    issuer.signers = [signer("k2")]
    assert look(provider, now=NOW + FRESH_SECONDS) is None
    assert look(provider, "k2", now=NOW + FRESH_SECONDS)


def test_a_new_key_is_fetched_when_it_is_first_named_but_at_most_once_a_minute(
    issuer: Issuer, provider: IdentityProvider
) -> None:
    assert look(provider)
    issuer.signers.append(signer("k2"))
    assert look(provider, "k2", now=NOW + REFETCH_SECONDS - 1) is None
    assert issuer.fetches() == 1
    assert look(provider, "k2", now=NOW + REFETCH_SECONDS)
    for number in range(20):
        assert look(provider, f"made-up-{number}", now=NOW + REFETCH_SECONDS + number) is None
    assert issuer.fetches() == 2
    assert look(provider, "made-up", now=NOW + 2 * REFETCH_SECONDS) is None
    assert issuer.fetches() == 3


def test_the_old_keys_count_for_a_day_while_the_provider_is_down(issuer: Issuer, provider: IdentityProvider) -> None:
    assert look(provider)
    issuer.answers["/jwks"] = Answer(b"gone", 503)
    assert look(provider, now=NOW + FRESH_SECONDS)
    assert look(provider, now=NOW + FRESH_SECONDS + REFETCH_SECONDS - 1)
    assert issuer.fetches() == 2, "asked again at most once a minute"
    assert look(provider, now=NOW + STALE_SECONDS - 1)
    with pytest.raises(KeysUnavailable):
        look(provider, now=NOW + STALE_SECONDS)
    del issuer.answers["/jwks"]
    assert look(provider, now=NOW + STALE_SECONDS + RETRY_SECONDS)


def test_a_provider_that_was_never_reached_is_not_asked_for_every_token(
    issuer: Issuer, provider: IdentityProvider
) -> None:
    issuer.answers["/jwks"] = Answer(b"", 500)
    for second in range(int(RETRY_SECONDS)):
        with pytest.raises(KeysUnavailable):
            look(provider, now=NOW + second)
    assert issuer.fetches() == 1
    del issuer.answers["/jwks"]
    assert look(provider, now=NOW + RETRY_SECONDS)


def test_a_clock_that_is_set_back_does_not_keep_old_keys(issuer: Issuer, provider: IdentityProvider) -> None:
    assert look(provider)
    assert look(provider, now=NOW - 10 * STALE_SECONDS)
    assert issuer.fetches() == 2


def test_many_threads_make_one_fetch(issuer: Issuer, provider: IdentityProvider) -> None:
    arrived, go = threading.Semaphore(0), threading.Event()

    def slowly(handler: BaseHTTPRequestHandler) -> None:
        body = json.dumps({"keys": [signer().jwk()]}).encode()
        arrived.release()
        go.wait(3)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    issuer.answers["/jwks"] = slowly

    def one() -> Any:
        try:
            return look(provider)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=8) as pool:
        found = [pool.submit(one) for _ in range(8)]
        assert arrived.acquire(timeout=10)
        go.set()
        assert all(future.result() for future in found)
    assert issuer.fetches() == 1


def test_while_one_looks_for_news_the_others_go_on_with_what_there_is(
    issuer: Issuer, provider: IdentityProvider
) -> None:
    assert look(provider)
    arrived, go = threading.Event(), threading.Event()

    def hanging(handler: BaseHTTPRequestHandler) -> None:
        arrived.set()
        go.wait(10)
        handler.send_error(500)

    issuer.answers["/jwks"] = hanging
    with ThreadPoolExecutor(max_workers=1) as pool:
        news = pool.submit(look, provider, now=NOW + FRESH_SECONDS)
        assert arrived.wait(10)
        assert look(provider, now=NOW + FRESH_SECONDS)
        assert not news.done()
        go.set()
        assert news.result()


def test_another_address_in_the_settings_counts_at_once(issuer: Issuer, provider: IdentityProvider) -> None:
    assert look(provider)
    issuer.answers["/elsewhere"] = Answer(json.dumps({"keys": [signer("k2").jwk()]}).encode())
    provider.jwks_url = f"{issuer.origin}/elsewhere"
    provider.save()
    assert look(provider, "k2")
    assert look(provider, "k1") is None


@pytest.mark.parametrize("path", ["", "/realms/acme", "/realms/acme/"])
def test_keys_are_found_by_the_metadata_of_openid_and_of_oauth(cast: Cast, path: str) -> None:
    with Issuer(path) as issuer:
        openid, oauth = metadata_urls(issuer.url)
        assert openid == issuer.origin + path.rstrip("/") + OPENID
        assert oauth == issuer.origin + OAUTH + path.rstrip("/")
        issuer.answers.clear()
        issuer.describe(at=openid.removeprefix(issuer.origin))
        assert look(provider_of(cast, issuer))
        issuer.answers.clear()
        issuer.describe(at=oauth.removeprefix(issuer.origin))
        assert look(provider_of(cast, issuer, slug="again", accept_tokens=False))


def _drip(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            threading.Event().wait(0.05)
        handler.wfile.write(json.dumps({"keys": [signer().jwk()]}).encode())
    except OSError:
        pass


def _json(document: object) -> Answer:
    return Answer(json.dumps(document).encode())


@pytest.mark.requirement("T5")
@pytest.mark.parametrize(
    ("path", "answer"),
    [
        (OPENID, _json({"issuer": "https://else.example", "jwks_uri": "{origin}/jwks"})),
        (OPENID, _json({"issuer": "{origin}/", "jwks_uri": "{origin}/jwks"})),
        (OPENID, _json({"jwks_uri": "{origin}/jwks"})),
        (OPENID, _json({"issuer": "{origin}"})),
        (OPENID, _json({"issuer": "{origin}", "jwks_uri": 7})),
        (OPENID, _json({"issuer": "{origin}", "jwks_uri": "file:///etc/passwd"})),
        (OPENID, _json({"issuer": "{origin}", "jwks_uri": "http://localhost:{port}/jwks"})),
        (OPENID, _json({"issuer": "{origin}", "jwks_uri": "http://user:password@127.0.0.1:{port}/jwks"})),
        (OPENID, Answer(b'{"issuer": "{origin}", "issuer": "{origin}", "jwks_uri": "{origin}/jwks"}')),
        (OPENID, Answer(b"", 302, {"Location": "{origin}/other"})),
        (OPENID, Answer(b"<html>")),
        ("/jwks", Answer(b"", 302, {"Location": "{origin}/other"})),
        ("/jwks", Answer(b"", 204)),
        ("/jwks", Answer(b"<html>")),
        ("/jwks", Answer(b"[]")),
        ("/jwks", _json({})),
        ("/jwks", _json({"keys": {}})),
        ("/jwks", _json({"keys": []})),
        ("/jwks", _json({"keys": [7, None, "k1", {}]})),
        ("/jwks", _json({"more": "x" * 600_000, "keys": [signer().jwk()]})),
        ("/jwks", Answer(b'{"keys":' + b"[" * 100_000)),
        ("/jwks", Answer(b"{}", 200, {"Content-Encoding": "gzip"})),
        ("/jwks", Answer(b'{"keys', 200, {"Content-Length": "1000"})),
        ("/jwks", _drip),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", repr(value)[:80]),
)
def test_a_provider_that_says_something_odd_has_no_keys(
    issuer: Issuer,
    provider: IdentityProvider,
    path: str,
    answer: Answer | Callable[[BaseHTTPRequestHandler], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signing_keys, "FETCH_SECONDS", 0.5)
    if isinstance(answer, Answer):
        words = {"{origin}": issuer.origin, "{port}": issuer.origin.rpartition(":")[2]}
        body, headers = answer.body.decode(), json.dumps(dict(answer.headers))
        for word, value in words.items():
            body, headers = body.replace(word, value), headers.replace(word, value)
        answer = Answer(body.encode(), answer.status, json.loads(headers))
    issuer.answers["/other"] = _json({"keys": [signer().jwk()]})
    issuer.answers[path] = answer
    with pytest.raises(KeysUnavailable):
        look(provider)
    assert issuer.fetches("/other") == 0


@pytest.mark.requirement("T5")
def test_a_private_address_is_not_asked_unless_it_is_allowed(issuer: Issuer, provider: IdentityProvider) -> None:
    PrivateDestination.objects.all().delete()
    with pytest.raises(KeysUnavailable):
        look(provider)
    assert issuer.requests == []


def usable(jwk: dict[str, Any]) -> bool:
    return len(keys_in({"keys": [jwk]})) == 1


@pytest.mark.requirement("T5")
def test_only_public_keys_for_signatures_are_taken() -> None:
    good = signer().jwk()
    assert usable(good)
    assert usable(signer().jwk(use=None, kid=None))
    assert usable(signer().jwk(key_ops=["verify"], alg="RS256", x5c=["AAAA"], x5u="https://else.example"))
    private = RSAAlgorithm.to_jwk(signer().private, as_dict=True)
    private.pop("key_ops", None)
    bad = {
        "private": private,
        "for encryption": signer().jwk(use="enc"),
        "use no text": signer().jwk(use=["sig"]),
        "for signing only": signer().jwk(key_ops=["sign"]),
        "operations no list": signer().jwk(key_ops="verify"),
        "symmetric": {"kty": "oct", "k": "c2VjcmV0", "kid": "k1", "alg": "HS256"},
        "small": signer("small", bits=1024).jwk(),
        "unknown type": {"kty": "AKP", "kid": "k1"},
        "curve of bitcoin": {**signer("e1", "ES256").jwk(), "crv": "secp256k1"},
        "wrong curve": {**signer("e1", "ES256").jwk(), "crv": "P-384"},
        "X25519": {**signer("o1", "EdDSA").jwk(), "crv": "X25519"},
        "not on the curve": {**signer("e1", "ES256").jwk(), "x": signer("e1", "ES256").jwk()["y"]},
        "no modulus": signer().jwk(n=None),
        "modulus no text": signer().jwk(n=7),
        "kid no text": signer().jwk(kid=7),
        "alg no text": signer().jwk(alg=["RS256"]),
        "type a list": signer().jwk(kty=["RSA"]),
    }
    assert {name: usable(jwk) for name, jwk in bad.items()} == dict.fromkeys(bad, False)


@pytest.mark.parametrize("algorithm", sorted(KINDS))
@pytest.mark.requirement("T5")
def test_a_key_fits_the_algorithms_of_its_kind_only(issuer: Issuer, provider: IdentityProvider, algorithm: str) -> None:
    issuer.list_keys(signer("k1", algorithm).jwk(alg=None))
    fitting = {name for name in KINDS if look(provider, algorithm=name) is not None}
    assert fitting == {name for name, kind in KINDS.items() if kind == KINDS[algorithm]}


@pytest.mark.requirement("T5")
def test_a_key_for_one_algorithm_is_for_no_other(issuer: Issuer, provider: IdentityProvider) -> None:
    issuer.list_keys(signer().jwk(alg="PS256"))
    assert {name for name in KINDS if look(provider, algorithm=name) is not None} == {"PS256"}


def test_a_token_without_a_key_id_is_checked_with_the_only_key_that_fits(
    issuer: Issuer, provider: IdentityProvider
) -> None:
    issuer.list_keys(signer("k1").jwk(kid=None), signer("o1", "EdDSA").jwk())
    assert look(provider, None)
    assert isinstance(look(provider, None, algorithm="EdDSA"), Ed25519PublicKey)
    issuer.list_keys(signer("k1").jwk(), signer("k2").jwk())
    assert look(provider, None, now=NOW + FRESH_SECONDS) is None


@pytest.mark.requirement("T5")
def test_every_algorithm_that_an_admin_may_choose_is_asymmetric() -> None:
    assert frozenset(KINDS) == SIGNATURE_ALGORITHMS
    assert not [name for name in KINDS if name.startswith("HS") or name == "none"]
