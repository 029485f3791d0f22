"""Why somebody cannot, and asking for access."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from authflows.inbound.api_keys import create_key
from servers.models import AccessRule, Server
from tests.conftest import Cast
from tests.proxy.api.conftest import Asker
from tests.support.virtual import add_server

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-604")]
WHY = "servers/default/calculator/why"


@pytest.fixture
def askable(cast: Cast) -> Server:
    server = Server.objects.create(
        tenant=cast.tenant, slug="notes", name="Notes", url="http://127.0.0.1:9/mcp", requestable=True
    )
    AccessRule.objects.create(server=server, user=cast.manager, role="manager")
    return server


@pytest.mark.requirement("F-503")
def test_i_read_why_i_can_and_why_i_cannot(me: Asker, cast: Cast) -> None:
    assert me.get(WHY).json()["allowed"]

    cast.server.enabled = False
    cast.server.save()
    found = me.get(WHY).json()

    assert not found["allowed"]
    stopped = next(step for step in found["steps"] if step["state"] == "failed")
    assert (stopped["look"], stopped["code"]) == ("server", "server_disabled")
    assert stopped["fix"]["sentence"]


@pytest.mark.requirement("F-503")
def test_why_tells_nothing_of_servers_that_are_not_mine(asking: Callable[..., Asker], cast: Cast) -> None:
    notes = add_server(cast, "notes", "http://127.0.0.1:9/mcp")
    outsider, limited = asking(cast.outsider), asking(cast.member, [notes])

    found = [outsider.get(f"servers/default/{slug}/why").json() for slug in ("calculator", "none")]

    assert found[0]["steps"] == found[1]["steps"]
    assert limited.get(WHY).json()["about"] == "default/calculator"
    assert outsider.get(WHY, person="member").json()["code"] == "not_manager"


@pytest.mark.requirement("F-503")
def test_a_key_for_some_servers_learns_nothing_of_other_keys(asking: Callable[..., Asker], cast: Cast) -> None:
    create_key(owner=cast.member, name="canary-laptop", actor="tests")
    limited = asking(cast.member, [cast.server])

    assert "canary-laptop" in asking(cast.member).get(WHY).content.decode()
    assert "canary-laptop" not in limited.get(WHY).content.decode()
    there, absent = (limited.get(WHY, client=name).json() for name in ("canary-laptop", "absent"))
    assert json.dumps(there).replace("canary-laptop", "absent") == json.dumps(absent)


def test_a_manager_reads_why_somebody_cannot(asking: Callable[..., Asker], cast: Cast) -> None:
    manager = asking(cast.manager)

    found = manager.get(WHY, person="outsider").json()

    assert (found["person"], found["allowed"]) == ("outsider", False)
    assert manager.get(WHY, person="stranger").json()["code"] == "unknown_person"


@pytest.mark.requirement("F-504")
def test_access_is_asked_for_and_given(asking: Callable[..., Asker], cast: Cast, askable: Server) -> None:
    me, manager = asking(cast.outsider), asking(cast.manager)

    offered = me.get("requestable-servers").json()["items"]
    made = me.send("POST", "access-requests", {"server": str(askable.pk), "reason": "reports", "days": 30})
    waiting = manager.get("access-requests", managed="true", state="pending").json()["items"]
    answered = manager.send("POST", f"access-requests/{made.json()['id']}/answer", {"approve": True, "days": 7})
    twice = manager.send("POST", f"access-requests/{made.json()['id']}/answer", {"approve": False})

    assert offered[0]["name"] == "Notes"
    assert "url" not in str(offered)
    assert made.status_code == 201
    assert [one["person"] for one in waiting] == ["outsider"]
    assert answered.json()["state"] == "approved"
    assert twice.json()["code"] == "already_answered"
    assert me.get("servers").json()["items"][0]["slug"] == "notes"
    assert AccessRule.objects.get(user=cast.outsider).expires_at is not None
    asked_again = me.send("POST", "access-requests", {"server": str(askable.pk), "reason": "more"})
    assert asked_again.json()["code"] == "has_access"


@pytest.mark.requirement("F-504")
def test_requests_are_their_owners_and_managers_business(
    asking: Callable[..., Asker], cast: Cast, askable: Server
) -> None:
    me, other, stranger = (asking(person) for person in (cast.outsider, cast.member, cast.stranger))
    made = me.send("POST", "access-requests", {"server": str(askable.pk), "reason": "reports"}).json()
    path = f"access-requests/{made['id']}"

    assert other.send("DELETE", path).status_code == 404
    assert other.send("POST", f"{path}/answer", {"approve": True}).json()["code"] == "not_manager"
    assert other.get("access-requests", managed="true").json()["items"] == []
    asked = stranger.send("POST", "access-requests", {"server": str(askable.pk), "reason": "x"})
    assert asked.json()["code"] == "unknown_server"
    hidden = other.send("POST", "access-requests", {"server": str(cast.server.pk), "reason": "x"})
    assert hidden.json()["code"] == "unknown_server"
    assert me.send("DELETE", path).json()["state"] == "withdrawn"
