"""Virtual servers in the portal: cards, the page of one, My connections, and the page behind a refused call."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.test import Client

from authflows.models import Connection, ConnectLink, OwnKey
from authflows.outbound import my_connections
from servers.models import AccessRule, Server, VirtualMember
from tests.authflows.test_my_connections import leaves_for
from tests.conftest import Cast
from tests.support import connecting
from tests.support.connecting import come_back
from tests.support.faulty_provider import FaultyProvider
from tests.support.keyed_server import GOOD
from tests.support.virtual import virtual_server

pytestmark = pytest.mark.django_db(transaction=True)
PAGE = "/portal/servers/default/office/"


@pytest.fixture
def drive(cast: Cast, faulty: FaultyProvider) -> Server:
    return connecting.make_server(cast, faulty, scopes=("files.read",), userinfo_endpoint=f"{faulty.issuer}/userinfo")


@pytest.fixture
def office(cast: Cast, drive: Server, safe: Server) -> Server:
    """One URL for three: no account, an account, a key."""
    return virtual_server(cast, (cast.server, "calc"), (drive, "drive"), (safe, "vault"), slug="office")


def text_of(response: Any) -> str:
    assert response.status_code == 200, response.content
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode())))


@pytest.mark.requirement("F-605", "F-304")
def test_connect_now_on_the_page_of_a_virtual_server_comes_back_to_it(
    browser: Client, cast: Cast, office: Server, faulty: FaultyProvider
) -> None:
    shown = text_of(browser.get(PAGE))
    assert "0 of 2 connected" in shown
    assert "Calculator nothing to connect" in shown
    started = browser.post("/portal/servers/default/drive/connect/", {"from": "default/office"})
    back = come_back(browser, faulty.sign_in(leaves_for(started)))
    assert back.headers["Location"] == PAGE
    shown = text_of(browser.get(PAGE))
    assert "1 of 2 connected" in shown
    assert "Drive Connected as 2001@example.com" in shown


@pytest.mark.requirement("F-605", "F-304")
def test_another_try_after_a_failure_comes_back_there_too(
    browser: Client, cast: Cast, office: Server, faulty: FaultyProvider
) -> None:
    started = browser.post("/portal/servers/default/drive/connect/", {"from": "default/office"})
    failed = come_back(browser, faulty.sign_in(leaves_for(started), error="access_denied", code=None))
    page = failed.content.decode()
    assert 'name="from" value="default/office"' in page
    again = browser.post("/portal/servers/default/drive/connect/", {"from": "default/office"})
    assert come_back(browser, faulty.sign_in(leaves_for(again))).headers["Location"] == PAGE


@pytest.mark.requirement("F-605", "F-308")
def test_a_key_for_a_member_is_entered_from_that_page_and_comes_back_to_it(
    browser: Client, cast: Cast, office: Server
) -> None:
    form = "/portal/servers/default/vault/own-key/"
    shown = browser.get(f"{form}?from=default/office").content.decode()
    assert f'href="{PAGE}"' in shown
    response = browser.post(form, {"from": "default/office", "value_API_KEY": GOOD})
    assert response.headers["Location"] == PAGE
    assert OwnKey.objects.get().user == cast.member


@pytest.mark.parametrize(
    "said", ["https://evil.example/", "//evil.example", "default/unknown", "default/hidden", "/", "../admin", "x/y/z"]
)
def test_nobody_is_led_elsewhere_than_to_pages_of_their_own(
    browser: Client, cast: Cast, office: Server, faulty: FaultyProvider, said: str
) -> None:
    virtual_server(cast, slug="hidden")
    AccessRule.objects.filter(server__slug="hidden").delete()
    started = browser.post("/portal/servers/default/drive/connect/", {"from": said})
    back = come_back(browser, faulty.sign_in(leaves_for(started)))
    assert back.headers["Location"] == "/portal/servers/default/drive/"


@pytest.mark.requirement("F-605")
def test_the_card_of_a_virtual_server_counts_and_offers_what_is_missing(
    browser: Client, cast: Cast, office: Server, faulty: FaultyProvider
) -> None:
    shown = browser.get("/portal/")
    assert "0 of 2 connected" in text_of(shown)
    assert 'name="from" value="default/office"' in shown.content.decode()
    assert "Connect Now" in text_of(shown)
    assert "Enter your key" in text_of(shown)
    come_back(
        browser,
        faulty.sign_in(leaves_for(browser.post("/portal/servers/default/drive/connect/", {"from": "default/office"}))),
    )
    browser.post("/portal/servers/default/vault/own-key/", {"value_API_KEY": GOOD})
    shown = text_of(browser.get("/portal/"))
    assert "2 of 2 connected" in shown
    assert "Connect Now" not in shown


@pytest.mark.requirement("F-605")
def test_my_connections_says_through_which_virtual_servers_a_connection_is_used(
    browser: Client, cast: Cast, office: Server, drive: Server
) -> None:
    shown = text_of(browser.get("/portal/connections/"))
    assert shown.count("Also called through Office") == 2
    # Not where the virtual server has a credential of its own for it, nor one that the person may not use.
    member = VirtualMember.objects.get(virtual=office, server=drive)
    member.credential = [{"name": "X-Key", "value": "secret://default:g:k"}]
    member.save()
    assert text_of(browser.get("/portal/connections/")).count("Also called through Office") == 1
    AccessRule.objects.filter(server=office).delete()
    assert "Also called through" not in text_of(browser.get("/portal/connections/"))


@pytest.mark.requirement("F-605")
def test_a_virtual_server_without_a_member_for_the_person_says_so(browser: Client, cast: Cast, office: Server) -> None:
    AccessRule.objects.exclude(server=office).delete()
    assert "None of the servers behind this URL is open to you" in text_of(browser.get(PAGE))


@pytest.mark.requirement("F-605", "F-314")
def test_the_link_for_a_member_names_both_and_leads_back_to_the_virtual_server(
    browser: Client, cast: Cast, office: Server, drive: Server, faulty: FaultyProvider
) -> None:
    link = my_connections.link_for(cast.member, drive, asked_by="Cursor", through_id=office.pk)
    # The link of a call to the server itself is another one.
    assert my_connections.link_for(cast.member, drive).pk != link.pk
    assert my_connections.link_for(cast.member, drive, through_id=office.pk).pk == link.pk
    page = f"/connect/{link.pk}"
    shown = text_of(browser.get(page))
    assert "Connect Drive" in shown
    assert "called Drive through Office in your name" in shown
    back = come_back(browser, faulty.sign_in(leaves_for(browser.post(page))))
    assert back.headers["Location"] == page
    done = text_of(browser.get(page))
    assert "go on in Office" in done
    assert "Office has 1 more that is not connected: Vault" in done
    assert Connection.objects.get().server == drive


@pytest.mark.requirement("F-605", "F-314")
def test_the_link_for_a_member_with_a_key_takes_the_key(
    browser: Client, cast: Cast, office: Server, safe: Server
) -> None:
    link = my_connections.link_for(cast.member, safe, asked_by="Cursor", through_id=office.pk)
    shown = text_of(browser.get(f"/connect/{link.pk}"))
    assert "called Vault through Office in your name" in shown
    response = browser.post(f"/connect/{link.pk}", {"value_API_KEY": GOOD}, follow=True)
    assert "go on in Office" in text_of(response)


@pytest.mark.requirement("F-605")
def test_a_link_outlives_its_virtual_server_and_not_the_right_on_the_member(
    browser: Client, cast: Cast, office: Server, drive: Server
) -> None:
    page = f"/connect/{my_connections.link_for(cast.member, drive, asked_by='Cursor', through_id=office.pk).pk}"
    AccessRule.objects.filter(server=office).delete()
    assert "Office" not in text_of(browser.get(page))
    office.delete()
    assert "Connect Drive" in text_of(browser.get(page))
    assert ConnectLink.objects.count() == 1
    AccessRule.objects.filter(server=drive).delete()
    assert browser.get(page).status_code == 404
