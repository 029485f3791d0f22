"""Who calls: from the Authorization header to a principal, or to one kind of refusal."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from authflows.inbound.api_keys import create_key, revoke_key
from authflows.inbound.bearer import Refusal, Unauthenticated, authenticate
from authflows.models import ApiKey, VirtualAccount
from authflows.outbound.credentials import credential_for
from servers import changes, registry
from servers.access import Allowed, Principal, decide
from servers.changes import Feed, NotCached
from tests.conftest import Cast
from tests.support.other_process import run_elsewhere

NOW = 1_000_000.0
Queries = Callable[[int], Any]


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


def segment(content: dict[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def jwt(algorithm: str, signature: str = "") -> str:
    return ".".join((segment({"alg": algorithm, "typ": "JWT"}), segment({"sub": "admin"}), signature))


WELL_SHAPED = "ghk_abcdefgh_" + "A" * 43


@pytest.mark.requirement("T5", "RS-5", "RS-14")
@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer     ",
        b"Bearer\t" + WELL_SHAPED.encode(),
        b"Bearer " + WELL_SHAPED.encode() + b"\t",
        b"Bearer " + WELL_SHAPED.encode() + b" " + WELL_SHAPED.encode(),
        b"Bearer " + WELL_SHAPED.encode() + b", Bearer " + WELL_SHAPED.encode(),
        b"Bearer " + WELL_SHAPED.encode() + b"\x00",
        b"Bearer " + WELL_SHAPED.encode()[:-1],
        b"Bearer " + WELL_SHAPED.encode() + b"A",
        b"Bearer " + WELL_SHAPED.upper().encode(),
        b"Bearer \xff\xfe\xfd",
        b"Bearer " + "ghk_äöüäöüäö_".encode() + b"A" * 43,
        b'Bearer "' + WELL_SHAPED.encode() + b'"',
        b"Bearer=" + WELL_SHAPED.encode(),
        b"Basic " + base64.b64encode(f"user:{WELL_SHAPED}".encode()),
        b"Basic " + WELL_SHAPED.encode(),
        b"Digest " + WELL_SHAPED.encode(),
        b"ApiKey " + WELL_SHAPED.encode(),
        WELL_SHAPED.encode(),
        b"Bearer Bearer " + WELL_SHAPED.encode(),
        b"Bearer " + jwt("none").encode(),
        b"Bearer " + jwt("HS256", "AAAA").encode(),
        b"Bearer " + jwt("RS256", "AAAA").encode(),
        b"Bearer null",
        b"Bearer undefined",
        b"Bearer ${API_KEY}",
        b"Bearer ' OR 1=1 --",
        b"Bearer " + b"A" * 5_000,
        b"Bearer " + b"A" * 1_000_000,
    ],
    ids=lambda header: repr(header[:40]),
)
@pytest.mark.django_db
def test_a_malformed_credential_is_refused_without_asking_the_database(
    header: bytes, django_assert_num_queries: Queries
) -> None:
    with django_assert_num_queries(0):
        assert authenticate(header, now=NOW) == Unauthenticated(Refusal.MALFORMED)
        assert authenticate(header, now=NOW, may_load=False) == Unauthenticated(Refusal.MALFORMED)


@pytest.mark.requirement("T5")
@given(st.binary(max_size=100))
def test_no_bytes_at_all_break_the_door(header: bytes) -> None:
    assert isinstance(authenticate(header, now=NOW, may_load=False), Unauthenticated)


@pytest.mark.requirement("RS-5")
def test_a_missing_credential_is_told_apart_for_the_record() -> None:
    assert authenticate(None, now=NOW) == Unauthenticated(Refusal.MISSING)


@pytest.mark.requirement("T5", "RS-5")
@pytest.mark.django_db
def test_an_unknown_key_is_refused() -> None:
    assert authenticate(bearer(WELL_SHAPED), now=NOW) == Unauthenticated(Refusal.UNKNOWN)


@pytest.mark.requirement("F-206")
def test_a_key_is_its_owner_with_their_tenants_and_teams(cast: Cast) -> None:
    key, token = create_key(owner=cast.member, name="k", actor="member")
    assert authenticate(bearer(token), now=NOW) == Principal(
        user_id=cast.member.pk,
        label="member",
        active=True,
        tenants=frozenset({cast.tenant.pk}),
        teams=frozenset({cast.readers.pk}),
        credential=f"api_key:{key.pk}",
    )


@pytest.mark.parametrize("header", ["bearer {}", "BEARER {}", "Bearer   {}", "Bearer {} "])
def test_the_scheme_is_read_as_http_says(cast: Cast, header: str) -> None:
    _, token = create_key(owner=cast.member, name="k", actor="member")
    assert authenticate(header.format(token).encode(), now=NOW)


@pytest.mark.requirement("F-206", "RS-5", "RS-7")
@pytest.mark.django_db(transaction=True)
def test_an_expired_key_is_refused_though_it_is_in_memory(cast: Cast) -> None:
    end = timezone.now() + timedelta(hours=1)
    _, token = create_key(owner=cast.member, name="k", actor="member", expires_at=end)
    assert authenticate(bearer(token), now=end.timestamp() - 1)
    refused = Unauthenticated(Refusal.EXPIRED)
    assert authenticate(bearer(token), now=end.timestamp(), may_load=False) == refused
    assert authenticate(bearer(token), now=end.timestamp() + 1, may_load=False) == refused


@pytest.mark.requirement("T10", "RS-7")
@pytest.mark.django_db(transaction=True)
def test_the_key_of_a_disabled_person_is_refused_at_once(cast: Cast) -> None:
    _, token = create_key(owner=cast.member, name="k", actor="member")
    assert authenticate(bearer(token), now=NOW)
    cast.member.is_active = False
    cast.member.save()
    assert authenticate(bearer(token), now=NOW) == Unauthenticated(Refusal.INACTIVE)


@pytest.mark.requirement("F-207", "T10")
@pytest.mark.django_db(transaction=True)
def test_the_key_of_a_disabled_virtual_account_is_refused_at_once(cast: Cast) -> None:
    user = type(cast.member).objects.create_user("robot")
    account = VirtualAccount.objects.create(tenant=cast.tenant, name="robot", user=user)
    _, token = create_key(owner=user, name="k", actor="admin")
    principal = authenticate(bearer(token), now=NOW)
    assert not isinstance(principal, Unauthenticated)
    assert principal.label == "virtual account robot"
    account.enabled = False
    account.save()
    assert authenticate(bearer(token), now=NOW) == Unauthenticated(Refusal.INACTIVE)


@pytest.mark.requirement("F-206", "T9", "RS-7")
@pytest.mark.django_db(transaction=True)
def test_a_revoked_key_is_refused_at_once_in_this_process(cast: Cast) -> None:
    key, token = create_key(owner=cast.member, name="k", actor="member")
    assert authenticate(bearer(token), now=NOW)
    assert authenticate(bearer(token), now=NOW, may_load=False), "it should come from memory"
    revoke_key(key, actor="member")
    assert authenticate(bearer(token), now=NOW) == Unauthenticated(Refusal.UNKNOWN)


@pytest.mark.requirement("T9")
@pytest.mark.django_db(transaction=True)
def test_a_revocation_that_is_rolled_back_leaves_the_key_good(cast: Cast) -> None:
    key, token = create_key(owner=cast.member, name="k", actor="member")
    with transaction.atomic():
        revoke_key(key, actor="member")
        transaction.set_rollback(True)
    assert authenticate(bearer(token), now=NOW)


@pytest.mark.requirement("F-206", "T9")
@pytest.mark.django_db(transaction=True)
def test_a_key_that_another_process_revoked_is_refused_here(cast: Cast) -> None:
    import threading

    key, token = create_key(owner=cast.member, name="k", actor="member")
    feed, told = Feed(), threading.Event()
    feed.start()
    assert authenticate(bearer(token), now=NOW)
    end = changes.listen(lambda kind, text: told.set() if (kind, text) == ("api_key", key.digest) else None)
    try:
        run_elsewhere(
            "from authflows.inbound.api_keys import revoke_key\n"
            "from authflows.models import ApiKey\n"
            f"revoke_key(ApiKey.objects.get(pk='{key.pk}'), actor='elsewhere')"
        )
        assert told.wait(30)
    finally:
        feed.stop()
        end()
    assert authenticate(bearer(token), now=NOW) == Unauthenticated(Refusal.UNKNOWN)


@pytest.mark.requirement("F-206")
@pytest.mark.django_db(transaction=True)
def test_the_steady_state_asks_the_database_nothing(cast: Cast, django_assert_num_queries: Queries) -> None:
    _, token = create_key(owner=cast.member, name="k", actor="member", servers=[cast.server])

    def call(*, may_load: bool) -> None:
        principal = authenticate(bearer(token), now=NOW, may_load=may_load)
        assert not isinstance(principal, Unauthenticated)
        server = registry.find("default", "calculator", may_load=may_load)
        assert server is not None
        assert decide(
            principal,
            server_id=server.id,
            tenant_id=server.tenant_id,
            enabled=server.enabled,
            rules=server.rules,
            now=NOW,
        ) == Allowed(principal_role)
        credential_for(principal, server, may_load=may_load)

    from servers.models import Role

    principal_role = Role.USER
    with pytest.raises(NotCached):
        call(may_load=False)
    call(may_load=True)
    with django_assert_num_queries(0):
        call(may_load=False)


@pytest.mark.requirement("RS-5")
def test_a_refusal_is_false_and_a_principal_is_not(cast: Cast) -> None:
    _, token = create_key(owner=cast.member, name="k", actor="member")
    assert authenticate(bearer(token), now=NOW)
    assert not authenticate(bearer(WELL_SHAPED), now=NOW)


@pytest.mark.requirement("F-206", "T5")
def test_the_stored_hash_of_a_key_is_not_a_key(cast: Cast) -> None:
    key, _ = create_key(owner=cast.member, name="k", actor="member")
    assert authenticate(bearer(key.digest), now=NOW) == Unauthenticated(Refusal.MALFORMED)
    assert ApiKey.objects.count() == 1
