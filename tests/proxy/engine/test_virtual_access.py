"""What opens a virtual server opens nothing else, and what opens a member does not open it (promise 2)."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from django.test import Client as Browser

from authflows.models import ConnectLink
from servers.models import AccessRule, AuthConfig, Server, VirtualMember
from tests.conftest import Cast
from tests.support.calls import Caller, caller_for
from tests.support.gateway import LiveGateway
from tests.support.ide import Ide, make_client, post_to
from tests.support.mcp_upstream import calculator, serving
from tests.support.virtual import add_server, set_catalogue, tool, virtual_server

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sums(cast: Cast) -> Iterator[Server]:
    """A running member."""
    with serving(calculator()) as url:
        server = add_server(cast, "sums", url, eras="dual")
        set_catalogue(server, {"tool": [tool("add"), tool("subtract")]})
        yield server


@pytest.fixture
def office(cast: Cast, sums: Server) -> Server:
    return virtual_server(cast, (sums, "math"), slug="office")


def token_for(gateway: LiveGateway, cast: Cast, server: Server) -> str:
    """What a client has after the whole sign-in to this server."""
    ide = Ide(make_client(), cast.member, server, gateway.mcp_url(server), post_to(gateway.port))
    return str(ide.sign_in()["access_token"])


def listed(gateway: LiveGateway, server: Server, token: str, endpoint: str = "server") -> int:
    return Caller(gateway.mcp_url(server, endpoint), token).modern("tools/list").status


@pytest.mark.requirement("T1", "F-605")
def test_a_token_of_the_virtual_server_opens_no_member_and_the_other_way_round(
    gateway: LiveGateway, cast: Cast, office: Server, sums: Server
) -> None:
    virtual, member = token_for(gateway, cast, office), token_for(gateway, cast, sums)
    assert listed(gateway, office, virtual) == 200
    assert listed(gateway, sums, member) == 200
    for endpoint in ("server", "mcp", "key"):
        assert listed(gateway, sums, virtual, endpoint) == 401
        assert listed(gateway, office, member, endpoint) == 401


@pytest.mark.requirement("F-206", "F-605")
def test_a_key_limited_to_the_virtual_server_reaches_its_members_through_it_alone(
    gateway: LiveGateway, cast: Cast, office: Server, sums: Server
) -> None:
    key = caller_for(gateway, office, cast.member, limited_to=[office])
    answer = key.modern("tools/call", {"name": "math__add", "arguments": {"a": 2, "b": 3}})
    assert (answer.status, b'"result":5' in answer.body) == (200, True)
    assert listed(gateway, sums, key.key) == 403
    of_member = caller_for(gateway, sums, cast.member, limited_to=[sums])
    assert listed(gateway, sums, of_member.key) == 200
    assert listed(gateway, office, of_member.key) == 403


@pytest.mark.requirement("F-605", "F-501")
@pytest.mark.parametrize("change", ["right", "switch", "member"])
def test_what_is_taken_from_a_member_is_gone_from_the_virtual_server_at_once(
    gateway: LiveGateway, cast: Cast, office: Server, sums: Server, change: str
) -> None:
    caller = caller_for(gateway, office, cast.member)
    body = {"name": "math__add", "arguments": {"a": 2, "b": 3}}
    # Often enough for everything about it to be remembered.
    for _ in range(4):
        assert b'"result":5' in caller.modern("tools/call", body).body
    if change == "right":
        AccessRule.objects.filter(server=sums).first().delete()  # type: ignore[union-attr]
    elif change == "switch":
        sums.enabled = False
        sums.save()
    else:
        VirtualMember.objects.get(virtual=office).delete()
    assert b'"result":5' not in caller.modern("tools/call", body).body
    assert b"math__add" not in caller.modern("tools/list").body


@pytest.mark.requirement("F-605", "F-314")
def test_a_call_to_a_member_that_is_not_connected_links_to_a_page_that_names_both(
    gateway: LiveGateway, cast: Cast, office: Server, sums: Server
) -> None:
    AuthConfig.objects.filter(server=sums).delete()
    AuthConfig.objects.create(server=sums, method=AuthConfig.Method.OAUTH2, settings={"issuer": "https://idp.example"})
    caller = caller_for(gateway, office, cast.member)
    answer = caller.modern("tools/call", {"name": "math__add", "arguments": {}})
    assert b"is not connected to your account yet" in answer.body
    link = ConnectLink.objects.get()
    assert (link.server, link.through) == (sums, office)
    found = re.search(rb"/connect/[\w-]+", answer.body)
    assert found
    browser = Browser()
    browser.force_login(cast.member)
    page = browser.get(found[0].decode()).content.decode()
    assert "called Sums through Office" in page
