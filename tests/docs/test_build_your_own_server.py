"""The guide “Build and protect your own server”, walked: what it shows is the example, and what it promises holds."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from servers.models import AccessRule, AuthConfig, Role, Server
from servers.secrets.store import set_secret
from tests.conftest import Cast, allow_private
from tests.support.gateway import LiveGateway
from tests.support.ide import Ide, make_client, post_to
from tests.support.processes import Peer, free_port, start_foreign

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/notes/server.py"
KEY = "0123456789abcdef" * 4
CALL = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {
        "name": "write_note",
        "arguments": {"text": "Water the plants"},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "guide", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        },
    },
}
HEADERS = {
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": "2026-07-28",
    "Mcp-Method": "tools/call",
    "Mcp-Name": "write_note",
}

pytestmark = [pytest.mark.requirement("F-607"), pytest.mark.django_db(transaction=True)]


@pytest.fixture
def notes() -> Iterator[str]:
    """The URL of the running example."""
    port = free_port()
    peer: Peer = start_foreign(
        [sys.executable, str(EXAMPLE), f"--port={port}"],
        url=f"http://127.0.0.1:{port}/mcp",
        environment={"NOTES_KEY": KEY},
    )
    yield f"http://127.0.0.1:{port}/mcp"
    peer.stop()


def post(url: str, credential: str = "") -> httpx2.Response:
    headers = HEADERS | ({"Authorization": f"Bearer {credential}"} if credential else {})
    return httpx2.post(url, json=CALL, headers=headers, timeout=30)


def registered(cast: Cast, url: str) -> Server:
    """What step 3 of the guide makes."""
    allow_private(url)
    secret = set_secret(tenant=cast.tenant, group="notes", key="key", value=f"Bearer {KEY}", actor="admin")
    server = Server.objects.create(tenant=cast.tenant, slug="notes", name="Notes", url=url)
    method = AuthConfig(server=server, method=AuthConfig.Method.SHARED_HEADER)
    method.set_header_templates([("Authorization", secret.fqn)])
    method.save()
    AccessRule.objects.create(server=server, team=cast.readers, role=Role.USER)
    return server


def test_the_server_is_closed_but_for_the_gateway_whose_people_sign_in(
    gateway: LiveGateway, cast: Cast, notes: str
) -> None:
    server = registered(cast, notes)
    url = gateway.mcp_url(server)

    assert post(notes).status_code == 401, "directly, without the key"
    assert post(notes, "x" * 64).status_code == 401

    invited = post(url)
    assert invited.status_code == 401
    assert f"/.well-known/oauth-protected-resource{server.mcp_path}" in invited.headers["WWW-Authenticate"]

    def token_of(person: object) -> str:
        ide = Ide(make_client(), person, server, server.mcp_url, post_to(gateway.port))
        return str(ide.redeem(ide.code()).content["access_token"])

    answered = post(url, token_of(cast.member))
    assert answered.status_code == 200
    assert "Water the plants" in answered.text
    assert KEY not in answered.text


def test_what_the_guide_shows_stands_in_the_example() -> None:
    guide, example = (ROOT / "docs/build-your-own-server.md").read_text(), EXAMPLE.read_text()
    shown = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    assert len(shown) == 2
    assert [block for block in shown if block not in example] == []
    for tool in re.findall(r"`(\w+_notes?)`", guide):
        assert f"def {tool}(" in example
