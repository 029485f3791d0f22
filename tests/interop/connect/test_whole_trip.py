"""Real clients call a protected server in a person's own name: connected on the way in, renewed, revoked, changed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
from django.utils import timezone

from authflows.inbound.api_keys import create_key
from authflows.models import Connection, ConnectLink, UpstreamClient
from servers.models import Server
from tests.conftest import Cast
from tests.interop.connect.person import ConnectingPerson
from tests.interop.sign_in.programs import Program, ProgramError
from tests.support.gateway import LiveGateway
from tests.support.oidc_provider import OidcProvider
from tests.support.protected_upstream import ProtectedUpstream

pytestmark = [pytest.mark.node, pytest.mark.browser, pytest.mark.slow]

ADA, BOB = "1001", "1002"
Start = Callable[..., Program]


def wait_until_the_token_has_expired() -> None:
    ends_at = Connection.objects.get().access_expires_at
    assert ends_at is not None
    time.sleep(max((ends_at - timezone.now()).total_seconds(), 0) + 0.1)


def whoami(program: Program) -> str:
    """What the server takes the caller for; a client that lost its session opens another one first."""
    try:
        return str(program.do("call", tool="whoami"))
    except ProgramError:
        program.do("connect")
        return str(program.do("call", tool="whoami"))


@pytest.mark.requirement("F-201", "F-303", "F-304", "F-305", "F-306", "F-312", "F-314", "SE-4", "T59")
@pytest.mark.parametrize("name", ["Python SDK 2", "TypeScript SDK 2", "mcp-remote"])
def test_a_client_with_only_the_url_calls_in_its_persons_own_name_until_that_is_revoked(
    name: str,
    start: Start,
    gateway: LiveGateway,
    notebook: Server,
    member: ConnectingPerson,
    provider: OidcProvider,
    upstream: ProtectedUpstream,
) -> None:
    program = start(name, {"url": gateway.mcp_url(notebook)})
    program.do("connect", member.as_account("ada"))
    connection = Connection.objects.get()
    assert connection.account_label == "ada@example.com"
    assert whoami(program) == ADA
    assert program.do("add", a=40_000, b=2_345) == "42345"

    wait_until_the_token_has_expired()
    assert whoami(program) == ADA
    assert Connection.objects.get().generation > connection.generation
    assert len(set(upstream.bearers)) > 1
    assert upstream.refused == []

    member.revoke("Notebook")
    answer = whoami(program)
    link = re.search(rf"{re.escape(gateway.origin)}/connect/\S+", answer)
    assert link, answer
    assert "Notebook" in answer
    member.connect_by_link(link[0], "ada")
    assert "Connect Notebook" in member.read[-1]
    assert whoami(program) == ADA

    member.use_another_account("Notebook", "bob")
    assert whoami(program) == BOB
    assert Connection.objects.get().account_label == "bob@example.org"
    assert ConnectLink.objects.count() == 1
    assert UpstreamClient.objects.get().registration == "dynamic"


@pytest.mark.requirement("SE-4", "F-312")
def test_a_session_of_the_account_before_is_not_found(
    gateway: LiveGateway, cast: Cast, notebook: Server, member: ConnectingPerson
) -> None:
    _, key = create_key(owner=cast.member, name="raw", actor="member")
    headers = {"Authorization": f"Bearer {key}", "Accept": "application/json, text/event-stream"}

    def post(method: str, session: str = "", **parameters: Any) -> requests.Response:
        message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters}
        more = {"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-11-25"} if session else {}
        return requests.post(gateway.mcp_url(notebook), json=message, headers={**headers, **more}, timeout=20)

    def initialize() -> str:
        asked = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
        return post("initialize", **asked).headers["Mcp-Session-Id"]

    member.sign_in()
    member.connect_in_portal("Notebook", "ada")
    of_ada = initialize()
    assert ADA in post("tools/call", of_ada, name="whoami").text
    member.use_another_account("Notebook", "bob")
    assert post("tools/call", of_ada, name="whoami").status_code == 404
    assert BOB in post("tools/call", initialize(), name="whoami").text
