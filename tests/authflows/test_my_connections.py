"""My connections and the page behind a "not connected" answer: whose they are, what they say, what they end."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from authflows.models import Connection, ConnectLink
from authflows.outbound import my_connections
from servers.models import AccessRule, Server
from tests.conftest import Cast
from tests.support.connecting import begin, come_back, make_server
from tests.support.oidc_provider import OidcProvider

pytestmark = [pytest.mark.django_db, pytest.mark.node]
PAGE = "/portal/connections/"


def leaves_for(response: Any) -> str:
    """Where a page of ours sends the browser to."""
    assert response.status_code == 200, response.content
    found = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', response.content.decode())
    assert found, response.content.decode()
    return unescape(found[1])


@pytest.mark.requirement("F-304", "F-210")
def test_connect_now_on_the_servers_page_comes_back_to_it(
    browser: Client,
    cast: Cast,
    drive: Server,
    oidc_provider: OidcProvider,
) -> None:
    page = "/portal/servers/default/drive/"
    assert "Connect Now" in browser.get(page).content.decode()
    back = come_back(browser, oidc_provider.sign_in(leaves_for(browser.post(f"{page}connect/"))))
    assert back.headers["Location"] == page
    text = browser.get(page).content.decode()
    assert "Connected" in text
    assert "Connect Now" not in text


@pytest.mark.requirement("F-304", "F-210")
def test_my_connections_lists_what_is_connected_and_what_could_be(
    browser: Client,
    cast: Cast,
    drive: Server,
    oidc_provider: OidcProvider,
) -> None:
    text = browser.get(PAGE).content.decode()
    assert "Drive" in text
    assert "Not connected" in text
    started = browser.post("/portal/servers/default/drive/connect/", {"from": "connections"})
    back = come_back(browser, oidc_provider.sign_in(leaves_for(started)))
    assert back.headers["Location"] == PAGE
    text = browser.get(PAGE).content.decode()
    assert "Connected" in text
    Connection.objects.update(state="needs_reconnect", last_error="invalid_grant")
    text = browser.get(PAGE).content.decode()
    assert "Connect again" in text
    assert "withdrawn there, or ran out" in text


@pytest.mark.requirement("F-305", "T59")
def test_revoking_says_what_the_provider_answered(
    browser: Client,
    cast: Cast,
    drive: Server,
    oidc_provider: OidcProvider,
) -> None:
    come_back(browser, oidc_provider.sign_in(begin(browser, cast, drive)))
    page = f"{PAGE}{Connection.objects.get().pk}/revoke/"
    assert "Revoke the connection to Drive?" in browser.get(page).content.decode()
    assert Connection.objects.exists()
    text = browser.post(page, follow=True).content.decode()
    assert "the provider ended the authorization too" in text
    assert not Connection.objects.exists()


@pytest.mark.requirement("F-305")
def test_a_connection_can_be_revoked_without_any_right_on_the_server_but_only_by_its_owner(
    browser: Client,
    cast: Cast,
    drive: Server,
    oidc_provider: OidcProvider,
) -> None:
    come_back(browser, oidc_provider.sign_in(begin(browser, cast, drive)))
    page = f"{PAGE}{Connection.objects.get().pk}/revoke/"
    other = Client()
    other.force_login(cast.admin)
    assert other.get(page).status_code == 404
    assert other.post(page).status_code == 404
    AccessRule.objects.filter(server=drive).delete()
    assert "Drive" in browser.get(PAGE).content.decode()
    assert browser.post(page).status_code == 302
    assert not Connection.objects.exists()


def test_nothing_to_connect_says_so(client: Client, cast: Cast) -> None:
    client.force_login(cast.outsider)
    assert "Nothing to connect" in client.get(PAGE).content.decode()


def test_who_has_no_right_cannot_begin(client: Client, cast: Cast, drive: Server) -> None:
    client.force_login(cast.outsider)
    assert client.post("/portal/servers/default/drive/connect/").status_code == 404


@pytest.mark.requirement("F-314", "T19")
def test_a_link_works_for_its_person_until_it_ends(
    browser: Client,
    cast: Cast,
    drive: Server,
    oidc_provider: OidcProvider,
) -> None:
    link = my_connections.link_for(cast.member, drive, asked_by="<b>Cursor</b>")
    assert my_connections.link_for(cast.member, drive).pk == link.pk
    page = f"/connect/{link.pk}"
    assert browser.get(page).content.decode().count("&lt;b&gt;Cursor") == 1
    other = Client()
    assert other.get(page).headers["Location"] == f"/sign-in/?next={page}"
    other.force_login(cast.manager)
    foreign, unknown = other.get(page), other.get("/connect/unknown")
    assert (foreign.status_code, unknown.status_code) == (404, 404)
    assert foreign.content.replace(link.pk.encode(), b"") == unknown.content.replace(b"unknown", b"") or (
        "This link does not work here" in foreign.content.decode()
    )
    assert other.post(page).status_code == 404
    back = come_back(browser, oidc_provider.sign_in(leaves_for(browser.post(page))))
    assert back.headers["Location"] == page
    assert "You can close this window" in browser.get(page).content.decode()
    ConnectLink.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert browser.get(page).status_code == 404


def test_the_list_takes_the_same_number_of_queries_for_many_connections(
    browser: Client,
    cast: Cast,
    oidc_provider: OidcProvider,
    django_assert_max_num_queries: Any,
) -> None:
    first = make_server(cast, oidc_provider)
    come_back(browser, oidc_provider.sign_in(begin(browser, cast, first)))
    row = Connection.objects.get()
    for number in range(5):
        server = Server.objects.create(
            tenant=cast.tenant, slug=f"more-{number}", name=f"More {number}", url="http://127.0.0.1:9/mcp"
        )
        server.auth_config = None  # type: ignore[assignment]
        type(first.auth_config).objects.create(
            server=server, method=first.auth_config.method, settings=first.auth_config.settings
        )
        AccessRule.objects.create(server=server, user=cast.member)
        Connection.objects.create(
            user=cast.member,
            server=server,
            client=row.client,
            origin=row.origin,
            sealed_access_token=row.sealed_access_token,
            connected_at=row.connected_at,
        )
    with django_assert_max_num_queries(12):
        assert browser.get(PAGE).content.decode().count("More ") >= 5
