"""Providers that break, change or forget us once somebody is connected: nothing is lost, nothing goes astray."""

from __future__ import annotations

from html import unescape

import pytest
from django.db import connection as database
from django.test import Client
from django.utils import timezone

from authflows.models import Connection, UpstreamClient
from authflows.outbound import connections
from servers.models import AuditEvent, AuthConfig, Server
from tests.conftest import Cast, allow_private
from tests.support.connecting import begin, come_back
from tests.support.faulty_provider import FaultyProvider, Reply, as_html, as_json, redirect
from tests.support.provider_faults import BAD_ANSWERS, MARKUP, refresh, tokens_now

pytestmark = pytest.mark.django_db(transaction=True)


# --- the token endpoint at a refresh


@pytest.mark.requirement("F-306", "CL-20")
@pytest.mark.parametrize("kind", [kind for kind, (_, code, _) in BAD_ANSWERS.items() if code != "invalid_grant"])
def test_a_refresh_that_fails_for_now_keeps_the_connection_and_says_why(
    browser: Client, connected: Connection, faulty: FaultyProvider, kind: str
) -> None:
    before = connections.open_tokens(connected)
    faulty.always("/token", BAD_ANSWERS[kind][0])
    outcome = refresh(connected)
    assert isinstance(outcome, connections.NotRefreshed)
    assert not outcome.dead
    assert outcome.sentence.endswith(".")
    assert "status_" not in outcome.sentence
    after = Connection.objects.get()
    assert (after.state, after.generation, after.failures) == ("connected", connected.generation, 1)
    assert connections.open_tokens(after) == before
    assert after.lease_until is None
    # Not asked again before its time.
    assert refresh(after) == outcome
    assert faulty.paths() == ["/token"]
    text = browser.get("/portal/connections/").content.decode()
    assert "The last refresh failed:" in text
    assert outcome.sentence in unescape(text)
    assert "script>alert" not in text
    # Later, it works and nothing of it is left.
    faulty.replies.clear()
    Connection.objects.update(retry_at=timezone.now())
    assert isinstance(refresh(after), connections.Refreshed)
    assert (Connection.objects.get().failures, Connection.objects.get().last_error) == (0, "")


@pytest.mark.requirement("F-306", "CL-20")
@pytest.mark.parametrize(
    ("header", "least", "most"),
    [("120", 110, 120), ("0", 1, 5), ("99999", 250, 300), ("soon", 1, 5), ("²", 1, 5), ("-4", 1, 5), (None, 1, 5)],
)
def test_a_provider_that_asks_for_a_pause_gets_it_within_limits(
    connected: Connection, faulty: FaultyProvider, header: str | None, least: int, most: int
) -> None:
    faulty.always("/token", as_html("slow down", 429, **({"Retry-After": header} if header else {})))
    outcome = refresh(connected)
    assert isinstance(outcome, connections.NotRefreshed)
    assert outcome.code == "status_429"
    retry_at = Connection.objects.get().retry_at
    assert retry_at
    assert least - 1 < (retry_at - timezone.now()).total_seconds() <= most


@pytest.mark.requirement("F-306", "CL-20")
def test_failures_in_a_row_are_asked_about_less_and_less(connected: Connection, faulty: FaultyProvider) -> None:
    faulty.always("/token", as_html("oops", 503))
    waits = []
    for _ in range(6):
        Connection.objects.update(retry_at=None)
        refresh(connected)
        retry_at = Connection.objects.get().retry_at
        assert retry_at
        waits.append(round((retry_at - timezone.now()).total_seconds()))
    assert waits == sorted(waits)
    assert waits[0] <= 5
    assert waits[-1] == waits[-2] == 300


@pytest.mark.requirement("F-306", "CL-20")
@pytest.mark.parametrize(
    "reply",
    [
        as_json({"error": "invalid_grant", "error_description": MARKUP}, 400),
        as_json({"error": "bad_refresh_token"}),
        as_json({"error": "invalid_refresh_token", "ok": False}),
    ],
    ids=["standard", "GitHub", "Slack"],
)
def test_a_refresh_token_that_is_dead_asks_for_a_new_connection_in_plain_words(
    browser: Client, connected: Connection, faulty: FaultyProvider, reply: Reply
) -> None:
    faulty.always("/token", reply)
    outcome = refresh(connected)
    assert isinstance(outcome, connections.NotRefreshed)
    assert outcome.dead
    assert Connection.objects.get().state == "needs_reconnect"
    assert AuditEvent.objects.filter(action="connection:lost").count() == 1
    text = browser.get("/portal/connections/").content.decode()
    assert "Connect again" in text
    assert "withdrawn there, or ran out" in text
    # It is not asked about again, by whomever.
    refresh(Connection.objects.get())
    assert faulty.paths() == ["/token"]


@pytest.mark.requirement("F-306")
@pytest.mark.parametrize("rotates", [True, False])
def test_a_refresh_token_is_kept_where_the_provider_sends_no_new_one(
    connected: Connection, faulty: FaultyProvider, rotates: bool
) -> None:
    faulty.rotates = rotates
    if not rotates:
        faulty.token_changes["refresh_token"] = None
    first = tokens_now()
    assert isinstance(refresh(connected), connections.Refreshed)
    second = tokens_now()
    assert second.access_token != first.access_token
    assert (second.refresh_token != first.refresh_token) is rotates
    assert isinstance(refresh(Connection.objects.get()), connections.Refreshed)
    assert [form["refresh_token"] for form in faulty.forms("/token")] == [first.refresh_token, second.refresh_token]


def test_a_server_that_never_gave_a_refresh_token_asks_for_a_new_connection_without_asking_the_provider(
    browser: Client, cast: Cast, faulty_drive: Server, faulty: FaultyProvider
) -> None:
    faulty.token_changes["refresh_token"] = None
    come_back(browser, faulty.sign_in(begin(browser, cast, faulty_drive)))
    faulty.asked.clear()
    outcome = refresh(Connection.objects.get())
    assert isinstance(outcome, connections.NotRefreshed)
    assert (outcome.dead, outcome.code) == (True, "no_refresh_token")
    assert faulty.asked == []


@pytest.mark.requirement("CL-18", "T28")
def test_a_redirect_at_a_refresh_carries_no_refresh_token_away(connected: Connection, faulty: FaultyProvider) -> None:
    with FaultyProvider() as elsewhere:
        allow_private(elsewhere.issuer)
        faulty.always("/token", redirect(f"{elsewhere.issuer}/token"))
        outcome = refresh(connected)
        assert isinstance(outcome, connections.NotRefreshed)
        assert (outcome.dead, outcome.code) == (False, "redirected")
        assert elsewhere.asked == []


# --- what the provider's documents say later


@pytest.mark.requirement("CL-10", "T21", "T22")
@pytest.mark.parametrize("name", ["issuer", "token_endpoint", "revocation_endpoint"])
def test_metadata_that_changes_later_moves_no_token(connected: Connection, faulty: FaultyProvider, name: str) -> None:
    with FaultyProvider() as evil:
        allow_private(evil.issuer)
        faulty.metadata_changes[name] = evil.issuer if name == "issuer" else f"{evil.issuer}/token"
        assert isinstance(refresh(connected), connections.Refreshed)
        assert connections.revoke(Connection.objects.get(), actor="member").provider == "told"
        assert evil.asked == []
    assert faulty.paths() == ["/token", "/revoke"]


@pytest.mark.requirement("CL-10", "T21")
def test_after_a_change_of_issuer_old_tokens_go_nowhere_and_the_person_is_told(
    browser: Client, connected: Connection, faulty: FaultyProvider
) -> None:
    with FaultyProvider() as evil:
        allow_private(evil.issuer)
        config = AuthConfig.objects.get(server=connected.server)
        changed = {**config.settings} | {
            name: value.replace(faulty.issuer, evil.issuer)
            for name, value in config.settings.items()
            if isinstance(value, str)
        }
        AuthConfig.objects.filter(pk=config.pk).update(settings=changed)
        outcome = refresh(connected)
        assert isinstance(outcome, connections.NotRefreshed)
        assert (outcome.dead, outcome.code) == (True, "issuer_changed")
        connections.revoke(Connection.objects.get(), actor="member")
        assert evil.asked == []
    assert faulty.asked == []


# --- our registration at the provider


@pytest.mark.requirement("CL-20")
@pytest.mark.parametrize(
    "reply", [as_json({"error": "invalid_client"}, 401), as_json({"error": "invalid_client"}, 400)]
)
def test_an_app_that_is_refused_is_its_admins_trouble_and_ends_nobodys_connection(
    browser: Client, connected: Connection, faulty: FaultyProvider, reply: Reply
) -> None:
    faulty.always("/token", reply)
    outcome = refresh(connected)
    assert isinstance(outcome, connections.NotRefreshed)
    assert not outcome.dead
    assert "no longer knows the gateway as a client" in browser.get("/portal/connections/").content.decode()
    # The secret is right again.
    faulty.replies.clear()
    Connection.objects.update(retry_at=None)
    assert isinstance(refresh(connected), connections.Refreshed)


@pytest.mark.requirement("CL-9", "CL-20")
def test_a_registration_that_the_provider_purged_is_forgotten_and_people_connect_again(
    browser: Client, connected: Connection, faulty: FaultyProvider
) -> None:
    UpstreamClient.objects.update(registration="dynamic")
    faulty.clients.clear()
    outcome = refresh(connected)
    assert isinstance(outcome, connections.NotRefreshed)
    assert (outcome.dead, outcome.code) == (True, "invalid_client")
    assert UpstreamClient.objects.get().lost_at is not None
    assert AuditEvent.objects.filter(action="connection:lost").count() == 1
    text = browser.get("/portal/connections/").content.decode()
    assert "no longer knows the gateway as a client" in text
    assert "Connect again" in text


# --- the end


@pytest.mark.requirement("F-305", "T59")
@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (as_html(f"oops {MARKUP}", 500), "status 500"),
        (as_json({"error": "unsupported_token_type"}, 400), "status 400"),
        (redirect("https://elsewhere.example/"), "redirected the request"),
        (as_html("x" * 300_000), "sent more than"),
    ],
    ids=["500", "400", "redirect", "huge"],
)
def test_a_revocation_that_the_provider_fails_at_ends_it_here_and_says_so(
    browser: Client, connected: Connection, faulty: FaultyProvider, reply: Reply, said: str
) -> None:
    faulty.always("/revoke", reply)
    response = browser.post(f"/portal/connections/{connected.pk}/revoke/", follow=True)
    text = response.content.decode()
    assert "no longer connected here, but the provider could not be told" in text
    assert said in text
    assert "script>alert" not in text
    assert not Connection.objects.exists()
    assert faulty.paths() == ["/revoke"]


@pytest.mark.requirement("F-305", "T59")
def test_it_is_gone_here_before_the_provider_is_told(
    browser: Client, connected: Connection, faulty: FaultyProvider
) -> None:
    held: list[bool] = []
    # Another connection to the database would not see what this one has not committed.
    faulty.replies["/revoke"] = lambda _: held.append(_seen_from_outside(connected)) or None
    browser.post(f"/portal/connections/{connected.pk}/revoke/")
    assert held == [False]


def _seen_from_outside(connection: Connection) -> bool:
    try:
        return Connection.objects.filter(pk=connection.pk).exists()
    finally:
        database.close()


@pytest.mark.requirement("F-305", "T59")
def test_what_is_revoked_are_the_tokens_of_now_and_not_those_of_when_the_page_was_opened(
    connected: Connection, faulty: FaultyProvider
) -> None:
    stale = Connection.objects.get()
    refresh(connected)
    newest = tokens_now().refresh_token
    connections.revoke(stale, actor="member")
    assert faulty.forms("/revoke")[-1]["token"] == newest
    assert faulty.grants[0].ended
