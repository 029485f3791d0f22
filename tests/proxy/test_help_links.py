"""Errors of the gateway's own lead to the help page about them."""

from __future__ import annotations

import pytest
from django.conf import settings

from authflows import help_pages
from proxy import errors
from servers.models import AccessRule, Server
from tests.conftest import Cast
from tests.support.calls import Caller, caller_for, tool_call
from tests.support.gateway import LiveGateway

pytestmark = pytest.mark.requirement("F-606")


@pytest.mark.parametrize("topic", sorted({*errors.HELP.values(), *errors._HELP_BY_OUTCOME.values()}))
def test_every_page_that_an_error_leads_to_exists(topic: str) -> None:
    assert help_pages.topic_of(topic) is not None


@pytest.mark.django_db(transaction=True)
def test_an_error_says_where_help_is(gateway: LiveGateway, cast: Cast) -> None:
    stranger = Caller(gateway.mcp_url(cast.server), "ghk_unknown0_" + "x" * 43).post(tool_call())
    assert stranger.status == 401
    assert stranger.json()["error"]["data"] == {"help": f"{gateway.origin}/portal/help/signed-out/"}


@pytest.mark.requirement("RS-13")
@pytest.mark.django_db(transaction=True)
def test_the_page_does_not_tell_a_hidden_server_from_none(gateway: LiveGateway, cast: Cast) -> None:
    AccessRule.objects.filter(team=cast.readers).delete()
    absent = Server(tenant=cast.tenant, slug="absent")
    hidden, nothing = (caller_for(gateway, server, cast.member).post(tool_call()) for server in (cast.server, absent))
    assert hidden.status == nothing.status == 403
    assert hidden.json() == nothing.json()
    assert hidden.json()["error"]["data"]["help"].endswith("/portal/help/no-access/")


def test_what_a_manager_has_to_mend_leads_to_another_page_than_an_outage() -> None:
    mended, outage = (
        errors.secret_unavailable("S"),
        errors.upstream_failed("S", "cannot be reached", "upstream_connect"),
    )
    assert f"{settings.PUBLIC_URL}/portal/help/gateway-credential/".encode() in errors.body(mended, 1)
    assert f"{settings.PUBLIC_URL}/portal/help/server-not-answering/".encode() in errors.body(outage, 1)
