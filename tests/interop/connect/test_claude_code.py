"""Claude Code's command line connects its person's account at the provider on its way in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from authflows.models import Connection, RegistrationPolicy
from proxy.opening import connect_tool
from servers.models import Server
from tests.interop.connect.person import ConnectingPerson
from tests.interop.sign_in.claude_code import ClaudeCode
from tests.interop.sign_in.programs import Desktop
from tests.support.gateway import LiveGateway
from tests.support.protected_upstream import ProtectedUpstream

pytestmark = [pytest.mark.node, pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def claude(tmp_path: Path) -> Iterator[ClaudeCode]:
    with Desktop(tmp_path / "desktop") as desktop:
        yield ClaudeCode(desktop)


@pytest.mark.requirement("F-201", "F-304", "F-314")
def test_claude_code_calls_with_the_account_that_its_person_connected_on_the_way_in(
    claude: ClaudeCode,
    gateway: LiveGateway,
    notebook: Server,
    member: ConnectingPerson,
    upstream: ProtectedUpstream,
) -> None:
    # No document is fetched; the built-in copies have to do.
    RegistrationPolicy.objects.update(metadata_documents=RegistrationPolicy.MetadataDocuments.PINNED)
    claude.run("mcp", "add", "--transport", "http", "notebook", gateway.mcp_url(notebook))

    status, printed = claude.sign_in("notebook", member.as_account("ada"))
    assert status == 0, printed
    assert "1001" in claude.call_by_model("notebook", "whoami")
    assert upstream.refused == []

    member.revoke("Notebook")
    assert not Connection.objects.exists()
    # What is left is the one tool that says how to connect. Without a person before it, Claude Code says no by itself.
    assert f"{gateway.origin}/portal/connections/" in claude.call_by_model("notebook", connect_tool(notebook))
