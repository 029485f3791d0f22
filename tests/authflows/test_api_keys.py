"""API keys: made once, shown once, stored as a hash, limited, expiring, revocable."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from authflows.inbound.api_keys import create_key, looks_like_key, revoke_key
from authflows.models import ApiKey
from servers.models import AuditEvent, Server
from tests.conftest import Cast


@pytest.mark.requirement("F-206", "T55")
def test_only_the_hash_of_a_key_is_in_the_database(cast: Cast) -> None:
    key, token = create_key(owner=cast.member, name="laptop", actor="member", servers=[cast.server])
    assert key.digest == hashlib.sha256(token.encode()).hexdigest()
    assert token.startswith(key.prefix)
    secret_part = token.removeprefix(key.prefix)
    assert len(secret_part) == 44
    everything = dump()
    assert key.prefix in everything
    assert secret_part not in everything


def dump() -> str:
    """Every value of every row of every table as one text."""
    found = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            found += [str(value) for row in cursor.fetchall() for value in row]
    assert len(found) > len(list(apps.get_models()))
    return "\n".join(found)


@pytest.mark.requirement("F-206")
def test_every_key_is_different_and_has_the_shape_of_a_key(cast: Cast) -> None:
    tokens = {create_key(owner=cast.member, name="k", actor="member")[1] for _ in range(20)}
    assert len(tokens) == 20
    assert all(looks_like_key(token) and re.fullmatch(r"ghk_[\w-]{52}", token) for token in tokens)


@pytest.mark.requirement("F-206")
def test_a_key_cannot_end_in_the_past(cast: Cast) -> None:
    with pytest.raises(ValidationError, match="future"):
        create_key(owner=cast.member, name="k", actor="member", expires_at=timezone.now())
    assert not ApiKey.objects.exists()


@pytest.mark.requirement("F-206")
@pytest.mark.parametrize("name", ["", "x" * 101])
def test_a_key_needs_a_name_of_fitting_length(cast: Cast, name: str) -> None:
    with pytest.raises(ValidationError):
        create_key(owner=cast.member, name=name, actor="member")


@pytest.mark.requirement("F-206")
def test_a_key_for_a_list_of_servers_stays_limited_when_the_list_becomes_empty(cast: Cast) -> None:
    limited, _ = create_key(owner=cast.member, name="one", actor="member", servers=[cast.server])
    nothing, _ = create_key(owner=cast.member, name="none", actor="member", servers=[])
    every, _ = create_key(owner=cast.member, name="all", actor="member")
    Server.objects.filter(pk=cast.server.pk).delete()
    for key in (limited, nothing, every):
        key.refresh_from_db()
    assert [key.limited for key in (limited, nothing, every)] == [True, True, False]


@pytest.mark.requirement("F-206")
def test_revoking_twice_keeps_the_first_time_and_leaves_one_event(cast: Cast) -> None:
    key, _ = create_key(owner=cast.member, name="k", actor="member")
    assert key.state() == "active"
    revoke_key(key, actor="member")
    first = key.revoked_at
    revoke_key(ApiKey.objects.get(pk=key.pk), actor="admin")
    key.refresh_from_db()
    assert first is not None
    assert key.revoked_at == first
    assert key.state() == "revoked"
    assert AuditEvent.objects.filter(action="api_key:revoke").count() == 1


@pytest.mark.requirement("F-206")
def test_a_key_says_when_it_has_expired(cast: Cast) -> None:
    end = timezone.now() + timedelta(hours=1)
    key, _ = create_key(owner=cast.member, name="k", actor="member", expires_at=end)
    assert key.state() == "active"
    assert key.state(end) == "expired"


@pytest.mark.requirement("F-801")
def test_making_and_revoking_a_key_are_audited_without_the_key(cast: Cast) -> None:
    key, token = create_key(owner=cast.member, name="k", actor="somebody", servers=[cast.server])
    revoke_key(key, actor="somebody else")
    events = list(AuditEvent.objects.filter(subject_id=str(key.pk)).order_by("sequence"))
    assert [(e.action, e.actor) for e in events] == [
        ("api_key:create", "somebody"),
        ("api_key:revoke", "somebody else"),
    ]
    assert events[0].detail == {"owner": "member", "servers": ["calculator"]}
    assert token not in str(AuditEvent.objects.values_list())


@pytest.mark.requirement("F-206")
def test_the_database_refuses_a_second_row_with_the_hash_of_a_key(cast: Cast) -> None:
    key, _ = create_key(owner=cast.member, name="k", actor="member")
    twin = ApiKey(owner=cast.outsider, name="twin", prefix="other", digest=key.digest)
    with pytest.raises(IntegrityError), transaction.atomic():
        twin.save()


def test_a_key_shows_its_prefix_and_nothing_more(cast: Cast) -> None:
    key, token = create_key(owner=cast.member, name="laptop", actor="member")
    assert str(key) == f"laptop ({key.prefix}…)"
    assert token not in repr(vars(key))


@pytest.mark.requirement("RS-14")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "ghk_",
        "ghk_abcdefgh_" + "a" * 42,
        "ghk_abcdefgh_" + "a" * 44,
        "GHK_abcdefgh_" + "a" * 43,
        "xghk_abcdefgh_" + "a" * 43,
        "ghk_abcdefgh_" + "a" * 42 + "ä",
        "ghk_abcdefgh_" + "a" * 43 + "\n",
    ],
)
def test_other_shapes_are_not_taken_for_keys(text: Any) -> None:
    assert not looks_like_key(text)
