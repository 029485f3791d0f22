"""One JSON object a line, with the request's id and without secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from authflows.inbound.api_keys import create_key
from gateway_project.logging import JsonFormatter, RedactSecrets
from servers.request_id import set_request_id

pytestmark = pytest.mark.requirement("F-803")


class Log:
    """A logger that is formatted as in production, and what it wrote."""

    def __init__(self) -> None:
        self._stream = io.StringIO()
        handler = logging.StreamHandler(self._stream)
        handler.setFormatter(JsonFormatter())
        handler.addFilter(RedactSecrets())
        self.logger = logging.Logger("test")
        self.logger.addHandler(handler)

    def text(self) -> str:
        return self._stream.getvalue()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def log() -> Iterator[Log]:
    set_request_id("")
    yield Log()
    set_request_id("")


def test_a_line_is_one_json_object_with_time_level_and_message(log: Log) -> None:
    log.logger.warning("could not reach %s", "the\nserver")

    (line,) = log.lines()
    assert line["message"] == "could not reach the\nserver"
    assert (line["level"], line["logger"]) == ("warning", "test")
    assert line["time"].endswith("+00:00")


def test_a_line_names_the_request_that_is_served(log: Log) -> None:
    set_request_id("r-17")
    log.logger.info("hello")

    assert log.lines()[0]["request_id"] == "r-17"


def test_extras_stand_in_the_line(log: Log) -> None:
    log.logger.info("audit", extra={"audit": {"sequence": 3}})

    assert log.lines()[0]["audit"] == {"sequence": 3}


@pytest.mark.django_db
@pytest.mark.requirement("T56")
def test_an_api_key_is_redacted_wherever_it_stands(log: Log) -> None:
    owner = get_user_model().objects.create_user("ann")
    _, token = create_key(owner=owner, name="laptop", actor="test")
    log.logger.info("with %s as argument", token)
    log.logger.info(f"in the text {token}")
    log.logger.info("in an extra", extra={"seen": {"inside": [token]}})
    try:
        raise ValueError(token)
    except ValueError:
        log.logger.exception("in a traceback")

    assert len(log.lines()) == 4
    assert token not in log.text()
    assert log.text().count("[redacted]") >= 4


@pytest.mark.requirement("T4", "T56")
@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer canary.token-value_1",
        "authorization: basic Y2FuYXJ5OnZhbHVl",
        "GET /default/mcp/x/server?access_token=canary-token-value&x=1",
        "POST client_secret=canary-secret-value",
        "refresh_token=canary-refresh-value",
        "callback?code=canary-code-value&state=1",
        "a token gho_canary-canary-canary-canary-canary-canary1 alone",
        "another ghr_canary-canary-canary-canary-canary-canary1",
    ],
)
def test_credentials_in_headers_and_queries_are_redacted(log: Log, text: str) -> None:
    log.logger.error(text)

    assert "[redacted]" in log.text()
    assert "canary" not in log.text()
    assert "Y2FuYXJ5OnZhbHVl" not in log.text()


def test_arguments_that_do_not_fit_lose_no_line(log: Log) -> None:
    log.logger.info("%d servers", "many")

    assert len(log.lines()) == 1


@pytest.mark.django_db
def test_every_answer_carries_a_fresh_request_id(client: Client) -> None:
    first, second = (client.get("/healthz")["X-Request-Id"] for _ in range(2))

    assert first
    assert first != second
