"""`/healthz` says that the process answers, `/readyz` that it can serve calls."""

from __future__ import annotations

import pytest
from django.db import DatabaseError, connection
from django.db.migrations.recorder import MigrationRecorder
from django.test import Client

from proxy.record import recorder
from servers.changes import feed

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-805")]


@pytest.fixture
def fresh_feed(db: None) -> None:
    """The change feed has just been read."""
    feed.poll()


def test_healthz_needs_no_sign_in_and_no_database(client: Client) -> None:
    def refuse(*_: object) -> None:
        raise DatabaseError("asked for")

    with connection.execute_wrapper(refuse):
        assert client.get("/healthz").json() == {"status": "ok"}


def test_readyz_is_ok_when_all_is_in_order(client: Client, fresh_feed: None) -> None:
    answer = client.get("/readyz")

    assert (answer.status_code, answer.json()["problems"]) == (200, [])


def test_readyz_names_a_missing_migration(client: Client, fresh_feed: None) -> None:
    newest = MigrationRecorder.Migration.objects.filter(app="servers").order_by("name").last()
    assert newest is not None
    newest.delete()
    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["problems"] == ["migrations are missing: run `manage.py migrate`"]


def test_readyz_fails_when_the_database_does_not_answer(client: Client, fresh_feed: None) -> None:
    def refuse(*_: object) -> None:
        raise DatabaseError("gone, with a password in its text")

    with connection.execute_wrapper(refuse):
        answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["problems"] == ["the database cannot be reached"]


def test_readyz_fails_when_the_change_feed_has_not_been_read(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "_read_at", float("-inf"))
    answer = client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["problems"] == ["the change feed cannot be read"]


def test_readyz_does_not_wait_for_a_database_that_gives_no_answer(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the database was asked")

    monkeypatch.setattr(feed, "_read_at", float("-inf"))
    with connection.execute_wrapper(refuse):
        assert client.get("/readyz").status_code == 503


def test_readyz_counts_call_records_that_were_lost(
    client: Client, fresh_feed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "lost", 3)

    assert client.get("/readyz").json()["call_records"]["lost"] == 3


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_pages_take_get_and_head_only(client: Client, path: str) -> None:
    assert client.post(path).status_code == 405
