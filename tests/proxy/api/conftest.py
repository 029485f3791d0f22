"""People with keys, asking the Gateway API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import requests
from django.test import Client

from authflows.inbound.api_keys import create_key
from servers.models import Server
from tests.conftest import Cast
from tests.proxy.api.documented import check_answer
from tests.support.gateway import LiveGateway


class Asker:
    """Somebody with a key, without a socket."""

    def __init__(self, key: str, prefix: str = "/api/v1/") -> None:
        self.prefix = prefix
        self.key = key
        self._client = Client(headers={"Authorization": f"Bearer {key}"})

    def get(self, path: str, **query: Any) -> Any:
        return _checked(self._client.get(f"{self.prefix}{path}", query))

    def send(self, method: str, path: str, body: Any = None) -> Any:
        text = body if isinstance(body, bytes) else json.dumps(body) if body is not None else ""
        return _checked(self._client.generic(method, f"{self.prefix}{path}", text, content_type="application/json"))


def _checked(answer: Any) -> Any:
    """The answer, after a comparison with the document."""
    content_type = answer.headers.get("Content-Type", "")
    check_answer(
        answer.request["REQUEST_METHOD"],
        answer.request["PATH_INFO"],
        status=answer.status_code,
        content_type=content_type,
        body=answer.json() if answer.content else None,
    )
    return answer


class LiveAsker:
    """The same over HTTP, for calls of tools."""

    def __init__(self, gateway: LiveGateway, key: str) -> None:
        self.origin = gateway.origin
        self.headers = {"Authorization": f"Bearer {key}"}

    def call(self, server: Server, tool: str, arguments: Any = None, **more: Any) -> requests.Response:
        url = f"{self.origin}/api/v1/servers/{server.tenant.slug}/{server.slug}/calls"
        body = {"tool": tool, "arguments": arguments if arguments is not None else {}, **more}
        answer = requests.post(url, json=body, headers=self.headers, timeout=30)
        path = url.removeprefix(self.origin)
        content_type = answer.headers["Content-Type"]
        check_answer("POST", path, status=answer.status_code, content_type=content_type, body=answer.json())
        return answer


def key_of(person: Any, limited_to: Iterable[Server] | None = None) -> str:
    """A new key of somebody."""
    servers = list(limited_to) if limited_to is not None else None
    return create_key(owner=person, name="api", actor="tests", servers=servers)[1]


@pytest.fixture
def asking(cast: Cast) -> Callable[..., Asker]:
    """Make somebody who asks."""
    return lambda person, limited_to=None: Asker(key_of(person, limited_to))


@pytest.fixture
def me(asking: Callable[..., Asker], cast: Cast) -> Asker:
    """The cast's member."""
    return asking(cast.member)
