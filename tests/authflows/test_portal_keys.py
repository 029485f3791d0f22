"""My keys: made once, shown once, revoked, and nobody else's."""

from __future__ import annotations

import html
import re
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone

from authflows.inbound import api_keys, bearer
from authflows.models import ApiKey
from servers.access import Principal
from servers.audit import Action
from servers.models import AuditEvent, Server
from tests.conftest import Cast

pytestmark = pytest.mark.django_db
KEY = re.compile(r"ghk_[A-Za-z0-9_-]{8}_[A-Za-z0-9_-]{43}")
NEW = "/portal/keys/new/"


def form(client: Client, query: str = "") -> dict[str, str]:
    """The fields of a fresh form, filled in well."""
    text = client.get(NEW + query).content.decode()
    form_id = re.search(r'name="form_id" value="([^"]+)"', text)
    assert form_id
    return {"form_id": form_id[1], "name": "laptop", "lifetime": "90", "scope": "all"}


def opens(token: str) -> Principal | bearer.Unauthenticated:
    return bearer.authenticate(f"Bearer {token}".encode(), now=time.time())


def make(client: Client, **fields: object) -> str:
    response = client.post(NEW, form(client) | fields)  # type: ignore[operator]
    assert response.status_code == 200, response
    found = KEY.search(response.content.decode())
    assert found, response.context["form"].errors
    return found[0]


@pytest.fixture
def member(client: Client, cast: Cast) -> Client:
    client.force_login(cast.member)
    return client


@pytest.mark.requirement("F-206")
def test_a_new_key_is_shown_and_opens_the_door(member: Client, cast: Cast) -> None:
    token = make(member)
    principal = opens(token)
    assert isinstance(principal, Principal)
    assert principal.user_id == cast.member.pk
    key = ApiKey.objects.get()
    assert key.owner == cast.member
    assert key.name == "laptop"
    assert abs(key.expires_at - timezone.now() - timedelta(days=90)) < timedelta(minutes=1)
    event = AuditEvent.objects.get(action=Action.KEY_CREATE)
    assert (event.actor, event.detail["owner"]) == ("member", "member")


@pytest.mark.requirement("F-206")
def test_the_key_is_shown_once_and_never_again(member: Client) -> None:
    fields = form(member)
    response = member.post(NEW, fields)
    token = KEY.search(response.content.decode())[0]  # type: ignore[index]
    assert "no-store" in response["Cache-Control"]
    again = member.post(NEW, fields, follow=True)
    assert ApiKey.objects.count() == 1
    assert "was made already" in again.content.decode()
    for page in (again.content, member.get("/portal/keys/").content, member.get(NEW).content):
        assert not KEY.search(page.decode())
        assert token.encode() not in page
    assert token[:12].encode() in member.get("/portal/keys/").content
    assert token not in str([vars(key) for key in ApiKey.objects.all()])


def test_a_form_works_only_for_the_person_it_was_made_for(member: Client, cast: Cast) -> None:
    fields = form(member)
    member.force_login(cast.outsider)
    response = member.post(NEW, fields)
    assert "open for too long" in response.content.decode()
    assert not ApiKey.objects.exists()
    # The form that came back is a fresh one.
    renewed = re.search(r'name="form_id" value="([^"]+)"', response.content.decode())
    assert renewed
    assert renewed[1] != fields["form_id"]
    assert KEY.search(member.post(NEW, fields | {"form_id": renewed[1]}).content.decode())


@pytest.mark.parametrize(
    ("fields", "days"),
    [({"lifetime": "30"}, 30), ({"lifetime": "365"}, 365), ({"lifetime": "never"}, None)],
)
def test_a_key_lives_as_long_as_chosen(member: Client, fields: dict[str, str], days: int | None) -> None:
    make(member, **fields)
    ends = ApiKey.objects.get().expires_at
    if days is None:
        assert ends is None
    else:
        assert abs(ends - timezone.now() - timedelta(days=days)) < timedelta(minutes=1)


def test_a_key_with_a_last_day_works_until_that_day_is_over(member: Client) -> None:
    day = timezone.now().astimezone(UTC).date() + timedelta(days=3)
    make(member, lifetime="date", date=day.isoformat())
    assert ApiKey.objects.get().expires_at == datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"name": ""}, "This field is required"),
        ({"name": "x" * 101}, "at most 100 characters"),
        ({"lifetime": "date"}, "Choose the last day"),
        ({"lifetime": "date", "date": "2020-01-01"}, "This day is over"),
        ({"lifetime": "date", "date": "9999-12-31"}, "within ten years"),
        ({"lifetime": "date", "date": "tomorrow"}, "Enter a valid date"),
        ({"lifetime": "1000"}, "Select a valid choice"),
        ({"scope": "some"}, "Tick at least one server"),
        ({"form_id": "made-up"}, "open for too long"),
    ],
)
def test_a_form_that_is_not_right_says_what_and_makes_no_key(
    member: Client, fields: dict[str, str], words: str
) -> None:
    response = member.post(NEW, form(member) | fields)
    assert words in html.unescape(response.content.decode())
    assert not ApiKey.objects.exists()


@pytest.mark.requirement("F-206")
def test_a_key_can_be_limited_to_servers_that_i_may_use(member: Client, cast: Cast) -> None:
    token = make(member, scope="some", servers=[str(cast.server.pk)])
    principal = opens(token)
    assert isinstance(principal, Principal)
    assert principal.limited_to == {cast.server.pk}
    assert "Calculator" in member.get("/portal/keys/").content.decode()


def test_servers_that_i_may_not_use_cannot_be_chosen_or_seen(member: Client, cast: Cast) -> None:
    hidden = Server.objects.create(tenant=cast.tenant, slug="hidden", name="Hidden one", url="http://127.0.0.1:9/")
    assert "Hidden one" not in member.get(NEW).content.decode()
    response = member.post(NEW, form(member) | {"scope": "some", "servers": [str(hidden.pk)]})
    assert "Hidden one" not in response.content.decode()
    assert not ApiKey.objects.exists()


def test_ticks_without_the_limit_chosen_make_no_limit(member: Client, cast: Cast) -> None:
    make(member, scope="all", servers=[str(cast.server.pk)])
    key = ApiKey.objects.get()
    assert not key.limited
    assert not key.servers.exists()


def test_the_way_from_a_servers_page_chooses_that_server(member: Client, cast: Cast) -> None:
    text = member.get(f"{NEW}?server={cast.server.pk}").content.decode()
    assert re.search(r'name="servers" value="[^"]+"[^>]* checked', text)
    assert re.search(r'value="some"[^>]* checked', text)
    for odd in ("nonsense", "%00", "00000000-0000-0000-0000-000000000000"):
        assert member.get(f"{NEW}?server={odd}").status_code == 200


@pytest.mark.requirement("F-206")
def test_revoking_asks_first_and_then_holds_at_once(member: Client) -> None:
    token = make(member)
    key = ApiKey.objects.get()
    url = f"/portal/keys/{key.pk}/revoke/"
    assert url in member.get("/portal/keys/").content.decode()
    assert "Revoke “laptop”?" in member.get(url).content.decode()
    assert isinstance(opens(token), Principal)
    response = member.post(url, follow=True)
    assert "is revoked" in response.content.decode()
    assert opens(token) == bearer.Unauthenticated(bearer.Refusal.UNKNOWN)
    assert AuditEvent.objects.filter(action=Action.KEY_REVOKE, actor="member").count() == 1
    assert url not in member.get("/portal/keys/").content.decode()
    member.post(url)
    assert AuditEvent.objects.filter(action=Action.KEY_REVOKE).count() == 1


def test_keys_of_others_do_not_exist_here(member: Client, cast: Cast) -> None:
    key, token = api_keys.create_key(owner=cast.manager, name="not yours", actor="manager")
    assert "not yours" not in member.get("/portal/keys/").content.decode()
    for method in (member.get, member.post):
        assert method(f"/portal/keys/{key.pk}/revoke/").status_code == 404
    assert isinstance(opens(token), Principal)


def test_every_state_of_a_key_is_visible(member: Client, cast: Cast) -> None:
    now = timezone.now()
    for name in ("working", "ending", "over", "withdrawn", "orphan"):
        api_keys.create_key(owner=cast.member, name=name, actor="member")
    ApiKey.objects.filter(name="working").update(last_used_at=now - timedelta(hours=2))
    ApiKey.objects.filter(name="ending").update(expires_at=now + timedelta(days=2, hours=1))
    ApiKey.objects.filter(name="over").update(expires_at=now - timedelta(days=2))
    ApiKey.objects.filter(name="withdrawn").update(revoked_at=now)
    ApiKey.objects.filter(name="orphan").update(limited=True)
    text = html.unescape(member.get("/portal/keys/").content.decode()).replace("\xa0", " ")
    cards = {re.search(r"<h2>(.*?)</h2>", card)[1]: card for card in text.split("<li ")[1:]}  # type: ignore[index]
    assert list(cards)[-2:] == ["withdrawn", "over"]
    assert "2 hours ago" in cards["working"]
    assert "Expires</dt><dd>never" in cards["working"]
    assert "every server that you may use" in cards["working"]
    assert "Ends in 2 days" in cards["ending"]
    assert ">Expired<" in cards["over"]
    assert ">Revoked<" in cards["withdrawn"]
    assert "not yet" in cards["withdrawn"]
    assert "those it was for are gone" in cards["orphan"]
    assert ["/revoke/" in cards[name] for name in ("working", "ending", "orphan", "over", "withdrawn")] == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_without_a_key_the_page_says_what_to_do(member: Client) -> None:
    assert "No keys yet" in member.get("/portal/keys/").content.decode()


def test_making_and_revoking_need_the_csrf_token(cast: Cast) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(cast.member)
    key, _ = api_keys.create_key(owner=cast.member, name="k", actor="member")
    assert browser.post(NEW, form(browser)).status_code == 403
    assert browser.post(f"/portal/keys/{key.pk}/revoke/").status_code == 403
    assert ApiKey.objects.get().revoked_at is None
