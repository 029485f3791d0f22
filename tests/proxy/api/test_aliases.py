"""Paths and shapes of another gateway, answered with what is here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from django.conf import settings

from authflows.models import Connection, OwnKey
from servers.models import AccessRule, Server
from tests.conftest import Cast
from tests.proxy.api.conftest import Asker, key_of
from tests.support import keyed_server
from tests.support.connected import Guarded, guarded
from tests.support.keyed_server import GOOD, vault
from tests.support.virtual import add_server

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-604")]


@pytest.fixture
def other(cast: Cast) -> Asker:
    """The cast's member, with a program for those paths."""
    return Asker(key_of(cast.member), prefix="/api/svc/v1/mcp")


@pytest.fixture
def drive(cast: Cast) -> Iterator[Guarded]:
    with guarded(cast) as found:
        yield found


def test_servers_are_listed_and_found_by_name(other: Asker, cast: Cast) -> None:
    add_server(cast, "notes", "http://127.0.0.1:9/mcp")
    wanted = {"op": "and", "values": [{"field": "name", "op": "IN", "values": ["notes", "none"]}]}

    found = other.get("").json()
    filtered = other.get("", filter=json.dumps(wanted)).json()

    assert found["pagination"] == {"total": 2, "offset": 0, "limit": 100}
    assert found["data"][0]["proxyUrl"] == cast.server.mcp_url
    assert [one["manifest"]["name"] for one in filtered["data"]] == ["notes"]
    assert other.get(f"/{found['data'][1]['id']}").json()["data"] == found["data"][1]


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"op": "or", "values": []}', '{"op": "and", "values": [{"field": "url"}]}']
)
def test_a_filter_that_means_nothing_is_refused(other: Asker, text: str) -> None:
    answer = other.get("", filter=text)

    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["filter"])


def test_the_address_to_authorize_and_the_state(other: Asker, cast: Cast, drive: Guarded) -> None:
    before = other.get(f"/{cast.server.pk}/authorize").json()
    states = [other.get(f"/{cast.server.pk}/auth/{word}").json() for word in ("state", "status")]
    drive.connect(cast.member)

    assert before["status"] == "authentication_required"
    assert before["authorization_endpoint"].startswith(f"{settings.PUBLIC_URL}/connect/")
    assert [one["status"] for one in states] == ["authentication_required"] * 2
    assert other.get(f"/{cast.server.pk}/authorize").json() == {"status": "authenticated"}
    body = {"subjectId": "member", "subjectType": "user", "authSource": "oauth"}
    assert [other.send("DELETE", f"/{cast.server.pk}/auth", body).status_code for _ in range(2)] == [204, 204]
    assert not Connection.objects.exists()


def test_a_server_without_accounts_needs_nothing(other: Asker, cast: Cast) -> None:
    assert other.get(f"/{cast.server.pk}/authorize").json() == {"status": "authentication_not_required"}


def test_a_manager_sets_and_removes_an_override(cast: Cast) -> None:
    with vault() as safe:
        server = keyed_server.make_server(cast, safe.url)
        AccessRule.objects.create(server=server, user=cast.manager, role="manager")
        manager = Asker(key_of(cast.manager), prefix="/api/svc/v1/mcp")
        about = {"subjectId": "member", "subjectType": "user"}
        override = {"type": "header", "headerValue": f"Bearer {GOOD}"}

        answer = manager.send("PUT", f"/{server.pk}/auth", {**about, "authOverride": override})

        assert answer.status_code == 204, answer.content
        assert OwnKey.objects.get().user == cast.member
        answer = manager.send("DELETE", f"/{server.pk}/auth", {**about, "authSource": "auth-override"})
        assert answer.status_code == 204
        assert not OwnKey.objects.exists()


def test_nothing_is_told_of_servers_without_a_right(asking: Callable[..., Asker], cast: Cast) -> None:
    hidden = Server.objects.create(tenant=cast.tenant, slug="hidden", name="Hidden", url="http://127.0.0.1:9/mcp")
    asker = Asker(key_of(cast.member), prefix="/api/svc/v1/mcp")

    answers = [asker.get(f"/{one}{page}") for one in (hidden.pk, uuid4()) for page in ("", "/authorize", "/auth/state")]
    others = [asker.get(f"/{one}/auth/state", subjectId="manager") for one in (cast.server.pk, uuid4())]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "unknown_server")}
    assert {(answer.status_code, answer.json()["code"]) for answer in others} == {(403, "not_manager")}
