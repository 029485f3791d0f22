"""Claude Code's command line makes the whole trip, known by its metadata document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from oauth2_provider.models import AccessToken, RefreshToken

from authflows.inbound.api_keys import create_key
from authflows.models import Approval, OAuthClient, RegistrationPolicy
from tests.conftest import Cast
from tests.interop.sign_in.claude_code import ClaudeCode
from tests.interop.sign_in.person import Person
from tests.interop.sign_in.programs import Desktop
from tests.interop.sign_in.waiting import revoke_the_approval, wait_until_every_access_token_has_expired

pytestmark = [pytest.mark.node, pytest.mark.browser, pytest.mark.slow]

DOCUMENT = "https://claude.ai/oauth/claude-code-client-metadata"


@pytest.fixture
def claude(tmp_path: Path) -> Iterator[ClaudeCode]:
    with Desktop(tmp_path / "desktop") as desktop:
        yield ClaudeCode(desktop)


@pytest.fixture
def closed_network(transactional_db: None) -> None:
    """No document is fetched; the built-in copies have to do."""
    RegistrationPolicy.objects.update(metadata_documents=RegistrationPolicy.MetadataDocuments.PINNED)


@pytest.mark.requirement("F-201", "F-203", "F-205")
def test_claude_code_signs_in_calls_refreshes_and_is_signed_out_by_a_revocation(
    claude: ClaudeCode, mcp_url: str, member: Person, closed_network: None, short_tokens: None
) -> None:
    claude.run("mcp", "add", "--transport", "http", "demo", mcp_url)
    assert "Needs authentication" in claude.run("mcp", "list")

    status, printed = claude.sign_in("demo", member.denies)
    assert status != 0, printed
    assert not AccessToken.objects.exists()
    status, printed = claude.sign_in("demo", member.approves)
    assert status == 0, printed
    assert "Connected" in claude.run("mcp", "list")
    assert "42345" in claude.add_by_model("demo", a=40_000, b=2_345)

    wait_until_every_access_token_has_expired()
    assert "Connected" in claude.run("mcp", "list")
    assert RefreshToken.objects.filter(revoked__isnull=False).exists()

    revoke_the_approval()
    assert "Needs authentication" in claude.run("mcp", "list")
    assert not Approval.objects.exists()
    assert [client.client_id for client in OAuthClient.objects.all()] == [DOCUMENT]
    assert ["Let claude.ai use Calculator?" in page for page in member.read] == [True, True]


@pytest.mark.requirement("F-206")
def test_claude_code_with_a_key_in_its_header_needs_no_browser(claude: ClaudeCode, mcp_url: str, cast: Cast) -> None:
    _, text = create_key(owner=cast.member, name="Claude Code", actor="member")
    claude.run("mcp", "add", "--transport", "http", "demo", mcp_url, "--header", f"Authorization: Bearer {text}")

    assert "Connected" in claude.run("mcp", "list")
    assert "42345" in claude.add_by_model("demo", a=40_000, b=2_345)
    assert not OAuthClient.objects.exists()
