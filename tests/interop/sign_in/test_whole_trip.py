"""Real clients make the whole trip: only the URL, the browser, Approve, calls, refresh, and the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from oauth2_provider.models import AccessToken, RefreshToken

from authflows.inbound.api_keys import create_key
from authflows.models import Approval, OAuthClient
from tests.conftest import Cast
from tests.interop.sign_in.person import Person
from tests.interop.sign_in.programs import START, Program, ProgramError
from tests.interop.sign_in.waiting import revoke_the_approval, wait_until_every_access_token_has_expired

pytestmark = [pytest.mark.node, pytest.mark.browser, pytest.mark.slow]

Start = Callable[..., Program]
# What a client says when the person denied, where that is not the error itself.
DENIED = {"mcp-remote": "Connection closed"}
TOOLS = ["add", "subtract", "multiply", "divide"]


@pytest.mark.requirement("F-201", "F-204", "F-205")
@pytest.mark.parametrize("name", START)
def test_a_client_with_only_the_url_signs_in_refreshes_and_ends_with_its_approval(
    name: str, start: Start, mcp_url: str, member: Person, short_tokens: None
) -> None:
    program = start(name, {"url": mcp_url})

    with pytest.raises(ProgramError, match=DENIED.get(name, "access_denied")):
        program.do("connect", member.denies)
    assert not AccessToken.objects.exists()
    program.do("connect", member.approves)
    assert program.do("tools") == TOOLS
    assert program.do("add", a=40_000, b=2_345) == "42345"

    wait_until_every_access_token_has_expired()
    assert program.do("add", a=1, b=2) == "3"
    assert RefreshToken.objects.filter(revoked__isnull=False).exists()

    revoke_the_approval()
    with pytest.raises(ProgramError, match="access_denied"):
        program.do("add", member.denies, a=3, b=4)
    assert not Approval.objects.exists()
    registered = OAuthClient.objects.get()
    assert len(member.read) == 3
    for page in member.read:
        assert registered.name in page
        assert "The answer goes to a program on this computer" in page


@pytest.mark.requirement("F-206")
@pytest.mark.parametrize("name", START)
def test_a_client_with_a_key_in_its_header_needs_no_browser(name: str, start: Start, mcp_url: str, cast: Cast) -> None:
    _, text = create_key(owner=cast.member, name=name, actor="member")
    program = start(name, {"url": mcp_url, "headers": {"Authorization": f"Bearer {text}"}})

    program.do("connect")

    assert program.do("tools") == TOOLS
    assert program.do("add", a=40_000, b=2_345) == "42345"
    assert not OAuthClient.objects.exists()


@pytest.mark.requirement("F-205")
@pytest.mark.parametrize("name", ["TypeScript SDK 1", "TypeScript SDK 2"])
def test_two_windows_that_refresh_at_the_same_moment_stay_signed_in(
    name: str, start: Start, mcp_url: str, member: Person, short_tokens: None
) -> None:
    first = start(name, {"url": mcp_url})
    first.do("connect", member.approves)
    windows = [start(name, {"url": mcp_url, "kept": first.do("keep")}) for _ in range(2)]

    for _ in range(2):
        wait_until_every_access_token_has_expired()
        for window in windows:
            window.start("connect")
        for window in windows:
            window.finish()
        assert [window.do("add", a=40_000, b=2_345) for window in windows] == ["42345", "42345"]
    kept = [window.do("keep")["tokens"]["refresh_token"] for window in windows]
    assert kept[0] == kept[1]
    assert RefreshToken.objects.count() == 3
