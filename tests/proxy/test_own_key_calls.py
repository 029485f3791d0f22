"""Calls with keys of people's own: each with theirs and nobody else's, until it ends, is refused or removed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from authflows.models import OwnKey
from authflows.outbound import own_keys
from authflows.outbound.own_keys import Kept
from gateway_project.logging import JsonFormatter, RedactSecrets
from servers.models import AuditEvent, AuthConfig, Call, Server
from servers.own_header import CleanValue, OwnHeaderSettings
from servers.secrets import store
from tests.conftest import Cast
from tests.support.calls import Caller, caller_for, point_at, speaking, tool_call
from tests.support.gateway import LiveGateway
from tests.support.keyed_server import with_config
from tests.support.records import write_records
from tests.support.upstream import Answer, Request, Upstream, mcp_server

pytestmark = pytest.mark.django_db(transaction=True)
ONE, OTHER, SHARED = "canary-key-of-one", "canary-key-of-the-other", "canary-key-of-all"


class Guarded(Upstream):
    """A scripted server that answers 401 to keys in `refused`."""

    def __init__(self) -> None:
        self.refused: set[str] = set()
        super().__init__(self._answer)

    def _answer(self, request: Request) -> Any:
        key = (request.header("authorization") or "").removeprefix("Bearer ")
        if not key or key in self.refused:
            return Answer(401, (("Content-Type", "application/json"),), b"{}")
        return mcp_server(request)

    def keys(self) -> list[str]:
        """The credentials that it was called with."""
        return [request.header("authorization") or "" for request in self.requests]


@pytest.fixture
def upstream(cast: Cast) -> Iterator[Guarded]:
    with Guarded() as server:
        point_at(cast.server, server)
        config = AuthConfig.objects.get(server=cast.server)
        config.method = AuthConfig.Method.OWN_HEADER
        config.settings = OwnHeaderSettings((("Authorization", "Bearer {{API_KEY}}"),)).stored()
        config.save()
        speaking(cast.server)
        yield server


def give(server: Server, person: Any, name: str = "API_KEY", *, value: str, by: Any = None, **more: Any) -> OwnKey:
    """What the person, or a manager for them, entered a moment ago."""
    kept = own_keys.enter(
        user=person,
        server=with_config(server),
        values={name: CleanValue(value)},
        actor=by or person,
        keep_untested=True,
        for_others=by is not None,
        **more,
    )
    assert isinstance(kept, Kept), kept
    return kept.key


def call(caller: Caller) -> dict[str, Any]:
    """A tools/call of a client that keeps no session."""
    found: dict[str, Any] = json.loads(caller.modern("tools/call", {"name": "echo"}).body)
    return found


@pytest.mark.requirement("F-308")
def test_each_person_calls_with_their_own_key(gateway: LiveGateway, cast: Cast, upstream: Guarded) -> None:
    give(cast.server, cast.member, value=ONE)
    give(cast.server, cast.manager, value=OTHER)
    upstream.requests.clear()
    for person, key in ((cast.member, ONE), (cast.manager, OTHER), (cast.member, ONE)):
        caller = caller_for(gateway, cast.server, person)
        assert "result" in call(caller)
        assert upstream.keys()[-1] == f"Bearer {key}"
        assert caller.key.encode() not in upstream.requests[-1].raw


@pytest.mark.requirement("F-308", "F-314")
def test_who_has_entered_none_is_told_where_to(gateway: LiveGateway, cast: Cast, upstream: Guarded) -> None:
    found = json.dumps(call(caller_for(gateway, cast.server, cast.member)))
    assert "/connect/" in found
    assert "Calculator" in found
    assert upstream.requests == []


@pytest.mark.requirement("F-309")
def test_an_expired_key_is_refused_though_it_was_used_a_moment_before(
    gateway: LiveGateway, cast: Cast, upstream: Guarded
) -> None:
    key = give(cast.server, cast.member, value=ONE, expires_at=timezone.now() + timedelta(hours=1))
    caller = caller_for(gateway, cast.server, cast.member)
    assert "result" in call(caller)
    key.expires_at = timezone.now()
    key.save()
    upstream.requests.clear()
    assert "expired" in json.dumps(call(caller))
    assert upstream.requests == []


@pytest.mark.requirement("F-308", "SE-4")
def test_a_replaced_key_is_used_at_once_and_sessions_of_the_old_one_end(
    gateway: LiveGateway, cast: Cast, upstream: Guarded
) -> None:
    give(cast.server, cast.member, value=ONE)
    caller = caller_for(gateway, cast.server, cast.member)
    session = caller.open_session()
    give(cast.server, cast.member, value=OTHER)
    upstream.requests.clear()
    assert caller.post(tool_call(), [("Mcp-Session-Id", session)]).status == 404
    assert "result" in call(caller)
    assert set(upstream.keys()) == {f"Bearer {OTHER}"}


@pytest.mark.requirement("F-308")
def test_a_removed_key_is_used_no_more(gateway: LiveGateway, cast: Cast, upstream: Guarded) -> None:
    key = give(cast.server, cast.member, value=ONE)
    caller = caller_for(gateway, cast.server, cast.member)
    assert "result" in call(caller)
    own_keys.remove(key, actor="member")
    upstream.requests.clear()
    assert "/connect/" in json.dumps(call(caller))
    assert upstream.requests == []


@pytest.mark.requirement("F-308")
def test_a_key_that_the_server_refuses_is_asked_for_again(gateway: LiveGateway, cast: Cast, upstream: Guarded) -> None:
    give(cast.server, cast.member, value=ONE)
    caller = caller_for(gateway, cast.server, cast.member)
    assert "result" in call(caller)
    upstream.refused.add(ONE)
    assert "/connect/" in json.dumps(call(caller))
    assert OwnKey.objects.get().refused_at is not None
    upstream.requests.clear()
    assert "Enter it again" in json.dumps(call(caller))
    assert upstream.requests == []
    give(cast.server, cast.member, value=OTHER)
    assert "result" in call(caller)


@pytest.mark.requirement("T29", "F-308")
def test_a_key_does_not_follow_the_server_to_another_origin(
    gateway: LiveGateway, cast: Cast, upstream: Guarded
) -> None:
    give(cast.server, cast.member, value=ONE)
    caller = caller_for(gateway, cast.server, cast.member)
    assert "result" in call(caller)
    with Guarded() as elsewhere:
        point_at(cast.server, elsewhere)
        assert "The address of Calculator changed" in json.dumps(call(caller))
        assert elsewhere.requests == []


@pytest.mark.requirement("F-309", "F-302")
def test_an_override_takes_the_place_of_the_shared_value_for_one_person_alone(
    gateway: LiveGateway, cast: Cast, upstream: Guarded
) -> None:
    secret = store.set_secret(tenant=cast.tenant, group="calculator", key="token", value=SHARED, actor="admin")
    config = AuthConfig.objects.get(server=cast.server)
    config.method = AuthConfig.Method.SHARED_HEADER
    config.set_header_templates([("Authorization", f"Bearer {secret.fqn}"), ("X-Team", "blue")])
    config.save()
    member, manager = (caller_for(gateway, cast.server, person) for person in (cast.member, cast.manager))
    assert "result" in call(member)
    assert upstream.keys()[-1] == f"Bearer {SHARED}"
    key = give(cast.server, cast.member, "Authorization", value=f"Bearer {ONE}", by=cast.manager)
    for caller, sent in ((member, ONE), (manager, SHARED)):
        assert "result" in call(caller)
        assert upstream.keys()[-1] == f"Bearer {sent}"
        assert upstream.requests[-1].header("x-team") == "blue"
    # Expired: refused, and not called with the shared one, which may open more.
    key.expires_at = timezone.now()
    key.save()
    upstream.requests.clear()
    found = json.dumps(call(member))
    assert "Ask a manager of Calculator" in found
    assert "/connect/" not in found
    assert upstream.requests == []
    own_keys.remove(key, actor="manager")
    assert "result" in call(member)
    assert upstream.keys()[-1] == f"Bearer {SHARED}"


@pytest.mark.requirement("T56", "F-308")
def test_a_call_leaves_the_time_of_use_and_nowhere_the_key(
    gateway: LiveGateway, cast: Cast, upstream: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    give(cast.server, cast.member, value=ONE)
    caller = caller_for(gateway, cast.server, cast.member)
    said = json.dumps(call(caller))
    upstream.refused.add(ONE)
    said += json.dumps(call(caller))
    write_records()
    assert OwnKey.objects.get().last_used_at is not None
    formatter, filter_ = JsonFormatter(), RedactSecrets()
    for record in caplog.records:
        filter_.filter(record)
        said += formatter.format(record)
    said += str(list(Call.objects.values())) + str(list(AuditEvent.objects.values()))
    assert ONE not in said
