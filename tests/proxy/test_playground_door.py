"""The playground's door: a page's session instead of a token, and otherwise the path of every call."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests
from django.conf import settings
from django.test import Client

from proxy.playground.door import CREDENTIAL
from servers.models import AccessRule, Call
from tests.conftest import Cast
from tests.support.calls import modern, modern_headers
from tests.support.gateway import LiveGateway
from tests.support.records import write_records

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requirement("F-603")]
CSRF = "a" * 32
_ADD = {"name": "add", "arguments": {"a": 2, "b": 40}}


class Page:
    """A signed-in page that speaks MCP; without a person it has no session."""

    def __init__(self, gateway: LiveGateway, cast: Cast, person: Any = None) -> None:
        self._origin = gateway.origin
        self._url = f"{gateway.origin}/portal/playground/{cast.tenant.slug}/{cast.server.slug}/mcp"
        self.cookies = {settings.CSRF_COOKIE_NAME: CSRF}
        if person is not None:
            browser = Client()
            browser.force_login(person)
            self.cookies[settings.SESSION_COOKIE_NAME] = browser.cookies[settings.SESSION_COOKIE_NAME].value

    def post(self, method: str, params: dict[str, Any] | None = None, **headers: str) -> requests.Response:
        body = modern(method, params)
        sent = {
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
            "Origin": self._origin,
            "X-CSRFToken": CSRF,
            **dict(modern_headers(body)),
            **headers,
        }
        return requests.post(self._url, data=json.dumps(body), headers=sent, cookies=self.cookies, timeout=30)


def result_of(response: requests.Response) -> Any:
    """The result, whether it came as JSON or at the end of a stream."""
    text = response.text
    if response.headers["Content-Type"].startswith("text/event-stream"):
        text = [line[6:] for line in text.splitlines() if line.startswith("data: ")][-1]
    return json.loads(text)["result"]


def test_a_person_calls_a_tool_from_the_page(gateway: LiveGateway, cast: Cast, each_era: None) -> None:
    page = Page(gateway, cast, cast.member)

    listed = result_of(page.post("tools/list"))
    answer = page.post("tools/call", _ADD)

    assert [tool["name"] for tool in listed["tools"]] == ["add", "subtract"]
    assert answer.status_code == 200
    assert result_of(answer)["content"][0]["text"] == "42"
    write_records()
    call = Call.objects.get(method="tools/call")
    assert (call.principal, call.credential, call.item, call.outcome) == ("member", CREDENTIAL, "add", "ok")
    assert call.request_id == answer.headers["X-Request-Id"]


def test_the_page_opens_nothing_that_the_person_may_not_use(gateway: LiveGateway, cast: Cast, each_era: None) -> None:
    page = Page(gateway, cast, cast.outsider)

    answer = page.post("tools/call", _ADD)

    assert answer.status_code == 403
    write_records()
    assert Call.objects.get().decision == "no_rule"


def test_a_right_that_was_taken_ends_at_once(gateway: LiveGateway, cast: Cast, each_era: None) -> None:
    page = Page(gateway, cast, cast.member)
    assert page.post("tools/call", _ADD).status_code == 200

    AccessRule.objects.filter(team=cast.readers).delete()

    assert page.post("tools/call", _ADD).status_code == 403


def test_a_person_who_was_switched_off_is_signed_out_of_it(gateway: LiveGateway, cast: Cast, each_era: None) -> None:
    page = Page(gateway, cast, cast.member)
    assert page.post("tools/call", _ADD).status_code == 200

    cast.member.is_active = False
    cast.member.save()

    assert page.post("tools/call", _ADD).status_code == 401


def test_without_a_session_there_is_a_sentence(gateway: LiveGateway, cast: Cast) -> None:
    answer = Page(gateway, cast).post("tools/list")

    assert answer.status_code == 401
    assert answer.json()["code"] == "signed_out"


@pytest.mark.parametrize("headers", [{"X-CSRFToken": "b" * 32}, {"Origin": "https://elsewhere.example"}])
def test_another_site_cannot_use_the_session(gateway: LiveGateway, cast: Cast, headers: dict[str, str]) -> None:
    answer = Page(gateway, cast, cast.member).post("tools/call", _ADD, **headers)

    assert answer.status_code == 403
    write_records()
    assert not Call.objects.exists()


def test_a_token_sent_to_the_page_is_nobody(gateway: LiveGateway, cast: Cast) -> None:
    answer = Page(gateway, cast).post("tools/list", Authorization="Bearer gh_anything")

    assert answer.status_code == 401
