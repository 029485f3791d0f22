"""My access: approved clients, keys and sign-in sessions of a person, and how each ends."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from authflows.inbound import api_keys
from authflows.inbound.bearer import Unauthenticated, authenticate
from authflows.inbound.my_sessions import browser_words
from authflows.inbound.oauth import approvals
from authflows.models import ApiKey, Approval, OAuthClient, SignInSession
from authflows.session_store import digest_of
from servers.models import AuditEvent
from tests.conftest import PASSWORD, Cast
from tests.proxy.test_disconnects import the_record
from tests.proxy.wire import staged
from tests.support.gateway import LiveGateway
from tests.support.ide import Ide, make_client

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-210")]
PAGE = "/portal/access/"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Mobile/15E148 Safari/604.1"
)


def text_of(client: Client, path: str = PAGE) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return html.unescape(response.content.decode()).replace("\xa0", " ")


def section(text: str, name: str) -> str:
    return text.partition(f'aria-labelledby="{name}"')[2].partition("</section>")[0]


def signed_in(person: Any, user_agent: str = FIREFOX) -> Client:
    """A browser in which the person signed in through the form."""
    browser = Client(headers={"user-agent": user_agent})
    response = browser.post("/sign-in/", {"username": person.username, "password": PASSWORD})
    assert response.status_code == 302, response.content
    return browser


@pytest.fixture
def member(cast: Cast) -> Client:
    return signed_in(cast.member)


@pytest.fixture
def ide(cast: Cast) -> Ide:
    return Ide(make_client(name="Example IDE"), cast.member, cast.server, cast.server.mcp_url)


def opens(ide: Ide, token: str) -> bool:
    path = ide.resource.removeprefix(settings.PUBLIC_URL)
    found = authenticate(f"Bearer {token}".encode(), now=timezone.now().timestamp(), path=path)
    return not isinstance(found, Unauthenticated)


# --- approved clients


def test_an_approved_client_shows_who_it_is_where_it_answers_and_when_it_was_used(
    member: Client, cast: Cast, ide: Ide
) -> None:
    approval = ide.approve()
    card = section(text_of(member), "clients")
    assert "“Example IDE”" in card
    assert "calls itself" in card
    assert "May use</dt><dd>Calculator" in card
    assert "Answers go to</dt><dd>127.0.0.1" in card
    assert "Last used</dt><dd>not yet" in card
    Approval.objects.filter(pk=approval.pk).update(last_used_at=timezone.now() - timedelta(hours=2))
    OAuthClient.objects.update(verified=True)
    card = section(text_of(member), "clients")
    assert "2 hours ago" in card
    assert ">verified<" in card
    assert "calls itself" not in card
    OAuthClient.objects.update(
        verified=False, registration_source="cimd", client_id="https://editor.example/oauth/client.json"
    )
    card = section(text_of(member), "clients")
    assert "editor.example" in card
    assert "calls itself “Example IDE”" in card


def test_revoking_a_client_asks_first_and_then_its_next_call_is_refused(member: Client, cast: Cast, ide: Ide) -> None:
    tokens = ide.sign_in()
    other = Ide(make_client(name="Other", client_id="other"), cast.member, cast.server, ide.resource)
    other_tokens = other.sign_in()
    approval = Approval.objects.get(client=ide.client)
    url = f"{PAGE}{approval.pk}/revoke/"
    assert f'href="{url}"' in text_of(member)
    assert "Revoke “Example IDE” for Calculator?" in text_of(member, url)
    assert opens(ide, tokens["access_token"])
    said = html.unescape(member.post(url, follow=True).content.decode())
    assert "may no longer use Calculator" in said
    assert not opens(ide, tokens["access_token"])
    assert ide.refresh(tokens["refresh_token"]).error == "invalid_grant"
    assert opens(other, other_tokens["access_token"])
    assert AuditEvent.objects.filter(action="approval:revoke", actor="member").count() == 1
    assert member.post(url).status_code == 404


def test_approvals_of_others_do_not_exist_here(member: Client, cast: Cast, ide: Ide) -> None:
    theirs = approvals.approve(cast.manager, ide.client, cast.server, redirect_host="127.0.0.1")
    assert "Example IDE" not in text_of(member)
    for method in (member.get, member.post):
        assert method(f"{PAGE}{theirs.pk}/revoke/").status_code == 404
    assert Approval.objects.filter(pk=theirs.pk).exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.requirement("T9")
def test_revoking_a_client_ends_its_open_stream(gateway: LiveGateway, cast: Cast, ide: Ide) -> None:
    with staged(gateway.port, cast.server, ide.sign_in()["access_token"]) as stage:
        caller, asked = stage.stream(http_method="GET")
        asked.piece(b"data: {}\n\n")
        assert caller.event() == b"data: {}\n\n"
        signed_in(cast.member).post(f"{PAGE}{Approval.objects.get().pk}/revoke/")
        assert caller.chunk() == b""
        assert asked.left_by_gateway()
        the_record(outcome="access_ended", status=200)


# --- the page


def test_without_anything_each_part_says_what_to_do(member: Client) -> None:
    text = text_of(member)
    assert "Give an IDE the URL of a server" in section(text, "clients")
    assert "/portal/keys/new/" in section(text, "keys")
    assert "This one" in section(text, "sessions")
    assert "End all others" not in text


def test_keys_that_work_are_listed_and_the_others_counted(member: Client, cast: Cast) -> None:
    for name in ("laptop", "gone"):
        api_keys.create_key(owner=cast.member, name=name, actor="member")
    api_keys.revoke_key(ApiKey.objects.get(name="gone"), actor="member")
    part = section(text_of(member), "keys")
    assert "<h3>laptop</h3>" in part
    assert "<h3>gone</h3>" not in part
    assert "with 1 that expired or was revoked" in part
    assert "<h2>gone</h2>" in text_of(member, "/portal/keys/")


def test_the_page_costs_the_same_few_queries_for_one_of_each_and_for_thirty(member: Client, cast: Cast) -> None:
    def add(number: int) -> None:
        ide = make_client(name=f"IDE {number}", client_id=f"ide-{number}")
        approvals.approve(cast.member, ide, cast.server, redirect_host="127.0.0.1")
        api_keys.create_key(owner=cast.member, name=f"key {number}", actor="member", servers=[cast.server])
        signed_in(cast.member)

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            text_of(member)
        return len(captured)

    add(0)
    few = queries()
    for number in range(1, 30):
        add(number)
    assert queries() == few <= 10


@pytest.mark.requirement("T25")
def test_markup_in_names_of_clients_and_browsers_is_text(cast: Cast, ide: Ide) -> None:
    browser = signed_in(cast.member, user_agent="<script>alert(1)</script>/1.0")
    OAuthClient.objects.update(name="<script>alert(2)</script>")
    approval = approvals.approve(cast.member, ide.client, cast.server, redirect_host="<b>host</b>")
    for verified, source in ((True, "dcr"), (False, "dcr"), (False, "cimd")):
        OAuthClient.objects.update(verified=verified, registration_source=source)
        for path in (PAGE, f"{PAGE}{approval.pk}/revoke/"):
            response = browser.get(path)
            assert "<script>alert" not in response.content.decode()
            assert "<b>" not in response.content.decode()
            assert "default-src 'self'" in response["Content-Security-Policy"]
    done = browser.post(f"{PAGE}{approval.pk}/revoke/", follow=True).content.decode()
    assert "&lt;script&gt;alert(2)" in done
    assert "<script>alert" not in done


# --- sign-in sessions


def test_each_browser_is_listed_with_what_it_is_and_where_it_came_from(member: Client, cast: Cast) -> None:
    signed_in(cast.member, SAFARI)
    signed_in(cast.manager, "Mozilla/5.0 (Windows NT 10.0) Chrome/140.0 Safari/537.36 Edg/140.0")
    part = section(text_of(member), "sessions")
    names = re.findall(r"<h3>(.*?)</h3>", part)
    assert names == ["Firefox on Linux", "Safari on iPhone"]
    assert part.count("This one") == 1
    assert part.index("This one") < part.index("Safari on iPhone")
    assert part.count("127.0.0.1") == 2


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        (FIREFOX, "Firefox on Linux"),
        (SAFARI, "Safari on iPhone"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64) Chrome/140.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Chrome/140.0 Safari/537.36", "Chrome on macOS"),
        ("Mozilla/5.0 (Linux; Android 15) Chrome/140.0 Mobile Safari/537.36", "Chrome on Android"),
        ("curl/8.14.1", "curl"),
        ("SomethingNew/3.1 (x)", "SomethingNew"),
        ("", "Unknown browser"),
    ],
)
def test_a_browser_is_told_in_short_words(user_agent: str, words: str) -> None:
    assert browser_words(user_agent) == words


def test_ending_a_session_signs_that_browser_out(member: Client, cast: Cast) -> None:
    other = signed_in(cast.member, SAFARI)
    assert other.get("/portal/").status_code == 200
    found = re.search(r'name="session" value="(\w+)"', text_of(member))
    assert found
    said = member.post(f"{PAGE}sessions/end/", {"session": found[1]}, follow=True).content.decode()
    assert "is signed out" in said
    assert other.get("/portal/").status_code == 302
    assert member.get("/portal/").status_code == 200
    assert AuditEvent.objects.filter(action="person:end_sessions", actor="member").count() == 1
    said = member.post(f"{PAGE}sessions/end/", {"session": found[1]}, follow=True).content.decode()
    assert "had ended already" in said


def test_ending_all_others_leaves_this_one(member: Client, cast: Cast) -> None:
    others = [signed_in(cast.member, SAFARI) for _ in range(3)]
    stranger = signed_in(cast.manager)
    said = member.post(f"{PAGE}sessions/end-others/", follow=True).content.decode()
    assert "3 other browsers are signed out" in said
    assert [one.get("/portal/").status_code for one in (*others, member, stranger)] == [302, 302, 302, 200, 200]
    assert "signed in nowhere else" in member.post(f"{PAGE}sessions/end-others/", follow=True).content.decode()


def test_nobody_ends_the_session_of_somebody_else(member: Client, cast: Cast) -> None:
    manager = signed_in(cast.manager)
    digest = SignInSession.objects.get(user=cast.manager).digest
    member.post(f"{PAGE}sessions/end/", {"session": digest})
    assert manager.get("/portal/").status_code == 200


@pytest.mark.requirement("T13")
def test_ending_needs_a_post_with_the_csrf_token(cast: Cast, ide: Ide) -> None:
    approval = ide.approve()
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(cast.member)
    for path in (f"{approval.pk}/revoke/", "sessions/end/", "sessions/end-others/"):
        assert browser.post(PAGE + path).status_code == 403
    for path in ("sessions/end/", "sessions/end-others/"):
        assert browser.get(PAGE + path).status_code == 405
    assert Approval.objects.exists()


@pytest.mark.requirement("T10")
def test_a_disabled_person_is_out_in_every_browser(member: Client, cast: Cast) -> None:
    other = signed_in(cast.member, SAFARI)
    cast.member.is_active = False
    cast.member.save()
    for browser in (member, other):
        assert browser.get(PAGE).status_code == 302


def test_a_new_password_ends_the_other_sessions_and_keeps_this_one(member: Client, cast: Cast) -> None:
    other = signed_in(cast.member, SAFARI)
    fields = {"old_password": PASSWORD, "new_password1": "a rather new phrase", "new_password2": "a rather new phrase"}
    assert member.post("/portal/password/", fields).status_code == 302
    assert other.get("/portal/").status_code == 302
    part = section(text_of(member), "sessions")
    assert "Firefox on Linux" in part
    assert "This one" in part


def test_a_session_is_seen_at_most_every_few_minutes(member: Client, cast: Cast) -> None:
    row = SignInSession.objects.get(user=cast.member)
    recently = timezone.now() - timedelta(minutes=3)
    SignInSession.objects.update(last_seen_at=recently)
    member.get("/portal/")
    row.refresh_from_db()
    assert row.last_seen_at == recently
    SignInSession.objects.update(last_seen_at=recently - timedelta(minutes=30))
    member.get("/portal/")
    row.refresh_from_db()
    assert timezone.now() - row.last_seen_at < timedelta(minutes=1)


def test_signing_out_and_running_out_take_a_session_from_the_list(member: Client, cast: Cast) -> None:
    other, expired = signed_in(cast.member, SAFARI), signed_in(cast.member, "curl/8.0")
    assert len(re.findall("<h3>", section(text_of(member), "sessions"))) == 3
    other.post("/sign-out/")
    key = expired.cookies[settings.SESSION_COOKIE_NAME].value
    SignInSession.objects.filter(digest=digest_of(key)).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert len(re.findall("<h3>", section(text_of(member), "sessions"))) == 1
    assert expired.get("/portal/").status_code == 302


@pytest.mark.requirement("T55")
def test_whoever_reads_the_database_has_no_session(member: Client, cast: Cast) -> None:
    key = member.cookies[settings.SESSION_COOKIE_NAME].value
    assert member.session.session_key == key
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            assert key not in str(cursor.fetchall()), table
    thief = Client()
    thief.cookies[settings.SESSION_COOKIE_NAME] = SignInSession.objects.get(user=cast.member).digest
    assert thief.get("/portal/").status_code == 302
