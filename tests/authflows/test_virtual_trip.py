"""The sign-in to a virtual server: what is approved, the stop at each member, skipping, coming back, going on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from authflows.inbound.oauth import approvals
from authflows.models import Approval, Connection, OAuthClient, OwnKey, PendingConnection, PendingSignIn
from authflows.outbound.my_members import MyMember, Tally, members_for
from servers.models import AccessRule, AuthConfig, Server, VirtualMember
from tests.authflows.test_authorize import answer, ask, url
from tests.conftest import Cast
from tests.support import connecting, keyed_server
from tests.support.connecting import begin, come_back
from tests.support.faulty_provider import Asked, FaultyProvider, Reply
from tests.support.ide import make_client
from tests.support.keyed_server import GOOD, Vault, vault
from tests.support.virtual import add_server, virtual_server

pytestmark = pytest.mark.django_db(transaction=True)
Method = AuthConfig.Method


@pytest.fixture(scope="module")
def running() -> Iterator[Vault]:
    with vault() as found:
        yield found


@pytest.fixture
def ide(db: None) -> OAuthClient:
    return make_client(name="Cursor")


@pytest.fixture
def drive(cast: Cast, faulty: FaultyProvider) -> Server:
    """A member whose people connect an account."""
    return connecting.make_server(cast, faulty, scopes=("files.read",), userinfo_endpoint=f"{faulty.issuer}/userinfo")


@pytest.fixture
def safe(cast: Cast, running: Vault) -> Server:
    """A member whose people enter a key."""
    running.seen.clear()
    return keyed_server.make_server(cast, running.url)


@pytest.fixture
def tickets(cast: Cast, drive: Server) -> Server:
    """One more member at the provider of Drive."""
    server = add_server(cast, "tickets", "https://tickets.example.com/mcp")
    AuthConfig.objects.filter(server=server).update(method=Method.OAUTH2, settings=drive.auth_config.settings)
    return server


@pytest.fixture
def office(cast: Cast, drive: Server, safe: Server, tickets: Server) -> Server:
    """One URL for a server of each kind and one more: no account, two accounts, a key."""
    return virtual_server(
        cast, (cast.server, "calc"), (drive, "drive"), (safe, "vault"), (tickets, "tickets"), slug="office"
    )


def text_of(response: Any) -> str:
    assert response.status_code in (200, 400, 502), response.content
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode())))


def press(browser: Client, page: str, decision: str, server: Server | None = None, **values: str) -> Any:
    member = {"member": str(server.pk)} if server is not None else {}
    return browser.post(page, {"decision": decision, **member, **values})


def started(browser: Client, ide: OAuthClient, server: Server) -> str:
    """A sign-in that is approved and now shows its stops."""
    page = ask(browser, url(ide, server))
    assert press(browser, page, "approve").headers["Location"] == page
    return page


def leaves_for(response: Any) -> str:
    found = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', response.content.decode())
    assert found, response.content.decode()
    return unescape(found[1])


def buttons(response: Any) -> list[str]:
    """What can be pressed for members, in order: decision and name."""
    pattern = (
        r'(?:value="(connect|skip)"[^>]*>|href="\?(key)=[^>]*>)\s*\w+(?: key)?<span class="hidden">(?: for)? ([^<]+)<'
    )
    return [f"{one or other} {name}" for one, other, name in re.findall(pattern, response.content.decode())]


def mine(cast: Cast, office: Server) -> dict[str, MyMember]:
    return {member.server.name: member for member in members_for(cast.member, office)}


# --- what there is for one person


@pytest.mark.requirement("F-605")
def test_members_say_with_whose_credential_they_are_called_and_what_is_missing(cast: Cast, office: Server) -> None:
    found = mine(cast, office)
    assert {name: (str(one.reach), one.missing is None) for name, one in found.items()} == {
        "Calculator": ("nobody", True),
        "Drive": ("account", False),
        "Vault": ("own_key", False),
        "Tickets": ("account", False),
    }
    assert (Tally(tuple(found.values())).done, len(Tally(tuple(found.values())).personal)) == (0, 3)


@pytest.mark.requirement("F-605", "F-501")
def test_members_without_a_right_are_not_mentioned(browser: Client, cast: Cast, office: Server, drive: Server) -> None:
    AccessRule.objects.filter(server=drive).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert "Drive" not in mine(cast, office)
    assert "Drive" not in text_of(browser.get("/portal/servers/default/office/"))


@pytest.mark.requirement("F-605")
def test_a_member_with_a_shared_credential_asks_nobody(
    browser: Client, cast: Cast, ide: OAuthClient, office: Server, drive: Server
) -> None:
    member = VirtualMember.objects.get(virtual=office, server=drive)
    member.credential = [{"name": "X-Key", "value": "secret://default:g:k"}]
    member.save()
    assert mine(cast, office)["Drive"].reach == "organisation"
    page = started(browser, ide, office)
    assert buttons(browser.get(page)) == ["key Vault", "skip Vault", "connect Tickets", "skip Tickets"]
    # And nobody is led to its provider for it.
    assert press(browser, page, "connect", drive).headers["Location"] == page


@pytest.mark.requirement("F-605")
def test_a_member_that_is_switched_off_has_no_stop(
    browser: Client, cast: Cast, ide: OAuthClient, office: Server, drive: Server
) -> None:
    Server.objects.filter(pk=drive.pk).update(enabled=False)
    assert mine(cast, office)["Drive"].enabled is False
    page = started(browser, ide, office)
    assert "connect Drive" not in buttons(browser.get(page))
    assert "Switched off" in text_of(browser.get("/portal/servers/default/office/"))


@pytest.mark.requirement("F-605")
def test_twenty_members_cost_no_more_queries_than_two(
    browser: Client, cast: Cast, drive: Server, safe: Server, django_assert_max_num_queries: Any
) -> None:
    more = []
    for number in range(18):
        server = add_server(cast, f"more-{number}", f"https://more-{number}.example.com/mcp")
        like = drive if number % 2 else safe
        AuthConfig.objects.filter(server=server).update(
            method=like.auth_config.method, settings=like.auth_config.settings
        )
        more.append((server, f"m{number}"))
    big = virtual_server(cast, (drive, "drive"), (safe, "vault"), *more, slug="big")
    with django_assert_max_num_queries(8):
        assert len(members_for(cast.member, big)) == 20
    with django_assert_max_num_queries(25):
        assert "0 of 20 connected" in text_of(browser.get("/portal/"))
    # And rules of somebody else's servers are not read for it.
    other = virtual_server(cast, (cast.server, "calc"), slug="small")
    with django_assert_max_num_queries(8):
        assert [member.server for member in members_for(cast.member, other)] == [cast.server]


# --- the approval


@pytest.mark.requirement("F-204", "F-605", "T11")
def test_the_approval_page_names_the_virtual_server_and_what_becomes_reachable(
    browser: Client, cast: Cast, ide: OAuthClient, office: Server, drive: Server, faulty: FaultyProvider
) -> None:
    come_back(browser, faulty.sign_in(begin(browser, cast, drive)))
    found = text_of(browser.get(ask(browser, url(ide, office))))
    assert "Let a program use Office?" in found
    assert "Office is one URL for" in found
    assert "Calculator which asks for no account" in found
    assert "Drive with your account 2001@example.com , which is connected" in found
    assert "Vault with a key of your own, which you enter after you approve" in found
    assert "Tickets with your account there, which you connect after you approve (it is asked for: files.read" in found


@pytest.mark.requirement("F-204", "T11")
@pytest.mark.parametrize(
    ("method", "said"),
    [
        (Method.NONE, "without an account: it asks for none"),
        (Method.SHARED_HEADER, "with a credential of your organisation, which the program never sees"),
        (Method.CLIENT_CREDENTIALS, "with a credential of your organisation, which the program never sees"),
        (Method.OAUTH2, "with your account there, which you connect after you approve"),
        (Method.OWN_HEADER, "with a key of your own, which you enter after you approve"),
        (Method.PASSTHROUGH, "with a credential that the program has to bring with each call"),
        (Method.TOKEN_EXCHANGE, "with a credential that the program has to bring with each call"),
    ],
)
def test_the_approval_page_of_a_single_server_says_with_what_it_is_called(
    browser: Client, cast: Cast, ide: OAuthClient, method: str, said: str
) -> None:
    AuthConfig.objects.filter(server=cast.server).update(method=method)
    assert f"Calls go out {said}" in text_of(browser.get(ask(browser, url(ide, cast.server))))


@pytest.mark.requirement("T11")
@pytest.mark.parametrize("decision", ["connect", "key", "skip", "go-on"])
def test_nothing_begins_before_the_approval(
    browser: Client, cast: Cast, ide: OAuthClient, office: Server, drive: Server, safe: Server, decision: str
) -> None:
    page = ask(browser, url(ide, office))
    target = safe if decision == "key" else drive
    response = press(browser, page, decision, target, value_API_KEY=GOOD)
    assert (response.status_code, response.headers["Location"]) == (302, page)
    assert "Let a program use Office?" in text_of(browser.get(f"{page}?key={safe.pk}"))
    assert not PendingConnection.objects.exists()
    assert not OwnKey.objects.exists()
    assert PendingSignIn.objects.get().skipped == []
    assert not Approval.objects.exists()


@pytest.mark.requirement("T11", "AZ-21")
def test_the_approval_is_for_the_virtual_server_and_for_none_of_its_members(
    browser: Client, cast: Cast, ide: OAuthClient, office: Server
) -> None:
    started(browser, ide, office)
    assert Approval.objects.get().server == office
    assert "Let a program use Calculator?" in text_of(browser.get(ask(browser, url(ide, cast.server))))


# --- the stops


@pytest.mark.requirement("F-605", "F-201")
def test_one_is_connected_one_gets_a_key_one_is_skipped_and_the_client_has_its_code(
    browser: Client, cast: Cast, ide: OAuthClient, office: Server, drive: Server, safe: Server, faulty: FaultyProvider
) -> None:
    page = started(browser, ide, office)
    first = browser.get(page)
    assert buttons(first) == [
        "connect Drive", "skip Drive", "key Vault", "skip Vault", "connect Tickets", "skip Tickets",
    ]  # fmt: skip
    assert "0 of 3 done" in text_of(first)
    assert "Nothing to do for Calculator." in text_of(first)
    assert "Your program waits a few minutes" in text_of(first)

    back = come_back(browser, faulty.sign_in(leaves_for(press(browser, page, "connect", drive))))
    assert back.headers["Location"] == page
    second = browser.get(page)
    assert "1 of 3 done" in text_of(second)
    assert "Connected as 2001@example.com" in text_of(second)
    assert buttons(second)[0] == "key Vault"

    assert "Your key for Vault" in text_of(browser.get(f"{page}?key={safe.pk}"))
    assert "Vault refused it" in text_of(press(browser, page, "key", safe, value_API_KEY="canary-wrong"))
    assert press(browser, page, "key", safe, value_API_KEY=GOOD).headers["Location"] == page
    assert buttons(browser.get(page)) == ["connect Tickets", "skip Tickets"]

    tickets = Server.objects.get(slug="tickets")
    assert press(browser, page, "skip", tickets).headers["Location"] == page
    assert answer(browser.get(page))["code"]
    assert set(Connection.objects.values_list("server__slug", flat=True)) == {"drive"}


@pytest.mark.requirement("F-605")
def test_going_on_is_possible_at_any_time_and_skips_the_rest(browser: Client, ide: OAuthClient, office: Server) -> None:
    page = started(browser, ide, office)
    assert press(browser, page, "go-on").headers["Location"] == page
    assert answer(browser.get(page))["code"]
    assert browser.get(page).status_code == 410


@pytest.mark.requirement("F-605")
def test_what_is_skipped_can_be_connected_after_all_and_is_asked_again_the_next_time(
    browser: Client, cast: Cast, ide: OAuthClient, office: Server, drive: Server, faulty: FaultyProvider
) -> None:
    page = started(browser, ide, office)
    press(browser, page, "skip", drive)
    shown = browser.get(page)
    assert buttons(shown) == ["connect Drive", "key Vault", "skip Vault", "connect Tickets", "skip Tickets"]
    assert "Skipped" in text_of(shown)
    come_back(browser, faulty.sign_in(leaves_for(press(browser, page, "connect", drive))))
    press(browser, page, "go-on")
    assert answer(browser.get(page))["code"]
    # Approved already: the next sign-in begins at what is left, and is short.
    again = ask(browser, url(ide, office))
    assert buttons(browser.get(again))[0] == "key Vault"
    assert "1 of 3 done" in text_of(browser.get(again))


@pytest.mark.requirement("F-605")
def test_a_sign_in_whose_browser_was_closed_goes_on_where_it_was(
    browser: Client, cast: Cast, ide: OAuthClient, office: Server, drive: Server, faulty: FaultyProvider
) -> None:
    page = started(browser, ide, office)
    come_back(browser, faulty.sign_in(leaves_for(press(browser, page, "connect", drive))))
    press(browser, page, "skip", Server.objects.get(slug="tickets"))
    elsewhere = Client()
    elsewhere.force_login(cast.member)
    assert buttons(elsewhere.get(page)) == ["key Vault", "skip Vault", "connect Tickets"]
    # Somebody else has nothing to do with it.
    other = Client()
    other.force_login(cast.manager)
    assert other.get(page).status_code == 403
    assert press(other, page, "go-on").status_code == 403


@pytest.mark.requirement("F-605")
def test_each_step_gives_time_for_the_next_but_not_for_ever(browser: Client, ide: OAuthClient, office: Server) -> None:
    page = started(browser, ide, office)
    soon = timezone.now() + timedelta(minutes=1)
    PendingSignIn.objects.update(expires_at=soon)
    browser.get(page)
    assert PendingSignIn.objects.get().expires_at > soon + timedelta(minutes=8)
    PendingSignIn.objects.update(expires_at=soon, created_at=timezone.now() - timedelta(minutes=31))
    browser.get(page)
    assert PendingSignIn.objects.get().expires_at == soon


@pytest.mark.requirement("F-304", "F-605")
def test_a_no_of_the_provider_offers_another_try_skip_and_cancel(
    browser: Client, cast: Cast, ide: OAuthClient, office: Server, drive: Server, faulty: FaultyProvider
) -> None:
    page = started(browser, ide, office)
    leaving = leaves_for(press(browser, page, "connect", drive))
    failed = come_back(browser, faulty.sign_in(leaving, error="access_denied", code=None))
    assert failed.status_code == 400
    text = text_of(failed)
    assert "You did not allow it at the provider" in text
    for word in ("Connect again", "Skip Drive", "Cancel the sign-in"):
        assert word in text
    assert f'action="{page}"' in failed.content.decode()
    assert "http://127.0.0.1:33418" in failed.headers["Content-Security-Policy"]
    # Each of the three does what it says.
    assert leaves_for(press(browser, page, "connect", drive)).startswith(faulty.issuer)
    press(browser, page, "skip", drive)
    assert buttons(browser.get(page))[:2] == ["connect Drive", "key Vault"]
    assert answer(press(browser, page, "deny", drive))["error"] == "access_denied"


@pytest.mark.requirement("F-605")
def test_a_provider_that_is_down_does_not_keep_the_other_members_away(
    browser: Client, cast: Cast, ide: OAuthClient, office: Server, drive: Server, faulty: FaultyProvider
) -> None:
    def down(asked: Asked) -> Reply:
        return 503, {}, b"<h1>Oops</h1>"

    faulty.replies["/token"] = down
    page = started(browser, ide, office)
    failed = come_back(browser, faulty.sign_in(leaves_for(press(browser, page, "connect", drive))))
    assert "Nothing was connected" in text_of(failed)
    assert "Oops" not in text_of(failed)
    assert press(browser, page, "go-on").status_code == 302
    assert answer(browser.get(page))["code"]


@pytest.mark.requirement("F-605", "T11")
def test_only_members_with_something_to_do_have_a_stop_whatever_a_form_says(
    browser: Client, cast: Cast, ide: OAuthClient, office: Server, safe: Server
) -> None:
    foreign = add_server(cast, "foreign", "https://foreign.example.com/mcp")
    AuthConfig.objects.filter(server=foreign).update(method=Method.OAUTH2, settings={"issuer": "https://evil.example"})
    page = started(browser, ide, office)
    for decision, target in (("connect", foreign), ("connect", safe), ("connect", cast.server), ("key", cast.server)):
        response = press(browser, page, decision, target, value_API_KEY=GOOD)
        assert (response.status_code, response.headers["Location"]) == (302, page)
    assert browser.post(page, {"decision": "connect", "member": "'; --"}).status_code == 302
    assert not PendingConnection.objects.exists()
    assert not OwnKey.objects.exists()


@pytest.mark.requirement("F-605")
def test_with_everything_connected_nothing_is_asked(
    browser: Client, cast: Cast, ide: OAuthClient, drive: Server, faulty: FaultyProvider
) -> None:
    come_back(browser, faulty.sign_in(begin(browser, cast, drive)))
    small = virtual_server(cast, (cast.server, "calc"), (drive, "drive"), slug="small")
    page = ask(browser, url(ide, small))
    assert press(browser, page, "approve").status_code == 303
    assert answer(browser.get(url(ide, small)))["code"]


@pytest.mark.requirement("F-605", "T12")
def test_without_a_page_an_approved_client_gets_its_code_and_any_other_does_not(
    browser: Client, cast: Cast, ide: OAuthClient, office: Server
) -> None:
    assert answer(browser.get(url(ide, office, prompt="none")))["error"] == "consent_required"
    approvals.approve(cast.member, ide, office, redirect_host="127.0.0.1")
    # What is not connected says so when it is called; the others work.
    assert answer(browser.get(url(ide, office, prompt="none")))["code"]


@pytest.mark.requirement("F-605")
def test_a_member_that_is_added_later_is_asked_for_at_the_next_sign_in(
    browser: Client, cast: Cast, ide: OAuthClient, drive: Server, safe: Server, faulty: FaultyProvider
) -> None:
    come_back(browser, faulty.sign_in(begin(browser, cast, drive)))
    small = virtual_server(cast, (drive, "drive"), slug="small")
    page = ask(browser, url(ide, small))
    assert answer(press(browser, page, "approve"))["code"]
    VirtualMember.objects.create(virtual=small, server=safe, alias="vault", position=1)
    assert buttons(browser.get(ask(browser, url(ide, small)))) == ["key Vault", "skip Vault"]


@pytest.mark.requirement("F-605")
def test_taking_a_member_away_ends_no_connection(
    browser: Client, cast: Cast, office: Server, drive: Server, faulty: FaultyProvider
) -> None:
    come_back(browser, faulty.sign_in(begin(browser, cast, drive)))
    VirtualMember.objects.filter(virtual=office, server=drive).delete()
    assert "Drive" not in mine(cast, office)
    office.delete()
    assert Connection.objects.get().server == drive
