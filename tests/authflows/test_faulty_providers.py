"""Connecting to providers that are broken, odd or hostile: what is stored and asked, and what people are told."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from authflows.models import Connection, PendingConnection
from authflows.outbound import connections
from servers.models import AuditEvent, AuthConfig, Server
from tests.conftest import Cast, allow_private
from tests.support.connecting import begin, come_back, make_server
from tests.support.faulty_provider import FaultyProvider, Reply, as_html, as_json, redirect
from tests.support.provider_faults import BAD_ANSWERS, MARKUP, assert_failed

pytestmark = pytest.mark.django_db(transaction=True)


# --- the answer that the browser brings


@pytest.mark.requirement("CL-15", "T18")
@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("iss", ["https://other.example", "{issuer}/", "{ISSUER}", ""])
def test_an_answer_with_another_issuer_is_refused_whether_or_not_one_is_announced(
    browser: Client, cast: Cast, faulty: FaultyProvider, iss: str, announced: bool
) -> None:
    drive = make_server(cast, faulty, iss_supported=announced)
    wrong = iss.format(issuer=faulty.issuer, ISSUER=faulty.issuer.upper())
    target = faulty.sign_in(begin(browser, cast, drive), iss=wrong, error_description=MARKUP)
    assert_failed(come_back(browser, target), "wrong_issuer", "did not come from the provider of Drive")
    assert faulty.asked == []


@pytest.mark.requirement("CL-15", "T18")
def test_a_missing_issuer_is_refused_exactly_where_one_is_announced(
    browser: Client, cast: Cast, faulty_drive: Server, faulty: FaultyProvider
) -> None:
    response = come_back(browser, faulty.sign_in(begin(browser, cast, faulty_drive), iss=None))
    assert_failed(response, "wrong_issuer", "did not come from the provider of Drive")
    assert faulty.asked == []
    config = AuthConfig.objects.get(server=faulty_drive)
    AuthConfig.objects.filter(pk=config.pk).update(settings={**config.settings, "iss_supported": False})
    faulty_drive = Server.objects.select_related("auth_config", "tenant").get(pk=faulty_drive.pk)
    assert come_back(browser, faulty.sign_in(begin(browser, cast, faulty_drive), iss=None)).status_code == 302
    assert Connection.objects.exists()


@pytest.mark.requirement("F-304", "T25")
@pytest.mark.parametrize(
    ("error", "reason", "said"),
    [
        ("access_denied", "denied", "You did not allow it at the provider"),
        ("server_error", "provider_server_error", "server_error"),
        (MARKUP, "provider_unknown", "unknown"),
        ("x" * 3000, "provider_unknown", "unknown"),
    ],
)
def test_an_error_at_the_provider_is_told_without_the_providers_words(
    browser: Client, cast: Cast, faulty_drive: Server, faulty: FaultyProvider, error: str, reason: str, said: str
) -> None:
    target = faulty.sign_in(
        begin(browser, cast, faulty_drive),
        decision="deny",
        error=error,
        error_description=MARKUP,
        error_uri="javascript:x",
    )
    page = assert_failed(come_back(browser, target), reason, said)
    assert "script>alert" not in page.text
    assert "javascript:" not in page.text
    assert faulty.asked == []


@pytest.mark.requirement("F-304")
@pytest.mark.parametrize("code", [None, ""])
def test_an_answer_without_a_code_is_no_answer(
    browser: Client, cast: Cast, faulty_drive: Server, faulty: FaultyProvider, code: str | None
) -> None:
    target = faulty.sign_in(begin(browser, cast, faulty_drive), code=code)
    assert_failed(come_back(browser, target), "answer_malformed", "holds no code")
    assert faulty.asked == []


@pytest.mark.requirement("CL-10", "T18", "T21")
def test_an_answer_after_the_server_got_another_provider_sends_the_code_to_neither(
    browser: Client, cast: Cast, faulty_drive: Server, faulty: FaultyProvider
) -> None:
    target = faulty.sign_in(begin(browser, cast, faulty_drive))
    with FaultyProvider() as other:
        allow_private(other.issuer)
        config = AuthConfig.objects.get(server=faulty_drive)
        AuthConfig.objects.filter(pk=config.pk).update(
            settings={**config.settings, "issuer": other.issuer, "token_endpoint": f"{other.issuer}/token"}
        )
        assert_failed(come_back(browser, target), "setup_changed", "was set up anew")
        assert (faulty.asked, other.asked) == ([], [])


# --- the token endpoint while somebody connects


@pytest.mark.requirement("F-304", "T25", "T56")
@pytest.mark.parametrize("kind", BAD_ANSWERS)
def test_each_bad_answer_to_a_code_ends_on_one_page_and_stores_nothing(
    browser: Client, cast: Cast, faulty_drive: Server, faulty: FaultyProvider, kind: str
) -> None:
    reply, code, said = BAD_ANSWERS[kind]
    faulty.always("/token", reply)
    target = faulty.sign_in(begin(browser, cast, faulty_drive))
    page = assert_failed(come_back(browser, target), f"token_{code}", said)
    assert "press Connect again" in page.text
    assert "script>alert" not in page.text
    assert faulty.paths() == ["/token"]
    assert not AuditEvent.objects.filter(action="connection:connect").exists()
    # The trip is over: what the browser brings a second time is not sent again.
    assert come_back(browser, target).status_code == 400
    assert faulty.paths() == ["/token"]
    # And the next trip works.
    faulty.replies.clear()
    assert come_back(browser, faulty.sign_in(begin(browser, cast, faulty_drive))).status_code == 302


@pytest.mark.requirement("F-304")
def test_a_provider_that_does_not_answer_in_time_is_named(
    browser: Client, cast: Cast, faulty_drive: Server, faulty: FaultyProvider, impatient: None
) -> None:
    over = threading.Event()
    faulty.replies["/token"] = lambda _: over.wait(20) and None
    began = time.monotonic()
    try:
        response = come_back(browser, faulty.sign_in(begin(browser, cast, faulty_drive)))
    finally:
        over.set()
    assert time.monotonic() - began < 10
    assert_failed(response, "token_timeout", f"{faulty.issuer.removeprefix('http://')} did not answer within")


@pytest.mark.requirement("F-304", "T30")
def test_a_provider_whose_answer_never_ends_is_named(
    browser: Client, cast: Cast, faulty_drive: Server, faulty: FaultyProvider, impatient: None
) -> None:
    over = threading.Event()
    faulty.trickles["/token"] = over
    try:
        response = come_back(browser, faulty.sign_in(begin(browser, cast, faulty_drive)))
    finally:
        over.set()
    assert_failed(response, "token_timeout", "did not answer within")


@pytest.mark.requirement("F-304")
def test_a_provider_that_is_gone_is_named(
    browser: Client, cast: Cast, faulty_drive: Server, faulty: FaultyProvider
) -> None:
    target = faulty.sign_in(begin(browser, cast, faulty_drive))
    faulty.__exit__(None, None, None)
    assert_failed(come_back(browser, target), "token_unreachable", "could not be reached")


@pytest.mark.requirement("CL-18", "T26", "T28")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_of_the_token_endpoint_carries_nothing_away(
    browser: Client, cast: Cast, faulty_drive: Server, faulty: FaultyProvider, status: int
) -> None:
    with FaultyProvider() as elsewhere:
        allow_private(elsewhere.issuer)
        faulty.always("/token", redirect(f"{elsewhere.issuer}/token", status))
        response = come_back(browser, faulty.sign_in(begin(browser, cast, faulty_drive)))
        assert_failed(response, "token_redirected", "redirected the request, which is not followed")
        assert elsewhere.asked == []


@pytest.mark.requirement("CL-18", "T26")
@pytest.mark.parametrize("path", ["token_endpoint", "userinfo_endpoint", "revocation_endpoint"])
def test_no_endpoint_inside_the_network_is_asked(
    browser: Client, cast: Cast, faulty: FaultyProvider, path: str
) -> None:
    with FaultyProvider() as inside:
        given = {"userinfo_endpoint": f"{faulty.issuer}/userinfo", path: f"{inside.issuer}/inside"}
        drive = make_server(cast, faulty, **given)
        response = come_back(browser, faulty.sign_in(begin(browser, cast, drive)))
        if path == "token_endpoint":
            assert_failed(response, "token_address_refused", "is a private address")
        elif path == "userinfo_endpoint":
            # Who it is stays untold; the connection works.
            assert Connection.objects.get().account_label == ""
        else:
            outcome = connections.revoke(Connection.objects.get(), actor="member")
            assert outcome.provider == "failed"
            assert "is a private address" in outcome.sentence
        assert inside.asked == []


# --- answers that are odd, and good enough


@pytest.mark.requirement("F-306")
@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (None, 3600),
        ("900", 900),
        (900.7, 900),
        (-5, 3600),
        (0, 3600),
        ("soon", 3600),
        ("NaN", 3600),
        ([], 3600),
        (True, 3600),
        (10**300, 3600),
        (10**12, 366 * 24 * 3600),
    ],
    ids=str,
)
def test_whatever_the_provider_says_of_the_lifetime_there_is_one(
    browser: Client, cast: Cast, faulty_drive: Server, faulty: FaultyProvider, said: Any, seconds: int
) -> None:
    faulty.token_changes["expires_in"] = said
    assert come_back(browser, faulty.sign_in(begin(browser, cast, faulty_drive))).status_code == 302
    ends_at = Connection.objects.get().access_expires_at
    assert ends_at
    if said == 10**300:
        seconds = 366 * 24 * 3600
    assert abs((ends_at - timezone.now()).total_seconds() - seconds) < 30


@pytest.mark.requirement("F-303")
@pytest.mark.parametrize("kind", ["form", "capitals", "no type", "no scope", "odd scope"])
def test_an_odd_answer_with_a_token_connects(
    browser: Client, cast: Cast, faulty_drive: Server, faulty: FaultyProvider, kind: str
) -> None:
    if kind == "form":
        form = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
        faulty.always("/token", (200, form, b"access_token=ghu_x&token_type=bearer&expires_in=60&scope=files.read"))
    else:
        faulty.token_changes |= {
            "capitals": {"token_type": "BEARER"},
            "no type": {"token_type": None},
            "no scope": {"scope": None},
            "odd scope": {"scope": ["a"]},
        }[kind]
    assert come_back(browser, faulty.sign_in(begin(browser, cast, faulty_drive))).status_code == 302
    assert Connection.objects.get().scope == "files.read"


@pytest.mark.requirement("T25")
def test_what_a_provider_calls_account_and_scope_is_text_on_every_page(
    browser: Client, cast: Cast, faulty_drive: Server, faulty: FaultyProvider
) -> None:
    faulty.token_changes["scope"] = MARKUP
    faulty.always("/userinfo", as_json({"sub": "1", "email": f"{MARKUP}\u202e\n" + "x" * 9000}))
    come_back(browser, faulty.sign_in(begin(browser, cast, faulty_drive)))
    connection = Connection.objects.get()
    assert len(connection.account_label) <= 255
    for path in (
        "/portal/servers/default/drive/",
        "/portal/connections/",
        f"/portal/connections/{connection.pk}/revoke/",
    ):
        response = browser.get(path)
        text = response.content.decode()
        assert response.status_code == 200
        assert "&lt;script&gt;alert" in text
        assert "<script>alert" not in text
        assert "\u202e" not in text
        assert "script-src" in response.headers["Content-Security-Policy"] or (
            "default-src 'self'" in response.headers["Content-Security-Policy"]
        )


@pytest.mark.requirement("F-312")
@pytest.mark.parametrize(
    "reply",
    [
        as_html("oops", 500),
        as_json(["x"]),
        as_json({"sub": None, "email": 5, "name": {}}),
        redirect("https://x.example/"),
    ],
    ids=["500", "list", "nulls", "redirect"],
)
def test_a_connection_does_not_need_to_know_whose_account_it_is(
    browser: Client, cast: Cast, faulty_drive: Server, faulty: FaultyProvider, reply: Reply
) -> None:
    faulty.always("/userinfo", reply)
    assert come_back(browser, faulty.sign_in(begin(browser, cast, faulty_drive))).status_code == 302
    connection = Connection.objects.get()
    assert connection.account_subject == ""
    # Unknown is not the same: the next one may be another account (SE-4).
    come_back(browser, faulty.sign_in(begin(browser, cast, faulty_drive)))
    assert Connection.objects.get().epoch == connection.epoch + 1


# --- the browser leaves for the provider


@pytest.mark.requirement("F-312")
@pytest.mark.parametrize(
    ("configured", "sent"),
    [
        (None, "select_account"),
        ("consent", "consent select_account"),
        ("select_account", "select_account"),
        ("none", "select_account"),
    ],
)
def test_asking_for_another_account_keeps_what_the_provider_needs_besides(
    browser: Client, cast: Cast, faulty: FaultyProvider, configured: str | None, sent: str
) -> None:
    drive = make_server(cast, faulty, authorize_parameters={"prompt": configured} if configured else {})
    url = begin(browser, cast, drive, other_account=True)
    assert f"prompt={sent.replace(' ', '+')}&" in url


@pytest.mark.requirement("T20", "CL-17")
@pytest.mark.parametrize(
    "endpoint", ["https://[half", "https://user:pw@x.example/a", "https://x.example/a#b", "ftp://x/"]
)
def test_an_address_that_is_no_address_is_a_page_and_not_a_crash(
    browser: Client, cast: Cast, faulty: FaultyProvider, endpoint: str
) -> None:
    make_server(cast, faulty, authorization_endpoint=endpoint)
    response = browser.post("/portal/servers/default/drive/connect/")
    assert response.status_code == 502
    assert "<code>endpoint_refused</code>" in response.content.decode()
    assert endpoint not in response.content.decode()
    assert not PendingConnection.objects.exists()
