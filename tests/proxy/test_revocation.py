"""A right that ends, ends: the next request is refused and open streams end (T9, T10)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import connection as database
from django.utils import timezone

from authflows.inbound.api_keys import create_key, revoke_key
from authflows.models import ApiKey
from servers import changes
from servers.models import AccessRule, Call, Membership, Role
from tests.conftest import Cast
from tests.proxy.test_disconnects import the_record
from tests.proxy.wire import GUARD, Stage, message, staged, wait_until
from tests.support.gateway import LiveGateway
from tests.support.hanging import silent_database


def revoke(cast: Cast) -> int:
    revoke_key(ApiKey.objects.get(), actor="tests")
    return 401


def disable_person(cast: Cast) -> int:
    cast.member.is_active = False
    cast.member.save()
    return 401


def leave_team(cast: Cast) -> int:
    cast.member.groups.remove(cast.readers)
    return 403


def remove_member_from_team(cast: Cast) -> int:
    cast.readers.user_set.remove(cast.member)
    return 403


def delete_team(cast: Cast) -> int:
    cast.readers.delete()
    return 403


def remove_rule(cast: Cast) -> int:
    AccessRule.objects.get(team=cast.readers).delete()
    return 403


def end_rule(cast: Cast) -> int:
    rule = AccessRule.objects.get(team=cast.readers)
    rule.expires_at = timezone.now() - timedelta(seconds=1)
    rule.save()
    return 403


def disable_server(cast: Cast) -> int:
    cast.server.refresh_from_db()
    cast.server.enabled = False
    cast.server.save()
    return 403


def remove_membership(cast: Cast) -> int:
    Membership.objects.get(user=cast.member, tenant=cast.tenant).delete()
    return 403


def delete_server(cast: Cast) -> int:
    cast.server.delete()
    return 403


WAYS = [
    revoke,
    disable_person,
    leave_team,
    remove_member_from_team,
    delete_team,
    remove_rule,
    end_rule,
    disable_server,
    remove_membership,
    delete_server,
]


def works(stage: Stage) -> None:
    """A call from end to end; its connection upstream is not kept."""
    caller, asked = stage.call()
    asked.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
    assert caller.read_head() == 200
    assert caller.read_body() == b"{}"


@pytest.mark.requirement("T9", "T10", "F-206")
@pytest.mark.parametrize("end", WAYS)
def test_the_very_next_request_is_refused(stage: Stage, cast: Cast, end: Callable[[Cast], int]) -> None:
    works(stage)
    status = end(cast)
    for method in ("POST", "GET", "DELETE"):
        body, _ = message()
        caller = stage.caller().ask(stage.path, key=stage.key, method=method, body=body if method == "POST" else b"")
        assert caller.read_head() == status
    assert stage.upstream.nobody_came()


@pytest.mark.requirement("T9", "T10")
@pytest.mark.parametrize("end", WAYS)
@pytest.mark.parametrize("kind", ["GET", "POST", "listen"])
def test_open_streams_end(stage: Stage, cast: Cast, end: Callable[[Cast], int], kind: str) -> None:
    if kind == "listen":
        caller, asked = stage.call(modern=True, method="subscriptions/listen")
        asked.start_stream()
        caller.read_head()
    else:
        caller, asked = stage.stream(http_method=kind)
    asked.piece(b"data: {}\n\n")
    assert caller.event() == b"data: {}\n\n"
    end(cast)
    assert caller.chunk() == b""
    assert asked.left_by_gateway()
    the_record(outcome="access_ended", status=200)


@pytest.mark.requirement("T9")
def test_a_call_that_waits_for_its_answer_ends(stage: Stage, cast: Cast) -> None:
    caller, asked = stage.call()
    revoke(cast)
    assert caller.read_head() == 403
    assert asked.left_by_gateway()
    the_record(outcome="access_ended", status=403)


@pytest.mark.requirement("T9")
def test_a_key_that_is_revoked_while_the_body_comes_is_refused(stage: Stage, cast: Cast) -> None:
    body, _ = message()
    caller = stage.caller().ask(stage.path, key=stage.key, body=body[:10], length=len(body))
    # Another request on the way: the gateway has looked at the first one's key by now.
    works(stage)
    revoke(cast)
    caller.send(body[10:])
    assert caller.read_head() == 401
    assert "www-authenticate" in caller.headers
    assert stage.upstream.nobody_came()


@pytest.mark.requirement("T9", "F-206")
def test_a_key_that_expires_during_a_stream_ends_it(gateway: LiveGateway, cast: Cast) -> None:
    soon = timezone.now() + timedelta(seconds=2)
    _, key = create_key(owner=cast.member, name="short", actor="tests", expires_at=soon)
    with staged(gateway.port, cast.server, key) as stage:
        caller, asked = stage.stream()
        assert caller.chunk() == b""
        assert timezone.now() >= soon
        assert asked.left_by_gateway()
        refused = stage.caller().call(stage.path, key=key)
        assert refused.read_head() == 401
    the_records = wait_until(lambda: _outcomes() if len(_outcomes()) == 2 else None, "both records")
    assert the_records == ["access_ended", "credential_expired"]


def _outcomes() -> list[str]:
    from servers.models import Call

    return list(Call.objects.order_by("id").values_list("outcome", flat=True))


@pytest.mark.requirement("T9")
def test_a_rule_that_expires_during_a_stream_ends_it(stage: Stage, cast: Cast) -> None:
    rule = AccessRule.objects.get(team=cast.readers)
    rule.expires_at = soon = timezone.now() + timedelta(seconds=2)
    rule.save()
    caller, asked = stage.stream()
    assert caller.chunk() == b""
    assert timezone.now() >= soon
    assert asked.left_by_gateway()


@pytest.mark.requirement("T9")
def test_a_rule_that_is_given_an_end_during_a_stream_ends_it_then(stage: Stage, cast: Cast) -> None:
    caller, asked = stage.stream()
    rule = AccessRule.objects.get(team=cast.readers)
    rule.expires_at = soon = timezone.now() + timedelta(seconds=2)
    rule.save()
    assert caller.chunk() == b""
    assert timezone.now() >= soon
    assert asked.left_by_gateway()


@pytest.mark.requirement("T9")
def test_a_stream_lives_on_when_another_rule_still_lets_its_caller_in(stage: Stage, cast: Cast) -> None:
    AccessRule.objects.create(server=cast.server, user=cast.member, role=Role.USER)
    rule = AccessRule.objects.get(team=cast.readers)
    rule.expires_at = timezone.now() + timedelta(seconds=1)
    rule.save()
    caller, asked = stage.stream()
    # A stream of somebody whose only rule ends later tells that the first end has passed.
    AccessRule.objects.create(
        server=cast.server, user=cast.outsider, role=Role.USER, expires_at=timezone.now() + timedelta(seconds=2)
    )
    key = create_key(owner=cast.outsider, name="other", actor="tests")[1]
    other = stage.caller().ask(stage.path, key=key, method="GET")
    stage.upstream.request().start_stream()
    assert other.read_head() == 200
    assert other.chunk() == b""
    asked.piece(b"data: {}\n\n")
    assert caller.event() == b"data: {}\n\n"


@pytest.mark.requirement("T9", "SE-4")
def test_a_stream_ends_when_the_server_moves_to_another_address(stage: Stage, cast: Cast) -> None:
    caller, asked = stage.stream()
    cast.server.refresh_from_db()
    cast.server.url = "http://127.0.0.1:9/elsewhere"
    cast.server.save()
    assert caller.chunk() == b""
    assert asked.left_by_gateway()


@pytest.mark.requirement("T9")
def test_changes_that_concern_nobody_end_no_stream(stage: Stage, cast: Cast) -> None:
    caller, asked = stage.stream()
    cast.server.refresh_from_db()
    cast.server.description = "another description"
    cast.server.save()
    cast.outsider.is_active = False
    cast.outsider.save()
    revoke_key(create_key(owner=cast.member, name="other", actor="tests")[0], actor="tests")
    works(stage)
    other, other_asked = stage.stream(http_method="GET")
    asked.piece(b"data: {}\n\n")
    assert caller.event() == b"data: {}\n\n"
    # And then one that does.
    revoke_key(ApiKey.objects.get(name="laptop"), actor="tests")
    assert caller.chunk() == b""
    assert other.chunk() == b""
    assert other_asked.left_by_gateway()


@pytest.mark.requirement("T9")
def test_while_the_feed_cannot_be_read_an_open_stream_lives_only_as_the_database_says(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller, asked = stage.stream()
    asked.piece(b"data: {}\n\n")
    assert caller.event() == b"data: {}\n\n"
    with database.cursor() as cursor:
        cursor.execute("ALTER TABLE servers_change RENAME TO servers_change_away")
    try:
        ApiKey.objects.filter(name="laptop").update(revoked_at=timezone.now())  # as another process would
        monkeypatch.setattr(changes.feed, "_read_at", changes.feed._read_at - changes.STALE_AFTER_SECONDS)
        assert caller.chunk() == b""
    finally:
        with database.cursor() as cursor:
            cursor.execute("ALTER TABLE servers_change_away RENAME TO servers_change")
    the_record(outcome="access_ended", status=200)


@pytest.mark.requirement("T9")
def test_a_feed_that_cannot_be_read_is_a_503(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    works(stage)
    changes.feed.stop()
    monkeypatch.setattr(changes.feed, "_read_at", changes.feed._read_at - changes.STALE_AFTER_SECONDS)
    for key in (stage.key, None, "wrong"):
        caller = stage.caller().call(stage.path, key=key)
        answer = caller.answer()
        assert caller.status == 503
        assert caller.headers["retry-after"] == "5"
        assert answer["error"]["code"] == 1503
    changes.feed.start()
    works(stage)


@pytest.mark.requirement("T9", "T57")
def test_a_database_that_gives_no_answer_is_a_503_and_ends_open_streams(
    stage: Stage, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    works(stage)
    caller, asked = stage.stream()
    another = create_key(owner=cast.member, name="another", actor="tests")[1]
    with silent_database("change-feed", "gatehouse-db") as silence:
        assert silence.noticed.wait(GUARD)
        newcomer = stage.caller().call(stage.path, key=another)
        monkeypatch.setattr(changes.feed, "_read_at", changes.feed._read_at - changes.STALE_AFTER_SECONDS)
        known = stage.caller().call(stage.path, key=stage.key)
        assert known.answer()["error"]["code"] == 1503
        # Asked for just before, and waited for in vain:
        assert newcomer.answer()["error"]["code"] == 1503
        assert newcomer.status == 503
        assert caller.chunk() == b""
        assert asked.left_by_gateway()
    wait_until(lambda: Call.objects.filter(outcome="access_ended", status=200).exists(), "the record of the stream")
    wait_until(changes.feed.is_fresh, "the feed to be read again")
    works(stage)
