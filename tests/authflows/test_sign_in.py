"""Signing in and out: who gets in, how guessing is slowed down, what is written down."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import unquote

import pytest
from django.db import connection
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone

from authflows import throttle
from authflows.models import AttemptBucket
from authflows.throttle import Limit, Rate
from servers.audit import Action
from servers.models import AuditEvent
from tests.conftest import PASSWORD, Cast

pytestmark = pytest.mark.django_db
URL = "/sign-in/"


@pytest.fixture(autouse=True)
def standing_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts come back with time; here no time passes, however slow the machine is."""
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)


def sign_in(client: Client, name: str, password: str = PASSWORD, **extra: str):  # type: ignore[no-untyped-def]
    return client.post(URL, {"username": name, "password": password}, **extra)


def test_a_person_signs_in_and_lands_in_the_portal(client: Client, cast: Cast) -> None:
    response = sign_in(client, "member")
    assert (response.status_code, response["Location"]) == (302, "/portal/")
    assert client.get("/portal/").status_code == 200
    event = AuditEvent.objects.get(action=Action.SIGN_IN)
    assert (event.actor, event.detail) == ("member", {"address": "127.0.0.1"})


@pytest.mark.parametrize("page", ["/portal/", "/portal/keys/", "/portal/keys/new/", "/admin/"])
def test_pages_send_a_stranger_to_sign_in_and_back(client: Client, cast: Cast, page: str) -> None:
    response = client.get(page, follow=True)
    target, status = response.redirect_chain[-1]
    assert status == 302
    assert target.startswith("/sign-in/?next=")
    response = client.post(target, {"username": "admin", "password": PASSWORD})
    assert response["Location"] == page


def test_the_admin_has_no_sign_in_page_of_its_own(client: Client, cast: Cast) -> None:
    response = client.get("/admin/login/?next=/admin/auth/user/")
    assert unquote(response["Location"]) == "/sign-in/?next=/admin/auth/user/"


def test_a_person_without_admin_rights_is_told_so_instead_of_sent_round(client: Client, cast: Cast) -> None:
    client.force_login(cast.outsider)
    response = client.get("/admin/", follow=True)
    assert response.status_code == 403
    assert "You may not see this page" in response.content.decode()


@pytest.mark.parametrize(
    "evil", ["https://evil.example/", "//evil.example/", "/\\evil.example", "javascript:alert(1)", "https:evil.example"]
)
def test_next_never_leads_to_another_site(client: Client, cast: Cast, evil: str) -> None:
    response = client.post(URL, {"username": "member", "password": PASSWORD, "next": evil})
    assert response["Location"] == "/portal/"


def test_an_unknown_name_and_a_wrong_password_get_the_same_answer(client: Client, cast: Cast) -> None:
    def body(name: str) -> str:
        response = sign_in(Client(), name, "wrong password")
        assert response.status_code == 200
        text = response.content.decode()
        start = text.index("<h1>")
        return text[start : text.index("csrfmiddlewaretoken")] + str(response.context["form"].errors)

    cast.outsider.is_active = False
    cast.outsider.save()
    assert body("member") == body("nobody-here") == body("outsider")


def test_the_password_is_hashed_for_an_unknown_name_too(client: Client, cast: Cast) -> None:
    """Equal work is what makes equal time; hashing is nearly all of the work."""
    from django.contrib.auth.hashers import PBKDF2PasswordHasher

    hashed: list[str] = []
    original = PBKDF2PasswordHasher.encode

    def counting(self, password, salt, iterations=None):  # type: ignore[no-untyped-def]
        hashed.append(password)
        return original(self, password, salt, iterations)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PBKDF2PasswordHasher, "encode", counting)
        sign_in(client, "member", "wrong password")
        for_known = len(hashed)
        sign_in(client, "nobody-here", "wrong password")
    assert for_known > 0
    assert len(hashed) == 2 * for_known


def test_a_failed_sign_in_is_recorded_but_never_what_was_typed_for_nobody(client: Client, cast: Cast) -> None:
    sign_in(client, "member", "wrong-canary-password")
    sign_in(client, "canary-password-in-the-name-field", "wrong-canary-password")
    events = list(AuditEvent.objects.filter(action=Action.SIGN_IN_FAILED).order_by("sequence"))
    assert [event.actor for event in events] == ["member", "unknown"]
    assert "canary" not in str([vars(event) for event in events] + list(AttemptBucket.objects.values()))


def test_the_sixth_failure_in_a_minute_has_to_wait_and_so_has_the_right_password(client: Client, cast: Cast) -> None:
    for _ in range(5):
        assert sign_in(client, "member", "wrong password").status_code == 200
    response = sign_in(client, "member")
    assert response.status_code == 429
    assert response["Retry-After"] == "12"
    assert "Try again in 12 seconds" in response.content.decode()
    assert "_auth_user_id" not in client.session


def test_an_unknown_name_is_held_back_like_a_known_one(client: Client, cast: Cast) -> None:
    answers = [sign_in(client, "nobody-here", "wrong password").status_code for _ in range(6)]
    assert answers == [200] * 5 + [429]


def test_the_same_name_written_differently_is_the_same_account(client: Client, cast: Cast) -> None:
    names = ["member", "Member", "MEMBER", " member", "ｍember", "member"]
    assert [sign_in(client, name, "wrong password").status_code for name in names] == [200] * 5 + [429]


def test_failures_of_one_person_hold_back_nobody_else(client: Client, cast: Cast) -> None:
    for _ in range(6):
        sign_in(client, "member", "wrong password")
    assert sign_in(Client(), "manager").status_code == 302
    assert sign_in(Client(REMOTE_ADDR="198.51.100.7"), "member").status_code == 302


def test_after_the_wait_the_right_password_opens(client: Client, cast: Cast) -> None:
    for _ in range(6):
        sign_in(client, "member", "wrong password")
    AttemptBucket.objects.update(full_at=timezone.now())
    assert sign_in(client, "member").status_code == 302


def test_good_sign_ins_use_nothing_up(client: Client, cast: Cast) -> None:
    assert [sign_in(Client(), "member").status_code for _ in range(8)] == [302] * 8


def test_many_names_from_one_address_are_held_back(client: Client, cast: Cast) -> None:
    answers = [sign_in(client, f"name-{number}", "wrong password").status_code for number in range(31)]
    assert answers == [200] * 30 + [429]


def test_a_forwarded_address_is_a_claim_unless_our_proxy_made_it(settings) -> None:  # type: ignore[no-untyped-def]
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.1", HTTP_X_FORWARDED_FOR="203.0.113.9, 198.51.100.2")
    assert throttle.client_address(request) == "192.0.2.1"
    settings.BEHIND_TLS_PROXY = True
    assert throttle.client_address(request) == "198.51.100.2"
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.1", HTTP_X_FORWARDED_FOR="not an address")
    assert throttle.client_address(request) == "unknown"


def test_an_ipv6_network_counts_as_one_caller() -> None:
    def address(text: str) -> str:
        return throttle.client_address(RequestFactory().get("/", REMOTE_ADDR=text))

    assert address("2001:db8::1") == address("2001:db8::ffff:1") != address("2001:db8:0:1::1")
    assert address("::ffff:192.0.2.1") == "192.0.2.1"


def test_a_bucket_gives_its_count_at_once_and_then_one_an_interval() -> None:
    limits = [Limit("test", "somebody", Rate(3, 60))]
    now = timezone.now()
    assert [throttle.take(limits, now=now) for _ in range(5)] == [0, 0, 0, 20, 20]
    assert throttle.take(limits, now=now + timedelta(seconds=19)) == 1
    assert throttle.take(limits, now=now + timedelta(seconds=20)) == 0
    assert throttle.take(limits, now=now + timedelta(seconds=20)) == 20


@pytest.mark.django_db(transaction=True)
def test_parallel_guesses_share_one_bucket() -> None:
    limits = [Limit("parallel", "somebody", Rate(5, 60)), Limit("parallel too", "somebody", Rate(50, 60))]
    now, start = timezone.now(), threading.Barrier(8)

    def guess() -> int:
        start.wait()
        try:
            return throttle.take(limits, now=now)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        waits = [guessing.result() for guessing in [pool.submit(guess) for _ in range(8)]]
    assert sorted(waits) == [0] * 5 + [12] * 3


def test_an_attempt_that_one_limit_refuses_counts_against_none() -> None:
    narrow, wide = Limit("narrow", "somebody", Rate(1, 60)), Limit("wide", "somebody", Rate(2, 60))
    now = timezone.now()
    assert throttle.take([narrow, wide], now=now) == 0
    assert [throttle.take([narrow, wide], now=now) for _ in range(3)] == [60, 60, 60]
    assert throttle.take([wide], now=now) == 0


def test_buckets_that_are_full_again_are_forgotten() -> None:
    now = timezone.now()
    throttle.take([Limit("test", "somebody", Rate(3, 60))], now=now)
    throttle.take([Limit("test", "another", Rate(3, 60))], now=now + timedelta(hours=2))
    assert AttemptBucket.objects.count() == 1


def test_signing_out_needs_a_post_and_ends_the_session(client: Client, cast: Cast) -> None:
    sign_in(client, "member")
    assert client.get("/sign-out/").status_code == 405
    assert client.post("/sign-out/")["Location"] == reverse("sign-in")
    assert client.get("/portal/").status_code == 302


def test_signing_in_needs_the_csrf_token(cast: Cast) -> None:
    response = sign_in(Client(enforce_csrf_checks=True), "member")
    assert response.status_code == 403
    assert "This form could not be checked" in response.content.decode()


def test_the_sign_in_page_tells_a_newcomer_how_to_make_the_first_admin(client: Client, db: None) -> None:
    assert "first_admin_link" in client.get(URL).content.decode()


def test_the_session_id_changes_when_a_person_signs_in(client: Client, cast: Cast) -> None:
    client.get(URL)
    session = client.session
    session["before"] = "x"
    session.save()
    before = session.session_key
    sign_in(client, "member")
    assert client.session.session_key != before


def new_password(client: Client, old: str, new: str = "another long phrase"):  # type: ignore[no-untyped-def]
    return client.post("/portal/password/", {"old_password": old, "new_password1": new, "new_password2": new})


def test_a_person_changes_their_password_and_other_browsers_are_out(client: Client, cast: Cast) -> None:
    elsewhere = Client()
    for browser in (client, elsewhere):
        sign_in(browser, "member")
    assert "Change your password" in client.get("/portal/password/").content.decode()
    assert new_password(client, PASSWORD)["Location"] == "/portal/"
    assert client.get("/portal/").status_code == 200
    assert elsewhere.get("/portal/").status_code == 302
    assert sign_in(Client(), "member").status_code == 200
    assert sign_in(Client(), "member", "another long phrase").status_code == 302
    event = AuditEvent.objects.get(action=Action.PERSON_CHANGE)
    assert (event.actor, event.detail) == ("member", {"fields": ["password"]})


def test_a_new_password_needs_the_old_one_and_a_good_new_one(client: Client, cast: Cast) -> None:
    sign_in(client, "member")
    assert new_password(client, PASSWORD, "short").context["form"].errors
    for _ in range(5):
        assert "old_password" in new_password(client, "wrong").context["form"].errors
    held_back = new_password(client, PASSWORD)
    assert "Too many attempts. Try again in 12 seconds." in held_back.content.decode()
    assert not AuditEvent.objects.filter(action=Action.PERSON_CHANGE).exists()
