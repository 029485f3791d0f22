"""Who is let in, and how failures look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from authflows.inbound.api_keys import create_key, revoke_key
from authflows.models import ApiKey
from proxy.api.problems import TYPES
from tests.conftest import Cast
from tests.proxy.api.conftest import Asker, key_of

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-604")]


def test_without_a_credential_there_is_a_challenge(cast: Cast) -> None:
    answer = Client().get("/api/v1/servers")

    assert answer.status_code == 401
    document = "http://127.0.0.1:8000/.well-known/oauth-protected-resource/api/v1"
    assert answer.headers["WWW-Authenticate"] == f'Bearer resource_metadata="{document}", scope="mcp"'
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert body["code"] == "not_authenticated"
    assert body["request_id"] == answer.headers["X-Request-Id"]
    assert set(body) == {"type", "title", "status", "detail", "code", "request_id"}


@pytest.mark.parametrize(
    "header",
    [
        "Bearer ghk_" + "a" * 8 + "_" + "b" * 43,
        "Bearer gh_anything",
        "Bearer eyJhbGciOiJub25lIn0.e30.",
        "Basic bWU6cHc=",
        "Bearer",
        "Bearer \xe9",
    ],
    ids=["unknown key", "other token", "JWT", "Basic", "empty", "letters"],
)
def test_nothing_but_a_key_of_ours_opens_the_door(cast: Cast, header: str) -> None:
    answer = Client().get("/api/v1/servers", headers={"Authorization": header})

    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


def test_a_revoked_key_is_refused(cast: Cast) -> None:
    key, token = create_key(owner=cast.member, name="api", actor="tests")
    asker = Asker(token)
    assert asker.get("me").status_code == 200

    revoke_key(key, actor="tests")

    assert asker.get("me").status_code == 401


def test_an_expired_key_is_refused(me: Asker) -> None:
    assert me.get("me").status_code == 200
    key = ApiKey.objects.get()
    key.expires_at = timezone.now()
    key.save()

    assert me.get("me").status_code == 401


def test_somebody_who_was_switched_off_is_refused(me: Asker, cast: Cast) -> None:
    assert me.get("me").status_code == 200
    cast.member.is_active = False
    cast.member.save()

    assert me.get("me").status_code == 401


def test_a_key_that_is_refused_is_not_helped_by_a_session(cast: Cast) -> None:
    browser = Client(headers={"Authorization": "Bearer ghk_wrong"})
    browser.force_login(cast.member)

    assert browser.get("/api/v1/me").status_code == 401


def test_another_site_cannot_use_the_session(cast: Cast) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(cast.member)

    answer = browser.post("/api/v1/servers/default/calculator/connect-link", content_type="application/json")

    assert (answer.status_code, answer.json()["code"]) == (403, "csrf_failed")


def test_guessing_keys_has_to_wait_and_a_good_key_has_not(cast: Cast) -> None:
    for _ in range(60):
        Client().get("/api/v1/me", headers={"Authorization": "Bearer ghk_guess"})

    answer = Client().get("/api/v1/me", headers={"Authorization": "Bearer ghk_guess"})

    assert (answer.status_code, answer.json()["code"]) == (429, "throttled")
    assert int(answer.headers["Retry-After"]) > 0
    assert Asker(key_of(cast.member)).get("me").status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "nothing/here", 404, "not_found"),
        ("POST", "servers", 405, "method_not_allowed"),
        ("OPTIONS", "servers", 405, "method_not_allowed"),
        ("GET", "problems/none", 404, "not_found"),
        ("GET", "servers/default/calculator/tools/none", 404, "unknown_tool"),
    ],
)
def test_every_failure_is_a_problem(me: Asker, method: str, path: str, status: int, code: str) -> None:
    answer = me.send(method, path)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"tool": NaN}', b'{"tool": "a", "tool": "b"}', b"[" * 5000, b"\xff"],
    ids=["empty", "cut", "NaN", "twice", "deep", "bytes"],
)
def test_a_body_that_is_not_strict_json_is_refused(me: Asker, body: bytes) -> None:
    answer = me.send("POST", "servers/default/calculator/calls", body)

    assert answer.status_code == 400
    assert answer.json()["code"] in ("malformed", "invalid")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "tool"),
        ({"tool": "add", "arguments": [1]}, "arguments"),
        ({"tool": "add", "argument": {}}, "argument"),
        ([], ""),
    ],
    ids=["missing", "wrong type", "unknown", "no object"],
)
def test_bad_input_names_its_field(me: Asker, body: Any, field: str) -> None:
    answer = me.send("POST", "servers/default/calculator/calls", body)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert field in answer.json()["fields"] or "non_field_errors" in answer.json()["fields"]


def test_another_type_of_body_is_refused(me: Asker) -> None:
    answer = me._client.post("/api/v1/servers/default/calculator/calls", {"tool": "add"})

    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("code", TYPES)
def test_the_type_of_a_problem_leads_to_its_meaning(cast: Cast, code: str) -> None:
    answer = Client().get(f"/api/v1/problems/{code}")

    assert answer.status_code == 200
    assert answer.json()["status"] == TYPES[code].status


def test_nobody_learns_of_people_or_servers_by_asking_for_others(asking: Callable[..., Asker], cast: Cast) -> None:
    asker = asking(cast.outsider)
    answers = [
        asker.get(f"servers/default/{slug}/{page}", person=person)
        for slug in ("calculator", "none")
        for page in ("connection", "own-key")
        for person in ("member", "nobody")
    ]

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(403, "not_manager")}
    found = {asker.get("connections", person=person).json()["code"] for person in ("member", "nobody")}
    assert found == {"unknown_person"}


def test_head_answers_as_get_without_a_body(me: Asker) -> None:
    answer = me._client.head("/api/v1/servers")

    assert (answer.status_code, answer.content) == (200, b"")
